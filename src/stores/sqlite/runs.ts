import type { Answer } from "../answers.ts";
import { errorText } from "../batch-update.ts";
import type { SerializedError } from "../../core/errors.ts";
import type { ChainVersions, ClaimedRun, Entry, NewEntry, NewRun, StartOutcome } from "../../core/store.ts";
import { ENTRY, entryKinds, entryNo, RUN, runKinds, runOf } from "../codes.ts";
import { conflict } from "../run-errors.ts";
import type { Database } from "./database.ts";
import { readHead, settleEntry, settleParent } from "./entries.ts";
import { toUsd } from "../money.ts";
import { dropOpenEntries, insertEntry, insertShared, isShared, reservedFor } from "./requests.ts";
import { RUNS } from "../counts.ts";

export function startRuns(db: Database, { now, runs }: { now: number; runs: NewRun[] }): StartOutcome[] {
  return runs.map((run) => startRun(db, now, run, run.parent === undefined ? undefined : findEntry(db, run.parent)));
}

/** Who starts a run within a commit. */
export interface Starter {
  no: number;
  deadlineAt: number | null;
}

/**
 * Starts one run. `parent` is the entry that waits for its output. If the run exists already, that entry waits for the run as it is:
 * it settles at once when the run has ended, or is told that the id is taken by something else.
 */
export function startRun(db: Database, now: number, run: NewRun, parent: number | undefined, starter?: Starter): StartOutcome {
  const { request } = run;
  const state = request === undefined ? RUN.runnable : RUN.waiting;
  const deadlineAt = run.deadlineAt ?? starter?.deadlineAt ?? null;
  const startedBy = parent === undefined ? (starter?.no ?? null) : runOf(parent);
  const row = [run.id, runKinds.indexOf(run.kind), db.names.chainNo(run.chain, run.version), state, run.priority, now] as const;
  // Most runs are started in bulk and by nobody: every value that is not bound makes that quicker.
  const isPlain = request === undefined && deadlineAt === null && startedBy === null;
  const { changes, lastInsertRowid } = isPlain
    ? db
        .sql(`INSERT INTO runs (id, kind, chain, state, priority, created_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`)
        .run(...row)
    : db
        .sql(`
          INSERT INTO runs (id, kind, chain, state, priority, created_at, entries, open, parent, starter, deadline_at, reserved)
          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11)
          ON CONFLICT (id) DO NOTHING`)
        .run(
          ...row,
          request === undefined ? 0 : 1,
          parent ?? null,
          startedBy,
          deadlineAt,
          request === undefined || isShared(request) ? 0 : reservedFor(request),
        );
  if (changes === 0) return joinRun(db, run, parent);
  const no = Number(lastInsertRowid);
  db.sql(`INSERT INTO run_inputs (no, fingerprint, input) VALUES (?, ?, ?)`).run(no, run.fingerprint, run.input);
  db.tallies.move(RUNS, undefined, state);
  if (request !== undefined) addFirstRequest(db, no, request, deadlineAt, now);
  return "started";
}

/** The request that a handler run waits for. A shared answer may be there already; then the run is runnable at once. */
function addFirstRequest(db: Database, run: number, entry: NewEntry, deadlineAt: number | null, now: number): void {
  const first =
    entry.request === undefined || entry.request.deadlineAt !== undefined || deadlineAt === null
      ? entry
      : { ...entry, request: { ...entry.request, deadlineAt } };
  if (isShared(first)) insertShared(db, { no: run, state: RUN.waiting, seq: 0, open: 1 }, 0, first, now);
  else insertEntry(db, run, 0, first, now, 1, "lives");
}

function joinRun(db: Database, run: NewRun, parent: number | undefined): StartOutcome {
  const found = db
    .sql(`
      SELECT r.no, r.state, r.parent, i.fingerprint, o.output, o.error
      FROM runs r JOIN run_inputs i ON i.no = r.no LEFT JOIN run_outcomes o ON o.no = r.no WHERE r.id = ?`)
    .get(run.id) as { no: number; state: number; parent: number | null; fingerprint: string; output: string | null; error: string | null };
  const same = found.fingerprint === run.fingerprint;
  if (parent !== undefined && found.parent !== parent) {
    if (!same) settleParent(db, parent, { value: undefined, error: conflict(run.id) });
    else if (found.state >= RUN.completed) {
      const error = found.error === null ? undefined : (JSON.parse(found.error) as SerializedError);
      settleParent(db, parent, { value: found.output ?? undefined, error });
    } else {
      db.sql(`INSERT OR IGNORE INTO run_waiters (run, entry) VALUES (?, ?)`).run(found.no, parent);
      db.sql(`UPDATE runs SET shared = 1 WHERE no = ?`).run(found.no);
    }
  }
  return same ? "existing" : "conflict";
}

/** The entry of a run by its key: a walk over the run's entries, for the rare start that is not in one commit with its entry. */
export function findEntry(db: Database, { run, key }: { run: string; key: string }): number | undefined {
  const no = db.names.runNo(run);
  if (no === undefined) return undefined;
  const row = db.sql(`SELECT no FROM entries WHERE no >= ? AND no < ? AND key = ?`).get(entryNo(no, 0), entryNo(no + 1, 0), key);
  return row?.["no"] as number | undefined;
}

/** Everything of a run's row that its end depends on. */
export interface EndingRun {
  no: number;
  id: string;
  state: number;
  open: number;
  parent: number | null;
  shared: number;
}

/** Ends a run in `state` and tells whoever waits for it. The row's other columns are the caller's. */
export function endRun(db: Database, run: EndingRun, state: number, answer: Answer, now: number): void {
  db.tallies.move(RUNS, run.state, state);
  db.sql(`UPDATE runs SET state = ?, worker = NULL, retry_at = NULL, cancel = 0, ended_at = ? WHERE no = ?`).run(state, now, run.no);
  storeOutcome(db, run.no, answer);
  if (run.open > 0) dropOpenEntries(db, run.no, state === RUN.failed, now);
  if (run.parent !== null) settleParent(db, run.parent, answer);
  if (run.shared === 1) {
    for (const row of db.sql(`SELECT entry FROM run_waiters WHERE run = ?`).all(run.no)) settleParent(db, row["entry"] as number, answer);
    db.sql(`DELETE FROM run_waiters WHERE run = ?`).run(run.no);
  }
}

export function storeOutcome(db: Database, run: number, { value, error }: Answer): void {
  db.sql(`
    INSERT INTO run_outcomes (no, output, error) VALUES (?, ?, ?)
    ON CONFLICT (no) DO UPDATE SET output = excluded.output, error = excluded.error`).run(run, value ?? null, errorText(error));
}

export function addNotes(db: Database, run: number, notes: readonly string[]): void {
  const row = db.sql(`SELECT notes FROM run_outcomes WHERE no = ?`).get(run);
  const before = row?.["notes"] == null ? [] : (JSON.parse(row["notes"] as string) as string[]);
  db.sql(`
    INSERT INTO run_outcomes (no, notes) VALUES (?, ?)
    ON CONFLICT (no) DO UPDATE SET notes = excluded.notes`).run(run, JSON.stringify([...before, ...notes]));
}

/** More chains than this with runs to take up at the same moment are left to the next claim. */
const CHAINS_PER_CLAIM = 200;

/** Chains (by number) that have something runnable: one look into the partial index each. */
export function runnableChains(db: Database, chains: readonly ChainVersions[]): number[] {
  const any = db.sql(`SELECT 1 FROM runs WHERE state = 0 AND chain = ? LIMIT 1`);
  return db.names.chainNos(chains).filter((no) => any.get(no) !== undefined);
}

export function claimRuns(
  db: Database,
  { worker, limit, chains }: { worker: string; limit: number; chains: ChainVersions[] },
): ClaimedRun[] {
  const numbers = runnableChains(db, chains).slice(0, CHAINS_PER_CLAIM);
  if (numbers.length === 0 || limit <= 0) return [];
  const { select, update } = claimSql(numbers.length);
  const rows = db.rows(select).all(...numbers, limit) as ClaimRow[];
  db.sql(update).run(db.names.ensureWorker(worker), ...numbers, limit);
  db.tallies.move(RUNS, RUN.runnable, RUN.running, rows.length);
  return rows.map(([no, id, kind, chainNo, code, epoch, seq, attempts, priority, deadlineAt, usd, reserved, createdAt, input]) => {
    db.names.keepRun(id, no);
    const { chain, version } = db.names.chain(chainNo);
    return {
      id,
      kind: runKinds[kind] ?? "chain",
      chain,
      version,
      code,
      input,
      epoch: epoch + 1,
      seq,
      attempts,
      priority,
      deadlineAt: deadlineAt ?? undefined,
      usd: toUsd(usd),
      reservedUsd: toUsd(reserved),
      createdAt,
    };
  });
}

type ClaimRow = [
  no: number,
  id: string,
  kind: number,
  chain: number,
  code: string,
  epoch: number,
  seq: number,
  attempts: number,
  priority: number,
  deadlineAt: number | null,
  usd: number,
  reserved: number,
  createdAt: number,
  input: string,
];

const claimStatements: { select: string; update: string }[] = [];

/**
 * One ordered walk of the index a chain, merged lazily by SQLite: the cost follows the runs taken, not those that are there. Two statements
 * over the same rows: RETURNING would buffer each of them, payload included.
 */
function claimSql(chains: number): { select: string; update: string } {
  const walks = Array.from({ length: chains }, () => `SELECT no, priority FROM runs WHERE state = 0 AND chain = ?`).join(" UNION ALL ");
  const next = `${walks} ORDER BY priority DESC, no LIMIT ?`;
  return (claimStatements[chains] ??= {
    select: `
      SELECT r.no, r.id, r.kind, r.chain, r.code, r.epoch, r.seq, r.attempts, r.priority, r.deadline_at, r.usd,
        r.reserved, r.created_at, i.input
      FROM (${next}) w JOIN runs r ON r.no = w.no JOIN run_inputs i ON i.no = w.no ORDER BY w.priority DESC, w.no`,
    update: `UPDATE runs SET state = 1, epoch = epoch + 1, worker = ? WHERE no IN (SELECT no FROM (${next}))`,
  });
}

type HistoryRow = [
  no: number,
  key: string,
  kind: number,
  fingerprint: string,
  seq: number | null,
  value: string | null,
  error: string | null,
];

export function loadHistory(db: Database, { runs }: { runs: { run: string; since: number }[] }): Entry[][] {
  const all = db.rows(`
    SELECT e.no, e.key, e.kind, e.fingerprint, e.seq, a.value, a.error FROM entries e LEFT JOIN answers a ON a.no = e.answer
    WHERE e.no >= ? AND e.no < ? ORDER BY e.no`);
  const settled = db.rows(`
    SELECT e.no, e.key, e.kind, e.fingerprint, e.seq, a.value, a.error FROM entries e LEFT JOIN answers a ON a.no = e.answer
    WHERE e.no >= ? AND e.no < ? AND e.seq > ? ORDER BY e.no`);
  return runs.map(({ run, since }) => {
    const runNo = db.names.runNo(run);
    if (runNo === undefined) return [];
    const from = entryNo(runNo, 0);
    const to = entryNo(runNo + 1, 0);
    const rows = (since > 0 ? settled.all(from, to, since) : all.all(from, to)) as HistoryRow[];
    return rows.map(([no, key, kind, fingerprint, seq, value, error]) => ({
      no: no - from,
      key,
      kind: entryKinds[kind] ?? "request",
      fingerprint,
      seq: seq ?? undefined,
      value: value ?? undefined,
      error: error === null ? undefined : (JSON.parse(error) as SerializedError),
    }));
  });
}

export function wakeRuns(db: Database, { runs }: { runs: { run: string; epoch: number }[] }): void {
  const update = db.sql(`UPDATE runs SET state = 0 WHERE no = ? AND state = 2 AND epoch = ?`);
  for (const { run, epoch } of runs) {
    const no = db.names.runNo(run);
    if (no !== undefined && update.run(no, epoch).changes > 0) db.tallies.move(RUNS, RUN.waiting, RUN.runnable);
  }
}

export function hasDueTimers(db: Database, now: number): boolean {
  return (
    db.sql(`SELECT 1 FROM entries WHERE state = 3 AND due_at <= ? LIMIT 1`).get(now) !== undefined ||
    db.sql(`SELECT 1 FROM runs WHERE state = 3 AND retry_at <= ? LIMIT 1`).get(now) !== undefined
  );
}

/** Up to `limit` sleeps and turn retries that are due, those of sleeps first. */
export function fireTimers(db: Database, { now, limit }: { now: number; limit: number }): number {
  const sleeps = db.sql(`SELECT no FROM entries WHERE state = 3 AND due_at <= ? ORDER BY due_at LIMIT ?`).all(now, limit);
  for (const row of sleeps) {
    const entry = row["no"] as number;
    settleEntry(db, entry, readHead(db, runOf(entry)), ENTRY.succeeded, { value: undefined, error: undefined });
  }
  const retries = db.sql(`SELECT no FROM runs WHERE state = 3 AND retry_at <= ? ORDER BY retry_at LIMIT ?`).all(now, limit - sleeps.length);
  for (const row of retries) {
    db.sql(`UPDATE runs SET state = 0, retry_at = NULL WHERE no = ?`).run(row["no"] as number);
    db.tallies.move(RUNS, RUN.retrying, RUN.runnable);
  }
  return sleeps.length + retries.length;
}
