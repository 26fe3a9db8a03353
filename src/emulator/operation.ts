/**
 * The Operation resource of a job.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { hash32 } from "./chance.ts";
import { endOf, hasOutput, isEnded, stateOf, type Job, type JobState } from "./jobs.ts";
import { wireTime, type JsonObject } from "./wire.ts";

const types = "type.googleapis.com/google.ai.generativelanguage.v1main.";

export interface OperationView {
  now: number;
  /** With real time, a job ends no sooner than its rows are answered. */
  realTime: boolean;
  /** List items leave inline responses out. */
  withResponses: boolean;
}

/** The JSON text of a job's operation. A result stands in it twice: in `metadata.output` and in `response`. */
export async function operationText(job: Job, view: OperationView): Promise<string> {
  const { now, realTime } = view;
  const state = stateOf(job, now);
  const { name } = job;
  const salt = hash32(job.id);
  const created = wireTime(job.createdAt, salt);
  const kind = job.method === "generateContent" ? "GenerateContentBatch" : "EmbedContentBatch";
  const ended = isEnded(state);
  const endTime = ended ? wireTime(endOf(job, now, realTime), salt) : undefined;
  const metadata: JsonObject = {
    "@type": `${types}${kind}`,
    model: `models/${job.model}`,
    ...(job.displayName === "" ? {} : { displayName: job.displayName }),
    ...(job.inputFile === undefined ? {} : { inputConfig: { fileName: job.inputFile } }),
    createTime: created,
    ...(endTime === undefined ? {} : { endTime }),
    // It does not move while a job is running.
    updateTime: endTime ?? created,
    batchStats: statsOf(job, state),
    state: `BATCH_STATE_${state}`,
    name,
    ...(job.priority === undefined || job.priority === "0" ? {} : { priority: job.priority }),
  };
  let operation = `{"name":${JSON.stringify(name)},"metadata":${JSON.stringify(metadata)}`;
  if (hasOutput(job, now, realTime)) {
    const output = await outputText(job, view.withResponses);
    if (output !== undefined) {
      operation = `${operation.slice(0, -1)},"output":{${output}}}`;
      operation += `,"done":true,"response":{"@type":"${types}${kind}Output",${output}}}`;
      return operation;
    }
  }
  const error = errorOf(job, state);
  if (ended) operation += ',"done":true';
  if (error !== undefined) operation += `,"error":${JSON.stringify(error)}`;
  return `${operation}}`;
}

async function outputText(job: Job, withResponses: boolean): Promise<string | undefined> {
  if (job.kind === "file") return `"responsesFile":"files/batch-${job.id}"`;
  if (!withResponses || job.output === undefined) return undefined;
  const lines = (await readFile(job.output.path, "utf8")).split("\n").filter((line) => line !== "");
  return `"inlinedResponses":{"inlinedResponses":[${lines.join(",")}]}`;
}

/** int64 values are strings, and zero is left out. */
function statsOf(job: Job, state: JobState): JsonObject {
  const stats: [string, number][] = [["requestCount", job.rows]];
  if (state === "SUCCEEDED" && job.output)
    stats.push(["successfulRequestCount", job.output.succeeded], ["failedRequestCount", job.output.failed]);
  else if (state === "FAILED") stats.push(["failedRequestCount", job.rows]);
  else stats.push(["pendingRequestCount", job.rows]);
  return Object.fromEntries(stats.filter(([, count]) => count > 0).map(([name, count]) => [name, String(count)]));
}

function errorOf(job: Job, state: JobState): { code: number; message: string } | undefined {
  switch (state) {
    case "FAILED":
      return job.plan.error ?? { code: 13, message: "The batch job failed." };
    case "CANCELLED":
      return { code: 1, message: "The operation was cancelled." };
    case "EXPIRED":
      return { code: 4, message: "The batch job did not finish in time and has expired. There are no results to retrieve." };
    default:
      return undefined;
  }
}
