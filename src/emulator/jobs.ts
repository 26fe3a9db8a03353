/**
 * Jobs and their states. A state is never stored: it follows from the clock and from the plan that was made at creation.
 *
 * @module
 */
import type { EmulatorFaults } from "./faults.ts";
import type { BatchMethod } from "./rows.ts";
import type { JsonObject } from "./wire.ts";

export type JobState = "PENDING" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED" | "EXPIRED";

/** A job that is PENDING or RUNNING for longer than this expires. */
export const expiryMs = 48 * 3_600_000;

/** How a job will go if nobody interferes. Instants in ms since 1970. */
export interface JobPlan {
  runsAt: number;
  endsAt: number;
  /** `"STUCK"`: it never leaves PENDING. */
  fate: "SUCCEEDED" | "FAILED" | "CANCELLED" | "EXPIRED" | "STUCK";
  error: { code: number; message: string } | undefined;
  /** The output is hidden for so long after the end. */
  outputDelayMs: number;
  /** Lists leave the job out until then. */
  listedAt: number;
  /** If it is cancelled, it has succeeded all the same so long after. */
  revivesAfterMs: number | undefined;
}

export interface Job {
  /** Without `batches/`. */
  id: string;
  ordinal: number;
  model: string;
  displayName: string;
  method: BatchMethod;
  kind: "file" | "inline";
  /** `files/…`, for file jobs. */
  inputFile: string | undefined;
  /** Where a word is sent when it ends, besides the emulator's own webhook. */
  webhook: { uris: readonly string[]; userMetadata: JsonObject | undefined };
  priority: string | undefined;
  rows: number;
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
}

export function stateOf(job: Job, now: number): JobState {
  const { plan } = job;
  if (job.cancelledAt !== undefined) return isRevived(job, now) ? "SUCCEEDED" : "CANCELLED";
  if (plan.fate === "STUCK" || now < plan.runsAt) return "PENDING";
  if (now < plan.endsAt) return "RUNNING";
  if (plan.fate === "SUCCEEDED" && job.output === undefined) return "RUNNING";
  return plan.fate;
}

export function isEnded(state: JobState): boolean {
  return state !== "PENDING" && state !== "RUNNING";
}

/** When a cancelled job has succeeded after all, its rows permitting. */
export function revivalOf({ cancelledAt, plan }: Job): number {
  return cancelledAt === undefined || plan.revivesAfterMs === undefined ? Infinity : cancelledAt + plan.revivesAfterMs;
}

/** When the answers to its rows must be there. */
export function answersDueAt(job: Job): number {
  if (job.cancelledAt !== undefined) return revivalOf(job);
  return job.plan.fate === "SUCCEEDED" ? job.plan.endsAt : Infinity;
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
  return job.output !== undefined && stateOf(job, now) === "SUCCEEDED" && now >= endOf(job, now, realTime) + job.plan.outputDelayMs;
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
