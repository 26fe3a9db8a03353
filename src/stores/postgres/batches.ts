import { changesOf } from "../batch-update.ts";
import type { BatchState } from "../../core/states.ts";
import type { BatchRecord, BatchUpdate, MemberRow } from "../../core/store.ts";
import { batchStates, parseRequestId, requestId } from "../codes.ts";
import { type BatchRow, toBatch } from "../records.ts";
import type { Sql } from "./session.ts";
import type { TransactionNames } from "./names.ts";
import { BATCHES } from "../counts.ts";
import { batchColumns, type Unit } from "./unit.ts";

export async function findBatch(unit: Unit, id: string): Promise<BatchRow | undefined> {
  const [row] = await unit.batches.select(`WHERE id = $1 FOR UPDATE`, [id]);
  return row;
}

/** The batch if it is in hand under this epoch: a claim that was given back or reaped is nobody's, whatever its epoch. */
export async function batchInHand(unit: Unit, id: string, epoch: number): Promise<BatchRow | undefined> {
  const batch = await findBatch(unit, id);
  return batch !== undefined && batch.epoch === epoch && batch.worker !== null ? batch : undefined;
}

export async function toBatches(names: TransactionNames, rows: readonly BatchRow[]): Promise<BatchRecord[]> {
  await names.loadLanes(rows.map(({ lane }) => lane));
  return rows.map((row) => toBatch(row, names.laneOf(row.lane)));
}

export async function activeBatches(sql: Sql, names: TransactionNames): Promise<BatchRecord[]> {
  return toBatches(names, await sql.query<BatchRow>(`SELECT ${batchColumns} FROM gb.batches b WHERE b.state <= 4 ORDER BY b.no`));
}

/** What leases are compared with: the time of a parameter, or the database's own if that is NULL. */
export const leaseTime = (parameter: string): string =>
  `coalesce(${parameter}::int8, floor(extract(epoch FROM clock_timestamp()) * 1000)::int8)`;

interface ClaimParams {
  now: number;
  providers: string[];
  states: BatchState[];
  limit: number;
}

/** Of batches `b`: due, in these states, of these providers, and in no live worker's hand. */
const claimable = `
  b.state <= 4 AND b.due_at <= $1 AND b.state + 0 = ANY($2::int2[]) AND l.provider = ANY($3::text[])
  AND NOT EXISTS (SELECT 1 FROM gb.workers w WHERE w.no = b.worker AND w.lease_until > ${leaseTime("$4")})`;

const codesOf = (states: readonly BatchState[]): number[] => states.map((state) => batchStates.indexOf(state));

/** Whether a claim would find something: most looks end here. */
export async function hasClaimable(sql: Sql, { now, providers, states }: ClaimParams, leaseNow: number | null): Promise<boolean> {
  const [row] = await sql.rows<[boolean]>(
    `SELECT EXISTS (SELECT 1 FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane WHERE ${claimable})`,
    [now, codesOf(states), providers, leaseNow],
  );
  return row?.[0] ?? false;
}

export async function claimBatches(unit: Unit, params: ClaimParams & { worker: string }, leaseNow: number | null): Promise<BatchRecord[]> {
  const [worker, rows] = await Promise.all([
    unit.names.ensureWorker(params.worker),
    unit.batches.select(
      `WHERE no = ANY(ARRAY(
         SELECT b.no FROM gb.batches b JOIN gb.lanes l ON l.no = b.lane WHERE ${claimable} ORDER BY b.no LIMIT $5 FOR UPDATE OF b SKIP LOCKED
       )) ORDER BY no FOR UPDATE`,
      [params.now, codesOf(params.states), params.providers, leaseNow, Math.max(0, params.limit)],
    ),
  ]);
  for (const row of rows) unit.batches.change(row, { epoch: row.epoch + 1, worker });
  return toBatches(unit.names, rows);
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
  sql: Sql,
  { batch, after, limit }: { batch: string; after: string | undefined; limit: number },
): Promise<MemberRow[]> {
  const rows = await sql.rows<[number, number, string]>(
    `SELECT e.no, e.attempt, d.body FROM gb.entries e JOIN gb.bodies d ON d.no = e.no
     WHERE e.batch = (SELECT b.no FROM gb.batches b WHERE b.id = $1) AND e.no > $2 AND e.state + 0 = 4 ORDER BY e.no LIMIT $3`,
    [batch, after === undefined ? -1 : (parseRequestId(after) ?? -1), limit],
  );
  return rows.map(([no, attempt, body]) => ({ id: requestId(no), attempt, body }));
}
