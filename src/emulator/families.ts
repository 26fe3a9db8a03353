/**
 * The publishers' own forms of batch rows on Vertex: each becomes a Gemini request, which is answered, and the answer is written in the publisher's form.
 *
 * @module
 */
import type { AnsweredRow } from "./output.ts";
import { promptTokens } from "./prompt.ts";
import { problemOfContent, problemOfPrompt, type Row } from "./rows.ts";
import { camelKeys, isObject, type JsonObject } from "./wire.ts";

export interface Family {
  /** The field of a row that holds what is asked, and whether it comes back with the answer. */
  field: "request" | "body" | "instance";
  echoes: boolean;
  /** What identifies a row. */
  keyField: "key" | "custom_id";
  /** The Gemini request that stands for a row's field, or why there is none. */
  request(asked: unknown): { request: JsonObject } | { problem: string };
  /** The answer in the form of this family. */
  response(answered: AnsweredRow, model: string): JsonObject;
}

const roleProblem = "Please use a valid role: user, model.";

function generateRequest(asked: unknown): { request: JsonObject } | { problem: string } {
  const request = camelKeys(asked);
  if (!isObject(request)) return { problem: "request is missing" };
  const contents = Array.isArray(request.contents) ? request.contents : [request.contents];
  // Other than the Developer API, Vertex wants a role.
  if (contents.some((content) => isObject(content) && content.role !== "user" && content.role !== "model" && content.role !== "function"))
    return { problem: roleProblem };
  const problem = problemOfPrompt(request) ?? problemOfLabels(request.labels);
  return problem === undefined ? { request } : { problem };
}

/** Labels are lower case, up to 63 characters. */
export function problemOfLabels(labels: unknown): string | undefined {
  if (labels === undefined || labels === null) return undefined;
  if (!isObject(labels)) return "labels must be an object";
  for (const [key, value] of Object.entries(labels)) {
    if (!/^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$/u.test(key)) return `label key ${JSON.stringify(key)} is not valid`;
    if (typeof value !== "string" || !/^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$/u.test(value)) return `the value of label ${key} is not valid`;
  }
  return undefined;
}

const gemini: Family = {
  field: "request",
  echoes: true,
  keyField: "key",
  request: generateRequest,
  response: ({ result }) => result.response ?? {},
};

const geminiEmbedding: Family = {
  ...gemini,
  request(asked) {
    const request = camelKeys(asked);
    if (!isObject(request)) return { problem: "request is missing" };
    const problem = problemOfContent(request.content, "content");
    return problem === undefined ? { request } : { problem };
  },
  response: ({ row, result }) => ({
    embedding: result.response?.embedding,
    usageMetadata: { promptTokenCount: promptTokens(row.request ?? {}), totalTokenCount: promptTokens(row.request ?? {}) },
  }),
};

/** `{"content":"text"}` lines, answered with `predictions`. */
const textEmbedding: Family = {
  field: "instance",
  echoes: true,
  keyField: "key",
  request(asked) {
    const content = isObject(asked) ? asked.content : undefined;
    return typeof content === "string" ? { request: { content: { parts: [{ text: content }] } } } : { problem: "content is missing" };
  },
  response: ({ row, result }) => predictionOf(row.request ?? {}, result.response),
};

/** One item of `predictions`, as `:predict` has it too. */
export function predictionOf(request: JsonObject, response: JsonObject | undefined): JsonObject {
  const values = isObject(response?.embedding) ? response.embedding.values : undefined;
  return { embeddings: { values, statistics: { truncated: false, token_count: promptTokens(request) } } };
}

const anthropic: Family = {
  field: "request",
  echoes: false,
  keyField: "custom_id",
  request(asked) {
    if (!isObject(asked) || !Array.isArray(asked.messages) || asked.messages.length === 0) return { problem: "messages: Field required" };
    if (asked.anthropic_version !== "vertex-2023-10-16") return { problem: "anthropic_version: Field required" };
    if (typeof asked.max_tokens !== "number") return { problem: "max_tokens: Field required" };
    return { request: fromMessages(asked.messages, asked.system, asked.max_tokens, asked.temperature) };
  },
  response(answered, model) {
    const { text, cut, usage, id } = essence(answered.result.response);
    return {
      ...{ id: `msg_vrtx_${id}`, type: "message", role: "assistant", model, content: [{ type: "text", text }] },
      ...{ stop_reason: cut ? "max_tokens" : "end_turn", stop_sequence: null },
      usage: { input_tokens: usage.prompt, output_tokens: usage.output },
    };
  },
};

const openai: Family = {
  field: "body",
  echoes: false,
  keyField: "custom_id",
  request(asked) {
    if (!isObject(asked) || !Array.isArray(asked.messages) || asked.messages.length === 0) return { problem: "messages is required" };
    return { request: fromMessages(asked.messages, undefined, asked.max_tokens, asked.temperature) };
  },
  response(answered, model) {
    const { text, cut, usage, id } = essence(answered.result.response);
    return {
      ...{ id: `chatcmpl-${id}`, object: "chat.completion", model },
      choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: cut ? "length" : "stop" }],
      usage: { prompt_tokens: usage.prompt, completion_tokens: usage.output, total_tokens: usage.prompt + usage.output },
    };
  },
};

/** By the short model name: `gemini-…`, `anthropic/claude-…`, `meta/…-maas`. */
export function familyOf(model: string): Family {
  if (model.startsWith("anthropic/")) return anthropic;
  if (model.endsWith("-maas")) return openai;
  if (model.startsWith("gemini-embedding")) return geminiEmbedding;
  return model.includes("embedding") ? textEmbedding : gemini;
}

function fromMessages(messages: readonly unknown[], system: unknown, maxTokens: unknown, temperature: unknown): JsonObject {
  const told = messages.filter(isObject);
  const systems = [system, ...told.filter(({ role }) => role === "system").map(({ content }) => content)].map(plainText);
  const generationConfig = {
    ...(typeof maxTokens === "number" ? { maxOutputTokens: maxTokens } : {}),
    ...(typeof temperature === "number" ? { temperature } : {}),
  };
  return {
    contents: told
      .filter(({ role }) => role !== "system")
      .map(({ role, content }) => ({ role: role === "assistant" ? "model" : "user", parts: [{ text: plainText(content) }] })),
    ...(systems.every((text) => text === "") ? {} : { systemInstruction: { parts: [{ text: systems.join("\n").trim() }] } }),
    generationConfig,
  };
}

/** A text, or the texts of a list of blocks. */
function plainText(content: unknown): string {
  if (typeof content === "string") return content;
  const blocks = Array.isArray(content) ? content.filter(isObject) : [];
  return blocks.map(({ text }) => (typeof text === "string" ? text : "")).join("");
}

/** What other families show of a Gemini response. */
function essence(response: JsonObject = {}): { text: string; cut: boolean; usage: { prompt: number; output: number }; id: string } {
  const [candidate] = Array.isArray(response.candidates) ? response.candidates.filter(isObject) : [];
  const content = isObject(candidate?.content) ? candidate.content : {};
  const usage = isObject(response.usageMetadata) ? response.usageMetadata : {};
  return {
    text: plainText(content.parts),
    cut: candidate?.finishReason === "MAX_TOKENS",
    usage: {
      prompt: Number(usage.promptTokenCount ?? 0),
      output: Number(usage.candidatesTokenCount ?? 0) + Number(usage.thoughtsTokenCount ?? 0),
    },
    id: typeof response.responseId === "string" ? response.responseId : "",
  };
}

/** A row of a family, from the fields of its line or the columns of its table row. */
export function rowOf(columns: JsonObject, family: Family): Row {
  const asked = family.field === "instance" ? (columns.instance ?? columns) : columns[family.field];
  const found = family.request(asked);
  const labels = isObject(asked) && isObject(asked.labels) ? Object.values(asked.labels) : [];
  const key = columns.key ?? columns.custom_id ?? labels[0] ?? "";
  const known = { key: typeof key === "string" ? key : JSON.stringify(key), metadata: undefined, columns };
  return "problem" in found
    ? { ...known, request: undefined, problem: found.problem }
    : { ...known, request: found.request, problem: undefined };
}
