/** What an update makes of a batch's row. Pure. */
import type { SerializedError } from "../core/errors.ts";
import { batchTransitions, isTerminalBatch } from "../core/states.ts";
import type { BatchUpdate } from "../core/store.ts";
import { batchStates } from "./codes.ts";
import type { BatchRow } from "./records.ts";

export const errorText = (error: SerializedError | undefined): string | null => (error === undefined ? null : JSON.stringify(error));

/** Members that have no result yet. */
export function openMembers(batch: Pick<BatchRow, "request_count" | "succeeded" | "failed" | "requeued" | "cancelled">): number {
  return batch.request_count - batch.succeeded - batch.failed - batch.requeued - batch.cancelled;
}

/** Each store names workers and lanes in its own way. */
type Row<Worker> = Omit<BatchRow, "no" | "lane" | "worker" | "swept"> & { worker: Worker | null };

/** The columns that change; `undefined`: the batch may not go to that state. Throws for an end while members have no result. */
export function changesOf<Worker>(batch: Row<Worker>, update: BatchUpdate, now: number) {
  const from = batchStates[batch.state] ?? "forming";
  const to = update.state ?? from;
  if (to !== from && !batchTransitions[from].includes(to)) return undefined;
  const ends = isTerminalBatch(to);
  const open = openMembers(batch);
  if (ends && open > 0) throw new Error(`Batch ${batch.id} would end with ${open} requests without a result.`);
  return {
    state: batchStates.indexOf(to),
    worker: (update.release ?? true) ? null : batch.worker,
    due_at: update.dueAt ?? batch.due_at,
    staged: update.staged === undefined ? batch.staged : update.staged === null ? null : JSON.stringify(update.staged),
    launch_attempts: update.launchAttempts ?? batch.launch_attempts,
    intent_at: update.intentAt ?? batch.intent_at,
    launch_deadline_at: update.launchDeadlineAt ?? batch.launch_deadline_at,
    held: (update.held ?? batch.held === 1) ? 1 : 0,
    job: update.job ?? batch.job,
    job_state: update.jobState ?? batch.job_state,
    raw_status: update.rawStatus ?? batch.raw_status,
    launched_at: update.launchedAt ?? batch.launched_at,
    cancelled_at: update.cancelledAt ?? batch.cancelled_at,
    finished_at: update.finishedAt ?? batch.finished_at,
    output: update.output ?? batch.output,
    failures: update.failures ?? batch.failures,
    ended_at: update.endedAt ?? batch.ended_at ?? (ends ? now : null),
    error: update.error === undefined ? batch.error : errorText(update.error),
    sealed_at: batch.sealed_at ?? (to === "sealed" ? now : null),
    sweep_at: update.sweepAt ?? batch.sweep_at,
  };
}
