import type { Activity, ChainVersions, LaneActivity, Timers } from "../../core/store.ts";
import { isDirect } from "../../core/tiers.ts";
import { BATCH, RUN } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { toUsd } from "../money.ts";
import { readActive } from "./batches.ts";
import type { Database } from "./database.ts";
import { laneOf } from "./keys.ts";
import { oldestByPriority, promoteDelayed } from "./queue.ts";
import { findReady, MAX_VALUES, partsOf } from "./runs.ts";
import { type Counters, inOrder, readCounters } from "./tallies.ts";

/** Delayed retries that one look moves into the queue; the rest shows as `nextAt` in the past and follows at the next look. */
const PROMOTE_LIMIT = 400;
const PROMOTE_ROUNDS = 10;

/** When the next delayed retry of a lane may be sent. */
async function nextDelayed(database: Database, lane: string): Promise<number | undefined> {
  const [first] = await database.find({
    from: "entries",
    where: [["delayed", "==", lane]],
    order: [["due_at", "asc"]],
    limit: 1,
    fields: ["due_at"],
  });
  return first?.data["due_at"] as number | undefined;
}

const lanesInUse = ({ lanes }: Counters): string[] =>
  [...lanes].filter(([, { queued, delayed, isolated }]) => queued > 0 || delayed > 0 || isolated > 0).map(([lane]) => lane);

/** Counters, and one document of an index each: nothing here walks a queue. */
export async function activity(database: Database, { now, chains }: { now: number; chains: ChainVersions[] }): Promise<Activity> {
  let counters = await readCounters(database);
  const next = new Map<string, number | undefined>();
  let promoted = false;
  for (const lane of lanesInUse(counters)) {
    if ((counters.lanes.get(lane)?.delayed ?? 0) === 0) continue;
    let at = await nextDelayed(database, lane);
    for (let round = 0; at !== undefined && at <= now && round < PROMOTE_ROUNDS; round += 1) {
      await database.write(async (unit) => promoteDelayed(unit, lane, now, PROMOTE_LIMIT));
      promoted = true;
      at = await nextDelayed(database, lane);
    }
    next.set(lane, at);
  }
  if (promoted) counters = await readCounters(database);
  const lanes = await Promise.all(
    inOrder(database, lanesInUse(counters)).map(async (key): Promise<LaneActivity> => {
      const sums = counters.lanes.get(key);
      const steps = (sums?.queued ?? 0) > 0 ? await oldestByPriority(database, key) : [];
      return {
        lane: laneOf(key),
        queued: sums?.queued ?? 0,
        bytes: sums?.bytes ?? 0,
        tokens: sums?.tokens ?? 0,
        usd: toUsd(sums?.usd ?? 0),
        unpriced: sums?.unpriced ?? 0,
        isolated: sums?.isolated ?? 0,
        priority: steps[0]?.priority ?? 0,
        oldestAt: Math.min(now, ...steps.map(({ dueAt }) => dueAt)),
        nextAt: next.get(key),
      };
    }),
  );
  // The flags after the queues: what was answered between the two looks is seen by the second.
  return { lanes, ...(await readFlags(database, now, chains)) };
}

/** Existence questions only; what waits is in none of these indexes. */
async function readFlags(database: Database, now: number, chains: ChainVersions[]): Promise<Omit<Activity, "lanes">> {
  // Whether something can be taken up before whether something is in hand: what is claimed between the two looks is seen by the second.
  const ready = chains.length > 0 && (await isReady(database, chains));
  const { counts, time } = await readCounters(database);
  const count = (state: number): number => counts.get(RUNS + state) ?? 0;
  const leaseNow = database.settings.serverTime ? (time ?? now) : now;
  const [running, batches, producers, timers] = await Promise.all([
    count(RUN.running) > 0 && isRunning(database, leaseNow),
    readActive(database),
    database.find({ from: "producers", where: [["until", ">", now]], limit: 1 }),
    nextTimers(database),
  ]);
  return {
    runnable: ready || (chains.length === 0 && count(RUN.runnable) > 0),
    running,
    routing: batches.some(({ state, lane }) => state === BATCH.routing || isDirect(laneOf(lane))),
    producers: producers.length > 0,
    ...timers,
  };
}

export async function nextTimers(database: Database): Promise<Timers> {
  const first = async (from: string, field: string): Promise<number | undefined> =>
    (await database.find({ from, where: [[field, ">", 0]], order: [[field, "asc"]], limit: 1, fields: [field] }))[0]?.data[field] as
      | number
      | undefined;
  const [sleepAt, retryAt, nextDeadlineAt] = await Promise.all([
    first("entries", "wake_at"),
    first("runs", "retry_at"),
    first("entries", "check_at"),
  ]);
  const times = [sleepAt, retryAt].filter((at) => at !== undefined);
  return { nextTimerAt: times.length === 0 ? undefined : Math.min(...times), nextDeadlineAt };
}

const isReady = async (database: Database, chains: ChainVersions[]): Promise<boolean> => (await findReady(database, chains, 1)).length > 0;

/** Whether a worker whose lease is alive has a run in hand. */
async function isRunning(database: Database, leaseNow: number): Promise<boolean> {
  const workers = await database.find({ from: "workers", where: [["lease_until", ">", leaseNow]], fields: ["lease_until"] });
  for (const part of partsOf(workers, MAX_VALUES)) {
    const where = [["worker", "in", part.map(({ id }) => id)]] as const;
    if ((await database.find({ from: "runs", where, limit: 1, fields: ["worker"] })).length > 0) return true;
  }
  return false;
}
