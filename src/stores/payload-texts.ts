/** Where payloads are in what a store is given, as far as one may be too large for a row. Errors are not: they are looked through, and filtered by. */
import type { NewEntry, NewRun, SettleRow, TurnCommit } from "../core/store.ts";

type Change = (text: string) => string;

export function changeRun(run: NewRun, change: Change): NewRun {
  const { request } = run;
  return { ...run, input: change(run.input), ...(request ? { request: changeEntry(request, change) } : {}) };
}

export function changeTurn(turn: TurnCommit, change: Change): TurnCommit {
  const { entries, starts, outcome } = turn;
  return {
    ...turn,
    entries: entries.map((entry) => changeEntry(entry, change)),
    starts: starts.map((run) => changeRun(run, change)),
    outcome: outcome.type === "completed" ? { ...outcome, output: change(outcome.output) } : outcome,
  };
}

function changeEntry(entry: NewEntry, change: Change): NewEntry {
  const { request, settled } = entry;
  if (request) return { ...entry, request: { ...request, body: change(request.body) } };
  if (settled?.value === undefined) return entry;
  return { ...entry, settled: { ...settled, value: change(settled.value) } };
}

/** `changeSpare`: for the value of a retry, which is only stored if no attempt is left. */
export function changeRow(row: SettleRow, change: Change, changeSpare: Change): SettleRow {
  const { result } = row;
  if (result.type === "succeeded") return { ...row, result: { ...result, value: change(result.value) } };
  if (result.type !== "retry" || result.value === undefined) return row;
  return { ...row, result: { ...result, value: changeSpare(result.value) } };
}
