import type { Lane } from "../../core/provider.ts";
import type { BatchRecord, StoreParams } from "../../core/store.ts";
import { isDirect } from "../../core/tiers.ts";
import { findBatch, isHeld } from "./batches.ts";
import { BATCH, ENTRY } from "../codes.ts";
import type { Database } from "./database.ts";
import { toPico } from "../money.ts";
import { oldestByPriority, promoteDelayed } from "./queue.ts";
import { type BatchRow, toBatch } from "../records.ts";
import { BATCHES, REQUESTS } from "../counts.ts";
import type { Weight } from "../deltas.ts";

/** Where the requests of a batch come from: the lane's queue, or those of it that travel apart in groups of `size`. */
interface Source {
  state: number;
  lane: number;
  size: number | undefined;
}

export function formBatch(db: Database, params: StoreParams<"formBatch">): BatchRecord | undefined {
  const { now } = params;
  const worker = db.names.ensureWorker(params.worker);
  const lane = db.names.findLane(params.lane);
  if (lane === undefined) return undefined;
  let batch = findBatch(db, params.batch);
  if (batch !== undefined) {
    if (batch.state !== BATCH.forming) return toBatch(batch, db.names.lane(batch.lane));
    if (batch.lane !== lane) throw new Error(`Batch ${params.batch} is formed from another lane.`);
    if (batch.worker !== worker && isHeld(db, batch.worker, now)) return undefined;
  }
  promoteDelayed(db, lane, now, params.chunk);
  const source = sourceOf(db, lane, batch, params.isolated ?? false);
  const rows = source === undefined ? [] : waiting(db, source, Math.max(1, params.chunk));
  const free = params.maxActive - inUse(db, params.lane, lane, batch);
  const usd = params.limits.usd === undefined ? Infinity : toPico(params.limits.usd);
  if (batch === undefined) {
    const [first] = rows;
    if (first === undefined || free <= 0 || (first[2] ?? 0) > usd) return undefined;
    batch = createBatch(db, params.batch, lane, worker, now);
  } else if (batch.worker !== worker) {
    batch.worker = worker;
    batch.epoch += 1;
  }

  const requests = Math.min(params.limits.requests, source?.size ?? Infinity, isDirect(params.lane) ? free : Infinity);
  const limits = { ...params.limits, requests, usd };
  const taken = source === undefined ? 0 : take(db, source, batch, rows, limits);
  const { request_count, bytes, tokens, estimate } = batch;
  const full = request_count >= requests || bytes >= limits.bytes || tokens >= limits.tokens || estimate >= usd || taken < rows.length;
  if (full || source === undefined || waiting(db, source, 1).length === 0) {
    db.tallies.move(BATCHES, BATCH.forming, BATCH.sealed);
    batch.state = BATCH.sealed;
    batch.worker = null;
    batch.sealed_at = now;
    batch.due_at = now;
  }
  db.sql(`
    UPDATE batches SET
      state = ?, epoch = ?, worker = ?, request_count = ?, bytes = ?, tokens = ?, estimate = ?, sealed_at = ?, due_at = ?
    WHERE no = ?`).run(
    batch.state,
    batch.epoch,
    batch.worker,
    batch.request_count,
    batch.bytes,
    batch.tokens,
    batch.estimate,
    batch.sealed_at,
    batch.due_at,
    batch.no,
  );
  return toBatch(batch, db.names.lane(batch.lane));
}

/** A batch goes on as it began; a new one of those that travel apart takes the group of the oldest. `undefined`: there is none. */
function sourceOf(db: Database, lane: number, batch: BatchRow | undefined, isolated: boolean): Source | undefined {
  const queue = { state: ENTRY.queued, lane, size: undefined };
  if (batch !== undefined && batch.request_count > 0) {
    const size = db.sql(`SELECT group_size FROM entries WHERE batch = ? AND +state = 4 LIMIT 1`).get(batch.no)?.["group_size"] as
      | number
      | null;
    return size === null || size === undefined ? queue : { state: ENTRY.isolated, lane, size };
  }
  if (!isolated) return queue;
  const size = oldestGroup(db, lane);
  return size === undefined ? undefined : { state: ENTRY.isolated, lane, size };
}

/** The group size of the request that has travelled apart longest: one step of the index a size in use. */
function oldestGroup(db: Database, lane: number): number | undefined {
  const next = db.sql(`
    SELECT group_size, due_at FROM entries WHERE state = 8 AND lane = ? AND group_size > ? ORDER BY group_size, due_at LIMIT 1`);
  let oldest: { group_size: number; due_at: number } | undefined;
  let row = next.get(lane, 0) as typeof oldest;
  while (row !== undefined) {
    if (oldest === undefined || row.due_at < oldest.due_at) oldest = row;
    row = next.get(lane, row.group_size) as typeof oldest;
  }
  return oldest?.group_size;
}

type WaitingRow = [bytes: number, tokens: number, estimate: number | null];

function waiting(db: Database, { state, lane, size }: Source, limit: number): WaitingRow[] {
  if (state === ENTRY.queued) {
    return db
      .rows(`SELECT bytes, tokens, estimate FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at, no LIMIT ?`)
      .all(lane, limit) as WaitingRow[];
  }
  return db
    .rows(`SELECT bytes, tokens, estimate FROM entries WHERE state = 8 AND lane = ? AND group_size = ? ORDER BY due_at, no LIMIT ?`)
    .all(lane, size ?? 1, limit) as WaitingRow[];
}

/** Moves the first rows of the source into the batch while they fit, and returns how many did. The first request fits whatever it weighs; `formBatch` has looked at its price. */
function take(
  db: Database,
  source: Source,
  batch: BatchRow,
  rows: readonly WaitingRow[],
  limits: { requests: number; bytes: number; tokens: number; usd: number },
): number {
  const left = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0 };
  for (const [bytes, tokens, estimate] of rows) {
    const usd = estimate ?? 0;
    const fits =
      batch.request_count + 1 <= limits.requests &&
      batch.bytes + bytes <= limits.bytes &&
      batch.tokens + tokens <= limits.tokens &&
      batch.estimate + usd <= limits.usd;
    if (!fits && batch.request_count > 0) break;
    batch.request_count += 1;
    batch.bytes += bytes;
    batch.tokens += tokens;
    batch.estimate += usd;
    left.queued -= 1;
    left.bytes -= bytes;
    left.tokens -= tokens;
    left.usd -= usd;
    if (estimate === null) left.unpriced -= 1;
  }
  const taken = -left.queued;
  if (taken === 0) return 0;
  db.tallies.change(source.lane, source.state === ENTRY.queued ? left : { isolated: -taken });
  db.tallies.move(REQUESTS, source.state, ENTRY.batched, taken);
  // The same order and limit as `waiting`, so these are the same rows.
  if (source.state === ENTRY.queued) {
    db.sql(`
      UPDATE entries SET state = 4, batch = ? WHERE no IN (
        SELECT no FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at, no LIMIT ?
      )`).run(batch.no, source.lane, taken);
  } else {
    db.sql(`
      UPDATE entries SET state = 4, batch = ? WHERE no IN (
        SELECT no FROM entries WHERE state = 8 AND lane = ? AND group_size = ? ORDER BY due_at, no LIMIT ?
      )`).run(batch.no, source.lane, source.size ?? 1, taken);
  }
  return taken;
}

function createBatch(db: Database, id: string, lane: number, worker: number, now: number): BatchRow {
  db.sql(`INSERT INTO batches (id, lane, state, epoch, worker, due_at, created_at) VALUES (?, ?, 0, 1, ?, ?, ?)`).run(
    id,
    lane,
    worker,
    now,
    now,
  );
  db.tallies.move(BATCHES, undefined, BATCH.forming);
  return findBatch(db, id) as BatchRow;
}

/**
 * What of the lane's quota is in use, apart from `own`. Direct lanes: requests without an answer in unfinished batches of the lane. Others: batches
 * of the provider whose job may be unfinished; one that is routed is not, and a throttled one has given its slot back.
 */
function inUse(db: Database, lane: Lane, no: number, own: BatchRow | undefined): number {
  const row = isDirect(lane)
    ? db
        .sql(`
          SELECT sum(request_count - succeeded - failed - requeued - cancelled) AS count FROM batches INDEXED BY batches_active
          WHERE state <= 4 AND lane = ? AND no <> ?`)
        .get(no, own?.no ?? -1)
    : db
        .sql(`
          SELECT count(*) AS count FROM batches b INDEXED BY batches_active JOIN lanes l ON l.no = b.lane
          WHERE b.state < 4 AND b.state <= 4 AND NOT (b.state = 1 AND b.failures > 0) AND l.provider = ?
            AND l.tier NOT IN ('flex', 'standard') AND b.no <> ?`)
        .get(lane.provider, own?.no ?? -1);
  return (row?.["count"] as number | null) ?? 0;
}

/**
 * Moves queued requests to another lane, oldest first whatever their priority; what follows an answer, is delayed or travels apart stays. Requests keep
 * the time they were enqueued at, so their order stays too.
 */
export function moveQueued(
  db: Database,
  { now, from, to, limit, reason }: { now: number; from: Lane; to: Lane; limit: number; reason: string },
): number {
  const lane = db.names.findLane(from);
  if (lane === undefined) return 0;
  promoteDelayed(db, lane, now, limit);
  const target = db.names.laneNo(to);
  const select = db.sql(`
    SELECT no, bytes, tokens, estimate, due_at FROM entries WHERE state = 1 AND lane = ? AND priority = ? ORDER BY due_at, no LIMIT ?`);
  const candidates = oldestByPriority(db, lane).flatMap(({ priority }) => select.all(lane, priority, limit));
  const rows = candidates as unknown as (Weight & { no: number; due_at: number })[];
  rows.sort((a, b) => a.due_at - b.due_at || a.no - b.no);
  for (const row of rows.slice(0, limit)) {
    db.sql(`UPDATE entries SET lane = ?, tier_reason = ? WHERE no = ?`).run(target, reason, row.no);
    db.tallies.queue(lane, -1, row);
    db.tallies.queue(target, 1, row);
  }
  return Math.min(limit, rows.length);
}
