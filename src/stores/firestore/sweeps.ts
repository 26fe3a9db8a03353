import type { BatchRecord, SweepUpdate } from "../../core/store.ts";
import { BATCH } from "../codes.ts";
import { DUPLICATE_JOBS } from "../counts.ts";
import { duplicateJobs } from "../records.ts";
import { batchOf, findBatch, isAlive, readActive, toRecord } from "./batches.ts";
import type { Database } from "./database.ts";
import { laneOf } from "./keys.ts";
import { batchKey } from "./rows.ts";
import type { Unit } from "./unit.ts";

export async function dueSweeps(
  database: Database,
  { now, providers, limit }: { now: number; providers: string[]; limit: number },
): Promise<BatchRecord[]> {
  const found = await database.find({ from: "batches", where: [["sweep_at", "<=", now]], order: [["sweep_at", "asc"]] });
  return found
    .map(batchOf)
    .filter((row) => providers.includes(laneOf(row.lane).provider))
    .slice(0, limit)
    .map(toRecord);
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

export async function releaseBatches(unit: Unit, { now, ids }: { now: number; ids: readonly string[] }): Promise<string[]> {
  await unit.load({ batches: ids.map(batchKey) });
  return [...new Set(ids)].filter((id) => {
    const row = unit.batches.peek(batchKey(id));
    if (row === undefined || row.held !== 1 || row.state >= BATCH.completed) return false;
    unit.batches.change(row, { held: 0, due_at: now });
    return true;
  });
}

/** Batches that could become due now. */
export async function findWaiting(database: Database, { now, providers }: { now: number; providers: string[] }): Promise<string[]> {
  const active = await readActive(database);
  return active
    .filter((row) => row.state === BATCH.inProgress && row.due_at > now && providers.includes(laneOf(row.lane).provider))
    .map(({ no }) => no);
}

export async function hastenBatches(unit: Unit, now: number, batches: readonly string[]): Promise<number> {
  await unit.load({ batches });
  await unit.load({ workers: batches.flatMap((no) => unit.batches.peek(no)?.worker ?? []) });
  let hastened = 0;
  for (const no of batches) {
    const row = unit.batches.peek(no);
    if (row === undefined || row.state !== BATCH.inProgress || row.due_at <= now) continue;
    if (row.worker !== null && (await isAlive(unit, row.worker, unit.leaseNow(now)))) continue;
    unit.batches.change(row, { due_at: now });
    hastened += 1;
  }
  return hastened;
}
