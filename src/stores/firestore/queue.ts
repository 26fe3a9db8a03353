import { queueState, weightOf } from "../queue-states.ts";
import { ENTRY } from "../codes.ts";
import { REQUESTS } from "../counts.ts";
import type { Database } from "./database.ts";
import { orderOf } from "./keys.ts";
import { type EntryRow, queueOf } from "./rows.ts";
import type { Unit } from "./unit.ts";

/** Counts a request in the queue of a lane (`sign` +1) or out of it. */
export function countQueued(unit: Unit, sign: 1 | -1, state: number, lane: string, row: EntryRow): void {
  if (state === ENTRY.queued) unit.tallies.queue(lane, sign, weightOf(row));
  else if (state === ENTRY.delayed) unit.tallies.change(lane, { delayed: sign });
  else if (state === ENTRY.isolated) unit.tallies.change(lane, { isolated: sign });
}

/** Puts a request that is in no queue into the one of `lane`. The caller sees to the run's reservations. */
export function enqueue(
  unit: Unit,
  row: EntryRow,
  to: { lane: string; attempt: number; groupSize: number | null; dueAt: number; now: number },
): void {
  const state = queueState(to.groupSize, to.dueAt, to.now);
  unit.now = to.now;
  unit.tallies.move(REQUESTS, row.state, state);
  unit.entries.change(row, { state, lane: to.lane, attempt: to.attempt, group_size: to.groupSize, due_at: to.dueAt });
  countQueued(unit, 1, state, to.lane, row);
}

/** Delayed requests that are due join their lane's queue, or those that travel apart; at most `limit` at a time. */
export async function promoteDelayed(unit: Unit, lane: string, now: number, limit: number): Promise<number> {
  const due = await unit.entries.select(
    {
      where: [
        ["delayed", "==", lane],
        ["due_at", "<=", now],
      ],
      order: [["due_at", "asc"]],
      limit,
    },
    (row) => row.state === ENTRY.delayed && row.lane === lane && (row.due_at ?? 0) <= now,
    true,
  );
  for (const row of due) {
    const state = queueState(row.group_size, now, now);
    unit.entries.change(row, { state });
    unit.tallies.move(REQUESTS, ENTRY.delayed, state);
    unit.tallies.change(lane, { delayed: -1 });
    countQueued(unit, 1, state, lane, row);
  }
  return due.length;
}

/** The names of a lane's queue in every shard. */
export const queuesOf = (database: Database, lane: string): string[] =>
  Array.from({ length: database.settings.shards }, (_, shard) => queueOf(shard, lane));

/** More priorities than this in one lane at the same time are not told apart when the oldest is looked for. */
const PRIORITIES = 100;

/** For each priority of a lane's queue, highest first, when its oldest request was enqueued: one document is read for each. */
export async function oldestByPriority(database: Database, lane: string): Promise<{ priority: number; dueAt: number }[]> {
  const steps: { priority: number; dueAt: number }[] = [];
  while (steps.length < PRIORITIES) {
    const last = steps.at(-1);
    const [head] = await database.find({
      from: "entries",
      where: [["queue", "in", queuesOf(database, lane)], ...(last === undefined ? [] : [["priority", "<", last.priority] as const])],
      order: queueOrder,
      limit: 1,
      fields: ["priority", "due_at"],
    });
    if (head === undefined) break;
    steps.push({ priority: head.data["priority"] as number, dueAt: head.data["due_at"] as number });
  }
  return steps;
}

/** Highest priority first, oldest first within it. */
export const queueOrder = [
  ["priority", "desc"],
  ["due_at", "asc"],
  ["order", "asc"],
] as const;

export const byQueueOrder = (a: EntryRow, b: EntryRow): number => (b.priority ?? 0) - (a.priority ?? 0) || byAge(a, b);

/** Oldest first. */
export const byAge = (a: EntryRow, b: EntryRow): number => (a.due_at ?? 0) - (b.due_at ?? 0) || compareOrder(a.no, b.no);

export const compareOrder = (a: string, b: string): number => {
  const [first, second] = [orderOf(a), orderOf(b)];
  return first < second ? -1 : first > second ? 1 : 0;
};
