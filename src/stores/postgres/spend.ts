import { GembatchError } from "../../core/errors.ts";
import type { SpendRow } from "../../core/store.ts";
import type { Usage } from "../../core/usage.ts";
import { type SpentRow, toSpent } from "../money.ts";
import type { Sql } from "./connection.ts";
import type { TransactionNames } from "./names.ts";

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

/** Versions of a chain count together. */
export async function spend(sql: Sql, names: TransactionNames, { since, until }: { since?: string; until?: string }): Promise<SpendRow[]> {
  const rows = await sql.query<SpendSums & { day: number; chain: string }>(
    `SELECT s.day, c.chain, s.lane, ${spendSums} FROM gb.spend s JOIN gb.chains c ON c.no = s.chain
     WHERE s.day BETWEEN $1 AND $2 GROUP BY s.day, c.chain, s.lane ORDER BY s.day, c.chain COLLATE "C", s.lane`,
    [dayNo(since, -1e9), dayNo(until, 1e9)],
  );
  await names.loadLanes(rows.map(({ lane }) => lane));
  return rows.map((row) => ({
    day: new Date(row.day * DAY_MS).toISOString().slice(0, 10),
    chain: row.chain,
    lane: names.laneOf(row.lane),
    answers: row.answers,
    usage: toUsage(row),
    ...toSpent(row),
  }));
}

/** Days since 1970 of a `YYYY-MM-DD`. */
function dayNo(day: string | undefined, otherwise: number): number {
  if (day === undefined) return otherwise;
  const no = /^\d{4}-\d{2}-\d{2}$/.test(day) ? Date.parse(day) / DAY_MS : Number.NaN;
  if (Number.isInteger(no)) return no;
  throw new GembatchError("invalid_argument", `There is no day ${JSON.stringify(day)}.`, { hint: "Write days as YYYY-MM-DD." });
}
