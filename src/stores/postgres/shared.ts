/**
 * Answers that equal requests share; see the same file of the SQLite store. The row of the key is locked by whoever decides about it.
 */
import { weightOf } from "../queue-states.ts";
import type { NewRequest } from "../../core/store.ts";
import { ENTRY, runOf } from "../codes.ts";
import { column, toArray } from "./arrays.ts";
import { releaseAnswer, settleEntry } from "./entries.ts";
import { REQUESTS } from "../counts.ts";
import type { EntryRow, RunRow, Unit } from "./unit.ts";

/** What a request does about its key: it is asked for all, waits for the one that is, or has its answer (by number) at once. */
export type Share = { role: "leads" } | { role: "follows" } | { role: "settles"; answer: number };

type Cache = NonNullable<NewRequest["cache"]>;

/** Adds and locks the keys of a transaction all at once, in the order of the keys: two that need the same do not wait for each other. */
export async function lockKeys(unit: Unit, caches: readonly Cache[]): Promise<void> {
  const ttls = new Map(caches.map(({ key, ttlMs }) => [key, ttlMs]));
  if (ttls.size === 0) return;
  const keys = [...ttls.keys()].toSorted((a, b) => (a < b ? -1 : 1));
  const wanted = toArray("text[]", keys);
  await unit.sql.run(
    `INSERT INTO gb.shared (key, ttl_ms) SELECT u.key, u.ttl_ms FROM unnest($1::text[], $2::int8[]) AS u(key, ttl_ms) ON CONFLICT (key) DO NOTHING`,
    [wanted, column("int8[]", keys, (key) => ttls.get(key))],
  );
  const rows = await unit.sql.rows<[string, number]>(
    `SELECT key, no FROM gb.shared WHERE key = ANY($1::text[]) ORDER BY key COLLATE "C" FOR UPDATE`,
    [wanted],
  );
  for (const [key, no] of rows) unit.sharedNos.set(key, no);
}

/** The same for keys by their number. */
export async function lockShared(unit: Unit, numbers: readonly number[]): Promise<void> {
  if (numbers.length === 0) return;
  await unit.sql.run(`SELECT 1 FROM gb.shared WHERE no = ANY($1::int4[]) ORDER BY key COLLATE "C" FOR UPDATE`, [
    toArray("int4[]", numbers),
  ]);
}

/** The number of a key; one that is new is added. */
export async function sharedNo(unit: Unit, { key, ttlMs }: Cache): Promise<number> {
  const locked = unit.sharedNos.get(key);
  if (locked !== undefined) return locked;
  await unit.sql.run(`INSERT INTO gb.shared (key, ttl_ms) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING`, [key, ttlMs]);
  const [row] = await unit.sql.query<{ no: number }>(`SELECT no FROM gb.shared WHERE key = $1 FOR UPDATE`, [key]);
  // Between the two statements its last request may have been removed, and the key with it: then it is added once more.
  return row?.no ?? sharedNo(unit, { key, ttlMs });
}

/** Decides for an open request; one that shall lead is noted as the leader here, the rest is the caller's. */
export async function takeShare(unit: Unit, shared: number, entry: number, now: number, ttlMs: number | undefined): Promise<Share> {
  const [row] = await unit.sql.query<{ leader: number | null; answer: number | null; expires_at: number | null }>(
    `SELECT leader, answer, expires_at FROM gb.shared WHERE no = $1 FOR UPDATE`,
    [shared],
  );
  if (row === undefined) throw new Error(`There is no shared answer number ${shared}.`);
  if (row.leader !== null) return { role: "follows" };
  if (row.answer !== null && row.expires_at !== null && row.expires_at > now) return { role: "settles", answer: row.answer };
  await releaseAnswer(unit, row.answer);
  await unit.sql.run(
    `UPDATE gb.shared SET leader = $1, ttl_ms = coalesce($2::int8, ttl_ms), answer = NULL, expires_at = NULL WHERE no = $3`,
    [entry, ttlMs ?? null, shared],
  );
  return { role: "leads" };
}

/** The leader is in the hurry of those that wait for it, one of them with this deadline. */
export async function hurryLeader(unit: Unit, shared: number, deadlineAt: number, now: number): Promise<void> {
  const [row] = await unit.sql.query<{ leader: number | null }>(`SELECT leader FROM gb.shared WHERE no = $1`, [shared]);
  if (row?.leader == null) return;
  const leader = await unit.entries.get(row.leader);
  if (leader === undefined || (leader.deadline_at !== null && leader.deadline_at <= deadlineAt)) return;
  unit.entries.change(leader, { deadline_at: deadlineAt, check_at: now });
}

/** A request that follows has its answer, which another one was asked for. */
export async function settleFollower(unit: Unit, entry: EntryRow, run: RunRow, answer: number): Promise<void> {
  if (unit.hasNewAnswer(answer)) await unit.flush();
  await unit.sql.run(`UPDATE gb.answers SET uses = uses + 1 WHERE no = $1`, [answer]);
  await settleEntry(unit, entry, run, ENTRY.succeeded, answer);
  unit.tallies.move(REQUESTS, ENTRY.following, ENTRY.succeeded);
}

/** The leader has its answer: it is kept for a while, and everybody who waits for it is told. */
export async function shareAnswer(unit: Unit, shared: number, leader: number, answer: number, now: number): Promise<void> {
  await unit.flush();
  const changes = await unit.sql.run(
    `UPDATE gb.shared SET leader = NULL, answer = $1, expires_at = least($2 + ttl_ms, 9007199254740991) WHERE no = $3 AND leader = $4`,
    [answer, now, shared, leader],
  );
  if (changes === 0) return;
  const waiting = await followers(unit, shared);
  await unit.sql.run(`UPDATE gb.answers SET uses = uses + $2 WHERE no = $1`, [answer, 1 + waiting.length]);
  await unit.runs.lock(waiting.map(({ no }) => runOf(no)));
  for (const entry of waiting) {
    await settleEntry(unit, entry, unit.run(runOf(entry.no)), ENTRY.succeeded, answer);
    unit.tallies.move(REQUESTS, ENTRY.following, ENTRY.succeeded);
  }
}

/** The leader's run is over, but its answer came all the same. */
export async function shareLateAnswer(unit: Unit, shared: number, leader: number, value: string, now: number): Promise<void> {
  const answer = await unit.addAnswer(value, null);
  await shareAnswer(unit, shared, leader, answer, now);
  await releaseAnswer(unit, answer);
}

/** The leader comes to nothing: whoever has waited longest is asked in its place. */
export async function passOn(unit: Unit, shared: number, leader: number, now: number): Promise<void> {
  await unit.flush();
  const [row] = await unit.sql.query<{ leader: number | null }>(`SELECT leader FROM gb.shared WHERE no = $1 FOR UPDATE`, [shared]);
  if (row?.leader !== leader) return;
  const waiting = await followers(unit, shared);
  const [next] = waiting;
  await unit.sql.run(`UPDATE gb.shared SET leader = $1 WHERE no = $2`, [next?.no ?? null, shared]);
  if (next === undefined) return;
  const run = await unit.runs.get(runOf(next.no));
  if (run === undefined) throw new Error("A request waits without its run.");
  const deadlines = waiting.flatMap(({ deadline_at: at }) => (at === null ? [] : [at]));
  const deadlineAt = deadlines.length === 0 ? null : Math.min(...deadlines);
  unit.entries.change(next, { state: ENTRY.queued, due_at: now, check_at: deadlineAt === null ? null : now, deadline_at: deadlineAt });
  unit.tallies.move(REQUESTS, ENTRY.following, ENTRY.queued);
  unit.tallies.queue(next.lane ?? 0, 1, weightOf(next));
  unit.runs.change(run, { reserved: run.reserved + (next.estimate ?? 0) });
}

/** Requests that wait for this key, the one that has waited longest first. */
async function followers(unit: Unit, shared: number): Promise<EntryRow[]> {
  const rows = await unit.entries.select(`WHERE shared = $1 AND queue = 9 ORDER BY due_at, no FOR UPDATE`, [shared]);
  return rows.filter(({ state }) => state === ENTRY.following);
}

/** Requests of these keys were removed. A key without leader, answer and requests goes with the last one. */
export async function forgetShares(unit: Unit, shared: readonly number[]): Promise<void> {
  if (shared.length === 0) return;
  // Under lock: of two that remove the last requests of a key, the second sees what the first has done.
  await lockShared(unit, shared);
  await unit.sql.run(
    `DELETE FROM gb.shared s WHERE s.no = ANY($1::int4[]) AND s.leader IS NULL AND s.answer IS NULL
       AND NOT EXISTS (SELECT 1 FROM gb.entries e WHERE e.shared = s.no)`,
    [[...new Set(shared)].toSorted((a, b) => a - b)],
  );
}
