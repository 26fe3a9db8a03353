/**
 * The three state machines, each as one table. Stores guard every transition with the state that it starts from;
 * these tables are what their conformance suite checks against.
 *
 * @module
 */

/**
 * `queued → batched → succeeded | failed | cancelled`; a retry goes `batched → queued` with attempt + 1. What waits for the answer of an equal request goes
 * `queued → succeeded`. What failed or was withdrawn is queued once more only when an operator retries its failed run. A run that is retried afresh
 * forgets its requests; new ones may have their ids.
 */
export type RequestState = "queued" | "batched" | "succeeded" | "failed" | "cancelled";

/** `held` waits for an operator: poison turns, code that disagrees with the recorded history. */
export type RunState = "runnable" | "running" | "waiting" | "held" | "completed" | "failed" | "cancelled";

export type BatchState = "forming" | "sealed" | "launching" | "in_progress" | "routing" | "completed" | "failed" | "expired" | "cancelled";

export const requestTransitions: Readonly<Record<RequestState, readonly RequestState[]>> = {
  queued: ["batched", "succeeded", "cancelled"],
  batched: ["succeeded", "failed", "queued", "cancelled"],
  succeeded: [],
  failed: ["queued"],
  cancelled: ["queued"],
};

export const runTransitions: Readonly<Record<RunState, readonly RunState[]>> = {
  runnable: ["running", "held", "cancelled"],
  running: ["waiting", "runnable", "held", "completed", "failed", "cancelled"],
  // `running`: its answer came to the worker that keeps its turn.
  waiting: ["runnable", "running", "held", "cancelled"],
  // `waiting`: a handler run that is retried afresh asks its first request again.
  held: ["runnable", "waiting", "cancelled"],
  completed: [],
  failed: ["runnable", "waiting"],
  cancelled: ["runnable", "waiting"],
};

export const batchTransitions: Readonly<Record<BatchState, readonly BatchState[]>> = {
  forming: ["sealed"],
  sealed: ["launching", "failed", "cancelled"],
  // `completed`: the calls of a direct tier are made while `launching`, and need no job.
  launching: ["in_progress", "sealed", "completed", "failed", "cancelled"],
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
