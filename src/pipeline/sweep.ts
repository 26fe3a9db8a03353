import { jobToken } from "../core/keys.ts";
import type { ProviderJob } from "../core/provider.ts";
import { isTerminalBatch } from "../core/states.ts";
import type { BatchRecord } from "../core/store.ts";
import { earliest, messageOf, providerOf, type PipelineContext, type StageResult } from "./stage.ts";

/** Batches looked after by one advance. */
const limit = 50;
/** When duplicates of a job are looked for, counted from the last attempt to create it. After a day none is expected to turn up any more. */
const duplicateLooksMs = [60_000, 300_000, 900_000, 3_600_000, 4 * 3_600_000, 12 * 3_600_000, 24 * 3_600_000];
/** What cannot be removed is tried again after this, and left to expire by itself two days after the batch ended. */
const removalRetryMs = 600_000;
const removalLimitMs = 48 * 3_600_000;

/** Whether more jobs of the batch than its own may exist: attempts that may have made one, beyond the one that made its own. */
function mayHaveDuplicates({ launchAttempts, job }: Pick<BatchRecord, "launchAttempts" | "job">): boolean {
  return launchAttempts > (job === undefined ? 0 : 1);
}

/** When duplicates are first looked for, part of the very update that makes them possible, so that no crash forgets it. */
export function firstLook(batch: Pick<BatchRecord, "launchAttempts" | "job">, now: number): { sweepAt?: number } {
  return mayHaveDuplicates(batch) ? { sweepAt: now + duplicateLooksMs[0]! } : {};
}

/** What every end of a batch sets: its time, and when what it left at the provider is looked after. */
export function endOf(context: PipelineContext, batch: BatchRecord): { endedAt: number; sweepAt?: number } {
  const endedAt = context.clock.now();
  const cleanAt = context.cleanupMs === undefined ? undefined : endedAt + context.cleanupMs;
  const sweepAt = earliest(batch.sweepAt, firstLook(batch, endedAt).sweepAt, cleanAt);
  return { endedAt, ...(sweepAt === undefined ? {} : { sweepAt }) };
}

/**
 * Looks after what batches leave at the provider: cancels duplicates of their jobs (those are counted and never read), and removes jobs, outputs and inputs
 * that are done with.
 */
export async function advanceSweep(context: PipelineContext): Promise<StageResult> {
  const providers = [...context.roles()];
  if (providers.length === 0) return { worked: false };
  const batches = await context.store.dueSweeps({ now: context.clock.now(), providers, limit });
  for (const batch of batches) {
    if (context.signal.aborted) return { worked: false };
    await sweep(context, batch);
  }
  return { worked: batches.length > 0 };
}

async function sweep(context: PipelineContext, batch: BatchRecord): Promise<void> {
  const now = context.clock.now();
  let duplicateJobs = batch.duplicateJobs;
  let cleanedAt = batch.cleanedAt;
  let next: number | undefined;
  try {
    if (mayHaveDuplicates(batch)) {
      duplicateJobs = [...new Set([...duplicateJobs, ...(await cancelDuplicates(context, batch))])];
      // The batch's own traces may be gone long before a duplicate shows.
      const late = duplicateJobs.filter((name) => !batch.duplicateJobs.includes(name));
      if (cleanedAt !== undefined) await removeJobs(context, batch, late);
      const since = batch.intentAt ?? batch.createdAt;
      next = duplicateLooksMs.map((ms) => since + ms).find((at) => at > now);
    }
    if (isTerminalBatch(batch.state) && cleanedAt === undefined && context.cleanupMs !== undefined) {
      const cleanAt = (batch.endedAt ?? now) + context.cleanupMs;
      if (cleanAt <= now) {
        await remove(context, batch, duplicateJobs);
        cleanedAt = now;
      } else next = earliest(next, cleanAt);
    }
  } catch (error) {
    if (context.signal.aborted) return;
    context.log.info(`Batch ${batch.id}: what it left at the provider is looked after later: ${messageOf(error)}`, { batch: batch.id });
    const givenUp = batch.endedAt !== undefined && now > batch.endedAt + (context.cleanupMs ?? 0) + removalLimitMs;
    next = givenUp ? undefined : now + removalRetryMs;
  }
  await context.store.updateSweep({
    batch: batch.id,
    update: { sweepAt: next ?? null, duplicateJobs, ...(cleanedAt === undefined ? {} : { cleanedAt }) },
  });
}

/** Cancels every job with the batch's token that is not its own. Returns their names. */
async function cancelDuplicates(context: PipelineContext, batch: BatchRecord): Promise<string[]> {
  const provider = providerOf(context, batch.lane);
  const jobs = await provider.findJobs(jobToken(context.store.id, batch.id), batch.createdAt, context.signal);
  return cancelJobs(
    context,
    batch,
    jobs.filter(({ name }) => name !== batch.job),
  );
}

/** Cancels duplicates of a batch's job and says so, once each. Returns their names. */
export async function cancelJobs(context: PipelineContext, batch: BatchRecord, duplicates: readonly ProviderJob[]): Promise<string[]> {
  for (const { name, state } of duplicates) {
    if (!batch.duplicateJobs.includes(name)) {
      context.log.warn(`Batch ${batch.id}: job ${name} is a duplicate; it is cancelled and its answers are not read.`, {
        batch: batch.id,
        job: name,
      });
    }
    if (state === "pending" || state === "running" || state === "unknown") {
      await providerOf(context, batch.lane).cancelJob(name, context.signal);
    }
  }
  return duplicates.map(({ name }) => name);
}

async function remove(context: PipelineContext, batch: BatchRecord, duplicateJobs: readonly string[]): Promise<void> {
  const provider = providerOf(context, batch.lane);
  if (batch.staged) await provider.discardInput(batch.staged, context.signal);
  if (batch.job !== undefined) {
    // A stuck job that did not end when it was cancelled: removing it would not stop it.
    if (batch.cancelledAt !== undefined && batch.jobState !== "succeeded") await provider.cancelJob(batch.job, context.signal);
    await provider.deleteJob(batch.job, context.signal);
  }
  await removeJobs(context, batch, duplicateJobs);
}

async function removeJobs(context: PipelineContext, batch: BatchRecord, names: readonly string[]): Promise<void> {
  for (const name of names) await providerOf(context, batch.lane).deleteJob(name, context.signal);
}
