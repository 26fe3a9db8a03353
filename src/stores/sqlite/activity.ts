import type { Activity, ChainVersions, LaneActivity } from "../../core/store.ts";
import { promoteDelayed } from "./batches.ts";
import type { Database } from "./database.ts";
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

/** Existence questions and counters only: nothing here walks a queue or the runs that wait. */
export function activity(db: Database, { now, chains }: { now: number; chains: ChainVersions[] }): Activity {
  const lanes = db.sql(`SELECT no, queued, bytes, tokens, delayed FROM lanes WHERE queued > 0 OR delayed > 0 ORDER BY no`).all() as {
    no: number;
    queued: number;
    bytes: number;
    tokens: number;
    delayed: number;
  }[];
  const workers = db.sql(`SELECT no FROM workers WHERE lease_until > ?`).all(now);
  const running = db.sql(`SELECT 1 FROM runs WHERE state = 1 AND worker = ? LIMIT 1`);
  return {
    lanes: lanes.map(({ no, queued, bytes, tokens, delayed }): LaneActivity => ({
      lane: db.names.lane(no),
      queued,
      bytes,
      tokens,
      oldestAt: queued > 0 ? oldestAt(db, no, now) : now,
      nextAt: delayed > 0 ? nextAt(db, no) : undefined,
    })),
    runnable:
      chains.length === 0
        ? db.sql(`SELECT 1 FROM runs WHERE state = 0 LIMIT 1`).get() !== undefined
        : runnableChains(db, chains).length > 0,
    running: workers.some((row) => running.get(row["no"] as number) !== undefined),
    routing: db.sql(`SELECT 1 FROM batches INDEXED BY batches_active WHERE state <= 4 AND state = 4 LIMIT 1`).get() !== undefined,
    producers: db.sql(`SELECT 1 FROM producers WHERE until > ? LIMIT 1`).get(now) !== undefined,
    nextTimerAt: nextTimerAt(db),
  };
}

/** The queue is ordered by priority first, so this takes one step of the index a priority in use. */
function oldestAt(db: Database, lane: number, now: number): number {
  const top = db.sql(`SELECT priority, due_at FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at LIMIT 1`);
  const below = db.sql(`
    SELECT priority, due_at FROM entries WHERE state = 1 AND lane = ? AND priority < ? ORDER BY priority DESC, due_at LIMIT 1`);
  let oldest = now;
  for (let row = top.get(lane); row !== undefined; row = below.get(lane, row["priority"] as number)) {
    oldest = Math.min(oldest, row["due_at"] as number);
  }
  return oldest;
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
