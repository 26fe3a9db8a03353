/**
 * Rows of a batch, to and from the wire. Pure.
 *
 * In: one `{"key":"r1","request":{…}}` a line. Out: `{"key":"r1","response":{…}}` or `{"key":"r1","error":{code,message}}` a
 * line, in any order of lines and members, with the variants that users met (gemini-batch.md 1.2, 1.6).
 *
 * @module
 */
import type { BatchRow, ResultRow } from "../../core/provider.ts";
import { isObject, maxResponseDepth, nestsDeeper } from "../shared/json.ts";
import { decodeJsonLine, oneLine } from "../shared/lines.ts";
import { toRowError } from "../shared/row-error.ts";

/** One line of the input file, with its line break. The body goes in as it is; only a raw line break in it, legal between tokens, becomes a space. */
export function encodeLine(row: BatchRow): string {
  return `{"key":${JSON.stringify(row.key)},"request":${oneLine(row.body)}}\n`;
}

/** One item of `inputConfig.requests.requests`. */
export function encodeInline(row: BatchRow): string {
  return `{"request":${row.body},"metadata":{"key":${JSON.stringify(row.key)}}}`;
}

/** One line of an output file; `undefined` for a blank one. Never throws. */
export function decodeLine(line: Uint8Array): ResultRow | undefined {
  return decodeJsonLine(line, decodeItem);
}

/** One item of an output, parsed. The response is handed on unchanged. */
export function decodeItem(item: unknown): ResultRow {
  if (!isObject(item)) return { key: undefined, problem: "an item that is not an object" };
  const key = keyOf(item);
  const error = toRowError(item["error"]) ?? toRowError(item["status"]);
  const response = item["response"] ?? bareResponse(item);
  if (key === undefined)
    return { key, problem: error ? "an error without a key" : isObject(response) ? "a response without a key" : "an item without a key" };
  if (error) return { key, error };
  if (isObject(response))
    return nestsDeeper(response, maxResponseDepth) ? { key, problem: "a response nested too deeply" } : { key, response };
  if (response === undefined) return { key, problem: item["response"] === null ? "a null response" : "neither a response nor an error" };
  return { key, problem: "a response that is not an object" };
}

/** `key` beside the response (files), inside `metadata` (inline), or `custom_id` in either place. */
function keyOf(item: Record<string, unknown>): string | undefined {
  const metadata = isObject(item["metadata"]) ? item["metadata"] : {};
  for (const value of [item["key"], metadata["key"], item["custom_id"], metadata["custom_id"]]) {
    if (typeof value === "string" && value !== "") return value;
  }
  return undefined;
}

/** A line that is the response itself, without the envelope around it. */
function bareResponse(item: Record<string, unknown>): Record<string, unknown> | undefined {
  if (!("candidates" in item || "promptFeedback" in item || "embedding" in item)) return undefined;
  const { key: _key, metadata: _metadata, custom_id: _customId, ...response } = item;
  return response;
}
