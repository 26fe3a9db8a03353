/**
 * Reading results: a streamed download split at line breaks, or the items inside the operation.
 *
 * @module
 */
import { type ProviderJob, ProviderError, type ResultRow } from "../../core/provider.ts";
import { readRows } from "../shared/lines.ts";
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
  const groups = job.output === inlineOutput ? readInline(client, job.name, signal) : readFile(client, job.output, signal);
  // The one generator that every row goes through.
  for await (const rows of groups) for (const row of rows) yield row;
}

async function* readInline(client: Client, name: string, signal: AbortSignal): AsyncGenerator<ResultRow[]> {
  const operation = await client.json("get", "GET", resourcePath(name, "batches"), signal);
  const items = outputsOf(operation)
    .map(inlineItems)
    .find((found) => found !== undefined);
  if (!items) throw new ProviderError("unavailable", `${name} has no output yet.`);
  yield items.map((item) => decodeItem(item));
}

/**
 * `GET files/{id}:download?alt=media`. The id of an output file is longer than the file methods take, so nothing else is asked about
 * it (gemini-batch.md 1.7).
 */
async function* readFile(client: Client, file: string, signal: AbortSignal): AsyncGenerator<ResultRow[]> {
  const response = await client.open("download", `${resourcePath(file, "files")}:download?alt=media`, signal);
  const header = response.headers.get("content-length");
  const expected = header === null || (response.headers.get("content-encoding") ?? "identity") !== "identity" ? undefined : Number(header);
  yield* readRows({
    chunks: chunksOf(response),
    expected,
    maxLineBytes: client.settings.maxLineBytes,
    decode: decodeLine,
    thrown: (thrown) => errorFromThrown("download", thrown),
  });
}

async function* chunksOf({ body }: Response): AsyncGenerator<Uint8Array> {
  const chunks: AsyncIterable<Uint8Array> | [] = body ?? [];
  yield* chunks;
}
