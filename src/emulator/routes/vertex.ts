/**
 * Batch prediction jobs of Vertex AI.
 *
 * @module
 */
import type { FaultName, Hit } from "../faults.ts";
import { problemOfLabels } from "../families.ts";
import { isEnded, stateOf, type Job } from "../jobs.ts";
import { filterOf } from "../list-filter.ts";
import { publishResults } from "../publishing.ts";
import type { Service } from "../service.ts";
import { liesIn, vertexBody } from "../vertex-body.ts";
import { createVertexJob, type WantedVertexJob } from "../vertex-jobs.ts";
import { isObject, parseBody, WireError, type JsonObject } from "../wire.ts";
import { answerCreate, refuseByFault } from "./batches.ts";
import { jsonText, page, type Handler } from "./context.ts";
import type { Target } from "./target.ts";
import { shortModel } from "./vertex-models.ts";

const invalid = (message: string) => new WireError("INVALID_ARGUMENT", message);
const objectOf = (value: unknown): JsonObject => (isObject(value) ? value : {});
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

const create: Handler = async (service, context, target) => {
  const body = parseBody(await context.req.text());
  const displayName = textOf(body.displayName);
  const strikes = (name: FaultName): Hit => service.faults.hit(name, displayName);
  refuseByFault(strikes);
  const wanted = wantedJob(service, body, target);
  const job = await createVertexJob(service, wanted);
  if (strikes("duplicateCreate")) await createVertexJob(service, wanted);
  return answerCreate(service, context, strikes, () => textOfJob(service, job, true));
};

/** What the body asks for; 400 for what is refused before a job is made. */
function wantedJob(service: Service, body: JsonObject, { names, version }: Target): WantedVertexJob {
  const displayName = textOf(body.displayName);
  if (displayName === "") throw invalid("Required field display_name is not set.");
  if (displayName.length > 128) throw invalid("display_name has more than 128 characters.");
  const problem = problemOfLabels(body.labels);
  if (problem !== undefined) throw invalid(problem);
  const modelName = textOf(body.model);
  const model = shortModel(service, modelName, version, "batchPredictionJobs");
  const inputConfig = objectOf(body.inputConfig);
  const outputConfig = objectOf(body.outputConfig);
  return {
    displayName,
    model,
    details: {
      ...placeOf(names),
      modelName: modelName.replace(/^projects\/[^/]+\/locations\/[^/]+\/(?=publishers\/)/, ""),
      inputConfig,
      outputConfig,
      labels: objectOf(body.labels) as Record<string, string>,
    },
    input: inputOf(inputConfig),
    output: outputOf(outputConfig),
  };
}

/** Where calls go that name no project: those with an API key. */
function placeOf({ project = "emulator", location = "global" }: Target["names"]): { project: string; location: string } {
  return { project, location };
}

function inputOf(config: JsonObject): WantedVertexJob["input"] {
  const storage = objectOf(config.gcsSource);
  const { uris } = storage;
  if (config.instancesFormat === "bigquery") {
    const [project = "", dataset, table] = parts(textOf(objectOf(config.bigquerySource).inputUri));
    if (dataset === undefined || table === undefined) throw invalid("bigquery_source.input_uri must be bq://project.dataset.table.");
    return { kind: "bigquery", project, dataset, table };
  }
  if (config.instancesFormat !== "jsonl") throw invalid("input_config.instances_format must be jsonl or bigquery.");
  if (!Array.isArray(uris) || uris.length !== 1) throw invalid("gcs_source.uris must name one JSONL file.");
  const [bucket, object] = objectParts(textOf(uris[0]));
  if (object === "") throw invalid("gcs_source.uris must be gs://bucket/object.");
  return { kind: "storage", bucket, object };
}

function outputOf(config: JsonObject): WantedVertexJob["output"] {
  if (config.predictionsFormat === "bigquery") {
    const [project = "", dataset, table] = parts(textOf(objectOf(config.bigqueryDestination).outputUri));
    return { kind: "bigquery", project, dataset: dataset ?? "predictions", table };
  }
  if (config.predictionsFormat !== "jsonl") throw invalid("output_config.predictions_format must be jsonl or bigquery.");
  const [bucket, prefix] = objectParts(textOf(objectOf(config.gcsDestination).outputUriPrefix));
  return { kind: "storage", bucket, prefix };
}

function objectParts(uri: string): [bucket: string, object: string] {
  const match = /^gs:\/\/([^/]+)(?:\/(.*))?$/.exec(uri);
  if (!match) throw invalid(`Invalid Cloud Storage URI: ${JSON.stringify(uri)}`);
  return [match[1] ?? "", match[2] ?? ""];
}

function parts(uri: string): string[] {
  const match = /^bq:\/\/([^.]+)(?:\.(\w+))?(?:\.([\w -]+))?$/.exec(uri);
  if (!match) throw invalid(`Invalid BigQuery URI: ${JSON.stringify(uri)}`);
  return match.slice(1).filter((part) => part !== undefined);
}

function textOfJob(service: Service, job: Job, created = false): string {
  return JSON.stringify(vertexBody(job, service.clock.now(), service.realTime, created));
}

function find(service: Service, { id, names }: Target): Job {
  const job = service.vertexJob(id);
  if (job !== undefined && liesIn(job, names.project, names.location)) return job;
  throw new WireError("NOT_FOUND", `The BatchPredictionJob ${JSON.stringify(id)} does not exist.`);
}

const get: Handler = async (service, _, target) => {
  const job = find(service, target);
  await service.ready([job]);
  return jsonText(textOfJob(service, job));
};

const list: Handler = async (service, context, { names }) => {
  const matches = filterOf(context.req.query("filter"));
  const { project, location } = names;
  const inPlace = service.listJobs("vertex").filter((job) => liesIn(job, project, location));
  await service.ready(inPlace);
  const body = (job: Job) => vertexBody(job, service.clock.now(), service.realTime);
  const { items, next } = page(
    context,
    inPlace.filter((job) => matches(body(job))),
    100,
    100,
  );
  return jsonText(
    JSON.stringify({
      ...(items.length === 0 ? {} : { batchPredictionJobs: items.map(body) }),
      ...(next === undefined ? {} : { nextPageToken: next }),
    }),
  );
};

const cancel: Handler = async (service, _, target) => {
  const job = find(service, target);
  await service.ready([job]);
  const state = stateOf(job, service.clock.now());
  if (isEnded(state)) {
    throw new WireError("FAILED_PRECONDITION", `The job is in state JOB_STATE_${state}. A job that has ended cannot be cancelled.`);
  }
  if (state !== "CANCELLING") await service.cancelJob(job);
  return jsonText("{}");
};

/** Only jobs that have ended can be deleted; what they have written stays. */
const remove: Handler = async (service, _, target) => {
  const job = find(service, target);
  await publishResults(service);
  const state = stateOf(job, service.clock.now());
  if (!isEnded(state)) {
    throw new WireError(
      "FAILED_PRECONDITION",
      `The job is in state JOB_STATE_${state}. Only jobs that have ended can be deleted; cancel it first.`,
    );
  }
  await service.deleteJob(job);
  const name = job.name.replace(/batchPredictionJobs/, "operations");
  return jsonText(
    JSON.stringify({
      name,
      metadata: { "@type": "type.googleapis.com/google.cloud.aiplatform.v1.DeleteOperationMetadata" },
      done: true,
      response: { "@type": "type.googleapis.com/google.protobuf.Empty" },
    }),
  );
};

export const vertexHandlers = {
  "vertex.create": create,
  "vertex.get": get,
  "vertex.list": list,
  "vertex.cancel": cancel,
  "vertex.delete": remove,
} satisfies Record<string, Handler>;
