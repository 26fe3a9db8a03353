/** Sums of what was spent, as both SQL stores keep them: by day since 1970 (UTC), chain and lane. */
import { GembatchError } from "../core/errors.ts";
import type { Lane } from "../core/provider.ts";
import type { SpendRow } from "../core/store.ts";
import type { Usage } from "../core/usage.ts";
import { type SpentRow, toSpent } from "./money.ts";

const DAY_MS = 86_400_000;

/** Sums over rows of `spend`. */
export const spendSums = `
  sum(answers) AS answers, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens,
  sum(thought_tokens) AS thought_tokens, sum(tool_tokens) AS tool_tokens, sum(audio_tokens) AS audio_tokens,
  sum(image_tokens) AS image_tokens, sum(usd) AS usd, sum(standard_usd) AS standard_usd, sum(unpriced) AS unpriced`;

export interface SpendSums extends SpentRow {
  lane: number;
  answers: number;
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  thought_tokens: number;
  tool_tokens: number;
  audio_tokens: number;
  image_tokens: number;
}

export function toUsage(row: SpendSums): Usage {
  return {
    promptTokens: row.prompt_tokens,
    cachedTokens: row.cached_tokens,
    outputTokens: row.output_tokens,
    thoughtTokens: row.thought_tokens,
    toolTokens: row.tool_tokens,
    audioTokens: row.audio_tokens,
    imageTokens: row.image_tokens,
  };
}

export interface DaySums extends SpendSums {
  day: number;
  chain: string;
}

export function toSpendRow(row: DaySums, lane: Lane): SpendRow {
  return {
    day: new Date(row.day * DAY_MS).toISOString().slice(0, 10),
    chain: row.chain,
    lane,
    answers: row.answers,
    usage: toUsage(row),
    ...toSpent(row),
  };
}

/** Days since 1970 of a `YYYY-MM-DD`. */
export function dayNo(day: string | undefined, otherwise: number): number {
  if (day === undefined) return otherwise;
  const no = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(day) / DAY_MS : Number.NaN;
  if (Number.isInteger(no)) return no;
  throw new GembatchError("invalid_argument", `There is no day ${JSON.stringify(day)}.`, { hint: "Write days as YYYY-MM-DD." });
}
