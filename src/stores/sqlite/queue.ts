import { queueState } from "../queue-states.ts";
import { ENTRY } from "../codes.ts";
import type { Database } from "./database.ts";
import { REQUESTS } from "../counts.ts";
import type { Weight } from "../deltas.ts";

/** What a request needs to be found in the counters of its lane. */
export interface QueueRow extends Weight {
  no: number;
  state: number;
  lane: number;
  group_size: number | null;
}

/** Counts a request in the queue of its lane (`sign` +1) or out of it. */
export function countQueued(db: Database, sign: 1 | -1, state: number, lane: number, weight: Weight): void {
  if (state === ENTRY.queued) db.tallies.queue(lane, sign, weight);
  else if (state === ENTRY.delayed) db.tallies.delay(lane, sign);
  else if (state === ENTRY.isolated) db.tallies.change(lane, { isolated: sign });
}

/** Puts a request that is in no queue into the one of `lane`. The caller sets its other columns, and sees to the run's reservations. */
export function enqueue(
  db: Database,
  row: QueueRow,
  to: { lane: number; attempt: number; groupSize: number | null; dueAt: number; now: number },
): void {
  const state = queueState(to.groupSize, to.dueAt, to.now);
  db.sql(`UPDATE entries SET state = ?, lane = ?, attempt = ?, group_size = ?, due_at = ? WHERE no = ?`).run(
    state,
    to.lane,
    to.attempt,
    to.groupSize,
    to.dueAt,
    row.no,
  );
  db.tallies.move(REQUESTS, row.state, state);
  countQueued(db, 1, state, to.lane, row);
}

/** Delayed requests that are due join their lane's queue, or those that travel apart; at most `limit` at a time. */
export function promoteDelayed(db: Database, lane: number, now: number, limit: number): void {
  const due = db
    .sql(`
      SELECT no, group_size, bytes, tokens, estimate FROM entries WHERE state = 2 AND lane = ? AND due_at <= ? ORDER BY due_at LIMIT ?`)
    .all(lane, now, limit) as unknown as QueueRow[];
  for (const row of due) {
    const state = queueState(row.group_size, now, now);
    db.sql(`UPDATE entries SET state = ? WHERE no = ?`).run(state, row.no);
    db.tallies.move(REQUESTS, ENTRY.delayed, state);
    db.tallies.delay(lane, -1);
    countQueued(db, 1, state, lane, row);
  }
}

/** More priorities than this in one lane at the same time are not told apart when the oldest is looked for. */
const PRIORITIES = 1_000;

/** For each priority of the lane's queue, highest first, when its oldest request was enqueued: one step of the index each. */
export function oldestByPriority(db: Database, lane: number): { priority: number; due_at: number }[] {
  const top = db.sql(`SELECT priority, due_at FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at LIMIT 1`);
  const below = db.sql(`
    SELECT priority, due_at FROM entries WHERE state = 1 AND lane = ? AND priority < ? ORDER BY priority DESC, due_at LIMIT 1`);
  const found: { priority: number; due_at: number }[] = [];
  for (let row = top.get(lane); row !== undefined && found.length < PRIORITIES; row = below.get(lane, row["priority"] as number)) {
    found.push(row as { priority: number; due_at: number });
  }
  return found;
}
