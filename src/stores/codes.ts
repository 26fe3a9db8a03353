/**
 * Words as small integers, as they stand in the hot rows. The numbers are part of the file format: never change one.
 * Partial indexes name them as literals, so one number stands for one index.
 */
import type { BatchState, RequestState, RunState } from "../core/states.ts";
import type { EntryKind, RunKind } from "../core/store.ts";

export const RUN = { runnable: 0, running: 1, waiting: 2, retrying: 3, held: 4, completed: 5, failed: 6, cancelled: 7 } as const;

/** Nothing that comes in changes the run any more. One that failed may be retried, and takes answers meanwhile. */
export const isOver = (state: number): boolean => state === RUN.completed || state === RUN.cancelled;

/** `retrying` is a waiting run that only its timer wakes: an answer that comes in must not cut a backoff short. */
export const runStates: readonly RunState[] = ["runnable", "running", "waiting", "waiting", "held", "completed", "failed", "cancelled"];

export function runCodes(state: RunState): number[] {
  return runStates.flatMap((name, code) => (name === state ? [code] : []));
}

export const ENTRY = {
  open: 0,
  queued: 1,
  delayed: 2,
  sleeping: 3,
  batched: 4,
  succeeded: 5,
  failed: 6,
  cancelled: 7,
  isolated: 8,
  following: 9,
} as const;

/**
 * `delayed` is a queued request that may not be sent yet: it is in no queue index and in no counter. `isolated` is one that travels apart, in
 * groups of `group_size`; `following` waits for the answer of an equal request.
 */
export const requestStates: readonly RequestState[] = [
  "queued",
  "queued",
  "queued",
  "queued",
  "batched",
  "succeeded",
  "failed",
  "cancelled",
  "queued",
  "queued",
];

/** A member of a batch, or one that was when it settled. A request that went back to its queue still remembers the batch it came from. */
export const isMember = (state: number): boolean => state >= ENTRY.batched && state <= ENTRY.cancelled;

export const entryKinds: readonly EntryKind[] = ["request", "step", "sleep", "child", "start", "now", "code"];
export const runKinds: readonly RunKind[] = ["chain", "handler"];

/** Everything below `completed` is active: the partial index says `state <= 4`. */
export const batchStates: readonly BatchState[] = [
  "forming",
  "sealed",
  "launching",
  "in_progress",
  "routing",
  "completed",
  "failed",
  "expired",
  "cancelled",
];
export const BATCH = { forming: 0, sealed: 1, inProgress: 3, routing: 4, completed: 5 } as const;

/** Rows of a batch that were given up: waited for, waited for but their entry was forgotten, billed. */
export const DEPARTED = { waited: 0, forgotten: 1, billed: 2 } as const;

/** A run's entries are the numbers from `run * 2^20` on, so that its history is one range of the table. */
export const ENTRIES_PER_RUN = 2 ** 20;

export const entryNo = (run: number, no: number): number => run * ENTRIES_PER_RUN + no;
export const runOf = (entry: number): number => Math.floor(entry / ENTRIES_PER_RUN);

/** A request's public id spells its primary key, so that looking one up needs no index. */
export function requestId(entry: number): string {
  return `${runOf(entry).toString(36)}-${(entry % ENTRIES_PER_RUN).toString(36)}`;
}

/** The primary key, or `undefined` for a text that `requestId` never makes. One walk over the text: this is done for every answer. */
export function parseRequestId(id: string): number | undefined {
  const dash = id.indexOf("-");
  const run = parseDigits(id, 0, dash);
  const no = parseDigits(id, dash + 1, id.length);
  if (run === undefined || no === undefined || no >= ENTRIES_PER_RUN) return undefined;
  const entry = entryNo(run, no);
  return Number.isSafeInteger(entry) ? entry : undefined;
}

/** A number in base 36 without needless zeros, of at most eight digits. */
function parseDigits(text: string, from: number, to: number): number | undefined {
  const digits = to - from;
  if (digits < 1 || digits > 8 || (digits > 1 && text.charCodeAt(from) === 48)) return undefined;
  let number = 0;
  for (let i = from; i < to; i += 1) {
    const code = text.charCodeAt(i);
    // 0 to 9, a to z.
    if (code >= 48 && code <= 57) number = number * 36 + code - 48;
    else if (code >= 97 && code <= 122) number = number * 36 + code - 87;
    else return undefined;
  }
  return number;
}
