import { isQueued, weightOf } from "../queue-states.ts";
import type { NewEntry, NewRequest } from "../../core/store.ts";
import { ENTRY, entryKinds } from "../codes.ts";
import { REQUESTS } from "../counts.ts";
import { estimateOf, noBill } from "../money.ts";
import { chargeRun, storedError } from "./entries.ts";
import { entryKey, laneKey } from "./keys.ts";
import { countQueued } from "./queue.ts";
import type { EntryRow, RunRow } from "./rows.ts";
import { hurryLeader, passOn, settleFollower, shareOf, takeShare } from "./shared.ts";
import type { Unit } from "./unit.ts";

/** What becomes of a run in the transaction that adds an entry to it. */
export type Fate = "lives" | "fails" | "ends";

/** Whether an entry may settle by what is stored already, so that it is added after all others of its commit. */
export const isShared = (entry: NewEntry): boolean => entry.request?.cache !== undefined;

/** Estimated cost of the request, if it is asked. Picodollars. */
export const reservedFor = (entry: NewEntry): number => estimateOf(entry.request?.usd) ?? 0;

const blank = {
  ...{ attempt: null, batch: null, batch_id: null, lane: null, seq: null, bytes: null, tokens: null, max_attempts: null },
  ...{ failed_jobs: 0, group_size: null, shared: null, ttl_ms: 0, unpriced: 0, estimate: null, usd: 0, standard_usd: 0, priority: null },
  ...{ due_at: null, deadline_at: null, check_at: null, tier_reason: null, reference: null },
};

/**
 * Adds entry `no` of a run. Returns the sequence number it settled with, or `undefined` if it is open. Of a run that ends in this very transaction
 * a request is never queued; a sleep never rings, but one of a failed run does, because an operator may let it go on. A request that shares its
 * answer is added by `insertShared` if the run lives.
 */
export function insertEntry(
  unit: Unit,
  run: RunRow,
  no: number,
  entry: NewEntry,
  now: number,
  nextSeq: number,
  fate: Fate,
): number | undefined {
  const common = newEntry(run, no, entry, now);
  if (entry.settled !== undefined) {
    const { value, error } = entry.settled;
    unit.entries.add(
      { ...common, state: error === undefined ? ENTRY.succeeded : ENTRY.failed, seq: nextSeq },
      { value: value ?? null, error: storedError(error) },
    );
    return nextSeq;
  }
  if (entry.request !== undefined) {
    insertRequest(unit, common, entry.request, now, fate === "lives" ? ENTRY.queued : ENTRY.cancelled);
    return undefined;
  }
  const sleeping = entry.wakeAt !== undefined && fate !== "ends";
  unit.entries.add({ ...common, state: sleeping ? ENTRY.sleeping : ENTRY.open, due_at: entry.wakeAt ?? null });
  return undefined;
}

/** Adds a request that shares its answer, as entry `no` of a run whose row is up to date; the row changes if the answer is there. */
export async function insertShared(unit: Unit, run: RunRow, no: number, entry: NewEntry, now: number): Promise<void> {
  const { request } = entry;
  if (request?.cache === undefined) throw new Error(`Entry ${entry.key} shares no answer.`);
  const common = newEntry(run, no, entry, now);
  const shared = shareOf(request.cache);
  const share = await takeShare(unit, shared, common.no, now, request.cache.ttlMs);
  const row = insertRequest(unit, common, request, now, share.role === "leads" ? ENTRY.queued : ENTRY.following);
  if (share.role === "leads") chargeRun(unit, run, noBill, -reservedFor(entry));
  else if (share.role === "settles") settleFollower(unit, row, run, share.value);
  else if (request.deadlineAt !== undefined) await hurryLeader(unit, shared, request.deadlineAt, now);
}

function newEntry(run: RunRow, no: number, entry: NewEntry, now: number): EntryRow {
  const { key, fingerprint } = entry;
  const kind = entryKinds.indexOf(entry.kind);
  return { ...blank, no: entryKey(run.no, no), run_id: run.id, state: ENTRY.open, kind, key, fingerprint, created_at: now, sizes: {} };
}

function insertRequest(unit: Unit, common: EntryRow, request: NewRequest, now: number, state: number): EntryRow {
  const { bytes, tokens, deadlineAt, cache } = request;
  const lane = laneKey(request.lane);
  unit.now = now;
  const row = unit.entries.add(
    {
      ...common,
      state,
      attempt: 1,
      lane,
      bytes,
      tokens,
      max_attempts: request.maxAttempts,
      shared: cache === undefined ? null : shareOf(cache),
      ttl_ms: cache?.ttlMs ?? 0,
      estimate: estimateOf(request.usd),
      priority: request.priority,
      due_at: now,
      deadline_at: deadlineAt ?? null,
      check_at: deadlineAt !== undefined && state === ENTRY.queued ? now : null,
    },
    { body: request.body },
  );
  unit.tallies.move(REQUESTS, undefined, state);
  if (state === ENTRY.queued) unit.tallies.queue(lane, 1, weightOf(row));
  return row;
}

/** Conditions for the entries of a run: a range of document names. */
export const rangeOf = (run: string) =>
  [
    ["__name__", ">=", `${run}-0000`],
    ["__name__", "<=", `${run}-zzzz`],
  ] as const;

const isOpen = ({ state }: EntryRow): boolean =>
  isQueued(state) || state === ENTRY.sleeping || state === ENTRY.batched || state === ENTRY.following;

/**
 * Withdraws what a run that ended still had open: queued requests are cancelled, batched ones are ignored when they return. Sleeps of a
 * failed run ring on, because an operator may let it go on; those of any other are silenced. What is more than a transaction takes is withdrawn right after it.
 */
export async function dropOpenEntries(unit: Unit, run: RunRow, failed: boolean, now: number): Promise<void> {
  const changes = (row: EntryRow): boolean =>
    row.check_at !== null || (isOpen(row) && row.state !== ENTRY.batched && (row.state !== ENTRY.sleeping || !failed));
  const rows = await unit.entries.select({ where: rangeOf(run.no) }, (row) => isOpen(row) && changes(row) && row.no.startsWith(run.no));
  const some = rows.slice(0, unit.told.withdraw(rows.length));
  unit.runs.change(run, { dropping: some.length < rows.length ? 1 : 0 });
  const left: { no: string; shared: string }[] = [];
  let released = 0;
  for (const row of some) {
    if (row.check_at !== null) unit.entries.change(row, { check_at: null });
    if (row.state === ENTRY.batched) continue;
    if (row.state === ENTRY.sleeping) {
      if (!failed) unit.entries.change(row, { state: ENTRY.open });
      continue;
    }
    if (row.state !== ENTRY.following) released += row.estimate ?? 0;
    if (row.shared !== null && isQueued(row.state)) left.push({ no: row.no, shared: row.shared });
    countQueued(unit, -1, row.state, row.lane ?? "", row);
    unit.tallies.move(REQUESTS, row.state, ENTRY.cancelled);
    unit.entries.change(row, { state: ENTRY.cancelled });
  }
  chargeRun(unit, run, noBill, released);
  // Only now: the next in line may have been one of these.
  for (const { no, shared } of left) await passOn(unit, shared, no, now);
}

/**
 * Asks a closed request of a run once more, from its first attempt. One that shares its answer joins the others anew, and may settle at once.
 */
export async function askAgain(unit: Unit, run: RunRow, row: EntryRow, now: number): Promise<void> {
  const share = row.shared === null ? undefined : await takeShare(unit, row.shared, row.no, now, row.ttl_ms);
  const leads = share === undefined || share.role === "leads";
  const state = leads ? ENTRY.queued : ENTRY.following;
  unit.tallies.move(REQUESTS, row.state, state);
  unit.entries.change(row, {
    state,
    seq: null,
    batch: null,
    batch_id: null,
    attempt: 1,
    failed_jobs: 0,
    group_size: null,
    due_at: now,
    check_at: leads && row.deadline_at !== null ? now : null,
  });
  unit.entries.setTexts(row, { value: null, error: null });
  if (leads) {
    unit.tallies.queue(row.lane ?? "", 1, weightOf(row));
    chargeRun(unit, run, noBill, -(row.estimate ?? 0));
  } else if (share.role === "settles") settleFollower(unit, row, run, share.value);
  else if (row.shared !== null && row.deadline_at !== null) await hurryLeader(unit, row.shared, row.deadline_at, now);
}
