/**
 * Creating jobs of the Developer API: limits, a look at every row, names.
 *
 * @module
 */
import { chanceOf, idOf } from "./chance.ts";
import type { Job } from "./jobs.ts";
import { planJob } from "./plan.ts";
import type { NewJob, Service } from "./service.ts";
import { quotaError, WireError } from "./wire.ts";
import { inspect, malformedError } from "./work.ts";

/** Takes over the form: it is closed when the rows are answered, or when creation fails. */
export async function createGeminiJob(service: Service, job: NewJob): Promise<Job> {
  const { options, faults } = service;
  let started = false;
  try {
    const generation = service.generation();
    // Jobs that are over by the clock must not count against the limits.
    if (!service.realTime) await service.ready([...service.openJobs()]);
    const refuse = options.malformedRows !== "rowError";
    checkQuota(service, job.model, 0);
    const input = await inspect(job.form, job.model, { stopAtProblem: refuse, uniqueKeys: options.uniqueKeys === true });
    if (refuse && input.problem) throw malformedError(input.problem);
    if (input.rows === 0) throw new WireError("INVALID_ARGUMENT", "The batch has no requests.");
    if (generation !== service.generation()) throw new WireError("UNAVAILABLE", "The emulator was reset.");
    checkQuota(service, job.model, input.inputTokens);
    started = true;
    const { rows, inputTokens, hashes } = input;
    return service.register({
      ...job,
      rows,
      inputTokens,
      hashes,
      createdAt: service.clock.now(),
      names(number, era) {
        const id = idOf(`${era} job ${number}`, 36);
        return { id, name: `batches/${id}` };
      },
      plan(ordinal, createdAt) {
        const info = { model: job.model, displayName: job.displayName, rows, method: job.method, ordinal };
        return { plan: planJob(info, createdAt, options, faults, chanceOf(`${service.seed} job ${ordinal}`)), rowsKept: 0 };
      },
    });
  } finally {
    if (!started) await job.form.close().catch(() => undefined);
  }
}

/** 429 when the project is full. Unfinished jobs count, deleted ones too; those of Vertex have no such limits. */
function checkQuota(service: Service, model: string, tokens: number): void {
  const { limits, options } = service;
  const unfinished = [...service.openJobs()].filter((job) => job.vertex === undefined);
  if (unfinished.length >= limits.concurrentJobs) throw quotaError(`The project has ${unfinished.length} unfinished batch jobs.`);
  const quota = options.limits?.enqueuedTokens;
  const most = typeof quota === "number" ? quota : quota?.[model];
  if (most === undefined) return;
  let enqueued = 0;
  for (const job of unfinished) if (job.model === model) enqueued += job.inputTokens;
  if (enqueued + tokens > most) throw quotaError(`The batch enqueued tokens limit of ${most} for ${model} is reached.`);
}
