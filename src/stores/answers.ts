/** What the results of a batch make of its members, whatever the store. Pure: the stores write down what is decided here. */
import type { SerializedError } from "../core/errors.ts";
import { isolationSize } from "../core/isolation.ts";
import type { RequestResult } from "../core/store.ts";
import { atTier, isDirect, type LaneTier } from "../core/tiers.ts";
import { isOver, RUN } from "./codes.ts";

/** How an entry ended: one of the two is there. */
export interface Answer {
  value: string | undefined;
  error: SerializedError | undefined;
}

/** How a member is counted in its batch. */
export type MemberOutcome = "succeeded" | "failed" | "requeued" | "cancelled";

/** A result of the member's own, or that nothing was asked: its attempt is unspent. */
export type MemberResult = RequestResult | { type: "release"; availableAt: number };

/** Back to a queue: that of the batch's lane, or of the same lane at another tier. */
export interface Requeued {
  attempt: number;
  groupSize: number | null;
  dueAt: number;
  failedJobs: number;
  moved?: { tier: LaneTier; reason: string };
}

export type MemberFate =
  | { kind: "settle"; answer: Answer }
  /** Nobody takes the answer any more, but for those that share it. */
  | { kind: "drop"; value: string | undefined }
  | { kind: "requeue"; to: Requeued };

/** What decides whether, and with whom, a member is asked again. */
export interface MemberTries {
  attempt: number;
  maxAttempts: number;
  failedJobs: number;
  groupSize: number | null;
  /** Requests of the batch that it was in. */
  batchSize: number;
}

/** The same, as stores keep it. */
export function triesOf(
  request: { attempt: number | null; max_attempts: number | null; failed_jobs: number; group_size: number | null },
  batch: { request_count: number },
): MemberTries {
  return {
    attempt: request.attempt ?? 1,
    maxAttempts: request.max_attempts ?? 1,
    failedJobs: request.failed_jobs,
    groupSize: request.group_size,
    batchSize: batch.request_count,
  };
}

/** `tries` is asked only if it matters: nearly every result is an answer. */
export function fateOf(result: MemberResult, runState: number, tries: () => MemberTries): MemberFate {
  if (isOver(runState)) return { kind: "drop", value: result.type === "succeeded" ? result.value : undefined };
  if (result.type === "succeeded") return { kind: "settle", answer: { value: result.value, error: undefined } };
  if (result.type === "failed") return { kind: "settle", answer: { value: undefined, error: result.error } };
  const { attempt, maxAttempts, failedJobs, groupSize, batchSize } = tries();
  if (result.type === "retry" && (attempt >= maxAttempts || attempt > (result.retries ?? Infinity))) {
    const { value } = result;
    return { kind: "settle", answer: { value, error: value === undefined ? result.error : undefined } };
  }
  // A failed run asks again only if an operator lets it go on.
  if (runState === RUN.failed) return { kind: "drop", value: undefined };
  const to = { attempt: attempt + 1, groupSize, dueAt: result.availableAt, failedJobs };
  const apart = (failed: number): number | null => isolationSize(failed, batchSize) ?? null;
  switch (result.type) {
    case "release":
      return { kind: "requeue", to: { ...to, attempt } };
    case "move": {
      const { tier, reason } = result;
      // Calls travel alone anyway.
      return { kind: "requeue", to: { ...to, groupSize: isDirect(atTier({}, tier)) ? null : apart(failedJobs), moved: { tier, reason } } };
    }
    case "retry": {
      const failed = failedJobs + (result.jobFailed === true ? 1 : 0);
      return { kind: "requeue", to: { ...to, groupSize: apart(failed), failedJobs: failed } };
    }
  }
}
