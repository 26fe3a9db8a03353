import { changesOf } from "../batch-update.ts";
import type { BatchState } from "../../core/states.ts";
import type { BatchRecord, BatchUpdate, MemberRow } from "../../core/store.ts";
import { batchStates } from "../codes.ts";
import { BATCHES } from "../counts.ts";
import { toBatch } from "../records.ts";
import type { Data, Database } from "./database.ts";
import { isEntryKey, laneOf, orderOf } from "./keys.ts";
import { type BatchRow, batchKey, specs, type WorkerRow } from "./rows.ts";
import { ensureWorker } from "./runs.ts";
import type { Unit } from "./unit.ts";
import { expandRow } from "./working-set.ts";

export async function findBatch(unit: Unit, id: string): Promise<BatchRow | undefined> {
  await unit.load({ batches: [batchKey(id)] });
  const row = unit.batches.peek(batchKey(id));
  return row?.id === id ? row : undefined;
}

/** The batch if it is in hand under this epoch: a claim that was given back or reaped is nobody's, whatever its epoch. */
export async function batchInHand(unit: Unit, id: string, epoch: number): Promise<BatchRow | undefined> {
  const batch = await findBatch(unit, id);
  return batch !== undefined && batch.epoch === epoch && batch.worker !== null ? batch : undefined;
}

export const toRecord = (row: BatchRow): BatchRecord => toBatch({ ...row, no: 0, lane: 0, worker: null, swept: 0 }, laneOf(row.lane));

export const batchOf = ({ data }: { data: Data }): BatchRow => expandRow(specs.batches, data["d"] as Data);

export const byOrder = (a: BatchRow, b: BatchRow): number => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0);

/** Batches that have not ended, oldest first. */
export async function readActive(database: Database): Promise<BatchRow[]> {
  return (await database.find({ from: "batches", where: [["active", "==", true]], order: [["due_at", "asc"]] }))
    .map(batchOf)
    .toSorted(byOrder);
}

/** Leases of workers by key; those that are gone are left out. */
export async function readLeases(
  database: Database,
  keys: Iterable<string>,
): Promise<{ leases: Map<string, number>; time: number | undefined }> {
  const { found, time } = await database.read([...new Set(keys)].map((key) => database.document("workers", key)));
  const rows = found.flatMap((item) => (item === undefined ? [] : [expandRow<WorkerRow>(specs.workers, item.data["d"] as Data)]));
  return { leases: new Map(rows.map((row) => [row.no, row.lease_until])), time };
}

export interface ClaimParams {
  now: number;
  providers: string[];
  states: BatchState[];
  limit: number;
}

const fits = ({ providers, states }: Pick<ClaimParams, "providers" | "states">, row: BatchRow): boolean =>
  states.includes(batchStates[row.state] ?? "forming") && providers.includes(laneOf(row.lane).provider);

/** Due batches that a claim would fit, whoever holds them. Most looks end here. */
export async function findDue(database: Database, params: ClaimParams): Promise<BatchRow[]> {
  const found = await database.find({
    from: "batches",
    where: [
      ["active", "==", true],
      ["due_at", "<=", params.now],
    ],
    order: [["due_at", "asc"]],
  });
  return found
    .map(batchOf)
    .filter((row) => fits(params, row))
    .toSorted(byOrder);
}

export async function claimBatches(unit: Unit, params: ClaimParams & { worker: string }, due: readonly BatchRow[]): Promise<BatchRecord[]> {
  const worker = await ensureWorker(unit, params.worker);
  await unit.load({ batches: due.map(({ no }) => no), workers: due.flatMap((row) => row.worker ?? []) });
  const now = unit.leaseNow(params.now);
  const claimed: BatchRow[] = [];
  for (const { no } of due) {
    const row = unit.batches.peek(no);
    if (claimed.length >= params.limit) break;
    if (row === undefined || row.due_at > params.now || !fits(params, row)) continue;
    if (row.worker !== null && (await isAlive(unit, row.worker, now))) continue;
    unit.batches.change(row, { epoch: row.epoch + 1, worker });
    claimed.push(row);
  }
  return claimed.map(toRecord);
}

export async function isAlive(unit: Unit, worker: string, now: number): Promise<boolean> {
  return ((await unit.workers.get(worker))?.lease_until ?? 0) > now;
}

export async function updateBatch(
  unit: Unit,
  { batch: id, epoch, now, update }: { batch: string; epoch: number; now: number; update: BatchUpdate },
): Promise<boolean> {
  const batch = await batchInHand(unit, id, epoch);
  if (batch === undefined) return false;
  const changes = changesOf(batch, update, now);
  if (changes === undefined) return false;
  unit.tallies.move(BATCHES, batch.state, changes.state);
  unit.batches.change(batch, changes);
  return true;
}

export async function readMembers(
  database: Database,
  { batch, after, limit }: { batch: string; after: string | undefined; limit: number },
): Promise<MemberRow[]> {
  const found = await database.find({
    from: "entries",
    where: [
      ["member", "==", batchKey(batch)],
      ...(after === undefined || !isEntryKey(after) ? [] : [["order", ">", orderOf(after)] as const]),
    ],
    order: [["order", "asc"]],
    limit,
    fields: ["d", "t.body"],
  });
  return found.map(({ id, data }) => ({
    id,
    attempt: expandRow(specs.entries, data["d"] as Data).attempt ?? 1,
    body: ((data["t"] ?? {}) as { body?: string }).body ?? "null",
  }));
}
