import type { Answer } from "../answers.ts";
import type { SerializedError } from "../../core/errors.ts";
import type { ChainVersions, ClaimedRun, Entry, NewEntry, NewRun, StartOutcome } from "../../core/store.ts";
import { ENTRY, entryKinds, RUN, runKinds } from "../codes.ts";
import { RUNS } from "../counts.ts";
import { toUsd } from "../money.ts";
import { conflict } from "../run-errors.ts";
import type { Data, Database } from "./database.ts";
import { settleEntry, settleParent, storedError } from "./entries.ts";
import { unstorable } from "./errors.ts";
import { chainKey, digest, entryNumber, isStorable, orderOf, runKey, runOf } from "./keys.ts";
import { dropOpenEntries, insertEntry, insertShared, isShared, rangeOf, reservedFor } from "./requests.ts";
import { type EntryRow, queueOf, type RunRow, specs, workerKey } from "./rows.ts";
import { loadShares, shareOf } from "./shared.ts";
import type { Unit } from "./unit.ts";
import { expandRow, hasRow } from "./working-set.ts";

/** Values that one query compares a field with: Firestore takes 30. */
export const MAX_VALUES = 30;

export const partsOf = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));

export async function startRuns(unit: Unit, { now, runs }: { now: number; runs: NewRun[] }): Promise<StartOutcome[]> {
  await reserve(unit, runs);
  const outcomes: StartOutcome[] = [];
  for (const run of runs) {
    const parent = run.parent === undefined ? undefined : await findEntry(unit, run.parent);
    outcomes.push(await startRun(unit, now, run, parent));
  }
  return outcomes;
}

/** Reads the documents of runs that shall begin, whether they are there or not, and the answers that their first requests share. */
export async function reserve(unit: Unit, runs: readonly NewRun[]): Promise<void> {
  const odd = runs.find(({ id, chain, version }) => !isStorable(id) || !isStorable(chain) || !isStorable(version));
  if (odd !== undefined) throw unstorable("An id or name of a run");
  await unit.load({ runs: runs.map(({ id }) => digest(id)) });
  await loadShares(
    unit,
    runs.flatMap(({ request }) => (request?.request?.cache === undefined ? [] : [shareOf(request.request.cache)])),
  );
}

/** The run of an id that was looked up. */
export function runAt(unit: Unit, id: string): RunRow | undefined {
  const row = unit.runs.at(digest(id));
  return row?.id === id ? row : undefined;
}

/** Who starts a run within a commit. */
export interface Starter {
  key: string;
  deadlineAt: number | null;
}

/** An entry of a run, and how often that run's history was forgotten. */
export interface Parent {
  entry: string;
  round: number;
}

/**
 * Starts one run. `parent` is the entry that waits for its output. If the run exists already, that entry waits for the run as it is:
 * it settles at once when the run has ended, or is told that the id is taken by something else.
 */
export async function startRun(unit: Unit, now: number, run: NewRun, parent: Parent | undefined, starter?: Starter): Promise<StartOutcome> {
  const found = runAt(unit, run.id);
  if (found !== undefined) return joinRun(unit, run, found, parent);
  const { request } = run;
  const row = unit.runs.add(
    {
      no: runKey(run.id, unit.database.births.next(now)),
      id: run.id,
      fingerprint: run.fingerprint,
      state: request === undefined ? RUN.runnable : RUN.waiting,
      kind: runKinds.indexOf(run.kind),
      ...{ cancel: 0, pruned: 0, epoch: 0, round: 0, worker: null, seq: 0, attempts: 0, code: "" },
      ...{
        usd: 0,
        standard_usd: 0,
        unpriced: 0,
        retry_at: null,
        waiters: [],
        dropping: 0,
        ended_at: null,
        error_code: null,
        reference: null,
        sizes: {},
      },
      chain: run.chain,
      version: run.version,
      open: request === undefined ? 0 : 1,
      entries: request === undefined ? 0 : 1,
      priority: run.priority,
      reserved: request === undefined || isShared(request) ? 0 : reservedFor(request),
      deadline_at: run.deadlineAt ?? starter?.deadlineAt ?? null,
      created_at: now,
      parent: parent?.entry ?? null,
      parent_round: parent?.round ?? 0,
      starter: parent === undefined ? (starter?.key ?? null) : runOf(parent.entry),
    },
    { input: run.input },
  );
  unit.tallies.move(RUNS, undefined, row.state);
  if (request !== undefined) await addFirstRequest(unit, row, request, now);
  return "started";
}

/** The request that a handler run waits for. A shared answer may be there already; then the run is runnable at once. */
async function addFirstRequest(unit: Unit, run: RunRow, entry: NewEntry, now: number): Promise<void> {
  const first =
    entry.request === undefined || entry.request.deadlineAt !== undefined || run.deadline_at === null
      ? entry
      : { ...entry, request: { ...entry.request, deadlineAt: run.deadline_at } };
  if (isShared(first)) await insertShared(unit, run, 0, first, now);
  else insertEntry(unit, run, 0, first, now, 1, "lives");
}

async function joinRun(unit: Unit, run: NewRun, found: RunRow, parent: Parent | undefined): Promise<StartOutcome> {
  const same = found.fingerprint === run.fingerprint;
  const outcome = same ? "existing" : "conflict";
  if (parent === undefined || (found.parent === parent.entry && found.parent_round === parent.round)) return outcome;
  if (!same) await settleParent(unit, parent.entry, parent.round, { value: undefined, error: conflict(run.id) });
  else if (found.state >= RUN.completed) {
    await unit.runs.loadTexts(found, ["output", "error"]);
    await settleParent(unit, parent.entry, parent.round, outcomeOf(unit, found));
  } else {
    const waiter = `${parent.entry} ${parent.round}`;
    if (!found.waiters.includes(waiter)) unit.runs.change(found, { waiters: [...found.waiters, waiter] });
  }
  return outcome;
}

/** The entry of a run by its key: a walk over the run's entries, for the rare start that is not in one commit with its entry. */
export async function findEntry(unit: Unit, { run: id, key }: { run: string; key: string }): Promise<Parent | undefined> {
  await unit.load({ runs: [digest(id)] });
  const run = runAt(unit, id);
  if (run === undefined) return undefined;
  const [entry] = await unit.entries.select({ where: rangeOf(run.no) }, (row) => row.no.startsWith(run.no) && row.key === key);
  return entry === undefined ? undefined : { entry: entry.no, round: run.round };
}

export function setOutcome(unit: Unit, run: RunRow, { output, error }: { output: string | null; error: SerializedError | null }): void {
  unit.runs.setTexts(run, { output, error: storedError(error) });
  unit.runs.change(run, { error_code: error?.code ?? null });
}

/** Ends a run in `state` and tells whoever waits for it. */
export async function endRun(unit: Unit, run: RunRow, state: number, answer: Answer, now: number): Promise<void> {
  unit.tallies.move(RUNS, run.state, state);
  unit.runs.change(run, { state, worker: null, retry_at: null, cancel: 0, ended_at: now });
  setOutcome(unit, run, { output: answer.value ?? null, error: answer.error ?? null });
  if (run.open > 0) await dropOpenEntries(unit, run, state === RUN.failed, now);
  if (run.parent !== null) await settleParent(unit, run.parent, run.parent_round, answer);
  await tellWaiters(unit, run, answer);
}

/** Tells the next of those who wait for a run that ended, as many as one transaction takes; the others are told right after it. */
async function tellWaiters(unit: Unit, run: RunRow, answer: Answer): Promise<void> {
  if (run.waiters.length === 0) return;
  const some = run.waiters.slice(0, unit.told.take(run.waiters.length, Buffer.byteLength(answer.value ?? "")));
  for (const waiter of some) {
    const [entry = "", round] = waiter.split(" ");
    await settleParent(unit, entry, Number(round), answer);
  }
  unit.runs.change(run, { waiters: run.waiters.slice(some.length) });
}

/** Runs that ended, and have not told everybody or withdrawn everything. */
export async function findTelling(database: Database): Promise<string[]> {
  return (await database.find({ from: "runs", where: [["telling", "==", true]], fields: ["telling"] })).map(({ id }) => id);
}

export async function tellMore(unit: Unit, document: string, now: number): Promise<void> {
  await unit.runs.load([document], ["output", "error"]);
  const run = unit.runs.at(document);
  if (run === undefined || run.ended_at === null) return;
  if (run.dropping === 1) await dropOpenEntries(unit, run, run.state === RUN.failed, now);
  await tellWaiters(unit, run, outcomeOf(unit, run));
}

/** What became of a run whose payloads were read. */
function outcomeOf(unit: Unit, run: RunRow): Answer {
  const error = unit.runs.text(run, "error");
  return { value: unit.runs.text(run, "output"), error: error === undefined ? undefined : (JSON.parse(error) as SerializedError) };
}

export async function addNotes(unit: Unit, run: RunRow, notes: readonly string[]): Promise<void> {
  if ((run.sizes["notes"] ?? 0) > 0) await unit.runs.loadTexts(run, ["notes"]);
  const before = JSON.parse(unit.runs.text(run, "notes") ?? "[]") as string[];
  unit.runs.setTexts(run, { notes: JSON.stringify([...before, ...notes]) });
}

// Claims -------------------------------------------------------------------------------------------------------------

/** The queues of these chains, in every shard. */
export function readyQueues(database: Database, chains: readonly ChainVersions[]): string[] {
  const keys = chains.flatMap(({ chain, versions }) => versions.map((version) => chainKey(chain, version)));
  return keys.flatMap((key) => Array.from({ length: database.settings.shards }, (_, shard) => queueOf(shard, key)));
}

/** Runs that may be claimed, highest priority first, oldest first within it. */
export async function findReady(database: Database, chains: readonly ChainVersions[], limit: number): Promise<string[]> {
  const parts = partsOf(readyQueues(database, chains), MAX_VALUES);
  const found = await Promise.all(
    parts.map((queues) =>
      database.find({
        from: "runs",
        where: [["ready", "in", queues]],
        order: [
          ["priority", "desc"],
          ["order", "asc"],
        ],
        limit,
        fields: ["priority", "order"],
      }),
    ),
  );
  return found
    .flat()
    .map(({ id, data }) => ({ id, priority: data["priority"] as number, order: data["order"] as string }))
    .toSorted((a, b) => b.priority - a.priority || (a.order < b.order ? -1 : 1))
    .slice(0, limit)
    .map(({ id }) => id);
}

/** Takes those of these runs that nobody has taken meanwhile. */
export async function claimRuns(
  unit: Unit,
  worker: string,
  documents: readonly string[],
  chains: readonly ChainVersions[],
): Promise<ClaimedRun[]> {
  await ensureWorker(unit, worker);
  await unit.runs.load(documents, ["input"]);
  const wanted = new Set(chains.flatMap(({ chain, versions }) => versions.map((version) => chainKey(chain, version))));
  const claimed: ClaimedRun[] = [];
  for (const document of documents) {
    const run = unit.runs.at(document);
    if (run === undefined || run.state !== RUN.runnable || !wanted.has(chainKey(run.chain, run.version))) continue;
    unit.runs.change(run, { state: RUN.running, epoch: run.epoch + 1, worker: workerKey(worker) });
    unit.tallies.move(RUNS, RUN.runnable, RUN.running);
    claimed.push({
      id: run.id,
      kind: runKinds[run.kind] ?? "chain",
      chain: run.chain,
      version: run.version,
      code: run.code,
      input: unit.runs.text(run, "input") ?? "null",
      epoch: run.epoch,
      seq: run.seq,
      attempts: run.attempts,
      priority: run.priority,
      deadlineAt: run.deadline_at ?? undefined,
      usd: toUsd(run.usd),
      reservedUsd: toUsd(run.reserved),
      createdAt: run.created_at,
    });
  }
  return claimed;
}

/** Reads the worker, so that nobody gives it up meanwhile. One that never had a heartbeat gets a lease that is over: the next heartbeat of anyone ends its claims. */
export async function ensureWorker(unit: Unit, id: string): Promise<string> {
  const key = workerKey(id);
  await unit.load({ workers: [key] });
  if (unit.workers.peek(key) === undefined) unit.workers.add({ no: key, id, host: "", pid: 0, lease_until: 0 });
  return key;
}

// History ------------------------------------------------------------------------------------------------------------

export async function loadHistory(database: Database, { runs }: { runs: { run: string; since: number }[] }): Promise<Entry[][]> {
  const { found } = await database.read(runs.map(({ run }) => database.document("runs", digest(run))));
  return Promise.all(
    runs.map(async ({ run: id, since }, i) => {
      const document = found[i];
      if (document === undefined) return [];
      const run = expandRow(specs.runs, document.data["d"] as Data);
      if (run.id !== id || run.entries === 0 || (since > 0 && run.seq <= since)) return [];
      const entries = await database.find({
        from: "entries",
        where:
          since === 0
            ? rangeOf(run.no)
            : ([
                ["run", "==", run.no],
                ["seq", ">", since],
              ] as const),
        fields: ["d", "t.value", "t.error"],
      });
      return entries
        .filter(hasRow)
        .map(toEntry)
        .toSorted((a, b) => a.no - b.no);
    }),
  );
}

function toEntry({ data }: { data: Data }): Entry {
  const row: EntryRow = expandRow(specs.entries, data["d"] as Data);
  const { value, error } = (data["t"] ?? {}) as { value?: string; error?: string };
  return {
    no: entryNumber(row.no),
    key: row.key,
    kind: entryKinds[row.kind] ?? "request",
    fingerprint: row.fingerprint,
    seq: row.seq ?? undefined,
    value,
    error: error === undefined ? undefined : (JSON.parse(error) as SerializedError),
  };
}

export async function wakeRuns(unit: Unit, { runs }: { runs: { run: string; epoch: number }[] }): Promise<void> {
  await unit.load({ runs: runs.map(({ run }) => digest(run)) });
  for (const { run: id, epoch } of runs) {
    const run = runAt(unit, id);
    if (run === undefined || run.state !== RUN.waiting || run.epoch !== epoch) continue;
    unit.runs.change(run, { state: RUN.runnable });
    unit.tallies.move(RUNS, RUN.waiting, RUN.runnable);
  }
}

// Timers -------------------------------------------------------------------------------------------------------------

/** Sleeps and turn retries that are due, up to `limit`, those of sleeps first. */
export async function findTimers(database: Database, now: number, limit: number): Promise<{ sleeps: string[]; retries: string[] }> {
  const due = async (from: string, field: string, most: number): Promise<string[]> =>
    (await database.find({ from, where: [[field, "<=", now]], order: [[field, "asc"]], limit: most, fields: [field] })).map(({ id }) => id);
  const sleeps = await due("entries", "wake_at", limit);
  const retries = sleeps.length >= limit ? [] : await due("runs", "retry_at", limit - sleeps.length);
  return { sleeps, retries };
}

export async function fireTimers(unit: Unit, now: number, { sleeps, retries }: { sleeps: string[]; retries: string[] }): Promise<number> {
  await unit.load({ runs: [...sleeps.map(runOf), ...retries], entries: sleeps });
  let fired = 0;
  for (const no of sleeps) {
    const entry = unit.entries.peek(no);
    const run = unit.runs.peek(runOf(no));
    if (run === undefined || entry === undefined || entry.state !== ENTRY.sleeping || (entry.due_at ?? 0) > now) continue;
    settleEntry(unit, entry, run, ENTRY.succeeded, { value: undefined, error: undefined });
    fired += 1;
  }
  for (const document of retries) {
    const run = unit.runs.at(document);
    if (run === undefined || run.state !== RUN.retrying || (run.retry_at ?? 0) > now) continue;
    unit.runs.change(run, { state: RUN.runnable, retry_at: null });
    unit.tallies.move(RUNS, RUN.retrying, RUN.runnable);
    fired += 1;
  }
  return fired;
}

export const byRunAge = (a: RunRow, b: RunRow): number => (orderOf(a.no) < orderOf(b.no) ? -1 : 1);
