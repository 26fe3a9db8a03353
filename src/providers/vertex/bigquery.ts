/**
 * Tables in BigQuery, by the official client (`@google-cloud/bigquery`, read and run at 9.3). The only file that loads it.
 *
 * @module
 */
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { BigQuery, Job, Table } from "@google-cloud/bigquery";
import { ProviderError } from "../../core/provider.ts";
import type { JsonObject } from "../shared/json.ts";
import type { Settings } from "./options.ts";
import { loadPackage } from "./packages.ts";
import type { TablePlace } from "./places.ts";
import { httpCode, serviceError } from "./service-errors.ts";
import { withFailure } from "./storage.ts";
import { abortable } from "./waiting.ts";

/** All methods throw ProviderError, `unavailable` when the signal aborts. */
export interface TableStore {
  exists(place: TablePlace, signal: AbortSignal): Promise<boolean>;
  /** Loads newline-delimited JSON into a table, once: a repetition finds the load job of the first time and waits for it. */
  load(place: TablePlace, source: LoadSource, signal: AbortSignal): Promise<void>;
  /** Lets the table expire so long after its creation, unless it has a time already. Returns that time, in milliseconds since 1970, if it has one now. */
  expire(place: TablePlace, lifeMs: number, signal: AbortSignal): Promise<number | undefined>;
  /** All rows, a page at a time; values of JSON columns are texts. */
  readPages(place: TablePlace, signal: AbortSignal): AsyncGenerator<JsonObject[]>;
  /** Missing is fine. */
  remove(place: TablePlace, signal: AbortSignal): Promise<void>;
}

export interface LoadSource {
  columns: readonly { name: string; type: string }[];
  /** The id of the n-th attempt at loading this table. */
  jobId: (n: number) => string;
  /** Where the rows lie, once they do; without it, `rows` are sent along. */
  uri: (() => Promise<string>) | undefined;
  rows: () => AsyncIterable<Uint8Array>;
}

/** A page is held in memory; the service cuts it at 10 MB or so. */
const pageRows = 500;
/** A table that was deleted, or whose load broke, is loaded anew under the next id: ids stay taken for ever. */
const maxLoads = 20;
const loading = "load the input of a batch into a table";

export function createTableStore(settings: Settings): TableStore {
  let opened: Promise<BigQuery> | undefined;
  const clientOf = async (): Promise<BigQuery> => {
    opened ??= open(settings);
    try {
      return await opened;
    } catch (thrown) {
      opened = undefined;
      throw thrown;
    }
  };
  const tableOf = async ({ project, dataset, table }: TablePlace): Promise<Table> =>
    (await clientOf()).dataset(dataset, { projectId: project }).table(table);
  const attempt = async <T>(doing: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> => {
    try {
      return await abortable(call, signal);
    } catch (thrown) {
      throw serviceError("BigQuery", doing, thrown);
    }
  };
  const metadataOf = (place: TablePlace, signal: AbortSignal): Promise<JsonObject> =>
    attempt("look at a table of a batch", signal, async () => (await (await tableOf(place)).getMetadata())[0] as JsonObject);

  const store: TableStore = {
    async exists(place, signal) {
      try {
        await metadataOf(place, signal);
        return true;
      } catch (thrown) {
        if (ProviderError.is(thrown) && thrown.failure === "missing") return false;
        throw thrown;
      }
    },

    async load(place, source, signal) {
      for (let n = 0; n < maxLoads; n += 1) {
        const outcome = await loadOnce(await clientOf(), place, source, source.jobId(n), signal);
        if (outcome === "loaded" || (outcome === "repeated" && (await store.exists(place, signal)))) return;
      }
      throw new ProviderError("unavailable", `Could not ${loading}: ${maxLoads} loads of it are gone or failed.`);
    },

    async expire(place, lifeMs, signal) {
      const { creationTime, expirationTime } = await metadataOf(place, signal);
      if (expirationTime !== undefined) return Number(expirationTime);
      const at = Number(creationTime) + lifeMs;
      if (!Number.isFinite(at)) return undefined;
      await attempt("set the expiration of a table of a batch", signal, async () =>
        (await tableOf(place)).setMetadata({ expirationTime: String(at) }),
      );
      return at;
    },

    async *readPages(place, signal) {
      const table = await tableOf(place);
      let query: JsonObject | undefined = { autoPaginate: false, maxResults: pageRows };
      while (query) {
        const page: JsonObject = query;
        const [rows, next] = await attempt("download the results of a batch job", signal, async () => table.getRows(page));
        yield rows as JsonObject[];
        query = next ? { ...(next as JsonObject), autoPaginate: false } : undefined;
      }
    },

    remove: (place, signal) =>
      attempt("remove a table of a batch", signal, async () => {
        await (await tableOf(place)).delete({ ignoreNotFound: true });
      }),
  };
  return store;
}

async function open({ bigquery, findProject, bigqueryEndpoint, authClient }: Settings): Promise<BigQuery> {
  if (bigquery) return bigquery as BigQuery;
  const { BigQuery } = await loadPackage(
    "@google-cloud/bigquery",
    "inputs and outputs in a dataset",
    () => import("@google-cloud/bigquery"),
  );
  const projectId = findProject();
  const isEmulator = bigqueryEndpoint !== undefined || Boolean(process.env["BIGQUERY_EMULATOR_HOST"]);
  const auth = authClient === undefined || authClient === "none" ? (isEmulator ? noCredentials : undefined) : authClient;
  return new BigQuery({
    ...(projectId === undefined ? {} : { projectId }),
    ...(bigqueryEndpoint === undefined ? {} : { apiEndpoint: bigqueryEndpoint }),
    ...(auth === undefined ? {} : { authClient: auth as never }),
  });
}

/** Without a client of its own it asks the metadata server for credentials first, which takes seconds where there is none (gemini-batch.md 4.2). */
const noCredentials = { getRequestHeaders: async () => new Headers() };

// Load jobs ----------------------------------------------------------------------------------------------------------

type LoadOutcome = "loaded" | "repeated" | "broken";

/** `repeated`: a job of this id has succeeded before. `broken`: one has failed for reasons that may pass. Throws what no repetition mends. */
async function loadOnce(client: BigQuery, place: TablePlace, source: LoadSource, jobId: string, signal: AbortSignal): Promise<LoadOutcome> {
  const configuration = {
    sourceFormat: "NEWLINE_DELIMITED_JSON",
    schema: { fields: source.columns.map((column) => ({ ...column })) },
    writeDisposition: "WRITE_TRUNCATE",
    createDisposition: "CREATE_IF_NEEDED",
  };
  const uri = await source.uri?.();
  const rows = withFailure(source.rows());
  try {
    if (uri === undefined) await sendRows(client, place, rows.chunks, { ...configuration, jobId }, signal);
    else await insertJob(client, place, { ...configuration, sourceUris: [uri] }, jobId, signal);
    return "loaded";
  } catch (thrown) {
    // What the rows themselves throw (the store, its disk) is not the service's: it goes on as it is.
    if (rows.failure) throw rows.failure.thrown;
    if (httpCode(thrown) !== 409) throw loadError(place, thrown);
  }
  try {
    await ended(await existingJob(client, place, jobId), signal);
    return "repeated";
  } catch (thrown) {
    const error = loadError(place, thrown);
    if (signal.aborted || !ProviderError.is(error) || error.failure === "refused" || httpCode(thrown) !== undefined) throw error;
    return "broken";
  }
}

async function insertJob(
  client: BigQuery,
  { project, dataset, table }: TablePlace,
  load: object,
  jobId: string,
  signal: AbortSignal,
): Promise<void> {
  const destinationTable = { projectId: project, datasetId: dataset, tableId: table };
  const [job] = await abortable(() => client.createJob({ jobId, configuration: { load: { ...load, destinationTable } } }), signal);
  await ended(job, signal);
}

/** Uploads rows and job in one request; the client's stream ends when the job has. */
async function sendRows(
  client: BigQuery,
  { project, dataset, table }: TablePlace,
  rows: AsyncIterable<Uint8Array>,
  metadata: object,
  signal: AbortSignal,
): Promise<void> {
  const target = client.dataset(dataset, { projectId: project }).table(table).createWriteStream(metadata);
  await pipeline(Readable.from(rows, { objectMode: false }), target, { signal });
}

/** A job that somebody has made already. Outside of US and EU its location is part of its name; a dataset knows its own. */
async function existingJob(client: BigQuery, { project, dataset }: TablePlace, jobId: string): Promise<Job> {
  try {
    return (await client.job(jobId).get())[0];
  } catch (thrown) {
    if (httpCode(thrown) !== 404) throw thrown;
  }
  const { location } = (await client.dataset(dataset, { projectId: project }).getMetadata())[0] as { location?: string };
  return client.job(jobId, location === undefined ? {} : { location });
}

/** Waits for the end of a job, by the client's own polling. Throws what it failed with. */
async function ended(job: Job, signal: AbortSignal): Promise<void> {
  // When nobody waits any more it stops to poll; what its last look comes to is nobody's then.
  job.on("error", () => {});
  await once(job, "complete", { signal });
}

/** A dataset that is not there is a mistake in the configuration, and not something that can be staged again. */
function loadError({ dataset }: TablePlace, thrown: unknown): Error {
  const error = serviceError("BigQuery", loading, thrown);
  if (!ProviderError.is(error) || error.failure !== "missing") return error;
  return new ProviderError("denied", `${error.message} Check the option dataset (${dataset}), and that it is where the jobs run.`, {
    cause: thrown,
  });
}
