import { changesOf } from "../batch-update.ts";
import type { BatchState } from "../../core/states.ts";
import type { BatchRecord, BatchUpdate, MemberRow } from "../../core/store.ts";
import { batchStates, parseRequestId, requestId } from "../codes.ts";
import type { Database } from "./database.ts";
import { type BatchRow, toBatch } from "../records.ts";
import { BATCHES } from "../counts.ts";

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
  return rows.map((row) => toBatch(row, db.names.lane(row.lane)));
}

/** Whether a worker has the batch whose lease is alive. */
export function isHeld(db: Database, worker: number | null, now: number): boolean {
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
    return toBatch({ ...row, epoch: row.epoch + 1, worker }, db.names.lane(row.lane));
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
  const changes = changesOf(batch, update, now);
  if (changes === undefined) return false;
  db.tallies.move(BATCHES, batch.state, changes.state);
  // The columns are the same ones at each call, in one order: one statement.
  const columns = Object.keys(changes).map((name) => `${name} = ?`);
  db.sql(`UPDATE batches SET ${columns.join(", ")} WHERE no = ?`).run(...Object.values(changes), batch.no);
  return true;
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
