/**
 * Names of documents. They begin with a digest, so that neighbours in time are not neighbours in the database, and end with what sorts: `order`.
 *
 * - A run's document is the digest of its id. Its key has the moment of its start behind it (`<digest><birth>`), so that what speaks of a run that was removed never finds another one of the same id.
 * - An entry is `<key of its run>-<number>`: the history of a run is one range of names. It is the request's public id, too.
 */
import { createHash } from "node:crypto";
import { GembatchError } from "../../core/errors.ts";
import type { Lane } from "../../core/provider.ts";
import { atTier, laneTier, type LaneTier } from "../../core/tiers.ts";
import { ENTRIES_PER_RUN } from "../codes.ts";

const DIGEST = 20;
const BIRTH = 11;
const NUMBER = 4;
/** Characters of the digest that tell apart what two processes made at the same moment. */
const TIE = 6;

/** 100 bits of a digest in base 36: lower case letters and digits only, as labels of providers have them. */
export function digest(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return BigInt(`0x${hex.slice(0, 25)}`)
    .toString(36)
    .padStart(DIGEST, "0");
}

/** The document of a run, by the key of the run or of one of its entries. */
export const runDocument = (key: string): string => key.slice(0, DIGEST);
export const runKey = (id: string, birth: string): string => digest(id) + birth;
/** The run of an entry. */
export const runOf = (entry: string): string => entry.slice(0, DIGEST + BIRTH);

export function entryKey(run: string, no: number): string {
  if (no < ENTRIES_PER_RUN) return `${run}-${no.toString(36).padStart(NUMBER, "0")}`;
  throw new GembatchError("too_many_entries", `A run of this store can have ${ENTRIES_PER_RUN} entries.`, {
    hint: "Split the work into several runs.",
  });
}

export const entryNumber = (entry: string): number => Number.parseInt(entry.slice(DIGEST + BIRTH + 1), 36);
/** What sorts runs and entries by their age, oldest first. */
export const orderOf = (key: string): string => key.slice(DIGEST) + key.slice(0, TIE);

const entryShape = new RegExp(`^[0-9a-z]{${DIGEST + BIRTH}}-[0-9a-z]{${NUMBER}}$`);
export const isEntryKey = (text: string): boolean => entryShape.test(text);
const orderShape = new RegExp(`^[0-9a-z]{${BIRTH}}(?:-[0-9a-z]{${NUMBER}})?[0-9a-z]{${TIE}}$`);
export const isOrder = (text: string): boolean => orderShape.test(text);

/** One of `shards` parts, by the digest that a key begins with. */
export const shardOf = (key: string, shards: number): number => (shards === 1 ? 0 : Number.parseInt(key.slice(0, 6), 36) % shards);

/** Starts per millisecond and process that keep their order against those of other processes. */
const PER_MS = 4096;

/** Moments of this process, each later than the one before, whatever the clock says. */
export class Births {
  #last = 0;

  next(now: number): string {
    this.#last = Math.max(this.#last + 1, Math.floor(now) * PER_MS);
    return this.#last.toString(36).padStart(BIRTH, "0");
  }
}

/** A lane as one text; sorts by provider, model, method, tier and shape. */
export const laneKey = (lane: Lane): string => JSON.stringify([lane.provider, lane.model, lane.method, laneTier(lane), lane.shape ?? ""]);

export function laneOf(key: string): Lane {
  const [provider, model, method, tier, shape] = JSON.parse(key) as [string, string, Lane["method"], LaneTier, string];
  return atTier<Lane>({ provider, model, method, ...(shape === "" ? {} : { shape }) }, tier);
}

/** A chain in one version. The length in front keeps two pairs apart whatever characters they hold. */
export const chainKey = (chain: string, version: string): string => `${chain.length}:${chain}${version}`;

/** A text with half of a surrogate pair would come back as another one. */
export const isStorable = (text: string): boolean => text.isWellFormed();
