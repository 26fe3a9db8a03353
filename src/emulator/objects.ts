/**
 * Buckets and objects of Cloud Storage, on disk.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32c, crcText } from "./crc32c.ts";
import { receive } from "./receiving.ts";
import { RestError } from "./rest.ts";
import type { JsonObject } from "./wire.ts";

export interface StoredObject {
  bucket: string;
  name: string;
  /** Unique and growing, as every write makes a new one. */
  generation: number;
  bytes: number;
  /** Both in base64. */
  md5: string;
  crc32c: string;
  contentType: string;
  metadata: JsonObject | undefined;
  createdAt: number;
  path: string;
}

/** Bytes on their way to become an object. What arrived stays when a connection breaks. */
export interface ObjectUpload {
  id: string;
  bucket: string;
  name: string;
  contentType: string;
  metadata: JsonObject | undefined;
  /** What must be there for the upload to count: `"0"` nothing, else that generation. */
  ifGenerationMatch: string | undefined;
  received: number;
  handle: FileHandle;
  md5: Hash;
  crc: number;
  path: string;
  busy: boolean;
  object: StoredObject | undefined;
}

export interface ObjectStore {
  /** 404 when it does not exist. */
  bucket(name: string): Bucket;
  createBucket(name: string): Bucket;
  deleteBucket(name: string): void;
  buckets(): Bucket[];
  /** 404 when it does not exist, 412 when another generation is wanted. */
  get(bucket: string, name: string, ifGenerationMatch?: string): StoredObject;
  /** All of a bucket whose names start so, by name. */
  list(bucket: string, prefix: string): StoredObject[];
  delete(bucket: string, name: string, ifGenerationMatch?: string): Promise<void>;
  /** 404 for a missing bucket, 412 when the precondition fails already. */
  start(upload: Pick<ObjectUpload, "bucket" | "name"> & Partial<ObjectUpload>): Promise<ObjectUpload>;
  upload(id: string): ObjectUpload;
  /** Appends bytes; `cutAt` drops the connection after so many, and then answers `false`. */
  append(upload: ObjectUpload, chunks: AsyncIterable<Uint8Array>, cutAt?: number): Promise<boolean>;
  finish(upload: ObjectUpload): Promise<StoredObject>;
  /** Writes an object of the service's own. */
  put(bucket: string, name: string, contentType: string, chunks: AsyncIterable<Uint8Array>): Promise<StoredObject>;
  reset(): Promise<void>;
}

export interface Bucket {
  name: string;
  createdAt: number;
  objects: Map<string, StoredObject>;
}

export interface ObjectStoreOptions {
  dir: string;
  /** How its files are called there. */
  prefix: string;
  now: () => number;
  /** Those that exist at the start; `undefined`: a bucket exists when somebody asks for it. */
  buckets: readonly string[] | undefined;
}

export function objectStore({ dir, prefix: filePrefix, now, buckets: known }: ObjectStoreOptions): ObjectStore {
  const made = new Map<string, Bucket>();
  const gone = new Set<string>();
  const uploads = new Map<string, ObjectUpload>();
  let writes = 0;

  const make = (name: string): Bucket => {
    const bucket = { name, createdAt: now(), objects: new Map<string, StoredObject>() };
    made.set(name, bucket);
    gone.delete(name);
    return bucket;
  };
  const find = (name: string): Bucket | undefined => {
    const exists = made.get(name);
    if (exists) return exists;
    const usable = isBucketName(name) && !gone.has(name);
    return usable && (known === undefined || known.includes(name)) ? make(name) : undefined;
  };
  const check = (bucket: string, name: string, wanted: string | undefined): void => {
    if (wanted === undefined) return;
    const there = String(store.bucket(bucket).objects.get(name)?.generation ?? 0);
    if (there !== wanted)
      throw new RestError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.", {
        location: "If-Match",
        locationType: "header",
      });
  };

  const store: ObjectStore = {
    bucket(name) {
      const bucket = find(name);
      if (bucket === undefined) throw new RestError(404, "notFound", "The specified bucket does not exist.");
      return bucket;
    },
    createBucket(name) {
      if (!isBucketName(name)) throw new RestError(400, "invalid", `Invalid bucket name: '${name}'`);
      if (made.has(name) || known?.includes(name) === true)
        throw new RestError(409, "conflict", "Your previous request to create the named bucket succeeded and you already own it.");
      return make(name);
    },
    deleteBucket(name) {
      if (store.bucket(name).objects.size > 0) throw new RestError(409, "conflict", "The bucket you tried to delete is not empty.");
      made.delete(name);
      gone.add(name);
    },
    buckets: () => [...made.values()].toSorted((a, b) => compare(a.name, b.name)),
    get(bucket, name, ifGenerationMatch) {
      const object = store.bucket(bucket).objects.get(name);
      if (object === undefined) throw new RestError(404, "notFound", `No such object: ${bucket}/${name}`);
      check(bucket, name, ifGenerationMatch);
      return object;
    },
    list: (bucket, prefix) =>
      [...store.bucket(bucket).objects.values()]
        .filter((object) => object.name.startsWith(prefix))
        .toSorted((a, b) => compare(a.name, b.name)),
    async delete(bucket, name, ifGenerationMatch) {
      const object = store.get(bucket, name, ifGenerationMatch);
      store.bucket(bucket).objects.delete(name);
      await rm(object.path, { force: true });
    },
    async start({ bucket, name, contentType = "application/octet-stream", metadata, ifGenerationMatch }) {
      store.bucket(bucket);
      if (name === "") throw new RestError(400, "required", "Required parameter: name");
      check(bucket, name, ifGenerationMatch);
      writes += 1;
      const path = join(dir, `${filePrefix}-${writes}`);
      const upload: ObjectUpload = {
        id: `upload-${writes}`,
        bucket,
        name,
        contentType,
        metadata,
        ifGenerationMatch,
        received: 0,
        handle: await open(path, "w"),
        md5: createHash("md5"),
        crc: 0,
        path,
        busy: false,
        object: undefined,
      };
      uploads.set(upload.id, upload);
      return upload;
    },
    upload(id) {
      const upload = uploads.get(id);
      if (upload === undefined) throw new RestError(404, "notFound", "The upload session does not exist.");
      return upload;
    },
    async append(upload, chunks, cutAt) {
      if (upload.busy) throw new RestError(409, "conflict", "Another part of this upload is being received.");
      upload.busy = true;
      try {
        return await receive(chunks, cutAt, async (piece) => {
          await upload.handle.appendFile(piece);
          upload.md5.update(piece);
          upload.crc = crc32c(upload.crc, piece);
          upload.received += piece.length;
        });
      } finally {
        upload.busy = false;
      }
    },
    async finish(upload) {
      if (upload.object) return upload.object;
      check(upload.bucket, upload.name, upload.ifGenerationMatch);
      await upload.handle.close();
      const { bucket, name, contentType, metadata, path, received } = upload;
      const createdAt = now();
      writes += 1;
      const object: StoredObject = {
        ...{ bucket, name, contentType, metadata, path, createdAt, bytes: received },
        generation: createdAt * 1_000 + (writes % 1_000),
        md5: upload.md5.digest("base64"),
        crc32c: crcText(upload.crc),
      };
      upload.object = object;
      const { objects } = store.bucket(bucket);
      const old = objects.get(name);
      // A number that was there before must not come back, or a precondition would hold that should not.
      if (old && object.generation <= old.generation) object.generation = old.generation + 1;
      objects.set(name, object);
      if (old) await rm(old.path, { force: true });
      return object;
    },
    async put(bucket, name, contentType, chunks) {
      const upload = await store.start({ bucket, name, contentType });
      await store.append(upload, chunks);
      uploads.delete(upload.id);
      return store.finish(upload);
    },
    async reset() {
      const open = [...uploads.values()].filter((upload) => upload.object === undefined);
      const paths = [...open, ...[...made.values()].flatMap((bucket) => [...bucket.objects.values()])].map(({ path }) => path);
      uploads.clear();
      made.clear();
      gone.clear();
      await Promise.all(open.map((upload) => upload.handle.close().catch(() => undefined)));
      await Promise.all(paths.map((path) => rm(path, { force: true })));
    },
  };
  return store;
}

function isBucketName(name: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/.test(name);
}

/** As the service sorts names: by their UTF-8 bytes. */
function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
