import type { BatchingPolicy } from "../core/batching.ts";
import type { BreakerPolicy } from "../core/breaker.ts";
import { checkBudgets, type Budget } from "../core/budget.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import type { PollingPolicy } from "../core/polling.ts";
import { mergePrices, type Price } from "../core/pricing.ts";
import { checkRetention, type RetentionOptions, type RetentionPolicy } from "../core/retention.ts";
import type { RetryPolicy } from "../core/retry.ts";
import { tierChoices, type TierChoice } from "../core/tiers.ts";
import type { RunPolicy } from "../pipeline/run.ts";
import type { DirectPolicy, LaunchPolicy, MoneyPolicy, TiersPolicy } from "../pipeline/stage.ts";

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
  /**
   * A job older than this counts as stuck: it is cancelled, and what it did not answer is asked again. Default `"36h"`; once three jobs of a lane have ended, twenty times the slowest recent one
   * if that is less, but at least 6 hours.
   */
  maxAge?: Duration;
}

/** How requests are tried again. */
export interface RetryOptions {
  /** Tries of one request in all. Default 4. */
  maxAttempts?: number;
  /** Default `"5s"`; doubles with every try. */
  initialDelay?: Duration;
  /** Default `"10m"`. */
  maxDelay?: Duration;
  /** Requests that were part of two jobs which failed as a whole travel apart from others, so that a bad one spoils no third. Default true. */
  segregate?: boolean;
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
  /**
   * What follows an attempt that was not answered and whose job did not turn up. `adopt` (default): it is created again. `hold`: the batch waits for an operator
   * (`gembatch.batches.release`), so that nothing is ever sent twice.
   */
  onAmbiguous?: "adopt" | "hold";
}

/** Limits of calls at one direct tier, for each model. */
export interface DirectTierOptions {
  /** Calls at the same time. Default 16 for flex, 8 for standard. */
  concurrency?: number;
  /** Calls begun within a minute. Default 120. */
  perMinute?: number;
  /** When a call is given up. Default `"15m"` for flex, `"5m"` for standard. */
  timeout?: Duration;
}

/** How requests travel that are not in a job. */
export interface TiersOptions {
  flex?: DirectTierOptions;
  standard?: DirectTierOptions;
  /** `tier: "auto"`: up to `maxRequests` requests that nothing can join go to flex, more to a job. Default 10. */
  auto?: { maxRequests?: number };
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
  /**
   * The price class of every request that says nothing else. `batch` (default): jobs at half the price. `flex`: synchronous calls at half the price, which the provider may shed (then a
   * job). `standard`: calls at the full price. `auto`: the few requests at the end of a wave go to flex, the others to jobs.
   */
  tier?: TierChoice;
  tiers?: TiersOptions;
  /** What may be spent: estimates are reserved before anything is sent, and what would exceed it waits. Default: no limit. */
  budget?: Budget | readonly Budget[];
  /** Prices of models beside or instead of those of the built-in table. */
  prices?: readonly Price[];
  /** When a finished job, its output and its input are removed at the provider: `"after-routing"` (default), `"never"`, or this long after it. */
  cleanup?: "after-routing" | "never" | Duration;
  /** What is removed from the store, and when. Default: nothing. */
  retention?: RetentionOptions;
}

/** The options of `SettingsOptions`, for whoever checks names. */
export const settingsOptions = [
  "batching",
  "polling",
  "retry",
  "launch",
  "worker",
  "tier",
  "tiers",
  "budget",
  "prices",
  "cleanup",
  "retention",
] as const satisfies readonly (keyof SettingsOptions)[];

/** Every setting of a worker, resolved: numbers, durations in milliseconds. */
export interface Settings {
  batching: BatchingPolicy;
  polling: PollingPolicy;
  retry: RetryPolicy;
  segregate: boolean;
  launch: LaunchPolicy;
  run: RunPolicy;
  leaseMs: number;
  tier: TierChoice;
  tiers: TiersPolicy;
  money: MoneyPolicy;
  breaker: BreakerPolicy;
  cleanupMs: number | undefined;
  retention: RetentionPolicy | undefined;
}

export function resolveSettings(options: SettingsOptions): Settings {
  const { batching = {}, polling = {}, retry = {}, launch = {}, worker = {} } = options;
  refuseUnknown(batching, ["maxRequests", "maxBytes", "maxWait", "maxJobs", "debounce"], "batching");
  refuseUnknown(polling, ["minInterval", "maxInterval", "maxAge"], "polling");
  refuseUnknown(retry, ["maxAttempts", "initialDelay", "maxDelay", "segregate"], "retry");
  refuseUnknown(launch, ["deadline", "settle", "onAmbiguous"], "launch");
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
      maxAgeMs: parseDuration(polling.maxAge ?? "36h", "polling.maxAge"),
    },
    segregate: parseBoolean(retry.segregate ?? true, "retry.segregate"),
    retry: {
      maxAttempts: parseCount(retry.maxAttempts ?? 4, "retry.maxAttempts"),
      initialDelayMs: parseDuration(retry.initialDelay ?? "5s", "retry.initialDelay"),
      maxDelayMs: parseDuration(retry.maxDelay ?? "10m", "retry.maxDelay"),
    },
    launch: {
      deadlineMs: parseDuration(launch.deadline ?? "2m", "launch.deadline"),
      settleMs: parseDuration(launch.settle ?? "150s", "launch.settle"),
      onAmbiguous: parseWord(launch.onAmbiguous ?? "adopt", ["adopt", "hold"], "launch.onAmbiguous"),
    },
    run: {
      concurrency: parseCount(worker.concurrency ?? 2_048, "worker.concurrency"),
      parkedBytes: parseCount(worker.parkedBytes ?? 100_000_000, "worker.parkedBytes", 0),
      maxTurnMs: parseDuration(worker.maxTurn ?? "5m", "worker.maxTurn"),
      maxEntries: parseCount(worker.maxEntries ?? 10_000, "worker.maxEntries"),
    },
    leaseMs: parseDuration(worker.lease ?? "30s", "worker.lease"),
    tier: parseWord(options.tier ?? "batch", tierChoices, "tier"),
    tiers: parseTiers(options.tiers ?? {}),
    money: { prices: mergePrices(options.prices ?? []), budgets: checkBudgets(options.budget) },
    breaker: { failures: 3, stuck: 3, stuckMs: parseDuration(polling.maxAge ?? "36h", "polling.maxAge") },
    cleanupMs: parseCleanup(options.cleanup ?? "after-routing"),
    retention: checkRetention(options.retention),
  };
  requireAtMost(settings.polling.minIntervalMs, settings.polling.maxIntervalMs, "polling.minInterval", "polling.maxInterval");
  requireAtMost(settings.retry.initialDelayMs, settings.retry.maxDelayMs, "retry.initialDelay", "retry.maxDelay");
  return settings;
}

function parseTiers(options: TiersOptions): TiersPolicy {
  refuseUnknown(options, ["flex", "standard", "auto"], "tiers");
  const auto = options.auto ?? {};
  refuseUnknown(auto, ["maxRequests"], "tiers.auto");
  return {
    direct: {
      flex: parseDirect(options.flex ?? {}, { concurrency: 16, timeout: "15m" }, "tiers.flex"),
      standard: parseDirect(options.standard ?? {}, { concurrency: 8, timeout: "5m" }, "tiers.standard"),
    },
    autoMaxRequests: parseCount(auto.maxRequests ?? 10, "tiers.auto.maxRequests", 0),
  };
}

function parseDirect(options: DirectTierOptions, defaults: { concurrency: number; timeout: Duration }, name: string): DirectPolicy {
  refuseUnknown(options, ["concurrency", "perMinute", "timeout"], name);
  return {
    concurrency: parseCount(options.concurrency ?? defaults.concurrency, `${name}.concurrency`),
    perMinute: parseCount(options.perMinute ?? 120, `${name}.perMinute`),
    timeoutMs: parseDuration(options.timeout ?? defaults.timeout, `${name}.timeout`),
  };
}

function parseCleanup(cleanup: NonNullable<SettingsOptions["cleanup"]>): number | undefined {
  if (cleanup === "never") return undefined;
  return cleanup === "after-routing" ? 0 : parseDuration(cleanup, "cleanup");
}

function parseBoolean(value: unknown, name: string): boolean {
  if (typeof value === "boolean") return value;
  throw new GembatchError("invalid_option", `Option ${name} must be true or false, got ${describe(value)}.`);
}

function parseWord<T extends string>(value: T, words: readonly T[], name: string): T {
  if (words.includes(value)) return value;
  const list = words.map((word) => `"${word}"`).join(", ");
  throw new GembatchError("invalid_option", `Option ${name} must be one of ${list}, got ${describe(value)}.`);
}

function requireAtMost(low: number, high: number, lowName: string, highName: string): void {
  if (low > high) throw new GembatchError("invalid_option", `Option ${lowName} (${low} ms) is larger than ${highName} (${high} ms).`);
}
