/**
 * The three state machines, each as one table. Stores guard every transition with the state that it starts from;
 * these tables are what their conformance suite checks against.
 *
 * @module
 */

/**
 * `queued → batched → succeeded | failed | cancelled`; a retry goes `batched → queued` with attempt + 1. What failed or was withdrawn is
 * queued once more only when an operator retries its failed run.
 */
export type RequestState = "queued" | "batched" | "succeeded" | "failed" | "cancelled";

/** `held` waits for an operator: poison turns, code that disagrees with the recorded history. */
export type RunState = "runnable" | "running" | "waiting" | "held" | "completed" | "failed" | "cancelled";

export type BatchState = "forming" | "sealed" | "launching" | "in_progress" | "routing" | "completed" | "failed" | "expired" | "cancelled";

export const requestTransitions: Readonly<Record<RequestState, readonly RequestState[]>> = {
  queued: ["batched", "cancelled"],
  batched: ["succeeded", "failed", "queued", "cancelled"],
  succeeded: [],
  failed: ["queued"],
  cancelled: ["queued"],
};

export const runTransitions: Readonly<Record<RunState, readonly RunState[]>> = {
  runnable: ["running", "cancelled"],
  running: ["waiting", "runnable", "held", "completed", "failed", "cancelled"],
  waiting: ["runnable", "cancelled"],
  held: ["runnable", "cancelled"],
  completed: [],
  failed: ["runnable"],
  cancelled: [],
};

export const batchTransitions: Readonly<Record<BatchState, readonly BatchState[]>> = {
  forming: ["sealed"],
  sealed: ["launching", "failed", "cancelled"],
  launching: ["in_progress", "sealed", "failed", "cancelled"],
  in_progress: ["routing", "failed", "expired", "cancelled"],
  routing: ["completed", "failed", "expired", "cancelled"],
  completed: [],
  failed: [],
  expired: [],
  cancelled: [],
};

/** Whether a run can still change by itself. `held` is not terminal: an operator can let it go on. */
export function isTerminalRun(state: RunState): state is "completed" | "failed" | "cancelled" {
  return state === "completed" || state === "failed" || state === "cancelled";
}

export function isTerminalRequest(state: RequestState): state is "succeeded" | "failed" | "cancelled" {
  return state === "succeeded" || state === "failed" || state === "cancelled";
}

export function isTerminalBatch(state: BatchState): state is "completed" | "failed" | "expired" | "cancelled" {
  return state === "completed" || state === "failed" || state === "expired" || state === "cancelled";
}
