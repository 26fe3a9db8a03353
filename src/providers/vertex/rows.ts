/**
 * Rows of a batch, to and from the wire. Pure.
 *
 * In: `{"key":"r1.1","request":{…,"labels":{"gb_row":"r1_01"}}}`, one a line or one a table row. Out: the same with `response` or `status` beside it, keys sorted, nulls added, in any
 * order (gemini-batch.md 3.2 to 3.4). No position is ever used: a row is known by its key or by its label, and one with neither belongs to nobody. Finding it by its
 * request would need all requests of the batch at hand.
 *
 * Models of other publishers have rows of their own (3.7): `{"custom_id","request"}` and `{"custom_id","method","url","body"}`, bodies as they were submitted.
 *
 * @module
 */
import { type BatchRow, type Lane, ProviderError, type ResultRow } from "../../core/provider.ts";
import { isObject, type JsonObject, maxResponseDepth, nestsDeeper } from "../shared/json.ts";
import { decodeJsonLine, oneLine } from "../shared/lines.ts";
import { embedRequest } from "./embeddings.ts";
import { withoutEmpty } from "./lint.ts";
import { type Family, familyOf } from "./models.ts";
import { decodeLabel, encodeLabel } from "./row-label.ts";
import { rowErrorOf } from "./row-status.ts";

/** The label that carries the key of a row. */
const rowLabel = "gb_row";

/** Columns of the input table of each family; the types are those of BigQuery. */
export const columnsOf: Readonly<Record<Family, readonly { name: string; type: "STRING" | "JSON" }[]>> = {
  google: [
    { name: "key", type: "STRING" },
    { name: "request", type: "JSON" },
  ],
  anthropic: [
    { name: "custom_id", type: "STRING" },
    { name: "request", type: "JSON" },
  ],
  open: [
    { name: "custom_id", type: "STRING" },
    { name: "method", type: "STRING" },
    { name: "url", type: "STRING" },
    { name: "body", type: "JSON" },
  ],
};

/** One line, with its line break. `typed`: it goes through the importer with its columns, so that empty settings must be left out. Throws `refused` for a body that is no object. */
export function encodeLine({ key, body }: BatchRow, { model, method }: Lane, typed: boolean): string {
  const id = JSON.stringify(key);
  switch (familyOf(model)) {
    case "anthropic":
      return `{"custom_id":${id},"request":${oneLine(body)}}\n`;
    case "open":
      return `{"custom_id":${id},"method":"POST","url":"/v1/chat/completions","body":${oneLine(body)}}\n`;
    default: {
      const request = parse(key, body);
      const written = method === "embedContent" ? embedRequest(request, "batch") : withLabel(contentRequest(request), key);
      return `{"key":${id},"request":${JSON.stringify(typed ? withoutEmpty(written) : written)}}\n`;
    }
  }
}

function parse(key: string, body: string): JsonObject {
  let request: unknown;
  try {
    request = JSON.parse(body);
  } catch {
    // Reported below.
  }
  if (isObject(request)) return request;
  throw new ProviderError("refused", "A request of the batch is not a JSON object.", { row: key });
}

/** A request as Vertex AI takes it: it insists on the role of each content ("Please use a valid role: user, model"), which the Gemini API takes for granted. */
export function contentRequest(request: JsonObject): JsonObject {
  const { contents } = request;
  if (!Array.isArray(contents) || contents.every((content) => !isObject(content) || "role" in content)) return request;
  return { ...request, contents: contents.map((content: unknown) => (isObject(content) ? { role: "user", ...content } : content)) };
}

function withLabel(request: JsonObject, key: string): JsonObject {
  const label = encodeLabel(key);
  if (label === undefined) return request;
  return { ...request, labels: { ...(isObject(request["labels"]) ? request["labels"] : {}), [rowLabel]: label } };
}

/** One line of an output object; `undefined` for a blank one. Never throws. */
export function decodeLine(line: Uint8Array, family: Family = "google"): ResultRow | undefined {
  return decodeJsonLine(line, (item) => decodeItem(item, family));
}

/** One row of an output table: columns of JSON come as texts. */
export function decodeTableRow(row: JsonObject, family: Family = "google"): ResultRow {
  const { request, response } = row;
  return decodeItem({ ...row, request: fromText(request), response: fromText(response) }, family);
}

function fromText(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return value.trim() === "" ? null : (JSON.parse(value) as unknown);
  } catch {
    return value;
  }
}

/** One row of an output, parsed. The response is handed on unchanged. */
export function decodeItem(item: unknown, family: Family = "google"): ResultRow {
  if (!isObject(item)) return { key: undefined, problem: "an item that is not an object" };
  const keys = keysOf(item);
  if (keys.length > 1) return { key: undefined, problem: "an item whose key and label differ" };
  const [key] = keys;
  const response = answerOf(item, family);
  const answered = isObject(response) && Object.keys(response).length > 0;
  const error = rowErrorOf(item, response);
  if (key === undefined)
    return { key, problem: error ? "an error without a key" : answered ? "a response without a key" : "an item without a key" };
  if (error) return { key, error };
  if (answered) return nestsDeeper(response, maxResponseDepth) ? { key, problem: "a response nested too deeply" } : { key, response };
  if (response === undefined) return { key, problem: "neither a response nor an error" };
  if (response === null) return { key, problem: "a null response" };
  return { key, problem: isObject(response) ? "an empty response" : "a response that is not an object" };
}

/** `key` or `custom_id` beside the response, and the label in the echo of the request. Two of them: they differ. */
function keysOf(item: JsonObject): string[] {
  const request = isObject(item["request"]) ? item["request"] : {};
  const labels = isObject(request["labels"]) ? request["labels"] : {};
  const label = labels[rowLabel];
  const found = [item["key"] ?? item["custom_id"], typeof label === "string" ? decodeLabel(label) : undefined];
  return [...new Set(found.filter((key) => typeof key === "string" && key !== ""))] as string[];
}

function answerOf(item: JsonObject, family: Family): unknown {
  const { response } = item;
  // Open models answer with or without the envelope of OpenAI's batches: {status_code, request_id, body}.
  if (family === "open" && isObject(response) && isObject(response["body"]) && !("choices" in response)) return response["body"];
  if (response === undefined && ("candidates" in item || "promptFeedback" in item || "embedding" in item)) return bareResponse(item);
  return response;
}

/** A row that is the response itself, without the envelope around it. */
function bareResponse(item: JsonObject): JsonObject {
  const { key: _key, custom_id: _customId, request: _request, status: _status, processed_time: _time, ...response } = item;
  return response;
}
