/**
 * How payloads are stored when a codec is set, so that what is stored says itself whether it was encoded.
 *
 * @module
 */
import { describe, GembatchError } from "./errors.ts";

/**
 * Makes what is stored unreadable for others, or smaller: prompts, answers, inputs, outputs and the texts of errors pass through it on their way to the store and back. Ids, keys, states, times,
 * digests and error codes stay in clear. `decode` must take whatever `encode` ever made: keep old keys. Both may be called for many texts at once.
 */
export interface PayloadCodec {
  encode(text: string): Promise<string> | string;
  decode(text: string): Promise<string> | string;
}

const prefix = '{"$gembatch":"';

/** What encoded payloads are stored as: JSON text, because stores parse what they hold. */
export function wrapEncoded(encoded: string): string {
  return `{"$gembatch":${JSON.stringify(encoded)}}`;
}

/** The encoded text inside a stored payload; `undefined` for one that was stored without a codec. */
export function unwrapEncoded(stored: string): string | undefined {
  if (!stored.startsWith(prefix) || !stored.endsWith('"}')) return undefined;
  try {
    return unwrapParsed(JSON.parse(stored));
  } catch {
    return undefined;
  }
}

/** The same for a payload that the store has parsed. */
export function unwrapParsed(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const encoded = (value as Record<string, unknown>)["$gembatch"];
  return typeof encoded === "string" && Object.keys(value).length === 1 ? encoded : undefined;
}

/** The `codec` option, checked. */
export function checkCodec(value: unknown): PayloadCodec | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "object" && value !== null) {
    const { encode, decode } = value as Record<string, unknown>;
    if (typeof encode === "function" && typeof decode === "function") return value as PayloadCodec;
  }
  throw new GembatchError("invalid_option", `Option codec must be an object with encode and decode, got ${describe(value)}.`);
}
