/**
 * Texts that satisfy `format`, `pattern`, `minLength` and `maxLength`.
 *
 * @module
 */
import type { Chance } from "./chance.ts";
import { pick } from "./chance.ts";
import type { JsonObject } from "./wire.ts";

const words = [
  "amber",
  "brisk",
  "calm",
  "dusk",
  "ember",
  "fern",
  "gentle",
  "harbor",
  "ivory",
  "juniper",
  "kind",
  "lantern",
  "mellow",
  "north",
  "opal",
  "plain",
];

/** A text for a string schema; `name` is the property it stands under. */
export function textFor(schema: JsonObject, chance: Chance, topic: string, name: string): string {
  if (typeof schema.format === "string") {
    const text = formatted(schema.format.toLowerCase(), chance);
    if (text !== undefined) return text;
  }
  if (typeof schema.pattern === "string") {
    const text = matching(schema.pattern, chance);
    if (text !== undefined) return text;
  }
  const least = Number(schema.minLength ?? 0) || 0;
  const most = schema.maxLength === undefined ? Infinity : Number(schema.maxLength);
  let text = topic === "" ? `${name}: ${pick(words, chance)} ${pick(words, chance)}` : `${name} of “${topic}”: ${pick(words, chance)}`;
  if (text.length > most) text = pick(words, chance);
  while (text.length < least) text += ` ${pick(words, chance)}`;
  return text.length > most ? text.slice(0, most) : text;
}

function formatted(format: string, chance: Chance): string | undefined {
  const two = (from: number, to: number) => String(from + Math.floor(chance() * (to - from + 1))).padStart(2, "0");
  const date = () => `20${two(10, 29)}-${two(1, 12)}-${two(1, 28)}`;
  const time = () => `${two(0, 23)}:${two(0, 59)}:${two(0, 59)}Z`;
  const hex = (length: number) => Array.from({ length }, () => Math.floor(chance() * 16).toString(16)).join("");
  switch (format) {
    case "date-time":
      return `${date()}T${time()}`;
    case "date":
      return date();
    case "time":
      return time();
    case "duration":
      return `PT${1 + Math.floor(chance() * 59)}M`;
    case "email":
      return `${pick(words, chance)}.${pick(words, chance)}@example.com`;
    case "uri":
    case "url":
      return `https://example.com/${pick(words, chance)}`;
    case "hostname":
      return `${pick(words, chance)}.example.com`;
    case "ipv4":
      return `192.0.2.${Math.floor(chance() * 256)}`;
    case "ipv6":
      return `2001:db8::${hex(4)}`;
    case "uuid":
      return `${hex(8)}-${hex(4)}-4${hex(3)}-8${hex(3)}-${hex(12)}`;
    case "byte":
      return Buffer.from(pick(words, chance)).toString("base64");
    default:
      return undefined;
  }
}

const classes: Record<string, string> = { d: "0123456789", w: "abcdefghijklmnopqrstuvwxyz", s: " " };
const printable = "abcdefghijklmnopqrstuvwxyz0123456789-_";

/** A text for the common forms of patterns (literals, classes, groups, alternatives, counts); `undefined` for others. */
export function matching(pattern: string, chance: Chance): string | undefined {
  let at = 0;
  const alternatives = (): string => {
    const options = [sequence()];
    while (pattern[at] === "|") {
      at += 1;
      options.push(sequence());
    }
    return pick(options, chance);
  };
  const sequence = (): string => {
    let text = "";
    while (at < pattern.length && pattern[at] !== "|" && pattern[at] !== ")") {
      const start = at;
      const once = atom();
      const end = at;
      const [least, most] = count();
      const after = at;
      const times = least + Math.floor(chance() * (Math.min(most, least + 4) - least + 1));
      for (let i = 0; i < times; i += 1) {
        if (i === 0) text += once;
        else {
          at = start;
          text += atom();
          at = end;
        }
      }
      at = after;
    }
    return text;
  };
  const atom = (): string => {
    const char = pattern[at] as string;
    at += 1;
    if (char === "^" || char === "$") return "";
    if (char === ".") return pick(printable.split(""), chance);
    if (char === "[") return fromClass();
    if (char === "\\") {
      const escaped = pattern[at] as string;
      at += 1;
      if (escaped === "b") return "";
      return escaped in classes ? pick([...(classes[escaped] as string)], chance) : escaped;
    }
    if (char !== "(") return char;
    if (pattern.startsWith("?:", at)) at += 2;
    const text = alternatives();
    at += 1;
    return text;
  };
  const fromClass = (): string => {
    const end = pattern.indexOf("]", at);
    const body = pattern.slice(at, end);
    at = end + 1;
    let chars = "";
    for (let i = body.startsWith("^") ? 1 : 0; i < body.length; i += 1) {
      const char = body[i] as string;
      if (char === "\\") chars += classes[body[(i += 1)] as string] ?? body[i];
      else if (body[i + 1] === "-" && i + 2 < body.length) {
        for (let code = char.charCodeAt(0); code <= body.charCodeAt(i + 2); code += 1) chars += String.fromCharCode(code);
        i += 2;
      } else chars += char;
    }
    if (body.startsWith("^"))
      chars =
        printable
          .split("")
          .filter((char) => !chars.includes(char))
          .join("") || "~";
    return pick([...chars], chance);
  };
  const count = (): [number, number] => {
    const match = /^(?:[*+?]|\{(\d+)(,?)(\d*)\})/.exec(pattern.slice(at));
    if (!match) return [1, 1];
    at += match[0].length;
    if (pattern[at] === "?") at += 1;
    if (match[1] === undefined) return match[0] === "?" ? [0, 1] : match[0] === "*" ? [0, 4] : [1, 5];
    const least = Number(match[1]);
    return [least, match[2] === "" ? least : match[3] === "" ? least + 4 : Number(match[3])];
  };
  try {
    const text = alternatives();
    return new RegExp(pattern).test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}
