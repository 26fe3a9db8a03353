import { type Answer, fateOf, type MemberOutcome, type MemberResult, triesOf } from "../answers.ts";
import { errorText, openMembers } from "../batch-update.ts";
import type { RequestResult, ResumedRun, SettledRows, SettleRow, StoreParams } from "../../core/store.ts";
import { atTier } from "../../core/tiers.ts";
import { DEPARTED, ENTRY, parseRequestId, RUN, runOf } from "../codes.ts";
import { type Bill, billOf, noBill, toUsd } from "../money.ts";
import type { BatchRow } from "../records.ts";
import { column } from "./arrays.ts";
import { batchInHand } from "./batches.ts";
import { chargeEntry, chargeRun, settleEntry } from "./entries.ts";
import { enqueue } from "./queue.ts";
import { lockShared, passOn, shareAnswer, shareLateAnswer } from "./shared.ts";
import { REQUESTS, RUNS } from "../counts.ts";
import type { EntryRow, RunRow, Unit } from "./unit.ts";

export async function settleRows(unit: Unit, params: StoreParams<"settleRows">): Promise<SettledRows | undefined> {
  const { worker } = params;
  const keepsTurns = worker !== undefined && params.rows.some(({ keptEpoch }) => keptEpoch !== undefined);
  const candidates = candidatesOf(params.rows);
  // In one round trip, and in this order: workers are locked before batches.
  const [keeper, batch, members] = await Promise.all([
    keepsTurns ? unit.names.ensureWorker(worker) : undefined,
    batchInHand(unit, params.batch, params.epoch),
    membersOf(unit, candidates),
  ]);
  if (batch === undefined) return undefined;
  const quick = candidates.flatMap(({ row, index, no, result }): QuickRow[] => {
    const member = members.get(no);
    if (member?.batch !== batch.no || member.state !== ENTRY.batched || member.attempt !== row.attempt) return [];
    const bill = result.usage === undefined ? noBill : billOf(result.cost);
    return [{ row, index, no, result, bill, released: member.estimate ?? 0 }];
  });
  const { done, resumed } = await settleQuickly(unit, batch, quick, params.now, keeper);
  const counted: SettledRows = { settled: done.size, duplicate: 0, unknown: params.unknown, ...(resumed.length > 0 && { resumed }) };
  const rows = params.rows.filter((row) => !done.has(row));
  const numbers = rows.map(({ id }) => parseRequestId(id));
  await lockMembers(
    unit,
    numbers.filter((no) => no !== undefined),
  );
  for (const [i, { attempt, result }] of rows.entries()) {
    const no = numbers[i];
    const entry = no === undefined ? undefined : unit.entries.peek(no);
    if (entry !== undefined && entry.batch === batch.no && entry.state === ENTRY.batched && entry.attempt === attempt) {
      count(unit, batch, await settleMember(unit, batch, entry, result, params.now));
      counted.settled += 1;
    } else if (
      no !== undefined &&
      ((await billDeparted(unit, batch, no, attempt, result, params.now)) || (entry?.batch === batch.no && entry.state !== ENTRY.batched))
    ) {
      counted.duplicate += 1;
    } else counted.unknown += 1;
  }
  unit.batches.change(batch, {
    duplicate: batch.duplicate + counted.duplicate,
    unknown: batch.unknown + counted.unknown,
    cursor: params.cursor,
  });
  return counted;
}

/**
 * What an array parameter holds for a row, where the first parameter is the numbers of all rows, ascending and each once: found by halving. A join with the arrays would search the primary key from its root for every row;
 * an index that is given all numbers at once goes from leaf to leaf.
 */
const at = (array: string, no: string): string => `(${array})[width_bucket(${no}, $1::int8[])]`;

/** Whether the turn of a run is kept, since the claim that the run is still under. */
const isKept = `r.epoch = ${at("$6::int4[]", "r.no")}`;

/**
 * One answer for a run that waits: most rows. It wakes up, or goes into the hand of who keeps its turn, as by a claim (whose home it is already); then no index mentions what changes. One statement for both, for runs are locked in the order of their numbers. The
 * guard is within a CASE, as in `turns.ts`.
 */
const wakeUp = `
  WITH woken AS (
    UPDATE gb.runs r SET
      state = CASE WHEN ${isKept} THEN 1 ELSE 0 END, queue = CASE WHEN ${isKept} THEN NULL ELSE 0 END, epoch = CASE WHEN ${isKept} THEN r.epoch + 1 ELSE r.epoch END,
      worker = CASE WHEN ${isKept} THEN $7::int4 END,
      seq = r.seq + 1, open = r.open - 1, usd = r.usd + ${at("$2::float8[]", "r.no")},
      standard_usd = r.standard_usd + ${at("$3::float8[]", "r.no")}, unpriced = r.unpriced + ${at("$4::int4[]", "r.no")},
      reserved = r.reserved - ${at("$5::float8[]", "r.no")}
    WHERE r.no = ANY($1::int8[]) AND CASE WHEN r.state = 2 THEN true ELSE false END
    RETURNING r.no, r.seq, r.chain, r.state, r.epoch, r.usd, r.reserved, r.id
  ), hand AS (
    INSERT INTO gb.hands (worker, runs) SELECT $7, array_agg(no) FROM woken WHERE state = 1 HAVING count(*) > 0 RETURNING no
  ) SELECT *, (SELECT no FROM hand) FROM woken`;
/** No run is under it. */
const NO_EPOCH = -1;

type WokenRow = [
  no: number,
  seq: number,
  chain: number,
  state: number,
  epoch: number,
  usd: number,
  reserved: number,
  id: string,
  hand: number,
];

/** A final answer, the only one here for its run. */
interface Candidate {
  row: SettleRow;
  index: number;
  no: number;
  result: Extract<RequestResult, { type: "succeeded" | "failed" }>;
}

/** The same to a member that nobody shares or hurries. */
interface QuickRow extends Candidate {
  bill: Bill;
  released: number;
}

function candidatesOf(rows: readonly SettleRow[]): Candidate[] {
  const times = new Map<number, number>();
  const final = rows.flatMap((row, index): Candidate[] => {
    const no = parseRequestId(row.id);
    if (no === undefined) return [];
    times.set(runOf(no), (times.get(runOf(no)) ?? 0) + 1);
    const { result } = row;
    return result.type === "succeeded" || result.type === "failed" ? [{ row, index, no, result }] : [];
  });
  return final.filter(({ no }) => times.get(runOf(no)) === 1);
}

type MemberRow = [no: number, batch: number, state: number, attempt: number, estimate: number | null];

/** By number, of those that nobody shares or hurries. A member of a batch changes only under the batch's lock, so it need not be locked itself. */
async function membersOf(unit: Unit, candidates: readonly Candidate[]) {
  if (candidates.length === 0) return new Map<number, never>();
  const read = await unit.sql.rows<MemberRow>(
    `SELECT no, batch, state, attempt, estimate FROM gb.entries WHERE no = ANY($1::int8[]) AND check_at IS NULL AND shared IS NULL`,
    [column("int8[]", candidates, ({ no }) => no)],
  );
  return new Map(read.map(([no, batch, state, attempt, estimate]) => [no, { batch, state, attempt, estimate }]));
}

const settleMembers = `
  UPDATE gb.entries e SET
    state = ${at("$2::int2[]", "e.no")}, seq = ${at("$3::int4[]", "e.no")}, answer = ${at("$4::int8[]", "e.no")}, usd = e.usd + ${at("$5::float8[]", "e.no")},
    standard_usd = e.standard_usd + ${at("$6::float8[]", "e.no")}, unpriced = e.unpriced + ${at("$7::int4[]", "e.no")}
  WHERE e.no = ANY($1::int8[])`;

/**
 * Settles the rows that nearly all rows are: their runs wait. One guarded update says for all of them whether that is so. Returns the rows that are done; of the others
 * nothing is changed. `keeper`: who keeps the turns of those with an epoch.
 */
async function settleQuickly(
  unit: Unit,
  batch: BatchRow,
  quick: QuickRow[],
  now: number,
  keeper: number | undefined,
): Promise<{ done: Set<SettleRow>; resumed: ResumedRun[] }> {
  const done = new Set<SettleRow>();
  const resumed: ResumedRun[] = [];
  if (quick.length === 0) return { done, resumed };
  // In the order in which everybody locks.
  quick.sort((a, b) => a.no - b.no);
  const woken = await unit.sql.rows<WokenRow>(wakeUp, [
    column("int8[]", quick, ({ no }) => runOf(no)),
    column("float8[]", quick, ({ bill }) => bill.usd),
    column("float8[]", quick, ({ bill }) => bill.standardUsd),
    column("int4[]", quick, ({ bill }) => bill.unpriced),
    column("float8[]", quick, ({ released }) => released),
    column("int4[]", quick, ({ row }) => (keeper === undefined ? NO_EPOCH : (row.keptEpoch ?? NO_EPOCH))),
    keeper ?? null,
  ]);
  const runs = new Map(woken.map((row) => [row[0], row]));
  const inHand = woken.filter(([, , , state]) => state === RUN.running);
  const hand = inHand[0]?.[8];
  if (keeper !== undefined && hand !== undefined) {
    unit.names.keepRuns(
      { worker: keeper, no: hand },
      inHand.map(([no, , , , epoch, , , id]) => ({ id, no, epoch })),
    );
  }
  const settled: { no: number; state: number; seq: number; answer: number; bill: Bill }[] = [];
  for (const { row, index, no, result, bill } of quick) {
    const run = runs.get(runOf(no));
    if (run === undefined) continue;
    const [, seq, chain, runState, epoch, usd, reserved] = run;
    if (runState === RUN.running) resumed.push({ row: index, epoch, seq, usd: toUsd(usd), reservedUsd: toUsd(reserved) });
    const succeeded = result.type === "succeeded";
    const state = succeeded ? ENTRY.succeeded : ENTRY.failed;
    const answer = succeeded ? await unit.addAnswer(result.value, null) : await unit.addAnswer(null, errorText(result.error));
    countAnswer(unit, batch, chain, result, now);
    settled.push({ no, state, seq, answer, bill });
    unit.tallies.move(RUNS, RUN.waiting, runState);
    unit.tallies.move(REQUESTS, ENTRY.batched, state);
    count(unit, batch, succeeded ? "succeeded" : "failed");
    done.add(row);
  }
  if (settled.length === 0) return { done, resumed };
  await unit.sql.send(settleMembers, [
    column("int8[]", settled, ({ no }) => no),
    column("int2[]", settled, ({ state }) => state),
    column("int4[]", settled, ({ seq }) => seq),
    column("int8[]", settled, ({ answer }) => answer),
    column("float8[]", settled, ({ bill }) => bill.usd),
    column("float8[]", settled, ({ bill }) => bill.standardUsd),
    column("int4[]", settled, ({ bill }) => bill.unpriced),
  ]);
  return { done, resumed };
}

export async function settleRemaining(
  unit: Unit,
  params: { batch: string; epoch: number; now: number; limit: number; result: Exclude<MemberResult, { type: "succeeded" }> },
): Promise<number | undefined> {
  const batch = await batchInHand(unit, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  // Members before `swept` have their result: without it, every call would walk over those that earlier calls have settled.
  const rows = await unit.sql.rows<[number]>(
    `SELECT no FROM gb.entries WHERE batch = $1 AND no > $2 AND state + 0 = 4 ORDER BY no LIMIT $3`,
    [batch.no, batch.swept, params.limit],
  );
  const numbers = rows.map(([no]) => no);
  await lockMembers(unit, numbers);
  for (const no of numbers) {
    const entry = unit.entries.peek(no);
    if (entry !== undefined && entry.batch === batch.no && entry.state === ENTRY.batched) {
      count(unit, batch, await settleMember(unit, batch, entry, params.result, params.now));
    }
    unit.batches.change(batch, { swept: no });
  }
  return openMembers(batch);
}

/** Runs before their entries, as everywhere. */
async function lockMembers(unit: Unit, numbers: readonly number[]): Promise<void> {
  await unit.runs.lock(numbers.map(runOf));
  await unit.entries.lock(numbers);
  await lockShared(
    unit,
    numbers.flatMap((no) => unit.entries.peek(no)?.shared ?? []),
  );
}

function count(unit: Unit, batch: BatchRow, outcome: MemberOutcome): void {
  unit.batches.change(batch, { [outcome]: batch[outcome] + 1 });
}

/** Counts the answer that a result carries, if it does: what the lane, the chain, the day and the batch used and spent. */
function countAnswer(unit: Unit, batch: BatchRow, chain: number, result: MemberResult, now: number): Bill {
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
async function billDeparted(
  unit: Unit,
  batch: BatchRow,
  no: number,
  attempt: number,
  result: RequestResult,
  now: number,
): Promise<boolean> {
  const [row] = await unit.sql.query<{ chain: number; state: number }>(
    `SELECT chain, state FROM gb.departed WHERE batch = $1 AND entry = $2 AND attempt = $3`,
    [batch.no, no, attempt],
  );
  if (row === undefined) return false;
  if (row.state === DEPARTED.billed || !("usage" in result) || result.usage === undefined) return true;
  const bill = countAnswer(unit, batch, row.chain, result, now);
  const run = await unit.runs.get(runOf(no));
  if (run !== undefined) chargeRun(unit, run, bill, 0);
  if (row.state === DEPARTED.waited) {
    const entry = await unit.entries.get(no);
    if (entry !== undefined) chargeEntry(unit, entry, bill);
  }
  await unit.sql.run(`UPDATE gb.departed SET state = $1 WHERE batch = $2 AND entry = $3 AND attempt = $4`, [
    DEPARTED.billed,
    batch.no,
    no,
    attempt,
  ]);
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
  const lane = moved === undefined ? batch.lane : await unit.names.laneNo(atTier(await unit.names.lane(batch.lane), moved.tier));
  enqueue(unit, entry, { ...to, lane, now });
  chargeEntry(unit, entry, bill);
  chargeRun(unit, run, bill, 0);
  return "requeued";
}

async function settle(unit: Unit, entry: EntryRow, run: RunRow, bill: Bill, answer: Answer, now: number): Promise<MemberOutcome> {
  const succeeded = answer.error === undefined;
  const state = succeeded ? ENTRY.succeeded : ENTRY.failed;
  const stored = await settleEntry(unit, entry, run, state, answer, bill, entry.estimate ?? 0);
  unit.tallies.move(REQUESTS, ENTRY.batched, state);
  clearCheck(unit, entry);
  if (entry.shared !== null) {
    if (succeeded && stored !== null) await shareAnswer(unit, entry.shared, entry.no, stored, now);
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
    if (value !== undefined) await shareLateAnswer(unit, entry.shared, entry.no, value, now);
    else await passOn(unit, entry.shared, entry.no, now);
  }
  return "cancelled";
}

function clearCheck(unit: Unit, entry: EntryRow): void {
  if (entry.check_at !== null) unit.entries.change(entry, { check_at: null });
}
