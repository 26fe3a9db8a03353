/**
 * What the stages share. A stage takes everything that is due, advances it by one step, and says when it has to look again.
 *
 * @module
 */
import type { BatchingPolicy } from "../core/batching.ts";
import type { BreakerPolicy } from "../core/breaker.ts";
import type { Budget } from "../core/budget.ts";
import type { Clock, Random } from "../core/clock.ts";
import { GembatchError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { PollingPolicy, Turnarounds } from "../core/polling.ts";
import type { Price } from "../core/pricing.ts";
import { ProviderError, type Lane, type Provider } from "../core/provider.ts";
import { throttleDelayMs, type RetryPolicy } from "../core/retry.ts";
import { scrub } from "../core/scrub.ts";
import type { BatchState } from "../core/states.ts";
import type { BatchRecord, BatchUpdate, ChainVersions, SettleRow, Store } from "../core/store.ts";
import type { DirectTier } from "../core/tiers.ts";

export interface LaunchPolicy {
  /** How long an attempt to create a job waits for its answer. */
  deadlineMs: number;
  /** How long after an unanswered attempt a job may still turn up in the provider's list. */
  settleMs: number;
  /** What follows an attempt whose job never turned up: create it again, or wait for an operator. */
  onAmbiguous: "adopt" | "hold";
}

/** How calls of one direct tier are limited, for each model. */
export interface DirectPolicy {
  /** Calls at the same time. */
  concurrency: number;
  /** Calls begun within a minute. */
  perMinute: number;
  timeoutMs: number;
}

export interface TiersPolicy {
  direct: Record<DirectTier, DirectPolicy>;
  /** An `auto` queue of up to this many requests, with nothing to join them, goes to flex. */
  autoMaxRequests: number;
}

/** Prices, and what may be spent. */
export interface MoneyPolicy {
  prices: readonly Price[];
  budgets: readonly Budget[];
}

/** What the stages work with; one object per worker. */
export interface PipelineContext {
  store: Store;
  providers: ReadonlyMap<string, Provider>;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Id of the worker that claims. */
  worker: string;
  batching: BatchingPolicy;
  polling: PollingPolicy;
  retry: RetryPolicy;
  /** Whether requests that two failed jobs had in common travel apart. */
  segregate: boolean;
  launch: LaunchPolicy;
  tiers: TiersPolicy;
  money: MoneyPolicy;
  breaker: BreakerPolicy;
  /** How long after its end a batch's job is removed at the provider; `undefined`: never. */
  cleanupMs: number | undefined;
  turnarounds: Turnarounds;
  /** Fills `turnarounds` from the store, once: to be awaited before a decision that needs them. */
  learn: () => Promise<void>;
  /** Takes note of what waits, whoever can do it. */
  noteProviders: (waiting: readonly { lane: Lane }[]) => void;
  /** Batches in hand that could not be given back, because the store failed: nobody else may take them before that is made good. */
  stranded: Map<string, BatchRecord>;
  /** Whether this worker may take up anything new now: its lease is alive. */
  mayClaim: () => boolean;
  /** Providers whose jobs this worker looks after now: polls, routes, sweeps. */
  roles: () => readonly string[];
  /** Whether this worker is the one that fills and sends the provider's batches, and makes its direct calls. */
  sends: (provider: string) => boolean;
  chains: () => ChainVersions[];
  /** Settles rows of a batch in hand, and goes on with the turns that wait for them in memory. `undefined`: the batch is not ours any more. */
  settle: (batch: BatchRecord, rows: SettleRow[], rest: { unknown: number; cursor: number }) => Promise<{ settled: number } | undefined>;
  /** A claim may have been made whose answer never came. */
  doubt: () => void;
  signal: AbortSignal;
  /** Something that only a person can mend: a refused key, a quota of zero. Nothing is lost; it is tried again. */
  onTrouble: (error: Error) => void;
}

export interface StageResult {
  /** Whether anything moved; then other stages may have work. */
  worked: boolean;
  /** When to look again if nothing else happens, in wall-clock milliseconds. */
  wakeAt?: number;
}

export function providerOf(context: PipelineContext, lane: Lane): Provider {
  const provider = context.providers.get(lane.provider);
  if (!provider) throw new Error(`No provider "${lane.provider}" is configured.`);
  return provider;
}

/** Jobs of the lane's provider that may be unfinished at the same time. */
export function jobSlots(context: PipelineContext, lane: Lane): number {
  return Math.min(context.batching.maxJobs, providerOf(context, lane).limits.maxJobs);
}

/** Members without a result yet. */
export function openMembers({ requestCount, counts }: Pick<BatchRecord, "requestCount" | "counts">): number {
  return requestCount - counts.succeeded - counts.failed - counts.requeued - counts.cancelled;
}

/** Claims batches in these states that are due, after giving back what is stranded. */
export async function claimBatches(context: PipelineContext, states: BatchState[], limit: number): Promise<BatchRecord[]> {
  const { store, clock, worker, stranded } = context;
  for (const batch of stranded.values()) {
    await updateBatch(context, batch, { dueAt: clock.now() });
    stranded.delete(batch.id);
  }
  const sending = states.some((state) => unsent.has(state));
  const providers = [...context.providers.keys()].filter((name) => (sending ? context.sends(name) : context.roles().includes(name)));
  return providers.length === 0 ? [] : store.claimBatches({ worker, now: clock.now(), providers, states, limit });
}

/** States of a batch that its sender takes on; the others are anybody's. */
const unsent: ReadonlySet<BatchState> = new Set(["forming", "sealed", "launching"]);

/** Whether this worker would claim the batch when it is due. */
export function advances(context: PipelineContext, { state, lane }: Pick<BatchRecord, "state" | "lane">): boolean {
  return unsent.has(state) ? context.sends(lane.provider) : context.roles().includes(lane.provider);
}

/** Advances claimed batches side by side; a batch whose advance throws is given back with a backoff, the others go on. */
export async function eachBatch(
  context: PipelineContext,
  batches: readonly BatchRecord[],
  advance: (batch: BatchRecord) => Promise<void>,
): Promise<void> {
  const results = await Promise.allSettled(
    batches.map(async (batch) => {
      try {
        await advance(batch);
      } catch (error) {
        if (context.signal.aborted) return;
        await postpone(context, batch, error);
      }
    }),
  );
  // Every batch has had its turn. What could not even be given back is the store's trouble.
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** Gives a batch back to be looked at again later, longer with every failure in a row. */
export async function postpone(context: PipelineContext, batch: BatchRecord, error: unknown): Promise<void> {
  const now = context.clock.now();
  const failures = batch.failures + 1;
  const delay = retryDelayMs(context, error, failures);
  const denied = ProviderError.is(error) && error.failure === "denied";
  context.log[denied || failures > 3 ? "warn" : "info"](
    `Batch ${batch.id} is tried again in ${Math.ceil(delay / 1_000)} s: ${messageOf(error)}`,
    {
      batch: batch.id,
      state: batch.state,
      failures,
    },
  );
  if (denied) context.onTrouble(error);
  try {
    await updateBatch(context, batch, { dueAt: now + delay, failures });
  } catch (thrown) {
    context.stranded.set(batch.id, batch);
    throw thrown;
  }
}

/** Applies a change to a batch in hand; `false`: it is not ours any more. */
export async function updateBatch(context: PipelineContext, batch: BatchRecord, change: BatchUpdate): Promise<boolean> {
  return context.store.updateBatch({ batch: batch.id, epoch: batch.epoch, now: context.clock.now(), update: change });
}

/** Quotas free up in minutes, connections in seconds. */
function retryDelayMs(context: PipelineContext, error: unknown, failures: number): number {
  const { initialDelayMs, maxDelayMs } = context.retry;
  const jitter = 0.5 + context.random.next() / 2;
  if (ProviderError.is(error)) {
    if (error.retryAfterMs !== undefined) return error.retryAfterMs;
    if (error.failure === "throttled") return throttleDelayMs(failures, context.random);
  }
  return Math.min(maxDelayMs, initialDelayMs * 2 ** Math.min(failures - 1, 10)) * jitter;
}

/** For logs and stored errors: what a service or a driver says may quote a prompt or a key. */
export function messageOf(error: unknown): string {
  return scrub(error instanceof Error ? error.message : String(error));
}

/** How soon a store that is away or full is tried again. */
const storeRetryMs = 1_000;

/** Whether the store itself is in trouble, whatever was asked of it. */
export function isStoreAway(error: unknown): error is GembatchError {
  return GembatchError.is(error) && error.code.startsWith("store_") && error.code !== "store_corrupt";
}

/** The store may have done what it was asked for, and could not say so. */
export function isInDoubt(error: unknown): boolean {
  return GembatchError.is(error) && error.code === "store_unavailable" && error.details["inDoubt"] === true;
}

/** Says what the store's trouble keeps from being done, and waits until it is worth another try. */
export async function waitForStore({ clock, log, onTrouble, signal }: PipelineContext, what: string, error: GembatchError): Promise<void> {
  log.error(`${what} and are tried again: ${error.message}`);
  onTrouble(error);
  await clock.sleep(storeRetryMs, { signal });
}

/** The earliest of these instants. */
export function earliest(...times: (number | undefined)[]): number | undefined {
  let first: number | undefined;
  for (const time of times) if (time !== undefined && (first === undefined || time < first)) first = time;
  return first;
}

/** When the first of these batches is due. */
export function nextDue(batches: readonly BatchRecord[]): number | undefined {
  return earliest(...batches.map(({ dueAt }) => dueAt));
}
