/**
 * Reading results: the lines of the objects in a job's output folder, or the rows of its output table.
 *
 * @module
 */
import { type Lane, type ProviderJob, ProviderError, type ResultRow } from "../../core/provider.ts";
import { readRows } from "../shared/lines.ts";
import type { Client } from "./client.ts";
import { type Family, familyOf } from "./models.ts";
import { type ObjectPlace, parseObjectUri, parseTableUri, type TablePlace } from "./places.ts";
import { decodeLine, decodeTableRow } from "./rows.ts";
import { serviceError } from "./service-errors.ts";
import type { StoredObject } from "./storage.ts";
import { toJobState } from "./states.ts";
import { expireTable } from "./upload.ts";

/**
 * The rows of a job's output, in the same order each time. Throws `missing` if the output is gone, `unavailable` if there is none yet or the connection broke; rows that came before
 * that were right, and come again at the next try. A row may come twice, from a final and from an incremental object: the final one first.
 */
export async function* readResults(client: Client, job: ProviderJob, lane: Lane, signal: AbortSignal): AsyncGenerator<ResultRow> {
  if (job.output === undefined) throw new ProviderError("unavailable", `${job.name} has no output yet.`);
  const family = familyOf(lane.model);
  const folder = parseObjectUri(job.output);
  const table = parseTableUri(job.output);
  const groups = folder
    ? readFolder(client, folder, family, succeeded(job), signal)
    : table
      ? readTable(client, table, family, signal)
      : undefined;
  if (groups === undefined) throw new ProviderError("missing", `The output of ${job.name} is in no place that gembatch can read.`);
  // The one generator that every row goes through.
  for await (const rows of groups) for (const row of rows) yield row;
}

/** A job that ended early may have written nothing. */
function succeeded({ rawStatus }: ProviderJob): boolean {
  return rawStatus === "" || toJobState(rawStatus) === "succeeded";
}

async function* readFolder(
  { objects, settings }: Client,
  folder: ObjectPlace,
  family: Family,
  mustBeThere: boolean,
  signal: AbortSignal,
): AsyncGenerator<ResultRow[]> {
  const files = resultFiles(await objects.list(folder, signal));
  if (files.length === 0 && mustBeThere)
    throw new ProviderError("missing", "The output of a batch job is gone: its folder has no predictions.");
  for (const file of files) {
    yield* readRows({
      chunks: objects.read(file, signal),
      expected: file.bytes,
      maxLineBytes: settings.maxLineBytes,
      decode: (line) => decodeLine(line, family),
      thrown: (thrown) => serviceError("Cloud Storage", "download the results of a batch job", thrown),
    });
  }
}

/** `predictions.jsonl`, shards of it, and `incremental_predictions…` behind them (gemini-batch.md 3.3): an error there may have become an answer at the end. */
export function resultFiles<T extends Pick<StoredObject, "name">>(files: readonly T[]): T[] {
  const named = files.filter(({ name }) => /predictions[^/]*\.jsonl[^/]*$/.test(name));
  const isIncremental = ({ name }: T): boolean => /incremental[^/]*$/.test(name);
  return [...named.filter((file) => !isIncremental(file)), ...named.filter(isIncremental)];
}

async function* readTable(client: Client, table: TablePlace, family: Family, signal: AbortSignal): AsyncGenerator<ResultRow[]> {
  // The service made it, without an end.
  await expireTable(client, table, signal);
  for await (const page of client.tables.readPages(table, signal)) yield page.map((row) => decodeTableRow(row, family));
}
