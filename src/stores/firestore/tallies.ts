/**
 * Counters: what is in which state, what each lane's queue weighs, what was spent. Each is spread over `SLOTS` documents, of which a transaction adds to one that is drawn, so that no document is written by everybody;
 * readers add them up. Additions are blind: they never make a transaction wait for another, or be done again.
 */
import type { Transaction } from "@google-cloud/firestore";
import { noUsage, type Usage } from "../../core/usage.ts";
import { Deltas, type LaneSums } from "../deltas.ts";
import type { Bill } from "../money.ts";
import type { Data, Database } from "./database.ts";

/** Documents that a counter is spread over. A number of the format: a store with more is not read whole by those that know fewer. */
export const SLOTS = 8;
/** Additions to one document in one commit: Firestore takes 500. */
const MAX_ADDITIONS = 450;

const noLane: Readonly<LaneSums> = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0, delayed: 0, isolated: 0 };

export interface UsageSums extends Usage {
  answers: number;
}

const usageNames: UsageSums = { answers: 0, ...noUsage };

export interface SpendSums extends Usage, Bill {
  answers: number;
}

interface Addition {
  collection: string;
  document: string;
  path: readonly [string, string, string?];
  by: number;
}

/** What a transaction changes in the counters, added up in memory. */
export class Tallies extends Deltas<string> {
  /** Lanes that are new to the store, and since when they are there. */
  readonly #new = new Map<string, string>();

  /** Finds out which lanes are new: lanes are told in the order in which they came. */
  async learn(database: Database, now: number): Promise<void> {
    const unknown = (): string[] => [...this.lanes.keys()].filter((lane) => !database.lanes.has(lane));
    if (unknown().length > 0) await readCounters(database);
    for (const lane of unknown()) this.#new.set(lane, database.births.next(now));
  }

  /** Returns how many documents are written. */
  write(database: Database, transaction: Transaction): number {
    const slot = Math.floor(database.settings.random.next() * SLOTS);
    const parts: Addition[][] = [];
    for (const additions of Map.groupBy(this.#additions(), ({ collection, document }) => `${collection}/${document}`).values()) {
      for (let i = 0; i < additions.length; i += MAX_ADDITIONS) parts.push(additions.slice(i, i + MAX_ADDITIONS));
    }
    const written = new Set<string>();
    for (const [i, part] of parts.entries()) {
      const [first] = part;
      if (first === undefined) continue;
      const id = `${first.document}${(slot + i) % SLOTS}`;
      transaction.set(database.document(first.collection, id), this.#document(database, part), { merge: true });
      written.add(`${first.collection}/${id}`);
    }
    return written.size;
  }

  #additions(): Addition[] {
    const additions: Addition[] = [];
    for (const [no, by] of this.counts) additions.push({ collection: "counters", document: "", path: ["counts", String(no)], by });
    for (const [lane, sums] of this.lanes) {
      for (const [name, by] of Object.entries(sums))
        additions.push({ collection: "counters", document: "", path: ["lanes", lane, name], by });
    }
    for (const { day, chain, lane, ...sums } of this.spend) {
      const document = `${String(day).padStart(6, "0")}-`;
      for (const [name, by] of Object.entries(sums)) {
        additions.push({ collection: "spend", document, path: ["sums", JSON.stringify([chain, lane]), name], by });
        if (name in usageNames) additions.push({ collection: "counters", document: "", path: ["usage", lane, name], by });
      }
    }
    return additions.filter(({ by }) => by !== 0);
  }

  #document(database: Database, additions: readonly Addition[]): Data {
    const data: Record<string, Record<string, unknown>> = {};
    for (const { path, by } of additions) {
      const [map, key, name] = path;
      const increment = database.client.values.increment(by);
      const holder = (data[map] ??= {});
      if (name === undefined) holder[key] = increment;
      else ((holder[key] ??= {}) as Data)[name] = increment;
      const since = map === "lanes" ? this.#new.get(key) : undefined;
      if (since !== undefined) (holder[key] as Data)["since"] = since;
    }
    return data;
  }
}

export interface Counters {
  counts: Map<number, number>;
  lanes: Map<string, LaneSums>;
  /** What answers used so far, by lane. */
  usage: Map<string, UsageSums>;
}

/** The sums over all slots, of one moment. `time`: the server's. */
export async function readCounters(database: Database): Promise<Counters & { time: number | undefined }> {
  const refs = Array.from({ length: SLOTS }, (_, slot) => database.document("counters", String(slot)));
  const { found, time } = await database.read(refs, ["counts", "lanes", "usage"]);
  const counters: Counters = { counts: new Map(), lanes: new Map(), usage: new Map() };
  const lanes = new Map<string, string>();
  for (const slot of found) {
    if (slot === undefined) continue;
    for (const [no, count] of Object.entries((slot.data["counts"] ?? {}) as Record<string, number>)) {
      counters.counts.set(Number(no), (counters.counts.get(Number(no)) ?? 0) + count);
    }
    for (const [lane, sums] of Object.entries((slot.data["lanes"] ?? {}) as Record<string, Partial<LaneSums> & { since?: string }>)) {
      const { since, ...rest } = sums;
      if (since !== undefined && since < (lanes.get(lane) ?? "~")) lanes.set(lane, since);
      const total = counters.lanes.get(lane) ?? { ...noLane };
      addTo(total, rest);
      counters.lanes.set(lane, total);
    }
    for (const [lane, sums] of Object.entries((slot.data["usage"] ?? {}) as Record<string, Partial<UsageSums>>)) {
      const total = counters.usage.get(lane) ?? { answers: 0, ...noUsage };
      addTo(total, sums);
      counters.usage.set(lane, total);
    }
  }
  for (const [lane, since] of lanes) database.lanes.set(lane, since);
  return { ...counters, time };
}

/** Sorts lanes in the order in which they came. */
export function inOrder(database: Database, lanes: Iterable<string>): string[] {
  const since = (lane: string): string => `${database.lanes.get(lane) ?? "~"} ${lane}`;
  return [...lanes].toSorted((a, b) => (since(a) < since(b) ? -1 : 1));
}

export interface DaySpend {
  day: number;
  chain: string;
  lane: string;
  sums: SpendSums;
}

/** What was spent on the days from `since` to `until`, both included, by day, chain and lane. */
export async function readSpend(database: Database, since: number, until: number): Promise<DaySpend[]> {
  const name = (day: number): string => `${String(Math.min(999_999, Math.max(0, day))).padStart(6, "0")}-`;
  const found = await database.find({
    from: "spend",
    where: [
      ["__name__", ">=", name(since)],
      ["__name__", "<=", `${name(until)}~`],
    ],
    fields: ["sums"],
  });
  const rows = new Map<string, DaySpend>();
  for (const { id, data } of found) {
    const day = Number.parseInt(id, 10);
    for (const [key, sums] of Object.entries((data["sums"] ?? {}) as Record<string, Partial<SpendSums>>)) {
      const [chain = "", lane = ""] = JSON.parse(key) as string[];
      let row = rows.get(`${day} ${key}`);
      if (row === undefined) {
        row = { day, chain, lane, sums: { answers: 0, ...noUsage, usd: 0, standardUsd: 0, unpriced: 0 } };
        rows.set(`${day} ${key}`, row);
      }
      addTo(row.sums, sums);
    }
  }
  const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return [...rows.values()].toSorted((a, b) => a.day - b.day || compare(a.chain, b.chain) || compare(a.lane, b.lane));
}

function addTo<T extends object>(total: T, more: Partial<T>): void {
  const sums = total as Record<string, number>;
  for (const [name, by] of Object.entries(more as Record<string, number>)) sums[name] = (sums[name] ?? 0) + by;
}
