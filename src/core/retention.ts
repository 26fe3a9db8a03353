/**
 * How long what has ended is kept. Nothing is removed unless somebody said so, and never what is still alive: runs that are held or waiting stay.
 *
 * @module
 */
import { parseDuration, type Duration } from "./duration.ts";
import { describe, GembatchError } from "./errors.ts";
import { refuseUnknown } from "./options.ts";

/** When things that ended are removed, counted from their end. What is left out is kept for ever. */
export interface RetentionOptions {
  /** Runs with everything of theirs: one time for all, or one for each way to end. */
  runs?: Duration | { completed?: Duration; failed?: Duration; cancelled?: Duration };
  /** Prompts and answers of ended runs; the runs themselves stay in lists, with input and output. */
  histories?: Duration;
  /** Batches whose requests are all gone from the store or belong to ended runs that are. */
  batches?: Duration;
}

/** The same in milliseconds. */
export interface RetentionPolicy {
  runs: { completed?: number; failed?: number; cancelled?: number };
  historiesMs?: number;
  batchesMs?: number;
}

/** What `Store.removeEnded` takes: everything that ended before these instants goes. */
export interface RemovalInstants {
  runs: { completed?: number; failed?: number; cancelled?: number };
  histories?: number;
  batches?: number;
}

const ends = ["completed", "failed", "cancelled"] as const;

/** The `retention` option, checked. `undefined`: nothing is ever removed. Throws `invalid_option`. */
export function checkRetention(value: unknown): RetentionPolicy | undefined {
  if (value === undefined) return undefined;
  if (!isObject(value)) throw invalid("retention", value);
  refuseUnknown(value, ["runs", "histories", "batches"], "retention");
  const { runs, histories, batches } = value as RetentionOptions;
  const policy: RetentionPolicy = {
    runs: checkRuns(runs),
    ...(histories === undefined ? {} : { historiesMs: parseDuration(histories, "retention.histories") }),
    ...(batches === undefined ? {} : { batchesMs: parseDuration(batches, "retention.batches") }),
  };
  return Object.keys(policy).length === 1 && Object.keys(policy.runs).length === 0 ? undefined : policy;
}

function checkRuns(runs: RetentionOptions["runs"]): RetentionPolicy["runs"] {
  if (runs === undefined) return {};
  if (!isObject(runs)) {
    const ms = parseDuration(runs, "retention.runs");
    return { completed: ms, failed: ms, cancelled: ms };
  }
  refuseUnknown(runs, ends, "retention.runs");
  const policy: RetentionPolicy["runs"] = {};
  for (const end of ends) {
    const keep = runs[end];
    if (keep !== undefined) policy[end] = parseDuration(keep, `retention.runs.${end}`);
  }
  return policy;
}

/** The instants before which things had to end to be removed at `now`. */
export function removalInstants(policy: RetentionPolicy, now: number): RemovalInstants {
  const runs: RemovalInstants["runs"] = {};
  for (const end of ends) {
    const keepMs = policy.runs[end];
    if (keepMs !== undefined) runs[end] = now - keepMs;
  }
  return {
    runs,
    ...(policy.historiesMs === undefined ? {} : { histories: now - policy.historiesMs }),
    ...(policy.batchesMs === undefined ? {} : { batches: now - policy.batchesMs }),
  };
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(name: string, got: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} must be such as { runs: "30d" }, got ${describe(got)}.`);
}
