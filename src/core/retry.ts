import type { Random } from "./clock.ts";

/** How often and how soon something is tried again. Durations in milliseconds. */
export interface RetryPolicy {
  /** Tries in all, the first one included. */
  maxAttempts: number;
  initialDelayMs: number;
  maxDelayMs: number;
}

/**
 * The wait before the next try, after `failures` failures (from 1): doubles from `initialDelayMs` up to `maxDelayMs`, with jitter over
 * its upper half, so that workers that failed together do not come back together.
 */
export function backoffMs(policy: Pick<RetryPolicy, "initialDelayMs" | "maxDelayMs">, failures: number, random: Random): number {
  const full = Math.min(policy.maxDelayMs, policy.initialDelayMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(full * (0.5 + random.next() / 2));
}
