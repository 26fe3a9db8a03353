import { isQueued } from "../queue-states.ts";
import { DEPARTED, ENTRY, entryNo, runOf } from "../codes.ts";
import { toArray } from "./arrays.ts";
import { releaseAnswer } from "./entries.ts";
import { countQueued } from "./queue.ts";
import { forgetShares, passOn } from "./shared.ts";
import { REQUESTS } from "../counts.ts";
import type { EntryRow, Unit } from "./unit.ts";

/**
 * Removes a run's entries with their prompts and answers; `keep`, a closed request, stays. Requests that are queued are withdrawn; batched ones count as
 * cancelled in their batch, and are billed when they come back all the same. Returns how many entries were removed.
 */
export async function forgetHistory(unit: Unit, run: number, now: number, keep?: number): Promise<number> {
  const range = [entryNo(run, 0), entryNo(run + 1, 0)];
  const rows = await unit.entries.select(`WHERE no >= $1 AND no < $2 ORDER BY no FOR UPDATE`, range);
  await unit.batches.lock(rows.flatMap((row) => (row.state === ENTRY.batched && row.batch !== null ? [row.batch] : [])));
  const shares: number[] = [];
  const leaders: { no: number; shared: number }[] = [];
  const answers: number[] = [];
  const bodies: number[] = [];
  for (const row of rows) {
    const { no, state, shared } = row;
    if (shared !== null) {
      shares.push(shared);
      if (isQueued(state) || state === ENTRY.batched) leaders.push({ no, shared });
    }
    if (row.kind === 0) await close(unit, row, no === keep);
    if (no === keep) continue;
    if (shared !== null) await releaseAnswer(unit, row.answer);
    else if (row.answer !== null) answers.push(row.answer);
    if (row.kind === 0) bodies.push(no);
  }
  await unit.flush();
  await unit.removeAnswers(answers);
  await unit.removeBodies(bodies);
  await unit.sql.run(`DELETE FROM gb.run_waiters WHERE entry >= $1 AND entry < $2`, range);
  await unit.sql.run(`DELETE FROM gb.entries WHERE no >= $1 AND no < $2 AND no <> $3`, [...range, keep ?? -1]);
  for (const { no } of rows) if (no !== keep) unit.entries.forget(no);
  for (const { no, shared } of leaders) await passOn(unit, shared, no, now);
  await forgetShares(unit, shares);
  return rows.length;
}

/** Entries of some runs that somebody else waits for, or that wait for somebody: each of their runs is a case of its own. */
const entangled = `
  SELECT DISTINCT u.run FROM unnest($1::int8[]) AS u(run) CROSS JOIN LATERAL (
    SELECT e.shared, e.state, e.kind FROM gb.entries e WHERE e.no >= u.run << 20 AND e.no < (u.run + 1) << 20 OFFSET 0
  ) e WHERE e.shared IS NOT NULL OR (e.kind = 0 AND e.state NOT IN (${ENTRY.succeeded}, ${ENTRY.failed}, ${ENTRY.cancelled}))`;

const removeEntries = `
  DELETE FROM gb.entries WHERE no = ANY(ARRAY(
    SELECT e.no FROM unnest($1::int8[]) AS u(run) CROSS JOIN LATERAL (
      SELECT no FROM gb.entries e WHERE e.no >= u.run << 20 AND e.no < (u.run + 1) << 20 OFFSET 0
    ) e
  )) RETURNING no, kind, state, answer`;

const removeWaiters = `
  DELETE FROM gb.run_waiters WHERE entry = ANY(ARRAY(
    SELECT w.entry FROM unnest($1::int8[]) AS u(run) CROSS JOIN LATERAL (
      SELECT entry FROM gb.run_waiters w WHERE w.entry >= u.run << 20 AND w.entry < (u.run + 1) << 20 OFFSET 0
    ) w
  ))`;

/** Removes the histories of ended runs that are locked, nearly all of them together. */
export async function forgetHistories(unit: Unit, runs: readonly number[], now: number): Promise<void> {
  if (runs.length === 0) return;
  await unit.flush();
  const found = await unit.sql.rows<[number]>(entangled, [toArray("int8[]", runs)]);
  const apart = new Set(found.map(([no]) => no));
  // Final answers of nobody else: nobody changes them without the run, which is locked.
  const plain = runs.filter((no) => !apart.has(no));
  const removed = await unit.sql.rows<[no: number, kind: number, state: number, answer: number | null]>(removeEntries, [
    toArray("int8[]", plain),
  ]);
  for (const [, kind, state] of removed) if (kind === 0) unit.tallies.move(REQUESTS, state, undefined);
  await unit.removeAnswers(removed.flatMap(([, , , answer]) => answer ?? []));
  await unit.removeBodies(removed.flatMap(([no, kind]) => (kind === 0 ? [no] : [])));
  await unit.sql.run(removeWaiters, [toArray("int8[]", plain)]);
  for (const no of apart) await forgetHistory(unit, no, now);
}

/** Takes a request out of wherever it is; it is gone then, or cancelled if it is kept. */
async function close(unit: Unit, row: EntryRow, kept: boolean): Promise<void> {
  countQueued(unit, -1, row.state, row.lane ?? 0, row);
  const batch = row.state === ENTRY.batched && row.batch !== null ? unit.batches.peek(row.batch) : undefined;
  if (batch !== undefined) {
    await depart(unit, batch.no, row.no, row.attempt ?? 1, true);
    unit.batches.change(batch, { cancelled: batch.cancelled + 1 });
  }
  unit.tallies.move(REQUESTS, row.state, kept ? ENTRY.cancelled : undefined);
  if (kept) unit.entries.change(row, { state: ENTRY.cancelled, check_at: null });
}

/** A row of the batch that nobody waits for any more: should it come, it is billed and counted as a duplicate. */
export async function depart(unit: Unit, batch: number, entry: number, attempt: number, forgotten: boolean): Promise<void> {
  await unit.sql.run(
    `INSERT INTO gb.departed (batch, entry, attempt, chain, state) SELECT $1, $2, $3, chain, $4 FROM gb.runs WHERE no = $5
     ON CONFLICT DO NOTHING`,
    [batch, entry, attempt, forgotten ? DEPARTED.forgotten : DEPARTED.waited, runOf(entry)],
  );
}
