import { errorText } from "../batch-update.ts";
import { isQueued, weightOf } from "../queue-states.ts";
import { GembatchError } from "../../core/errors.ts";
import type { NewEntry, NewRequest } from "../../core/store.ts";
import { ENTRIES_PER_RUN, ENTRY, entryKinds, entryNo } from "../codes.ts";
import { estimateOf, noBill } from "../money.ts";
import { chargeRun, releaseAnswer } from "./entries.ts";
import { countQueued } from "./queue.ts";
import { hurryLeader, passOn, settleFollower, sharedNo, takeShare } from "./shared.ts";
import { REQUESTS } from "../counts.ts";
import type { EntryRow, RunRow, Unit } from "./unit.ts";

/** What becomes of a run in the transaction that adds an entry to it. */
export type Fate = "lives" | "fails" | "ends";

/** Whether an entry may settle by what is stored already, so that it is added after all others of its commit. */
export const isShared = (entry: NewEntry): boolean => entry.request?.cache !== undefined;

/** Estimated cost of the request, if it is asked. Picodollars. */
export const reservedFor = (entry: NewEntry): number => estimateOf(entry.request?.usd) ?? 0;

const blank = {
  attempt: null,
  batch: null,
  lane: null,
  seq: null,
  bytes: null,
  tokens: null,
  max_attempts: null,
  failed_jobs: 0,
  group_size: null,
  shared: null,
  unpriced: 0,
  estimate: null,
  usd: 0,
  standard_usd: 0,
  priority: null,
  answer: null,
  due_at: null,
  deadline_at: null,
  check_at: null,
  tier_reason: null,
} satisfies Partial<EntryRow>;

/**
 * Adds entry `no` of a run. Returns the sequence number it settled with, or `undefined` if it is open. Of a run that ends in this very transaction
 * a request is never queued; a sleep never rings, but one of a failed run does, because an operator may let it go on. A request that shares its
 * answer is added by `insertShared` if the run lives.
 */
export async function insertEntry(
  unit: Unit,
  run: number,
  no: number,
  entry: NewEntry,
  now: number,
  nextSeq: number,
  fate: Fate,
): Promise<number | undefined> {
  const at = newEntryNo(run, no);
  const { key, fingerprint } = entry;
  const common = { ...blank, no: at, kind: entryKinds.indexOf(entry.kind), key, fingerprint, created_at: now };
  if (entry.settled !== undefined) {
    const { value, error } = entry.settled;
    const answer = await unit.addAnswer(value ?? null, errorText(error));
    unit.entries.add({ ...common, state: error === undefined ? ENTRY.succeeded : ENTRY.failed, seq: nextSeq, answer });
    return nextSeq;
  }
  if (entry.request !== undefined) {
    const { request } = entry;
    const shared = request.cache === undefined ? null : await sharedNo(unit, request.cache);
    await insertRequest(unit, at, entry, request, now, fate === "lives" ? ENTRY.queued : ENTRY.cancelled, shared);
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
  const at = newEntryNo(run.no, no);
  const shared = await sharedNo(unit, request.cache);
  const share = await takeShare(unit, shared, at, now, request.cache.ttlMs);
  const row = await insertRequest(unit, at, entry, request, now, share.role === "leads" ? ENTRY.queued : ENTRY.following, shared);
  // What others ask about followers and leaders is answered by the database.
  await unit.flush();
  if (share.role === "leads") chargeRun(unit, run, noBill, -reservedFor(entry));
  else if (share.role === "settles") await settleFollower(unit, row, run, share.answer);
  else if (request.deadlineAt !== undefined) await hurryLeader(unit, shared, request.deadlineAt, now);
}

function newEntryNo(run: number, no: number): number {
  if (no < ENTRIES_PER_RUN) return entryNo(run, no);
  throw new GembatchError("too_many_entries", `A run of this store can have ${ENTRIES_PER_RUN} entries.`, {
    hint: "Split the work into several runs.",
  });
}

async function insertRequest(
  unit: Unit,
  at: number,
  entry: NewEntry,
  request: NewRequest,
  now: number,
  state: number,
  shared: number | null,
): Promise<EntryRow> {
  const { bytes, tokens, deadlineAt } = request;
  const lane = await unit.names.laneNo(request.lane);
  const row = unit.entries.add({
    ...blank,
    no: at,
    state,
    kind: entryKinds.indexOf(entry.kind),
    attempt: 1,
    lane,
    bytes,
    tokens,
    max_attempts: request.maxAttempts,
    shared,
    estimate: estimateOf(request.usd),
    priority: request.priority,
    due_at: now,
    created_at: now,
    deadline_at: deadlineAt ?? null,
    check_at: deadlineAt !== undefined && state === ENTRY.queued ? now : null,
    key: entry.key,
    fingerprint: entry.fingerprint,
  });
  unit.addBody(at, request.body);
  unit.tallies.move(REQUESTS, undefined, state);
  if (state === ENTRY.queued) unit.tallies.queue(lane, 1, weightOf(row));
  return row;
}

/**
 * Withdraws what a run that ended still had open: queued requests are cancelled, batched ones are ignored when they return. Sleeps of a
 * failed run ring on, because an operator may let it go on; those of any other are silenced.
 */
export async function dropOpenEntries(unit: Unit, run: RunRow, failed: boolean, now: number): Promise<void> {
  const found = await unit.entries.select(`WHERE no >= $1 AND no < $2 AND state + 0 IN (1, 2, 3, 4, 8, 9) ORDER BY no FOR UPDATE`, [
    entryNo(run.no, 0),
    entryNo(run.no + 1, 0),
  ]);
  const rows = found.filter(({ state }) => [1, 2, 3, 4, 8, 9].includes(state));
  const left: { no: number; shared: number }[] = [];
  let released = 0;
  for (const row of rows) {
    if (row.check_at !== null) unit.entries.change(row, { check_at: null });
    if (row.state === ENTRY.batched) continue;
    if (row.state === ENTRY.sleeping) {
      if (!failed) unit.entries.change(row, { state: ENTRY.open });
      continue;
    }
    if (row.state !== ENTRY.following) released += row.estimate ?? 0;
    if (row.shared !== null && isQueued(row.state)) left.push({ no: row.no, shared: row.shared });
    countQueued(unit, -1, row.state, row.lane ?? 0, row);
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
  await releaseAnswer(unit, row.answer);
  const share = row.shared === null ? undefined : await takeShare(unit, row.shared, row.no, now, undefined);
  const leads = share === undefined || share.role === "leads";
  const state = leads ? ENTRY.queued : ENTRY.following;
  unit.tallies.move(REQUESTS, row.state, state);
  unit.entries.change(row, {
    state,
    seq: null,
    answer: null,
    batch: null,
    attempt: 1,
    failed_jobs: 0,
    group_size: null,
    due_at: now,
    check_at: leads && row.deadline_at !== null ? now : null,
  });
  if (leads) {
    unit.tallies.queue(row.lane ?? 0, 1, weightOf(row));
    chargeRun(unit, run, noBill, -(row.estimate ?? 0));
  } else if (share.role === "settles") await settleFollower(unit, row, run, share.answer);
  else if (row.shared !== null && row.deadline_at !== null) await hurryLeader(unit, row.shared, row.deadline_at, now);
}
