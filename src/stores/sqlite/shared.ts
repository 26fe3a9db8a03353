/**
 * Answers that equal requests share. A key has a leader, the open request that is asked for it, and followers that wait for its answer; or it
 * has the answer while that is kept; or neither. A request that names a key and is queued or batched is the leader of it.
 */
import type { NewRequest } from "../../core/store.ts";
import { ENTRY, runOf } from "../codes.ts";
import type { Database } from "./database.ts";
import { addAnswer, readHead, releaseAnswer, type RunHead, settleEntry } from "./entries.ts";
import type { References } from "./references.ts";
import { REQUESTS } from "../counts.ts";

/** What a request does about its key: it is asked for all, waits for the one that is, or has its answer (by number) at once. */
export type Share = { role: "leads" } | { role: "follows" } | { role: "settles"; answer: number };

/** The number of a key; one that is new is added. */
export function sharedNo(db: Database, { key, ttlMs }: NonNullable<NewRequest["cache"]>): number {
  const row = db.sql(`SELECT no FROM shared WHERE key = ?`).get(key);
  if (row !== undefined) return row["no"] as number;
  return Number(db.sql(`INSERT INTO shared (key, ttl_ms) VALUES (?, ?)`).run(key, ttlMs).lastInsertRowid);
}

/** Decides for an open request; one that shall lead is noted as the leader here, the rest is the caller's. */
export function takeShare(db: Database, shared: number, entry: number, now: number, ttlMs: number | undefined): Share {
  const row = db.sql(`SELECT leader, answer, expires_at FROM shared WHERE no = ?`).get(shared) as {
    leader: number | null;
    answer: number | null;
    expires_at: number | null;
  };
  if (row.leader !== null) return { role: "follows" };
  if (row.answer !== null && row.expires_at !== null && row.expires_at > now) return { role: "settles", answer: row.answer };
  releaseAnswer(db, row.answer);
  db.sql(`UPDATE shared SET leader = ?, ttl_ms = coalesce(?, ttl_ms), answer = NULL, expires_at = NULL WHERE no = ?`).run(
    entry,
    ttlMs ?? null,
    shared,
  );
  return { role: "leads" };
}

/** The leader is in the hurry of those that wait for it, one of them with this deadline. */
export function hurryLeader(db: Database, shared: number, deadlineAt: number, now: number): void {
  db.sql(`
    UPDATE entries SET deadline_at = ?1, check_at = ?2
    WHERE no = (SELECT leader FROM shared WHERE no = ?3) AND (deadline_at IS NULL OR deadline_at > ?1)`).run(deadlineAt, now, shared);
}

/** A request that follows has its answer, which another one was asked for. */
export function settleFollower(db: Database, entry: number, head: RunHead, answer: number): void {
  db.sql(`UPDATE answers SET uses = uses + 1 WHERE no = ?`).run(answer);
  settleEntry(db, entry, head, ENTRY.succeeded, answer);
  db.tallies.move(REQUESTS, ENTRY.following, ENTRY.succeeded);
}

/** The leader has its answer: it is kept for a while, and everybody who waits for it is told. */
export function shareAnswer(db: Database, shared: number, leader: number, answer: number, now: number): void {
  const { changes } = db
    .sql(`
      UPDATE shared SET leader = NULL, answer = ?1, expires_at = min(?2 + ttl_ms, 9007199254740991) WHERE no = ?3 AND leader = ?4`)
    .run(answer, now, shared, leader);
  if (changes === 0) return;
  db.sql(`UPDATE answers SET uses = uses + 1 WHERE no = ?`).run(answer);
  for (const { no } of followers(db, shared, -1)) settleFollower(db, no, readHead(db, runOf(no)), answer);
}

/** The leader's run is over, but its answer came all the same. */
export function shareLateAnswer(db: Database, shared: number, leader: number, value: string, now: number): void {
  const answer = addAnswer(db, { value, error: undefined });
  shareAnswer(db, shared, leader, answer, now);
  releaseAnswer(db, answer);
}

/** The leader comes to nothing: whoever has waited longest is asked in its place. */
export function passOn(db: Database, shared: number, leader: number, now: number): void {
  const { changes } = db.sql(`UPDATE shared SET leader = NULL WHERE no = ? AND leader = ?`).run(shared, leader);
  if (changes === 0) return;
  const [next] = followers(db, shared, 1);
  if (next === undefined) return;
  db.sql(`UPDATE shared SET leader = ? WHERE no = ?`).run(next.no, shared);
  db.sql(`UPDATE entries SET state = 1, due_at = ?1, check_at = CASE WHEN deadline_at IS NULL THEN NULL ELSE ?1 END WHERE no = ?2`).run(
    now,
    next.no,
  );
  db.tallies.move(REQUESTS, ENTRY.following, ENTRY.queued);
  db.tallies.queue(next.lane, 1, next);
  db.sql(`UPDATE runs SET reserved = reserved + ? WHERE no = ?`).run(next.estimate ?? 0, runOf(next.no));
  const { at } = db.sql(`SELECT min(deadline_at) AS at FROM entries WHERE shared = ? AND state = 9`).get(shared) as { at: number | null };
  if (at !== null) hurryLeader(db, shared, at, now);
}

interface Follower {
  no: number;
  lane: number;
  bytes: number;
  tokens: number;
  estimate: number | null;
}

/** Requests that wait for this key, the one that has waited longest first; all with a limit of -1. */
function followers(db: Database, shared: number, limit: number): Follower[] {
  return db
    .sql(`SELECT no, lane, bytes, tokens, estimate FROM entries WHERE shared = ? AND state = 9 ORDER BY due_at, no LIMIT ?`)
    .all(shared, limit) as unknown as Follower[];
}

/** A request of this key was removed. A key without leader, answer and requests goes with the last one. */
export function forgetShare(db: Database, shared: number): void {
  db.sql(`
    DELETE FROM shared
    WHERE no = ?1 AND leader IS NULL AND answer IS NULL AND NOT EXISTS (SELECT 1 FROM entries WHERE shared = ?1)`).run(shared);
}

/** Whether there is an answer whose time is over. */
export function hasExpired(db: Database, now: number): boolean {
  return db.sql(`SELECT 1 FROM shared WHERE expires_at <= ? LIMIT 1`).get(now) !== undefined;
}

/** Lets go of up to `limit` answers whose time is over. */
export function removeExpired(db: Database, now: number, limit: number, references: References): number {
  const rows = db.sql(`SELECT no, answer FROM shared WHERE expires_at <= ? ORDER BY expires_at LIMIT ?`).all(now, limit) as {
    no: number;
    answer: number | null;
  }[];
  for (const { no, answer } of rows) {
    releaseAnswer(db, answer, references);
    db.sql(`UPDATE shared SET answer = NULL, expires_at = NULL WHERE no = ?`).run(no);
    forgetShare(db, no);
  }
  return rows.length;
}
