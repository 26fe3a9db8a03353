/**
 * Edits of JSON text that leave everything else byte for byte: order, indentation, comments.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";

interface Range {
  start: number;
  end: number;
}

export type JsonNode = JsonObject | JsonArray | JsonScalar;
export interface JsonObject extends Range {
  kind: "object";
  members: { key: string; value: JsonNode }[];
}
export interface JsonArray extends Range {
  kind: "array";
  items: JsonNode[];
}
interface JsonScalar extends Range {
  kind: "scalar";
  value: unknown;
}

/** Parses JSON that may have comments, as the Firebase CLI allows in firebase.json. `name`: the file, for the error `invalid_option`. */
export function parseJsonText(text: string, name: string): JsonNode {
  let at = text.startsWith("\uFEFF") ? 1 : 0;

  const fail = (): never => {
    const line = text.slice(0, at).split("\n").length;
    throw new GembatchError("invalid_option", `${name} is not valid JSON (line ${line}).`, {
      hint: "Mend it, then run the command again.",
    });
  };
  const skip = (): void => {
    at += /^(?:\s|\/\/[^\n]*|\/\*[\s\S]*?\*\/)*/.exec(text.slice(at))![0].length;
  };
  const take = (mark: string): void => {
    if (text[at] !== mark) fail();
    at += 1;
  };
  const scalar = (): JsonScalar => {
    const start = at;
    const token = /^(?:"(?:[^"\\\n]|\\.)*"|-?\d[\d.eE+-]*|true|false|null)/.exec(text.slice(at))?.[0] ?? fail();
    at += token.length;
    try {
      return { kind: "scalar", start, end: at, value: JSON.parse(token) as unknown };
    } catch {
      return fail();
    }
  };
  /** What stands between the brackets, separated by commas. */
  const list = (open: string, close: string, item: () => void): Range => {
    const start = at;
    take(open);
    skip();
    while (text[at] !== close) {
      item();
      skip();
      if (text[at] === close) break;
      take(",");
      skip();
      if (text[at] === close) fail();
    }
    at += 1;
    return { start, end: at };
  };
  const node = (): JsonNode => {
    skip();
    if (text[at] === "{") {
      const members: JsonObject["members"] = [];
      const range = list("{", "}", () => {
        const { value: key } = scalar();
        if (typeof key !== "string") fail();
        skip();
        take(":");
        members.push({ key: key as string, value: node() });
      });
      return { kind: "object", ...range, members };
    }
    if (text[at] === "[") {
      const items: JsonNode[] = [];
      const range = list("[", "]", () => items.push(node()));
      return { kind: "array", ...range, items };
    }
    return scalar();
  };

  const root = node();
  skip();
  if (at < text.length) fail();
  return root;
}

/** The value of a node. */
export function valueOf(node: JsonNode): unknown {
  if (node.kind === "scalar") return node.value;
  if (node.kind === "array") return node.items.map(valueOf);
  return Object.fromEntries(node.members.map(({ key, value }) => [key, valueOf(value)]));
}

/** The value of this key, if the node is an object that has it. */
export function memberOf(node: JsonNode | undefined, key: string): JsonNode | undefined {
  return node?.kind === "object" ? node.members.findLast((member) => member.key === key)?.value : undefined;
}

/** The text with the value at the end of the array. */
export function appendItem(text: string, array: JsonArray, value: unknown): string {
  return appendTo(text, array, array.items.at(-1), array.items.at(-1)?.start, (indent) => write(text, value, indent));
}

/** The text with the value under this key: in its place if there is one, else at the end of the object. */
export function setMember(text: string, object: JsonObject, key: string, value: unknown): string {
  const present = memberOf(object, key);
  if (present) return replaceNode(text, present, value);
  const last = object.members.at(-1)?.value;
  const lastStart = last === undefined ? undefined : lineStart(text, last.start);
  return appendTo(text, object, last, lastStart, (indent) => `${JSON.stringify(key)}: ${write(text, value, indent)}`);
}

export function replaceNode(text: string, node: JsonNode, value: unknown): string {
  return text.slice(0, node.start) + write(text, value, indentAt(text, node.start)) + text.slice(node.end);
}

/** Puts the node and the value into an array in the node's place. */
export function wrapInArray(text: string, node: JsonNode, value: unknown): string {
  const outer = indentAt(text, node.start);
  const inner = outer + unitOf(text);
  const eol = eolOf(text);
  const list = [text.slice(node.start, node.end), write(text, value, inner)].map((one) => inner + one).join(`,${eol}`);
  return `${text.slice(0, node.start)}[${eol}${list}${eol}${outer}]${text.slice(node.end)}`;
}

function appendTo(
  text: string,
  container: Range,
  last: Range | undefined,
  lastStart: number | undefined,
  content: (indent: string) => string,
): string {
  const eol = eolOf(text);
  const outer = indentAt(text, container.start);
  if (last === undefined || lastStart === undefined) {
    const inner = outer + unitOf(text);
    return `${text.slice(0, container.start + 1)}${eol}${inner}${content(inner)}${eol}${outer}${text.slice(container.end - 1)}`;
  }
  const isOnLineOfItsOwn = lineStart(text, lastStart) > container.start;
  const inner = isOnLineOfItsOwn ? indentAt(text, lastStart) : outer + unitOf(text);
  return `${text.slice(0, last.end)},${eol}${inner}${content(inner)}${text.slice(last.end)}`;
}

function write(text: string, value: unknown, indent: string): string {
  return JSON.stringify(value, null, unitOf(text)).replaceAll("\n", eolOf(text) + indent);
}

const lineStart = (text: string, at: number): number => text.lastIndexOf("\n", at - 1) + 1;
const indentAt = (text: string, at: number): string => /^[ \t]*/.exec(text.slice(lineStart(text, at)))![0];
const eolOf = (text: string): string => (text.includes("\r\n") ? "\r\n" : "\n");
/** One step of indentation: that of the first line that has one. */
const unitOf = (text: string): string => /\n([ \t]+)\S/.exec(text)?.[1] ?? "  ";
