import { hash } from "node:crypto";

/** Numbers in [0, 1) that follow from a seed. */
export type Chance = () => number;

/** A 32-bit number from a text (FNV-1a with a final mix). Not cryptographic. */
export function hash32(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    h ^= text.charCodeAt(i);
    h = Math.imul(h, 0x01000193);
  }
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A stream of numbers from a text: the same text, the same numbers. */
export function chanceOf(text: string): Chance {
  let state = hash32(text) || 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** One item of a non-empty list. */
export function pick<T>(list: readonly T[], chance: Chance): T {
  return list[Math.floor(chance() * list.length)] as T;
}

/** A copy in another order. */
export function shuffled<T>(list: readonly T[], chance: Chance): T[] {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i -= 1) {
    const j = Math.floor(chance() * (i + 1));
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

/** `length` lower-case letters and digits (at most 40) that follow from a text. */
export function idOf(text: string, length: number): string {
  return BigInt(`0x${hash("sha256", text, "hex")}`)
    .toString(36)
    .padStart(49, "0")
    .slice(-length);
}

/** `length` digits that follow from a text, the first of them not 0. */
export function digitsOf(text: string, length: number): string {
  const least = 10n ** BigInt(length - 1);
  return String(least + (BigInt(`0x${hash("sha256", text, "hex")}`) % (9n * least)));
}

/** 22 characters that stand for a text. */
export function digest(text: string): string {
  return hash("sha256", text, "base64url").slice(0, 22);
}

/** JSON text with sorted keys and without nulls, so that equal requests have equal text. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  if (Array.isArray(value)) {
    let text = "[";
    for (let i = 0; i < value.length; i += 1) text += (i === 0 ? "" : ",") + canonicalJson(value[i]);
    return `${text}]`;
  }
  let text = "{";
  for (const key of Object.keys(value).toSorted()) {
    const item = (value as Record<string, unknown>)[key];
    if (item === undefined || item === null) continue;
    text += `${text.length === 1 ? "" : ","}${JSON.stringify(key)}:${canonicalJson(item)}`;
  }
  return `${text}}`;
}
