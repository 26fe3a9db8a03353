/**
 * Rows of a batch: one line of an input file, or one inline request.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";
import { canonicalJson, digest } from "./chance.ts";
import { camelKeys, isObject, mayBeSnake, type JsonObject } from "./wire.ts";

export type BatchMethod = "generateContent" | "embedContent";

/** A row as it was read. `problem` says why it cannot be answered; then `request` is `undefined`. */
export interface Row {
  /** `""` when there is none. */
  key: string;
  request: JsonObject | undefined;
  /** Inline rows: what the client wants back, unchanged. */
  metadata: JsonObject | undefined;
  problem: string | undefined;
  /** Vertex: the fields of the line or the columns of the table row, as they were sent. */
  columns?: JsonObject;
}

/** One line of an input file: `{"key":"r1","request":{…}}`. */
export function parseLine(line: Buffer, method: BatchMethod): Row {
  if (!isUtf8(line)) return broken("", "the line is not valid UTF-8");
  const text = line.toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return broken("", "the line is not valid JSON");
  }
  if (!isObject(value)) return broken("", "the line is not a JSON object");
  if (value.key !== undefined && typeof value.key !== "string") return broken("", "key must be a string");
  const request = mayBeSnake(text) && isObject(value.request) ? camelKeys(value.request) : value.request;
  return checked(value.key ?? "", request, undefined, method);
}

/** One inline request: `{"request":{…},"metadata":{"key":"r1"}}`. The body is in camelCase already. */
export function parseInline(item: unknown, method: BatchMethod): Row {
  if (!isObject(item)) return broken("", "the item is not an object");
  const metadata = isObject(item.metadata) ? item.metadata : undefined;
  const key = metadata?.key ?? metadata?.custom_id ?? "";
  return checked(typeof key === "string" ? key : JSON.stringify(key), item.request, metadata, method);
}

function broken(key: string, problem: string, metadata?: JsonObject): Row {
  return { key, request: undefined, metadata, problem };
}

function checked(key: string, request: unknown, metadata: JsonObject | undefined, method: BatchMethod): Row {
  if (request === undefined || request === null) return broken(key, "request is missing", metadata);
  if (!isObject(request)) return broken(key, "request must be an object", metadata);
  const problem = method === "generateContent" ? problemOfPrompt(request) : problemOfContent(request.content, "content");
  return problem === undefined ? { key, request, metadata, problem } : broken(key, problem, metadata);
}

/** Why a GenerateContentRequest would be refused; `undefined` when it would not. */
export function problemOfPrompt(request: JsonObject): string | undefined {
  const { contents } = request;
  if (contents === undefined || contents === null) return "contents is not specified";
  const list = Array.isArray(contents) ? contents : [contents];
  if (list.length === 0) return "contents is not specified";
  for (let i = 0; i < list.length; i += 1) {
    const problem = problemOfContent(list[i], `contents[${i}]`);
    if (problem !== undefined) return problem;
    const { role } = list[i] as JsonObject;
    if (role !== undefined && role !== "user" && role !== "model" && role !== "function" && role !== "tool" && role !== "") {
      return `contents[${i}].role must be user or model`;
    }
  }
  if (request.generationConfig !== undefined && !isObject(request.generationConfig)) return "generationConfig must be an object";
  return undefined;
}

export function problemOfContent(content: unknown, name: string): string | undefined {
  if (!isObject(content)) return `${name} is not specified`;
  if (!Array.isArray(content.parts) || content.parts.length === 0) return `${name}.parts must not be empty`;
  if (!content.parts.every(isObject)) return `${name}.parts must hold objects`;
  if (content.parts.every((part) => Object.keys(part).length === 0)) return `${name}.parts must have one initialized field`;
  return undefined;
}

/** Stands for (model, request): what the model would be asked, whatever the key, labels, spelling or order of fields, and at whatever tier. */
export function hashOf(request: JsonObject, model: string): string {
  const { model: _, serviceTier: _tier, labels: _labels, ...rest } = request;
  return digest(`${model} ${canonicalJson(rest)}`);
}
