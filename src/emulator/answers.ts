/**
 * The built-in answers: a pure function of (seed, model, request).
 *
 * @module
 */
import { chanceOf, digest, hash32, pick } from "./chance.ts";
import { firstWords, forcedCalls, formOf, lastText, promptTokens, tokensOf } from "./prompt.ts";
import { valueFor } from "./schema.ts";
import { isObject, type JsonObject } from "./wire.ts";

const openings = ["A short answer to", "Here is an emulated answer to", "In reply to", "Thoughts on", "An answer for"];
const closings = [
  "it is clear, short and made up.",
  "no model was asked, and none was paid.",
  "the same words will always give this sentence.",
  "a real model would have more to say.",
  "three points matter: who, what and when.",
];

/** The text of the usual answer, in the form that the request asks for. Same seed, model and request: same text. */
export function usualText(request: JsonObject, seed: string, hash: string): string {
  const chance = chanceOf(`${seed} ${hash}`);
  const topic = firstWords(lastText(request));
  const form = formOf(request);
  if (form.kind === "enum") return pick(form.values.length > 0 ? form.values : ["none"], chance);
  if (form.kind === "json") {
    const schema = form.schema ?? { type: "object", properties: { answer: { type: "string" } }, required: ["answer"] };
    return JSON.stringify(valueFor(schema, chance, topic));
  }
  return `${pick(openings, chance)} “${topic}” (${hash.slice(0, 6)}): ${pick(closings, chance)}`;
}

/** A whole GenerateContentResponse for a request: a function call where one is forced, else `text` or the usual text. */
export function usualResponse(request: JsonObject, model: string, seed: string, hash: string, text?: string): JsonObject {
  const calls = text === undefined ? forcedCalls(request) : [];
  if (calls.length > 0) {
    const chance = chanceOf(`${seed} ${hash}`);
    const call = pick(calls, chance);
    const args = valueFor(call.parameters, chance, firstWords(lastText(request)));
    const part: JsonObject = { functionCall: { name: call.name, args } };
    if (thinks(model)) part.thoughtSignature = Buffer.from(digest(`${hash} thought`)).toString("base64");
    return response(request, model, hash, [part], JSON.stringify(args).length, "STOP", "Model generated function call(s).");
  }
  const full = text ?? usualText(request, seed, hash);
  const config = isObject(request.generationConfig) ? request.generationConfig : {};
  const most = typeof config.maxOutputTokens === "number" && config.maxOutputTokens > 0 ? config.maxOutputTokens : Infinity;
  const cut = tokensOf(full.length) > most;
  const shown = cut ? full.slice(0, most * 4) : full;
  const parts: JsonObject[] = [{ text: shown }];
  if (isObject(config.thinkingConfig) && config.thinkingConfig.includeThoughts === true) {
    parts.unshift({ text: `The prompt is about “${firstWords(lastText(request))}”.`, thought: true });
  }
  return response(request, model, hash, parts, shown.length, cut ? "MAX_TOKENS" : "STOP");
}

function response(
  request: JsonObject,
  model: string,
  hash: string,
  parts: JsonObject[],
  characters: number,
  finishReason: string,
  finishMessage?: string,
): JsonObject {
  const candidate = {
    content: { parts, role: "model" },
    finishReason,
    index: 0,
    ...(finishMessage === undefined ? {} : { finishMessage }),
  };
  return {
    candidates: [candidate],
    usageMetadata: usageOf(request, model, hash, tokensOf(characters)),
    modelVersion: model,
    responseId: hash,
  };
}

/** `total = prompt + candidates + thoughts`, as the service counts; fields that are zero are left out. */
export function usageOf(request: JsonObject, model: string, hash: string, candidatesTokenCount: number): JsonObject {
  const promptTokenCount = promptTokens(request);
  const config = isObject(request.generationConfig) ? request.generationConfig : {};
  const budget = isObject(config.thinkingConfig) ? config.thinkingConfig.thinkingBudget : undefined;
  const thoughtsTokenCount = thinks(model) && budget !== 0 && candidatesTokenCount > 0 ? 12 + (hash32(hash) % 80) : 0;
  return {
    promptTokenCount,
    ...(candidatesTokenCount === 0 ? {} : { candidatesTokenCount }),
    totalTokenCount: promptTokenCount + candidatesTokenCount + thoughtsTokenCount,
    promptTokensDetails: [{ modality: "TEXT", tokenCount: promptTokenCount }],
    ...(thoughtsTokenCount === 0 ? {} : { thoughtsTokenCount }),
  };
}

/** Models that think before they answer. */
function thinks(model: string): boolean {
  return /^gemini-(?:2\.5|[3-9])/.test(model) && !/lite|image|tts/.test(model);
}

/** A response that lacks `usageMetadata` or the like gets them; the rest stays as a script wrote it. */
export function completed(given: JsonObject, request: JsonObject, model: string, hash: string): JsonObject {
  const characters = Array.isArray(given.candidates) ? JSON.stringify(given.candidates).length : 0;
  return { modelVersion: model, responseId: hash, usageMetadata: usageOf(request, model, hash, tokensOf(characters)), ...given };
}
