import { open } from "node:fs/promises";
import type { FaultName, Hit } from "../faults.ts";
import { goneError } from "../files.ts";
import { createGeminiJob } from "../gemini-jobs.ts";
import type { Job } from "../jobs.ts";
import { operationText } from "../operation.ts";
import type { BatchMethod } from "../rows.ts";
import type { Service } from "../service.ts";
import { isObject, modelError, parseBody, quotaError, WireError, type JsonObject } from "../wire.ts";
import { webhookOf } from "../webhooks.ts";
import { geminiJobForm, type RowSource } from "../work.ts";
import { breakConnection, jsonText, page, type Handler, type HttpContext } from "./context.ts";

const create =
  (method: BatchMethod): Handler =>
  async (service, context, { id: model, version }) => {
    const text = await context.req.text();
    const body = parseBody(text);
    const batch = isObject(body.batch) ? body.batch : {};
    const displayName = typeof batch.displayName === "string" ? batch.displayName : "";
    const strikes = (name: FaultName): Hit => service.faults.hit(name, displayName);
    refuseByFault(strikes);
    const verb = method === "generateContent" ? "batchGenerateContent" : "asyncBatchEmbedContent";
    if (!service.hasModel(model) || isEmbeddingModel(model) !== (method === "embedContent")) throw modelError(model, version, verb);
    if (body.batch === undefined) throw new WireError("INVALID_ARGUMENT", "* BatchGenerateContentRequest.batch: batch is not specified\n");
    const input = isObject(batch.inputConfig) ? batch.inputConfig : {};
    const fileName = typeof input.fileName === "string" ? input.fileName : undefined;
    const inputGone = fileName !== undefined && strikes("inputFileGone") !== undefined;
    const kind = fileName === undefined ? "inline" : "file";
    const createJob = async () => {
      const source = fileName === undefined ? inlineSource(service, input, text) : await fileSource(service, fileName, inputGone);
      return createGeminiJob(service, {
        model,
        method,
        displayName,
        kind,
        inputFile: fileName,
        vertex: undefined,
        webhook: webhookOf(batch),
        priority: numberText(batch.priority),
        form: geminiJobForm(source, kind, method),
      });
    };
    const job = await createJob();
    if (strikes("duplicateCreate")) await createJob();
    const shown = () => operationText(job, { now: job.createdAt - 1, realTime: service.realTime, withResponses: false });
    return answerCreate(service, context, strikes, shown);
  };

/** The answer to a create call after the job was made, unless a fault loses it. It shows the job as it was then: pending, whatever the turnaround. */
export async function answerCreate(
  service: Service,
  context: HttpContext,
  strikes: (name: FaultName) => Hit,
  shown: () => Promise<string> | string,
): Promise<Response> {
  if (strikes("createAnswerLost")) return breakConnection(context);
  const failing = strikes("createAnswerError");
  if (failing) throw serverError(failing);
  const slow = strikes("createAnswerSlow");
  if (slow) await service.clock.sleep(slow.ms ?? 1_000);
  return jsonText(await shown());
}

/** An int64, which JSON carries as a string or as a number. */
function numberText(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

/** The faults that refuse a create call before anything is made. */
export function refuseByFault(strikes: (name: FaultName) => Hit): void {
  if (strikes("throttleCreate")) throw quotaError();
  const refusal = strikes("refuseCreate");
  if (refusal) throw new WireError("INVALID_ARGUMENT", refusal.message ?? "Request contains an invalid argument.");
  if (strikes("freeTier")) {
    throw new WireError(
      "FAILED_PRECONDITION",
      "Batch jobs are not available on the free tier. Please enable billing on your project in Google AI Studio.",
    );
  }
  const failing = strikes("serverErrorCreate");
  if (failing) throw serverError(failing);
}

export function serverError(hit: NonNullable<Hit>): WireError {
  return hit.code === 503
    ? new WireError("UNAVAILABLE", hit.message ?? "The model is overloaded. Please try again later.")
    : new WireError(
        "INTERNAL",
        hit.message ??
          "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
      );
}

export function isEmbeddingModel(model: string): boolean {
  return model.includes("embedding");
}

function inlineSource(service: Service, input: JsonObject, text: string): RowSource {
  const requests = isObject(input.requests) ? input.requests.requests : undefined;
  if (!Array.isArray(requests))
    throw new WireError("INVALID_ARGUMENT", "* BatchGenerateContentRequest.batch.input_config: either requests or file_name must be set\n");
  const bytes = Buffer.byteLength(text);
  if (bytes > service.limits.inlineBytes) {
    throw new WireError(
      "INVALID_ARGUMENT",
      `Request payload size exceeds the limit: ${service.limits.inlineBytes} bytes. Please use file upload for larger batches.`,
    );
  }
  return { inline: requests };
}

async function fileSource(service: Service, fileName: string, gone: boolean): Promise<RowSource> {
  const id = fileName.replace(/^.*files\//, "");
  if (gone) throw goneError(id);
  return { handle: await open(service.files.get(id).path, "r") };
}

function textOf(service: Service, job: Job, withResponses: boolean): Promise<string> {
  return operationText(job, { now: service.clock.now(), realTime: service.realTime, withResponses });
}

const get: Handler = async (service, _, { id }) => {
  const job = service.job(id);
  await service.ready([job]);
  return jsonText(await textOf(service, job, true));
};

const list: Handler = async (service, context) => {
  const { items, next } = page(context, service.listJobs("gemini"), 50, 1_000);
  await service.ready(items);
  const operations = await Promise.all(items.map((job) => textOf(service, job, false)));
  const token = next === undefined ? "" : `${operations.length === 0 ? "" : ","}"nextPageToken":${JSON.stringify(next)}`;
  // As everywhere in this protocol, an empty list is left out.
  return jsonText(`{${operations.length === 0 ? "" : `"operations":[${operations.join(",")}]`}${token}}`);
};

const cancel: Handler = async (service, _, { id }) => {
  await service.cancelJob(service.job(id));
  return jsonText("{}");
};

const remove: Handler = async (service, _, { id }) => {
  await service.deleteJob(service.job(id));
  return jsonText("{}");
};

export const batchHandlers = {
  "batches.create": create("generateContent"),
  "batches.createEmbeddings": create("embedContent"),
  "batches.get": get,
  "batches.list": list,
  "batches.cancel": cancel,
  "batches.delete": remove,
} satisfies Record<string, Handler>;
