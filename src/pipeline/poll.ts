import { serializeError, GembatchError } from "../core/errors.ts";
import { laneName } from "../core/keys.ts";
import { nextPollDelayMs } from "../core/polling.ts";
import type { ProviderJob } from "../core/provider.ts";
import { backoffMs } from "../core/retry.ts";
import type { BatchRecord, BatchUpdate } from "../core/store.ts";
import { settleAll } from "./settle.ts";
import { eachBatch, postpone, providerOf, updateBatch, type PipelineContext, type StageResult } from "./stage.ts";

/** Jobs looked at by one advance. */
const limit = 200;
/** How long a succeeded job may take to show its output before it counts as lost. */
const lateOutputMs = 15 * 60_000;

/** Looks at the jobs that are due and moves each batch on: keep waiting, route its output, or take its requests back. */
export async function advancePoll(context: PipelineContext): Promise<StageResult> {
  const batches = await context.store.claimBatches({
    worker: context.worker,
    now: context.clock.now(),
    providers: [...context.roles()],
    states: ["in_progress"],
    limit,
  });
  if (batches.length === 0) return { worked: false };
  for (const name of new Set(batches.map(({ lane }) => lane.provider))) {
    const ofProvider = batches.filter(({ lane }) => lane.provider === name);
    const jobs = await lookUp(context, ofProvider);
    if (!jobs) continue;
    await eachBatch(context, ofProvider, async (batch) => applyJob(context, batch, jobs.get(batch.job!)));
  }
  return { worked: true };
}

async function lookUp(context: PipelineContext, batches: readonly BatchRecord[]): Promise<Map<string, ProviderJob> | undefined> {
  const provider = providerOf(context, batches[0]!.lane);
  try {
    const jobs = await provider.getJobs(
      batches.map(({ job }) => job!),
      context.signal,
    );
    return new Map(jobs.map((job) => [job.name, job]));
  } catch (error) {
    if (context.signal.aborted) return undefined;
    for (const batch of batches) await postpone(context, batch, error);
    return undefined;
  }
}

async function applyJob(context: PipelineContext, batch: BatchRecord, job: ProviderJob | undefined): Promise<void> {
  const now = context.clock.now();
  if (!job) {
    await takeBack(context, batch, "failed", "its job does not exist any more");
    return;
  }
  switch (job.state) {
    case "succeeded":
      if (job.output !== undefined) {
        const finishedAt = job.endedAt ?? now;
        context.turnarounds.record(laneName(batch.lane), now - (batch.launchedAt ?? now));
        await updateBatch(context, batch, {
          state: "routing",
          output: job.output,
          rawStatus: job.rawStatus,
          finishedAt,
          dueAt: now,
          failures: 0,
        });
        return;
      }
      if (batch.finishedAt !== undefined && now - batch.finishedAt > lateOutputMs) {
        await takeBack(context, batch, "failed", "its job succeeded without an output");
        return;
      }
      await waitOn(context, batch, job, { finishedAt: batch.finishedAt ?? now });
      return;
    case "failed":
      await takeBack(context, batch, "failed", `its job failed${job.error ? ` (code ${job.error.code}): ${job.error.message}` : ""}`);
      return;
    case "expired":
      await takeBack(
        context,
        batch,
        "expired",
        "its job expired at the provider; if every job of the model does, the model may be retired",
      );
      return;
    case "cancelled":
      await takeBack(context, batch, "cancelled", "its job was cancelled at the provider");
      return;
    default:
      await waitOn(context, batch, job, {});
  }
}

async function waitOn(context: PipelineContext, batch: BatchRecord, job: ProviderJob, extra: BatchUpdate): Promise<void> {
  const now = context.clock.now();
  const fastest = context.turnarounds.fastest(laneName(batch.lane));
  const age = now - (batch.launchedAt ?? now);
  await updateBatch(context, batch, {
    rawStatus: job.rawStatus,
    dueAt: now + nextPollDelayMs(context.polling, age, fastest),
    failures: 0,
    ...extra,
  });
}

/** A job that ended without answers: its requests go back to the queue as long as they have an attempt left. */
async function takeBack(
  context: PipelineContext,
  batch: BatchRecord,
  state: "failed" | "expired" | "cancelled",
  why: string,
): Promise<void> {
  const now = context.clock.now();
  const code = state === "expired" ? "request_expired" : state === "cancelled" ? "request_cancelled" : "request_failed";
  const error = serializeError(
    new GembatchError(code, `The request got no answer: ${why}.`, { retryable: true, details: { batch: batch.id } }),
    code,
  );
  context.log.warn(`Batch ${batch.id}: ${why}; its ${batch.requestCount} requests are tried again.`, { batch: batch.id, job: batch.job });
  const availableAt = now + backoffMs(context.retry, 1, context.random);
  if (!(await settleAll(context, batch, { type: "retry", availableAt, error }))) return;
  await updateBatch(context, batch, { state, endedAt: context.clock.now(), error });
}
