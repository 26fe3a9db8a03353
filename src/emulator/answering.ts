/**
 * From a prompt to what comes back: script, upstream or built-in answer, then the faults of responses.
 *
 * @module
 */
import { completed, usageOf, usualResponse } from "./answers.ts";
import { hash32 } from "./chance.ts";
import { dimensionsOf, embeddingOf, embedText } from "./embeddings.ts";
import type { EmulatorFaults, FaultBox } from "./faults.ts";
import type { AnswerInfo, AnswerScript, Answer, Upstream } from "./options.ts";
import { formOf } from "./prompt.ts";
import { upstreamAnswers } from "./upstream.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** A row's fate: exactly one of both. An embedding is `{"embedding":{"values"}}`. `code` is a gRPC code. */
export type Result = { response: JsonObject; error?: undefined } | { response?: undefined; error: { code: number; message: string } };

export interface Answering {
  /** At once for built-in answers, later for scripts and upstream. Never throws or rejects. */
  answer(request: JsonObject, info: AnswerInfo, faults: EmulatorFaults): Result | Promise<Result>;
}

export interface AnsweringOptions {
  seed: string;
  script?: AnswerScript;
  upstream?: Upstream;
  faults: FaultBox;
}

export function answering({ seed, script, upstream, faults }: AnsweringOptions): Answering {
  const ask = upstream && upstreamAnswers(upstream);

  const fromAnswer = (answer: Answer, request: JsonObject, info: AnswerInfo): Result => {
    if (answer instanceof Error) return failed(answer);
    if (info.method === "embedContent")
      return { response: { embedding: { values: Array.isArray(answer) ? answer : valuesFor(answer, request, info) } } };
    if (answer === undefined) return { response: usualResponse(request, info.model, seed, info.hash) };
    if (typeof answer === "string") return { response: usualResponse(request, info.model, seed, info.hash, answer) };
    if (isObject(answer)) {
      if (isObject(answer.error)) {
        const { code, message } = answer.error;
        return { error: { code: Number(code ?? 13), message: typeof message === "string" ? message : "An internal error has occurred." } };
      }
      if (answer.candidates !== undefined || answer.promptFeedback !== undefined) {
        return { response: completed(answer, request, info.model, info.hash) };
      }
    }
    return { response: usualResponse(request, info.model, seed, info.hash, JSON.stringify(answer)) };
  };

  const valuesFor = (answer: Answer, request: JsonObject, info: AnswerInfo): readonly number[] =>
    typeof answer === "string" ? embedText(answer, dimensionsOf(request, info.model), seed) : embeddingOf(request, info.model, seed).values;

  const started = (request: JsonObject, info: AnswerInfo): Answer | Promise<Answer> => {
    if (script === undefined) return ask && info.method === "generateContent" ? ask(request, info) : undefined;
    const answer = script(request, info);
    if (ask === undefined || info.method !== "generateContent") return answer;
    return answer instanceof Promise ? answer.then((given) => given ?? ask(request, info)) : (answer ?? ask(request, info));
  };

  return {
    answer(request, info, settings) {
      const finish = (answer: Answer): Result => {
        const result = fromAnswer(answer, request, info);
        if (result.response === undefined || info.method === "embedContent") return result;
        const response = {
          ...result.response,
          responseId: result.response.responseId === info.hash ? responseId(info) : result.response.responseId,
        };
        return { response: bent(response, request, info, faults, settings) };
      };
      try {
        const answer = started(request, info);
        return isThenable(answer) ? Promise.resolve(answer).then(finish).catch(failed) : finish(answer);
      } catch (error) {
        return failed(error);
      }
    },
  };
}

/** Of its own for every answer of a job, though equal prompts have equal texts. */
function responseId({ hash, job, index }: AnswerInfo): string {
  return `${hash.slice(0, 14)}${hash32(`${job ?? ""} ${index}`)
    .toString(36)
    .padStart(7, "0")}`;
}

function isThenable(value: unknown): value is Promise<Answer> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** What a script threw, as the error of its row. */
function failed(error: unknown): Result {
  const code = isObject(error) || error instanceof Error ? Number((error as { code?: unknown }).code) : NaN;
  const message = error instanceof Error ? error.message : String(error);
  return { error: { code: Number.isInteger(code) ? code : 13, message } };
}

/** The response after the faults that change what the model said. */
function bent(response: JsonObject, request: JsonObject, info: AnswerInfo, faults: FaultBox, settings: EmulatorFaults): JsonObject {
  const { model, hash, key } = info;
  const silent = (finishReason: string): JsonObject => ({
    ...response,
    candidates: [{ content: { role: "model" }, finishReason, index: 0 }],
    usageMetadata: usageOf(request, model, hash, 0),
  });
  if (faults.hit("blockedPrompt", key, settings)) {
    const { candidates: _, ...rest } = response;
    return { promptFeedback: { blockReason: "PROHIBITED_CONTENT" }, ...rest, usageMetadata: usageOf(request, model, hash, 0) };
  }
  if (faults.hit("blockedOutput", key, settings)) return silent("SAFETY");
  if (faults.hit("emptyText", key, settings)) return silent("STOP");
  if (faults.hit("truncated", key, settings)) return withText(response, (text) => text.slice(0, Math.floor(text.length / 2)), "MAX_TOKENS");
  if (settings.invalidJson && formOf(request).kind === "json" && faults.hit("invalidJson", key, settings))
    return withText(response, (text) => text.slice(0, -1));
  return response;
}

/** The response with another text in its text parts (not in thoughts). */
export function withText(response: JsonObject, change: (text: string) => string, finishReason?: string): JsonObject {
  const candidates = Array.isArray(response.candidates) ? response.candidates.filter(isObject) : [];
  return {
    ...response,
    candidates: candidates.map((candidate) => {
      const content: JsonObject = isObject(candidate.content) ? candidate.content : { role: "model" };
      const parts = Array.isArray(content.parts) ? (content.parts as JsonObject[]) : [];
      const changed = parts.map((part) =>
        typeof part.text === "string" && part.thought !== true ? { ...part, text: change(part.text) } : part,
      );
      return { ...candidate, content: { ...content, parts: changed }, ...(finishReason === undefined ? {} : { finishReason }) };
    }),
  };
}
