import type { SerializedError } from "../../core/errors.ts";
import type { Answer } from "../answers.ts";
import { errorText } from "../batch-update.ts";
import { ENTRY, isOver, RUN } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { type Bill, noBill } from "../money.ts";
import { runOf } from "./keys.ts";
import type { EntryRow, RunRow } from "./rows.ts";
import type { Unit } from "./unit.ts";
import { MAX_TEXT, textBytes } from "./working-set.ts";

/**
 * Settles an open entry: its answer, the next number of the run, and the wake-up if the run waits. The caller has checked that the entry is open, that the run still takes answers, and counts requests itself. `bill`: what
 * the answer cost; `released`: what was reserved for it (picodollars).
 */
export function settleEntry(
  unit: Unit,
  entry: EntryRow,
  run: RunRow,
  state: number,
  answer: Answer,
  bill: Bill = noBill,
  released = 0,
): void {
  unit.entries.change(entry, { state, seq: run.seq + 1 });
  unit.entries.setTexts(entry, { value: answer.value ?? null, error: storedError(answer.error) });
  chargeEntry(unit, entry, bill);
  unit.runs.change(run, { seq: run.seq + 1, open: run.open - 1 });
  if (run.state === RUN.waiting) {
    unit.tallies.move(RUNS, RUN.waiting, RUN.runnable);
    unit.runs.change(run, { state: RUN.runnable });
  }
  chargeRun(unit, run, bill, released);
}

/** Bytes of an error: beside `MAX_TEXT` of payloads a document has room for some 48 KB. */
const MAX_ERROR = 16_000;

/** The text of an error as entries and runs have it: shortened, so that it fits beside everything else. */
export function storedError(error: SerializedError | null | undefined): string | null {
  const text = errorText(error ?? undefined);
  if (error == null || text === null || Buffer.byteLength(text) <= MAX_ERROR) return text;
  const { code, name, message, retryable } = error;
  return errorText({ code, name, message: `${message.slice(0, MAX_ERROR / 8)} … (${message.length} characters)`, retryable });
}

/** What of an answer can be stored with the entry: one that is too long for a document becomes an error, for it would be too long for ever. */
export function fitting(entry: EntryRow, answer: Answer): Answer {
  if (answer.value === undefined) return answer;
  const { value: _before, ...others } = entry.sizes;
  const bytes = Buffer.byteLength(answer.value);
  const room = MAX_TEXT - textBytes(others);
  if (bytes <= room) return answer;
  const hint = "Set option payloads with a threshold of 262144: longer answers then lie in Cloud Storage.";
  const message = `The answer has ${bytes} bytes; beside its prompt a document of Firestore has room for ${room}. ${hint}`;
  return {
    value: undefined,
    error: { code: "request_failed", name: "GembatchError", message, retryable: false, hint, details: { bytes, room } },
  };
}

/** Adds to what a run has spent, and takes from what it reserves. Picodollars. */
export function chargeRun(unit: Unit, run: RunRow, { usd, standardUsd, unpriced }: Bill, released: number): void {
  if (usd === 0 && standardUsd === 0 && unpriced === 0 && released === 0) return;
  unit.runs.change(run, {
    usd: run.usd + usd,
    standard_usd: run.standard_usd + standardUsd,
    unpriced: run.unpriced + unpriced,
    reserved: run.reserved - released,
  });
}

export function chargeEntry(unit: Unit, entry: EntryRow, { usd, standardUsd, unpriced }: Bill): void {
  if (usd === 0 && standardUsd === 0 && unpriced === 0) return;
  unit.entries.change(entry, { usd: entry.usd + usd, standard_usd: entry.standard_usd + standardUsd, unpriced: entry.unpriced + unpriced });
}

/** Tells the entry of another run what became of the run it waits for, if it still is the entry that it was. The first answer stands. */
export async function settleParent(unit: Unit, no: string, round: number, answer: Answer): Promise<void> {
  await unit.load({ runs: [runOf(no)], entries: [no] });
  const run = unit.runs.peek(runOf(no));
  if (run === undefined || run.round !== round || isOver(run.state)) return;
  const entry = unit.entries.peek(no);
  if (entry === undefined || entry.seq !== null) return;
  const fits = fitting(entry, answer);
  settleEntry(unit, entry, run, fits.error === undefined ? ENTRY.succeeded : ENTRY.failed, fits);
}
