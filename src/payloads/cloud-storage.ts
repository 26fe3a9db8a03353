/**
 * Payloads as objects of Google Cloud Storage.
 *
 * @module
 */
import { checkMethods } from "../core/options.ts";
import type { PayloadStore } from "../core/payload-store.ts";
import { checkNames, checkPrefix, requireText } from "./check-options.ts";
import { asPayloadError, missing } from "./errors.ts";
import { loadPackage } from "./load-package.ts";

/** What is used of `Storage` of `@google-cloud/storage`. */
export interface CloudStorageClient {
  bucket(name: string): {
    file(name: string): {
      save(text: string, options: object): Promise<unknown>;
      download(): Promise<[Uint8Array]>;
      delete(options: object): Promise<unknown>;
    };
  };
}

export interface CloudStoragePayloadsOptions {
  /** The name of the bucket; it must exist. */
  bucket: string;
  /** What the names of the objects begin with, such as `"gembatch/payloads"`. Default: nothing. */
  prefix?: string;
  /** A client of `@google-cloud/storage`. Default: one with application default credentials. */
  storage?: CloudStorageClient;
}

/** Calls that remove objects at the same time. */
const parallel = 16;

/**
 * Payloads as objects `<prefix>/<store id>/<yyyy-mm-dd>/<id>` of a bucket, by the official client `@google-cloud/storage`, which is loaded at the first payload. It needs the permissions
 * `storage.objects.create`, `.get` and `.delete`. Throws `invalid_option`.
 */
export function cloudStoragePayloads(options: CloudStoragePayloadsOptions): PayloadStore {
  checkNames(options, ["bucket", "prefix", "storage"], "cloudStoragePayloads()");
  const bucket = requireText(options.bucket, "bucket");
  return new CloudStoragePayloads(bucket, checkPrefix(options.prefix), checkMethods(options.storage, ["bucket"], "storage"));
}

class CloudStoragePayloads implements PayloadStore {
  readonly name = "cloud-storage";
  readonly #bucket: string;
  readonly #prefix: string;
  #storage: Promise<CloudStorageClient> | undefined;

  constructor(bucket: string, prefix: string, storage: CloudStorageClient | undefined) {
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#storage = storage && Promise.resolve(storage);
  }

  async put(key: string, text: string, signal?: AbortSignal): Promise<void> {
    await asPayloadError(`The payload ${key} could not be written to bucket ${this.#bucket}`, async () => {
      signal?.throwIfAborted();
      const file = await this.#file(key);
      // One request: an object appears whole or not at all, and the client checks its CRC32C on both ways. Only with a precondition may the client repeat it by itself.
      const options = { resumable: false, contentType: "application/json", preconditionOpts: { ifGenerationMatch: 0 } };
      await file.save(text, options).catch((error: unknown) => {
        // It is there already: a key never gets another text.
        if (codeOf(error) !== 412) throw error;
      });
    });
  }

  async get(key: string): Promise<string> {
    return asPayloadError(`The payload ${key} could not be read from bucket ${this.#bucket}`, async () => {
      try {
        const [bytes] = await (await this.#file(key)).download();
        return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
      } catch (error) {
        if (isNoObject(error)) throw missing(`bucket ${this.#bucket}`, key, error);
        throw error;
      }
    });
  }

  async delete(keys: readonly string[]): Promise<void> {
    await asPayloadError(`${keys.length} payloads could not be removed from bucket ${this.#bucket}`, async () => {
      const rest = keys.values();
      const remove = async (): Promise<void> => {
        for (const key of rest) await (await this.#file(key)).delete({ ignoreNotFound: true });
      };
      await Promise.all(Array.from({ length: Math.min(parallel, keys.length) }, remove));
    });
  }

  async #file(key: string) {
    this.#storage ??= connect();
    const storage = await this.#storage.catch((error: unknown) => {
      this.#storage = undefined;
      throw error;
    });
    return storage.bucket(this.#bucket).file(`${this.#prefix}${key}`);
  }
}

async function connect(): Promise<CloudStorageClient> {
  const name = "@google-cloud/storage";
  const { IdempotencyStrategy, Storage } = await loadPackage(name, "cloudStoragePayloads()", async () => import("@google-cloud/storage"));
  // To remove what is removed already does no harm.
  return new Storage({ retryOptions: { idempotencyStrategy: IdempotencyStrategy.RetryAlways } });
}

const codeOf = (error: unknown): unknown => (error as { code?: unknown } | undefined)?.code;

/** A bucket that is not there is 404 as well, and another matter. */
function isNoObject(error: unknown): boolean {
  return codeOf(error) === 404 && !/bucket does not exist/i.test((error as Error).message);
}
