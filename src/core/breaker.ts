/**
 * The circuit breaker of a lane: when its jobs come to nothing one after the other, no more are launched until one of them has shown that the lane works again.
 *
 * @module
 */
import { formatDuration } from "./duration.ts";
import type { JobState } from "./provider.ts";
import type { BatchState } from "./states.ts";

export interface BreakerPolicy {
  /** Batches in a row that came to nothing. Default 3. */
  failures: number;
  /** Jobs that are stuck at the same time. Default 3. */
  stuck: number;
  /** The age from which a job counts as stuck (`maxAgeMs` of the polling policy). */
  stuckMs: number;
  /** How long the lane rests first. Default 15 minutes; doubles with every further failure. */
  coolDownMs?: number;
  /** Default 6 hours. */
  maxCoolDownMs?: number;
}

/** A batch that ended. `BatchRecord` is one. */
export interface EndedBatch {
  state: BatchState;
  jobState?: JobState | undefined;
  endedAt?: number | undefined;
  cancelledAt?: number | undefined;
}

/** A batch that has not ended. One without `launchedAt` is on its way. */
export interface ActiveBatch {
  launchedAt?: number | undefined;
  cancelledAt?: number | undefined;
}

export type BreakerState =
  | { open: false }
  /**
   * `until`: nothing changes before, unless a batch of the lane ends. `probe`: the lane has rested long enough; one single batch may be launched to try it, and while that one is on its
   * way the answer is `probe: false` again. `reason` is a sentence for people.
   */
  | { open: true; until: number; probe: boolean; reason: string };

/** What an ended batch says of its lane. Jobs that somebody else cancelled and input that was refused say nothing. */
type Verdict = "fine" | "expired" | "stuck" | "failed" | "nothing";

const minuteMs = 60_000;

/**
 * Whether batches of one lane may be launched. `ended`: its last batches, newest first, a dozen is enough. `active`: those that have not ended.
 *
 * It opens when the last `failures` batches all expired, failed as a whole or were cancelled because they were stuck, and when `stuck` active jobs are stuck with no batch completed since. It closes
 * with the next batch that completes. In between it rests for 15 minutes from the last end, twice as long after every further failure, up to 6 hours, and then lets one batch through.
 */
export function breakerOf(ended: readonly EndedBatch[], active: readonly ActiveBatch[], now: number, policy: BreakerPolicy): BreakerState {
  const coolDownMs = policy.coolDownMs ?? 15 * minuteMs;
  const maxCoolDownMs = policy.maxCoolDownMs ?? 360 * minuteMs;

  const stuck = countStuck(active, lastCompletedAt(ended), now, policy.stuckMs);
  if (stuck >= policy.stuck) {
    return {
      open: true,
      until: now + coolDownMs,
      probe: false,
      reason: `${stuck} of its jobs are stuck at the provider: stopped launching until they have ended`,
    };
  }

  const streak = failuresInARow(ended);
  if (streak.length < policy.failures) return { open: false };
  const reason = reasonOf(streak, policy.failures);
  const restMs = Math.min(maxCoolDownMs, coolDownMs * 2 ** Math.min(20, streak.length - policy.failures));
  const until = lastEndOf(streak) + restMs;
  if (now < until) return { open: true, until, probe: false, reason: `${reason}; the next try is in ${formatDuration(until - now)}` };

  // Older jobs of the lane may still be out; only what was launched after the rest is the probe.
  const probe = active.find(({ launchedAt }) => launchedAt === undefined || launchedAt >= until);
  if (!probe) return { open: true, until, probe: true, reason: `${reason}; one batch is launched to try again` };
  const probeEndsAt = (probe.launchedAt ?? now) + policy.stuckMs;
  return {
    open: true,
    until: Math.max(probeEndsAt, now + minuteMs),
    probe: false,
    reason: `${reason}; waiting for the one batch that tries again`,
  };
}

function verdictOf({ state, jobState, cancelledAt }: EndedBatch): Verdict {
  if (state === "completed" && (jobState === undefined || jobState === "succeeded")) return "fine";
  if (cancelledAt !== undefined) return "stuck";
  switch (jobState ?? state) {
    case "expired":
      return "expired";
    case "failed":
      // Without a job it was refused, for something in its input.
      return jobState === undefined ? "nothing" : "failed";
    case "succeeded":
      // Its answers could not be had.
      return "failed";
    default:
      return "nothing";
  }
}

/** The verdicts of the newest batches up to the last good one, newest first. */
function failuresInARow(ended: readonly EndedBatch[]): { verdict: Verdict; batch: EndedBatch }[] {
  const streak: { verdict: Verdict; batch: EndedBatch }[] = [];
  for (const batch of ended) {
    const verdict = verdictOf(batch);
    if (verdict === "fine") break;
    if (verdict !== "nothing") streak.push({ verdict, batch });
  }
  return streak;
}

function reasonOf(streak: readonly { verdict: Verdict }[], failures: number): string {
  const last = streak.slice(0, failures).map(({ verdict }) => verdict);
  const jobs = `its last ${streak.length} jobs`;
  if (last.every((verdict) => verdict === "expired")) return `${jobs} expired without an answer: the model may be retired`;
  if (last.every((verdict) => verdict === "stuck")) return `${jobs} were stuck and had to be cancelled`;
  if (last.every((verdict) => verdict === "failed")) return `${jobs} failed as a whole`;
  return `${jobs} failed, expired or were stuck`;
}

function lastEndOf(streak: readonly { batch: EndedBatch }[]): number {
  return Math.max(...streak.map(({ batch }) => batch.endedAt ?? batch.cancelledAt ?? 0));
}

function lastCompletedAt(ended: readonly EndedBatch[]): number {
  return Math.max(-Infinity, ...ended.filter((batch) => verdictOf(batch) === "fine").map(({ endedAt }) => endedAt ?? -Infinity));
}

/** Jobs that were cancelled for their age, or should be, and after which no other of the lane has completed: one slow job among good ones is no outage. */
function countStuck(active: readonly ActiveBatch[], completedAt: number, now: number, stuckMs: number): number {
  return active.filter(({ launchedAt, cancelledAt }) => {
    const since = cancelledAt ?? (launchedAt === undefined ? Infinity : launchedAt + stuckMs);
    return since <= now && since > completedAt;
  }).length;
}
