import { isQueued } from "../queue-states.ts";
import { isolationSize } from "../../core/isolation.ts";
import type { DeadlineDecision, DeadlineItem } from "../../core/store.ts";
import { atTier, isDirect } from "../../core/tiers.ts";
import { ENTRY, parseRequestId, requestId, RUN, runOf } from "../codes.ts";
import type { Sql } from "./session.ts";
import { depart } from "./history.ts";
import type { TransactionNames } from "./names.ts";
import { countQueued, enqueue } from "./queue.ts";
import type { Unit } from "./unit.ts";

export async function dueDeadlines(
  sql: Sql,
  names: TransactionNames,
  { now, limit }: { now: number; limit: number },
): Promise<DeadlineItem[]> {
  const rows = await sql.query<{ no: number; lane: number; deadline_at: number; attempt: number; batch_id: string | null }>(
    `SELECT e.no, e.lane, e.deadline_at, e.attempt, CASE e.state WHEN 4 THEN (SELECT b.id FROM gb.batches b WHERE b.no = e.batch) END AS batch_id
     FROM gb.entries e WHERE e.check_at <= $1 ORDER BY e.check_at, e.no LIMIT $2`,
    [now, limit],
  );
  await names.loadLanes(rows.map(({ lane }) => lane));
  return rows.map((row) => ({
    id: requestId(row.no),
    lane: names.laneOf(row.lane),
    deadlineAt: row.deadline_at,
    batch: row.batch_id ?? undefined,
    attempt: row.attempt,
  }));
}

export async function decideDeadlines(unit: Unit, { now, decisions }: { now: number; decisions: DeadlineDecision[] }): Promise<number> {
  // Batches, runs, entries: the order in which everybody locks.
  const ids = [...new Set(decisions.flatMap(({ batch }) => (batch === undefined ? [] : [batch])))];
  const batches = await unit.batches.select(`WHERE id = ANY($1::text[]) ORDER BY no FOR UPDATE`, [ids]);
  const batchNo = new Map(batches.map(({ id, no }) => [id, no]));
  const numbers = decisions.flatMap(({ id }) => parseRequestId(id) ?? []);
  await unit.runs.lock(numbers.map(runOf));
  await unit.entries.lock(numbers);
  let moved = 0;
  for (const decision of decisions) if (await decide(unit, decision, batchNo, now)) moved += 1;
  return moved;
}

async function decide(unit: Unit, decision: DeadlineDecision, batchNo: ReadonlyMap<string, number>, now: number): Promise<boolean> {
  const row = unit.entries.peek(parseRequestId(decision.id) ?? -1);
  if (row === undefined || row.kind !== 0 || row.attempt !== decision.attempt || row.lane === null) return false;
  if (row.lane !== (await unit.names.findLane(decision.lane))) return false;
  if (row.state !== ENTRY.batched && !isQueued(row.state)) return false;
  const batch = decision.batch === undefined ? null : batchNo.get(decision.batch);
  if (batch !== (row.state === ENTRY.batched ? row.batch : null)) return false;
  // Nobody is in a hurry for the answer of a run that ended.
  const ended = unit.run(runOf(row.no)).state >= RUN.completed;
  unit.entries.change(row, { check_at: ended ? null : (decision.checkAt ?? null) });
  if (ended || decision.move === undefined) return false;
  const lane = atTier(decision.lane, decision.move.tier);
  if (row.state === ENTRY.batched && row.batch !== null) {
    await depart(unit, row.batch, row.no, row.attempt, false);
    const from = unit.batches.peek(row.batch);
    if (from !== undefined) unit.batches.change(from, { requeued: from.requeued + 1 });
  } else countQueued(unit, -1, row.state, row.lane, row);
  enqueue(unit, row, {
    lane: await unit.names.laneNo(lane),
    attempt: row.attempt + 1,
    groupSize: isDirect(lane) ? null : (isolationSize(row.failed_jobs, 0) ?? null),
    dueAt: now,
    now,
  });
  unit.entries.change(row, { tier_reason: decision.move.reason });
  return true;
}
