/**
 * What tokens cost. Prices are data with dates, transcribed from the public price list as of 2026-10-07; `prices` of the
 * options overrides them. USD per million tokens at the standard tier.
 *
 * @module
 */
import type { Usage } from "./usage.ts";

/** Price class of a request. `batch` and `flex` cost half of `standard` for input and output; cached input is never halved. */
export type Tier = "batch" | "flex" | "standard";

export interface Price {
  /** Model name, or a prefix of it that ends in `*`. */
  model: string;
  input: number;
  cached: number;
  /** Thinking tokens are charged as output. */
  output: number;
  /** First day (UTC, `YYYY-MM-DD`) that this price holds; absent for always. */
  from?: string;
  /** Prices above 200,000 prompt tokens in one request. */
  long?: { input: number; cached: number; output: number };
}

export const defaultPrices: readonly Price[] = [
  ...["gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash"].flatMap((model): Price[] => [
    { model, input: 0.75, cached: 0.075, output: 3.75 },
    { model, input: 1.5, cached: 0.15, output: 7.5, from: "2027-01-01" },
  ]),
  { model: "gemini-3.5-flash", input: 1.5, cached: 0.15, output: 9 },
  { model: "gemini-3.5-flash-lite", input: 0.3, cached: 0.03, output: 2.5 },
  { model: "gemini-3.1-pro-preview", input: 2, cached: 0.2, output: 12, long: { input: 4, cached: 0.4, output: 18 } },
  { model: "gemini-3.1-flash-lite", input: 0.25, cached: 0.025, output: 1.5 },
  { model: "gemini-3-flash-preview", input: 0.5, cached: 0.05, output: 3 },
  { model: "gemini-2.5-pro", input: 1.25, cached: 0.125, output: 10, long: { input: 2.5, cached: 0.25, output: 15 } },
  { model: "gemini-2.5-flash", input: 0.3, cached: 0.03, output: 2.5 },
  { model: "gemini-2.5-flash-lite", input: 0.1, cached: 0.01, output: 0.4 },
  { model: "gemini-embedding-001", input: 0.15, cached: 0.15, output: 0 },
  { model: "gemini-embedding-2", input: 0.2, cached: 0.2, output: 0 },
];

export interface Cost {
  usd: number;
  /** What the standard tier would have cost. */
  standardUsd: number;
}

/** Cost of one answer's usage at `at` (milliseconds since 1970). `undefined` for a model without a price: unknown is never 0. */
export function costOf(usage: Usage, model: string, tier: Tier, at: number, prices: readonly Price[] = defaultPrices): Cost | undefined {
  const price = priceOf(model, at, prices);
  if (!price) return undefined;
  const rate = price.long && usage.promptTokens > 200_000 ? price.long : price;
  const input = Math.max(0, usage.promptTokens - usage.cachedTokens) + usage.toolTokens;
  const fresh = (input * rate.input + (usage.outputTokens + usage.thoughtTokens) * rate.output) / 1e6;
  const cached = (usage.cachedTokens * rate.cached) / 1e6;
  return { usd: fresh * (tier === "standard" ? 1 : 0.5) + cached, standardUsd: fresh + cached };
}

function priceOf(model: string, at: number, prices: readonly Price[]): Price | undefined {
  const day = new Date(at).toISOString().slice(0, 10);
  const valid = prices.filter((price) => matches(price.model, model) && (price.from === undefined || price.from <= day));
  return valid.toSorted((a, b) => b.model.length - a.model.length || (b.from ?? "").localeCompare(a.from ?? ""))[0];
}

function matches(pattern: string, model: string): boolean {
  return pattern.endsWith("*") ? model.startsWith(pattern.slice(0, -1)) : pattern === model;
}
