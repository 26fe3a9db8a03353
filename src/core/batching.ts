/**
 * The flush decision: whether the queue of a lane becomes a batch now. Pure, so that it can be tested as a table and simulated.
 *
 * @module
 */

/** When and how large batches are. Durations in milliseconds. */
export interface BatchingPolicy {
  maxRequests: number;
  maxBytes: number;
  /** The oldest request of a lane never waits longer than this for company. */
  maxWaitMs: number;
  /** Jobs of one provider that may be unfinished at the same time. */
  maxJobs: number;
  /** How long things must be quiet before a queue counts as complete. */
  debounceMs: number;
}

/** A lane and its surroundings at one instant. */
export interface FlushInput {
  queued: number;
  bytes: number;
  tokens: number;
  /** How long the oldest request has waited. */
  oldestAgeMs: number;
  /** How long no run could have added to the queue; 0 while one can. */
  quietMs: number;
  /** Unfinished batches of the provider. */
  activeBatches: number;
  /** How long ago the provider's last batch was sealed; `Infinity` if none is unfinished. */
  sinceLastBatchMs: number;
  /** What a job of this lane usually takes; `undefined` before the first. */
  turnaroundMs: number | undefined;
  /** Estimated tokens of the model that may still be enqueued; `Infinity` without a quota. */
  freeTokens: number;
  /** Whether some unfinished batch of this model holds tokens of the quota. */
  tokensInUse: boolean;
}

export type FlushDecision =
  | { flush: true; reason: "full" | "max_wait" | "quiet"; limits: { requests: number; bytes: number; tokens: number } }
  /** `waitMs`: when to look again if nothing else happens; `undefined` when only a finished job can change the answer. */
  | { flush: false; reason: "empty" | "no_job_slot" | "token_quota" | "throttled" | "filling"; waitMs: number | undefined };

/**
 * Full, over-age or quiet queues flush, if a job slot and tokens are free. With many slots in use, quiet queues linger: jobs
 * spread evenly over the turnaround serve a trickle better than jobs used up at once (the next free slot would be a turnaround away).
 */
export function decideFlush(policy: BatchingPolicy, input: FlushInput): FlushDecision {
  if (input.queued === 0) return { flush: false, reason: "empty", waitMs: undefined };
  if (input.activeBatches >= policy.maxJobs) return { flush: false, reason: "no_job_slot", waitMs: undefined };
  // A single request may exceed the quota; it is sent alone, and the provider decides.
  if (input.freeTokens <= 0 && input.tokensInUse) return { flush: false, reason: "token_quota", waitMs: undefined };

  const limits = { requests: policy.maxRequests, bytes: policy.maxBytes, tokens: Math.max(1, input.freeTokens) };
  if (input.queued >= policy.maxRequests || input.bytes >= policy.maxBytes || input.tokens >= limits.tokens) {
    // A queue larger than the free part of a quota that is in use waits for room worth a job: a quarter of what it wants.
    if (input.tokensInUse && input.freeTokens < input.tokens / 4 && input.queued < policy.maxRequests && input.bytes < policy.maxBytes) {
      return { flush: false, reason: "token_quota", waitMs: undefined };
    }
    return { flush: true, reason: "full", limits };
  }
  if (input.oldestAgeMs >= policy.maxWaitMs) return { flush: true, reason: "max_wait", limits };

  const untilQuiet = policy.debounceMs - input.quietMs;
  const untilSpaced = lingerMs(policy, input) - input.sinceLastBatchMs;
  const wait = Math.max(untilQuiet, untilSpaced);
  if (wait <= 0) return { flush: true, reason: "quiet", limits };
  return { flush: false, reason: "filling", waitMs: Math.min(wait, policy.maxWaitMs - input.oldestAgeMs) };
}

/** The least time between two launches: nothing while slots are plenty, an even share of the turnaround once half of them are in use. */
export function lingerMs(policy: Pick<BatchingPolicy, "maxJobs">, input: Pick<FlushInput, "activeBatches" | "turnaroundMs">): number {
  if (input.turnaroundMs === undefined || input.activeBatches === 0) return 0;
  const used = Math.min(1, (2 * input.activeBatches) / policy.maxJobs);
  return (input.turnaroundMs / policy.maxJobs) * used;
}
