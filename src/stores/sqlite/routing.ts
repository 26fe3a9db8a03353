import { type Answer, fateOf, type MemberOutcome, type MemberResult, triesOf } from "../answers.ts";
import { openMembers } from "../batch-update.ts";
import type { RequestResult, ResumedRun, SettledRows, StoreParams } from "../../core/store.ts";
import { atTier } from "../../core/tiers.ts";
import { batchInHand } from "./batches.ts";
import { DEPARTED, ENTRY, parseRequestId, runOf } from "../codes.ts";
import type { Database } from "./database.ts";
import { chargeRun, type RunHead, settleEntry } from "./entries.ts";
import { type Bill, billOf, noBill, toUsd } from "../money.ts";
import { enqueue } from "./queue.ts";
import type { BatchRow } from "../records.ts";
import { passOn, shareAnswer, shareLateAnswer } from "./shared.ts";
import { REQUESTS } from "../counts.ts";

interface Member {
  no: number;
  attempt: number;
  estimate: number | null;
  /** Somebody looks at its deadline, or it shares its answer. */
  checked: boolean;
  shared: boolean;
  chain: number;
  run: RunHead;
}

/** `rare`: 1 if it is looked at for its deadline, plus 2 if it shares its answer. Nearly always 0. */
type MemberRow = [estimate: number | null, rare: number, chain: number, state: number, seq: number, open: number];

/** What only a request needs that goes back to a queue. */
interface Requeue {
  max_attempts: number;
  bytes: number;
  tokens: number;
  failed_jobs: number;
  group_size: number | null;
}

/** The request if it is `batched` in this very batch with this very attempt. */
function readMember(db: Database, batch: BatchRow, no: number, attempt: number): Member | undefined {
  const row = db
    .rows(`
      SELECT e.estimate, (e.check_at IS NOT NULL) + 2 * (e.shared IS NOT NULL), r.chain, r.state, r.seq, r.open
      FROM entries e JOIN runs r ON r.no = e.no >> 20 WHERE e.no = ? AND e.batch = ? AND e.state = 4 AND e.attempt = ?`)
    .get(no, batch.no, attempt) as MemberRow | undefined;
  if (row === undefined) return undefined;
  const [estimate, rare, chain, state, seq, open] = row;
  const run: RunHead = { no: runOf(no), state, seq, open, kept: undefined, resumed: undefined };
  return { no, attempt, estimate, checked: (rare & 1) > 0, shared: (rare & 2) > 0, chain, run };
}

function readRequeue(db: Database, no: number): Requeue {
  const select = db.sql(`SELECT max_attempts, bytes, tokens, failed_jobs, group_size FROM entries WHERE no = ?`);
  return select.get(no) as unknown as Requeue;
}

function readShared(db: Database, no: number): number {
  return db.sql(`SELECT shared FROM entries WHERE no = ?`).get(no)?.["shared"] as number;
}

export function settleRows(db: Database, params: StoreParams<"settleRows">): SettledRows | undefined {
  const batch = batchInHand(db, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  const counted = { settled: 0, duplicate: 0, unknown: params.unknown };
  const keeper = params.worker === undefined ? undefined : db.names.ensureWorker(params.worker);
  const resumed: ResumedRun[] = [];
  for (const [row, { id, attempt, result, keptEpoch }] of params.rows.entries()) {
    const no = parseRequestId(id);
    const member = no === undefined ? undefined : readMember(db, batch, no, attempt);
    if (member !== undefined) {
      const { run } = member;
      if (keptEpoch !== undefined && keeper !== undefined) run.kept = { epoch: keptEpoch, worker: keeper };
      batch[settleMember(db, batch, member, result, params.now)] += 1;
      counted.settled += 1;
      if (run.resumed !== undefined) {
        const [runId, epoch, usd, reserved] = run.resumed;
        db.names.keepRun(runId, run.no);
        resumed.push({ row, epoch, seq: run.seq, usd: toUsd(usd), reservedUsd: toUsd(reserved) });
      }
    } else if (no !== undefined && (billDeparted(db, batch, no, attempt, result, params.now) || isSettledBy(db, no, batch.no))) {
      counted.duplicate += 1;
    } else counted.unknown += 1;
  }
  batch.duplicate += counted.duplicate;
  batch.unknown += counted.unknown;
  batch.cursor = params.cursor;
  saveProgress(db, batch);
  return resumed.length === 0 ? counted : { ...counted, resumed };
}

export function settleRemaining(
  db: Database,
  params: { batch: string; epoch: number; now: number; limit: number; result: Exclude<MemberResult, { type: "succeeded" }> },
): number | undefined {
  const batch = batchInHand(db, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  // Members before `swept` have their result: without it, every call would walk over those that earlier calls have settled.
  const rows = db
    .rows(`SELECT no, attempt FROM entries WHERE batch = ? AND no > ? AND +state = 4 ORDER BY no LIMIT ?`)
    .all(batch.no, batch.swept, params.limit) as [no: number, attempt: number][];
  for (const [no, attempt] of rows) {
    // One by one: several members of one run share its row, and each must see what the one before did to it.
    const member = readMember(db, batch, no, attempt);
    if (member !== undefined) batch[settleMember(db, batch, member, params.result, params.now)] += 1;
    batch.swept = no;
  }
  saveProgress(db, batch);
  return openMembers(batch);
}

/** Whether a request that is not an open member of the batch was one: it has its result, or went back to its queue. */
function isSettledBy(db: Database, entry: number, batch: number): boolean {
  return db.sql(`SELECT 1 FROM entries WHERE no = ? AND batch = ? AND state <> 4`).get(entry, batch) !== undefined;
}

/** Counts the answer that a result carries, if it does: what the lane, the chain, the day and the batch used and spent. */
function countAnswer(db: Database, batch: BatchRow, chain: number, result: MemberResult, now: number): Bill {
  if (!("usage" in result) || result.usage === undefined) return noBill;
  const bill = billOf(result.cost);
  db.tallies.answer(now, chain, batch.lane, result.usage, bill);
  batch.usd += bill.usd;
  batch.standard_usd += bill.standardUsd;
  batch.unpriced += bill.unpriced;
  return bill;
}

/** A row whose request was taken out of the batch is billed the first time that it comes. `false`: it is none. */
function billDeparted(db: Database, batch: BatchRow, no: number, attempt: number, result: RequestResult, now: number): boolean {
  const row = db.sql(`SELECT chain, state FROM departed WHERE batch = ? AND entry = ? AND attempt = ?`).get(batch.no, no, attempt) as
    | { chain: number; state: number }
    | undefined;
  if (row === undefined) return false;
  if (row.state === DEPARTED.billed || !("usage" in result) || result.usage === undefined) return true;
  const bill = countAnswer(db, batch, row.chain, result, now);
  chargeRun(db, runOf(no), bill, 0);
  if (row.state === DEPARTED.waited) chargeEntry(db, no, bill);
  db.sql(`UPDATE departed SET state = ? WHERE batch = ? AND entry = ? AND attempt = ?`).run(DEPARTED.billed, batch.no, no, attempt);
  return true;
}

function chargeEntry(db: Database, no: number, { usd, standardUsd, unpriced }: Bill): void {
  if (usd === 0 && standardUsd === 0 && unpriced === 0) return;
  db.sql(`UPDATE entries SET usd = usd + ?, standard_usd = standard_usd + ?, unpriced = unpriced + ? WHERE no = ?`).run(
    usd,
    standardUsd,
    unpriced,
    no,
  );
}

/** Gives a member that is `batched` its result, and says how it is counted. */
function settleMember(db: Database, batch: BatchRow, member: Member, result: MemberResult, now: number): MemberOutcome {
  const { no, attempt, estimate } = member;
  const bill = countAnswer(db, batch, member.chain, result, now);
  let read: Requeue | undefined;
  const requeue = (): Requeue => (read ??= readRequeue(db, no));
  const fate = fateOf(result, member.run.state, () => triesOf({ ...requeue(), attempt }, batch));
  if (fate.kind === "settle") return settle(db, member, bill, fate.answer, now);
  if (fate.kind === "drop") return drop(db, member, bill, fate.value, now);
  const row = requeue();
  const { moved, failedJobs, ...to } = fate.to;
  if (moved !== undefined) db.sql(`UPDATE entries SET tier_reason = ? WHERE no = ?`).run(moved.reason, no);
  if (failedJobs > row.failed_jobs) db.sql(`UPDATE entries SET failed_jobs = ? WHERE no = ?`).run(failedJobs, no);
  const lane = moved === undefined ? batch.lane : db.names.laneNo(atTier(db.names.lane(batch.lane), moved.tier));
  enqueue(db, { ...row, no, state: ENTRY.batched, lane: batch.lane, estimate }, { ...to, lane, now });
  chargeEntry(db, no, bill);
  chargeRun(db, member.run.no, bill, 0);
  return "requeued";
}

function settle(db: Database, member: Member, bill: Bill, answer: Answer, now: number): MemberOutcome {
  const { no } = member;
  const succeeded = answer.error === undefined;
  const state = succeeded ? ENTRY.succeeded : ENTRY.failed;
  const stored = settleEntry(db, no, member.run, state, answer, bill, member.estimate ?? 0);
  db.tallies.move(REQUESTS, ENTRY.batched, state);
  if (member.checked) clearCheck(db, no);
  if (member.shared) {
    const shared = readShared(db, no);
    if (succeeded && stored !== null) shareAnswer(db, shared, no, stored, now);
    else passOn(db, shared, no, now);
  }
  return succeeded ? "succeeded" : "failed";
}

/** Nobody takes the answer any more, but for those that share it. */
function drop(db: Database, member: Member, bill: Bill, value: string | undefined, now: number): MemberOutcome {
  const { no } = member;
  db.sql(`UPDATE entries SET state = 7 WHERE no = ?`).run(no);
  db.tallies.move(REQUESTS, ENTRY.batched, ENTRY.cancelled);
  chargeEntry(db, no, bill);
  chargeRun(db, member.run.no, bill, member.estimate ?? 0);
  if (member.checked) clearCheck(db, no);
  if (member.shared) {
    if (value !== undefined) shareLateAnswer(db, readShared(db, no), no, value, now);
    else passOn(db, readShared(db, no), no, now);
  }
  return "cancelled";
}

function clearCheck(db: Database, no: number): void {
  db.sql(`UPDATE entries SET check_at = NULL WHERE no = ?`).run(no);
}

function saveProgress(db: Database, batch: BatchRow): void {
  db.sql(`
    UPDATE batches SET
      succeeded = ?, failed = ?, requeued = ?, cancelled = ?, duplicate = ?, unknown = ?, cursor = ?, swept = ?, usd = ?, standard_usd = ?,
      unpriced = ?
    WHERE no = ?`).run(
    batch.succeeded,
    batch.failed,
    batch.requeued,
    batch.cancelled,
    batch.duplicate,
    batch.unknown,
    batch.cursor,
    batch.swept,
    batch.usd,
    batch.standard_usd,
    batch.unpriced,
    batch.no,
  );
}
