/**
 * Answers from a model server that speaks OpenAI chat completions.
 *
 * @module
 */
import type { Answer, AnswerInfo, Upstream } from "./options.ts";
import { formOf, textOf } from "./prompt.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** Asks `upstream`, at most `concurrency` at a time. A failure becomes a row error of code 14. */
export function upstreamAnswers(upstream: Upstream): (request: JsonObject, info: AnswerInfo) => Promise<Answer> {
  const slots = Math.max(1, upstream.concurrency ?? 4);
  const waiting: (() => void)[] = [];
  let busy = 0;
  return async (request, info) => {
    if (busy >= slots) await new Promise<void>((resolve) => waiting.push(resolve));
    else busy += 1;
    try {
      return await ask(upstream, request, info);
    } catch (error) {
      return {
        error: {
          code: 14,
          message: `The upstream model server could not be asked: ${error instanceof Error ? error.message : String(error)}`,
        },
      };
    } finally {
      // A waiting request takes over the slot.
      const next = waiting.shift();
      if (next) next();
      else busy -= 1;
    }
  };
}

async function ask(upstream: Upstream, request: JsonObject, info: AnswerInfo): Promise<Answer> {
  const answer = await fetch(`${upstream.baseUrl.replace(/\/+$/, "")}/chat/completions`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(upstream.apiKey === undefined ? {} : { authorization: `Bearer ${upstream.apiKey}` }),
    },
    body: JSON.stringify(toChat(request, upstream.model ?? info.model)),
  });
  const text = await answer.text();
  if (!answer.ok)
    return {
      error: {
        code: answer.status === 429 ? 8 : answer.status < 500 ? 3 : 14,
        message: `The upstream model server answered ${answer.status}.`,
      },
    };
  const body = JSON.parse(text) as {
    choices?: { message?: { content?: string | null }; finish_reason?: string }[];
    usage?: Record<string, number>;
  };
  const choice = body.choices?.[0];
  const prompt = body.usage?.prompt_tokens ?? 0;
  const output = body.usage?.completion_tokens ?? 0;
  const content = choice?.message?.content ?? "";
  return {
    candidates: [
      {
        content: { role: "model", ...(content === "" ? {} : { parts: [{ text: content }] }) },
        finishReason: choice?.finish_reason === "length" ? "MAX_TOKENS" : choice?.finish_reason === "content_filter" ? "SAFETY" : "STOP",
        index: 0,
      },
    ],
    ...(body.usage === undefined
      ? {}
      : { usageMetadata: { promptTokenCount: prompt, candidatesTokenCount: output, totalTokenCount: prompt + output } }),
  };
}

/** The request as chat messages, with the settings that both protocols know. */
function toChat(request: JsonObject, model: string): JsonObject {
  const config = isObject(request.generationConfig) ? request.generationConfig : {};
  const system = textOf(request.systemInstruction);
  const contents = Array.isArray(request.contents) ? request.contents.filter(isObject) : [];
  const form = formOf(request);
  return {
    model,
    messages: [
      ...(system === "" ? [] : [{ role: "system", content: system }]),
      ...contents.map((content) => ({ role: content.role === "model" ? "assistant" : "user", content: textOf(content) })),
    ],
    ...(typeof config.temperature === "number" ? { temperature: config.temperature } : {}),
    ...(typeof config.topP === "number" ? { top_p: config.topP } : {}),
    ...(typeof config.maxOutputTokens === "number" ? { max_tokens: config.maxOutputTokens } : {}),
    ...(Array.isArray(config.stopSequences) ? { stop: config.stopSequences } : {}),
    ...(form.kind !== "json"
      ? {}
      : {
          response_format:
            form.schema === undefined
              ? { type: "json_object" }
              : { type: "json_schema", json_schema: { name: "answer", schema: lowerTypes(form.schema) } },
        }),
  };
}

/** `"STRING"` of the OpenAPI subset is `"string"` in JSON Schema. */
function lowerTypes(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(lowerTypes);
  if (!isObject(schema)) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [
      key,
      key === "type" && typeof value === "string" ? value.toLowerCase() : lowerTypes(value),
    ]),
  );
}
