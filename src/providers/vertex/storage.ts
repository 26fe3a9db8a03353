/**
 * Objects in Cloud Storage, by the official client (`@google-cloud/storage`, read and run at 8.4). The only file that loads it.
 *
 * @module
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Bucket, File, Storage } from "@google-cloud/storage";
import { ProviderError } from "../../core/provider.ts";
import { parseEnvelope } from "../shared/http-errors.ts";
import { mapParallel } from "../shared/parallel.ts";
import type { Settings } from "./options.ts";
import { loadPackage } from "./packages.ts";
import type { ObjectPlace } from "./places.ts";
import { httpCode, serviceError } from "./service-errors.ts";
import { abortable } from "./waiting.ts";

/** All methods throw ProviderError, `unavailable` when the signal aborts. */
export interface ObjectStore {
  exists(place: ObjectPlace, signal: AbortSignal): Promise<boolean>;
  /** Writes the object unless it is there already. It appears whole or not at all. */
  write(place: ObjectPlace, chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
  /** What lies in a folder, at any depth, sorted by name. */
  list(folder: ObjectPlace, signal: AbortSignal): Promise<StoredObject[]>;
  read(place: ObjectPlace, signal: AbortSignal): AsyncGenerator<Uint8Array>;
  /** Missing is fine. */
  remove(place: ObjectPlace, signal: AbortSignal): Promise<void>;
  /** Removes what lies in a folder. */
  removeFolder(folder: ObjectPlace, signal: AbortSignal): Promise<void>;
}

export interface StoredObject extends ObjectPlace {
  bytes: number | undefined;
}

/** Pieces of an upload: each can be sent again without the others. A multiple of 256 KiB. */
const chunkSize = 8 * 1024 * 1024;
const maxParallel = 8;

export function createObjectStore(settings: Settings): ObjectStore {
  let opened: Promise<Storage> | undefined;
  const bucketOf = async (name: string): Promise<Bucket> => {
    opened ??= open(settings);
    try {
      return (await opened).bucket(name);
    } catch (thrown) {
      opened = undefined;
      throw thrown;
    }
  };
  const fileOf = async ({ bucket, name }: ObjectPlace): Promise<File> => (await bucketOf(bucket)).file(name);
  const attempt = async <T>(doing: string, signal: AbortSignal, call: () => Promise<T>): Promise<T> => {
    try {
      return await abortable(call, signal);
    } catch (thrown) {
      throw serviceError("Cloud Storage", doing, thrown);
    }
  };
  const store: ObjectStore = {
    exists: (place, signal) => attempt("look for the input of a batch", signal, async () => (await (await fileOf(place)).exists())[0]),

    async write(place, chunks, signal) {
      const file = await fileOf(place);
      const writing = {
        resumable: true,
        chunkSize,
        preconditionOpts: { ifGenerationMatch: 0 },
        metadata: { contentType: "application/jsonl" },
      };
      // What the rows themselves throw (the store, its disk) is not the service's: it goes on as it is.
      const source = withFailure(chunks);
      try {
        await pipeline(Readable.from(source.chunks, { objectMode: false }), file.createWriteStream(writing), { signal });
      } catch (thrown) {
        if (source.failure) throw source.failure.thrown;
        if (httpCode(thrown) === 412) return;
        // It arrived with another checksum, and the client could not delete it: the next attempt must not take it for its own.
        if ((thrown as { code?: unknown }).code === "FILE_NO_UPLOAD_DELETE") await store.remove(place, signal);
        throw uploadError(place.bucket, thrown);
      }
    },

    list: ({ bucket, name }, signal) =>
      attempt("list the results of a batch job", signal, async () => {
        const [files] = await (await bucketOf(bucket)).getFiles({ prefix: `${name}/` });
        const found = files.map((file) => ({ bucket, name: file.name, bytes: sizeOf(file) }));
        return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
      }),

    async *read({ bucket, name }, signal) {
      const doing = "download the results of a batch job";
      const response = await attempt(doing, signal, async () => {
        const { storage } = await bucketOf(bucket);
        return openObject(storage, settings.patientFetch, `b/${encodeURIComponent(bucket)}/o/${encodeURIComponent(name)}`, signal);
      });
      try {
        const chunks: AsyncIterable<Uint8Array> | [] = response.body ?? [];
        yield* chunks;
      } catch (thrown) {
        throw serviceError("Cloud Storage", doing, thrown);
      }
    },

    remove: (place, signal) =>
      attempt("remove an object of a batch", signal, async () => {
        await (await fileOf(place)).delete({ ignoreNotFound: true });
      }),

    async removeFolder(folder, signal) {
      const found = await store.list(folder, signal);
      await mapParallel(found, maxParallel, (place) => store.remove(place, signal));
    },
  };
  return store;
}

async function open({ storage, findProject, storageEndpoint, authClient }: Settings): Promise<Storage> {
  if (storage) return storage as Storage;
  const { Storage } = await loadPackage("@google-cloud/storage", "inputs and outputs in a bucket", () => import("@google-cloud/storage"));
  const projectId = findProject();
  return new Storage({
    ...(projectId === undefined ? {} : { projectId }),
    ...(storageEndpoint === undefined ? {} : { apiEndpoint: storageEndpoint }),
    ...(authClient === undefined || authClient === "none" ? {} : { authClient: authClient as never }),
  });
}

/**
 * `GET …?alt=media` with the endpoint and the credentials of the client. Its own read stream (8.4) writes two warnings about listeners to the console at every download, and cannot be aborted
 * while it waits.
 */
async function openObject(client: Storage, fetch: typeof globalThis.fetch, path: string, signal: AbortSignal): Promise<Response> {
  const url = `${client.baseUrl}/${path}?alt=media`;
  const isEmulator = client.customEndpoint && !client.useAuthWithCustomEndpoint;
  const headers = new Headers(isEmulator ? {} : await client.authClient.getRequestHeaders(url));
  // No compression: the length can be checked, and a cut gzip stream would be taken for a whole one.
  headers.set("accept-encoding", "identity");
  const response = await fetch(url, { headers, signal });
  if (response.ok) return response;
  throw Object.assign(new Error(parseEnvelope(await response.text())?.message ?? "the answer is no object"), { code: response.status });
}

/** A bucket that is not there is a mistake in the configuration, and not something that can be staged again. */
function uploadError(bucket: string, thrown: unknown): Error {
  const error = serviceError("Cloud Storage", "upload the input of a batch", thrown);
  if (!ProviderError.is(error) || error.failure !== "missing") return error;
  return new ProviderError("denied", `${error.message} Check the option bucket: there is no bucket ${bucket}.`, { cause: thrown });
}

function sizeOf(file: File): number | undefined {
  const size = Number(file.metadata.size ?? Number.NaN);
  return Number.isInteger(size) ? size : undefined;
}

/** The same chunks, and what they threw: a stream wraps it, or replaces it by an abortion. */
export function withFailure(given: AsyncIterable<Uint8Array>): {
  chunks: AsyncGenerator<Uint8Array>;
  failure: { thrown: unknown } | undefined;
} {
  const source: { failure: { thrown: unknown } | undefined } = { failure: undefined };
  const chunks = (async function* () {
    try {
      yield* given;
    } catch (thrown) {
      source.failure = { thrown };
      throw thrown;
    }
  })();
  return Object.assign(source, { chunks });
}
