import type { SerializedError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { ClaimedRun, Store } from "../core/store.ts";

/** A claimed run whose input cannot be had. The error quotes nothing: it is stored in clear, for whoever looks without codec or payload store. */
export interface UnreadableRun {
  run: ClaimedRun;
  error: SerializedError;
}

/**
 * Claimed runs go back, to be tried again after minutes, longer with each time. Kept in hand they would hang until this process ends: nobody else may take up
 * a claimed run.
 */
export async function giveBack(
  store: Store,
  { worker, now }: { worker: string; now: number },
  unreadable: readonly UnreadableRun[],
  log: Logger,
): Promise<void> {
  const turns = unreadable.map(({ run, error }) => {
    log.error(error.message, { run: run.id });
    const outcome = { type: "retry", at: now + Math.min(15, 2 ** run.attempts) * 60_000, error } as const;
    return { run: run.id, epoch: run.epoch, seen: run.seq, firstNo: 0, entries: [], starts: [], code: run.code, notes: [], outcome };
  });
  await store.commitTurns({ worker, now, turns });
}
