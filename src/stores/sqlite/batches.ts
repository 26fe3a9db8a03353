import type { Lane } from "../../core/provider.ts";
import { type BatchState, batchTransitions, isTerminalBatch } from "../../core/states.ts";
import type { BatchRecord, BatchUpdate, MemberRow } from "../../core/store.ts";
import { BATCH, batchStates, ENTRY, parseRequestId, requestId } from "./codes.ts";
import type { Database } from "./database.ts";
import { errorText } from "./entries.ts";
import { type BatchRow, toBatch } from "./rows.ts";
import { BATCHES, REQUESTS } from "./tallies.ts";

export function findBatch(db: Database, id: string): BatchRow | undefined {
  return db.sql(`SELECT * FROM batches WHERE id = ?`).get(id) as unknown as BatchRow | undefined;
}

/** The batch if it is in hand under this epoch: a claim that was given back or reaped is nobody's, whatever its epoch. */
export function batchInHand(db: Database, id: string, epoch: number): BatchRow | undefined {
  const batch = findBatch(db, id);
  return batch !== undefined && batch.epoch === epoch && batch.worker !== null ? batch : undefined;
}

// INDEXED BY: the few active batches are to be sorted; left alone, SQLite walks all batches there ever were to find them in order.

export function activeBatches(db: Database): BatchRecord[] {
  const rows = db.sql(`SELECT * FROM batches INDEXED BY batches_active WHERE state <= 4 ORDER BY no`).all() as unknown as BatchRow[];
  return rows.map((row) => toBatch(db, row));
}

/** Delayed retries that are due join their lane's queue, at most `limit` at a time. */
export function promoteDelayed(db: Database, lane: number, now: number, limit: number): void {
  const due = db
    .sql(`SELECT no, bytes, tokens FROM entries WHERE state = 2 AND lane = ? AND due_at <= ? ORDER BY due_at LIMIT ?`)
    .all(lane, now, limit) as { no: number; bytes: number; tokens: number }[];
  for (const { no, bytes, tokens } of due) {
    db.sql(`UPDATE entries SET state = 1 WHERE no = ?`).run(no);
    db.tallies.delay(lane, -1);
    db.tallies.queue(lane, 1, bytes, tokens);
  }
}

export function formBatch(
  db: Database,
  params: {
    worker: string;
    now: number;
    batch: string;
    lane: Lane;
    limits: { requests: number; bytes: number; tokens: number };
    maxActive: number;
    chunk: number;
  },
): BatchRecord | undefined {
  const { now, limits } = params;
  const worker = db.names.ensureWorker(params.worker);
  const lane = db.names.findLane(params.lane);
  if (lane === undefined) return undefined;
  let batch = findBatch(db, params.batch);
  if (batch !== undefined) {
    if (batch.state !== BATCH.forming) return toBatch(db, batch);
    if (batch.lane !== lane) throw new Error(`Batch ${params.batch} is formed from another lane.`);
    if (batch.worker !== worker && isHeld(db, batch.worker, now)) return undefined;
  }
  promoteDelayed(db, lane, now, params.chunk);
  const rows = db
    .sql(`SELECT no, bytes, tokens FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at, no LIMIT ?`)
    .all(lane, Math.max(1, params.chunk)) as { no: number; bytes: number; tokens: number }[];
  if (batch === undefined) {
    if (rows.length === 0 || countActive(db, params.lane.provider) >= params.maxActive) return undefined;
    batch = createBatch(db, params.batch, lane, worker, now);
  } else if (batch.worker !== worker) {
    batch.worker = worker;
    batch.epoch += 1;
  }

  const total = { requests: batch.request_count, bytes: batch.bytes, tokens: batch.tokens };
  let taken = 0;
  for (const { bytes, tokens } of rows) {
    const fits = total.requests + 1 <= limits.requests && total.bytes + bytes <= limits.bytes && total.tokens + tokens <= limits.tokens;
    if (!fits && total.requests > 0) break;
    total.requests += 1;
    total.bytes += bytes;
    total.tokens += tokens;
    db.tallies.queue(lane, -1, bytes, tokens);
    db.tallies.move(REQUESTS, ENTRY.queued, ENTRY.batched);
    taken += 1;
  }
  if (taken > 0) {
    // The same order and limit as above, so these are the same rows.
    db.sql(`
      UPDATE entries SET state = 4, batch = ? WHERE no IN (
        SELECT no FROM entries WHERE state = 1 AND lane = ? ORDER BY priority DESC, due_at, no LIMIT ?
      )`).run(batch.no, lane, taken);
  }
  const full = total.requests >= limits.requests || total.bytes >= limits.bytes || total.tokens >= limits.tokens || taken < rows.length;
  const sealed = full || db.sql(`SELECT 1 FROM entries WHERE state = 1 AND lane = ? LIMIT 1`).get(lane) === undefined;
  if (sealed) {
    db.tallies.move(BATCHES, BATCH.forming, BATCH.sealed);
    batch.state = BATCH.sealed;
    batch.worker = null;
    batch.sealed_at = now;
    batch.due_at = now;
  }
  batch.request_count = total.requests;
  batch.bytes = total.bytes;
  batch.tokens = total.tokens;
  db.sql(`
    UPDATE batches SET state = ?, epoch = ?, worker = ?, request_count = ?, bytes = ?, tokens = ?, sealed_at = ?, due_at = ?
    WHERE no = ?`).run(
    batch.state,
    batch.epoch,
    batch.worker,
    batch.request_count,
    batch.bytes,
    batch.tokens,
    batch.sealed_at,
    batch.due_at,
    batch.no,
  );
  return toBatch(db, batch);
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

function countActive(db: Database, provider: string): number {
  const row = db
    .sql(
      `SELECT count(*) AS count FROM batches b INDEXED BY batches_active JOIN lanes l ON l.no = b.lane WHERE b.state <= 4 AND l.provider = ?`,
    )
    .get(provider);
  return row?.["count"] as number;
}

function isHeld(db: Database, worker: number | null, now: number): boolean {
  return worker !== null && db.sql(`SELECT 1 FROM workers WHERE no = ? AND lease_until > ?`).get(worker, now) !== undefined;
}

export function claimBatches(
  db: Database,
  params: { worker: string; now: number; providers: string[]; states: BatchState[]; limit: number },
): BatchRecord[] {
  const free = claimableBatches(db, params);
  const worker = db.names.ensureWorker(params.worker);
  return free.map((row) => {
    db.sql(`UPDATE batches SET epoch = epoch + 1, worker = ? WHERE no = ?`).run(worker, row.no);
    return toBatch(db, { ...row, epoch: row.epoch + 1, worker });
  });
}

/** Batches that a claim would take, oldest first. */
export function claimableBatches(
  db: Database,
  { now, providers, states, limit }: { now: number; providers: string[]; states: BatchState[]; limit: number },
): BatchRow[] {
  const due = db
    .sql(`SELECT * FROM batches INDEXED BY batches_active WHERE state <= 4 AND due_at <= ? ORDER BY no`)
    .all(now) as unknown as BatchRow[];
  const free: BatchRow[] = [];
  for (const row of due) {
    if (free.length >= limit) break;
    if (!states.includes(batchStates[row.state] ?? "forming")) continue;
    if (providers.includes(db.names.lane(row.lane).provider) && !isHeld(db, row.worker, now)) free.push(row);
  }
  return free;
}

export function updateBatch(
  db: Database,
  { batch: id, epoch, now, update }: { batch: string; epoch: number; now: number; update: BatchUpdate },
): boolean {
  const batch = batchInHand(db, id, epoch);
  if (batch === undefined) return false;
  const from = batchStates[batch.state] ?? "forming";
  const to = update.state ?? from;
  if (to !== from && !batchTransitions[from].includes(to)) return false;
  const ends = isTerminalBatch(to);
  if (ends && openMembers(batch) > 0) throw new Error(`Batch ${id} would end with ${openMembers(batch)} requests without a result.`);
  const state = batchStates.indexOf(to);
  db.tallies.move(BATCHES, batch.state, state);
  const staged = update.staged === undefined ? batch.staged : update.staged === null ? null : JSON.stringify(update.staged);
  db.sql(`
    UPDATE batches SET
      state = ?, worker = ?, due_at = ?, staged = ?, launch_attempts = ?, intent_at = ?, launch_deadline_at = ?, job = ?, raw_status = ?,
      launched_at = ?, finished_at = ?, output = ?, failures = ?, ended_at = ?, error = ?, sealed_at = ?
    WHERE no = ?`).run(
    state,
    (update.release ?? true) ? null : batch.worker,
    update.dueAt ?? batch.due_at,
    staged,
    update.launchAttempts ?? batch.launch_attempts,
    update.intentAt ?? batch.intent_at,
    update.launchDeadlineAt ?? batch.launch_deadline_at,
    update.job ?? batch.job,
    update.rawStatus ?? batch.raw_status,
    update.launchedAt ?? batch.launched_at,
    update.finishedAt ?? batch.finished_at,
    update.output ?? batch.output,
    update.failures ?? batch.failures,
    update.endedAt ?? batch.ended_at ?? (ends ? now : null),
    update.error === undefined ? batch.error : errorText(update.error),
    batch.sealed_at ?? (to === "sealed" ? now : null),
    batch.no,
  );
  return true;
}

/** Members that have no result yet. */
export function openMembers(batch: BatchRow): number {
  return batch.request_count - batch.succeeded - batch.failed - batch.requeued - batch.cancelled;
}

export function readMembers(
  db: Database,
  { batch: id, after, limit }: { batch: string; after: string | undefined; limit: number },
): MemberRow[] {
  const batch = findBatch(db, id);
  if (batch === undefined) return [];
  const rows = db
    .sql(`
      SELECT e.no, e.attempt, b.body FROM entries e JOIN bodies b ON b.no = e.body
      WHERE e.batch = ? AND e.no > ? AND +e.state = 4 ORDER BY e.no LIMIT ?`)
    .all(batch.no, after === undefined ? -1 : (parseRequestId(after) ?? -1), limit) as { no: number; attempt: number; body: string }[];
  return rows.map(({ no, attempt, body }) => ({ id: requestId(no), attempt, body }));
}
