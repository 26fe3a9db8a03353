/**
 * Requests of embeddings, in the three forms that Vertex AI has for them. Pure.
 *
 * @module
 */
import { isObject, type JsonObject } from "../shared/json.ts";

/** Options by their names in camelCase, and in snake_case. */
const options = { taskType: "task_type", title: "title", outputDimensionality: "output_dimensionality", autoTruncate: "auto_truncate" };

/**
 * An embedding as Vertex AI takes it: options that the Gemini API has beside the content lie in a config of their own, `embedContentConfig` in a direct call (SDK 3.1) and
 * `embed_content_config` in a row (docs.cloud.google.com, "Get batch embeddings inferences").
 */
export function embedRequest(request: JsonObject, wire: "batch" | "direct"): JsonObject {
  const { rest, config } = withoutOptions(request);
  if (Object.keys(config).length === 0) return rest;
  if (wire === "direct") return { ...rest, embedContentConfig: config };
  return { ...rest, embed_content_config: inSnakeCase(config) };
}

function withoutOptions(request: JsonObject): { rest: JsonObject; config: JsonObject } {
  const { embedContentConfig, embed_content_config: snakeConfig, ...rest } = request;
  const config: JsonObject = {};
  for (const source of [rest, snakeConfig, embedContentConfig]) {
    if (!isObject(source)) continue;
    for (const [camel, snake] of Object.entries(options)) {
      const value = source[camel] ?? source[snake];
      if (value !== undefined && value !== null) config[camel] = value;
    }
  }
  for (const name of Object.entries(options).flat()) delete rest[name];
  return { rest, config };
}

function inSnakeCase(config: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(options).flatMap(([camel, snake]) => (camel in config ? [[snake, config[camel]]] : [])));
}

/** Older models are asked by `:predict` in direct calls; which ones is the SDK's rule (3.1). */
export function isAskedByPredict(model: string): boolean {
  return !model.includes("gemini") || model === "gemini-embedding-001";
}

/** `{instances:[{content,task_type,title}],parameters:{outputDimensionality,autoTruncate}}`; a content is its text there. */
export function predictRequest(request: JsonObject): JsonObject {
  const { rest, config } = withoutOptions(request);
  const { taskType, title, ...parameters } = config;
  const instance = { content: textOf(rest["content"]), ...(taskType ? { task_type: taskType } : {}), ...(title ? { title } : {}) };
  return { instances: [instance], ...(Object.keys(parameters).length === 0 ? {} : { parameters }) };
}

function textOf(content: unknown): string {
  const parts = isObject(content) && Array.isArray(content["parts"]) ? (content["parts"] as unknown[]) : [];
  return parts.map((part) => (isObject(part) && typeof part["text"] === "string" ? part["text"] : "")).join("");
}

/** The answer of `:predict` as that of embedContent: `{embedding:{values},tokenCount}`. `undefined` for what is none. */
export function predictResponse(answer: unknown): JsonObject | undefined {
  const predictions = isObject(answer) ? answer["predictions"] : undefined;
  const first: unknown = Array.isArray(predictions) ? predictions[0] : undefined;
  const embeddings = isObject(first) ? first["embeddings"] : undefined;
  if (!isObject(embeddings) || !Array.isArray(embeddings["values"])) return undefined;
  const statistics = isObject(embeddings["statistics"]) ? embeddings["statistics"] : {};
  const tokenCount = statistics["token_count"];
  return { embedding: { values: embeddings["values"] as unknown[] }, ...(tokenCount === undefined ? {} : { tokenCount }) };
}
