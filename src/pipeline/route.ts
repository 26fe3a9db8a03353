import { GembatchError, serializeError } from "../core/errors.ts";
import { parseRowKey } from "../core/keys.ts";
import { outcomeOfError, outcomeOfMissing, outcomeOfResponse, type RowOutcome } from "../core/outcome.ts";
import { ProviderError, type ProviderJob, type ResultRow } from "../core/provider.ts";
import { backoffMs } from "../core/retry.ts";
import type { BatchRecord, RequestResult, SettleRow } from "../core/store.ts";
import { usageOf } from "../core/usage.ts";
import { settleAll, settleChars, settleChunk } from "./settle.ts";
import { discardInput, eachBatch, messageOf, postpone, providerOf, updateBatch, type PipelineContext, type StageResult } from "./stage.ts";

/** Outputs read side by side. */
const concurrency = 2;
/** Broken reads of one output in a row before its requests are taken back. */
const maxBrokenReads = 20;

/** Streams the output of ended jobs and settles their requests, chunk by chunk; every request is accounted for. */
export async function advanceRoute(context: PipelineContext): Promise<StageResult> {
  const batches = await context.store.claimBatches({
    worker: context.worker,
    now: context.clock.now(),
    providers: [...context.roles()],
    states: ["routing"],
    limit: concurrency,
  });
  await eachBatch(context, batches, async (batch) => routeBatch(context, batch));
  return { worked: batches.length > 0 };
}

async function routeBatch(context: PipelineContext, batch: BatchRecord): Promise<void> {
  const retryAt = retryTimes(context);
  try {
    if (!(await routeRows(context, batch, retryAt))) return;
  } catch (error) {
    if (context.signal.aborted) throw error;
    const gone = ProviderError.is(error) && error.failure === "missing";
    if (!gone && batch.failures < maxBrokenReads) {
      await postpone(context, batch, error);
      return;
    }
    await takeBack(context, batch, gone ? "the output of its job is gone" : `the output of its job cannot be read: ${messageOf(error)}`);
    return;
  }
  const [open] = await context.store.readMembers({ batch: batch.id, after: undefined, limit: 1 });
  if (open && batch.failures === 0) {
    // A download that was cut between two lines looks complete: read on once more before anything is paid for again.
    const dueAt = context.clock.now() + context.polling.minIntervalMs;
    await updateBatch(context, batch, { dueAt, failures: 1 });
    return;
  }
  // Whoever got no line is asked again.
  const missing = outcomeOfMissing("the job's output has no line for it");
  if (!(await settleAll(context, batch, toResult(missing, 1, retryAt)))) return;
  await end(context, batch, "completed");
}

/** `false`: the batch is not ours any more. */
async function routeRows(context: PipelineContext, batch: BatchRecord, retryAt: RetryTimes): Promise<boolean> {
  const provider = providerOf(context, batch.lane);
  const job: ProviderJob = {
    name: batch.job!,
    state: "succeeded",
    rawStatus: batch.rawStatus ?? "",
    ...(batch.output === undefined ? {} : { output: batch.output }),
  };
  let rows: SettleRow[] = [];
  let unknown = 0;
  let line = 0;
  let chars = 0;
  const flush = async (): Promise<boolean> => {
    if (rows.length === 0 && unknown === 0) return true;
    const params = { batch: batch.id, epoch: batch.epoch, now: context.clock.now(), rows, unknown, cursor: line };
    rows = [];
    unknown = 0;
    chars = 0;
    return (await context.store.settleRows(params)) !== undefined;
  };
  for await (const row of provider.readResults(job, batch.lane, context.signal)) {
    line += 1;
    // Settled before a restart. Settling again would be harmless; skipping saves the work.
    if (line <= batch.cursor) continue;
    const settled = settleRow(context, batch, row, retryAt);
    if (settled) rows.push(settled);
    else unknown += 1;
    if (settled && "value" in settled.result) chars += settled.result.value?.length ?? 0;
    if ((rows.length + unknown >= settleChunk || chars >= settleChars) && !(await flush())) return false;
  }
  return flush();
}

/** What a line means for the request that it names; `undefined` if it names none. */
function settleRow(context: PipelineContext, batch: BatchRecord, row: ResultRow, retryAt: RetryTimes): SettleRow | undefined {
  const named = row.key === undefined ? undefined : parseRowKey(row.key);
  if (!named) {
    const reason = "problem" in row ? row.problem : "its key is not one of ours";
    context.log.warn(`Batch ${batch.id}: a line of its output belongs to no request: ${reason}.`, { batch: batch.id });
    return undefined;
  }
  if ("problem" in row) return { ...named, result: toResult(outcomeOfMissing(row.problem), named.attempt, retryAt) };
  if (row.error) return { ...named, result: toResult(outcomeOfError(row.error), named.attempt, retryAt) };
  const outcome = batch.lane.method === "embedContent" ? ({ type: "deliver" } as const) : outcomeOfResponse(row.response);
  return { ...named, result: toResult(outcome, named.attempt, retryAt, row.response) };
}

/** When a request of this attempt may be sent again. */
type RetryTimes = (attempt: number) => number;

/** One instant per attempt for all rows of a batch: what fails together is tried again together, in one job. */
function retryTimes(context: PipelineContext): RetryTimes {
  const times = new Map<number, number>();
  return (attempt) => {
    const known = times.get(attempt);
    if (known !== undefined) return known;
    const at = context.clock.now() + backoffMs(context.retry, attempt, context.random);
    times.set(attempt, at);
    return at;
  };
}

/** A row's outcome at this attempt. */
function toResult(outcome: RowOutcome, attempt: number, retryAt: RetryTimes): Exclude<RequestResult, { type: "succeeded" }>;
function toResult(outcome: RowOutcome, attempt: number, retryAt: RetryTimes, response: unknown): RequestResult;
function toResult(outcome: RowOutcome, attempt: number, retryAt: RetryTimes, response?: unknown): RequestResult {
  switch (outcome.type) {
    case "deliver":
      return { type: "succeeded", value: JSON.stringify(response), usage: usageOf(response) };
    case "retry_then_deliver": {
      const value = JSON.stringify(response);
      const usage = usageOf(response);
      if (attempt > outcome.retries) return { type: "succeeded", value, usage };
      const error = serializeError(
        new GembatchError("request_failed", `The answer was not usable: ${outcome.why}.`, { retryable: true }),
        "request_failed",
      );
      return { type: "retry", availableAt: retryAt(attempt), error, value, usage };
    }
    case "retry_then_fail":
      if (attempt > outcome.retries) return { type: "failed", error: outcome.error };
      return { type: "retry", availableAt: retryAt(attempt), error: outcome.error };
    case "fail":
      return { type: "failed", error: outcome.error };
  }
}

/** The output cannot be had: its requests go back to the queue as long as they have an attempt left. */
async function takeBack(context: PipelineContext, batch: BatchRecord, why: string): Promise<void> {
  context.log.warn(`Batch ${batch.id}: ${why}; the requests without an answer are tried again.`, { batch: batch.id, job: batch.job });
  if (!(await settleAll(context, batch, toResult(outcomeOfMissing(why), 1, retryTimes(context))))) return;
  await end(context, batch, "failed");
}

async function end(context: PipelineContext, batch: BatchRecord, state: "completed" | "failed"): Promise<void> {
  const now = context.clock.now();
  const ours = await updateBatch(context, batch, { state, endedAt: now });
  if (ours) await discardInput(context, batch);
}
