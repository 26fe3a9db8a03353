import type { BatchRow, Lane, ProviderFailure } from "../core/provider.ts";
import { familyOf, normalizeModel } from "../providers/vertex/models.ts";

/**
 * What a prompt is answered with: a text, a whole REST response, an error, or nothing (a row is missing from the output; a direct call is ambiguous). The error of a direct
 * call becomes `throttled` for code 8 and 14, `ambiguous` for 2, 4, 10 and 13, else `refused`.
 */
export type Answer = string | { response: unknown } | { error: { code: number; message: string } } | undefined;

/** gRPC codes of direct calls; every other is a definite no. */
export const directFailures: Readonly<Record<number, ProviderFailure>> = {
  2: "ambiguous",
  4: "ambiguous",
  8: "throttled",
  10: "ambiguous",
  13: "ambiguous",
  14: "throttled",
};

/** The last text part of a REST body, or the last message of one in another publisher's form. */
export function promptText(body: string): string {
  const { contents, content, messages } = JSON.parse(body) as {
    contents?: { parts?: { text?: string }[] }[];
    content?: { parts?: { text?: string }[] };
    messages?: { content?: string | { text?: string }[] }[];
  };
  const message = messages?.at(-1)?.content;
  if (typeof message === "string") return message;
  if (message !== undefined) return message.map(({ text }) => text ?? "").join("");
  const parts = (contents?.at(-1) ?? content)?.parts ?? [];
  return parts.map(({ text }) => text ?? "").join("");
}

/** A REST response with one candidate of this text. */
export function textResponse(text: string): unknown {
  return {
    candidates: [{ content: { role: "model", parts: [{ text }] }, finishReason: "STOP", index: 0 }],
    usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 },
    modelVersion: "test",
  };
}

/** The same for the model of a lane: those of other publishers answer in the form of Anthropic's messages, or of OpenAI's chat completions. */
export function responseOf(text: string, { method, model }: Lane): unknown {
  if (method !== "rawPredict") return textResponse(text);
  if (familyOf(model) === "anthropic") {
    const message = { type: "message", role: "assistant", content: [{ type: "text", text }], stop_reason: "end_turn" };
    return { ...message, usage: { input_tokens: 10, output_tokens: 5 } };
  }
  const choice = { index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" };
  return { object: "chat.completion", choices: [choice], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } };
}

/** The short form of a model of another publisher; `undefined` for all others. */
export function foreignModel(model: string): string | undefined {
  // Names as simple as this are all others'.
  if (typeof model !== "string" || !/\/|-maas$/.test(model)) return undefined;
  try {
    const short = normalizeModel(model);
    return familyOf(short) === "google" ? undefined : short;
  } catch {
    return undefined;
  }
}

/** The usual answer. */
export function repeat(prompt: string, _row: BatchRow, lane: Lane): Answer {
  if (lane.method === "embedContent") return { response: { embedding: { values: [prompt.length, 1, 0] } } };
  return `<${prompt}>`;
}
