/**
 * Creating a job: one request, sent at most once, and a definite word on what became of it.
 *
 * @module
 */
import { type JobInput, type Lane, type ProviderJob, ProviderError, type StagedInput } from "../../core/provider.ts";
import { SendOnce, type Sending } from "../shared/http.ts";
import { type Client, modelPath } from "./client.ts";
import { errorFromThrown, errorsOf } from "./errors.ts";
import type { Settings } from "./options.ts";
import { encodeInline } from "./rows.ts";
import { openSdk } from "./sdk.ts";
import { toJob } from "./states.ts";
import { inlineRef } from "./upload.ts";

type WebhookConfig = Settings["webhookConfig"];

/**
 * Creates the job of a staged input. Throws ProviderError; `ambiguous` unless it is certain that no job came of it.
 *
 * Jobs of files go through the SDK's `batches.create`. Two kinds it cannot make as needed, and they go straight to the same
 * transport: `createEmbeddings` writes a warning to the console at every call, and inline rows, which are REST bodies already,
 * would be converted once more.
 */
export async function createJob(client: Client, input: JobInput, staged: StagedInput, options: Sending): Promise<ProviderJob> {
  const { lane, token } = input;
  const apiKey = client.settings.requireApiKey();
  // What the store throws while rows are read is not the provider's: it goes on as it is.
  const { webhookConfig } = client.settings;
  const body = staged.ref === inlineRef ? await inlineBody(input, webhookConfig) : fileBody(token, staged.ref, webhookConfig);
  const { fetch, timeoutMs } = client.settings;
  const sender = new SendOnce({ fetch, timeoutMs: timeoutMs.create, errors: errorsOf("create"), toJob }, options);
  try {
    if (staged.ref === inlineRef || lane.method === "embedContent") {
      await post(client, lane, body, sender);
    } else {
      await openSdk(client.settings, sender.fetch, apiKey).batches.create({
        model: lane.model,
        src: { fileName: staged.ref },
        config: { displayName: token, ...(webhookConfig ? { webhookConfig } : {}) },
      });
    }
  } catch (thrown) {
    // What fails after a job was read from the answer (the SDK's own conversion) does not matter.
    if (!sender.job) throw errorFromThrown("create", thrown, sender.sent);
  }
  if (!sender.job) throw new ProviderError("ambiguous", "Could not create a batch job: the call ended without an answer.");
  return sender.job;
}

async function post(client: Client, { model, method }: Lane, body: string, sender: SendOnce): Promise<void> {
  const verb = method === "embedContent" ? "asyncBatchEmbedContent" : "batchGenerateContent";
  await sender.fetch(client.url(`${modelPath(model)}:${verb}`), { method: "POST", headers: client.headers(), body });
}

function fileBody(token: string, fileName: string, webhookConfig: WebhookConfig): string {
  return JSON.stringify({ batch: { displayName: token, inputConfig: { fileName }, webhookConfig } });
}

async function inlineBody(input: JobInput, webhookConfig: WebhookConfig): Promise<string> {
  const rows: string[] = [];
  for await (const row of input.rows()) rows.push(encodeInline(row));
  const hook = webhookConfig ? `,"webhookConfig":${JSON.stringify(webhookConfig)}` : "";
  return `{"batch":{"displayName":${JSON.stringify(input.token)},"inputConfig":{"requests":{"requests":[${rows.join(",")}]}}${hook}}}`;
}
