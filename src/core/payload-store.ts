/**
 * Where large payloads lie when they do not lie in the store itself, and what the store holds in their place.
 *
 * @module
 */
import { randomText, type Random } from "./clock.ts";
import { describe, GembatchError } from "./errors.ts";
import { checkMethods, parseCount, refuseUnknown } from "./options.ts";

/**
 * Keeps texts under keys that never change their text: prompts, answers, inputs, outputs and values of steps that are too large for rows. Keys are given by gembatch
 * and never used again: `<store id>/<yyyy-mm-dd>/<random id>`, the day in UTC on which the text was written, so that a rule of a bucket can go by prefix or age. They hold no other characters
 * than `A-Z a-z 0-9 _ - /`.
 *
 * Failures are `GembatchError`s: `payload_missing` if it is certain that there is no such key, else `payload_unavailable` (retryable). Anything else that is thrown counts as
 * the latter. The methods are called side by side, up to 32 at a time.
 */
export interface PayloadStore {
  /** For messages: `file`, `cloud-storage`, `s3`, … */
  readonly name: string;
  /**
   * Stores the text (as UTF-8) durably, all of it or nothing: once this has resolved, `get` gives it everywhere, and never part of it. May be repeated with the same text. After a failure the text may be there or
   * not. When `signal` aborts it may give up.
   */
  put(key: string, text: string, signal?: AbortSignal): Promise<void>;
  /** The text. Throws `payload_missing` if there is none under this key. */
  get(key: string): Promise<string>;
  /** Removes texts. Keys that are not there are passed over. After a failure some may be gone. */
  delete(keys: readonly string[]): Promise<void>;
  /** Releases what it holds open. */
  close?(): Promise<void>;
}

/** The `payloads` option. */
export interface PayloadOptions {
  store: PayloadStore;
  /** Payloads of more bytes (UTF-8) than this lie in the payload store. Default 65,536: below that, rows are quicker and cheaper than objects. */
  threshold?: number;
}

/** The `payloads` option, checked. `undefined`: all payloads lie in the store. Throws `invalid_option`. */
export function checkPayloads(value: unknown): Required<PayloadOptions> | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new GembatchError("invalid_option", `Option payloads must be such as { store: filePayloads({ path }) }, got ${describe(value)}.`);
  refuseUnknown(value, ["store", "threshold"], "payloads");
  const { store, threshold } = value as Partial<PayloadOptions>;
  if (store === undefined) throw new GembatchError("invalid_option", "Option payloads.store is missing: say where payloads shall lie.");
  return {
    store: checkMethods(store, ["put", "get", "delete"], "payloads.store"),
    threshold: threshold === undefined ? 65_536 : parseCount(threshold, "payloads.threshold", 0),
  };
}

export function newPayloadKey(storeId: string, now: number, random: Random): string {
  return `${storeId.replaceAll(/[^\w-]/g, "_")}/${new Date(now).toISOString().slice(0, 10)}/${randomText(random, 26)}`;
}

// What the store holds ------------------------------------------------------------------------------------------------

/** What lies elsewhere: under which key, and how many bytes. */
export interface PayloadReference {
  key: string;
  bytes: number;
}

const field = "$gembatch.payload";

/** What stored texts begin with that refer to a payload store: for `Store.removeEnded`. No payload of a user is stored as a text that begins so. */
export const referencePrefix = '{"$gembatch.payload":"';
/** A payload itself, which would be taken for a reference otherwise. */
const quotePrefix = '{"$gembatch.payload":null,"text":';

const reference = /^\{"\$gembatch\.payload":"([\w-]+\/\d{4}-\d\d-\d\d\/[0-9a-z]{26})","bytes":(\d+)\}$/;

/** JSON text, because stores parse what they hold. */
export function writeReference({ key, bytes }: PayloadReference): string {
  return `${referencePrefix}${key}","bytes":${bytes}}`;
}

/** The reference that a stored text is; `undefined` for a payload itself. */
export function readReference(stored: string): PayloadReference | undefined {
  if (!stored.startsWith(referencePrefix)) return undefined;
  const [, key, bytes] = reference.exec(stored) ?? [];
  return key === undefined ? undefined : { key, bytes: Number(bytes) };
}

/** A payload as it is stored beside references: itself, unless it could be taken for one. */
export function quotePayload(text: string): string {
  return looksLikeReference(text) ? `${quotePrefix}${JSON.stringify(text)}}` : text;
}

/** Whether the first name of a JSON object is ours, however it is spelled: no longer than with every sign of it escaped. */
function looksLikeReference(text: string): boolean {
  const [, name] = /^\s*\{\s*("(?:[^"\\]|\\.){1,110}")/.exec(text) ?? [];
  if (name === undefined) return false;
  if (!name.includes("\\")) return name === `"${field}"`;
  try {
    return JSON.parse(name) === field;
  } catch {
    return false;
  }
}

/** The payload of a stored text that is no reference. */
export function unquotePayload(stored: string): string {
  if (!stored.startsWith(quotePrefix)) return stored;
  return JSON.parse(stored.slice(quotePrefix.length, -1)) as string;
}

/** What a parsed text was stored as: a reference, a payload in quotes, or (`undefined`) a payload as it is. */
export function readParsed(value: unknown): { reference: string } | { text: string } | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const [first, second, ...others] = Object.keys(value);
  // What users wrote and begins with this name is in quotes.
  if (first !== field || others.length > 0) return undefined;
  const { [field]: key, bytes, text } = value as Record<string, unknown>;
  if (second === "text" && key === null && typeof text === "string") return { text };
  if (second !== "bytes" || typeof key !== "string" || typeof bytes !== "number") return undefined;
  const written = writeReference({ key, bytes });
  return readReference(written) ? { reference: written } : undefined;
}
