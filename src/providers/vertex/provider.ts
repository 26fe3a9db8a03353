/**
 * Vertex AI as a provider: `batchPredictionJobs` with inputs and outputs in Cloud Storage or BigQuery.
 *
 * @module
 */
import type { Provider } from "../../core/provider.ts";
import { checkRequest } from "./check-request.ts";
import { createClient } from "./client.ts";
import { createJob } from "./create.ts";
import { callNow } from "./direct.ts";
import { readResults } from "./download.ts";
import { cancelJob, deleteJob, findJobs, getJobs } from "./jobs.ts";
import { familyOf, normalizeModel } from "./models.ts";
import { resolveOptions, type VertexOptions } from "./options.ts";
import { createModels } from "./sdk.ts";
import { discardInput, stageInput } from "./upload.ts";

/**
 * A provider that runs batches as jobs of Vertex AI. Needs a bucket (package `@google-cloud/storage`) or a dataset (`@google-cloud/bigquery`), and neither project nor credentials until a call
 * does. Throws `invalid_option` for options that it does not know.
 */
export function vertex(options: VertexOptions = {}): Provider {
  const settings = resolveOptions(options);
  const client = createClient(settings);
  return {
    name: settings.name,
    api: "vertex",
    limits: settings.limits,
    createModels: (fetch) => createModels(settings, fetch),
    normalizeModel,
    methodOf: (model) => (familyOf(model) === "google" ? undefined : "rawPredict"),
    checkRequest: (call, body) => checkRequest(settings, call, body),
    stageInput: (input, signal) => stageInput(client, input, signal),
    createJob: (input, staged, sending) => createJob(client, input, staged, sending),
    findJobs: (token, since, signal) => findJobs(client, token, since, signal),
    getJobs: (names, signal) => getJobs(client, names, signal),
    readResults: (job, lane, signal) => readResults(client, job, lane, signal),
    cancelJob: (name, signal) => cancelJob(client, name, signal),
    deleteJob: (name, signal) => deleteJob(client, name, signal),
    discardInput: (staged, signal) => discardInput(client, staged, signal),
    callNow: (call) => callNow(client, call),
    // The global fetch and the clients keep their own connections, and let the process end with them open.
    close: async () => {},
  };
}
