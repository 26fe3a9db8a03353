/**
 * The key of a row as the value of a label, and back. Pure.
 *
 * Values of labels are at most 63 lower-case letters, digits, hyphens and underscores (gemini-batch.md 3.2). An underscore escapes: `_a` is `A`, `_0` a dot, `_1` an underscore.
 *
 * @module
 */
const maxLabel = 63;

/** `undefined` for a key that does not fit: it goes without a label. */
export function encodeLabel(key: string): string | undefined {
  if (!/^[\w.-]+$/.test(key)) return undefined;
  const label = key.replaceAll(/[A-Z._]/g, (char) => (char === "." ? "_0" : char === "_" ? "_1" : `_${char.toLowerCase()}`));
  return label.length > maxLabel ? undefined : label;
}

/** `undefined` for what no key was written as. */
export function decodeLabel(label: string): string | undefined {
  if (!/^(?:[a-z0-9-]|_[a-z01])+$/.test(label)) return undefined;
  return label.replaceAll(/_([a-z01])/g, (_match, char: string) => (char === "0" ? "." : char === "1" ? "_" : char.toUpperCase()));
}
