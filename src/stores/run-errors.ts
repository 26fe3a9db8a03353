/** The errors that stores themselves write into runs: one wording, whatever the store. */
import type { SerializedError } from "../core/errors.ts";

export function cancelled(id: string): SerializedError {
  return { code: "run_cancelled", name: "GembatchError", message: `Run ${id} was cancelled.`, retryable: false };
}

/** For the parent of a child run whose id is taken by a run with another input. */
export function conflict(id: string): SerializedError {
  const hint = "Give it another id.";
  return { code: "run_conflict", name: "GembatchError", message: `Run ${id} exists with another input. ${hint}`, retryable: false, hint };
}

/** For a run that takes its workers down with it. */
export function poison(run: string, attempts: number, worker: string): SerializedError {
  const hint = "Look for what ends the process (memory, process.exit), then retry the run.";
  return {
    code: "run_held",
    name: "GembatchError",
    message: `Run ${run} was taken up ${attempts} times and its worker died each time, last ${worker}. ${hint}`,
    retryable: false,
    hint,
    details: { attempts, worker },
  };
}
