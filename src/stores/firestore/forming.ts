import { openMembers } from "../batch-update.ts";
import type { Lane } from "../../core/provider.ts";
import type { BatchRecord, StoreParams } from "../../core/store.ts";
import { isDirect } from "../../core/tiers.ts";
import { BATCH, ENTRY } from "../codes.ts";
import { BATCHES, REQUESTS } from "../counts.ts";
import { toPico } from "../money.ts";
import { findBatch, isAlive, readActive, toRecord } from "./batches.ts";
import type { Database, Find } from "./database.ts";
import { digest, laneKey, laneOf } from "./keys.ts";
import { byAge, byQueueOrder, oldestByPriority, promoteDelayed, queueOrder, queuesOf } from "./queue.ts";
import { type BatchRow, batchKey, type EntryRow } from "./rows.ts";
import { ensureWorker } from "./runs.ts";
import type { Unit } from "./unit.ts";

/** Requests that one transaction takes out of their queue at most; another call goes on. */
export const FORM_CHUNK = 400;

/** Where the requests of a batch come from: the lane's queue, or those of it that travel apart in groups of `size`. */
interface Source {
  state: number;
  lane: string;
  size: number | undefined;
}

export async function formBatch(unit: Unit, params: StoreParams<"formBatch">): Promise<BatchRecord | undefined> {
  const { database } = unit;
  const { now } = params;
  const lane = laneKey(params.lane);
  const chunk = Math.min(FORM_CHUNK, Math.max(1, params.chunk));
  await lockForming(unit, params.lane.provider, params.batch);
  const worker = await ensureWorker(unit, params.worker);
  let batch = await findBatch(unit, params.batch);
  // After the look at who forms: whoever changes what is counted here by forming has to wait, or to look again.
  const active = await readActive(database);
  const leaseNow = unit.leaseNow(now);
  if (batch !== undefined) {
    if (batch.state !== BATCH.forming) return toRecord(batch);
    if (batch.lane !== lane) throw new Error(`Batch ${params.batch} is formed from another lane.`);
    if (batch.worker !== worker && batch.worker !== null && (await isAlive(unit, batch.worker, leaseNow))) return undefined;
  } else {
    // Another live worker is in the middle of a batch of this lane: two would each get a part of what belongs together.
    for (const other of active) {
      if (other.state !== BATCH.forming || other.lane !== lane || other.worker === null || other.worker === worker) continue;
      if (await isAlive(unit, other.worker, leaseNow)) return undefined;
    }
  }
  await promoteDelayed(unit, lane, now, Math.floor(chunk / 2));
  const source = await sourceOf(unit, lane, batch, params.isolated ?? false);
  // One row more than the chunk says whether the queue is empty after it.
  const waiting = source === undefined ? undefined : await readWaiting(unit, source, chunk + 1);
  const rows = (waiting?.rows ?? []).slice(0, chunk);
  const free = params.maxActive - inUse(params.lane, lane, active, batch);
  const usd = params.limits.usd === undefined ? Infinity : toPico(params.limits.usd);
  if (batch === undefined) {
    const [first] = rows;
    if (first === undefined || free <= 0 || (first.estimate ?? 0) > usd) return undefined;
    batch = createBatch(unit, params.batch, lane, worker, now);
  } else if (batch.worker !== worker) unit.batches.change(batch, { worker, epoch: batch.epoch + 1 });
  const former = unit.formers.peek(digest(params.lane.provider));
  if (former !== undefined) unit.formers.change(former, { formed: former.formed + 1 });

  const requests = Math.min(params.limits.requests, source?.size ?? Infinity, isDirect(params.lane) ? free : Infinity);
  const limits = { ...params.limits, requests, usd };
  const taken = source === undefined ? 0 : take(unit, source, batch, rows, limits);
  const { request_count, bytes, tokens, estimate } = batch;
  const full = request_count >= requests || bytes >= limits.bytes || tokens >= limits.tokens || estimate >= usd || taken < rows.length;
  const more = waiting !== undefined && (waiting.rows.length > taken || waiting.more);
  if (full || !more) {
    unit.tallies.move(BATCHES, BATCH.forming, BATCH.sealed);
    unit.batches.change(batch, { state: BATCH.sealed, worker: null, sealed_at: now, due_at: now });
  }
  return toRecord(batch);
}

/** Whoever forms a batch of a provider reads and writes one document: its slots are counted, and taken, by one at a time. */
async function lockForming(unit: Unit, provider: string, batch: string): Promise<void> {
  const no = digest(provider);
  await unit.load({ formers: [no], batches: [batchKey(batch)] });
  if (unit.formers.peek(no) === undefined) unit.formers.add({ no, formed: 0 });
}

/** A batch goes on as it began; a new one of those that travel apart takes the group of the oldest. `undefined`: there is none. */
async function sourceOf(unit: Unit, lane: string, batch: BatchRow | undefined, isolated: boolean): Promise<Source | undefined> {
  const queue = { state: ENTRY.queued, lane, size: undefined };
  if (batch !== undefined && batch.request_count > 0) {
    const { no } = batch;
    const members = await unit.entries.select(
      { where: [["member", "==", no]], order: [["order", "asc"]], limit: 1 },
      (row) => row.batch === no && row.state === ENTRY.batched,
      true,
    );
    const size = members[0]?.group_size ?? null;
    return size === null ? queue : { state: ENTRY.isolated, lane, size };
  }
  if (!isolated) return queue;
  const size = await oldestGroup(unit, lane);
  return size === undefined ? undefined : { state: ENTRY.isolated, lane, size };
}

/** The group size of the request that has travelled apart longest: one document is read for each size in use. */
async function oldestGroup(unit: Unit, lane: string): Promise<number | undefined> {
  const steps: EntryRow[] = [];
  for (let last = 0; ;) {
    const above = last;
    const heads = await unit.entries.select(
      {
        where: [
          ["apart", "==", lane],
          ["group_size", ">", above],
        ],
        order: apartOrder,
        limit: 1,
      },
      (row) => row.state === ENTRY.isolated && row.lane === lane && (row.group_size ?? 0) > above,
      true,
    );
    const [head] = heads.toSorted((a, b) => (a.group_size ?? 0) - (b.group_size ?? 0) || byAge(a, b));
    if (head === undefined) break;
    steps.push(head);
    last = head.group_size ?? Infinity;
  }
  return (
    steps.toSorted((a, b) => (a.due_at ?? 0) - (b.due_at ?? 0) || (a.group_size ?? 0) - (b.group_size ?? 0))[0]?.group_size ?? undefined
  );
}

const apartOrder = [
  ["group_size", "asc"],
  ["due_at", "asc"],
  ["order", "asc"],
] as const;

/** The first of the queue, those that joined it in this transaction included. `more`: these are not all. */
async function readWaiting(unit: Unit, { state, lane, size }: Source, limit: number): Promise<{ rows: EntryRow[]; more: boolean }> {
  const find: Omit<Find, "from"> =
    state === ENTRY.queued
      ? { where: [["queue", "in", queuesOf(unit.database, lane)]], order: queueOrder, limit }
      : {
          where: [
            ["apart", "==", lane],
            ["group_size", "==", size ?? 1],
          ],
          order: apartOrder.slice(1),
          limit,
        };
  const rows = await unit.entries.select(
    find,
    (row) => row.state === state && row.lane === lane && (size === undefined || row.group_size === size),
    true,
  );
  return { rows: rows.toSorted(state === ENTRY.queued ? byQueueOrder : byAge), more: rows.found >= limit };
}

/** Moves the first of these rows into the batch while they fit, and returns how many did. The first request fits whatever it weighs; `formBatch` has looked at its price. */
function take(
  unit: Unit,
  source: Source,
  batch: BatchRow,
  rows: readonly EntryRow[],
  limits: { requests: number; bytes: number; tokens: number; usd: number },
): number {
  const sum = { request_count: batch.request_count, bytes: batch.bytes, tokens: batch.tokens, estimate: batch.estimate };
  const left = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0 };
  let taken = 0;
  for (const row of rows) {
    const bytes = row.bytes ?? 0;
    const tokens = row.tokens ?? 0;
    const usd = row.estimate ?? 0;
    const fits =
      sum.request_count + 1 <= limits.requests &&
      sum.bytes + bytes <= limits.bytes &&
      sum.tokens + tokens <= limits.tokens &&
      sum.estimate + usd <= limits.usd;
    if (!fits && sum.request_count > 0) break;
    taken += 1;
    sum.request_count += 1;
    sum.bytes += bytes;
    sum.tokens += tokens;
    sum.estimate += usd;
    left.queued -= 1;
    left.bytes -= bytes;
    left.tokens -= tokens;
    left.usd -= usd;
    if (row.estimate === null) left.unpriced -= 1;
    unit.entries.change(row, { state: ENTRY.batched, batch: batch.no, batch_id: batch.id });
  }
  if (taken === 0) return 0;
  unit.batches.change(batch, sum);
  unit.tallies.change(source.lane, source.state === ENTRY.queued ? left : { isolated: -taken });
  unit.tallies.move(REQUESTS, source.state, ENTRY.batched, taken);
  return taken;
}

function createBatch(unit: Unit, id: string, lane: string, worker: string, now: number): BatchRow {
  const no = batchKey(id);
  unit.tallies.move(BATCHES, undefined, BATCH.forming);
  return unit.batches.add({
    no,
    id,
    order: unit.database.births.next(now) + no.slice(0, 6),
    lane,
    state: BATCH.forming,
    epoch: 1,
    worker,
    due_at: now,
    created_at: now,
    ...{ held: 0, request_count: 0, bytes: 0, tokens: 0, estimate: 0, sealed_at: null, staged: null, launch_attempts: 0 },
    ...{ intent_at: null, launch_deadline_at: null, job: null, job_state: null, raw_status: null, launched_at: null, cancelled_at: null },
    ...{ finished_at: null, output: null, cursor: 0, ahead: 0, succeeded: 0, failed: 0, requeued: 0, cancelled: 0, duplicate: 0 },
    ...{ unknown: 0, failures: 0, ended_at: null, error: null, sweep_at: null, duplicate_jobs: null, cleaned_at: null },
    ...{ usd: 0, standard_usd: 0, unpriced: 0 },
  });
}

/**
 * What of the lane's quota is in use, apart from `own`. Direct lanes: requests without an answer in unfinished batches of the lane. Others: batches
 * of the provider whose job may be unfinished; one that is routed is not, and a throttled one has given its slot back.
 */
function inUse(lane: Lane, key: string, active: readonly BatchRow[], own: BatchRow | undefined): number {
  const others = active.filter(({ no }) => no !== own?.no);
  if (isDirect(lane)) return others.filter((row) => row.lane === key).reduce((sum, row) => sum + openMembers(row), 0);
  return others.filter((row) => {
    const of = laneOf(row.lane);
    return row.state < BATCH.routing && !(row.state === BATCH.sealed && row.failures > 0) && of.provider === lane.provider && !isDirect(of);
  }).length;
}

/**
 * Moves queued requests to another lane, oldest first whatever their priority; what follows an answer, is delayed or travels apart stays. Requests keep
 * the time they were enqueued at, so their order stays too.
 */
export async function moveQueued(
  unit: Unit,
  { now, from, to, limit, reason }: { now: number; from: Lane; to: Lane; limit: number; reason: string },
): Promise<number> {
  const lane = laneKey(from);
  const target = laneKey(to);
  await promoteDelayed(unit, lane, now, limit);
  const rows = await readOldest(unit, unit.database, lane, limit);
  for (const row of rows) {
    const weight = { bytes: row.bytes ?? 0, tokens: row.tokens ?? 0, estimate: row.estimate };
    unit.entries.change(row, { lane: target, tier_reason: reason });
    unit.tallies.queue(lane, -1, weight);
    unit.tallies.queue(target, 1, weight);
  }
  return rows.length;
}

async function readOldest(unit: Unit, database: Database, lane: string, limit: number): Promise<EntryRow[]> {
  const isHere = (row: EntryRow): boolean => row.state === ENTRY.queued && row.lane === lane;
  let rows: EntryRow[] = await unit.entries.select(
    { where: [["queue", "in", queuesOf(database, lane)]], order: queueOrder, limit: 0 + limit },
    isHere,
    true,
  );
  const priorities = await oldestByPriority(database, lane);
  for (const { priority } of priorities.length > 1 ? priorities : []) {
    rows = await unit.entries.select(
      {
        where: [
          ["queue", "in", queuesOf(database, lane)],
          ["priority", "==", priority],
        ],
        order: queueOrder.slice(1),
        limit,
      },
      isHere,
      true,
    );
  }
  return rows.toSorted(byAge).slice(0, limit);
}
