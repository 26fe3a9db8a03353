import type { SerializedError } from "../../core/errors.ts";
import { entryNo, RUN, runKinds } from "../codes.ts";
import { cancelled } from "../run-errors.ts";
import type { Database } from "./database.ts";
import { readHead } from "./entries.ts";
import { forgetHistory } from "./history.ts";
import { askAgain, type ClosedRow } from "./requests.ts";
import { type EndingRun, endRun, storeOutcome } from "./runs.ts";
import { RUNS } from "../counts.ts";

export function cancelRuns(db: Database, { now, ids, tree = false }: { now: number; ids: string[]; tree?: boolean }): string[] {
  const all = tree ? withStarted(db, ids) : ids;
  return all.filter((id) => {
    const run = db.sql(`SELECT no, id, state, open, parent, shared, cancel FROM runs WHERE id = ?`).get(id) as unknown as
      | (EndingRun & { cancel: number })
      | undefined;
    if (run === undefined || run.state >= RUN.completed || run.cancel === 1) return false;
    if (run.state === RUN.running) db.sql(`UPDATE runs SET cancel = 1 WHERE no = ?`).run(run.no);
    else endRun(db, run, RUN.cancelled, { value: undefined, error: cancelled(id) }, now);
    return true;
  });
}

/** These runs and every run that they started, and so on; who starts before what it started. */
function withStarted(db: Database, ids: readonly string[]): string[] {
  const started = db.sql(`SELECT no, id FROM runs WHERE starter = ? ORDER BY no`);
  const found = new Set(ids);
  const open = ids.flatMap((id) => db.names.runNo(id) ?? []);
  for (let no = open.pop(); no !== undefined; no = open.pop()) {
    for (const row of started.all(no) as { no: number; id: string }[]) {
      if (found.has(row.id)) continue;
      found.add(row.id);
      open.push(row.no);
    }
  }
  return [...found];
}

interface StoppedRun {
  no: number;
  kind: number;
  state: number;
  pruned: number;
}

/**
 * A failed run goes on with what it has: its failed and its withdrawn requests are asked again, from their first attempt. A run whose history was
 * removed has nothing to go on from: only `afresh` lets it run again, and a handler not even that, for its prompt is gone.
 */
export function retryRuns(db: Database, { now, ids, afresh = false }: { now: number; ids: string[]; afresh?: boolean }): string[] {
  return ids.filter((id) => {
    const run = db.sql(`SELECT no, kind, state, pruned FROM runs WHERE id = ?`).get(id) as unknown as StoppedRun | undefined;
    if (run === undefined) return false;
    const stopped = run.state === RUN.held || run.state === RUN.failed || (afresh && run.state === RUN.cancelled);
    const isHandler = runKinds[run.kind] === "handler";
    if (!stopped || (run.pruned === 1 && (!afresh || isHandler))) return false;
    storeOutcome(db, run.no, { value: undefined, error: undefined });
    if (afresh) startAfresh(db, run, isHandler, now);
    else goOn(db, run, now);
    db.names.dropRun(id);
    return true;
  });
}

function goOn(db: Database, run: StoppedRun, now: number): void {
  const closed = run.state === RUN.failed ? closedRequests(db, run.no) : [];
  const reopened = closed.filter((row) => row.seq !== null).length;
  db.sql(`UPDATE runs SET state = 0, attempts = 0, ended_at = NULL, open = open + ? WHERE no = ?`).run(reopened, run.no);
  db.tallies.move(RUNS, run.state, RUN.runnable);
  if (run.state !== RUN.failed) return;
  const head = readHead(db, run.no);
  for (const row of closed) askAgain(db, head, row, now);
  // What was under way when the run failed is in a hurry again.
  db.sql(`
    UPDATE entries SET check_at = ?1 WHERE no >= ?2 AND no < ?3 AND +state = 4 AND deadline_at IS NOT NULL AND check_at IS NULL`).run(
    now,
    entryNo(run.no, 0),
    entryNo(run.no + 1, 0),
  );
}

function closedRequests(db: Database, run: number): ClosedRow[] {
  return db
    .sql(`
      SELECT no, state, seq, lane, bytes, tokens, estimate, group_size, answer, shared, deadline_at FROM entries
      WHERE no >= ? AND no < ? AND kind = 0 AND +state IN (6, 7)`)
    .all(entryNo(run, 0), entryNo(run + 1, 0)) as unknown as ClosedRow[];
}

/**
 * The run begins anew under a new epoch, so that no turn in some worker's memory goes on with the old history. Numbers of its entries are used
 * again: what still comes for the old ones finds another batch than theirs, and runs that it started report to nobody.
 */
function startAfresh(db: Database, run: StoppedRun, isHandler: boolean, now: number): void {
  const first = isHandler ? entryNo(run.no, 0) : undefined;
  forgetHistory(db, run.no, now, first);
  db.sql(`UPDATE runs SET parent = NULL WHERE starter = ? AND parent >= ? AND parent < ?`).run(
    run.no,
    entryNo(run.no, 0),
    entryNo(run.no + 1, 0),
  );
  const state = isHandler ? RUN.waiting : RUN.runnable;
  db.sql(`
    UPDATE runs SET
      state = ?1, epoch = epoch + 1, attempts = 0, seq = 0, entries = ?2, open = ?2, retry_at = NULL, cancel = 0, code = '', ended_at = NULL,
      pruned = 0, reserved = 0
    WHERE no = ?3`).run(state, isHandler ? 1 : 0, run.no);
  db.tallies.move(RUNS, run.state, state);
  if (first === undefined) return;
  const row = db
    .sql(`SELECT no, state, seq, lane, bytes, tokens, estimate, group_size, answer, shared, deadline_at FROM entries WHERE no = ?`)
    .get(first) as unknown as ClosedRow;
  askAgain(db, readHead(db, run.no), row, now);
}

/** The error stands until the run goes on. */
export function holdRuns(db: Database, { ids, error }: { ids: string[]; error: SerializedError }): string[] {
  return ids.filter((id) => {
    const run = db.sql(`SELECT no, state FROM runs WHERE id = ?`).get(id) as { no: number; state: number } | undefined;
    if (run === undefined) return false;
    if (run.state !== RUN.runnable && run.state !== RUN.waiting && run.state !== RUN.retrying) return false;
    db.sql(`UPDATE runs SET state = 4, retry_at = NULL WHERE no = ?`).run(run.no);
    storeOutcome(db, run.no, { value: undefined, error });
    db.tallies.move(RUNS, run.state, RUN.held);
    return true;
  });
}
