/**
 * Staging: the rows of a batch into one object of the bucket, or into a table. Memory does not grow with the rows.
 *
 * @module
 */
import { type JobInput, type Lane, ProviderError, type StagedInput } from "../../core/provider.ts";
import { withTimeout } from "../shared/http.ts";
import { tableShape } from "./check-request.ts";
import type { Client } from "./client.ts";
import { maxInputBytes } from "./limits.ts";
import { familyOf } from "./models.ts";
import type { Settings } from "./options.ts";
import {
  inputObject,
  inputTable,
  loadJobId,
  type ObjectPlace,
  objectUri,
  parseObjectUri,
  parseTableUri,
  type TablePlace,
  tableRowsObject,
  tableUri,
} from "./places.ts";
import { columnsOf, encodeLine } from "./rows.ts";

const pieceBytes = 256 * 1024;
/** A job may queue for 72 hours and run for 24 (gemini-batch.md 3.6); a table that expires before that is made anew. */
const longestJobMs = 4 * 86_400_000;

/**
 * Uploads the rows. A repetition finds the object, or the load job, of the first time under the name that comes from the token; objects and loads are whole or not there. Throws
 * ProviderError; never `ambiguous`.
 */
export async function stageInput(client: Client, input: JobInput, signal: AbortSignal): Promise<StagedInput> {
  const { settings, objects } = client;
  const limited = withTimeout(signal, settings.timeoutMs.upload);
  const { token, lane } = input;
  const place = placeOf(settings, lane);
  if (place === "table") return loadTable(client, input, limited);
  const object = inputObject(place, token);
  await objects.write(object, encodeRows(input, settings, true), limited);
  return { ref: objectUri(object) };
}

/** The bucket, unless the rows need a table or there is no bucket. Throws `denied` for a lane of another configuration. */
function placeOf({ bucket, dataset }: Settings, { shape, method }: Lane): "table" | NonNullable<Settings["bucket"]> {
  const needsTable = shape === tableShape && method !== "embedContent";
  if (needsTable && !dataset) {
    throw new ProviderError("denied", "The rows of this batch need a table, and vertex() has no dataset any more. Configure one again.");
  }
  return needsTable || !bucket ? "table" : bucket;
}

async function loadTable(client: Client, input: JobInput, signal: AbortSignal): Promise<StagedInput> {
  const { settings, objects, tables } = client;
  const { token, lane } = input;
  const { bucket } = settings;
  const table = tablePlace(settings, inputTable(token));
  const rows = () => encodeRows(input, settings, false);
  const object: ObjectPlace | undefined = bucket && tableRowsObject(bucket, token);
  const uri = object && (async () => (await objects.write(object, rows(), signal), objectUri(object)));
  await tables.load(table, { columns: columnsOf[familyOf(lane.model)], jobId: (n) => loadJobId(token, n), uri, rows }, signal);
  if (object) await objects.remove(object, signal);
  const expiresAt = await expireTable(client, table, signal);
  return { ref: tableUri(table), ...(expiresAt === undefined ? {} : { expiresAt: expiresAt - longestJobMs }) };
}

/** The table of this name in the configured dataset. */
export function tablePlace({ dataset, requireProject }: Settings, table: string): TablePlace {
  if (!dataset)
    throw new ProviderError("denied", "The tables of this batch need a dataset, and vertex() has none any more. Configure one again.");
  return { project: dataset.project ?? requireProject(), dataset: dataset.dataset, table };
}

/** When the table will be gone. That it cannot be set keeps nobody from working. */
export async function expireTable({ settings, tables }: Client, table: TablePlace, signal: AbortSignal): Promise<number | undefined> {
  if (settings.tableLifeMs === undefined) return undefined;
  try {
    return await tables.expire(table, settings.tableLifeMs, signal);
  } catch (thrown) {
    if (ProviderError.is(thrown) && !signal.aborted) return undefined;
    throw thrown;
  }
}

/** The lines of all rows, some hundred kilobytes at a time. Throws `refused` for what is more than a job takes. */
async function* encodeRows(input: JobInput, { limits }: Settings, typed: boolean): AsyncGenerator<Uint8Array> {
  let lines: string[] = [];
  let waiting = 0;
  let rows = 0;
  let bytes = 0;
  const piece = (): Uint8Array => {
    const buffer = Buffer.from(lines.join(""));
    lines = [];
    waiting = 0;
    bytes += buffer.length;
    if (bytes > Math.max(maxInputBytes, limits.maxBytes))
      throw new ProviderError("refused", `The input of a batch has more than ${maxInputBytes} bytes.`);
    return buffer;
  };
  for await (const row of input.rows()) {
    rows += 1;
    if (rows > limits.maxRequests) throw new ProviderError("refused", `A batch has more than ${limits.maxRequests} requests.`);
    const line = encodeLine(row, input.lane, typed);
    lines.push(line);
    waiting += line.length;
    if (waiting >= pieceBytes) yield piece();
  }
  if (rows === 0) throw new ProviderError("refused", "A batch without rows cannot be staged.");
  if (lines.length > 0) yield piece();
}

/** Whether the staged input is still there: Vertex AI would take the job without it, and fail it later. */
export async function isStaged({ objects, tables }: Client, { ref }: StagedInput, signal: AbortSignal): Promise<boolean> {
  const object = parseObjectUri(ref);
  if (object) return objects.exists(object, signal);
  const table = parseTableUri(ref);
  return table !== undefined && tables.exists(table, signal);
}

/** Removes the object or table. Missing is fine. */
export async function discardInput({ settings, objects, tables }: Client, { ref }: StagedInput, signal: AbortSignal): Promise<void> {
  const limited = withTimeout(signal, settings.timeoutMs.call);
  const object = parseObjectUri(ref);
  if (object) await objects.remove(object, limited);
  const table = parseTableUri(ref);
  if (table) await tables.remove(table, limited);
}
