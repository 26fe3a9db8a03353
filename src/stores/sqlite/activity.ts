import type { Activity, ChainVersions, LaneActivity, Timers } from "../../core/store.ts";
import type { Database } from "./database.ts";
import { nextDeadlineAt } from "./deadlines.ts";
import { toUsd } from "../money.ts";
import { oldestByPriority, promoteDelayed } from "./queue.ts";
import { runnableChains } from "./runs.ts";

/** Delayed retries that one look moves into the queue; the rest shows as `nextAt` in the past and follows at the next look. */
const PROMOTE_LIMIT = 5_000;

/** Lanes whose delayed retries have come due. */
export function dueLanes(db: Database, now: number): number[] {
  const next = db.sql(`SELECT 1 FROM entries WHERE state = 2 AND lane = ? AND due_at <= ? LIMIT 1`);
  return db
    .sql(`SELECT no FROM lanes WHERE delayed > 0`)
    .all()
    .map((row) => row["no"] as number)
    .filter((lane) => next.get(lane, now) !== undefined);
}

export function promoteDue(db: Database, now: number): void {
  for (const lane of dueLanes(db, now)) promoteDelayed(db, lane, now, PROMOTE_LIMIT);
}

interface LaneRow {
  no: number;
  queued: number;
  bytes: number;
  tokens: number;
  usd: number;
  unpriced: number;
  isolated: number;
  delayed: number;
}

/** Existence questions and counters only: nothing here walks a queue or the runs that wait. */
export function activity(db: Database, { now, chains }: { now: number; chains: ChainVersions[] }): Activity {
  const lanes = db
    .sql(`
      SELECT no, queued, bytes, tokens, usd, unpriced, isolated, delayed FROM lanes
      WHERE queued > 0 OR delayed > 0 OR isolated > 0 ORDER BY no`)
    .all() as unknown as LaneRow[];
  const workers = db.sql(`SELECT no FROM workers WHERE lease_until > ?`).all(now);
  const running = db.sql(`SELECT 1 FROM runs WHERE state = 1 AND worker = ? LIMIT 1`);
  return {
    lanes: lanes.map((row) => laneActivity(db, row, now)),
    runnable:
      chains.length === 0
        ? db.sql(`SELECT 1 FROM runs WHERE state = 0 LIMIT 1`).get() !== undefined
        : runnableChains(db, chains).length > 0,
    running: workers.some((row) => running.get(row["no"] as number) !== undefined),
    routing: isRouting(db),
    producers: db.sql(`SELECT 1 FROM producers WHERE until > ? LIMIT 1`).get(now) !== undefined,
    ...nextTimers(db),
  };
}

export function nextTimers(db: Database): Timers {
  return { nextTimerAt: nextTimerAt(db), nextDeadlineAt: nextDeadlineAt(db) };
}

function laneActivity(db: Database, row: LaneRow, now: number): LaneActivity {
  const { no, queued, bytes, tokens, unpriced, isolated, delayed } = row;
  const priorities = queued > 0 ? oldestByPriority(db, no) : [];
  return {
    lane: db.names.lane(no),
    queued,
    bytes,
    tokens,
    usd: toUsd(row.usd),
    unpriced,
    isolated,
    priority: priorities[0]?.priority ?? 0,
    oldestAt: priorities.reduce((oldest, { due_at: at }) => Math.min(oldest, at), now),
    nextAt: delayed > 0 ? nextAt(db, no) : undefined,
  };
}

/** Batches that are routed, and those of direct lanes at any stage: their answers come one by one and wake runs at once. */
function isRouting(db: Database): boolean {
  const batch = db.sql(`
    SELECT 1 FROM batches b INDEXED BY batches_active JOIN lanes l ON l.no = b.lane
    WHERE b.state <= 4 AND (b.state = 4 OR l.tier IN ('flex', 'standard')) LIMIT 1`);
  return batch.get() !== undefined;
}

function nextAt(db: Database, lane: number): number | undefined {
  const row = db.sql(`SELECT due_at FROM entries WHERE state = 2 AND lane = ? ORDER BY due_at LIMIT 1`).get(lane);
  return row?.["due_at"] as number | undefined;
}

function nextTimerAt(db: Database): number | undefined {
  const sleep = db.sql(`SELECT due_at AS at FROM entries WHERE state = 3 ORDER BY due_at LIMIT 1`).get();
  const retry = db.sql(`SELECT retry_at AS at FROM runs WHERE state = 3 ORDER BY retry_at LIMIT 1`).get();
  const times = [sleep, retry].flatMap((row) => (row === undefined ? [] : [row["at"] as number]));
  return times.length === 0 ? undefined : Math.min(...times);
}
