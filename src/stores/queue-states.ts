/** Where a request waits that is to be sent. Pure. */
import { ENTRY } from "./codes.ts";
import type { Weight } from "./deltas.ts";

/** States of a request that waits in its lane, due or not, with the others or apart. */
export const isQueued = (state: number): boolean => state === ENTRY.queued || state === ENTRY.delayed || state === ENTRY.isolated;

/** The state in which a request waits that may be sent from `dueAt` on. */
export function queueState(groupSize: number | null, dueAt: number, now: number): number {
  if (dueAt > now) return ENTRY.delayed;
  return groupSize === null ? ENTRY.queued : ENTRY.isolated;
}

/** What the entry of a request weighs. */
export const weightOf = ({
  bytes,
  tokens,
  estimate,
}: {
  bytes: number | null;
  tokens: number | null;
  estimate: number | null;
}): Weight => ({ bytes: bytes ?? 0, tokens: tokens ?? 0, estimate });
