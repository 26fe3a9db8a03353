/**
 * Making the words of others fit for a log. Messages of services quote what they refuse, and what they refuse is a prompt, a key or a signed URL.
 *
 * @module
 */

/** Longest scrubbed message, in characters. */
export const maxScrubbed = 300;

const maxInput = 2_000;
/** A quoted name of a field, model or resource: no spaces, and no part of it long enough to be a key or a signature. */
const name = /^[\w$@-]{0,40}(?:[.:/[\]][\w$@-]{0,40})*$/;
const maxName = 120;

/** What stands in for something that was taken out. */
const hidden = '"…"';

const rules: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // A message that goes on with JSON quotes a request from there on.
  [/(?:[{[]\s*)+\\?"(?![\w.-]*"\s*\]).*$/, "{…}"],
  // What a service calls a value of a type is the value itself, unquoted, to the end.
  [/(\(TYPE_\w+\)|\(type\.googleapis\.com\/[\w.]+\)),\s.*$/, "$1, […]"],
  // The user and the query of a URL: signatures, upload ids, keys.
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/?#"'`@]*@/gi, "$1"],
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s?#"'`]*)[?#][^\s"'`]*/gi, "$1?[query]"],
  [/([?&][\w.-]{1,60}=)[^\s&"'`]+/g, "$1[…]"],
  // Keys by their form.
  [/\bAIza[\w-]{10,}|\bAQ\.[\w-]{10,}|\bya29\.[\w.-]+|\bsk-[\w-]{16,}|\bwhsec_[\w+/=-]+|\beyJ[\w-]{8,}(?:\.[\w-]*)*/g, "[key]"],
  // Keys by what stands before them.
  [/\b(bearer)\s+[\w.~+/=-]{6,}|\b(basic)\s+[\w+/=-]{16,}/gi, "$1$2 [key]"],
  [
    /\b((?:x-goog-)?api[-_ ]?key|authorization|access[-_ ]?token|secret|password)(["'`]?\s*[:=]\s*["'`]?)(?!\[key\]|bearer |basic )[^\s&"'`,;]{6,}/gi,
    "$1$2[key]",
  ],
  [/\b(key|token|signature|sig)(["'`]?[:=]["'`]?)(?!\[key\])[^\s&"'`,;]{16,}/gi, "$1$2[key]"],
  // A stretch of base64 or hexadecimal digits: a picture, a signature, a hash.
  [/[A-Za-z0-9+/_=-]{64,}/g, "[…]"],
];

/** From an opening mark to its partner, or to the end of what was cut off. An apostrophe inside a word is neither. */
const quotes =
  /"((?:[^"\\]|\\.)*)(?:"|\\?$)|“([^”]*)(?:”|$)|«([^»]*)(?:»|$)|`([^`]*)(?:`|$)|(?<![\p{L}\p{N}_])'((?:[^']|'(?=[\p{L}\p{N}_]))*)(?:'|$)/gu;

/**
 * A message that is safe for logs and errors: one line, at most {@link maxScrubbed} characters, without keys, without the user or query of a URL, and without quoted
 * text unless it is the name of a field or resource. Scrubbing twice changes nothing more.
 */
export function scrub(message: string): string {
  let line = (message.trimStart().split(/[\r\n\u2028\u2029]/, 1)[0] ?? "").slice(0, maxInput);
  for (const [pattern, replacement] of rules) line = line.replace(pattern, replacement);
  line = line.replace(quotes, (quoted, ...parts) => {
    const inner = parts.slice(0, 5).find((part) => part !== undefined) as string;
    return isName(inner) || inner === "…" ? quoted : hidden;
  });
  return bounded(line, maxScrubbed);
}

function isName(text: string): boolean {
  return text.length <= maxName && name.test(text);
}

/** The text, cut to at most `limit` characters, with a sign that it was. */
export function bounded(text: string, limit: number): string {
  return text.length > limit ? `${text.slice(0, limit - 1)}…` : text;
}
