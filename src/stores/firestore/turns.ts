import type { CommitResult, NewRun, TurnCommit } from "../../core/store.ts";
import { awaitedRequest } from "../awaited.ts";
import { RUN, runStates } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { cancelled } from "../run-errors.ts";
import { noBill } from "../money.ts";
import { chargeRun } from "./entries.ts";
import { digest, entryKey, runOf } from "./keys.ts";
import { type Fate, insertEntry, insertShared, isShared, reservedFor } from "./requests.ts";
import { type RunRow, workerKey } from "./rows.ts";
import { addNotes, endRun, findEntry, type Parent, reserve, runAt, setOutcome, startRun } from "./runs.ts";
import { loadShares, shareOf } from "./shared.ts";
import type { Unit } from "./unit.ts";

/** How many documents a turn writes, as far as it says so itself. */
export function weightOfTurn({ entries, starts, outcome }: TurnCommit): number {
  const ends = outcome.type === "completed" || outcome.type === "failed";
  return 1 + entries.length + starts.reduce((sum, { request }) => sum + (request === undefined ? 1 : 2), 0) + (ends ? 2 : 0);
}

export async function commitTurns(
  unit: Unit,
  { worker, now, turns }: { worker: string; now: number; turns: readonly TurnCommit[] },
): Promise<CommitResult[]> {
  await unit.load({ runs: turns.flatMap(({ run, starts }) => [digest(run), ...starts.map(({ id }) => digest(id))]) });
  const inHand = turns.map((turn) => {
    const run = runAt(unit, turn.run);
    return run !== undefined && run.state === RUN.running && run.epoch === turn.epoch && run.worker === workerKey(worker) ? run : undefined;
  });
  const ending = turns.flatMap(({ outcome: { type } }, i) => {
    const parent = type === "completed" || type === "failed" ? inHand[i]?.parent : undefined;
    return parent === undefined || parent === null ? [] : [parent];
  });
  await unit.load({ runs: ending.map(runOf), entries: ending });
  await reserve(
    unit,
    turns.flatMap((turn, i): readonly NewRun[] => (inHand[i] === undefined ? [] : turn.starts)),
  );
  const added = turns.flatMap((turn, i) =>
    inHand[i] === undefined ? [] : turn.entries.slice(Math.max(0, inHand[i].entries - turn.firstNo)),
  );
  await loadShares(
    unit,
    added.flatMap(({ request }) => (request?.cache === undefined ? [] : [shareOf(request.cache)])),
  );
  const results: CommitResult[] = [];
  for (const [i, turn] of turns.entries()) {
    const run = inHand[i];
    // A run that is in the array twice has given its claim back with the first.
    if (run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch) results.push({ state: "lost" });
    else results.push(await commitTurn(unit, run, now, turn));
  }
  return results;
}

async function commitTurn(unit: Unit, run: RunRow, now: number, turn: TurnCommit): Promise<CommitResult> {
  if (turn.notes.length > 0) await addNotes(unit, run, turn.notes);
  if (run.cancel === 1) {
    await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(turn.run) }, now);
    return { state: "cancelled", seq: run.seq };
  }
  const { outcome } = turn;
  const fate = outcome.type === "completed" ? "ends" : outcome.type === "failed" ? "fails" : "lives";
  const knows = run.seq === turn.seen;
  const before = run.seq;
  const ownSeq = await addEntries(unit, run, turn, now, fate);
  await addStarts(unit, run, turn, now);

  switch (outcome.type) {
    case "running":
      return save(unit, run, turn, RUN.running, 0, null);
    case "waiting": {
      // A start of this turn may have found its run ended, a request its answer: then there is news already.
      const news = !knows || run.seq !== ownSeq;
      if (!news && run.open === 0) throw new Error(`Run ${turn.run} would wait for nothing (${before} settled, none open).`);
      return save(unit, run, turn, news ? RUN.runnable : RUN.waiting, 0, null);
    }
    case "retry":
      setOutcome(unit, run, { output: null, error: outcome.error });
      if (outcome.at <= now) return save(unit, run, turn, RUN.runnable, run.attempts + 1, null);
      return save(unit, run, turn, RUN.retrying, run.attempts + 1, outcome.at);
    case "held":
      setOutcome(unit, run, { output: null, error: outcome.error });
      return save(unit, run, turn, RUN.held, 0, null);
    case "completed":
    case "failed": {
      const failed = outcome.type === "failed";
      save(unit, run, turn, RUN.running, 0, null);
      const answer = failed ? { value: undefined, error: outcome.error } : { value: outcome.output, error: undefined };
      await endRun(unit, run, failed ? RUN.failed : RUN.completed, answer, now);
      return { state: outcome.type, seq: run.seq };
    }
  }
}

/**
 * Entries of a repeated commit are there already; then they count for nothing a second time. Returns the run's `seq` after the entries that the turn
 * settled itself: a request whose answer is shared may settle after them, and that is news.
 */
async function addEntries(unit: Unit, run: RunRow, turn: TurnCommit, now: number, fate: Fate): Promise<number> {
  if (turn.firstNo > run.entries)
    throw new Error(`Run ${turn.run} has ${run.entries} entries; a turn went on with number ${turn.firstNo}.`);
  const known = turn.entries.slice(0, Math.max(0, run.entries - turn.firstNo));
  await unit.load({ entries: known.map((_, i) => entryKey(run.no, turn.firstNo + i)) });
  const shared: number[] = [];
  let reserved = 0;
  for (const [i, entry] of turn.entries.entries()) {
    const no = turn.firstNo + i;
    if (i < known.length) {
      if (unit.entries.peek(entryKey(run.no, no))?.key !== entry.key)
        throw new Error(`Entry ${no} of run ${turn.run} was recorded with another key.`);
      continue;
    }
    unit.runs.change(run, { entries: run.entries + 1 });
    if (isShared(entry) && fate === "lives") {
      unit.runs.change(run, { open: run.open + 1 });
      shared.push(i);
      continue;
    }
    if (fate === "lives") reserved += reservedFor(entry);
    const seq = insertEntry(unit, run, no, entry, now, run.seq + 1, fate);
    unit.runs.change(run, seq === undefined ? { open: run.open + 1 } : { seq });
  }
  chargeRun(unit, run, noBill, -reserved);
  const ownSeq = run.seq;
  for (const i of shared) {
    const entry = turn.entries[i];
    if (entry !== undefined) await insertShared(unit, run, turn.firstNo + i, entry, now);
  }
  return ownSeq;
}

async function addStarts(unit: Unit, run: RunRow, turn: TurnCommit, now: number): Promise<void> {
  const own = new Map(turn.entries.map((entry, i) => [entry.key, entryKey(run.no, turn.firstNo + i)]));
  for (const start of turn.starts) {
    let parent: Parent | undefined;
    if (start.parent !== undefined) {
      const entry = start.parent.run === turn.run ? own.get(start.parent.key) : undefined;
      parent = entry === undefined ? await findEntry(unit, start.parent) : { entry, round: run.round };
    }
    await startRun(unit, now, start, parent, { key: run.no, deadlineAt: run.deadline_at });
  }
}

/** Writes the run's row back. Every state but `running` gives the claim back. */
function save(unit: Unit, run: RunRow, turn: TurnCommit, state: number, attempts: number, retryAt: number | null): CommitResult {
  unit.runs.change(run, { code: turn.code, retry_at: retryAt, attempts, state, worker: state === RUN.running ? run.worker : null });
  unit.tallies.move(RUNS, RUN.running, state);
  return { state: runStates[state] ?? "runnable", seq: run.seq, ...awaitedRequest(turn, state, (no) => entryKey(run.no, no)) };
}
