import { isQueued } from "../queue-states.ts";
import { isolationSize } from "../../core/isolation.ts";
import type { DeadlineDecision, DeadlineItem } from "../../core/store.ts";
import { atTier, isDirect } from "../../core/tiers.ts";
import { findBatch } from "./batches.ts";
import { ENTRY, parseRequestId, requestId, RUN } from "../codes.ts";
import type { Database } from "./database.ts";
import { depart } from "./history.ts";
import { countQueued, enqueue, type QueueRow } from "./queue.ts";

export function dueDeadlines(db: Database, { now, limit }: { now: number; limit: number }): DeadlineItem[] {
  const rows = db
    .sql(`
      SELECT e.no, e.lane, e.deadline_at, e.attempt, CASE e.state WHEN 4 THEN (SELECT b.id FROM batches b WHERE b.no = e.batch) END AS batch_id
      FROM entries e WHERE e.check_at <= ? ORDER BY e.check_at, e.no LIMIT ?`)
    .all(now, limit) as { no: number; lane: number; deadline_at: number; attempt: number; batch_id: string | null }[];
  return rows.map((row) => ({
    id: requestId(row.no),
    lane: db.names.lane(row.lane),
    deadlineAt: row.deadline_at,
    batch: row.batch_id ?? undefined,
    attempt: row.attempt,
  }));
}

/** When a request is to be looked at next because of its deadline. */
export function nextDeadlineAt(db: Database): number | undefined {
  const row = db.sql(`SELECT check_at FROM entries WHERE check_at IS NOT NULL ORDER BY check_at LIMIT 1`).get();
  return row?.["check_at"] as number | undefined;
}

interface DecidedRow extends QueueRow {
  attempt: number;
  batch: number | null;
  failed_jobs: number;
  run_state: number;
}

export function decideDeadlines(db: Database, { now, decisions }: { now: number; decisions: DeadlineDecision[] }): number {
  return decisions.filter((decision) => decide(db, decision, now)).length;
}

function decide(db: Database, decision: DeadlineDecision, now: number): boolean {
  const no = parseRequestId(decision.id);
  const row = db
    .sql(`
      SELECT e.no, e.state, e.lane, e.attempt, e.batch, e.bytes, e.tokens, e.estimate, e.group_size, e.failed_jobs, r.state AS run_state
      FROM entries e JOIN runs r ON r.no = e.no >> 20 WHERE e.no = ? AND e.kind = 0`)
    .get(no ?? -1) as unknown as DecidedRow | undefined;
  if (row === undefined || row.attempt !== decision.attempt || row.lane !== db.names.findLane(decision.lane)) return false;
  if (row.state !== ENTRY.batched && !isQueued(row.state)) return false;
  const batch = decision.batch === undefined ? null : findBatch(db, decision.batch)?.no;
  if (batch !== (row.state === ENTRY.batched ? row.batch : null)) return false;
  // Nobody is in a hurry for the answer of a run that ended.
  const ended = row.run_state >= RUN.completed;
  db.sql(`UPDATE entries SET check_at = ? WHERE no = ?`).run(ended ? null : (decision.checkAt ?? null), row.no);
  if (ended || decision.move === undefined) return false;
  const lane = atTier(decision.lane, decision.move.tier);
  if (row.state === ENTRY.batched && row.batch !== null) {
    depart(db, row.batch, row.no, row.attempt, false);
    db.sql(`UPDATE batches SET requeued = requeued + 1 WHERE no = ?`).run(row.batch);
  } else countQueued(db, -1, row.state, row.lane, row);
  enqueue(db, row, {
    lane: db.names.laneNo(lane),
    attempt: row.attempt + 1,
    groupSize: isDirect(lane) ? null : (isolationSize(row.failed_jobs, 0) ?? null),
    dueAt: now,
    now,
  });
  db.sql(`UPDATE entries SET tier_reason = ? WHERE no = ?`).run(decision.move.reason, row.no);
  return true;
}
