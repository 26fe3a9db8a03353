import { type Answer, fateOf, type MemberOutcome, type MemberResult, triesOf } from "../answers.ts";
import { errorText, openMembers } from "../batch-update.ts";
import type { ResumedRun, SettleRow, StoreParams } from "../../core/store.ts";
import { atTier, isDirect } from "../../core/tiers.ts";
import { DEPARTED, ENTRY, RUN } from "../codes.ts";
import { REQUESTS, RUNS } from "../counts.ts";
import { type Bill, billOf, noBill, toUsd } from "../money.ts";
import { batchInHand } from "./batches.ts";
import { chargeEntry, chargeRun, fitting, settleEntry } from "./entries.ts";
import { isEntryKey, laneKey, laneOf, runOf } from "./keys.ts";
import { enqueue } from "./queue.ts";
import { batchKey, type BatchRow, departedKey, type EntryRow, type RunRow } from "./rows.ts";
import { ensureWorker } from "./runs.ts";
import { loadShares, passOn, shareAnswer } from "./shared.ts";
import type { Unit } from "./unit.ts";
import { MAX_TEXT } from "./working-set.ts";

export interface Settled {
  settled: number;
  duplicate: number;
  unknown: number;
  /** Rows of the call that were passed over, because an earlier call had settled them before it broke off. */
  before: number;
  /** Rows of the call that are done, those of earlier transactions included: where the next one goes on. */
  done: number;
  resumed: ResumedRun[];
}

/** Rows that one transaction settles: each is an entry and a run. */
export const SETTLE_CHUNK = 200;
const SETTLE_BYTES = 2_000_000;

/**
 * Settles the next of these rows, from the row `from` on; the first part of a call does not know where that is. Only the last part moves the cursor; one before it notes in the batch how many rows behind the cursor
 * are done (`ahead`). A job's output never changes, so whoever reads it again from the cursor comes to the same rows in the same order: the first `ahead` of them are passed over, and nothing is lost or counted
 * twice. Answers of direct calls come in any order, and from several calls at once: there a row that comes again is a duplicate.
 */
export async function settleRows(
  unit: Unit,
  params: StoreParams<"settleRows">,
  chunk: number,
  from?: number,
): Promise<Settled | undefined> {
  const idsFrom = (first: number): string[] => params.rows.slice(first, first + chunk).map(({ id }) => id);
  // The guess is right but for a call after one that broke.
  await prefetch(unit, params.batch, idsFrom(from ?? 0));
  const batch = await batchInHand(unit, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  const isOrdered = !isDirect(laneOf(batch.lane));
  const begin = from ?? (isOrdered ? Math.min(batch.ahead, params.rows.length) : 0);
  if (begin !== (from ?? 0)) await prefetch(unit, params.batch, idsFrom(begin));
  const rows = portion(unit, params.rows.slice(begin, begin + chunk));
  const done = begin + rows.length;
  const isLast = done >= params.rows.length;
  const before = from === undefined ? begin : 0;
  const result: Settled = { settled: 0, duplicate: 0, unknown: isLast ? params.unknown : 0, before, done, resumed: [] };
  const { worker } = params;
  const keepsTurns = worker !== undefined && rows.some(({ keptEpoch }) => keptEpoch !== undefined);
  const keeper = keepsTurns ? await ensureWorker(unit, worker) : undefined;
  await unit.load({ departed: rows.flatMap((row) => (isMember(unit, batch, row) ? [] : [departedKey(batch.no, row.id, row.attempt)])) });
  for (const [i, row] of rows.entries()) {
    const entry = isEntryKey(row.id) ? unit.entries.peek(row.id) : undefined;
    if (entry !== undefined && isMember(unit, batch, row)) {
      const waits = unit.run(runOf(entry.no)).state === RUN.waiting;
      count(unit, batch, await settleMember(unit, batch, entry, row.result, params.now));
      result.settled += 1;
      const run = waits && keeper !== undefined ? resume(unit, entry, row, keeper) : undefined;
      if (run !== undefined) {
        const { epoch, seq, usd, reserved } = run;
        result.resumed.push({ row: begin + i, epoch, seq, usd: toUsd(usd), reservedUsd: toUsd(reserved) });
      }
    } else if (
      isEntryKey(row.id) &&
      ((await billDeparted(unit, batch, row, params.now)) || (entry?.batch === batch.no && entry.state !== ENTRY.batched))
    ) {
      result.duplicate += 1;
    } else result.unknown += 1;
  }
  unit.batches.change(batch, {
    duplicate: batch.duplicate + result.duplicate,
    unknown: batch.unknown + result.unknown,
    cursor: isLast ? params.cursor : batch.cursor,
    ...(isOrdered && { ahead: isLast ? Math.max(0, batch.ahead - params.rows.length) : done }),
  });
  return result;
}

/** Does to the run that just woke up what a claim would do, if its turn is kept since its last one and the answer is stored as it came. */
function resume(unit: Unit, entry: EntryRow, { result, keptEpoch }: SettleRow, worker: string): RunRow | undefined {
  const run = unit.run(runOf(entry.no));
  const isAsItCame =
    (result.type === "succeeded" && unit.entries.text(entry, "value") === result.value) ||
    (result.type === "failed" && unit.entries.text(entry, "error") === errorText(result.error));
  if (run.state !== RUN.runnable || run.epoch !== keptEpoch || !isAsItCame) return undefined;
  unit.runs.change(run, { state: RUN.running, epoch: run.epoch + 1, worker });
  unit.tallies.move(RUNS, RUN.runnable, RUN.running);
  return run;
}

/** The first of these rows that one transaction can carry. */
function portion(unit: Unit, rows: readonly SettleRow[]): readonly SettleRow[] {
  let bytes = 0;
  const end = rows.findIndex(({ id, result }, i) => {
    // A shared answer is kept apart as well.
    const copies = isEntryKey(id) && unit.entries.peek(id)?.shared != null ? 2 : 1;
    bytes += copies * ("value" in result ? Buffer.byteLength(result.value ?? "") : 0);
    return i > 0 && bytes > SETTLE_BYTES;
  });
  return end < 0 ? rows : rows.slice(0, end);
}

function isMember(unit: Unit, batch: BatchRow, { id, attempt }: SettleRow): boolean {
  const entry = isEntryKey(id) ? unit.entries.peek(id) : undefined;
  return entry !== undefined && entry.batch === batch.no && entry.state === ENTRY.batched && entry.attempt === attempt;
}

/** The batch with these members and their runs, and what they share. */
async function prefetch(unit: Unit, batch: string, ids: readonly string[]): Promise<void> {
  const keys = ids.filter(isEntryKey);
  await unit.load({ batches: [batchKey(batch)], entries: keys, runs: keys.map(runOf) });
  const shares = keys.flatMap((key) => unit.entries.peek(key)?.shared ?? []);
  if (shares.length > 0) await loadShares(unit, shares);
}

export async function settleRemaining(
  unit: Unit,
  params: { batch: string; epoch: number; now: number; limit: number; result: Exclude<MemberResult, { type: "succeeded" }> },
): Promise<number | undefined> {
  const batch = await batchInHand(unit, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  const limit = Math.min(params.limit, SETTLE_CHUNK);
  const found = await unit.entries.select(
    { where: [["member", "==", batch.no]], order: [["order", "asc"]], limit },
    (row) => row.batch === batch.no && row.state === ENTRY.batched,
    true,
  );
  const members = found.slice(0, limit);
  await prefetch(
    unit,
    params.batch,
    members.map(({ no }) => no),
  );
  for (const entry of members) {
    // An answer that is shared may have settled one of the others.
    if (entry.state === ENTRY.batched) count(unit, batch, await settleMember(unit, batch, entry, params.result, params.now));
  }
  return openMembers(batch);
}

function count(unit: Unit, batch: BatchRow, outcome: MemberOutcome): void {
  unit.batches.change(batch, { [outcome]: batch[outcome] + 1 });
}

/** Counts the answer that a result carries, if it does: what the lane, the chain, the day and the batch used and spent. */
function countAnswer(unit: Unit, batch: BatchRow, chain: string, result: MemberResult, now: number): Bill {
  if (!("usage" in result) || result.usage === undefined) return noBill;
  const bill = billOf(result.cost);
  unit.tallies.answer(now, chain, batch.lane, result.usage, bill);
  unit.batches.change(batch, {
    usd: batch.usd + bill.usd,
    standard_usd: batch.standard_usd + bill.standardUsd,
    unpriced: batch.unpriced + bill.unpriced,
  });
  return bill;
}

/** A row whose request was taken out of the batch is billed the first time that it comes. `false`: it is none. */
async function billDeparted(unit: Unit, batch: BatchRow, { id, attempt, result }: SettleRow, now: number): Promise<boolean> {
  const row = await unit.departed.get(departedKey(batch.no, id, attempt));
  if (row === undefined) return false;
  if (row.state === DEPARTED.billed || !("usage" in result) || result.usage === undefined) return true;
  const bill = countAnswer(unit, batch, row.chain, result, now);
  const run = await unit.runs.get(runOf(id));
  if (run !== undefined) chargeRun(unit, run, bill, 0);
  if (row.state === DEPARTED.waited) {
    const entry = await unit.entries.get(id);
    if (entry !== undefined) chargeEntry(unit, entry, bill);
  }
  unit.departed.change(row, { state: DEPARTED.billed });
  return true;
}

/** Gives a member that is `batched` its result, and says how it is counted. */
async function settleMember(unit: Unit, batch: BatchRow, entry: EntryRow, result: MemberResult, now: number): Promise<MemberOutcome> {
  const run = unit.run(runOf(entry.no));
  const bill = countAnswer(unit, batch, run.chain, result, now);
  const fate = fateOf(result, run.state, () => triesOf(entry, batch));
  if (fate.kind === "settle") return settle(unit, entry, run, bill, fate.answer, now);
  if (fate.kind === "drop") return drop(unit, entry, run, bill, fate.value, now);
  const { moved, failedJobs, ...to } = fate.to;
  if (moved !== undefined) unit.entries.change(entry, { tier_reason: moved.reason });
  if (failedJobs > entry.failed_jobs) unit.entries.change(entry, { failed_jobs: failedJobs });
  const lane = moved === undefined ? batch.lane : laneKey(atTier(laneOf(batch.lane), moved.tier));
  enqueue(unit, entry, { ...to, lane, now });
  chargeEntry(unit, entry, bill);
  chargeRun(unit, run, bill, 0);
  return "requeued";
}

async function settle(unit: Unit, entry: EntryRow, run: RunRow, bill: Bill, given: Answer, now: number): Promise<MemberOutcome> {
  const answer = fitting(entry, given);
  const succeeded = answer.error === undefined;
  const state = succeeded ? ENTRY.succeeded : ENTRY.failed;
  settleEntry(unit, entry, run, state, answer, bill, entry.estimate ?? 0);
  unit.tallies.move(REQUESTS, ENTRY.batched, state);
  clearCheck(unit, entry);
  if (entry.shared !== null) {
    if (answer.value !== undefined) await shareAnswer(unit, entry.shared, entry.no, answer.value, now);
    else await passOn(unit, entry.shared, entry.no, now);
  }
  return succeeded ? "succeeded" : "failed";
}

/** Nobody takes the answer any more, but for those that share it. */
async function drop(unit: Unit, entry: EntryRow, run: RunRow, bill: Bill, value: string | undefined, now: number): Promise<MemberOutcome> {
  unit.entries.change(entry, { state: ENTRY.cancelled });
  unit.tallies.move(REQUESTS, ENTRY.batched, ENTRY.cancelled);
  chargeEntry(unit, entry, bill);
  chargeRun(unit, run, bill, entry.estimate ?? 0);
  clearCheck(unit, entry);
  if (entry.shared !== null) {
    // What is too long to be kept is asked for again by the next in line, who gets the reason.
    if (value !== undefined && Buffer.byteLength(value) <= MAX_TEXT) await shareAnswer(unit, entry.shared, entry.no, value, now);
    else await passOn(unit, entry.shared, entry.no, now);
  }
  return "cancelled";
}

function clearCheck(unit: Unit, entry: EntryRow): void {
  if (entry.check_at !== null) unit.entries.change(entry, { check_at: null });
}
