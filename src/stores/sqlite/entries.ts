import type { Answer } from "../answers.ts";
import { errorText } from "../batch-update.ts";
import { ENTRY, isOver, RUN, runOf } from "../codes.ts";
import type { Database } from "./database.ts";
import { type Bill, noBill } from "../money.ts";
import { References } from "./references.ts";
import { RUNS } from "../counts.ts";

/** What a settlement needs of its run, kept up to date in memory while one transaction settles several of its entries. */
export interface RunHead {
  no: number;
  state: number;
  seq: number;
  open: number;
  /** Who settles keeps the turn of this epoch. */
  kept?: { epoch: number; worker: number } | undefined;
  /** That this brought it back into the hand of who keeps its turn. */
  resumed?: ResumedHead | undefined;
}

type ResumedHead = [id: string, epoch: number, usd: number, reserved: number];

export function addAnswer(db: Database, { value, error }: Answer): number {
  const { lastInsertRowid } =
    error === undefined
      ? db.sql(`INSERT INTO answers (value) VALUES (?)`).run(value ?? null)
      : db.sql(`INSERT INTO answers (value, error) VALUES (?, ?)`).run(value ?? null, errorText(error));
  return Number(lastInsertRowid);
}

/** One row less names this answer; the last one takes it along. */
export function releaseAnswer(db: Database, answer: number | null, references = new References(db, undefined)): void {
  if (answer === null) return;
  const row = db.sql(`UPDATE answers SET uses = uses - 1 WHERE no = ? RETURNING uses`).get(answer);
  if (row !== undefined && (row["uses"] as number) <= 0) references.remove("answers", answer);
}

/**
 * Settles an open entry: its answer (or the number of one that is stored), the next number of the run, and the wake-up if the run waits. The
 * caller has checked that the entry is open, that the run still takes answers and that its row says what `head` does, and counts requests itself. `bill`: what the answer cost;
 * `released`: what was reserved for it (picodollars). Returns the number of the answer.
 */
export function settleEntry(
  db: Database,
  entry: number,
  head: RunHead,
  state: number,
  answer: Answer | number,
  { usd, standardUsd, unpriced }: Bill = noBill,
  released = 0,
): number | null {
  head.seq += 1;
  head.open -= 1;
  const stored =
    typeof answer === "number" ? answer : answer.value === undefined && answer.error === undefined ? null : addAnswer(db, answer);
  db.sql(`
    UPDATE entries SET state = ?, seq = ?, answer = ?, usd = usd + ?, standard_usd = standard_usd + ?, unpriced = unpriced + ?
    WHERE no = ?`).run(state, head.seq, stored, usd, standardUsd, unpriced, entry);
  if (head.state === RUN.waiting) {
    if (head.kept !== undefined) head.resumed = resume(db, head.no, head.kept, { usd, standardUsd, unpriced }, released);
    head.state = head.resumed === undefined ? RUN.runnable : RUN.running;
    db.tallies.move(RUNS, RUN.waiting, head.state);
    if (head.resumed !== undefined) return stored;
  }
  db.sql(`
    UPDATE runs SET
      state = CASE state WHEN 2 THEN 0 ELSE state END, seq = seq + 1, open = open - 1, usd = usd + ?, standard_usd = standard_usd + ?,
      unpriced = unpriced + ?, reserved = reserved - ?
    WHERE no = ?`).run(usd, standardUsd, unpriced, released, head.no);
  return stored;
}

/** Does to a waiting run what its wake-up and a claim at once would do, if nobody else has had it since that epoch. */
function resume(
  db: Database,
  run: number,
  { epoch, worker }: { epoch: number; worker: number },
  { usd, standardUsd, unpriced }: Bill,
  released: number,
): ResumedHead | undefined {
  return db
    .rows(`
      UPDATE runs SET
        state = 1, epoch = epoch + 1, worker = ?, seq = seq + 1, open = open - 1, usd = usd + ?, standard_usd = standard_usd + ?,
        unpriced = unpriced + ?, reserved = reserved - ?
      WHERE no = ? AND epoch = ? RETURNING id, epoch, usd, reserved`)
    .get(worker, usd, standardUsd, unpriced, released, run, epoch) as ResumedHead | undefined;
}

/** Adds to what a run has spent, and takes from what it reserves. Picodollars. */
export function chargeRun(db: Database, run: number, { usd, standardUsd, unpriced }: Bill, released: number): void {
  if (usd === 0 && standardUsd === 0 && unpriced === 0 && released === 0) return;
  db.sql(`
    UPDATE runs SET usd = usd + ?, standard_usd = standard_usd + ?, unpriced = unpriced + ?, reserved = reserved - ? WHERE no = ?`).run(
    usd,
    standardUsd,
    unpriced,
    released,
    run,
  );
}

export function readHead(db: Database, run: number): RunHead {
  return db.sql(`SELECT no, state, seq, open FROM runs WHERE no = ?`).get(run) as unknown as RunHead;
}

/** Tells the entry of another run what became of the run it waits for. The first answer stands. */
export function settleParent(db: Database, entry: number, answer: Answer): void {
  const row = db.sql(`SELECT seq FROM entries WHERE no = ?`).get(entry);
  if (row === undefined || row["seq"] !== null) return;
  const head = readHead(db, runOf(entry));
  if (isOver(head.state)) return;
  settleEntry(db, entry, head, answer.error === undefined ? ENTRY.succeeded : ENTRY.failed, answer);
}
