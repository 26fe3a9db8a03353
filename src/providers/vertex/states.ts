/**
 * A `BatchPredictionJob` of Vertex AI in our words.
 *
 * Read from raw JSON: the SDK drops labels and partial failures (gemini-batch.md 1.9). Shape: `{name, displayName, state, createTime, endTime, error, outputConfig, outputInfo}` (3.1).
 *
 * @module
 */
import type { JobState, ProviderJob } from "../../core/provider.ts";
import { asObject, type JsonObject, toTime } from "../shared/json.ts";
import { toRowError } from "../shared/row-error.ts";

/** All that the API documents; what some rows of a partly succeeded job lack is found out row by row. */
const states: Readonly<Record<string, JobState>> = {
  QUEUED: "pending",
  PENDING: "pending",
  PAUSED: "pending",
  RUNNING: "running",
  UPDATING: "running",
  CANCELLING: "running",
  SUCCEEDED: "succeeded",
  PARTIALLY_SUCCEEDED: "succeeded",
  FAILED: "failed",
  CANCELLED: "cancelled",
  EXPIRED: "expired",
};

const ended: ReadonlySet<JobState> = new Set<JobState>(["succeeded", "failed", "cancelled", "expired"]);

/** The state behind `JOB_STATE_`; anything new is `unknown`, which is not an end. */
export function toJobState(raw: string): JobState {
  const word = raw.replace(/^JOB_STATE_/, "");
  return Object.hasOwn(states, word) ? states[word]! : "unknown";
}

/** The resource as a job, or `undefined` if the value is none (no name). */
export function toJob(resource: unknown): ProviderJob | undefined {
  const job = asObject(resource);
  const name = job?.["name"];
  if (!job || typeof name !== "string" || name === "") return undefined;
  const token = job["displayName"];
  const rawStatus = typeof job["state"] === "string" ? job["state"] : "";
  const state = toJobState(rawStatus);
  const error = toRowError(job["error"]);
  const createdAt = toTime(job["createTime"]);
  const endedAt = toTime(job["endTime"]);
  const output = findOutput(job, state);
  return {
    name,
    ...(typeof token === "string" ? { token } : {}),
    state,
    rawStatus,
    ...(createdAt === undefined ? {} : { createdAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(error === undefined ? {} : { error }),
    ...(output === undefined ? {} : { output }),
  };
}

/**
 * Where the rows of an ended job are: `gs://…` or `bq://…`. A job that was cancelled, or cut off after 24 hours, has written the rows that were finished (gemini-batch.md 3.6).
 * A job that succeeded without saying where wrote to where it was told.
 */
function findOutput(job: JsonObject, state: JobState): string | undefined {
  if (!ended.has(state)) return undefined;
  const info = asObject(job["outputInfo"]) ?? {};
  const folder = info["gcsOutputDirectory"];
  if (typeof folder === "string" && folder.startsWith("gs://")) return folder;
  return tableOf(info["bigqueryOutputDataset"], info["bigqueryOutputTable"]) ?? (state === "succeeded" ? outputTarget(job) : undefined);
}

/** The dataset comes as `bq://project.dataset`, the table as a name in it or in full. */
function tableOf(dataset: unknown, table: unknown): string | undefined {
  if (typeof table !== "string" || table === "") return undefined;
  if (table.startsWith("bq://")) return table;
  if (typeof dataset !== "string" || dataset === "") return undefined;
  return `${dataset.startsWith("bq://") ? dataset : `bq://${dataset}`}.${table}`;
}

/** Where the job was told to write. */
export function outputTarget(resource: unknown): string | undefined {
  const config = asObject(asObject(resource)?.["outputConfig"]) ?? {};
  const folder = asObject(config["gcsDestination"])?.["outputUriPrefix"];
  const table = asObject(config["bigqueryDestination"])?.["outputUri"];
  if (typeof folder === "string" && folder !== "") return folder;
  return typeof table === "string" && table !== "" ? table : undefined;
}
