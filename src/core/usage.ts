/**
 * Tokens of one answer, read leniently: fields may be absent (they count as 0) and may be strings.
 * Source: `usageMetadata` of GenerateContentResponse, where `promptTokenCount` includes the cached tokens; `usage` of Anthropic's Messages API, where `input_tokens` does not;
 * `usage` of OpenAI's chat completions, where `prompt_tokens` does.
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
  /** Those of `promptTokens` that are sound and not cached: they have a price of their own. */
  audioTokens: number;
  /** Those of `outputTokens` that are pictures: they have a price of their own. */
  imageTokens: number;
}

export const noUsage: Readonly<Usage> = {
  promptTokens: 0,
  cachedTokens: 0,
  outputTokens: 0,
  thoughtTokens: 0,
  toolTokens: 0,
  audioTokens: 0,
  imageTokens: 0,
};

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    promptTokens: a.promptTokens + b.promptTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    thoughtTokens: a.thoughtTokens + b.thoughtTokens,
    toolTokens: a.toolTokens + b.toolTokens,
    audioTokens: a.audioTokens + b.audioTokens,
    imageTokens: a.imageTokens + b.imageTokens,
  };
}

/**
 * The usage of a REST response of generateContent (`usageMetadata`, either letter case), of an embedding row (`tokenCount`), or of another publisher's model (`usage`).
 */
export function usageOf(response: unknown): Usage {
  if (typeof response !== "object" || response === null) return { ...noUsage };
  const body = response as Record<string, unknown>;
  const meta = objectOf(body["usageMetadata"] ?? body["usage_metadata"]);
  if (!meta) {
    const usage = objectOf(body["usage"]);
    return usage ? usageOfPublisher(usage) : { ...noUsage, promptTokens: count(body["tokenCount"] ?? body["token_count"]) };
  }
  return {
    promptTokens: count(meta["promptTokenCount"] ?? meta["prompt_token_count"]),
    cachedTokens: count(meta["cachedContentTokenCount"] ?? meta["cached_content_token_count"]),
    outputTokens: count(meta["candidatesTokenCount"] ?? meta["candidates_token_count"]),
    thoughtTokens: count(meta["thoughtsTokenCount"] ?? meta["thoughts_token_count"]),
    toolTokens: count(meta["toolUsePromptTokenCount"] ?? meta["tool_use_prompt_token_count"]),
    audioTokens: Math.max(
      0,
      ofModality(meta["promptTokensDetails"] ?? meta["prompt_tokens_details"], "AUDIO") -
        ofModality(meta["cacheTokensDetails"] ?? meta["cache_tokens_details"], "AUDIO"),
    ),
    imageTokens: ofModality(meta["candidatesTokensDetails"] ?? meta["candidates_tokens_details"], "IMAGE"),
  };
}

/** `{input_tokens, cache_read_input_tokens, …}` of Anthropic, or `{prompt_tokens, prompt_tokens_details, …}` of OpenAI. */
function usageOfPublisher(usage: Record<string, unknown>): Usage {
  if ("input_tokens" in usage || "output_tokens" in usage) {
    const cachedTokens = count(usage["cache_read_input_tokens"]);
    // Three separate numbers there. What is written to the cache is input that was not read from it.
    const promptTokens = count(usage["input_tokens"]) + count(usage["cache_creation_input_tokens"]) + cachedTokens;
    return { ...noUsage, promptTokens, cachedTokens, outputTokens: count(usage["output_tokens"]) };
  }
  const completionTokens = count(usage["completion_tokens"]);
  const thoughtTokens = Math.min(completionTokens, count(objectOf(usage["completion_tokens_details"])?.["reasoning_tokens"]));
  return {
    ...noUsage,
    promptTokens: count(usage["prompt_tokens"]),
    cachedTokens: count(objectOf(usage["prompt_tokens_details"])?.["cached_tokens"]),
    outputTokens: completionTokens - thoughtTokens,
    thoughtTokens,
  };
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

/** Tokens of one modality in a list of `ModalityTokenCount`. */
function ofModality(details: unknown, modality: string): number {
  if (!Array.isArray(details)) return 0;
  let tokens = 0;
  for (const detail of details as unknown[]) {
    if (typeof detail !== "object" || detail === null) continue;
    const item = detail as Record<string, unknown>;
    if (typeof item["modality"] === "string" && item["modality"].toUpperCase() === modality)
      tokens += count(item["tokenCount"] ?? item["token_count"]);
  }
  return tokens;
}

function count(value: unknown): number {
  if (typeof value !== "number" && typeof value !== "string") return 0;
  const number = Number(value);
  return Number.isFinite(number) && number > 0 ? number : 0;
}
