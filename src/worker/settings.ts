import type { BatchingPolicy } from "../core/batching.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import { GembatchError } from "../core/errors.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import type { PollingPolicy } from "../core/polling.ts";
import type { RetryPolicy } from "../core/retry.ts";
import type { RunPolicy } from "../pipeline/run.ts";
import type { LaunchPolicy } from "../pipeline/stage.ts";

/** When and how large batches are. */
export interface BatchingOptions {
  /** Requests in one job at most. Default 50,000: one job per step for most workloads, and a lost job costs a bounded repeat. */
  maxRequests?: number;
  /** Bytes of one job's input at most. Default 1,000,000,000: half of what the Gemini API takes as one file. */
  maxBytes?: number;
  /** The oldest request never waits longer than this for company. Default `"1m"`: only matters while runs keep adding requests. */
  maxWait?: Duration;
  /** Unfinished jobs of one provider at the same time. Default: the provider's own limit (100 on the Gemini API). */
  maxJobs?: number;
  /** How long nothing may move before a queue counts as complete. Default `"250ms"`: longer than a script takes between two starts. */
  debounce?: Duration;
}

/** How eagerly jobs are looked at. The interval is a twentieth of a job's age, between these. */
export interface PollingOptions {
  /** Default `"1s"`. */
  minInterval?: Duration;
  /** Default `"1m"`: a job of a day costs at most 1,440 looks. */
  maxInterval?: Duration;
}

/** How requests are tried again. */
export interface RetryOptions {
  /** Tries of one request in all. Default 4. */
  maxAttempts?: number;
  /** Default `"5s"`; doubles with every try. */
  initialDelay?: Duration;
  /** Default `"10m"`. */
  maxDelay?: Duration;
}

/** How a job is created once. */
export interface LaunchOptions {
  /** How long an attempt to create a job waits for its answer. Default `"2m"`. */
  deadline?: Duration;
  /**
   * How long after an unanswered attempt its job may still turn up in the provider's list, before it is created again. Default `"150s"`: the list is not known
   * to lag by that much, and such attempts are rare enough for patience.
   */
  settle?: Duration;
}

export interface WorkerOptions {
  /** Turns executed at once. Default 2,048. */
  concurrency?: number;
  /**
   * Bytes for waiting turns that are kept in memory so that they need not replay: 6 KB each and twice the texts they hold. A cache that is never needed, only fast.
   * Default 100 MB, some 16,000 small runs; 0 for none.
   */
  parkedBytes?: number;
  /** A turn that awaits something that is not a step, with nothing of gembatch to wait for, fails after this. Default `"5m"`. */
  maxTurn?: Duration;
  /** Prompts, steps and waits of one run at most. Default 10,000. */
  maxEntries?: number;
  /** A worker that does not renew its lease for this long counts as dead. Default `"30s"`. */
  lease?: Duration;
}

export interface SettingsOptions {
  batching?: BatchingOptions;
  polling?: PollingOptions;
  retry?: RetryOptions;
  launch?: LaunchOptions;
  worker?: WorkerOptions;
}

/** Every setting of a worker, resolved: numbers, durations in milliseconds. */
export interface Settings {
  batching: BatchingPolicy;
  polling: PollingPolicy;
  retry: RetryPolicy;
  launch: LaunchPolicy;
  run: RunPolicy;
  leaseMs: number;
}

export function resolveSettings(options: SettingsOptions): Settings {
  const { batching = {}, polling = {}, retry = {}, launch = {}, worker = {} } = options;
  refuseUnknown(batching, ["maxRequests", "maxBytes", "maxWait", "maxJobs", "debounce"], "batching");
  refuseUnknown(polling, ["minInterval", "maxInterval"], "polling");
  refuseUnknown(retry, ["maxAttempts", "initialDelay", "maxDelay"], "retry");
  refuseUnknown(launch, ["deadline", "settle"], "launch");
  refuseUnknown(worker, ["concurrency", "parkedBytes", "maxTurn", "maxEntries", "lease"], "worker");
  const settings: Settings = {
    batching: {
      maxRequests: parseCount(batching.maxRequests ?? 50_000, "batching.maxRequests"),
      maxBytes: parseCount(batching.maxBytes ?? 1_000_000_000, "batching.maxBytes"),
      maxWaitMs: parseDuration(batching.maxWait ?? "1m", "batching.maxWait"),
      maxJobs: batching.maxJobs === undefined ? Number.MAX_SAFE_INTEGER : parseCount(batching.maxJobs, "batching.maxJobs"),
      debounceMs: parseDuration(batching.debounce ?? "250ms", "batching.debounce"),
    },
    polling: {
      minIntervalMs: parseDuration(polling.minInterval ?? "1s", "polling.minInterval"),
      maxIntervalMs: parseDuration(polling.maxInterval ?? "1m", "polling.maxInterval"),
    },
    retry: {
      maxAttempts: parseCount(retry.maxAttempts ?? 4, "retry.maxAttempts"),
      initialDelayMs: parseDuration(retry.initialDelay ?? "5s", "retry.initialDelay"),
      maxDelayMs: parseDuration(retry.maxDelay ?? "10m", "retry.maxDelay"),
    },
    launch: {
      deadlineMs: parseDuration(launch.deadline ?? "2m", "launch.deadline"),
      settleMs: parseDuration(launch.settle ?? "150s", "launch.settle"),
    },
    run: {
      concurrency: parseCount(worker.concurrency ?? 2_048, "worker.concurrency"),
      parkedBytes: parseCount(worker.parkedBytes ?? 100_000_000, "worker.parkedBytes", 0),
      maxTurnMs: parseDuration(worker.maxTurn ?? "5m", "worker.maxTurn"),
      maxEntries: parseCount(worker.maxEntries ?? 10_000, "worker.maxEntries"),
    },
    leaseMs: parseDuration(worker.lease ?? "30s", "worker.lease"),
  };
  requireAtMost(settings.polling.minIntervalMs, settings.polling.maxIntervalMs, "polling.minInterval", "polling.maxInterval");
  requireAtMost(settings.retry.initialDelayMs, settings.retry.maxDelayMs, "retry.initialDelay", "retry.maxDelay");
  return settings;
}

function requireAtMost(low: number, high: number, lowName: string, highName: string): void {
  if (low > high) throw new GembatchError("invalid_option", `Option ${lowName} (${low} ms) is larger than ${highName} (${high} ms).`);
}
