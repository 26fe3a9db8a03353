import type { BatchRow, Lane, ProviderFailure } from "../core/provider.ts";

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

/** The last text part of a REST body. */
export function promptText(body: string): string {
  const { contents, content } = JSON.parse(body) as {
    contents?: { parts?: { text?: string }[] }[];
    content?: { parts?: { text?: string }[] };
  };
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

/** The usual answer. */
export function repeat(prompt: string, _row: BatchRow, lane: Lane): Answer {
  if (lane.method === "embedContent") return { response: { embedding: { values: [prompt.length, 1, 0] } } };
  return `<${prompt}>`;
}
