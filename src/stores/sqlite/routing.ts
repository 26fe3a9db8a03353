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
  state: number;
  batch: number | null;
  attempt: number;
  max_attempts: number;
  lane: number;
  bytes: number;
  tokens: number;
  run_state: number;
  run_seq: number;
  run_open: number;
}

type Outcome = "succeeded" | "failed" | "requeued" | "cancelled";
type MemberResult = RequestResult | { type: "release"; availableAt: number };

export function settleRows(
  db: Database,
  params: { batch: string; epoch: number; now: number; rows: SettleRow[]; unknown: number; cursor: number },
): { settled: number; duplicate: number; unknown: number } | undefined {
  const batch = batchInHand(db, params.batch, params.epoch);
  if (batch === undefined) return undefined;
  const read = db.sql(`
    SELECT e.no, e.state, e.batch, e.attempt, e.max_attempts, e.lane, e.bytes, e.tokens,
      r.state AS run_state, r.seq AS run_seq, r.open AS run_open
    FROM entries e JOIN runs r ON r.no = e.no >> 20 WHERE e.no = ?`);
  const counted = { settled: 0, duplicate: 0, unknown: params.unknown };
  for (const { id, attempt, result } of params.rows) {
    const no = parseRequestId(id);
    const member = no === undefined ? undefined : (read.get(no) as unknown as Member | undefined);
    if (member === undefined || member.batch !== batch.no) counted.unknown += 1;
    else if (member.state !== ENTRY.batched) counted.duplicate += 1;
    else if (member.attempt !== attempt) counted.unknown += 1;
    else {
      batch[settleMember(db, member, result, params.now)] += 1;
      counted.settled += 1;
    }
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
  const members = db
    .sql(`
      SELECT e.no, e.state, e.batch, e.attempt, e.max_attempts, e.lane, e.bytes, e.tokens,
        r.state AS run_state, r.seq AS run_seq, r.open AS run_open
      FROM entries e JOIN runs r ON r.no = e.no >> 20
      WHERE e.batch = ? AND e.no > ? AND +e.state = 4 ORDER BY e.no LIMIT ?`)
    .all(batch.no, batch.swept, params.limit) as unknown as Member[];
  const heads = new Map<number, Member>();
  for (const member of members) {
    // Several members of one run: each must see what the one before did to the run.
    const previous = heads.get(runOf(member.no));
    if (previous !== undefined) {
      member.run_state = previous.run_state;
      member.run_seq = previous.run_seq;
      member.run_open = previous.run_open;
    }
    heads.set(runOf(member.no), member);
    batch[settleMember(db, member, params.result, params.now)] += 1;
    batch.swept = member.no;
  }
  saveProgress(db, batch);
  return openMembers(batch);
}

/** Gives a member that is `batched` its result, and says how it is counted. */
function settleMember(db: Database, member: Member, result: MemberResult, now: number): Outcome {
  if ("usage" in result && result.usage !== undefined) db.tallies.answer(member.lane, result.usage);
  if (isOver(member.run_state)) return drop(db, member);
  switch (result.type) {
    case "succeeded":
      settle(db, member, ENTRY.succeeded, result.value, undefined);
      return "succeeded";
    case "failed":
      settle(db, member, ENTRY.failed, undefined, result.error);
      return "failed";
    case "retry":
      if (member.attempt < member.max_attempts) return requeue(db, member, member.attempt + 1, result.availableAt, now);
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
  const head: RunHead = { no: runOf(member.no), state: member.run_state, seq: member.run_seq, open: member.run_open };
  settleEntry(db, member.no, head, state, { value, error });
  member.run_state = head.state;
  member.run_seq = head.seq;
  member.run_open = head.open;
  db.tallies.move(REQUESTS, ENTRY.batched, state);
}

/** Back to the queue, unless the run has failed meanwhile: then it is asked again only if an operator lets the run go on. */
function requeue(db: Database, member: Member, attempt: number, availableAt: number, now: number): Outcome {
  if (member.run_state === RUN.failed) return drop(db, member);
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
