import type { SerializedError } from "../../core/errors.ts";
import type { RequestResult, SettleRow } from "../../core/store.ts";
import { batchInHand, openMembers } from "./batches.ts";
import { ENTRY, parseRequestId, RUN, runOf } from "./codes.ts";
import type { Database } from "./database.ts";
import { isOver, type RunHead, settleEntry } from "./entries.ts";
import type { BatchRow } from "./rows.ts";
import { REQUESTS } from "./tallies.ts";

interface Member {
  no: number;
  lane: number;
  attempt: number;
  maxAttempts: number;
  bytes: number;
  tokens: number;
  run: RunHead;
}

type MemberRow = [maxAttempts: number, bytes: number, tokens: number, state: number, seq: number, open: number];

function toMember(no: number, lane: number, attempt: number, [maxAttempts, bytes, tokens, state, seq, open]: MemberRow): Member {
  return { no, lane, attempt, maxAttempts, bytes, tokens, run: { no: runOf(no), state, seq, open } };
}

type Outcome = "succeeded" | "failed" | "requeued" | "cancelled";
type MemberResult = RequestResult | { type: "release"; availableAt: number };

export function settleRows(
  db: Database,
  params: { batch: string; epoch: number; now: number; rows: SettleRow[]; unknown: number; cursor: number },
): { settled: number; duplicate: number; unknown: number } | undefined {
  const batch = batchInHand(db, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  const read = db.rows(`
    SELECT e.max_attempts, e.bytes, e.tokens, r.state, r.seq, r.open FROM entries e JOIN runs r ON r.no = e.no >> 20
    WHERE e.no = ? AND e.batch = ? AND e.state = 4 AND e.attempt = ?`);
  const counted = { settled: 0, duplicate: 0, unknown: params.unknown };
  for (const { id, attempt, result } of params.rows) {
    const no = parseRequestId(id);
    const row = no === undefined ? undefined : (read.get(no, batch.no, attempt) as MemberRow | undefined);
    if (no === undefined || row === undefined) {
      counted[no !== undefined && isSettledBy(db, no, batch.no) ? "duplicate" : "unknown"] += 1;
      continue;
    }
    batch[settleMember(db, toMember(no, batch.lane, attempt, row), result, params.now)] += 1;
    counted.settled += 1;
  }
  batch.duplicate += counted.duplicate;
  batch.unknown += counted.unknown;
  batch.cursor = params.cursor;
  saveProgress(db, batch);
  return counted;
}

export function settleRemaining(
  db: Database,
  params: { batch: string; epoch: number; now: number; limit: number; result: Exclude<MemberResult, { type: "succeeded" }> },
): number | undefined {
  const batch = batchInHand(db, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  // Members before `swept` have their result: without it, every call would walk over those that earlier calls have settled.
  const rows = db
    .rows(`
      SELECT e.no, e.attempt, e.max_attempts, e.bytes, e.tokens, r.state, r.seq, r.open FROM entries e JOIN runs r ON r.no = e.no >> 20
      WHERE e.batch = ? AND e.no > ? AND +e.state = 4 ORDER BY e.no LIMIT ?`)
    .all(batch.no, batch.swept, params.limit) as [no: number, attempt: number, ...MemberRow][];
  // Several members of one run share its head: each must see what the one before did to the run.
  let run: RunHead | undefined;
  for (const [no, attempt, ...row] of rows) {
    const member = toMember(no, batch.lane, attempt, row);
    if (run?.no === member.run.no) member.run = run;
    run = member.run;
    batch[settleMember(db, member, params.result, params.now)] += 1;
    batch.swept = no;
  }
  saveProgress(db, batch);
  return openMembers(batch);
}

/** Whether a request that is not an open member of the batch was one: it has its result, or went back to its queue. */
function isSettledBy(db: Database, entry: number, batch: number): boolean {
  return db.sql(`SELECT 1 FROM entries WHERE no = ? AND batch = ? AND state <> 4`).get(entry, batch) !== undefined;
}

/** Gives a member that is `batched` its result, and says how it is counted. */
function settleMember(db: Database, member: Member, result: MemberResult, now: number): Outcome {
  if ("usage" in result && result.usage !== undefined) db.tallies.answer(member.lane, result.usage);
  if (isOver(member.run.state)) return drop(db, member);
  switch (result.type) {
    case "succeeded":
      settle(db, member, ENTRY.succeeded, result.value, undefined);
      return "succeeded";
    case "failed":
      settle(db, member, ENTRY.failed, undefined, result.error);
      return "failed";
    case "retry":
      if (member.attempt < member.maxAttempts) return requeue(db, member, member.attempt + 1, result.availableAt, now);
      if (result.value !== undefined) {
        settle(db, member, ENTRY.succeeded, result.value, undefined);
        return "succeeded";
      }
      settle(db, member, ENTRY.failed, undefined, result.error);
      return "failed";
    case "release":
      return requeue(db, member, member.attempt, result.availableAt, now);
  }
}

function settle(db: Database, member: Member, state: number, value: string | undefined, error: SerializedError | undefined): void {
  settleEntry(db, member.no, member.run, state, { value, error });
  db.tallies.move(REQUESTS, ENTRY.batched, state);
}

/** Back to the queue, unless the run has failed meanwhile: then it is asked again only if an operator lets the run go on. */
function requeue(db: Database, member: Member, attempt: number, availableAt: number, now: number): Outcome {
  if (member.run.state === RUN.failed) return drop(db, member);
  const delayed = availableAt > now;
  const state = delayed ? ENTRY.delayed : ENTRY.queued;
  db.sql(`UPDATE entries SET state = ?, attempt = ?, due_at = ? WHERE no = ?`).run(state, attempt, availableAt, member.no);
  db.tallies.move(REQUESTS, ENTRY.batched, ENTRY.queued);
  if (delayed) db.tallies.delay(member.lane, 1);
  else db.tallies.queue(member.lane, 1, member.bytes, member.tokens);
  return "requeued";
}

function drop(db: Database, member: Member): Outcome {
  db.sql(`UPDATE entries SET state = 7 WHERE no = ?`).run(member.no);
  db.tallies.move(REQUESTS, ENTRY.batched, ENTRY.cancelled);
  return "cancelled";
}

function saveProgress(db: Database, batch: BatchRow): void {
  db.sql(`
    UPDATE batches SET
      succeeded = ?, failed = ?, requeued = ?, cancelled = ?, duplicate = ?, unknown = ?, cursor = ?, swept = ?
    WHERE no = ?`).run(
    batch.succeeded,
    batch.failed,
    batch.requeued,
    batch.cancelled,
    batch.duplicate,
    batch.unknown,
    batch.cursor,
    batch.swept,
    batch.no,
  );
}
