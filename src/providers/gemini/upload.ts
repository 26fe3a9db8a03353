/**
 * Staging: the rows of a batch into a temporary file, and the file into the Files API. Memory does not grow with the rows.
 *
 * The SDK's `files.upload` sends pieces of 8 MiB with the resumable protocol (read in its source, 3.1). Given a path it holds each
 * piece twice, and hundreds of megabytes wait for the garbage collector; given a Blob of the file nothing is held. It ignores
 * `config.abortSignal`, and `config.httpOptions` reach only the first of its requests; so the signal, the timeout and the mapping of
 * errors sit in the transport that it is given.
 *
 * @module
 */
import { openAsBlob } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { GembatchError } from "../../core/errors.ts";
import { type BatchRow, type JobInput, ProviderError, type StagedInput } from "../../core/provider.ts";
import { withTimeout } from "../shared/http.ts";
import { type Client, resourcePath } from "./client.ts";
import { errorFromAnswer, errorFromThrown } from "./errors.ts";
import { maxInlineBytes } from "./limits.ts";
import { encodeInline, encodeLine } from "./rows.ts";
import { openSdk } from "./sdk.ts";

/** The `ref` of an input that travels inside the create call. */
export const inlineRef = "inline";

/** Files live 48 hours; they are staged again an hour before that, so that a job that is created with one can still start. */
const fileLifeMs = 48 * 3_600_000;
const expiryMarginMs = 3_600_000;
const writeBytes = 64 * 1024;

/** Uploads the rows, or decides that they travel inline. Throws ProviderError; an upload never ends `ambiguous`. */
export async function stageInput(client: Client, input: JobInput, signal: AbortSignal): Promise<StagedInput> {
  if (client.settings.mode === "inline" && (await fitsInline(input))) return { ref: inlineRef };
  const apiKey = client.settings.requireApiKey();
  const folder = await makeFolder(client.settings.tempDir);
  try {
    const path = join(folder, "input.jsonl");
    const bytes = await writeRows(path, input.rows(), signal);
    if (bytes === 0) throw new ProviderError("refused", "A batch without rows cannot be staged.");
    return await uploadFile(client, path, bytes, input.token, apiKey, signal);
  } catch (thrown) {
    // What the store or the disk throws is not the provider's: it goes on as it is.
    if (signal.aborted && !ProviderError.is(thrown)) throw errorFromThrown("upload", thrown);
    throw thrown;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function fitsInline(input: JobInput): Promise<boolean> {
  if (input.bytes >= maxInlineBytes) return false;
  let bytes = 1024 + Buffer.byteLength(input.token);
  for await (const row of input.rows()) {
    bytes += Buffer.byteLength(encodeInline(row)) + 1;
    if (bytes >= maxInlineBytes) return false;
  }
  return true;
}

async function makeFolder(parent: string): Promise<string> {
  try {
    return await mkdtemp(join(parent, "gembatch-"));
  } catch (cause) {
    throw new GembatchError("provider_error", `No temporary folder could be made in ${parent}.`, {
      retryable: true,
      hint: "Set tempDir of gemini().",
      cause,
    });
  }
}

/** Writes one line a row, 256 KiB at a time; the next rows are asked for when the last piece is on disk. Returns the file's bytes. */
async function writeRows(path: string, rows: AsyncIterable<BatchRow>, signal: AbortSignal): Promise<number> {
  const file = await open(path, "wx", 0o600);
  let lines: string[] = [];
  let waiting = 0;
  let bytes = 0;
  const flush = async (): Promise<void> => {
    const piece = Buffer.from(lines.join(""));
    lines = [];
    waiting = 0;
    bytes += piece.length;
    await file.writeFile(piece);
    signal.throwIfAborted();
  };
  try {
    for await (const row of rows) {
      const line = encodeLine(row);
      lines.push(line);
      waiting += line.length;
      if (waiting >= writeBytes) await flush();
    }
    if (lines.length > 0) await flush();
    return bytes;
  } finally {
    await file.close();
  }
}

async function uploadFile(
  client: Client,
  path: string,
  bytes: number,
  token: string,
  apiKey: string,
  signal: AbortSignal,
): Promise<StagedInput> {
  const { settings } = client;
  const transport: typeof fetch = async (url, init) => {
    const response = await settings.fetch(url, { ...init, redirect: "manual", signal: withTimeout(signal, settings.timeoutMs.upload) });
    if (response.ok) return response;
    throw errorFromAnswer("upload", {
      status: response.status,
      body: await response.text(),
      retryAfter: response.headers.get("retry-after"),
    });
  };
  let file;
  try {
    const sdk = openSdk(settings, transport, apiKey);
    file = await sdk.files.upload({ file: await openAsBlob(path), config: { mimeType: "application/jsonl", displayName: token } });
  } catch (thrown) {
    throw errorFromThrown("upload", thrown);
  }
  const { name, state, sizeBytes, createTime, expirationTime } = fieldsOf(file);
  if (name === undefined) throw new ProviderError("unavailable", "Gemini took the upload but did not say under which name.");
  if (state === "FAILED" || (sizeBytes !== undefined && Number(sizeBytes) !== bytes)) {
    throw new ProviderError("unavailable", "Gemini did not store the upload as it was sent.");
  }
  const created = Date.parse(createTime ?? "");
  const expires = Number.isNaN(Date.parse(expirationTime ?? "")) ? created + fileLifeMs : Date.parse(expirationTime!);
  return { ref: name, ...(Number.isNaN(expires) ? {} : { expiresAt: expires - expiryMarginMs }) };
}

/** What the answer says in texts and numbers, in spite of the SDK's types. */
function fieldsOf(file: object | undefined): Partial<Record<string, string>> {
  const fields = Object.entries(file ?? {}).filter(([, value]) => (typeof value === "string" && value !== "") || typeof value === "number");
  return Object.fromEntries(fields.map(([name, value]) => [name, String(value)]));
}

/** Deletes the uploaded file. One that is gone answers 403 or 404; both are fine. */
export async function discardInput(client: Client, staged: StagedInput, signal: AbortSignal): Promise<void> {
  if (staged.ref === inlineRef) return;
  try {
    await client.json("delete", "DELETE", resourcePath(staged.ref, "files"), signal);
  } catch (thrown) {
    if (ProviderError.is(thrown) && (thrown.failure === "missing" || thrown.status === 403)) return;
    throw thrown;
  }
}
