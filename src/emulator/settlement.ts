import { hasResults, isEnded, stateOf, type Job, type JobState } from "./jobs.ts";
import type { LedgerBook } from "./ledger.ts";

/** The jobs whose end has not been counted yet. */
export interface Settlement {
  /** PENDING and RUNNING jobs as of the last {@link settle}. */
  readonly open: ReadonlySet<Job>;
  add(job: Job): void;
  /** Counts the ends of jobs that have ended by now, each once; a cancelled job that succeeded after all has two. */
  settle(): void;
  reset(): void;
}

export function settlement(book: LedgerBook, now: () => number, onEnd: (job: Job, state: JobState) => void): Settlement {
  const open = new Set<Job>();
  const revivals = new Set<Job>();

  const end = (job: Job, state: JobState) => {
    if (job.output && hasResults(job, state)) {
      book.totals.billedRows += job.output.succeeded;
      book.billed("batch", job.output.billed, job.output.promptTokens, job.output.outputTokens);
      job.output.billed = [];
    }
    onEnd(job, state);
  };

  return {
    open,
    add: (job) => void open.add(job),
    settle() {
      for (const job of open) {
        const state = stateOf(job, now());
        if (!isEnded(state)) continue;
        open.delete(job);
        if (state === "CANCELLED" && job.plan.revivesAfterMs !== undefined) revivals.add(job);
        end(job, state);
      }
      for (const job of revivals) {
        if (stateOf(job, now()) !== "SUCCEEDED") continue;
        revivals.delete(job);
        end(job, "SUCCEEDED");
      }
    },
    reset() {
      open.clear();
      revivals.clear();
    },
  };
}
