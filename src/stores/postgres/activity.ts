import type { Activity, LaneActivity, Timers } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { toUsd } from "../money.ts";
import { toArray } from "./arrays.ts";
import { leaseTime } from "./batches.ts";
import type { Sql } from "./session.ts";
import type { TransactionNames } from "./names.ts";
import { oldestByPriority, promoteDelayed } from "./queue.ts";
import { hasRunnable, inHand } from "./runs.ts";
import type { Unit } from "./unit.ts";

/** Delayed retries that one look moves into the queue; the rest shows as `nextAt` in the past and follows at the next look. */
const PROMOTE_LIMIT = 5_000;

/** Lanes with anything in their queue: the counters of all slots together. */
const lanesInUse = `
  SELECT lane, sum(queued) AS queued, sum(bytes) AS bytes, sum(tokens) AS tokens, sum(usd) AS usd, sum(unpriced) AS unpriced,
    sum(isolated) AS isolated, sum(delayed) AS delayed
  FROM gb.queues GROUP BY lane HAVING sum(queued) > 0 OR sum(delayed) > 0 OR sum(isolated) > 0`;

export async function promoteDue(unit: Unit, now: number, lanes: readonly number[]): Promise<void> {
  for (const lane of lanes) await promoteDelayed(unit, lane, now, PROMOTE_LIMIT);
}

interface LaneRow {
  lane: number;
  queued: number;
  bytes: number;
  tokens: number;
  usd: number;
  unpriced: number;
  isolated: number;
  delayed: number;
  priority: number | null;
  oldest_at: number | null;
  next_at: number | null;
}

/** Counters and one step of an index each: nothing here walks a queue. */
const laneActivities = `
  SELECT q.*, o.priority, o.oldest_at, (
    SELECT e.due_at FROM gb.entries e WHERE q.delayed > 0 AND e.queue = 2 AND e.lane = q.lane ORDER BY e.due_at LIMIT 1
  ) AS next_at
  FROM (${lanesInUse}) q LEFT JOIN LATERAL (
    SELECT max(priority) AS priority, min(due_at) AS oldest_at FROM (${oldestByPriority.replaceAll("$LANE", "q.lane")}) p WHERE q.queued > 0
  ) o ON true
  ORDER BY q.lane`;

const timers = `
  least(
    (SELECT due_at FROM gb.entries WHERE queue = 3 ORDER BY due_at LIMIT 1), (SELECT retry_at FROM gb.runs WHERE queue = 3 ORDER BY retry_at LIMIT 1)
  ) AS timer_at,
  (SELECT check_at FROM gb.entries WHERE check_at IS NOT NULL ORDER BY check_at LIMIT 1) AS deadline_at`;

interface TimerRow {
  timer_at: number | null;
  deadline_at: number | null;
}

const toTimers = (row: TimerRow | undefined): Timers => ({
  nextTimerAt: row?.timer_at ?? undefined,
  nextDeadlineAt: row?.deadline_at ?? undefined,
});

export async function nextTimers(sql: Sql): Promise<Timers> {
  const [row] = await sql.query<TimerRow>(`SELECT ${timers}`);
  return toTimers(row);
}

/** Existence questions only; what waits is in none of these indexes. $1: now; $2: what the leases are compared with; $3: chains. */
const flags = `
  SELECT
    CASE WHEN $3::int4[] IS NULL THEN (SELECT no FROM gb.runs WHERE queue = 0 ORDER BY chain, home, priority DESC, no LIMIT 1) IS NOT NULL
      ELSE EXISTS (SELECT 1 FROM unnest($3::int4[]) AS c(no) WHERE ${hasRunnable("c.no")}) END AS runnable,
    (SELECT sum(count) FROM gb.tallies WHERE no = ${RUNS + RUN.running}) > 0 AND EXISTS (
      SELECT 1 FROM gb.workers w WHERE w.lease_until > ${leaseTime("$2")} AND (${inHand("w.no")} ORDER BY h.no DESC LIMIT 1) IS NOT NULL
    ) AS running,
    EXISTS (
      SELECT 1 FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane WHERE b.state <= 4 AND (b.state = 4 OR l.tier IN ('flex', 'standard'))
    ) AS routing,
    EXISTS (SELECT 1 FROM gb.producers WHERE until > $1) AS producers,
    ${timers}`;

interface FlagRow extends TimerRow {
  runnable: boolean;
  running: boolean;
  routing: boolean;
  producers: boolean;
}

/** What one look finds, and the lanes in whose queue something delayed is due. `chains`: numbers of those that are registered here; `undefined` if none is. */
export async function activity(
  sql: Sql,
  names: TransactionNames,
  { now, leaseNow, chains }: { now: number; leaseNow: number | null; chains: readonly number[] | undefined },
): Promise<{ activity: Activity; due: number[] }> {
  // The flags after the queues: what was answered between the two looks is seen by the second.
  const [lanes, [flag]] = await Promise.all([
    sql.query<LaneRow>(laneActivities),
    sql.query<FlagRow>(flags, [now, leaseNow, chains === undefined ? null : toArray("int4[]", chains)]),
  ]);
  await names.loadLanes(lanes.map(({ lane }) => lane));
  const due = lanes.filter(({ next_at: at }) => at !== null && at <= now).map(({ lane }) => lane);
  return { activity: toActivity(names, now, lanes, flag), due };
}

function toActivity(names: TransactionNames, now: number, lanes: readonly LaneRow[], flag: FlagRow | undefined): Activity {
  return {
    lanes: lanes.map((row): LaneActivity => ({
      lane: names.laneOf(row.lane),
      queued: row.queued,
      bytes: row.bytes,
      tokens: row.tokens,
      usd: toUsd(row.usd),
      unpriced: row.unpriced,
      isolated: row.isolated,
      priority: row.priority ?? 0,
      oldestAt: Math.min(row.oldest_at ?? now, now),
      nextAt: row.next_at ?? undefined,
    })),
    runnable: flag?.runnable ?? false,
    running: flag?.running ?? false,
    routing: flag?.routing ?? false,
    producers: flag?.producers ?? false,
    ...toTimers(flag),
  };
}
