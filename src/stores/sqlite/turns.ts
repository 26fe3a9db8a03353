import type { CommitResult, TurnCommit } from "../../core/store.ts";
import { awaitedRequest } from "../awaited.ts";
import { entryNo, requestId, RUN, runStates } from "../codes.ts";
import { cancelled } from "../run-errors.ts";
import type { Database } from "./database.ts";
import { chargeRun } from "./entries.ts";
import { noBill } from "../money.ts";
import { type Fate, insertEntry, insertShared, isShared, reservedFor } from "./requests.ts";
import { addNotes, type EndingRun, endRun, findEntry, startRun, storeOutcome } from "./runs.ts";
import { RUNS } from "../counts.ts";

interface TurnRow extends EndingRun {
  epoch: number;
  worker: number | null;
  seq: number;
  entries: number;
  attempts: number;
  cancel: number;
  deadline_at: number | null;
}

export function commitTurns(db: Database, { worker, now, turns }: { worker: string; now: number; turns: TurnCommit[] }): CommitResult[] {
  const workerNo = db.names.workerNo(worker);
  return turns.map((turn) => commitTurn(db, workerNo, now, turn));
}

function commitTurn(db: Database, worker: number | undefined, now: number, turn: TurnCommit): CommitResult {
  const no = db.names.runNo(turn.run);
  const quick = no === undefined || worker === undefined ? undefined : commitQuickly(db, no, worker, now, turn);
  if (quick !== undefined) return quick;
  const run =
    no === undefined
      ? undefined
      : (db
          .sql(`
            SELECT no, id, state, open, parent, shared, epoch, worker, seq, entries, attempts, cancel, deadline_at FROM runs WHERE no = ?`)
          .get(no) as unknown as TurnRow | undefined);
  if (run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch || run.worker !== worker) {
    db.names.dropRun(turn.run);
    return { state: "lost" };
  }
  if (turn.notes.length > 0) addNotes(db, run.no, turn.notes);
  if (run.cancel === 1) {
    db.names.dropRun(turn.run);
    endRun(db, run, RUN.cancelled, { value: undefined, error: cancelled(turn.run) }, now);
    return { state: "cancelled", seq: run.seq };
  }

  const { outcome } = turn;
  const fate = outcome.type === "completed" ? "ends" : outcome.type === "failed" ? "fails" : "lives";
  const knows = run.seq === turn.seen;
  const before = run.seq;
  const ownSeq = addEntries(db, run, turn, now, fate);
  addStarts(db, run, turn, now);

  switch (outcome.type) {
    case "running":
      return save(db, run, turn, RUN.running, 0, null);
    case "waiting": {
      // A start of this turn may have found its run ended, a request its answer: then there is news already.
      const news = !knows || run.seq !== ownSeq;
      if (!news && run.open === 0) throw new Error(`Run ${turn.run} would wait for nothing (${before} settled, none open).`);
      return save(db, run, turn, news ? RUN.runnable : RUN.waiting, 0, null);
    }
    case "retry":
      storeOutcome(db, run.no, { value: undefined, error: outcome.error });
      if (outcome.at <= now) return save(db, run, turn, RUN.runnable, run.attempts + 1, null);
      return save(db, run, turn, RUN.retrying, run.attempts + 1, outcome.at);
    case "held":
      storeOutcome(db, run.no, { value: undefined, error: outcome.error });
      return save(db, run, turn, RUN.held, 0, null);
    case "completed":
    case "failed": {
      const failed = outcome.type === "failed";
      const state = failed ? RUN.failed : RUN.completed;
      save(db, run, turn, RUN.running, 0, null);
      db.names.dropRun(turn.run);
      const answer = failed ? { value: undefined, error: outcome.error } : { value: outcome.output, error: undefined };
      endRun(db, run, state, answer, now);
      return { state: outcome.type, seq: run.seq };
    }
  }
}

/**
 * The turn that nearly every turn is: it waits or goes on, starts nothing, and nothing happened to its run meanwhile. One guarded
 * update says whether that is so, without reading the row; `undefined`, and no change, if it is not.
 */
function commitQuickly(db: Database, no: number, worker: number, now: number, turn: TurnCommit): CommitResult | undefined {
  const { type } = turn.outcome;
  if ((type !== "waiting" && type !== "running") || turn.starts.length > 0 || turn.notes.length > 0) return undefined;
  let settled = 0;
  let reserved = 0;
  for (const entry of turn.entries) {
    if (isShared(entry)) return undefined;
    if (entry.settled !== undefined) settled += 1;
    reserved += reservedFor(entry);
  }
  const state = type === "waiting" ? RUN.waiting : RUN.running;
  const { changes } = db
    .sql(`
      UPDATE runs SET
        state = ?1, worker = CASE ?1 WHEN 1 THEN worker END, seq = seq + ?2, entries = entries + ?3, open = open + ?3 - ?2, attempts = 0,
        code = ?4, reserved = reserved + ?5
      WHERE no = ?6 AND state = 1 AND epoch = ?7 AND worker = ?8 AND seq = ?9 AND entries = ?10 AND cancel = 0
        AND (?1 = 1 OR open + ?3 - ?2 > 0)`)
    .run(state, settled, turn.entries.length, turn.code, reserved, no, turn.epoch, worker, turn.seen, turn.firstNo);
  if (changes === 0) return undefined;
  let seq = turn.seen;
  turn.entries.forEach((entry, i) => {
    seq = insertEntry(db, no, turn.firstNo + i, entry, now, seq + 1, "lives") ?? seq;
  });
  db.tallies.move(RUNS, RUN.running, state);
  if (type === "waiting") db.names.dropRun(turn.run);
  return { state: type, seq, ...awaitedRequest(turn, state, (entry) => requestId(entryNo(no, entry))) };
}

/**
 * Entries of a repeated commit are there already; then they count for nothing a second time. Returns the run's `seq` after the entries that the turn
 * settled itself: a request whose answer is shared may settle after them, and that is news.
 */
function addEntries(db: Database, run: TurnRow, turn: TurnCommit, now: number, fate: Fate): number {
  if (turn.firstNo > run.entries)
    throw new Error(`Run ${turn.run} has ${run.entries} entries; a turn went on with number ${turn.firstNo}.`);
  const shared: number[] = [];
  let reserved = 0;
  turn.entries.forEach((entry, i) => {
    const no = turn.firstNo + i;
    if (no < run.entries) {
      const found = db.sql(`SELECT key FROM entries WHERE no = ?`).get(entryNo(run.no, no));
      if (found?.["key"] !== entry.key) throw new Error(`Entry ${no} of run ${turn.run} was recorded with another key.`);
      return;
    }
    run.entries += 1;
    if (isShared(entry) && fate === "lives") {
      run.open += 1;
      shared.push(i);
      return;
    }
    if (fate === "lives") reserved += reservedFor(entry);
    const seq = insertEntry(db, run.no, no, entry, now, run.seq + 1, fate);
    if (seq === undefined) run.open += 1;
    else run.seq = seq;
  });
  if (reserved > 0) chargeRun(db, run.no, noBill, -reserved);
  const ownSeq = run.seq;
  if (shared.length > 0) saveCounts(db, run);
  for (const i of shared) {
    const entry = turn.entries[i];
    if (entry !== undefined) insertShared(db, run, turn.firstNo + i, entry, now);
  }
  return ownSeq;
}

function addStarts(db: Database, run: TurnRow, turn: TurnCommit, now: number): void {
  if (turn.starts.length === 0) return;
  // The starts may settle entries of this very run (a child that ended long ago): its row must be true before, and is read again after.
  saveCounts(db, run);
  const own = new Map(turn.entries.map((entry, i) => [entry.key, entryNo(run.no, turn.firstNo + i)]));
  for (const start of turn.starts) {
    const { parent } = start;
    const at = parent === undefined ? undefined : ((parent.run === turn.run ? own.get(parent.key) : undefined) ?? findEntry(db, parent));
    startRun(db, now, start, at, { no: run.no, deadlineAt: run.deadline_at });
  }
  const row = db.sql(`SELECT seq, open FROM runs WHERE no = ?`).get(run.no) as { seq: number; open: number };
  run.seq = row.seq;
  run.open = row.open;
}

function saveCounts(db: Database, run: TurnRow): void {
  db.sql(`UPDATE runs SET seq = ?, entries = ?, open = ? WHERE no = ?`).run(run.seq, run.entries, run.open, run.no);
}

/** Writes the run's row back. Every state but `running` gives the claim back. */
function save(db: Database, run: TurnRow, turn: TurnCommit, state: number, attempts: number, retryAt: number | null): CommitResult {
  db.sql(`
    UPDATE runs SET state = ?, worker = ?, seq = ?, entries = ?, open = ?, attempts = ?, retry_at = ?, code = ? WHERE no = ?`).run(
    state,
    state === RUN.running ? run.worker : null,
    run.seq,
    run.entries,
    run.open,
    attempts,
    retryAt,
    turn.code,
    run.no,
  );
  db.tallies.move(RUNS, RUN.running, state);
  if (state !== RUN.running) db.names.dropRun(turn.run);
  return { state: runStates[state] ?? "runnable", seq: run.seq, ...awaitedRequest(turn, state, (no) => requestId(entryNo(run.no, no))) };
}
