/**
 * Answers that equal requests share; see the same file of the SQLite store. The document of the key is read by whoever decides about it, and written by whoever changes the leader or the answer. Those that wait are looked for
 * within the transaction, so that nobody can join unseen.
 */
import { weightOf } from "../queue-states.ts";
import { ENTRY } from "../codes.ts";
import { REQUESTS } from "../counts.ts";
import type { NewRequest } from "../../core/store.ts";
import { fitting, settleEntry } from "./entries.ts";
import { runOf, digest } from "./keys.ts";
import { byAge } from "./queue.ts";
import type { Database } from "./database.ts";
import type { EntryRow, RunRow, SharedRow } from "./rows.ts";
import { COPIES, type Unit } from "./unit.ts";

/** What a request does about its key: it is asked for all, waits for the one that is, or has its answer at once. */
export type Share = { role: "leads" } | { role: "follows" } | { role: "settles"; value: string };

type Cache = NonNullable<NewRequest["cache"]>;

export const shareOf = ({ key }: Cache): string => digest(key);

/** Reads what these keys have, answers included. */
export async function loadShares(unit: Unit, shares: Iterable<string>): Promise<void> {
  await unit.shared.load(shares, ["value"]);
}

/** Decides for an open request; one that shall lead is noted as the leader here, the rest is the caller's. */
export async function takeShare(unit: Unit, shared: string, entry: string, now: number, ttlMs: number): Promise<Share> {
  await loadShares(unit, [shared]);
  const row = unit.shared.peek(shared);
  if (row === undefined) {
    unit.shared.add({ no: shared, leader: entry, ttl_ms: ttlMs, answered: 0, pending: 0, expires_at: null, reference: null, sizes: {} });
    return { role: "leads" };
  }
  if (row.leader !== null) return { role: "follows" };
  if (row.answered === 1 && row.expires_at !== null && row.expires_at > now) {
    return { role: "settles", value: unit.shared.text(row, "value") ?? "" };
  }
  // Those who have not got the answer before it, if any, wait for this one.
  unit.shared.change(row, { leader: entry, ttl_ms: ttlMs, answered: 0, pending: 0, expires_at: null });
  unit.shared.setTexts(row, { value: null });
  return { role: "leads" };
}

/** The leader is in the hurry of those that wait for it, one of them with this deadline. */
export async function hurryLeader(unit: Unit, shared: string, deadlineAt: number, now: number): Promise<void> {
  const key = unit.shared.peek(shared)?.leader;
  if (key === undefined || key === null) return;
  const leader = await unit.entries.get(key);
  if (leader === undefined || (leader.deadline_at !== null && leader.deadline_at <= deadlineAt)) return;
  unit.entries.change(leader, { deadline_at: deadlineAt, check_at: now });
}

/** A request that follows has its answer, which another one was asked for. */
export function settleFollower(unit: Unit, entry: EntryRow, run: RunRow, value: string): void {
  const answer = fitting(entry, { value, error: undefined });
  const state = answer.error === undefined ? ENTRY.succeeded : ENTRY.failed;
  settleEntry(unit, entry, run, state, answer);
  unit.tallies.move(REQUESTS, ENTRY.following, state);
}

/** The leader has its answer, or its run is over and the answer came all the same: it is kept for a while, and everybody who waits for it is told. */
export async function shareAnswer(unit: Unit, shared: string, leader: string, value: string, now: number): Promise<void> {
  await loadShares(unit, [shared]);
  const row = unit.shared.peek(shared);
  if (row?.leader !== leader) return;
  unit.shared.change(row, { leader: null, answered: 1, expires_at: Math.min(now + row.ttl_ms, Number.MAX_SAFE_INTEGER) });
  unit.shared.setTexts(row, { value });
  await tellFollowers(unit, row, value);
}

/** Gives the answer to the next of those who wait for it, as many as one transaction takes. The others get theirs right after it. */
async function tellFollowers(unit: Unit, row: SharedRow, value: string): Promise<void> {
  // One more than a transaction tells: that somebody is left is all there is to know of the others.
  const waiting = await followers(unit, row.no, COPIES + 1);
  const some = waiting.slice(0, unit.told.take(waiting.length, Buffer.byteLength(value)));
  await unit.load({ runs: some.map(({ no }) => runOf(no)) });
  for (const entry of some) settleFollower(unit, entry, unit.run(runOf(entry.no)), value);
  const pending = some.length < waiting.length ? 1 : 0;
  if (row.pending !== pending) unit.shared.change(row, { pending });
}

/** Keys with answers that some have not got yet. */
export async function findPending(database: Database): Promise<string[]> {
  return (await database.find({ from: "shared", where: [["pending", "==", true]], fields: ["pending"] })).map(({ id }) => id);
}

/** Gives the answer of a key to the next of those who wait for it. */
export async function handOut(unit: Unit, shared: string): Promise<void> {
  await loadShares(unit, [shared]);
  const row = unit.shared.peek(shared);
  if (row === undefined || row.pending !== 1) return;
  await tellFollowers(unit, row, unit.shared.text(row, "value") ?? "null");
}

/** The leader comes to nothing: whoever has waited longest is asked in its place. */
export async function passOn(unit: Unit, shared: string, leader: string, now: number): Promise<void> {
  await loadShares(unit, [shared]);
  const row = unit.shared.peek(shared);
  if (row?.leader !== leader) return;
  const waiting = (await followers(unit, shared)).filter(({ no }) => no !== leader);
  const [next] = waiting;
  if (next === undefined) {
    // Without an answer and without anybody who waits, nothing is left to know.
    unit.shared.remove(shared);
    return;
  }
  unit.shared.change(row, { leader: next.no });
  const run = await unit.runs.get(runOf(next.no));
  if (run === undefined) throw new Error("A request waits without its run.");
  const deadlines = waiting.flatMap(({ deadline_at: at }) => (at === null ? [] : [at]));
  const deadlineAt = deadlines.length === 0 ? null : Math.min(...deadlines);
  unit.entries.change(next, { state: ENTRY.queued, due_at: now, check_at: deadlineAt === null ? null : now, deadline_at: deadlineAt });
  unit.tallies.move(REQUESTS, ENTRY.following, ENTRY.queued);
  unit.tallies.queue(next.lane ?? "", 1, weightOf(next));
  unit.runs.change(run, { reserved: run.reserved + (next.estimate ?? 0) });
}

/** Requests that wait for this key, the one that has waited longest first; with `limit`, any so many of them. */
async function followers(unit: Unit, shared: string, limit?: number): Promise<EntryRow[]> {
  const rows = await unit.entries.select(
    { where: [["follows", "==", shared]], ...(limit === undefined ? {} : { limit }) },
    (row) => row.state === ENTRY.following && row.shared === shared,
  );
  return rows.toSorted(byAge);
}
