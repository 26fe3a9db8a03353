import type { SerializedError } from "../../core/errors.ts";
import { ENTRY, RUN, runKinds } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { cancelled } from "../run-errors.ts";
import type { Data, Database } from "./database.ts";
import { digest, entryKey } from "./keys.ts";
import { forgetHistory } from "./history.ts";
import { askAgain, rangeOf } from "./requests.ts";
import { type RunRow, specs } from "./rows.ts";
import { byRunAge, endRun, MAX_VALUES, partsOf, runAt, setOutcome } from "./runs.ts";
import type { Unit } from "./unit.ts";
import { expandRow } from "./working-set.ts";

/** The runs of these ids that exist, in the order of the ids. */
async function loadRuns(unit: Unit, ids: readonly string[]): Promise<RunRow[]> {
  await unit.load({ runs: ids.map(digest) });
  return [...new Set(ids)].flatMap((id) => runAt(unit, id) ?? []);
}

export async function cancelRuns(unit: Unit, { now, ids }: { now: number; ids: readonly string[] }): Promise<string[]> {
  const changed: string[] = [];
  for (const run of await loadRuns(unit, ids)) {
    if (run.state >= RUN.completed || run.cancel === 1) continue;
    if (run.state === RUN.running) unit.runs.change(run, { cancel: 1 });
    else await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(run.id) }, now);
    changed.push(run.id);
  }
  return changed;
}

/** Levels of a tree that are looked through. */
const MAX_DEPTH = 1_000;

/** These runs and every run that they started, and so on; who starts before what it started. */
export async function withStarted(database: Database, ids: readonly string[]): Promise<string[]> {
  const all = new Set(ids);
  const { found } = await database.read([...all].map((id) => database.document("runs", digest(id))));
  let level = found.flatMap((item) => (item === undefined ? [] : [expandRow(specs.runs, item.data["d"] as Data)]));
  for (let depth = 0; level.length > 0 && depth < MAX_DEPTH; depth += 1) {
    const next: RunRow[] = [];
    for (const part of partsOf(level, MAX_VALUES)) {
      const starters = part.map(({ no }) => no);
      const started = await database.find({ from: "runs", where: [["starter", "in", starters]], order: [["order", "desc"]] });
      next.push(...started.map(({ data }) => expandRow(specs.runs, data["d"] as Data)));
    }
    level = next.filter(({ id }) => !all.has(id)).toSorted(byRunAge);
    for (const { id } of level) all.add(id);
  }
  return [...all];
}

/**
 * A failed run goes on with what it has: its failed and its withdrawn requests are asked again, from their first attempt. A run whose history was
 * removed has nothing to go on from: only `afresh` lets it run again, and a handler not even that, for its prompt is gone.
 */
export async function retryRuns(
  unit: Unit,
  { now, ids, afresh = false }: { now: number; ids: readonly string[]; afresh?: boolean },
): Promise<string[]> {
  const changed: string[] = [];
  for (const run of await loadRuns(unit, ids)) {
    const stopped = run.state === RUN.held || run.state === RUN.failed || (afresh && run.state === RUN.cancelled);
    const isHandler = runKinds[run.kind] === "handler";
    if (!stopped || (run.pruned !== 0 && (!afresh || isHandler))) continue;
    setOutcome(unit, run, { output: null, error: null });
    if (afresh) await startAfresh(unit, run, isHandler, now);
    else await goOn(unit, run, now);
    changed.push(run.id);
  }
  return changed;
}

async function goOn(unit: Unit, run: RunRow, now: number): Promise<void> {
  const failed = run.state === RUN.failed;
  const entries = failed ? await unit.entries.select({ where: rangeOf(run.no) }, (row) => row.kind === 0 && row.no.startsWith(run.no)) : [];
  const closed = entries.filter(({ state }) => state === ENTRY.failed || state === ENTRY.cancelled);
  // What was under way when the run failed is in a hurry again.
  const under = entries.filter((row) => row.state === ENTRY.batched && row.deadline_at !== null && row.check_at === null);
  const reopened = closed.filter((row) => row.seq !== null).length;
  unit.tallies.move(RUNS, run.state, RUN.runnable);
  unit.runs.change(run, { state: RUN.runnable, attempts: 0, ended_at: null, dropping: 0, open: run.open + reopened });
  for (const row of closed) await askAgain(unit, run, row, now);
  for (const row of under) unit.entries.change(row, { check_at: now });
}

/**
 * The run begins anew under a new epoch, so that no turn in some worker's memory goes on with the old history. Numbers of its entries are used
 * again: what still comes for the old ones finds another batch than theirs, and runs that it started report to nobody, for its `round` has changed.
 */
async function startAfresh(unit: Unit, run: RunRow, isHandler: boolean, now: number): Promise<void> {
  const first = isHandler ? entryKey(run.no, 0) : undefined;
  await forgetHistory(unit, run, now, first === undefined ? {} : { keep: first });
  const state = isHandler ? RUN.waiting : RUN.runnable;
  const count = isHandler ? 1 : 0;
  unit.tallies.move(RUNS, run.state, state);
  unit.runs.change(run, {
    state,
    epoch: run.epoch + 1,
    round: run.round + 1,
    attempts: 0,
    seq: 0,
    entries: count,
    open: count,
    retry_at: null,
    cancel: 0,
    code: "",
    ended_at: null,
    dropping: 0,
    pruned: 0,
    reserved: 0,
  });
  if (first === undefined) return;
  const row = await unit.entries.get(first);
  if (row !== undefined) await askAgain(unit, run, row, now);
}

/** The error stands until the run goes on. */
export async function holdRuns(unit: Unit, { ids, error }: { ids: readonly string[]; error: SerializedError }): Promise<string[]> {
  const changed: string[] = [];
  for (const run of await loadRuns(unit, ids)) {
    if (run.state !== RUN.runnable && run.state !== RUN.waiting && run.state !== RUN.retrying) continue;
    unit.tallies.move(RUNS, run.state, RUN.held);
    unit.runs.change(run, { state: RUN.held, retry_at: null });
    setOutcome(unit, run, { output: null, error });
    changed.push(run.id);
  }
  return changed;
}
