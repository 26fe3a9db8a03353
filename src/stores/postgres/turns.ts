import { errorText } from "../batch-update.ts";
import type { CommitResult, NewRun, TurnCommit } from "../../core/store.ts";
import { awaitedRequest } from "../awaited.ts";
import { entryNo, requestId, RUN, runStates } from "../codes.ts";
import { cancelled } from "../run-errors.ts";
import { noBill } from "../money.ts";
import { column, toArray } from "./arrays.ts";
import { chargeRun } from "./entries.ts";
import { type Fate, insertEntry, insertShared, isShared, reservedFor } from "./requests.ts";
import { addNotes, endRun, findEntry, type Places, reserve, startRun } from "./runs.ts";
import { lockKeys } from "./shared.ts";
import { RUNS } from "../counts.ts";
import type { RunRow, Unit } from "./unit.ts";

export async function commitTurns(
  unit: Unit,
  { worker, now, turns }: { worker: string; now: number; turns: TurnCommit[] },
): Promise<CommitResult[]> {
  const workerNo = await unit.names.claimant(worker);
  const numbers = await unit.names.claimedNos(turns.map(({ run }) => run));
  const done = workerNo === undefined ? new Map<TurnCommit, CommitResult>() : await commitQuickly(unit, workerNo, now, turns, numbers);
  await lockRuns(
    unit,
    turns.filter((turn) => !done.has(turn)),
    numbers,
  );
  const inHand = turns.map((turn) => {
    if (done.has(turn)) return undefined;
    const run = unit.runs.peek(numbers.get(turn.run) ?? -1);
    return run !== undefined && run.state === RUN.running && run.epoch === turn.epoch && run.worker === workerNo ? run : undefined;
  });
  const starts = turns.flatMap((turn, i): readonly NewRun[] => (inHand[i] === undefined || inHand[i].cancel === 1 ? [] : turn.starts));
  const places = await reserve(unit, starts);
  // Of what is really added: a key that nobody uses would stay for ever.
  const added = turns.flatMap((turn, i) => {
    const run = inHand[i];
    return run === undefined || run.cancel === 1 ? [] : turn.entries.slice(Math.max(0, run.entries - turn.firstNo));
  });
  const first = starts.flatMap(({ id, request }) => (places.free.has(id) ? (request ?? []) : []));
  await lockKeys(
    unit,
    [...added, ...first].flatMap(({ request }) => request?.cache ?? []),
  );
  const results: CommitResult[] = [];
  for (const [i, turn] of turns.entries()) {
    const run = inHand[i];
    const quick = done.get(turn);
    if (quick !== undefined) {
      results.push(quick);
      continue;
    }
    // A run that is in the array twice has given its claim back with the first.
    if (run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch) {
      unit.names.dropRun(turn.run, turn.epoch);
      results.push({ state: "lost" });
    } else results.push(await commitTurn(unit, run, now, turn, places));
  }
  // Ids that a turn wanted which then counted for nothing are free again.
  await unit.removeInputs([...places.free.values()]);
  return results;
}

/**
 * Locks the runs of these turns, and the parents of those that end, which will be told: all in the order of their numbers, or two commits with children of the same parents would wait for each other.
 */
async function lockRuns(unit: Unit, turns: readonly TurnCommit[], numbers: ReadonlyMap<string, number>): Promise<void> {
  const runs = turns.flatMap(({ run }) => numbers.get(run) ?? []);
  const ending = turns.flatMap(({ run, outcome: { type } }) => (type === "completed" || type === "failed" ? (numbers.get(run) ?? []) : []));
  if (ending.length === 0) return unit.runs.lock(runs);
  await unit.runs.select(
    `WHERE no = ANY($1::int8[]) OR no = ANY(ARRAY(SELECT c.parent >> 20 FROM gb.runs c WHERE c.no = ANY($2::int8[]) AND c.parent IS NOT NULL)) ORDER BY no FOR UPDATE`,
    [toArray("int8[]", runs), toArray("int8[]", ending)],
  );
  await unit.entries.lock(ending.flatMap((no) => unit.runs.peek(no)?.parent ?? []));
}

/**
 * The guards are within a CASE: the planner neither looks for an index of a state in them, nor believes that next to no row passes them and walks the table for those. Rows are found by
 * their primary key.
 */
const quickUpdate = `
  UPDATE gb.runs r SET
    state = u.state, worker = CASE WHEN u.state = 1 THEN r.worker END, seq = r.seq + u.settled, entries = r.entries + u.added,
    open = r.open + u.added - u.settled, attempts = 0, code = $2, reserved = r.reserved + u.reserved,
    ended_at = CASE WHEN u.state = 5 THEN $11::int8 ELSE r.ended_at END
  FROM unnest($3::int8[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int4[], $9::float8[], $10::int2[])
    AS u(no, epoch, seen, first_no, settled, added, reserved, state)
  WHERE r.no = u.no AND CASE
    WHEN r.state = 1 AND r.epoch = u.epoch AND r.worker = $1 AND r.seq = u.seen AND r.entries = u.first_no AND r.cancel = 0
      THEN CASE u.state
        WHEN 1 THEN true
        WHEN 2 THEN r.open + u.added - u.settled > 0
        -- It ends: nothing is open, and nobody waits for it.
        ELSE r.open + u.added - u.settled = 0 AND r.parent IS NULL AND r.shared = 0 END
    ELSE false END
  RETURNING r.no`;

/**
 * The turn that nearly every turn is: it waits, goes on or completes, starts nothing, and nothing happened to its run meanwhile. One guarded update says for all of them whether that
 * is so, without reading or locking a row first. Returns those that it was right for; of the others nothing is changed.
 */
async function commitQuickly(
  unit: Unit,
  worker: number,
  now: number,
  turns: readonly TurnCommit[],
  numbers: ReadonlyMap<string, number>,
): Promise<Map<TurnCommit, CommitResult>> {
  const done = new Map<TurnCommit, CommitResult>();
  const times = new Map<string, number>();
  for (const { run } of turns) times.set(run, (times.get(run) ?? 0) + 1);
  const quick = turns.flatMap((turn) => {
    const no = numbers.get(turn.run);
    const { type } = turn.outcome;
    const state = type === "waiting" ? RUN.waiting : type === "running" ? RUN.running : type === "completed" ? RUN.completed : undefined;
    const simple = turn.starts.length === 0 && turn.notes.length === 0 && !turn.entries.some(isShared);
    // Two turns of one run are looked at in their order.
    if (no === undefined || state === undefined || !simple || times.get(turn.run) !== 1) return [];
    const settled = turn.entries.filter((entry) => entry.settled !== undefined).length;
    // What is still open when a run ends is withdrawn, one by one.
    if (type === "completed" && settled < turn.entries.length) return [];
    const reserved = turn.entries.reduce((sum, entry) => sum + reservedFor(entry), 0);
    return [{ turn, no, settled, reserved, state }];
  });
  if (quick.length === 0) return done;
  quick.sort((a, b) => a.no - b.no);
  const right = new Set<number>();
  // The same code executed nearly all of them.
  for (const [code, group] of Map.groupBy(quick, ({ turn }) => turn.code)) {
    const updated = await unit.sql.rows<[number]>(quickUpdate, [
      worker,
      code,
      column("int8[]", group, ({ no }) => no),
      column("int4[]", group, ({ turn }) => turn.epoch),
      column("int4[]", group, ({ turn }) => turn.seen),
      column("int4[]", group, ({ turn }) => turn.firstNo),
      column("int4[]", group, ({ settled }) => settled),
      column("int4[]", group, ({ turn }) => turn.entries.length),
      column("float8[]", group, ({ reserved }) => reserved),
      column("int2[]", group, ({ state }) => state),
      now,
    ]);
    for (const [no] of updated) right.add(no);
  }
  for (const { turn, no, state } of quick) {
    if (!right.has(no)) continue;
    let seq = turn.seen;
    for (const [i, entry] of turn.entries.entries()) {
      seq = (await insertEntry(unit, no, turn.firstNo + i, entry, now, seq + 1, "lives")) ?? seq;
    }
    unit.tallies.move(RUNS, RUN.running, state);
    if (state !== RUN.running) unit.names.dropRun(turn.run, turn.epoch);
    if (turn.outcome.type === "completed") unit.setOutcome(no, { output: turn.outcome.output, error: null });
    done.set(turn, {
      state: runStates[state] ?? "runnable",
      seq,
      ...awaitedRequest(turn, state, (entry) => requestId(entryNo(no, entry))),
    });
  }
  return done;
}

async function commitTurn(unit: Unit, run: RunRow, now: number, turn: TurnCommit, places: Places): Promise<CommitResult> {
  if (turn.notes.length > 0) await addNotes(unit, run.no, turn.notes);
  if (run.cancel === 1) {
    unit.names.dropRun(turn.run, turn.epoch);
    await endRun(unit, run, RUN.cancelled, { value: undefined, error: cancelled(turn.run) }, now);
    return { state: "cancelled", seq: run.seq };
  }
  const { outcome } = turn;
  const fate = outcome.type === "completed" ? "ends" : outcome.type === "failed" ? "fails" : "lives";
  const knows = run.seq === turn.seen;
  const before = run.seq;
  const ownSeq = await addEntries(unit, run, turn, now, fate);
  await addStarts(unit, run, turn, now, places);

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
      unit.setOutcome(run.no, { output: null, error: errorText(outcome.error) });
      if (outcome.at <= now) return save(unit, run, turn, RUN.runnable, run.attempts + 1, null);
      return save(unit, run, turn, RUN.retrying, run.attempts + 1, outcome.at);
    case "held":
      unit.setOutcome(run.no, { output: null, error: errorText(outcome.error) });
      return save(unit, run, turn, RUN.held, 0, null);
    case "completed":
    case "failed": {
      const failed = outcome.type === "failed";
      const state = failed ? RUN.failed : RUN.completed;
      save(unit, run, turn, RUN.running, 0, null);
      unit.names.dropRun(turn.run, turn.epoch);
      const answer = failed ? { value: undefined, error: outcome.error } : { value: outcome.output, error: undefined };
      await endRun(unit, run, state, answer, now);
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
  const shared: number[] = [];
  let reserved = 0;
  for (const [i, entry] of turn.entries.entries()) {
    const no = turn.firstNo + i;
    if (no < run.entries) {
      const found = await unit.entries.get(entryNo(run.no, no));
      if (found?.key !== entry.key) throw new Error(`Entry ${no} of run ${turn.run} was recorded with another key.`);
      continue;
    }
    unit.runs.change(run, { entries: run.entries + 1 });
    if (isShared(entry) && fate === "lives") {
      unit.runs.change(run, { open: run.open + 1 });
      shared.push(i);
      continue;
    }
    if (fate === "lives") reserved += reservedFor(entry);
    const seq = await insertEntry(unit, run.no, no, entry, now, run.seq + 1, fate);
    unit.runs.change(run, seq === undefined ? { open: run.open + 1 } : { seq });
  }
  if (reserved > 0) chargeRun(unit, run, noBill, -reserved);
  const ownSeq = run.seq;
  for (const i of shared) {
    const entry = turn.entries[i];
    if (entry !== undefined) await insertShared(unit, run, turn.firstNo + i, entry, now);
  }
  return ownSeq;
}

async function addStarts(unit: Unit, run: RunRow, turn: TurnCommit, now: number, places: Places): Promise<void> {
  if (turn.starts.length === 0) return;
  const own = new Map(turn.entries.map((entry, i) => [entry.key, entryNo(run.no, turn.firstNo + i)]));
  for (const start of turn.starts) {
    const { parent } = start;
    const at =
      parent === undefined ? undefined : ((parent.run === turn.run ? own.get(parent.key) : undefined) ?? (await findEntry(unit, parent)));
    await startRun(unit, now, start, places, at, { no: run.no, deadlineAt: run.deadline_at });
  }
}

/** Writes the run's row back. Every state but `running` gives the claim back. */
function save(unit: Unit, run: RunRow, turn: TurnCommit, state: number, attempts: number, retryAt: number | null): CommitResult {
  if (run.code !== turn.code) unit.runs.change(run, { code: turn.code });
  if (run.retry_at !== retryAt) unit.runs.change(run, { retry_at: retryAt });
  if (run.attempts !== attempts) unit.runs.change(run, { attempts });
  unit.runs.change(run, state === RUN.running ? { state } : { state, worker: null });
  unit.tallies.move(RUNS, RUN.running, state);
  if (state !== RUN.running) unit.names.dropRun(turn.run, turn.epoch);
  return { state: runStates[state] ?? "runnable", seq: run.seq, ...awaitedRequest(turn, state, (no) => requestId(entryNo(run.no, no))) };
}
