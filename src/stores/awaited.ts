import type { TurnCommit } from "../core/store.ts";
import { entryNo, requestId, RUN } from "./codes.ts";

/** The id of the request that a turn awaits, for the result of its commit: of a run (by number) that waits. */
export function awaitedRequest({ awaits, entries, firstNo }: TurnCommit, run: number, state: number): { request?: string } {
  if (awaits === undefined || state !== RUN.waiting) return {};
  const index = entries.findIndex(({ key }) => key === awaits);
  return index < 0 ? {} : { request: requestId(entryNo(run, firstNo + index)) };
}
