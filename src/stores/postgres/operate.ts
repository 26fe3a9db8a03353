import { errorText } from "../batch-update.ts";
import type { SerializedError } from "../../core/errors.ts";
import { ENTRY, entryNo, RUN, runKinds } from "../codes.ts";
import { cancelled } from "../run-errors.ts";
import { forgetHistory } from "./history.ts";
import { storable } from "./names.ts";
import { askAgain } from "./requests.ts";
import { endRun } from "./runs.ts";
import { RUNS } from "../counts.ts";
import type { RunRow, Unit } from "./unit.ts";

/** Locks the runs of these ids that exist, and gives them in the order of the ids. */
async function lockRuns(unit: Unit, ids: readonly string[]): Promise<RunRow[]> {
  const numbers = await unit.names.runNos(storable(ids));
  await unit.runs.lock(numbers.values());
  return [...new Set(ids)].flatMap((id) => {
    const no = numbers.get(id);
    return no === undefined ? [] : (unit.runs.peek(no) ?? []);
  });
}

export async function cancelRuns(
  unit: Unit,
  { now, ids, tree = false }: { now: number; ids: string[]; tree?: boolean },
): Promise<string[]> {
  const all = tree ? await withStarted(unit, ids) : ids;
  const changed: string[] = [];
  for (const run of await lockRuns(unit, all)) {
    if (run.state >= RUN.completed || run.cancel === 1) continue;
    if (run.state === RUN.running) unit.runs.change(run, { cancel: 1 });
    else await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(run.id) }, now);
    changed.push(run.id);
  }
  return changed;
}

/** These runs and every run that they started, and so on; who starts before what it started. */
async function withStarted(unit: Unit, ids: readonly string[]): Promise<string[]> {
  const numbers = await unit.names.runNos(storable(ids));
  const rows = await unit.sql.query<{ id: string }>(
    `WITH RECURSIVE tree AS (
       SELECT no, id, 0 AS depth FROM gb.runs WHERE no = ANY($1::int8[])
       UNION
       SELECT r.no, r.id, tree.depth + 1 FROM tree CROSS JOIN LATERAL (SELECT no, id FROM gb.runs WHERE starter = tree.no OFFSET 0) r WHERE tree.depth < 1000
     ) SELECT id FROM tree GROUP BY no, id ORDER BY min(depth), no`,
    [[...numbers.values()]],
  );
  return [...new Set([...ids, ...rows.map(({ id }) => id)])];
}

/**
 * A failed run goes on with what it has: its failed and its withdrawn requests are asked again, from their first attempt. A run whose history was
 * removed has nothing to go on from: only `afresh` lets it run again, and a handler not even that, for its prompt is gone.
 */
export async function retryRuns(
  unit: Unit,
  { now, ids, afresh = false }: { now: number; ids: string[]; afresh?: boolean },
): Promise<string[]> {
  const changed: string[] = [];
  for (const run of await lockRuns(unit, ids)) {
    const stopped = run.state === RUN.held || run.state === RUN.failed || (afresh && run.state === RUN.cancelled);
    const isHandler = runKinds[run.kind] === "handler";
    if (!stopped || (run.pruned === 1 && (!afresh || isHandler))) continue;
    unit.setOutcome(run.no, { output: null, error: null });
    if (afresh) await startAfresh(unit, run, isHandler, now);
    else await goOn(unit, run, now);
    unit.names.dropRun(run.id, run.epoch);
    changed.push(run.id);
  }
  return changed;
}

async function goOn(unit: Unit, run: RunRow, now: number): Promise<void> {
  const failed = run.state === RUN.failed;
  const range = [entryNo(run.no, 0), entryNo(run.no + 1, 0)];
  const closed = failed
    ? await unit.entries.select(`WHERE no >= $1 AND no < $2 AND kind = 0 AND state + 0 IN (6, 7) ORDER BY no FOR UPDATE`, range)
    : [];
  const reopened = closed.filter((row) => row.seq !== null).length;
  unit.tallies.move(RUNS, run.state, RUN.runnable);
  unit.runs.change(run, { state: RUN.runnable, attempts: 0, ended_at: null, open: run.open + reopened });
  if (!failed) return;
  for (const row of closed) await askAgain(unit, run, row, now);
  // What was under way when the run failed is in a hurry again.
  const under = await unit.entries.select(
    `WHERE no >= $1 AND no < $2 AND state + 0 = 4 AND deadline_at IS NOT NULL AND check_at IS NULL ORDER BY no FOR UPDATE`,
    range,
  );
  for (const row of under) if (row.state === ENTRY.batched) unit.entries.change(row, { check_at: now });
}

/**
 * The run begins anew under a new epoch, so that no turn in some worker's memory goes on with the old history. Numbers of its entries are used
 * again: what still comes for the old ones finds another batch than theirs, and runs that it started report to nobody.
 */
async function startAfresh(unit: Unit, run: RunRow, isHandler: boolean, now: number): Promise<void> {
  const first = isHandler ? entryNo(run.no, 0) : undefined;
  await forgetHistory(unit, run.no, now, first);
  const children = await unit.runs.select(`WHERE starter = $1 AND parent >= $2 AND parent < $3 ORDER BY no FOR UPDATE`, [
    run.no,
    entryNo(run.no, 0),
    entryNo(run.no + 1, 0),
  ]);
  for (const child of children) unit.runs.change(child, { parent: null });
  const state = isHandler ? RUN.waiting : RUN.runnable;
  const count = isHandler ? 1 : 0;
  unit.tallies.move(RUNS, run.state, state);
  unit.runs.change(run, {
    state,
    epoch: run.epoch + 1,
    attempts: 0,
    seq: 0,
    entries: count,
    open: count,
    retry_at: null,
    cancel: 0,
    code: "",
    ended_at: null,
    pruned: 0,
    reserved: 0,
  });
  if (first === undefined) return;
  const row = await unit.entries.get(first);
  if (row !== undefined) await askAgain(unit, run, row, now);
}

/** The error stands until the run goes on. */
export async function holdRuns(unit: Unit, { ids, error }: { ids: string[]; error: SerializedError }): Promise<string[]> {
  const changed: string[] = [];
  for (const run of await lockRuns(unit, ids)) {
    if (run.state !== RUN.runnable && run.state !== RUN.waiting && run.state !== RUN.retrying) continue;
    unit.tallies.move(RUNS, run.state, RUN.held);
    unit.runs.change(run, { state: RUN.held, retry_at: null });
    unit.setOutcome(run.no, { output: null, error: errorText(error) });
    changed.push(run.id);
  }
  return changed;
}
