import type { TurnCommit } from "../core/store.ts";
import { RUN } from "./codes.ts";

/** The id of the request that a turn awaits, for the result of its commit: of a run that waits. `idOf`: that of its entry of this number. */
export function awaitedRequest(
  { awaits, entries, firstNo }: TurnCommit,
  state: number,
  idOf: (no: number) => string,
): { request?: string } {
  if (awaits === undefined || state !== RUN.waiting) return {};
  const index = entries.findIndex(({ key }) => key === awaits);
  return index < 0 ? {} : { request: idOf(firstNo + index) };
}
