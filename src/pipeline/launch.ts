import { GembatchError, serializeError } from "../core/errors.ts";
import { jobToken, laneName, parseRowKey, rowKey } from "../core/keys.ts";
import { nextPollDelayMs } from "../core/polling.ts";
import { ProviderError, type BatchRow, type JobInput, type ProviderJob, type StagedInput } from "../core/provider.ts";
import type { BatchRecord } from "../core/store.ts";
import { isDirect } from "../core/tiers.ts";
import type { DirectStage } from "./direct.ts";
import { fillBatch, isStalled, usesSlot, type FormStage } from "./form.ts";
import { settleAll } from "./settle.ts";
import {
  claimBatches,
  eachBatch,
  jobSlots,
  messageOf,
  openMembers,
  postpone,
  providerOf,
  updateBatch,
  type PipelineContext,
  type StageResult,
} from "./stage.ts";
import { cancelJobs, endOf, firstLook } from "./sweep.ts";

/** Batches launched side by side. */
const concurrency = 4;
/** Members are read in pages of about so many bytes while the input is written: small ones die young in memory, each costs a statement. */
const pageBytes = 128 * 1_024;
const pageRows = { least: 20, most: 1_000 };
/** How soon after its intent a request must leave. A process that was frozen for longer sends nothing. */
const sendWithinMs = 10_000;
/** Looks for a job of an unanswered attempt: soon, then slower. */
const reconcileDelaysMs = [0, 2_000, 5_000, 15_000, 30_000, 60_000];
/** How often the job of a held batch is looked for. */
const heldLookMs = 600_000;
/** How soon a batch that was throttled asks again for a job slot that is in use. */
const slotRetryMs = 15_000;

/**
 * Makes a job of each sealed batch, once. Order: input staged, intent durable, deadline checked, one POST, name recorded. Whatever
 * breaks in between leaves a batch `launching` whose job is looked for by its token before anything is sent again.
 */
export async function advanceLaunch(context: PipelineContext, form: FormStage, direct: DirectStage): Promise<StageResult> {
  const batches = await claimBatches(context, ["forming", "sealed", "launching"], concurrency);
  await eachBatch(context, batches, async (batch) => {
    if (batch.state === "forming") await finishForming(context, batch);
    else if (isDirect(batch.lane)) await direct.take(context, batch);
    else if (batch.state === "launching") await reconcile(context, form, batch);
    else if (await mayUseSlot(context, batch)) await launch(context, form, batch);
  });
  return { worked: batches.length > 0 };
}

/** A throttled batch has given its job slot back; others may have taken it. */
async function mayUseSlot(context: PipelineContext, batch: BatchRecord): Promise<boolean> {
  if (batch.failures === 0) return true;
  const others = (await context.store.activeBatches()).filter(({ id, lane }) => id !== batch.id && lane.provider === batch.lane.provider);
  if (others.filter(usesSlot).length < jobSlots(context, batch.lane)) return true;
  await updateBatch(context, batch, { dueAt: context.clock.now() + slotRetryMs });
  return false;
}

/** A process died while it filled this batch: what is in it goes. */
async function finishForming(context: PipelineContext, batch: BatchRecord): Promise<void> {
  await fillBatch(context, { batch: batch.id, lane: batch.lane, limits: { requests: 0, bytes: 0, tokens: 0 }, maxActive: Infinity });
}

async function launch(context: PipelineContext, form: FormStage, batch: BatchRecord): Promise<void> {
  const { clock } = context;
  if (openMembers(batch) === 0) {
    // All of them have left meanwhile: their runs ended or began anew, or a deadline took them elsewhere.
    await updateBatch(context, batch, { state: "cancelled", ...endOf(context, batch) });
    return;
  }
  const provider = providerOf(context, batch.lane);
  const input = jobInput(context, batch);
  const staged = await stage(context, form, batch, input);
  if (!staged) return;

  const abort = new AbortController();
  const deadline = clock.sleep(context.launch.deadlineMs, { signal: abort.signal, background: true }).then(() => abort.abort());
  let intended = false;
  // Everything else is done by now, so that next to nothing lies between the durable intent and the request.
  const beforeSend = async (): Promise<boolean> => {
    const intentAt = clock.now();
    const since = clock.monotonic();
    if (context.signal.aborted) return false;
    intended = await updateBatch(context, batch, {
      state: "launching",
      intentAt,
      launchDeadlineAt: intentAt + sendWithinMs,
      launchAttempts: batch.launchAttempts + 1,
      // If this process dies now, the next one looks for the job at once.
      dueAt: intentAt,
      release: false,
    });
    // Both clocks: the monotonic one stands still while a machine is suspended, the wall clock jumps.
    return intended && clock.now() - intentAt < sendWithinMs && clock.monotonic() - since < sendWithinMs;
  };
  try {
    // Stopping the worker does not break off a request that is on its way: its answer is worth the wait.
    const job = await provider.createJob(input, staged, { signal: abort.signal, beforeSend });
    form.accepted(batch.lane);
    await recordLaunched(context, { ...batch, launchAttempts: batch.launchAttempts + 1 }, job);
  } catch (error) {
    await afterFailedCreate(context, form, batch, error, intended);
  } finally {
    abort.abort();
    await deadline;
  }
}

async function stage(context: PipelineContext, form: FormStage, batch: BatchRecord, input: JobInput): Promise<StagedInput | undefined> {
  const now = context.clock.now();
  if (batch.staged && (batch.staged.expiresAt === undefined || batch.staged.expiresAt > now + sendWithinMs)) return batch.staged;
  try {
    batch.staged = await providerOf(context, batch.lane).stageInput(input, context.signal);
  } catch (error) {
    if (!ProviderError.is(error)) throw error;
    if (error.failure === "refused") {
      await refuse(context, form, batch, error);
      return undefined;
    }
    // The bucket or dataset that it should go to is not there: only a person can mend that.
    throw error.failure === "missing" ? new ProviderError("denied", error.message, { cause: error }) : error;
  }
  const { staged } = batch;
  return (await updateBatch(context, batch, { staged, release: false })) ? staged : undefined;
}

async function recordLaunched(context: PipelineContext, batch: BatchRecord, job: ProviderJob): Promise<void> {
  const now = context.clock.now();
  const fastest = context.turnarounds.fastest(laneName(batch.lane));
  await updateBatch(context, batch, {
    state: "in_progress",
    job: job.name,
    rawStatus: job.rawStatus,
    held: false,
    launchedAt: now,
    dueAt: now + nextPollDelayMs(context.polling, 0, fastest),
    failures: 0,
    ...firstLook({ launchAttempts: batch.launchAttempts, job: job.name }, now),
  });
  context.log.info(`Batch ${batch.id}: ${batch.requestCount} requests of ${laneName(batch.lane)} are job ${job.name}.`, {
    batch: batch.id,
    job: job.name,
  });
}

async function afterFailedCreate(
  context: PipelineContext,
  form: FormStage,
  batch: BatchRecord,
  error: unknown,
  intended: boolean,
): Promise<void> {
  const said = ProviderError.is(error) ? error.failure : "ambiguous";
  // Without an intent nothing was sent, whatever went wrong.
  const failure = said === "ambiguous" && !intended ? "unavailable" : said;
  switch (failure) {
    case "refused":
      await refuse(context, form, batch, error as ProviderError);
      return;
    case "missing":
      // The staged input expired or was removed; nothing was created.
      await updateBatch(context, batch, {
        ...(intended ? notSent(batch) : {}),
        staged: null,
        dueAt: context.clock.now(),
        failures: batch.failures + 1,
      });
      return;
    case "throttled":
    case "unavailable":
    case "denied": {
      if (intended) await updateBatch(context, batch, { ...notSent(batch), release: false });
      await postpone(context, batch, error);
      return;
    }
    case "ambiguous":
      context.log.warn(`Batch ${batch.id}: it is unknown whether its job was created (${messageOf(error)}); looking for it.`, {
        batch: batch.id,
      });
      await updateBatch(context, batch, { dueAt: context.clock.now(), launchDeadlineAt: context.clock.now(), failures: 0 });
  }
}

/** The attempt made nothing for certain: it does not count. */
function notSent({ launchAttempts }: BatchRecord) {
  return { state: "sealed", launchAttempts } as const;
}

/** An attempt may have created a job: adopt it if it shows, send again only when it no longer can. */
async function reconcile(context: PipelineContext, form: FormStage, batch: BatchRecord): Promise<void> {
  const provider = providerOf(context, batch.lane);
  const token = jobToken(context.store.id, batch.id);
  const jobs = await provider.findJobs(token, batch.intentAt ?? batch.createdAt, context.signal);
  // A job that was taken for a duplicate once was cancelled: it is not what is looked for.
  const job = jobs.find(({ name }) => !batch.duplicateJobs.includes(name));
  if (job) {
    const duplicates = jobs.filter((other) => other !== job);
    if (duplicates.length > 0) {
      const duplicateJobs = await cancelJobs(context, batch, duplicates);
      await context.store.updateSweep({ batch: batch.id, update: { sweepAt: batch.sweepAt ?? null, duplicateJobs } });
    }
    context.log.info(`Batch ${batch.id}: adopted job ${job.name}.`, { batch: batch.id, job: job.name });
    await recordLaunched(context, batch, job);
    return;
  }
  const now = context.clock.now();
  const settledAt = (batch.launchDeadlineAt ?? now) + context.launch.settleMs;
  if (now < settledAt) {
    const delay = reconcileDelaysMs[Math.min(batch.failures, reconcileDelaysMs.length - 1)]!;
    await updateBatch(context, batch, { dueAt: Math.min(settledAt, now + delay), failures: batch.failures + 1 });
    return;
  }
  if (context.launch.onAmbiguous === "hold" && !isReleased(batch)) {
    await hold(context, batch);
    return;
  }
  context.log.warn(
    `Batch ${batch.id}: no job appeared ${Math.round((now - (batch.intentAt ?? now)) / 1_000)} s after an unanswered attempt; sending it again.`,
    {
      batch: batch.id,
    },
  );
  await launch(context, form, batch);
}

/** Nothing is sent twice unless an operator says so. A job that turns up after all is adopted. */
async function hold(context: PipelineContext, batch: BatchRecord): Promise<void> {
  const error = new GembatchError(
    "batch_held",
    `Batch ${batch.id} is held: it is unknown whether its job was created, and none has turned up; its ${batch.requestCount} requests wait.`,
    {
      retryable: true,
      hint: "Look for the job at the provider; gembatch.batches.release() creates it again. A job that turns up is taken over by itself.",
      details: { batch: batch.id, token: jobToken(context.store.id, batch.id), attempts: batch.launchAttempts },
    },
  );
  if (!batch.held) context.log.error(error.message, { batch: batch.id });
  const now = context.clock.now();
  if (!(await updateBatch(context, batch, { held: true, dueAt: now + heldLookMs, error: serializeError(error, "batch_held") }))) return;
  const activity = await context.store.activity({ now, chains: context.chains() });
  if (activity.lanes.length === 0 && isStalled(activity, await context.store.activeBatches())) context.onTrouble(error);
}

/** An operator let a held batch go on, and nothing was sent since. */
function isReleased(batch: BatchRecord): boolean {
  return !batch.held && batch.error?.code === "batch_held" && batch.error.details?.["attempts"] === batch.launchAttempts;
}

/** A definite no. The row at fault fails with the provider's words; the others go back to the queue, their attempt unspent. */
async function refuse(context: PipelineContext, form: FormStage, batch: BatchRecord, error: ProviderError): Promise<void> {
  const refusal = serializeError(
    new GembatchError("request_refused", `The provider refused the request: ${messageOf(error)}`, {
      cause: error,
      details: { ...(error.status === undefined ? {} : { status: error.status }) },
    }),
    "request_refused",
  );
  const culprit = await culpritOf(context, batch, error);
  if (openMembers(batch) === 1 || error.status === 404) {
    // One request, or a model that does not exist: nothing in this batch can succeed.
    await settleAll(context, batch, { type: "failed", error: refusal });
  } else if (culprit) {
    await context.store.settleRows({
      batch: batch.id,
      epoch: batch.epoch,
      now: context.clock.now(),
      rows: [{ ...culprit, result: { type: "failed", error: refusal } }],
      unknown: 0,
      cursor: 0,
    });
    await settleAll(context, batch, { type: "release", availableAt: context.clock.now() });
  } else {
    form.refused(batch.lane, batch.requestCount);
    await settleAll(context, batch, { type: "release", availableAt: context.clock.now() });
  }
  context.log.warn(`Batch ${batch.id} was refused: ${messageOf(error)}`, { batch: batch.id, requests: batch.requestCount });
  const { launchAttempts } = batch;
  await updateBatch(context, batch, { state: "failed", launchAttempts, error: refusal, ...endOf(context, batch) });
}

/** The member that a refusal names, by key or by position. */
async function culpritOf(
  context: PipelineContext,
  batch: BatchRecord,
  error: ProviderError,
): Promise<{ id: string; attempt: number } | undefined> {
  if (error.row === undefined) return undefined;
  if (typeof error.row === "string") return parseRowKey(error.row);
  let after: string | undefined;
  const limit = pageSizeOf(batch);
  for (let skipped = 0; ;) {
    const page = await context.store.readMembers({ batch: batch.id, after, limit });
    if (page.length === 0) return undefined;
    const member = page[error.row - skipped];
    if (member) return { id: member.id, attempt: member.attempt };
    skipped += page.length;
    after = page.at(-1)!.id;
  }
}

function jobInput(context: PipelineContext, batch: BatchRecord): JobInput {
  return {
    token: jobToken(context.store.id, batch.id),
    lane: batch.lane,
    requestCount: batch.requestCount,
    bytes: batch.bytes,
    rows: () => memberRows(context, batch),
  };
}

async function* memberRows(context: PipelineContext, batch: BatchRecord): AsyncIterable<BatchRow> {
  let after: string | undefined;
  const limit = pageSizeOf(batch);
  for (;;) {
    const members = await context.store.readMembers({ batch: batch.id, after, limit });
    for (const { id, attempt, body } of members) yield { key: rowKey(id, attempt), body };
    if (members.length < limit) return;
    after = members.at(-1)!.id;
  }
}

/** Members in a page, from the average size of a batch's requests. */
function pageSizeOf({ bytes, requestCount }: BatchRecord): number {
  const rows = Math.floor((pageBytes * requestCount) / Math.max(1, bytes));
  return Math.max(pageRows.least, Math.min(pageRows.most, rows));
}
