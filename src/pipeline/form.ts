import { decideFlush, type FlushDecision } from "../core/batching.ts";
import { timeOrderedId } from "../core/clock.ts";
import type { GembatchError } from "../core/errors.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import type { Activity, BatchRecord, LaneActivity } from "../core/store.ts";
import { atTier, decideAuto, isDirect, type DirectTier } from "../core/tiers.ts";
import { blockOf, breakerFor, type Block } from "./block.ts";
import { earliest, jobSlots, openMembers, providerOf, type PipelineContext, type StageResult } from "./stage.ts";

/** Requests moved into a batch by one transaction. */
const chunkSize = 2_000;

/** A run that has been executing for this long no longer holds up the flush: a long local step must not delay everybody's job. */
const quietGraceMs = 5_000;

/**
 * Turns queues into sealed batches. Remembers between looks how long things have been quiet; that memory is only a hint: a wrong guess
 * makes a batch smaller, never wrong.
 */
export class FormStage {
  /** Queue lengths and flags at the last look; longer queues and other flags mean that something moved. */
  #queued = new Map<string, number>();
  #flags = "";
  #changedAt = 0;
  #quietSince: number | undefined;
  /** Largest batch that a lane's provider did not refuse; halves on a refusal that names no row, to find the row. */
  readonly #caps = new Map<string, number>();
  /** Why lanes wait although their queue is ready: what has been said is not said again. */
  readonly #blocks = new Map<string, string>();

  /** A batch of `count` was refused without saying which row is at fault. */
  refused(lane: Lane, count: number): void {
    this.#caps.set(laneName(lane), Math.max(1, Math.ceil(count / 2)));
  }

  /** A batch of the lane was accepted. */
  accepted(lane: Lane): void {
    const name = laneName(lane);
    const cap = this.#caps.get(name);
    if (cap !== undefined) this.#caps.set(name, cap * 2);
  }

  async advance(context: PipelineContext): Promise<StageResult> {
    const { store, clock } = context;
    if (![...context.providers.keys()].some((provider) => context.sends(provider))) return { worked: false };
    const now = clock.now();
    const activity = await store.activity({ now, chains: context.chains() });
    const quietMs = this.#quietMs(context, activity, now);
    context.noteProviders(activity.lanes);
    const lanes = activity.lanes.filter(({ lane }) => context.sends(lane.provider)).toSorted(byUrgency);
    if (lanes.length === 0) return { worked: false };
    await context.learn();

    const batches = await store.activeBatches();
    let worked = false;
    let wakeAt: number | undefined;
    const troubles: GembatchError[] = [];
    for (const lane of lanes) {
      wakeAt = earliest(wakeAt, lane.nextAt);
      const decision = this.#decide(context, lane, lanes, batches, quietMs, now);
      if (!decision.flush && lane.isolated === 0) {
        if (decision.waitMs !== undefined) wakeAt = earliest(wakeAt, now + Math.max(1, decision.waitMs));
        continue;
      }
      const block = await this.#blocked(context, lane, batches, now);
      if (block.kind === "blocked") {
        wakeAt = earliest(wakeAt, block.until);
        if (block.error) troubles.push(block.error);
        continue;
      }
      if (lane.isolated > 0 && (await this.#form(context, lane.lane, { limits: oneGroup, reason: "isolated" }, block.freeUsd, batches))) {
        worked = true;
        // It has used up part of what is free; the queue is looked at again at once.
        continue;
      }
      if (!decision.flush) continue;
      if (lane.lane.tier === "auto") {
        worked = (await this.#decideTier(context, lane, lanes, batches, decision, now)) || worked;
        continue;
      }
      if (await this.#form(context, lane.lane, decision, block.freeUsd, batches)) worked = true;
      else if (block.tooDear) {
        this.#say(context, laneName(lane.lane), block.tooDear.message);
        troubles.push(block.tooDear);
      }
    }
    // Told to whoever awaits a result, once nothing else goes on that could bring one.
    const [trouble] = troubles;
    if (trouble && !worked && troubles.length === lanes.length && isStalled(activity, batches)) context.onTrouble(trouble);
    return { worked, ...(wakeAt === undefined ? {} : { wakeAt }) };
  }

  /** Whether the lane must wait although its queue is ready, said once; and what may be spent on it. */
  async #blocked(context: PipelineContext, lane: LaneActivity, batches: readonly BatchRecord[], now: number): Promise<Block> {
    const block = await blockOf(context, lane, batches, now);
    const name = laneName(lane.lane);
    if (block.kind === "blocked") this.#say(context, name, block.reason);
    else if (block.tooDear === undefined) this.#blocks.delete(name);
    return block;
  }

  #say(context: PipelineContext, lane: string, reason: string): void {
    if (reason !== this.#blocks.get(lane)) context.log.warn(`${lane}: ${reason}`, { lane });
    this.#blocks.set(lane, reason);
  }

  /** Sends an `auto` queue the way that suits it: into the queue of jobs, or of flex calls. */
  async #decideTier(
    context: PipelineContext,
    lane: LaneActivity,
    lanes: readonly LaneActivity[],
    batches: readonly BatchRecord[],
    flush: FlushDecision & { flush: true },
    now: number,
  ): Promise<boolean> {
    const batchLane = atTier(lane.lane, "batch");
    const waiting = lanes.find((other) => laneName(other.lane) === laneName(batchLane));
    const breaker = await breakerFor(context, batchLane, batches, now);
    const typicalBatchMs = context.turnarounds.typical(laneName(batchLane));
    const { tier, reason } = decideAuto({
      method: lane.lane.method,
      queued: lane.queued,
      oldestAgeMs: now - lane.oldestAt,
      batchQueued: waiting?.queued ?? 0,
      maxRequests: context.tiers.autoMaxRequests,
      ...(typicalBatchMs === undefined ? {} : { typicalBatchMs }),
      breakerOpen: breaker.open,
      quiet: flush.reason === "quiet",
    });
    const to = atTier(lane.lane, tier);
    const moved = await context.store.moveQueued({ now, from: lane.lane, to, limit: chunkSize, reason });
    if (moved > 0) context.log.debug(`${moved} requests of ${laneName(lane.lane)} go to ${tier}: ${reason}`);
    return moved > 0;
  }

  /** How long no run could have added a request: nothing runnable, running or being routed, no bulk start, no sleep about to end. */
  #quietMs(context: PipelineContext, activity: Activity, now: number): number {
    const { debounceMs } = context.batching;
    const flags = [activity.runnable, activity.running, activity.routing, activity.producers].join();
    const queued = new Map(activity.lanes.map((lane) => [laneName(lane.lane), lane.queued]));
    const grew = [...queued].some(([lane, count]) => count > (this.#queued.get(lane) ?? 0));
    if (grew || flags !== this.#flags) this.#changedAt = now;
    this.#queued = queued;
    this.#flags = flags;
    const stale = activity.running && now - this.#changedAt >= quietGraceMs;
    const timerSoon = activity.nextTimerAt !== undefined && activity.nextTimerAt <= now + debounceMs;
    const quiet = !activity.runnable && (!activity.running || stale) && !activity.routing && !activity.producers && !timerSoon;
    if (!quiet) {
      this.#quietSince = undefined;
      return 0;
    }
    this.#quietSince = Math.max(this.#quietSince ?? now, this.#changedAt);
    return now - this.#quietSince;
  }

  #decide(
    context: PipelineContext,
    lane: LaneActivity,
    lanes: readonly LaneActivity[],
    batches: readonly BatchRecord[],
    quietMs: number,
    now: number,
  ): FlushDecision {
    if (isDirect(lane.lane)) return decideDirect(context, lane, batches);
    const provider = providerOf(context, lane.lane);
    const { limits } = provider;
    const jobs = batches.filter((batch) => batch.lane.provider === lane.lane.provider && !isDirect(batch.lane));
    const ofModel = jobs.filter((batch) => batch.lane.model === lane.lane.model);
    // What goes into a refused model's next batch waits with it: another job would be refused as well.
    const throttled = ofModel.find(({ state, failures }) => state === "sealed" && failures > 0);
    if (throttled && lane.lane.tier !== "auto") return { flush: false, reason: "throttled", waitMs: Math.max(1, throttled.dueAt - now) };
    const enqueued = ofModel.filter(({ state }) => state !== "routing").reduce((sum, { tokens }) => sum + tokens, 0);
    const quota = limits.enqueuedTokens(lane.lane.model);
    const lastSealed = jobs.reduce((last, { sealedAt, createdAt }) => Math.max(last, sealedAt ?? createdAt), -Infinity);
    // An `auto` queue that goes into a job joins the queue there: what is in that one counts for it.
    const joined = lane.lane.tier === "auto" ? undefined : lanes.find((other) => laneName(other.lane) === `${laneName(lane.lane)}@auto`);
    return decideFlush(
      {
        ...context.batching,
        maxRequests: Math.min(context.batching.maxRequests, limits.maxRequests, this.#caps.get(laneName(lane.lane)) ?? Infinity),
        maxBytes: Math.min(context.batching.maxBytes, limits.maxBytes),
        maxJobs: jobSlots(context, lane.lane),
      },
      {
        queued: lane.queued,
        bytes: lane.bytes,
        tokens: lane.tokens,
        oldestAgeMs: now - lane.oldestAt,
        // While an `auto` queue is about to be decided, this one is not complete.
        quietMs: joined && joined.queued > 0 ? 0 : quietMs,
        activeBatches: lane.lane.tier === "auto" ? 0 : jobs.filter(usesSlot).length,
        sinceLastBatchMs: Math.max(0, now - lastSealed),
        turnaroundMs: context.turnarounds.typical(laneName(lane.lane)),
        freeTokens: quota === undefined || lane.lane.tier === "auto" ? Infinity : quota - enqueued,
        tokensInUse: enqueued > 0,
      },
    );
  }

  async #form(
    context: PipelineContext,
    lane: Lane,
    { limits, reason }: { limits: Limits; reason: string },
    freeUsd: number | undefined,
    batches: BatchRecord[],
  ): Promise<boolean> {
    const batch = await fillBatch(context, {
      batch: `b${timeOrderedId(context.clock.now(), context.random)}`,
      lane,
      limits: freeUsd === undefined ? limits : { ...limits, usd: freeUsd },
      maxActive: isDirect(lane) ? context.tiers.direct[lane.tier as DirectTier].concurrency : jobSlots(context, lane),
      ...(reason === "isolated" ? { isolated: true } : {}),
    });
    if (!batch) return false;
    batches.push(batch);
    context.log.debug(`Batch ${batch.id}: ${batch.requestCount} requests of ${laneName(lane)} (${reason}).`, {
      batch: batch.id,
      requests: batch.requestCount,
      reason,
    });
    return true;
  }
}

type Limits = { requests: number; bytes: number; tokens: number };

/** A group of requests that travel apart limits itself. */
const oneGroup: Limits = { requests: Number.MAX_SAFE_INTEGER, bytes: Number.MAX_SAFE_INTEGER, tokens: Number.MAX_SAFE_INTEGER };

/** Whether nothing goes on but what waits for a person. */
export function isStalled(activity: Activity, batches: readonly BatchRecord[]): boolean {
  const { runnable, running, routing, producers } = activity;
  return !runnable && !running && !routing && !producers && batches.every(({ held }) => held);
}

/** Whether a batch holds a job slot of its provider: a job that has ended holds none, nor does one that was refused for want of a slot. */
export function usesSlot({ state, failures, lane }: Pick<BatchRecord, "state" | "failures" | "lane">): boolean {
  return !isDirect(lane) && state !== "routing" && !(state === "sealed" && failures > 0);
}

/** Highest priority first, then who waits longest: no lane takes all slots from another. */
function byUrgency(a: LaneActivity, b: LaneActivity): number {
  return b.priority - a.priority || a.oldestAt - b.oldestAt;
}

/** Calls wait for nobody: as many as the model's limit leaves room for. */
function decideDirect(context: PipelineContext, lane: LaneActivity, batches: readonly BatchRecord[]): FlushDecision {
  if (lane.queued === 0) return { flush: false, reason: "empty", waitMs: undefined };
  const inUse = batches.filter((batch) => callName(batch.lane) === callName(lane.lane)).reduce((sum, batch) => sum + openMembers(batch), 0);
  const free = context.tiers.direct[lane.lane.tier as DirectTier].concurrency - inUse;
  if (free <= 0) return { flush: false, reason: "no_job_slot", waitMs: undefined };
  return { flush: true, reason: "full", limits: { ...oneGroup, requests: free } };
}

/** A lane's name without its shape: the limit is the model's, and calls of any shape count. */
function callName({ shape: _shape, ...lane }: Lane): string {
  return laneName(lane);
}

/** Fills a forming batch chunk by chunk until it is sealed. */
export async function fillBatch(
  context: PipelineContext,
  params: { batch: string; lane: Lane; limits: Limits & { usd?: number }; maxActive: number; isolated?: boolean },
): Promise<BatchRecord | undefined> {
  for (;;) {
    const batch = await context.store.formBatch({ worker: context.worker, now: context.clock.now(), chunk: chunkSize, ...params });
    if (batch === undefined || batch.state !== "forming") return batch;
  }
}
