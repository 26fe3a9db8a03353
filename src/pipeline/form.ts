import { decideFlush, type FlushDecision } from "../core/batching.ts";
import { timeOrderedId } from "../core/clock.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import type { Activity, BatchRecord, LaneActivity } from "../core/store.ts";
import { earliest, providerOf, type PipelineContext, type StageResult } from "./stage.ts";

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
    const now = clock.now();
    const activity = await store.activity({ now, chains: context.chains() });
    const quietMs = this.#quietMs(context, activity, now);
    const lanes = activity.lanes.filter(({ lane }) => context.roles().includes(lane.provider));
    if (lanes.length === 0) return { worked: false };

    const batches = await store.activeBatches();
    let worked = false;
    let wakeAt: number | undefined;
    for (const lane of lanes) {
      wakeAt = earliest(wakeAt, lane.nextAt);
      const decision = this.#decide(context, lane, batches, quietMs, now);
      if (!decision.flush) {
        if (decision.waitMs !== undefined) wakeAt = earliest(wakeAt, now + Math.max(1, decision.waitMs));
        continue;
      }
      const batch = await this.#form(context, lane.lane, decision);
      if (!batch) continue;
      worked = true;
      batches.push(batch);
      context.log.debug(`Batch ${batch.id}: ${batch.requestCount} requests of ${laneName(lane.lane)} (${decision.reason}).`, {
        batch: batch.id,
        requests: batch.requestCount,
        reason: decision.reason,
      });
    }
    return { worked, ...(wakeAt === undefined ? {} : { wakeAt }) };
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

  #decide(context: PipelineContext, lane: LaneActivity, batches: readonly BatchRecord[], quietMs: number, now: number): FlushDecision {
    const provider = providerOf(context, lane.lane);
    const { limits } = provider;
    const ofProvider = batches.filter((batch) => batch.lane.provider === lane.lane.provider);
    const enqueued = ofProvider
      .filter((batch) => batch.lane.model === lane.lane.model && batch.state !== "routing")
      .reduce((sum, { tokens }) => sum + tokens, 0);
    const quota = limits.enqueuedTokens(lane.lane.model);
    const lastSealed = ofProvider.reduce((last, { sealedAt, createdAt }) => Math.max(last, sealedAt ?? createdAt), -Infinity);
    return decideFlush(
      {
        ...context.batching,
        maxRequests: Math.min(context.batching.maxRequests, limits.maxRequests, this.#caps.get(laneName(lane.lane)) ?? Infinity),
        maxBytes: Math.min(context.batching.maxBytes, limits.maxBytes),
        maxJobs: Math.min(context.batching.maxJobs, limits.maxJobs),
      },
      {
        queued: lane.queued,
        bytes: lane.bytes,
        tokens: lane.tokens,
        oldestAgeMs: now - lane.oldestAt,
        quietMs,
        // A batch whose job has ended holds no slot of the provider any more.
        activeBatches: ofProvider.filter(({ state }) => state !== "routing").length,
        sinceLastBatchMs: Math.max(0, now - lastSealed),
        turnaroundMs: context.turnarounds.typical(laneName(lane.lane)),
        freeTokens: quota === undefined ? Infinity : quota - enqueued,
        tokensInUse: enqueued > 0,
      },
    );
  }

  async #form(context: PipelineContext, lane: Lane, decision: FlushDecision & { flush: true }): Promise<BatchRecord | undefined> {
    const id = `b${timeOrderedId(context.clock.now(), context.random)}`;
    const maxActive = Math.min(context.batching.maxJobs, providerOf(context, lane).limits.maxJobs);
    return fillBatch(context, { batch: id, lane, limits: decision.limits, maxActive });
  }
}

/** Fills a forming batch chunk by chunk until it is sealed. */
export async function fillBatch(
  context: PipelineContext,
  params: { batch: string; lane: Lane; limits: { requests: number; bytes: number; tokens: number }; maxActive: number },
): Promise<BatchRecord | undefined> {
  for (;;) {
    const batch = await context.store.formBatch({ worker: context.worker, now: context.clock.now(), chunk: chunkSize, ...params });
    if (batch === undefined || batch.state !== "forming") return batch;
  }
}
