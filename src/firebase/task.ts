/**
 * Tasks in time: which of them stands for an instant, and what it is called. Pure.
 *
 * Time is cut into buckets. The task of a bucket is dispatched when the bucket is over, so that whatever was committed within it is there by then; everybody who wants a worker at some time of the
 * bucket asks for the same task, and gets one. Once dispatched, its name is not used again: names that were used are refused for up to 4 hours (REST reference of Cloud Tasks), buckets do not come back.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** What a task of `gembatchWork` carries. */
export interface WorkTask {
  /** Nothing is done before this instant, in milliseconds since 1970: the emulator of Cloud Tasks dispatches at once, whatever was asked for. */
  notBefore?: number;
  /** How many tasks in a row found something due that they could not move. */
  misses?: number;
  /** How often the task of this bucket came too early and was asked for again. */
  round?: number;
}

/** How far ahead a task is asked for at most: where the token that it is sent with is made at once it ends after an hour. Cloud Tasks itself takes 30 days. */
export const horizonMs = 45 * 60_000;

/** The longest wait after a task that could not move what is due; then it is the sweep's. */
const maxMissMs = 10 * 60_000;

/** When the task that stands for `at` is dispatched: at the end of its bucket. */
export function dispatchAt(at: number, bucketMs: number): number {
  return (Math.floor(at / bucketMs) + 1) * bucketMs;
}

/** The name of the task that is dispatched at `notBefore`. Hashed: names in sequence slow a queue down (Cloud Tasks, "task names"). */
export function taskId(queue: string, { notBefore = 0, round = 0 }: WorkTask): string {
  return createHash("sha256").update(`gembatch\n${queue}\n${notBefore}\n${round}`).digest("hex").slice(0, 40);
}

/**
 * When the next worker is wanted, after one has left at `now` and something is due at `dueAt`. `moved`: whether that worker moved anything. What is due and cannot be moved (another worker has it in hand, no
 * job may be started) is looked at after twice the wait each time, and at last left to the sweep: `undefined`.
 */
export function followUp(params: {
  now: number;
  dueAt: number;
  moved: boolean;
  misses: number;
  bucketMs: number;
}): { at: number; misses: number } | undefined {
  const { now, dueAt, moved, misses, bucketMs } = params;
  if (dueAt > now || moved) return { at: Math.min(Math.max(dueAt, now), now + horizonMs), misses: 0 };
  const missMs = bucketMs * 2 ** misses;
  return missMs > maxMissMs ? undefined : { at: now + missMs, misses: misses + 1 };
}
