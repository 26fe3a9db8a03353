import { isQueued } from "../queue-states.ts";
import { GembatchError } from "../../core/errors.ts";
import type { NewEntry, NewRequest } from "../../core/store.ts";
import { ENTRIES_PER_RUN, ENTRY, entryKinds, entryNo } from "../codes.ts";
import type { Database } from "./database.ts";
import { addAnswer, chargeRun, releaseAnswer, type RunHead } from "./entries.ts";
import { estimateOf, noBill } from "../money.ts";
import { countQueued, type QueueRow } from "./queue.ts";
import { hurryLeader, passOn, settleFollower, sharedNo, takeShare } from "./shared.ts";
import { REQUESTS } from "../counts.ts";

/** What becomes of a run in the transaction that adds an entry to it. */
export type Fate = "lives" | "fails" | "ends";

/**
 * Adds entry `no` of a run. Returns the sequence number it settled with, or `undefined` if it is open. Of a run that ends in this very transaction
 * a request is never queued; a sleep never rings, but one of a failed run does, because an operator may let it go on. A request that shares its
 * answer is added by `insertShared` if the run lives.
 */
export function insertEntry(
  db: Database,
  run: number,
  no: number,
  entry: NewEntry,
  now: number,
  nextSeq: number,
  fate: Fate,
): number | undefined {
  const at = newEntryNo(run, no);
  const kind = entryKinds.indexOf(entry.kind);
  const insert = db.sql(`
    INSERT INTO entries (no, kind, state, key, fingerprint, seq, due_at, created_at, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  if (entry.settled !== undefined) {
    const { value, error } = entry.settled;
    const answer = addAnswer(db, { value, error });
    insert.run(at, kind, error === undefined ? ENTRY.succeeded : ENTRY.failed, entry.key, entry.fingerprint, nextSeq, null, now, answer);
    return nextSeq;
  }
  if (entry.request !== undefined) {
    const { request } = entry;
    const shared = request.cache === undefined ? null : sharedNo(db, request.cache);
    insertRequest(db, at, entry, request, now, fate === "lives" ? ENTRY.queued : ENTRY.cancelled, shared);
    return undefined;
  }
  const sleeping = entry.wakeAt !== undefined && fate !== "ends";
  insert.run(at, kind, sleeping ? ENTRY.sleeping : ENTRY.open, entry.key, entry.fingerprint, null, entry.wakeAt ?? null, now, null);
  return undefined;
}

/** Whether an entry may settle by what is stored already, so that it is added after all others of its commit. */
export const isShared = (entry: NewEntry): boolean => entry.request?.cache !== undefined;

/** Estimated cost of the request, if it is asked. Picodollars. */
export const reservedFor = (entry: NewEntry): number => estimateOf(entry.request?.usd) ?? 0;

/** Adds a request that shares its answer, as entry `no` of a run whose row is up to date; `head` changes if the answer is there. */
export function insertShared(db: Database, head: RunHead, no: number, entry: NewEntry, now: number): void {
  const { request } = entry;
  if (request?.cache === undefined) throw new Error(`Entry ${entry.key} shares no answer.`);
  const at = newEntryNo(head.no, no);
  const shared = sharedNo(db, request.cache);
  const share = takeShare(db, shared, at, now, request.cache.ttlMs);
  insertRequest(db, at, entry, request, now, share.role === "leads" ? ENTRY.queued : ENTRY.following, shared);
  if (share.role === "leads") chargeRun(db, head.no, noBill, -reservedFor(entry));
  else if (share.role === "settles") settleFollower(db, at, head, share.answer);
  else if (request.deadlineAt !== undefined) hurryLeader(db, shared, request.deadlineAt, now);
}

function newEntryNo(run: number, no: number): number {
  if (no < ENTRIES_PER_RUN) return entryNo(run, no);
  throw new GembatchError("too_many_entries", `A run of this store can have ${ENTRIES_PER_RUN} entries.`, {
    hint: "Split the work into several runs.",
  });
}

function insertRequest(
  db: Database,
  at: number,
  entry: NewEntry,
  request: NewRequest,
  now: number,
  state: number,
  shared: number | null,
): void {
  const { bytes, tokens, deadlineAt } = request;
  const lane = db.names.laneNo(request.lane);
  const estimate = estimateOf(request.usd);
  const body = Number(db.sql(`INSERT INTO bodies (body) VALUES (?)`).run(request.body).lastInsertRowid);
  db.sql(`
    INSERT INTO entries (
      no, kind, state, key, fingerprint, lane, attempt, max_attempts, priority, bytes, tokens, estimate, due_at, created_at, body
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13)`).run(
    at,
    entryKinds.indexOf(entry.kind),
    state,
    entry.key,
    entry.fingerprint,
    lane,
    request.maxAttempts,
    request.priority,
    bytes,
    tokens,
    estimate,
    now,
    body,
  );
  if (deadlineAt !== undefined || shared !== null) {
    const checkAt = deadlineAt !== undefined && state === ENTRY.queued ? now : null;
    db.sql(`UPDATE entries SET deadline_at = ?, check_at = ?, shared = ? WHERE no = ?`).run(deadlineAt ?? null, checkAt, shared, at);
  }
  db.tallies.move(REQUESTS, undefined, state);
  if (state === ENTRY.queued) db.tallies.queue(lane, 1, { bytes, tokens, estimate });
}

/** A request of a run that ended, or an entry that rings at a time. */
export interface OpenRow extends QueueRow {
  shared: number | null;
  check_at: number | null;
}

/**
 * Withdraws what a run that ended still had open: queued requests are cancelled, batched ones are ignored when they return. Sleeps of a
 * failed run ring on, because an operator may let it go on; those of any other are silenced.
 */
export function dropOpenEntries(db: Database, run: number, failed: boolean, now: number): void {
  const rows = db
    .sql(`
      SELECT no, state, lane, bytes, tokens, estimate, group_size, shared, check_at FROM entries
      WHERE no >= ? AND no < ? AND +state IN (1, 2, 3, 4, 8, 9)`)
    .all(entryNo(run, 0), entryNo(run + 1, 0)) as unknown as OpenRow[];
  let released = 0;
  for (const row of rows) {
    if (row.check_at !== null) db.sql(`UPDATE entries SET check_at = NULL WHERE no = ?`).run(row.no);
    if (row.state === ENTRY.batched) continue;
    if (row.state === ENTRY.sleeping) {
      if (!failed) db.sql(`UPDATE entries SET state = 0 WHERE no = ?`).run(row.no);
      continue;
    }
    if (row.state !== ENTRY.following) released += row.estimate ?? 0;
    countQueued(db, -1, row.state, row.lane, row);
    db.tallies.move(REQUESTS, row.state, ENTRY.cancelled);
    db.sql(`UPDATE entries SET state = 7 WHERE no = ?`).run(row.no);
  }
  chargeRun(db, run, noBill, released);
  // Only now: the next in line may have been one of these.
  for (const { no, state, shared } of rows) if (shared !== null && isQueued(state)) passOn(db, shared, no, now);
}

/** A closed request that shall be asked again. */
export interface ClosedRow extends QueueRow {
  seq: number | null;
  answer: number | null;
  shared: number | null;
  deadline_at: number | null;
}

/**
 * Asks a closed request of a run once more, from its first attempt. One that shares its answer joins the others anew, and may settle at once.
 * The run's row must be up to date; `head` is.
 */
export function askAgain(db: Database, head: RunHead, row: ClosedRow, now: number): void {
  releaseAnswer(db, row.answer);
  const share = row.shared === null ? undefined : takeShare(db, row.shared, row.no, now, undefined);
  const leads = share === undefined || share.role === "leads";
  const state = leads ? ENTRY.queued : ENTRY.following;
  db.sql(`
    UPDATE entries SET
      state = ?1, seq = NULL, answer = NULL, batch = NULL, attempt = 1, failed_jobs = 0, group_size = NULL, due_at = ?2,
      check_at = ?3
    WHERE no = ?4`).run(state, now, leads && row.deadline_at !== null ? now : null, row.no);
  db.tallies.move(REQUESTS, row.state, state);
  if (leads) {
    db.tallies.queue(row.lane, 1, row);
    chargeRun(db, head.no, noBill, -(row.estimate ?? 0));
  } else if (share.role === "settles") settleFollower(db, row.no, head, share.answer);
  else if (row.shared !== null && row.deadline_at !== null) hurryLeader(db, row.shared, row.deadline_at, now);
}
