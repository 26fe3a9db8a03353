import { queueState, weightOf } from "../queue-states.ts";
import { ENTRY } from "../codes.ts";
import { REQUESTS } from "../counts.ts";
import type { EntryRow, Unit } from "./unit.ts";

/** Counts a request in the queue of a lane (`sign` +1) or out of it. */
export function countQueued(unit: Unit, sign: 1 | -1, state: number, lane: number, row: EntryRow): void {
  if (state === ENTRY.queued) unit.tallies.queue(lane, sign, weightOf(row));
  else if (state === ENTRY.delayed) unit.tallies.delay(lane, sign);
  else if (state === ENTRY.isolated) unit.tallies.change(lane, { isolated: sign });
}

/** Puts a request that is in no queue into the one of `lane`. The caller sees to the run's reservations. */
export function enqueue(
  unit: Unit,
  row: EntryRow,
  to: { lane: number; attempt: number; groupSize: number | null; dueAt: number; now: number },
): void {
  const state = queueState(to.groupSize, to.dueAt, to.now);
  unit.tallies.move(REQUESTS, row.state, state);
  unit.entries.change(row, { state, lane: to.lane, attempt: to.attempt, group_size: to.groupSize, due_at: to.dueAt });
  countQueued(unit, 1, state, to.lane, row);
}

/** Delayed requests that are due join their lane's queue, or those that travel apart; at most `limit` at a time. Those that somebody else has in hand are left to him. */
export async function promoteDelayed(unit: Unit, lane: number, now: number, limit: number): Promise<number> {
  const due = await unit.entries.select(`WHERE queue = 2 AND lane = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED`, [
    lane,
    now,
    limit,
  ]);
  for (const row of due) {
    const state = queueState(row.group_size, now, now);
    unit.entries.change(row, { state });
    unit.tallies.move(REQUESTS, ENTRY.delayed, state);
    unit.tallies.delay(lane, -1);
    countQueued(unit, 1, state, lane, row);
  }
  return due.length;
}

/** More priorities than this in one lane at the same time are not told apart when the oldest is looked for. */
const PRIORITIES = 1_000;

/** For each priority of a lane's queue, highest first, when its oldest request was enqueued: one step of the index each. `$LANE` is the lane. */
export const oldestByPriority = `
  WITH RECURSIVE step AS (
    (SELECT priority, due_at, 1 AS n FROM gb.entries WHERE queue = 1 AND lane = $LANE ORDER BY priority DESC, due_at LIMIT 1)
    UNION ALL
    SELECT next.priority, next.due_at, step.n + 1 FROM step CROSS JOIN LATERAL (
      SELECT priority, due_at FROM gb.entries WHERE queue = 1 AND lane = $LANE AND priority < step.priority ORDER BY priority DESC, due_at LIMIT 1
    ) next WHERE step.n < ${PRIORITIES}
  )
  SELECT priority, due_at FROM step`;
