/**
 * Reading results: a streamed download split at line breaks, or the items inside the operation.
 *
 * @module
 */
import { isUtf8 } from "node:buffer";
import { type ProviderJob, ProviderError, type ResultRow } from "../../core/provider.ts";
import { type Client, resourcePath } from "./client.ts";
import { errorFromThrown } from "./errors.ts";
import { decodeItem, decodeLine } from "./rows.ts";
import { inlineItems, inlineOutput, outputsOf } from "./states.ts";

/**
 * The rows of a job's output. Throws `missing` if the output is gone, `unavailable` if there is none yet or the connection broke;
 * rows that came before that were right, and come again at the next try.
 */
export async function* readResults(client: Client, job: ProviderJob, signal: AbortSignal): AsyncGenerator<ResultRow> {
  if (job.output === undefined) throw new ProviderError("unavailable", `${job.name} has no output yet.`);
  if (job.output === inlineOutput) yield* readInline(client, job.name, signal);
  else yield* readFile(client, job.output, signal);
}

async function* readInline(client: Client, name: string, signal: AbortSignal): AsyncGenerator<ResultRow> {
  const operation = await client.json("get", "GET", resourcePath(name, "batches"), signal);
  const items = outputsOf(operation)
    .map(inlineItems)
    .find((found) => found !== undefined);
  if (!items) throw new ProviderError("unavailable", `${name} has no output yet.`);
  for (const item of items) yield decodeItem(item);
}

/**
 * `GET files/{id}:download?alt=media`. The id of an output file is longer than the file methods take, so nothing else is asked about
 * it (gemini-batch.md 1.7).
 */
async function* readFile(client: Client, file: string, signal: AbortSignal): AsyncGenerator<ResultRow> {
  const response = await client.open("download", `${resourcePath(file, "files")}:download?alt=media`, signal);
  const header = response.headers.get("content-length");
  const expected = header === null || (response.headers.get("content-encoding") ?? "identity") !== "identity" ? undefined : Number(header);
  let received = 0;
  const count = async function* (): AsyncGenerator<Uint8Array> {
    const chunks: AsyncIterable<Uint8Array> | [] = response.body ?? [];
    for await (const chunk of chunks) {
      received += chunk.byteLength;
      yield chunk;
    }
  };
  const lines = splitLines(count(), client.settings.maxLineBytes);
  try {
    for (;;) {
      let step;
      try {
        step = await lines.next();
      } catch (thrown) {
        throw errorFromThrown("download", thrown);
      }
      if (step.done) break;
      const line = step.value;
      if (line.bytes === undefined) {
        yield { key: undefined, problem: `a line of more than ${client.settings.maxLineBytes} bytes` };
        continue;
      }
      const row = decodeLine(line.bytes);
      // A bad last line without a line break is a cut, unless the announced length was received: then the file itself is like that.
      if (line.open && row && row.key === undefined && !isJson(line.bytes) && received !== expected) throw cutOff();
      if (row) yield row;
    }
  } finally {
    await lines.return();
  }
  if (expected !== undefined && received !== expected) throw cutOff();
}

function cutOff(): ProviderError {
  return new ProviderError("unavailable", "The download of the results of a batch job was cut off.");
}

function isJson(line: Uint8Array): boolean {
  if (!isUtf8(line)) return false;
  try {
    JSON.parse(Buffer.from(line.buffer, line.byteOffset, line.byteLength).toString());
    return true;
  } catch {
    return false;
  }
}

/** A line without its line break. `open`: the last one, which had none. No `bytes`: it was too long to keep. */
export interface Line {
  bytes: Uint8Array | undefined;
  open: boolean;
}

/** Splits at 0x0A over bytes. Never holds more than one line (up to `maxBytes`) and one chunk. */
export async function* splitLines(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Line, void> {
  let parts: Uint8Array[] = [];
  let held = 0;
  let tooLong = false;
  const keep = (part: Uint8Array): void => {
    held += part.byteLength;
    if (held > maxBytes) {
      tooLong = true;
      parts = [];
    } else if (part.byteLength > 0) parts.push(part);
  };
  const take = (open: boolean): Line => {
    const line = { bytes: tooLong ? undefined : parts.length === 1 ? parts[0] : Buffer.concat(parts), open };
    parts = [];
    held = 0;
    tooLong = false;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      keep(chunk.subarray(start, end));
      yield take(false);
      start = end + 1;
    }
    keep(chunk.subarray(start));
  }
  if (held > 0) yield take(true);
}
