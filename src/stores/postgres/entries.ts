import type { Answer } from "../answers.ts";
import { errorText } from "../batch-update.ts";
import { ENTRY, isOver, RUN, runOf } from "../codes.ts";
import { type Bill, noBill } from "../money.ts";
import { RUNS } from "../counts.ts";
import type { EntryRow, RunRow, Unit } from "./unit.ts";

/** One row less names this answer; the last one takes it along. */
export async function releaseAnswer(unit: Unit, answer: number | null): Promise<void> {
  if (answer === null) return;
  if (unit.hasNewAnswer(answer)) await unit.flush();
  const [row] = await unit.sql.rows<[number]>(`UPDATE gb.answers SET uses = uses - 1 WHERE no = $1 RETURNING uses`, [answer]);
  if (row !== undefined && row[0] <= 0) await unit.removeAnswers([answer]);
}

/**
 * Settles an open entry: its answer (or the number of one that is stored), the next number of the run, and the wake-up if the run waits. The
 * caller has checked that the entry is open, that the run still takes answers, and counts requests itself. `bill`: what the answer cost;
 * `released`: what was reserved for it (picodollars). Returns the number of the answer.
 */
export async function settleEntry(
  unit: Unit,
  entry: EntryRow,
  run: RunRow,
  state: number,
  answer: Answer | number,
  bill: Bill = noBill,
  released = 0,
): Promise<number | null> {
  const stored =
    typeof answer === "number"
      ? answer
      : answer.value === undefined && answer.error === undefined
        ? null
        : await unit.addAnswer(answer.value ?? null, errorText(answer.error));
  unit.entries.change(entry, { state, seq: run.seq + 1, answer: stored });
  chargeEntry(unit, entry, bill);
  unit.runs.change(run, { seq: run.seq + 1, open: run.open - 1 });
  if (run.state === RUN.waiting) {
    unit.tallies.move(RUNS, RUN.waiting, RUN.runnable);
    unit.runs.change(run, { state: RUN.runnable });
  }
  chargeRun(unit, run, bill, released);
  return stored;
}

/** Adds to what a run has spent, and takes from what it reserves. Picodollars. */
export function chargeRun(unit: Unit, run: RunRow, { usd, standardUsd, unpriced }: Bill, released: number): void {
  if (usd !== 0) unit.runs.change(run, { usd: run.usd + usd });
  if (standardUsd !== 0) unit.runs.change(run, { standard_usd: run.standard_usd + standardUsd });
  if (unpriced !== 0) unit.runs.change(run, { unpriced: run.unpriced + unpriced });
  if (released !== 0) unit.runs.change(run, { reserved: run.reserved - released });
}

export function chargeEntry(unit: Unit, entry: EntryRow, { usd, standardUsd, unpriced }: Bill): void {
  if (usd !== 0) unit.entries.change(entry, { usd: entry.usd + usd });
  if (standardUsd !== 0) unit.entries.change(entry, { standard_usd: entry.standard_usd + standardUsd });
  if (unpriced !== 0) unit.entries.change(entry, { unpriced: entry.unpriced + unpriced });
}

/** Tells the entry of another run what became of the run it waits for. The first answer stands. */
export async function settleParent(unit: Unit, no: number, answer: Answer): Promise<void> {
  const run = await unit.runs.get(runOf(no));
  if (run === undefined || isOver(run.state)) return;
  const entry = await unit.entries.get(no);
  if (entry === undefined || entry.seq !== null) return;
  await settleEntry(unit, entry, run, answer.error === undefined ? ENTRY.succeeded : ENTRY.failed, answer);
}
