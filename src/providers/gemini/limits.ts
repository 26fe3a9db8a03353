/**
 * What the Gemini Developer API takes, as published in mid-2026 (gemini-batch.md 2).
 *
 * @module
 */
import type { ProviderLimits } from "../../core/provider.ts";
import { type LimitOverrides, overrideLimits } from "../shared/option-checks.ts";

/** The paid tier of the project, which decides how many tokens may wait at the service. */
export type QuotaTier = 1 | 2 | 3;

/** Overrides of single limits. `enqueuedTokens`: for all models, per model (others keep the table), or `false` for none. */
export type GeminiLimits = LimitOverrides;

/** A whole inline body must stay below this many bytes; files have no such limit. */
export const maxInlineBytes = 20_000_000;

/**
 * 100 concurrent jobs and files of 2 GB are published; the bytes here leave room for the envelope around each row. No number of
 * rows is documented: 100,000 bounds what one failed job costs. The size of one row is that of an interactive request.
 */
const published = { maxRequests: 100_000, maxBytes: 1_950_000_000, maxRequestBytes: 20_000_000, maxJobs: 100 };

const M = 1_000_000;

/**
 * Input tokens of all unfinished jobs of a model, for tiers 1, 2, 3. The first pattern that matches the model's name counts, so
 * that a new model gets the row of its family, and a name of no known family the smallest row of a text model.
 */
const enqueuedTokens: readonly (readonly [family: RegExp, tiers: readonly [number, number, number]])[] = [
  [/embedding/, [0.5 * M, 5 * M, 10 * M]],
  [/pro.*tts/, [25_000, 100_000, 1 * M]],
  [/tts/, [100_000, 100_000, 4 * M]],
  [/pro.*image/, [2 * M, 270 * M, 1_000 * M]],
  [/image/, [1 * M, 250 * M, 750 * M]],
  [/2\.0-flash/, [10 * M, 1_000 * M, 5_000 * M]],
  [/flash-lite/, [10 * M, 500 * M, 1_000 * M]],
  [/pro/, [5 * M, 500 * M, 1_000 * M]],
  [/(?:)/, [3 * M, 400 * M, 1_000 * M]],
];

/** The limits of a project of this tier with the overrides in place. Throws `invalid_option` for a limit that is no positive number. */
export function resolveLimits(overrides: GeminiLimits, tier: QuotaTier): ProviderLimits {
  const tokensOf = (model: string) => enqueuedTokens.find(([family]) => family.test(model))![1][tier - 1];
  return overrideLimits(overrides, { ...published, enqueuedTokens: tokensOf }, "gemini({ limits })");
}
