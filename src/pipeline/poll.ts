import { formatDuration } from "../core/duration.ts";
import { laneName } from "../core/keys.ts";
import { maxAgeMs, nextPollDelayMs } from "../core/polling.ts";
import type { ProviderJob } from "../core/provider.ts";
import { backoffMs } from "../core/retry.ts";
import { scrub } from "../core/scrub.ts";
import type { BatchRecord, BatchUpdate } from "../core/store.ts";
import { noAnswer, settleAll, type EndState } from "./settle.ts";
import { claimBatches, eachBatch, postpone, providerOf, updateBatch, type PipelineContext, type StageResult } from "./stage.ts";
import { endOf } from "./sweep.ts";

/** Jobs looked at by one advance. */
const limit = 200;
/** How long a succeeded job may take to show its output before it counts as lost. */
export const lateOutputMs = 15 * 60_000;
/** A cancelled job is looked at once more after this: some have shown results later. */
const cancelledAgainMs = 60_000;
/** How often a stuck job is looked at, and cancelled once more. */
const cancelLookMs = 60_000;
/** How long a stuck job may take to end after it was cancelled, before its requests are taken back all the same. */
const cancelWaitMs = 15 * 60_000;

/** Looks at the jobs that are due and moves each batch on: keep waiting, route its output, or take its requests back. */
export async function advancePoll(context: PipelineContext): Promise<StageResult> {
  const batches = await claimBatches(context, ["in_progress"], limit);
  if (batches.length === 0) return { worked: false };
  await context.learn();
  const names = new Set(batches.map(({ lane }) => lane.provider));
  const looks = await Promise.allSettled(
    [...names].map(async (name) => {
      const ofProvider = batches.filter(({ lane }) => lane.provider === name);
      const jobs = await lookUp(context, ofProvider);
      if (jobs) await eachBatch(context, ofProvider, async (batch) => applyJob(context, batch, jobs.get(batch.job!)));
    }),
  );
  // Only now: what the store does to the batches of one provider must not leave those of another in hand.
  const failed = looks.find((look) => look.status === "rejected");
  if (failed) throw failed.reason;
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
    await eachBatch(context, batches, async (batch) => postpone(context, batch, error));
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
          jobState: "succeeded",
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
    case "expired":
    case "cancelled":
      await applyEnd(context, batch, job, job.state);
      return;
    default:
      await waitLonger(context, batch, job);
  }
}

/** A job that ended without success: what it answered before is read, the rest goes back. */
async function applyEnd(context: PipelineContext, batch: BatchRecord, job: ProviderJob, state: EndState): Promise<void> {
  const now = context.clock.now();
  if (job.output !== undefined) {
    const { output, rawStatus } = job;
    await updateBatch(context, batch, {
      state: "routing",
      jobState: state,
      output,
      rawStatus,
      finishedAt: job.endedAt ?? now,
      dueAt: now,
      failures: 0,
    });
    return;
  }
  if (state === "cancelled" && batch.finishedAt === undefined) {
    await updateBatch(context, batch, { rawStatus: job.rawStatus, finishedAt: now, dueAt: now + cancelledAgainMs });
    return;
  }
  await takeBack(context, batch, state, batch.cancelledAt === undefined ? whyEnded(job, state) : "its job was stuck and was cancelled");
}

function whyEnded(job: ProviderJob, state: EndState): string {
  if (state === "expired") return "its job expired at the provider; if every job of the model does, the model may be retired";
  if (state === "cancelled") return "its job was cancelled at the provider";
  return `its job failed${job.error ? ` (code ${job.error.code}): ${scrub(job.error.message)}` : ""}`;
}

/** A job that goes on, unless it has been at it for longer than any job should. */
async function waitLonger(context: PipelineContext, batch: BatchRecord, job: ProviderJob): Promise<void> {
  const now = context.clock.now();
  const age = now - (batch.launchedAt ?? now);
  const stuck = batch.cancelledAt !== undefined || age > maxAgeMs(context.polling, context.turnarounds.recent(laneName(batch.lane)));
  if (!stuck) {
    await waitOn(context, batch, job, {});
    return;
  }
  if (batch.cancelledAt === undefined) {
    context.log.warn(
      `Batch ${batch.id}: its job ${job.name} is ${job.rawStatus} for ${formatDuration(age)}, longer than any should be; it is cancelled and what it did not answer is asked again.`,
      { batch: batch.id, job: job.name },
    );
    // Recorded first: whoever goes on after a crash knows that the job is not wanted any more.
    if (!(await updateBatch(context, batch, { cancelledAt: now, release: false }))) return;
  }
  // At every look: a cancellation may have been lost, and a second one is harmless.
  await providerOf(context, batch.lane).cancelJob(job.name, context.signal);
  if (batch.cancelledAt !== undefined && now - batch.cancelledAt > cancelWaitMs) {
    await takeBack(context, batch, "expired", "its job was stuck and could not be cancelled");
    return;
  }
  await updateBatch(context, batch, {
    rawStatus: job.rawStatus,
    dueAt: now + (batch.cancelledAt === undefined ? context.polling.minIntervalMs : cancelLookMs),
    failures: 0,
  });
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
async function takeBack(context: PipelineContext, batch: BatchRecord, state: EndState, why: string): Promise<void> {
  const now = context.clock.now();
  const error = noAnswer(batch, state, why);
  context.log.warn(`Batch ${batch.id}: ${why}; its ${batch.requestCount} requests are tried again.`, { batch: batch.id, job: batch.job });
  const availableAt = now + backoffMs(context.retry, 1, context.random);
  const jobFailed = state === "failed" && context.segregate;
  if (!(await settleAll(context, batch, { type: "retry", availableAt, error, ...(jobFailed ? { jobFailed } : {}) }))) return;
  await updateBatch(context, batch, { state, jobState: state, error, ...endOf(context, batch) });
}
