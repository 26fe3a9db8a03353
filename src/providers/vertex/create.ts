/**
 * Creating a job: one request, sent at most once, and a definite word on what became of it.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import type { BatchJobDestination, BatchJobSource } from "@google/genai";
import { GembatchError } from "../../core/errors.ts";
import { type JobInput, type ProviderJob, ProviderError, type StagedInput } from "../../core/provider.ts";
import { SendOnce, type Sending, withTimeout } from "../shared/http.ts";
import type { Client } from "./client.ts";
import { errorFromThrown, errorsOf } from "./errors.ts";
import { modelPath } from "./models.ts";
import type { Settings } from "./options.ts";
import { objectUri, outputFolder, outputTable, tableUri } from "./places.ts";
import { openSdk } from "./sdk.ts";
import { toJob } from "./states.ts";
import { isStaged, tablePlace } from "./upload.ts";

/** On every job, so that they can be told from others of the project. */
export const jobLabel = { gembatch: "job" } as const;

/**
 * Creates the job of a staged input by the SDK's `batches.create`. Throws ProviderError; `ambiguous` unless it is certain that no job came of it. The staged input is looked for before, because
 * the service takes a job without one and fails it later (gemini-batch.md 3.1).
 */
export async function createJob(client: Client, input: JobInput, staged: StagedInput, options: Sending): Promise<ProviderJob> {
  const { settings } = client;
  const { lane, token } = input;
  const project = settings.requireProject();
  if (!(await isStaged(client, staged, withTimeout(options.signal, settings.timeoutMs.call)))) {
    throw new ProviderError("missing", "The staged input of a batch is gone; it must be staged again.");
  }
  const { src, dest } = inAndOut(settings, token, staged);
  const sender = new SendOnce({ fetch: settings.fetch, timeoutMs: settings.timeoutMs.create, errors: errorsOf("create"), toJob }, options);
  try {
    await openSdk(settings, sender.fetch, project, client.auth).batches.create({
      model: modelPath(lane.model),
      src,
      // The SDK (3.1) has no labels for jobs of its own.
      config: { displayName: token, dest, httpOptions: { extraBody: { labels: { ...settings.labels, ...jobLabel } } } },
    });
  } catch (thrown) {
    if (GembatchError.is(thrown) && !sender.sent) throw thrown;
    // What fails after a job was read from the answer (the SDK's own conversion) does not matter.
    if (!sender.job) throw errorFromThrown("create", thrown, sender.sent);
  }
  if (!sender.job) throw new ProviderError("ambiguous", "Could not create a batch job: the call ended without an answer.");
  return sender.job;
}

function inAndOut(settings: Settings, token: string, { ref }: StagedInput): { src: BatchJobSource; dest: BatchJobDestination } {
  const attempt = newAttempt();
  if (ref.startsWith("bq://")) {
    const output = tableUri(tablePlace(settings, outputTable(token, attempt)));
    return { src: { format: "bigquery", bigqueryUri: ref }, dest: { format: "bigquery", bigqueryUri: output } };
  }
  if (!settings.bucket)
    throw new ProviderError("denied", "The input of this batch lies in a bucket, and vertex() has none any more. Configure one again.");
  const output = objectUri(outputFolder(settings.bucket, token, attempt));
  return { src: { format: "jsonl", gcsUri: [ref] }, dest: { format: "jsonl", gcsUri: output } };
}

/** Part of the name of an output. Nothing depends on its value, only that no two attempts at one batch have the same. */
function newAttempt(): string {
  return randomInt(2 ** 47)
    .toString(36)
    .padStart(10, "0");
}
