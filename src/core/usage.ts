/**
 * Tokens of one answer, read leniently: fields may be absent (they count as 0) and may be strings.
 * Source: `usageMetadata` of GenerateContentResponse; `promptTokenCount` includes the cached tokens.
 */
export interface Usage {
  /** Input tokens, cached ones included. */
  promptTokens: number;
  cachedTokens: number;
  /** Output tokens without thinking. */
  outputTokens: number;
  thoughtTokens: number;
  /** Input tokens that tools added. */
  toolTokens: number;
}

export const noUsage: Readonly<Usage> = { promptTokens: 0, cachedTokens: 0, outputTokens: 0, thoughtTokens: 0, toolTokens: 0 };

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    promptTokens: a.promptTokens + b.promptTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    thoughtTokens: a.thoughtTokens + b.thoughtTokens,
    toolTokens: a.toolTokens + b.toolTokens,
  };
}

/** The usage of a REST response of generateContent (`usageMetadata`, either letter case) or of an embedding row (`tokenCount`). */
export function usageOf(response: unknown): Usage {
  if (typeof response !== "object" || response === null) return { ...noUsage };
  const body = response as Record<string, unknown>;
  const meta = (body["usageMetadata"] ?? body["usage_metadata"]) as Record<string, unknown> | undefined;
  if (typeof meta !== "object" || meta === null) return { ...noUsage, promptTokens: count(body["tokenCount"] ?? body["token_count"]) };
  return {
    promptTokens: count(meta["promptTokenCount"] ?? meta["prompt_token_count"]),
    cachedTokens: count(meta["cachedContentTokenCount"] ?? meta["cached_content_token_count"]),
    outputTokens: count(meta["candidatesTokenCount"] ?? meta["candidates_token_count"]),
    thoughtTokens: count(meta["thoughtsTokenCount"] ?? meta["thoughts_token_count"]),
    toolTokens: count(meta["toolUsePromptTokenCount"] ?? meta["tool_use_prompt_token_count"]),
  };
}

function count(value: unknown): number {
  const number = Number(value ?? 0);
  return Number.isFinite(number) && number > 0 ? number : 0;
}
