import type { BatchRecord, SweepUpdate } from "../../core/store.ts";
import { type BatchRow, duplicateJobs } from "../records.ts";
import { findBatch, toBatches } from "./batches.ts";
import type { Sql } from "./session.ts";
import type { TransactionNames } from "./names.ts";
import { DUPLICATE_JOBS } from "../counts.ts";
import { batchColumns, type Unit } from "./unit.ts";

export async function dueSweeps(
  sql: Sql,
  names: TransactionNames,
  { now, providers, limit }: { now: number; providers: string[]; limit: number },
): Promise<BatchRecord[]> {
  const rows = await sql.query<BatchRow>(
    `SELECT ${batchColumns} FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane WHERE b.sweep_at <= $1 AND l.provider = ANY($2::text[])
     ORDER BY b.sweep_at, b.no LIMIT $3`,
    [now, providers, limit],
  );
  return toBatches(names, rows);
}

export async function updateSweep(unit: Unit, { batch: id, update }: { batch: string; update: SweepUpdate }): Promise<void> {
  const batch = await findBatch(unit, id);
  if (batch === undefined) return;
  const known = duplicateJobs(batch);
  const all = [...new Set([...known, ...(update.duplicateJobs ?? [])])];
  unit.tallies.add(DUPLICATE_JOBS, all.length - known.length);
  unit.batches.change(batch, {
    sweep_at: update.sweepAt,
    duplicate_jobs: all.length === 0 ? null : JSON.stringify(all),
    cleaned_at: update.cleanedAt ?? batch.cleaned_at,
  });
}

export async function releaseBatches(unit: Unit, { now, ids }: { now: number; ids: string[] }): Promise<string[]> {
  const rows = await unit.batches.select(`WHERE id = ANY($1::text[]) AND held = 1 AND state <= 4 ORDER BY no FOR UPDATE`, [ids]);
  for (const row of rows) unit.batches.change(row, { held: 0, due_at: now });
  const released = new Set(rows.map(({ id }) => id));
  return ids.filter((id) => released.has(id));
}

export async function hastenBatches(
  unit: Unit,
  { now, providers }: { now: number; providers: string[] },
  leaseNow: number,
): Promise<number> {
  const rows = await unit.batches.select(
    `WHERE no IN (
       SELECT b.no FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane
       WHERE b.state <= 4 AND b.state + 0 = 3 AND b.due_at > $1 AND l.provider = ANY($2::text[])
         AND NOT EXISTS (SELECT 1 FROM gb.workers w WHERE w.no = b.worker AND w.lease_until > $3)
     ) ORDER BY no FOR UPDATE SKIP LOCKED`,
    [now, providers, leaseNow],
  );
  for (const row of rows) unit.batches.change(row, { due_at: now });
  return rows.length;
}
