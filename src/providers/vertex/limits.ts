/**
 * What batch jobs on Vertex AI take, as published in September 2026 (gemini-batch.md 3.6).
 *
 * @module
 */
import type { ProviderLimits } from "../../core/provider.ts";
import { type LimitOverrides, overrideLimits } from "../shared/option-checks.ts";

/** Overrides of single limits. `enqueuedTokens`: for all models, per model (others have none), or `false` for none. */
export type VertexLimits = LimitOverrides;

/** The largest input of a job: 1 GB. */
export const maxInputBytes = 1_000_000_000;

/**
 * 200,000 requests and 1 GB are published; the bytes here leave room for the envelope around each row. Jobs have no fixed quota, they share a pool: 100 bounds what waits
 * there at once (models of Anthropic: 4 unless raised). No number of tokens is published. The size of one row is that of an interactive request.
 */
const published: ProviderLimits = {
  maxRequests: 200_000,
  maxBytes: 950_000_000,
  maxRequestBytes: 20_000_000,
  maxJobs: 100,
  enqueuedTokens: () => undefined,
};

/** The published limits with the overrides in place. Throws `invalid_option` for a limit that is no positive number. */
export function resolveLimits(overrides: VertexLimits): ProviderLimits {
  return overrideLimits(overrides, published, "vertex({ limits })");
}
