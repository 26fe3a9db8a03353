/**
 * The Gemini Developer API as a provider: batch jobs at `generativelanguage.googleapis.com`.
 *
 * @module
 */
import type { Provider } from "../../core/provider.ts";
import { createClient } from "./client.ts";
import { createJob } from "./create.ts";
import { callNow } from "./direct.ts";
import { readResults } from "./download.ts";
import { cancelJob, deleteJob, findJobs, getJobs } from "./jobs.ts";
import { type GeminiOptions, resolveOptions } from "./options.ts";
import { createModels, normalizeModel } from "./sdk.ts";
import { discardInput, stageInput } from "./upload.ts";

/**
 * A provider that runs batches as jobs of the Gemini Developer API. Needs no key until a call does, so that chains can be defined
 * and stores inspected without one. Throws `invalid_option` for options that it does not know.
 */
export function gemini(options: GeminiOptions = {}): Provider {
  const settings = resolveOptions(options);
  const client = createClient(settings);
  return {
    name: settings.name,
    api: "gemini",
    limits: settings.limits,
    createModels: (fetch) => createModels(settings, fetch),
    normalizeModel,
    stageInput: (input, signal) => stageInput(client, input, signal),
    createJob: (input, staged, sending) => createJob(client, input, staged, sending),
    findJobs: (token, since, signal) => findJobs(client, token, since, signal),
    getJobs: (names, signal) => getJobs(client, names, signal),
    readResults: (job, _lane, signal) => readResults(client, job, signal),
    cancelJob: (name, signal) => cancelJob(client, name, signal),
    deleteJob: (name, signal) => deleteJob(client, name, signal),
    discardInput: (staged, signal) => discardInput(client, staged, signal),
    callNow: (call) => callNow(client, call),
    // The global fetch keeps its own connections, and lets the process end with them open.
    close: async () => {},
  };
}
