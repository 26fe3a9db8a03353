import { GembatchError, serializeError } from "../core/errors.ts";
import { rowKey } from "../core/keys.ts";
import { ProviderError, type Lane } from "../core/provider.ts";
import { backoffMs } from "../core/retry.ts";
import type { BatchRecord, MemberRow, RequestResult, SettleRow } from "../core/store.ts";
import { RateLimit, type DirectTier } from "../core/tiers.ts";
import { resultOf, retryTimes } from "./results.ts";
import { messageOf, postpone, providerOf, updateBatch, type PipelineContext, type StageResult } from "./stage.ts";

/** How often batches in hand are put off: after a crash they are taken over within twice this, once the lease has run out. */
const renewMs = 30_000;

/**
 * Answers the requests of the flex and standard tiers by calls instead of jobs. Such a batch stays `launching` while its calls are made, in the background: a
 * call may take a quarter of an hour. If its worker dies, whoever takes it over makes the calls that have no result yet again: a call leaves nothing to be found
 * at the provider, so an answer that was on its way then is paid twice.
 */
export class DirectStage {
  readonly #active = new Map<string, { batch: BatchRecord; lost: AbortController; work: Promise<void> }>();
  readonly #rates = new Map<string, RateLimit>();
  readonly #onSettled: () => void;
  #finished = false;
  #renewAt = 0;

  /** `onSettled`: results were stored, or a batch is over; others may have work now. */
  constructor(onSettled: () => void) {
    this.#onSettled = onSettled;
  }

  /** Batches whose calls are being made. */
  get active(): number {
    return this.#active.size;
  }

  /** Takes over a batch in hand and returns at once. */
  async take(context: PipelineContext, batch: BatchRecord): Promise<void> {
    const now = context.clock.now();
    const begun = { state: "launching" as const, intentAt: now, launchedAt: now };
    const change = { ...(batch.state === "sealed" ? begun : {}), dueAt: now + 2 * renewMs, release: false };
    if (!(await updateBatch(context, batch, change))) return;
    if (this.#active.size === 0) this.#renewAt = now + renewMs;
    const lost = new AbortController();
    const work = this.#answerAll(context, batch, lost)
      .catch(async (error: unknown) => {
        if (!context.signal.aborted) await postpone(context, batch, error);
      })
      .catch((error: unknown) =>
        context.log.error(`Batch ${batch.id}: its calls could not be recorded: ${messageOf(error)}`, { batch: batch.id }),
      )
      .finally(() => {
        this.#active.delete(batch.id);
        this.#finished = true;
        this.#onSettled();
      });
    this.#active.set(batch.id, { batch, lost, work });
  }

  /** Whether calls have ended since the last look. What is in hand is put off meanwhile, so that nobody finds it due. */
  async advance(context: PipelineContext): Promise<StageResult> {
    const worked = this.#finished;
    this.#finished = false;
    const now = context.clock.now();
    if (this.#active.size === 0) return { worked };
    if (now >= this.#renewAt) {
      this.#renewAt = now + renewMs;
      await Promise.all(
        [...this.#active.values()].map(async ({ batch, lost }) => {
          if (!(await updateBatch(context, batch, { dueAt: now + 2 * renewMs, release: false }))) lost.abort();
        }),
      );
    }
    return { worked, wakeAt: this.#renewAt };
  }

  /** Waits for the calls in hand; what takes longer than `limitMs` is given up, to be made again by another worker. */
  async drain(context: PipelineContext, limitMs: number): Promise<void> {
    if (this.#active.size === 0) return;
    const abort = new AbortController();
    const all = Promise.all([...this.#active.values()].map(async ({ work }) => work));
    await Promise.race([all, context.clock.sleep(limitMs, { signal: abort.signal })]);
    abort.abort();
  }

  async #answerAll(context: PipelineContext, batch: BatchRecord, lost: AbortController): Promise<void> {
    const settler = new Settler(context, batch, () => lost.abort());
    const retryAt = retryTimes(context);
    // Once the worker stops or another one has the batch, no call is begun that somebody else makes, too.
    const stop = AbortSignal.any([context.signal, lost.signal]);
    const members = await context.store.readMembers({ batch: batch.id, after: undefined, limit: batch.requestCount });
    const answers = await Promise.allSettled(
      members.map(async (member) => {
        if (!(await this.#turnOf(context, batch.lane, stop))) return;
        const result = await this.#answer(context, batch, member, retryAt);
        await settler.settle({ id: member.id, attempt: member.attempt, result });
        this.#onSettled();
      }),
    );
    // Only now: what was on its way is paid, and its answer is kept, whatever became of the others.
    const failed = answers.find((answer) => answer.status === "rejected");
    if (failed) throw failed.reason;
    const now = context.clock.now();
    await updateBatch(context, batch, stop.aborted ? { dueAt: now } : { state: "completed", endedAt: now });
  }

  async #answer(
    context: PipelineContext,
    batch: BatchRecord,
    member: MemberRow,
    retryAt: (attempt: number) => number,
  ): Promise<RequestResult> {
    const { clock } = context;
    const { lane } = batch;
    const tier = lane.tier as DirectTier;
    const { timeoutMs } = context.tiers.direct[tier];
    const timeout = new AbortController();
    const timer = clock
      .sleep(timeoutMs, { signal: timeout.signal, background: true })
      .then(() => timeout.abort(new DOMException("The call took too long.", "TimeoutError")));
    try {
      const response = await providerOf(context, lane).callNow({ lane, body: member.body, tier, signal: timeout.signal });
      return resultOf(context, lane, tier, { key: rowKey(member.id, member.attempt), response }, member.attempt, retryAt);
    } catch (error) {
      return afterFailedCall(context, lane, member.attempt, error);
    } finally {
      timeout.abort();
      await timer;
    }
  }

  /** Waits until the model's rate allows one more call; `false`: none is to be begun any more. */
  async #turnOf(context: PipelineContext, lane: Lane, stop: AbortSignal): Promise<boolean> {
    const name = `${lane.provider}/${lane.model}@${lane.tier}`;
    let rate = this.#rates.get(name);
    if (!rate) this.#rates.set(name, (rate = new RateLimit(context.tiers.direct[lane.tier as DirectTier].perMinute)));
    while (!stop.aborted) {
      const waitMs = rate.take(context.clock.now());
      if (waitMs <= 0) return true;
      await context.clock.sleep(waitMs, { signal: stop, background: true });
    }
    return false;
  }
}

/** What a failed call means for its request. Throws what is no fault of the request: then the batch is tried again as a whole. */
function afterFailedCall(context: PipelineContext, lane: Lane, attempt: number, error: unknown): RequestResult {
  const now = context.clock.now();
  const failure = ProviderError.is(error) ? error.failure : "ambiguous";
  const tier = lane.tier as DirectTier;
  const retryAfterMs = ProviderError.is(error) ? error.retryAfterMs : undefined;
  switch (failure) {
    case "throttled":
      // The flex tier sheds calls when it is busy; a job waits in the provider's queue instead of ours. Embeddings have jobs, too.
      if (tier === "flex")
        return { type: "move", tier: "batch", reason: "The flex tier shed the call; it goes into a job.", availableAt: now };
      return {
        type: "move",
        tier,
        reason: "The model's rate limit was reached; it is asked again.",
        availableAt: now + (retryAfterMs ?? backoffMs(context.retry, attempt, context.random)),
      };
    case "refused":
    case "missing": {
      const refusal = new GembatchError("request_refused", `The provider refused the request: ${messageOf(error)}`, { cause: error });
      return { type: "failed", error: serializeError(refusal, "request_refused") };
    }
    case "unavailable":
    case "ambiguous": {
      const why = failure === "ambiguous" ? "it is unknown whether the call was answered" : "the provider could not be reached";
      const failed = new GembatchError("request_failed", `The request got no answer: ${why} (${messageOf(error)}).`, { retryable: true });
      const availableAt = now + backoffMs(context.retry, attempt, context.random);
      return { type: "retry", availableAt, error: serializeError(failed, "request_failed") };
    }
    case "denied":
      throw error;
  }
}

/** Settles results as they come, those of one macrotask in one transaction. */
class Settler {
  readonly #context: PipelineContext;
  readonly #batch: BatchRecord;
  #waiting: SettleRow[] = [];
  #writing: Promise<void> | undefined;
  #settled = 0;
  readonly #onLost: () => void;

  constructor(context: PipelineContext, batch: BatchRecord, onLost: () => void) {
    this.#context = context;
    this.#batch = batch;
    this.#onLost = onLost;
  }

  /** Resolves when the result is stored, or the batch turned out to be another worker's. */
  settle(row: SettleRow): Promise<void> {
    this.#waiting.push(row);
    this.#writing ??= this.#write();
    return this.#writing;
  }

  async #write(): Promise<void> {
    await new Promise(setImmediate);
    const rows = this.#waiting;
    this.#waiting = [];
    this.#writing = undefined;
    this.#settled += rows.length;
    if (!(await this.#context.settle(this.#batch, rows, { unknown: 0, cursor: this.#settled }))) this.#onLost();
  }
}
