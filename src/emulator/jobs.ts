/**
 * Jobs and their states. A state is never stored: it follows from the clock and from the plan that was made at creation.
 *
 * @module
 */
import type { EmulatorFaults } from "./faults.ts";
import type { BatchMethod } from "./rows.ts";
import type { JsonObject } from "./wire.ts";

/** CANCELLING and PARTIALLY_SUCCEEDED are states of Vertex jobs only. */
export type JobState = "PENDING" | "RUNNING" | "CANCELLING" | "SUCCEEDED" | "PARTIALLY_SUCCEEDED" | "FAILED" | "CANCELLED" | "EXPIRED";

/** A job of the Developer API that is PENDING or RUNNING for longer than this expires. */
export const expiryMs = 48 * 3_600_000;

/** How a job will go if nobody interferes. Instants in ms since 1970. */
export interface JobPlan {
  runsAt: number;
  endsAt: number;
  /** `"STUCK"`: it never leaves PENDING. */
  fate: "SUCCEEDED" | "PARTIALLY_SUCCEEDED" | "FAILED" | "CANCELLED" | "EXPIRED" | "STUCK";
  error: { code: number; message: string } | undefined;
  /** The output is hidden for so long after the end. */
  outputDelayMs: number;
  /** Lists leave the job out until then. */
  listedAt: number;
  /** If it is cancelled, it has succeeded all the same so long after. */
  revivesAfterMs: number | undefined;
}

/** Where a job takes its rows from and where it leaves them; the last two are those of Vertex. */
export type JobKind = "file" | "inline" | "storage" | "bigquery";

/** What a Vertex job knows besides. */
export interface VertexDetails {
  project: string;
  location: string;
  /** As the resource shows it: `publishers/google/models/…`. */
  modelName: string;
  inputConfig: JsonObject;
  outputConfig: JsonObject;
  labels: Record<string, string>;
  output: VertexOutput;
}

/** Where the results go. `directory` is an object prefix without slash at its end. */
export type VertexOutput =
  | { kind: "storage"; bucket: string; directory: string }
  | { kind: "bigquery"; project: string; dataset: string; table: string; fields: readonly JsonObject[] };

export interface Job {
  /** Without `batches/`, or the digits of a Vertex job. */
  id: string;
  /** `batches/…`, or the full resource name of a Vertex job. */
  name: string;
  ordinal: number;
  model: string;
  displayName: string;
  method: BatchMethod;
  kind: JobKind;
  vertex: VertexDetails | undefined;
  /** `files/…`, for file jobs. */
  inputFile: string | undefined;
  /** Where a word is sent when it ends, besides the emulator's own webhook. */
  webhook: { uris: readonly string[]; userMetadata: JsonObject | undefined };
  priority: string | undefined;
  rows: number;
  /** Vertex: how many rows are written by its end if it does not succeed, in the order in which they are finished. All of them if it does. */
  rowsKept: number;
  inputTokens: number;
  createdAt: number;
  plan: JobPlan;
  /** The faults of its rows, as they were at creation. */
  settings: EmulatorFaults;
  cancelledAt: number | undefined;
  /** Aborted when nobody needs its answers any more. */
  halt: AbortController;
  deleted: boolean;
  /** Prompt of each row, until the ledger has counted them. */
  hashes: string[];
  /** Answering the rows; resolves when the output is complete. Never rejects. */
  work: Promise<void>;
  output: JobOutput | undefined;
}

/** What answering the rows gave. */
export interface JobOutput {
  path: string;
  bytes: number;
  succeeded: number;
  failed: number;
  promptTokens: number;
  outputTokens: number;
  /** Prompts that got a response. */
  billed: string[];
  /** When it was complete. */
  doneAt: number;
  /** How many lines of the file count. */
  lines: number;
  /** Jobs that keep what they have finished: what each row adds to the sums, in the order in which they were finished. */
  tallies?: readonly RowTally[];
}

export interface RowTally {
  /** The prompt, if it got a response. */
  hash: string | undefined;
  promptTokens: number;
  outputTokens: number;
  lines: number;
}

export function stateOf(job: Job, now: number): JobState {
  const { plan } = job;
  if (job.cancelledAt !== undefined) {
    if (isRevived(job, now)) return "SUCCEEDED";
    return needsRows(job) && job.output === undefined ? "CANCELLING" : "CANCELLED";
  }
  if (plan.fate === "STUCK" || now < plan.runsAt) return "PENDING";
  if (now < plan.endsAt || (needsRows(job) && job.output === undefined)) return "RUNNING";
  return plan.fate;
}

export function isEnded(state: JobState): boolean {
  return state !== "PENDING" && state !== "RUNNING" && state !== "CANCELLING";
}

/** Whether it ends with results, as it stands. */
export function needsRows(job: Job): boolean {
  return (job.cancelledAt === undefined && job.plan.fate === "SUCCEEDED") || keepsRows(job);
}

/** Whether it leaves results though it does not succeed. One that revives has them only then. */
function keepsRows({ plan, cancelledAt, rowsKept }: Job): boolean {
  return rowsKept > 0 && (cancelledAt === undefined || plan.revivesAfterMs === undefined);
}

/** Whether a job in this state has results, which are billed. */
export function hasResults(job: Job, state: JobState): boolean {
  if (job.output === undefined) return false;
  return state === "SUCCEEDED" || (keepsRows(job) && (state === "CANCELLED" || state === "PARTIALLY_SUCCEEDED"));
}

/** How many rows a Vertex job has written at an instant. */
export function rowsFinishedAt({ plan, rows, rowsKept }: Job, at: number): number {
  const part = (at - plan.runsAt) / Math.max(1, plan.endsAt - plan.runsAt);
  return Math.min(rowsKept, Math.floor(rows * Math.min(1, Math.max(0, part))));
}

/** When a cancelled job has succeeded after all, its rows permitting. */
export function revivalOf({ cancelledAt, plan }: Job): number {
  return cancelledAt === undefined || plan.revivesAfterMs === undefined ? Infinity : cancelledAt + plan.revivesAfterMs;
}

/** When the answers to its rows must be there. */
export function answersDueAt(job: Job): number {
  if (job.cancelledAt !== undefined) return needsRows(job) ? job.cancelledAt : revivalOf(job);
  return needsRows(job) ? job.plan.endsAt : Infinity;
}

function isRevived(job: Job, now: number): boolean {
  return job.output !== undefined && now >= revivalOf(job);
}

/** When a job that has ended did so. */
export function endOf(job: Job, now: number, realTime: boolean): number {
  if (job.cancelledAt !== undefined) return isRevived(job, now) ? revivalOf(job) : job.cancelledAt;
  return realTime && job.output ? Math.max(job.plan.endsAt, job.output.doneAt) : job.plan.endsAt;
}

/** Whether the results can be seen: SUCCEEDED is sometimes visible before. */
export function hasOutput(job: Job, now: number, realTime: boolean): boolean {
  return hasResults(job, stateOf(job, now)) && now >= endOf(job, now, realTime) + job.plan.outputDelayMs;
}

/** Newest-first pages over items with an ordinal. The token names the last item, so that newer items do not shift pages. */
export function pageOf<T extends { ordinal: number }>(
  newestFirst: readonly T[],
  pageSize: number,
  token: string | undefined,
): { items: T[]; next: string | undefined } {
  const match = token === undefined ? undefined : /^before (\d+)$/.exec(Buffer.from(token, "base64url").toString());
  if (match === null) throw new RangeError("Invalid page token.");
  const before = match === undefined ? Infinity : Number(match[1]);
  const rest = newestFirst.filter((item) => item.ordinal < before);
  const items = rest.slice(0, pageSize);
  const last = items.at(-1);
  return { items, next: rest.length > items.length && last ? Buffer.from(`before ${last.ordinal}`).toString("base64url") : undefined };
}
