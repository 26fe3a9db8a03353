import type { BatchRecord, SweepUpdate } from "../../core/store.ts";
import { findBatch, isHeld } from "./batches.ts";
import { BATCH } from "../codes.ts";
import type { Database } from "./database.ts";
import { type BatchRow, duplicateJobs, toBatch } from "../records.ts";
import { DUPLICATE_JOBS } from "../counts.ts";

export function dueSweeps(db: Database, { now, providers, limit }: { now: number; providers: string[]; limit: number }): BatchRecord[] {
  const due: BatchRecord[] = [];
  // Row by row: what is due at a provider that nobody serves any more must not stand in the way.
  const rows = db.sql(`SELECT * FROM batches WHERE sweep_at <= ? ORDER BY sweep_at, no`).iterate(now);
  for (const row of rows) {
    if (due.length >= limit) break;
    const batch = row as unknown as BatchRow;
    if (providers.includes(db.names.lane(batch.lane).provider)) due.push(toBatch(batch, db.names.lane(batch.lane)));
  }
  return due;
}

export function updateSweep(db: Database, { batch: id, update }: { batch: string; update: SweepUpdate }): void {
  const batch = findBatch(db, id);
  if (batch === undefined) return;
  const known = duplicateJobs(batch);
  const all = [...new Set([...known, ...(update.duplicateJobs ?? [])])];
  db.tallies.add(DUPLICATE_JOBS, all.length - known.length);
  db.sql(`UPDATE batches SET sweep_at = ?, duplicate_jobs = ?, cleaned_at = ? WHERE no = ?`).run(
    update.sweepAt,
    all.length === 0 ? null : JSON.stringify(all),
    update.cleanedAt ?? batch.cleaned_at,
    batch.no,
  );
}

export function releaseBatches(db: Database, { now, ids }: { now: number; ids: string[] }): string[] {
  return ids.filter((id) => {
    const update = db.sql(`UPDATE batches SET held = 0, due_at = ? WHERE id = ? AND held = 1 AND state <= 4`);
    return update.run(now, id).changes > 0;
  });
}

export function hastenBatches(db: Database, { now, providers }: { now: number; providers: string[] }): number {
  const rows = db
    .sql(`SELECT no, lane, worker FROM batches INDEXED BY batches_active WHERE state <= 4 AND state = ? AND due_at > ?`)
    .all(BATCH.inProgress, now) as { no: number; lane: number; worker: number | null }[];
  const hastened = rows.filter(({ lane, worker }) => providers.includes(db.names.lane(lane).provider) && !isHeld(db, worker, now));
  for (const { no } of hastened) db.sql(`UPDATE batches SET due_at = ? WHERE no = ?`).run(now, no);
  return hastened.length;
}
