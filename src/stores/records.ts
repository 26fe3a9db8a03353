/** Rows of the tables as the records of the port. Numbers and texts come back as they were put in; NULL is `undefined`. */
import type { SerializedError } from "../core/errors.ts";
import type { JobState, Lane, StagedInput } from "../core/provider.ts";
import type { BatchRecord, RequestRecord, RunRecord } from "../core/store.ts";
import { batchStates, isMember, requestId, requestStates, RUN, runKinds, runStates } from "./codes.ts";
import { type SpentRow, toSpent, toUsd } from "./money.ts";

type Nullable<T> = { [K in keyof T]: T[K] | null };

const orUndefined = <T>(value: T | null): T | undefined => value ?? undefined;
const parse = (text: string | null): unknown => (text === null ? undefined : JSON.parse(text));
const parseError = (text: string | null): SerializedError | undefined => parse(text) as SerializedError | undefined;

export interface BatchRow extends SpentRow {
  no: number;
  id: string;
  lane: number;
  state: number;
  epoch: number;
  worker: number | null;
  request_count: number;
  bytes: number;
  tokens: number;
  estimate: number;
  due_at: number;
  created_at: number;
  sealed_at: number | null;
  staged: string | null;
  launch_attempts: number;
  intent_at: number | null;
  launch_deadline_at: number | null;
  held: number;
  job: string | null;
  job_state: string | null;
  raw_status: string | null;
  launched_at: number | null;
  cancelled_at: number | null;
  finished_at: number | null;
  output: string | null;
  cursor: number;
  swept: number;
  succeeded: number;
  failed: number;
  requeued: number;
  cancelled: number;
  duplicate: number;
  unknown: number;
  failures: number;
  ended_at: number | null;
  error: string | null;
  sweep_at: number | null;
  duplicate_jobs: string | null;
  cleaned_at: number | null;
}

export function toBatch(row: BatchRow, lane: Lane): BatchRecord {
  return {
    id: row.id,
    lane,
    state: batchStates[row.state] ?? "forming",
    epoch: row.epoch,
    requestCount: row.request_count,
    bytes: row.bytes,
    tokens: row.tokens,
    usd: toUsd(row.estimate),
    dueAt: row.due_at,
    createdAt: row.created_at,
    sealedAt: orUndefined(row.sealed_at),
    staged: parse(row.staged) as StagedInput | undefined,
    launchAttempts: row.launch_attempts,
    intentAt: orUndefined(row.intent_at),
    launchDeadlineAt: orUndefined(row.launch_deadline_at),
    held: row.held === 1,
    job: orUndefined(row.job),
    jobState: orUndefined(row.job_state) as JobState | undefined,
    rawStatus: orUndefined(row.raw_status),
    launchedAt: orUndefined(row.launched_at),
    cancelledAt: orUndefined(row.cancelled_at),
    finishedAt: orUndefined(row.finished_at),
    output: orUndefined(row.output),
    cursor: row.cursor,
    counts: {
      succeeded: row.succeeded,
      failed: row.failed,
      requeued: row.requeued,
      cancelled: row.cancelled,
      duplicate: row.duplicate,
      unknown: row.unknown,
    },
    failures: row.failures,
    endedAt: orUndefined(row.ended_at),
    error: parseError(row.error),
    sweepAt: orUndefined(row.sweep_at),
    duplicateJobs: duplicateJobs(row),
    cleanedAt: orUndefined(row.cleaned_at),
    cost: toSpent(row),
  };
}

export const duplicateJobs = ({ duplicate_jobs: names }: Pick<BatchRow, "duplicate_jobs">): string[] =>
  (parse(names) as string[] | undefined) ?? [];

export interface RunRow extends SpentRow {
  no: number;
  id: string;
  kind: number;
  chain: number;
  state: number;
  attempts: number;
  priority: number;
  created_at: number;
  ended_at: number | null;
  input: string;
  output: string | null;
  error: string | null;
  notes: string | null;
  parent_id: string | null;
  starter_id: string | null;
  deadline_at: number | null;
}

export function toRun(row: RunRow, { chain, version }: { chain: string; version: string }): RunRecord {
  // The error of a turn that is tried again belongs to the run only until a turn gets through.
  const inTrouble = row.state >= RUN.retrying || row.attempts > 0;
  return {
    id: row.id,
    kind: runKinds[row.kind] ?? "chain",
    chain,
    version,
    state: runStates[row.state] ?? "runnable",
    input: parse(row.input),
    output: parse(row.output),
    error: inTrouble ? parseError(row.error) : undefined,
    notes: (parse(row.notes) as string[] | undefined) ?? [],
    parent: orUndefined(row.parent_id),
    starter: orUndefined(row.starter_id),
    attempts: row.attempts,
    priority: row.priority,
    deadlineAt: orUndefined(row.deadline_at),
    cost: toSpent(row),
    createdAt: row.created_at,
    endedAt: orUndefined(row.ended_at),
  };
}

export interface RequestRow
  extends SpentRow, Nullable<{ batch_id: string; body: string; value: string; error: string; deadline_at: number; tier_reason: string }> {
  no: number;
  run_id: string;
  key: string;
  lane: number;
  state: number;
  attempt: number;
  bytes: number;
  tokens: number;
  created_at: number;
  due_at: number;
}

export function toRequest(row: RequestRow, lane: Lane): RequestRecord {
  return {
    id: requestId(row.no),
    run: row.run_id,
    key: row.key,
    lane,
    state: requestStates[row.state] ?? "queued",
    attempt: row.attempt,
    batch: isMember(row.state) ? orUndefined(row.batch_id) : undefined,
    bytes: row.bytes,
    tokens: row.tokens,
    createdAt: row.created_at,
    availableAt: row.due_at,
    deadlineAt: orUndefined(row.deadline_at),
    tierReason: orUndefined(row.tier_reason),
    cost: toSpent(row),
    body: parse(row.body),
    response: parse(row.value),
    error: parseError(row.error),
  };
}
