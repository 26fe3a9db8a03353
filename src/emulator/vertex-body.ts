/**
 * The BatchPredictionJob resource.
 *
 * @module
 */
import { endOf, hasOutput, isEnded, stateOf, type Job, type JobState } from "./jobs.ts";
import { projectNumber, vertexTime } from "./vertex-jobs.ts";
import type { JsonObject } from "./wire.ts";

/** `created`: as the answer to the create call shows it. */
export function vertexBody(job: Job, now: number, realTime: boolean, created = false): JsonObject {
  const { vertex, plan } = job;
  if (vertex === undefined) throw new Error(`${job.name} is no Vertex job.`);
  const state = created ? "PENDING" : stateOf(job, now);
  const ended = isEnded(state);
  const createTime = vertexTime(job.createdAt);
  const ran = state === "RUNNING" || state === "CANCELLING" || (ended && endOf(job, now, realTime) > plan.runsAt);
  const startTime = ran ? vertexTime(plan.runsAt) : undefined;
  const endTime = ended ? vertexTime(endOf(job, now, realTime)) : undefined;
  const shown = hasOutput(job, now, realTime);
  const error = errorOf(job, state);
  return {
    name: job.name,
    displayName: job.displayName,
    model: vertex.modelName,
    ...(vertex.modelName.startsWith("publishers/") ? { modelVersionId: "1" } : {}),
    inputConfig: vertex.inputConfig,
    outputConfig: vertex.outputConfig,
    ...(shown ? { outputInfo: outputInfoOf(vertex.output) } : {}),
    state: `JOB_STATE_${stateWord(job, state, now, created)}`,
    ...(error === undefined ? {} : { error }),
    ...(state === "PARTIALLY_SUCCEEDED" ? { partialFailures: [{ code: 13, message: "Some rows could not be written." }] } : {}),
    ...(ended ? { completionStats: statsOf(job, shown || job.plan.outputDelayMs > 0) } : {}),
    createTime,
    ...(startTime === undefined ? {} : { startTime }),
    ...(endTime === undefined ? {} : { endTime }),
    updateTime: endTime ?? startTime ?? createTime,
    ...(Object.keys(vertex.labels).length === 0 ? {} : { labels: vertex.labels }),
  };
}

/** A job is first queued, then pending; the answer to its creation says pending. */
function stateWord({ createdAt, plan }: Job, state: JobState, now: number, created: boolean): string {
  return state === "PENDING" && !created && now < createdAt + (plan.runsAt - createdAt) / 2 ? "QUEUED" : state;
}

function outputInfoOf(output: NonNullable<Job["vertex"]>["output"]): JsonObject {
  return output.kind === "storage"
    ? { gcsOutputDirectory: `gs://${output.bucket}/${output.directory}` }
    : { bigqueryOutputDataset: `bq://${output.project}.${output.dataset}`, bigqueryOutputTable: output.table };
}

/** int64 values are strings. */
function statsOf(job: Job, counted: boolean): JsonObject {
  const { succeeded, failed } = (counted ? job.output : undefined) ?? { succeeded: 0, failed: 0 };
  const stats = { successfulCount: succeeded, failedCount: failed, incompleteCount: job.rows - succeeded - failed };
  return Object.fromEntries(
    Object.entries(stats)
      .filter(([, count]) => count > 0)
      .map(([name, count]) => [name, String(count)]),
  );
}

function errorOf(job: Job, state: JobState): JsonObject | undefined {
  if (state === "FAILED") return { ...(job.plan.error ?? { code: 13, message: "INTERNAL" }) };
  return state === "CANCELLED" ? { code: 1, message: "The job was cancelled." } : undefined;
}

/** Whether a job lies in a project (by id or number) and location; calls without a project see all. */
export function liesIn({ vertex }: Job, project: string | undefined, location: string | undefined): boolean {
  if (vertex === undefined || project === undefined) return vertex !== undefined;
  if (vertex.location !== location) return false;
  return vertex.project === project || projectNumber(vertex.project) === projectNumber(project);
}
