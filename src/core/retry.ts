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

const minuteMs = 60_000;

/**
 * The wait after a job was refused for a quota (429 on create) and the service did not say how long to wait; `failures` counts such refusals in a row, from 1. Such quotas
 * (concurrent jobs, enqueued tokens) get free when a job ends, so seconds do not help: 1 to 2 minutes at first, doubling up to 5 to 15 minutes, spread evenly between the two.
 * Source: the create call answers 429 `RESOURCE_EXHAUSTED` without `RetryInfo`, and a refused job is not queued by the service.
 */
export function throttleDelayMs(failures: number, random: Random): number {
  const doubled = 2 ** Math.min(10, Math.max(0, failures - 1));
  const least = Math.min(5, doubled);
  const most = Math.min(15, 2 * doubled);
  return Math.round((least + (most - least) * random.next()) * minuteMs);
}
