/**
 * Payloads as objects of S3, or of any service that speaks its protocol.
 *
 * @module
 */
import type * as S3 from "@aws-sdk/client-s3";
import { checkMethods, checkType } from "../core/options.ts";
import type { PayloadStore } from "../core/payload-store.ts";
import { checkNames, checkPrefix, requireText } from "./check-options.ts";
import { asPayloadError, missing } from "./errors.ts";
import { loadPackage } from "./load-package.ts";

/** What is used of `S3Client` of `@aws-sdk/client-s3`. */
export interface S3ClientLike {
  send(command: object, options?: { abortSignal?: AbortSignal }): Promise<unknown>;
}

export interface S3PayloadsOptions {
  /** The name of the bucket; it must exist. */
  bucket: string;
  /** What the names of the objects begin with, such as `"gembatch/payloads"`. Default: nothing. */
  prefix?: string;
  /** A client of `@aws-sdk/client-s3`, which stays yours to close. Default: one with the credentials of the environment. */
  client?: S3ClientLike;
  /** Where the service is, if it is not AWS. */
  endpoint?: string;
  /** Default: `AWS_REGION`, or the profile's. With an `endpoint`: `"auto"`. */
  region?: string;
  /** The bucket stands in the path of URLs, not in their host. Most services of one's own want that. Default false. */
  forcePathStyle?: boolean;
}

/** What one call removes at most. */
const chunk = 1_000;

interface Connection {
  sdk: typeof S3;
  client: S3ClientLike;
  close(): void;
}

/**
 * Payloads as objects `<prefix>/<store id>/<yyyy-mm-dd>/<id>` of a bucket, by the official client `@aws-sdk/client-s3`, which is loaded at the first payload. It needs the permissions
 * `s3:PutObject`, `s3:GetObject` and `s3:DeleteObject`, and `s3:ListBucket`: without it S3 does not say that an object is missing, but that access is denied. Throws `invalid_option`.
 */
export function s3Payloads(options: S3PayloadsOptions): PayloadStore {
  checkNames(options, ["bucket", "prefix", "client", "endpoint", "region", "forcePathStyle"], "s3Payloads()");
  requireText(options.bucket, "bucket");
  for (const name of ["endpoint", "region"] as const) if (options[name] !== undefined) requireText(options[name], name);
  checkType(options.forcePathStyle, "boolean", "forcePathStyle");
  checkMethods(options.client, ["send"], "client");
  return new S3Payloads({ ...options, prefix: checkPrefix(options.prefix) });
}

class S3Payloads implements PayloadStore {
  readonly name = "s3";
  readonly #options: S3PayloadsOptions & { prefix: string };
  #connection: Promise<Connection> | undefined;

  constructor(options: S3PayloadsOptions & { prefix: string }) {
    this.#options = options;
  }

  async put(key: string, text: string, signal?: AbortSignal): Promise<void> {
    await this.#call(`The payload ${key} could not be written to`, async ({ sdk, client }) => {
      const body = { Body: Buffer.from(text), ContentType: "application/json" };
      await client.send(new sdk.PutObjectCommand({ ...this.#object(key), ...body }), signal ? { abortSignal: signal } : {});
    });
  }

  async get(key: string): Promise<string> {
    return this.#call(`The payload ${key} could not be read from`, async ({ sdk, client }) => {
      try {
        const { Body } = (await client.send(new sdk.GetObjectCommand(this.#object(key)))) as S3.GetObjectCommandOutput;
        return (await Body?.transformToString("utf-8")) ?? "";
      } catch (error) {
        if ((error as { name?: unknown }).name === "NoSuchKey") throw missing(`bucket ${this.#options.bucket}`, key, error);
        throw error;
      }
    });
  }

  async delete(keys: readonly string[]): Promise<void> {
    await this.#call(`${keys.length} payloads could not be removed from`, async ({ sdk, client }) => {
      for (let from = 0; from < keys.length; from += chunk) {
        const Objects = keys.slice(from, from + chunk).map((key) => ({ Key: this.#object(key).Key }));
        const command = new sdk.DeleteObjectsCommand({ Bucket: this.#options.bucket, Delete: { Objects, Quiet: true } });
        const { Errors = [] } = (await client.send(command)) as S3.DeleteObjectsCommandOutput;
        const failed = Errors.find(({ Code }) => Code !== "NoSuchKey");
        if (failed) throw new Error(`${Errors.length} of ${Objects.length} failed, the first with ${failed.Code}: ${failed.Message}`);
      }
    });
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = undefined;
    (await connection?.catch(() => undefined))?.close();
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#options.bucket, Key: `${this.#options.prefix}${key}` };
  }

  async #call<T>(what: string, call: (connection: Connection) => Promise<T>): Promise<T> {
    return asPayloadError(`${what} bucket ${this.#options.bucket}`, async () => {
      this.#connection ??= connect(this.#options);
      const connection = await this.#connection.catch((error: unknown) => {
        this.#connection = undefined;
        throw error;
      });
      return call(connection);
    });
  }
}

async function connect(options: S3PayloadsOptions): Promise<Connection> {
  const sdk = await loadPackage("@aws-sdk/client-s3", "s3Payloads()", async () => import("@aws-sdk/client-s3"));
  if (options.client) return { sdk, client: options.client, close: () => undefined };
  const { endpoint, region = endpoint === undefined ? undefined : "auto", forcePathStyle } = options;
  const client = new sdk.S3Client({
    ...(region === undefined ? {} : { region }),
    ...(forcePathStyle === undefined ? {} : { forcePathStyle }),
    // Not every service knows the newer checksums.
    ...(endpoint === undefined
      ? {}
      : { endpoint, requestChecksumCalculation: "WHEN_REQUIRED", responseChecksumValidation: "WHEN_REQUIRED" }),
  });
  return { sdk, client, close: () => client.destroy() };
}
