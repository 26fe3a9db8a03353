import { GembatchError, type SerializedError } from "../../core/errors.ts";
import type { NewEntry } from "../../core/store.ts";
import { ENTRIES_PER_RUN, ENTRY, entryKinds, entryNo, RUN, runOf } from "./codes.ts";
import type { Database } from "./database.ts";
import { REQUESTS, RUNS } from "./tallies.ts";

/** What a settlement needs of its run, kept up to date in memory while one transaction settles several of its entries. */
export interface RunHead {
  no: number;
  state: number;
  seq: number;
  open: number;
}

/** A run in one of these states takes no answers any more. */
export const isOver = (state: number): boolean => state === RUN.completed || state === RUN.cancelled;

export interface Answer {
  value: string | undefined;
  error: SerializedError | undefined;
}

export const errorText = (error: SerializedError | undefined): string | null => (error === undefined ? null : JSON.stringify(error));

export function addAnswer(db: Database, { value, error }: Answer): number {
  const insert = db.sql(`INSERT INTO answers (value, error) VALUES (?, ?)`);
  return Number(insert.run(value ?? null, errorText(error)).lastInsertRowid);
}

/**
 * Adds entry `no` of a run. Returns the sequence number it settled with, or `undefined` if it is open. `dropped`: the run
 * ends in this very transaction, so a request is never queued and a sleep never rings.
 */
export function insertEntry(
  db: Database,
  run: number,
  no: number,
  entry: NewEntry,
  now: number,
  nextSeq: number,
  dropped: boolean,
): number | undefined {
  if (no >= ENTRIES_PER_RUN) {
    throw new GembatchError("too_many_entries", `A run of this store can have ${ENTRIES_PER_RUN} entries.`, {
      hint: "Split the work into several runs.",
    });
  }
  const insert = db.sql(`
    INSERT INTO entries (no, kind, state, key, fingerprint, seq, due_at, created_at, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  const at = entryNo(run, no);
  const kind = entryKinds.indexOf(entry.kind);
  if (entry.settled !== undefined) {
    const { value, error } = entry.settled;
    const answer = addAnswer(db, { value, error });
    insert.run(at, kind, error === undefined ? ENTRY.succeeded : ENTRY.failed, entry.key, entry.fingerprint, nextSeq, null, now, answer);
    return nextSeq;
  }
  if (entry.request !== undefined) {
    const { lane, body, bytes, tokens, priority, maxAttempts } = entry.request;
    const laneNo = db.names.laneNo(lane);
    const bodyNo = Number(db.sql(`INSERT INTO bodies (body) VALUES (?)`).run(body).lastInsertRowid);
    const state = dropped ? ENTRY.cancelled : ENTRY.queued;
    db.sql(`
      INSERT INTO entries (
        no, kind, state, key, fingerprint, lane, attempt, max_attempts, priority, bytes, tokens, due_at, created_at, body
      ) VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)`).run(
      at,
      kind,
      state,
      entry.key,
      entry.fingerprint,
      laneNo,
      maxAttempts,
      priority,
      bytes,
      tokens,
      now,
      now,
      bodyNo,
    );
    db.tallies.move(REQUESTS, undefined, state);
    if (!dropped) db.tallies.queue(laneNo, 1, bytes, tokens);
    return undefined;
  }
  const sleeping = entry.wakeAt !== undefined && !dropped;
  insert.run(at, kind, sleeping ? ENTRY.sleeping : ENTRY.open, entry.key, entry.fingerprint, null, entry.wakeAt ?? null, now, null);
  return undefined;
}

/**
 * Settles an open entry: its answer, the next number of the run, and the wake-up if the run waits. The caller has checked that
 * the entry is open and that the run still takes answers, and counts requests itself.
 */
export function settleEntry(db: Database, entry: number, head: RunHead, state: number, answer: Answer): void {
  head.seq += 1;
  head.open -= 1;
  const stored = answer.value === undefined && answer.error === undefined ? null : addAnswer(db, answer);
  db.sql(`UPDATE entries SET state = ?, seq = ?, answer = ? WHERE no = ?`).run(state, head.seq, stored, entry);
  if (head.state === RUN.waiting) {
    db.tallies.move(RUNS, RUN.waiting, RUN.runnable);
    head.state = RUN.runnable;
  }
  db.sql(`UPDATE runs SET state = ?, seq = ?, open = ? WHERE no = ?`).run(head.state, head.seq, head.open, head.no);
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

/**
 * Withdraws what a run that ended still had open: queued requests are cancelled, batched ones are ignored when they return. Sleeps of a
 * failed run ring on, because an operator may let it go on; those of any other are silenced.
 */
export function dropOpenEntries(db: Database, run: number, failed: boolean): void {
  const rows = db
    .sql(`SELECT no, state, lane, bytes, tokens FROM entries WHERE no >= ? AND no < ? AND +state IN (1, 2, 3)`)
    .all(entryNo(run, 0), entryNo(run + 1, 0)) as unknown as { no: number; state: number; lane: number; bytes: number; tokens: number }[];
  const update = db.sql(`UPDATE entries SET state = ? WHERE no = ?`);
  for (const { no, state, lane, bytes, tokens } of rows) {
    if (state === ENTRY.sleeping) {
      if (!failed) update.run(ENTRY.open, no);
      continue;
    }
    if (state === ENTRY.queued) db.tallies.queue(lane, -1, bytes, tokens);
    else db.tallies.delay(lane, -1);
    db.tallies.move(REQUESTS, state, ENTRY.cancelled);
    update.run(ENTRY.cancelled, no);
  }
}
