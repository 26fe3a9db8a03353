import { parseRowKey } from "../core/keys.ts";
import { outcomeOfMissing } from "../core/outcome.ts";
import { ProviderError, type ProviderJob, type ResultRow } from "../core/provider.ts";
import type { BatchRecord, RequestResult, SettleRow } from "../core/store.ts";
import { lateOutputMs } from "./poll.ts";
import { resultOf, retryTimes, unanswered, type RetryTimes } from "./results.ts";
import { noAnswer, settleAll, settleChars, settleChunk, type EndState } from "./settle.ts";
import {
  claimBatches,
  eachBatch,
  messageOf,
  openMembers,
  postpone,
  providerOf,
  updateBatch,
  type PipelineContext,
  type StageResult,
} from "./stage.ts";
import { endOf } from "./sweep.ts";

/** Outputs read side by side. */
const concurrency = 2;
/** Broken reads of one output in a row before its requests are taken back. */
const maxBrokenReads = 20;
/** How often an output that is not there is looked for. */
const lateOutputLookMs = 30_000;

/** Streams the output of ended jobs and settles their requests, chunk by chunk; every request is accounted for. */
export async function advanceRoute(context: PipelineContext): Promise<StageResult> {
  const batches = await claimBatches(context, ["routing"], concurrency);
  await eachBatch(context, batches, async (batch) => routeBatch(context, batch));
  return { worked: batches.length > 0 };
}

async function routeBatch(context: PipelineContext, batch: BatchRecord): Promise<void> {
  const retryAt = retryTimes(context);
  let routed;
  try {
    routed = await routeRows(context, batch, retryAt);
    if (routed === undefined) return;
  } catch (error) {
    if (context.signal.aborted) throw error;
    const gone = ProviderError.is(error) && error.failure === "missing";
    if (gone && mayBeLate(context, batch)) {
      await updateBatch(context, batch, { dueAt: context.clock.now() + lateOutputLookMs });
      return;
    }
    if (!gone && batch.failures < maxBrokenReads) {
      await postpone(context, batch, error);
      return;
    }
    await takeBack(context, batch, gone ? "the output of its job is gone" : `the output of its job cannot be read: ${messageOf(error)}`);
    return;
  }
  const ended = earlyEnd(batch) ?? "completed";
  // Nobody is left: most batches end here.
  if (routed.settled >= openMembers(batch)) return end(context, batch, ended);
  const [open] = await context.store.readMembers({ batch: batch.id, after: undefined, limit: 1 });
  if (open && (batch.failures === 0 || routed.lines > batch.cursor)) {
    // A download that was cut between two lines looks complete. So it counts as complete when a further read brings nothing new: only then is anything paid for again.
    const dueAt = context.clock.now() + context.polling.minIntervalMs;
    await updateBatch(context, batch, { dueAt, failures: 1 });
    return;
  }
  if (!(await settleAll(context, batch, withoutLine(batch, retryAt)))) return;
  await end(context, batch, ended);
}

/** An output that is not there may not be there yet: asking again would pay for it twice. */
function mayBeLate({ clock }: PipelineContext, { jobState, finishedAt }: BatchRecord): boolean {
  return jobState === "succeeded" && finishedAt !== undefined && clock.now() - finishedAt <= lateOutputMs;
}

/** How the job ended, if it was not by success: then it has answered what it could. */
function earlyEnd({ jobState }: BatchRecord): EndState | undefined {
  return jobState === "failed" || jobState === "expired" || jobState === "cancelled" ? jobState : undefined;
}

/** What becomes of a request that the output has no line for: it is asked again. */
function withoutLine(batch: BatchRecord, retryAt: RetryTimes): Extract<RequestResult, { type: "failed" | "retry" }> {
  const state = earlyEnd(batch);
  if (!state) return unanswered(outcomeOfMissing("the job's output has no line for it"), 1, retryAt);
  return { type: "retry", availableAt: retryAt(1), error: noAnswer(batch, state, `its job ended ${state} before its turn`) };
}

/** How many lines the output had, and how many members they settled; `undefined`: the batch is not ours any more. */
async function routeRows(
  context: PipelineContext,
  batch: BatchRecord,
  retryAt: RetryTimes,
): Promise<{ lines: number; settled: number } | undefined> {
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
  let settled = 0;
  const flush = async (): Promise<boolean> => {
    if (rows.length === 0 && unknown === 0) return true;
    const [chunk, rest] = [rows, { unknown, cursor: line }];
    rows = [];
    unknown = 0;
    chars = 0;
    const counted = await context.settle(batch, chunk, rest);
    settled += counted?.settled ?? 0;
    return counted !== undefined;
  };
  for await (const row of provider.readResults(job, batch.lane, context.signal)) {
    line += 1;
    // Settled before a restart. Settling again would be harmless; skipping saves the work.
    if (line <= batch.cursor) continue;
    const result = settleRow(context, batch, row, retryAt);
    if (result) rows.push(result);
    else unknown += 1;
    if (result && "value" in result.result) chars += result.result.value?.length ?? 0;
    if ((rows.length + unknown >= settleChunk || chars >= settleChars) && !(await flush())) return undefined;
  }
  return (await flush()) ? { lines: line, settled } : undefined;
}

/** What a line means for the request that it names; `undefined` if it names none. */
function settleRow(context: PipelineContext, batch: BatchRecord, row: ResultRow, retryAt: RetryTimes): SettleRow | undefined {
  const named = row.key === undefined ? undefined : parseRowKey(row.key);
  if (!named) {
    const reason = "problem" in row ? row.problem : "its key is not one of ours";
    context.log.warn(`Batch ${batch.id}: a line of its output belongs to no request: ${reason}.`, { batch: batch.id });
    return undefined;
  }
  return { ...named, result: resultOf(context, batch.lane, "batch", row, named.attempt, retryAt) };
}

/** The output cannot be had: its requests go back to the queue as long as they have an attempt left. */
async function takeBack(context: PipelineContext, batch: BatchRecord, why: string): Promise<void> {
  context.log.warn(`Batch ${batch.id}: ${why}; the requests without an answer are tried again.`, { batch: batch.id, job: batch.job });
  if (!(await settleAll(context, batch, unanswered(outcomeOfMissing(why), 1, retryTimes(context))))) return;
  await end(context, batch, "failed");
}

async function end(context: PipelineContext, batch: BatchRecord, state: EndState | "completed"): Promise<void> {
  await updateBatch(context, batch, { state, ...endOf(context, batch) });
}
