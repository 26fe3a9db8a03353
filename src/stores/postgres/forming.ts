import type { Lane } from "../../core/provider.ts";
import type { BatchRecord, StoreParams } from "../../core/store.ts";
import { isDirect } from "../../core/tiers.ts";
import { BATCH, ENTRY } from "../codes.ts";
import { toPico } from "../money.ts";
import type { BatchRow } from "../records.ts";
import { toArray } from "./arrays.ts";
import { findBatch, toBatches } from "./batches.ts";
import type { Sql } from "./session.ts";
import { Conflict } from "./errors.ts";
import { oldestByPriority, promoteDelayed } from "./queue.ts";
import { BATCHES, REQUESTS } from "../counts.ts";
import type { Unit } from "./unit.ts";

/** Where the requests of a batch come from: the lane's queue, or those of it that travel apart in groups of `size`. */
interface Source {
  state: number;
  lane: number;
  size: number | undefined;
}

export async function formBatch(
  unit: Unit,
  params: StoreParams<"formBatch">,
  readLeaseTime: (sql: Sql, now: number) => Promise<number>,
): Promise<BatchRecord | undefined> {
  const { now } = params;
  const lane = await unit.names.findLane(params.lane);
  if (lane === undefined) return undefined;
  const [worker, , found, leaseNow] = await Promise.all([
    unit.names.ensureWorker(params.worker),
    lockForming(unit, params.lane.provider),
    findBatch(unit, params.batch),
    readLeaseTime(unit.sql, now),
  ]);
  let batch = found;
  if (batch !== undefined) {
    if (batch.state !== BATCH.forming) return toRecord(unit, batch);
    if (batch.lane !== lane) throw new Error(`Batch ${params.batch} is formed from another lane.`);
    if (batch.worker !== worker && (await isHeld(unit, batch.worker, leaseNow))) return undefined;
  } else if (await isFormedByAnother(unit, lane, worker, leaseNow)) return undefined;
  if ((await promoteDelayed(unit, lane, now, params.chunk)) > 0) await unit.flush();
  const source = await sourceOf(unit, lane, batch, params.isolated ?? false);
  const chunk = Math.max(1, params.chunk);
  // One row more than the chunk says whether the queue is empty after it.
  const [waiting, used] = await Promise.all([
    source === undefined ? [] : readWaiting(unit, source, chunk + 1),
    inUse(unit, params.lane, lane, batch),
  ]);
  const rows = waiting.slice(0, chunk);
  const free = params.maxActive - used;
  const usd = params.limits.usd === undefined ? Infinity : toPico(params.limits.usd);
  if (batch === undefined) {
    const [first] = rows;
    if (first === undefined || free <= 0 || (first[3] ?? 0) > usd) return undefined;
    batch = await createBatch(unit, params.batch, lane, worker, now);
  } else if (batch.worker !== worker) unit.batches.change(batch, { worker, epoch: batch.epoch + 1 });

  const requests = Math.min(params.limits.requests, source?.size ?? Infinity, isDirect(params.lane) ? free : Infinity);
  const limits = { ...params.limits, requests, usd };
  const taken = source === undefined ? 0 : await take(unit, source, batch, rows, limits);
  const { request_count, bytes, tokens, estimate } = batch;
  const full = request_count >= requests || bytes >= limits.bytes || tokens >= limits.tokens || estimate >= usd || taken < rows.length;
  if (full || waiting.length <= taken) {
    unit.tallies.move(BATCHES, BATCH.forming, BATCH.sealed);
    unit.batches.change(batch, { state: BATCH.sealed, worker: null, sealed_at: now, due_at: now });
  }
  return toRecord(unit, batch);
}

async function toRecord(unit: Unit, batch: BatchRow): Promise<BatchRecord | undefined> {
  return (await toBatches(unit.names, [batch]))[0];
}

/** Whoever forms a batch of a provider is alone with it until this transaction ends: its slots are counted, and taken, by one at a time. */
async function lockForming(unit: Unit, provider: string): Promise<void> {
  await Promise.all([
    unit.sql.send(`INSERT INTO gb.formers (provider) VALUES ($1) ON CONFLICT DO NOTHING`, [provider]),
    unit.sql.run(`SELECT 1 FROM gb.formers WHERE provider = $1 FOR UPDATE`, [provider]),
  ]);
}

/** Whether a worker has the batch whose lease is alive. */
async function isHeld(unit: Unit, worker: number | null, leaseNow: number): Promise<boolean> {
  if (worker === null) return false;
  return (await unit.sql.rows(`SELECT 1 FROM gb.workers WHERE no = $1 AND lease_until > $2`, [worker, leaseNow])).length > 0;
}

/** Another live worker is in the middle of a batch of this lane: two would each get a part of what belongs together. */
async function isFormedByAnother(unit: Unit, lane: number, worker: number, leaseNow: number): Promise<boolean> {
  const rows = await unit.sql.rows(
    `SELECT 1 FROM gb.batches b JOIN gb.workers w ON w.no = b.worker
     WHERE b.state <= 4 AND b.state = 0 AND b.lane = $1 AND w.no <> $2 AND w.lease_until > $3 LIMIT 1`,
    [lane, worker, leaseNow],
  );
  return rows.length > 0;
}

/** A batch goes on as it began; a new one of those that travel apart takes the group of the oldest. `undefined`: there is none. */
async function sourceOf(unit: Unit, lane: number, batch: BatchRow | undefined, isolated: boolean): Promise<Source | undefined> {
  const queue = { state: ENTRY.queued, lane, size: undefined };
  if (batch !== undefined && batch.request_count > 0) {
    const [row] = await unit.sql.rows<[number | null]>(`SELECT group_size FROM gb.entries WHERE batch = $1 AND state + 0 = 4 LIMIT 1`, [
      batch.no,
    ]);
    return row?.[0] == null ? queue : { state: ENTRY.isolated, lane, size: row[0] };
  }
  if (!isolated) return queue;
  const size = await oldestGroup(unit, lane);
  return size === undefined ? undefined : { state: ENTRY.isolated, lane, size };
}

/** The group size of the request that has travelled apart longest: one step of the index a size in use. */
async function oldestGroup(unit: Unit, lane: number): Promise<number | undefined> {
  const [row] = await unit.sql.rows<[number]>(
    `WITH RECURSIVE step AS (
      (SELECT group_size, due_at FROM gb.entries WHERE queue = 8 AND lane = $1 ORDER BY group_size, due_at LIMIT 1)
      UNION ALL
      SELECT next.group_size, next.due_at FROM step CROSS JOIN LATERAL (
        SELECT group_size, due_at FROM gb.entries WHERE queue = 8 AND lane = $1 AND group_size > step.group_size ORDER BY group_size, due_at LIMIT 1
      ) next
    ) SELECT group_size FROM step ORDER BY due_at, group_size LIMIT 1`,
    [lane],
  );
  return row?.[0];
}

type WaitingRow = [no: number, bytes: number, tokens: number, estimate: number | null];

/** The first of the queue. Not locked: `take` finds out whether somebody took one of them out of it meanwhile (a run that ended). */
async function readWaiting(unit: Unit, { state, lane, size }: Source, limit: number): Promise<WaitingRow[]> {
  if (state === ENTRY.queued) {
    return unit.sql.rows<WaitingRow>(
      `SELECT no, bytes, tokens, estimate FROM gb.entries WHERE queue = 1 AND lane = $1 ORDER BY priority DESC, due_at, no LIMIT $2`,
      [lane, limit],
    );
  }
  return unit.sql.rows<WaitingRow>(
    `SELECT no, bytes, tokens, estimate FROM gb.entries WHERE queue = 8 AND lane = $1 AND group_size = $2 ORDER BY due_at, no LIMIT $3`,
    [lane, size ?? 1, limit],
  );
}

/** Moves the first of these rows into the batch while they fit, and returns how many did. The first request fits whatever it weighs; `formBatch` has looked at its price. */
async function take(
  unit: Unit,
  source: Source,
  batch: BatchRow,
  rows: readonly WaitingRow[],
  limits: { requests: number; bytes: number; tokens: number; usd: number },
): Promise<number> {
  const sum = { request_count: batch.request_count, bytes: batch.bytes, tokens: batch.tokens, estimate: batch.estimate };
  const left = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0 };
  for (const [, bytes, tokens, estimate] of rows) {
    const usd = estimate ?? 0;
    const fits =
      sum.request_count + 1 <= limits.requests &&
      sum.bytes + bytes <= limits.bytes &&
      sum.tokens + tokens <= limits.tokens &&
      sum.estimate + usd <= limits.usd;
    if (!fits && sum.request_count > 0) break;
    sum.request_count += 1;
    sum.bytes += bytes;
    sum.tokens += tokens;
    sum.estimate += usd;
    left.queued -= 1;
    left.bytes -= bytes;
    left.tokens -= tokens;
    left.usd -= usd;
    if (estimate === null) left.unpriced -= 1;
  }
  const taken = -left.queued;
  if (taken === 0) return 0;
  unit.batches.change(batch, sum);
  unit.tallies.change(source.lane, source.state === ENTRY.queued ? left : { isolated: -taken });
  unit.tallies.move(REQUESTS, source.state, ENTRY.batched, taken);
  const numbers = rows.slice(0, taken).map(([no]) => no);
  const changed = await unit.sql.run(
    `UPDATE gb.entries SET state = 4, queue = NULL, batch = $1 WHERE no = ANY($2::int8[]) AND state + 0 = $3 AND lane + 0 = $4`,
    [batch.no, toArray("int8[]", numbers), source.state, source.lane],
  );
  // The sums above are of other rows then: all of it once more.
  if (changed !== taken) throw new Conflict("Requests left their queue while a batch was formed of them.");
  return taken;
}

async function createBatch(unit: Unit, id: string, lane: number, worker: number, now: number): Promise<BatchRow> {
  await unit.sql.send(
    `INSERT INTO gb.batches (no, id, lane, state, epoch, worker, due_at, created_at) VALUES (nextval('gb.batch_numbers'), $1, $2, 0, 1, $3, $4, $4)`,
    [id, lane, worker, now],
  );
  unit.tallies.move(BATCHES, undefined, BATCH.forming);
  return (await findBatch(unit, id)) as BatchRow;
}

/**
 * What of the lane's quota is in use, apart from `own`. Direct lanes: requests without an answer in unfinished batches of the lane. Others: batches
 * of the provider whose job may be unfinished; one that is routed is not, and a throttled one has given its slot back.
 */
async function inUse(unit: Unit, lane: Lane, no: number, own: BatchRow | undefined): Promise<number> {
  const [row] = isDirect(lane)
    ? await unit.sql.rows<[number | null]>(
        `SELECT sum(request_count - succeeded - failed - requeued - cancelled) FROM gb.batches WHERE state <= 4 AND lane = $1 AND no <> $2`,
        [no, own?.no ?? -1],
      )
    : await unit.sql.rows<[number | null]>(
        `SELECT count(*) FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane
         WHERE b.state <= 4 AND b.state < 4 AND NOT (b.state = 1 AND b.failures > 0) AND l.provider = $1
           AND l.tier NOT IN ('flex', 'standard') AND b.no <> $2`,
        [lane.provider, own?.no ?? -1],
      );
  return row?.[0] ?? 0;
}

/**
 * Moves queued requests to another lane, oldest first whatever their priority; what follows an answer, is delayed or travels apart stays. Requests keep
 * the time they were enqueued at, so their order stays too.
 */
export async function moveQueued(
  unit: Unit,
  { now, from, to, limit, reason }: { now: number; from: Lane; to: Lane; limit: number; reason: string },
): Promise<number> {
  const lane = await unit.names.findLane(from);
  if (lane === undefined) return 0;
  if ((await promoteDelayed(unit, lane, now, limit)) > 0) await unit.flush();
  const target = await unit.names.laneNo(to);
  const rows = await unit.entries.select(
    `WHERE no IN (
       SELECT q.no FROM (${oldestByPriority.replaceAll("$LANE", "$1")}) p CROSS JOIN LATERAL (
         SELECT no, due_at FROM gb.entries WHERE queue = 1 AND lane = $1 AND priority = p.priority ORDER BY due_at, no LIMIT $2
       ) q ORDER BY q.due_at, q.no LIMIT $2
     ) FOR UPDATE SKIP LOCKED`,
    [lane, limit],
  );
  let moved = 0;
  for (const row of rows) {
    if (row.state !== ENTRY.queued || row.lane !== lane) continue;
    const weight = { bytes: row.bytes ?? 0, tokens: row.tokens ?? 0, estimate: row.estimate };
    unit.entries.change(row, { lane: target, tier_reason: reason });
    unit.tallies.queue(lane, -1, weight);
    unit.tallies.queue(target, 1, weight);
    moved += 1;
  }
  return moved;
}
