import type { Answer } from "../answers.ts";
import { errorText } from "../batch-update.ts";
import type { SerializedError } from "../../core/errors.ts";
import type { ClaimedRun, Entry, NewEntry, NewRun, StartOutcome } from "../../core/store.ts";
import { ENTRY, entryKinds, entryNo, RUN, runKinds, runOf } from "../codes.ts";
import { conflict } from "../run-errors.ts";
import { toUsd } from "../money.ts";
import { column, toArray } from "./arrays.ts";
import type { Sql } from "./session.ts";
import { Conflict } from "./errors.ts";
import { settleEntry, settleParent } from "./entries.ts";
import type { TransactionNames } from "./names.ts";
import { dropOpenEntries, insertEntry, insertShared, isShared, reservedFor } from "./requests.ts";
import { portions } from "./portions.ts";
import { lockKeys } from "./shared.ts";
import { RUNS } from "../counts.ts";
import type { RunRow, Unit } from "./unit.ts";

export async function startRuns(unit: Unit, { now, runs }: { now: number; runs: NewRun[] }): Promise<StartOutcome[]> {
  const places = await reserve(unit, runs);
  // Only of runs that begin now: a key that nobody uses would stay for ever.
  const begun = runs.filter(({ id }) => places.free.has(id));
  await lockKeys(
    unit,
    begun.flatMap(({ request }) => request?.request?.cache ?? []),
  );
  const outcomes: StartOutcome[] = [];
  for (const run of runs) {
    const parent = run.parent === undefined ? undefined : await findEntry(unit, run.parent);
    outcomes.push(await startRun(unit, now, run, places, parent));
  }
  return outcomes;
}

/** Where each id of a start is: the number of a run that is there, or the one that the new run gets. */
export interface Places {
  /** Taken by the first start of that id in this transaction. */
  free: Map<string, number>;
  taken: Map<string, { no: number; fingerprint: string }>;
}

/**
 * Puts the ids that are new into the store, in their order so that two bulk starts cannot wait for each other, and finds the others. An id that another transaction is just adding is waited for.
 */
export async function reserve(unit: Unit, runs: readonly NewRun[]): Promise<Places> {
  const first = new Map<string, NewRun>();
  for (const run of runs) if (!first.has(run.id)) first.set(run.id, run);
  const wanted = [...first.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const places: Places = { free: new Map(), taken: new Map() };
  if (wanted.length === 0) return places;
  // Numbers in the order of the runs: the oldest is taken up first.
  const numbers = await unit.sql.rows<[number]>(`SELECT nextval('gb.run_numbers') FROM generate_series(1, $1::int4)`, [first.size]);
  const numberOf = new Map([...first.keys()].map((id, i) => [id, numbers[i]?.[0] ?? 0]));
  for (const part of portions(wanted, ({ input }) => input.length)) {
    const added = await unit.sql.rows<[number, string]>(
      `INSERT INTO gb.run_inputs (no, id, fingerprint, input) SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[])
       ON CONFLICT (id) DO NOTHING RETURNING no, id`,
      [
        column("int8[]", part, ({ id }) => numberOf.get(id)),
        column("text[]", part, ({ id }) => id),
        column("text[]", part, ({ fingerprint }) => fingerprint),
        column("text[]", part, ({ input }) => input),
      ],
    );
    for (const [no, id] of added) places.free.set(id, no);
  }
  const others = wanted.filter(({ id }) => !places.free.has(id)).map(({ id }) => id);
  if (others.length > 0) {
    const found = await unit.sql.rows<[number, string, string]>(
      `SELECT no, id, fingerprint FROM gb.run_inputs WHERE id = ANY($1::text[])`,
      [toArray("text[]", others)],
    );
    for (const [no, id, fingerprint] of found) places.taken.set(id, { no, fingerprint });
    if (places.taken.size < others.length) throw new Conflict("A run was removed while it was started once more.");
  }
  return places;
}

/** Who starts a run within a commit. */
export interface Starter {
  no: number;
  deadlineAt: number | null;
}

/**
 * Starts one run. `parent` is the entry that waits for its output. If the run exists already, that entry waits for the run as it is:
 * it settles at once when the run has ended, or is told that the id is taken by something else.
 */
export async function startRun(
  unit: Unit,
  now: number,
  run: NewRun,
  places: Places,
  parent: number | undefined,
  starter?: Starter,
): Promise<StartOutcome> {
  const no = places.free.get(run.id);
  if (no === undefined) return joinRun(unit, run, places, parent);
  places.free.delete(run.id);
  places.taken.set(run.id, { no, fingerprint: run.fingerprint });
  const { request } = run;
  const deadlineAt = run.deadlineAt ?? starter?.deadlineAt ?? null;
  const row = unit.runs.add({
    no,
    id: run.id,
    state: request === undefined ? RUN.runnable : RUN.waiting,
    kind: runKinds.indexOf(run.kind),
    cancel: 0,
    shared: 0,
    pruned: 0,
    chain: await unit.names.chainNo(run.chain, run.version),
    epoch: 0,
    worker: null,
    seq: 0,
    open: request === undefined ? 0 : 1,
    entries: request === undefined ? 0 : 1,
    attempts: 0,
    priority: run.priority,
    code: "",
    usd: 0,
    standard_usd: 0,
    unpriced: 0,
    reserved: request === undefined || isShared(request) ? 0 : reservedFor(request),
    deadline_at: deadlineAt,
    created_at: now,
    retry_at: null,
    parent: parent ?? null,
    starter: parent === undefined ? (starter?.no ?? null) : runOf(parent),
    ended_at: null,
  });
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
  else await insertEntry(unit, run.no, 0, first, now, 1, "lives");
}

async function joinRun(unit: Unit, run: NewRun, places: Places, parent: number | undefined): Promise<StartOutcome> {
  const place = places.taken.get(run.id);
  if (place === undefined) throw new Error(`The id of run ${run.id} was not looked up.`);
  const same = place.fingerprint === run.fingerprint;
  if (parent === undefined) return same ? "existing" : "conflict";
  const found = await unit.runs.get(place.no);
  if (found === undefined) throw new Conflict("A run was removed while somebody joined it.");
  if (found.parent === parent) return same ? "existing" : "conflict";
  if (!same) await settleParent(unit, parent, { value: undefined, error: conflict(run.id) });
  else if (found.state >= RUN.completed) {
    await unit.flush();
    const [outcome] = await unit.sql.query<{ output: string | null; error: string | null }>(
      `SELECT output, error FROM gb.run_outcomes WHERE no = $1`,
      [found.no],
    );
    const error = outcome?.error == null ? undefined : (JSON.parse(outcome.error) as SerializedError);
    await settleParent(unit, parent, { value: outcome?.output ?? undefined, error });
  } else {
    await unit.sql.run(`INSERT INTO gb.run_waiters (run, entry) VALUES ($1, $2) ON CONFLICT DO NOTHING`, [found.no, parent]);
    unit.runs.change(found, { shared: 1 });
  }
  return same ? "existing" : "conflict";
}

/** The entry of a run by its key: a walk over the run's entries, for the rare start that is not in one commit with its entry. */
export async function findEntry(unit: Unit, { run, key }: { run: string; key: string }): Promise<number | undefined> {
  const no = await unit.names.runNo(run);
  if (no === undefined) return undefined;
  const [row] = await unit.sql.query<{ no: number }>(`SELECT no FROM gb.entries WHERE no >= $1 AND no < $2 AND key = $3`, [
    entryNo(no, 0),
    entryNo(no + 1, 0),
    key,
  ]);
  return row?.no;
}

/** Ends a run in `state` and tells whoever waits for it. */
export async function endRun(unit: Unit, run: RunRow, state: number, answer: Answer, now: number): Promise<void> {
  unit.tallies.move(RUNS, run.state, state);
  unit.runs.change(run, { state, worker: null, retry_at: null, cancel: 0, ended_at: now });
  unit.setOutcome(run.no, { output: answer.value ?? null, error: errorText(answer.error) });
  if (run.open > 0) await dropOpenEntries(unit, run, state === RUN.failed, now);
  if (run.parent !== null) await settleParent(unit, run.parent, answer);
  if (run.shared === 1) {
    const waiters = await unit.sql.query<{ entry: number }>(`DELETE FROM gb.run_waiters WHERE run = $1 RETURNING entry`, [run.no]);
    for (const { entry } of waiters) await settleParent(unit, entry, answer);
  }
}

export async function addNotes(unit: Unit, run: number, notes: readonly string[]): Promise<void> {
  const [row] = await unit.sql.query<{ notes: string | null }>(`SELECT notes FROM gb.run_outcomes WHERE no = $1`, [run]);
  const before = row?.notes == null ? [] : (JSON.parse(row.notes) as string[]);
  await unit.sql.run(`INSERT INTO gb.run_outcomes (no, notes) VALUES ($1, $2) ON CONFLICT (no) DO UPDATE SET notes = excluded.notes`, [
    run,
    JSON.stringify([...before, ...notes]),
  ]);
}

/** Whether a chain has something runnable. In the order of the index: an EXISTS is answered by a walk over the table while statistics say that most runs are runnable. */
export const hasRunnable = (chain: string): string =>
  `(SELECT r.no FROM gb.runs r WHERE r.queue = 0 AND r.chain = ${chain} ORDER BY r.home, r.priority DESC, r.no LIMIT 1) IS NOT NULL`;

/** Numbers of the runs that a worker (by number) has in hand: their own rows say so, one look by primary key each; `gb.hands` tells where to look. */
export const inHand = (worker: string): string => `
  SELECT r.no FROM gb.hands h CROSS JOIN LATERAL unnest(h.runs) AS u(no) CROSS JOIN LATERAL (
    SELECT no FROM gb.runs WHERE no = u.no AND state + 0 = 1 AND worker = h.worker OFFSET 0
  ) r WHERE h.worker = ${worker}`;

/** Chains (by number) that have something runnable: one look into the partial index each. */
export async function runnableChains(sql: Sql, chains: readonly number[]): Promise<number[]> {
  if (chains.length === 0) return [];
  const rows = await sql.rows<[number]>(`SELECT c.no FROM unnest($1::int4[]) AS c(no) WHERE ${hasRunnable("c.no")}`, [
    toArray("int4[]", chains),
  ]);
  return rows.map(([no]) => no);
}

/** More chains than this with runs to take up at the same moment are left to the next claim. */
const CHAINS_PER_CLAIM = 200;

/**
 * One ordered walk of the index a chain and home, each of at most as many rows as are wanted; rows that somebody else is claiming are passed over. Homes are found by one look each.
 * `$4`: those of other workers too; of workers that are gone in any case.
 */
const claim = `
  WITH RECURSIVE homes(chain, home) AS (
    SELECT c.no, (SELECT r.home FROM gb.runs r WHERE r.queue = 0 AND r.chain = c.no ORDER BY r.home, r.priority DESC, r.no LIMIT 1) FROM unnest($1::int4[]) AS c(no)
    UNION ALL
    SELECT h.chain, (
      SELECT r.home FROM gb.runs r WHERE r.queue = 0 AND r.chain = h.chain AND r.home > h.home ORDER BY r.home, r.priority DESC, r.no LIMIT 1
    ) FROM homes h WHERE h.home IS NOT NULL
  ), next AS MATERIALIZED (
    SELECT r.ctid, r.no FROM homes h CROSS JOIN LATERAL (
      SELECT ctid, no, priority FROM gb.runs WHERE queue = 0 AND chain = h.chain AND home = h.home ORDER BY priority DESC, no LIMIT $2 FOR UPDATE SKIP LOCKED
    ) r WHERE $4 OR h.home = $3 OR NOT EXISTS (SELECT FROM gb.workers w WHERE w.no = h.home)
    ORDER BY r.priority DESC, r.no LIMIT $2
  ), claimed AS (
    UPDATE gb.runs r SET state = 1, queue = NULL, epoch = r.epoch + 1, worker = $3, home = $3 FROM gb.run_inputs i WHERE r.ctid = ANY(ARRAY(SELECT ctid FROM next)) AND i.no = r.no
    RETURNING r.no, r.id, r.kind, r.chain, r.code, r.epoch, r.seq, r.attempts, r.priority, r.deadline_at, r.usd, r.reserved, r.created_at, i.input
  ), hand AS (
    INSERT INTO gb.hands (worker, runs) SELECT $3, array_agg(no) FROM claimed HAVING count(*) > 0 RETURNING no
  ) SELECT *, (SELECT no FROM hand) FROM claimed`;

type ClaimRow = [
  no: number,
  id: string,
  kind: number,
  chain: number,
  code: string,
  epoch: number,
  seq: number,
  attempts: number,
  priority: number,
  deadlineAt: number | null,
  usd: number,
  reserved: number,
  createdAt: number,
  input: string,
  hand: number,
];

export async function claimRuns(
  unit: Unit,
  { worker, limit, chains, own }: { worker: string; limit: number; chains: readonly number[]; own: boolean },
): Promise<ClaimedRun[]> {
  // Behind the look at the worker, which locks it: workers before their hands.
  const claimAs = async (no: number) => {
    await unit.names.removeEmptyHands();
    return unit.sql.rows<ClaimRow>(claim, [toArray("int4[]", chains.slice(0, CHAINS_PER_CLAIM)), limit, no, !own]);
  };
  const { no: workerNo, value: rows } = await unit.names.asWorker(worker, claimAs);
  unit.tallies.move(RUNS, RUN.runnable, RUN.running, rows.length);
  await unit.names.loadChains(rows.map((row) => row[3]));
  const hand = rows[0]?.[14];
  if (hand !== undefined) {
    unit.names.keepRuns(
      { worker: workerNo, no: hand },
      rows.map(([no, id, , , , epoch]) => ({ id, no, epoch })),
    );
  }
  rows.sort((a, b) => b[8] - a[8] || a[0] - b[0]);
  return rows.map(([, id, kind, chainNo, code, epoch, seq, attempts, priority, deadlineAt, usd, reserved, createdAt, input]) => {
    const { chain, version } = unit.names.chainOf(chainNo);
    return {
      id,
      kind: runKinds[kind] ?? "chain",
      chain,
      version,
      code,
      input,
      epoch,
      seq,
      attempts,
      priority,
      deadlineAt: deadlineAt ?? undefined,
      usd: toUsd(usd),
      reservedUsd: toUsd(reserved),
      createdAt,
    };
  });
}

type HistoryRow = [
  run: number,
  no: number,
  key: string,
  kind: number,
  fingerprint: string,
  seq: number | null,
  value: string | null,
  error: string | null,
];

/** One statement for all: a range of the primary key a run, whatever the planner thinks of how much that may be (OFFSET 0). */
const history = `
  SELECT u.run, e.no, e.key, e.kind, e.fingerprint, e.seq, a.value, a.error
  FROM unnest($1::int8[], $2::int4[]) AS u(run, since)
  CROSS JOIN LATERAL (
    SELECT * FROM gb.entries e WHERE e.no >= u.run << 20 AND e.no < (u.run + 1) << 20 AND (u.since = 0 OR e.seq > u.since) OFFSET 0
  ) e LEFT JOIN LATERAL (SELECT value, error FROM gb.answers a WHERE a.no = e.answer OFFSET 0) a ON true`;

export async function loadHistory(
  sql: Sql,
  names: TransactionNames,
  { runs }: { runs: { run: string; since: number }[] },
): Promise<Entry[][]> {
  const numbers = await names.claimedNos(runs.map(({ run }) => run));
  const wanted = runs.flatMap(({ run, since }) => {
    const no = numbers.get(run);
    return no === undefined ? [] : [{ no, since }];
  });
  const histories = new Map<number, Entry[]>(wanted.map(({ no }) => [no, []]));
  if (wanted.length > 0) {
    const rows = await sql.rows<HistoryRow>(history, [
      column("int8[]", wanted, ({ no }) => no),
      column("int4[]", wanted, ({ since }) => since),
    ]);
    for (const [run, no, key, kind, fingerprint, seq, value, error] of rows) {
      histories.get(run)?.push({
        no: no - entryNo(run, 0),
        key,
        kind: entryKinds[kind] ?? "request",
        fingerprint,
        seq: seq ?? undefined,
        value: value ?? undefined,
        error: error === null ? undefined : (JSON.parse(error) as SerializedError),
      });
    }
    for (const entries of histories.values()) entries.sort((a, b) => a.no - b.no);
  }
  return runs.map(({ run }) => histories.get(numbers.get(run) ?? -1) ?? []);
}

export async function wakeRuns(unit: Unit, { runs }: { runs: { run: string; epoch: number }[] }): Promise<void> {
  const numbers = await unit.names.runNos(runs.map(({ run }) => run));
  await unit.runs.lock(numbers.values());
  for (const { run, epoch } of runs) {
    const row = unit.runs.peek(numbers.get(run) ?? -1);
    if (row === undefined || row.state !== RUN.waiting || row.epoch !== epoch) continue;
    unit.runs.change(row, { state: RUN.runnable });
    unit.tallies.move(RUNS, RUN.waiting, RUN.runnable);
  }
}

export async function hasDueTimers(sql: Sql, now: number): Promise<boolean> {
  const [row] = await sql.rows<[boolean]>(
    `SELECT EXISTS (SELECT 1 FROM gb.entries WHERE queue = 3 AND due_at <= $1) OR EXISTS (SELECT 1 FROM gb.runs WHERE queue = 3 AND retry_at <= $1)`,
    [now],
  );
  return row?.[0] ?? false;
}

/** Up to `limit` sleeps and turn retries that are due, those of sleeps first. */
export async function fireTimers(unit: Unit, { now, limit }: { now: number; limit: number }): Promise<number> {
  const due = await unit.sql.rows<[number]>(`SELECT no FROM gb.entries WHERE queue = 3 AND due_at <= $1 ORDER BY due_at, no LIMIT $2`, [
    now,
    limit,
  ]);
  const sleeps = due.map(([no]) => no);
  // Runs before entries, as everywhere.
  await unit.runs.lock(sleeps.map(runOf));
  await unit.entries.lock(sleeps);
  let fired = 0;
  for (const no of sleeps) {
    const entry = unit.entries.peek(no);
    if (entry === undefined || entry.state !== ENTRY.sleeping || (entry.due_at ?? 0) > now) continue;
    await settleEntry(unit, entry, unit.run(runOf(no)), ENTRY.succeeded, { value: undefined, error: undefined });
    fired += 1;
  }
  if (sleeps.length >= limit) return fired;
  const retries = await unit.runs.select(`WHERE queue = 3 AND retry_at <= $1 ORDER BY retry_at, no LIMIT $2 FOR UPDATE SKIP LOCKED`, [
    now,
    limit - sleeps.length,
  ]);
  for (const run of retries) {
    unit.runs.change(run, { state: RUN.runnable, retry_at: null });
    unit.tallies.move(RUNS, RUN.retrying, RUN.runnable);
  }
  return fired + retries.length;
}
