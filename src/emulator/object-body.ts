/**
 * How Cloud Storage shows its objects and buckets.
 *
 * @module
 */
import type { Bucket, StoredObject } from "./objects.ts";
import type { JsonObject } from "./wire.ts";

const time = (ms: number): string => new Date(ms).toISOString();

/** The Object resource. */
export function objectBody(object: StoredObject, base: string): JsonObject {
  const { bucket, name, generation } = object;
  const path = `/b/${bucket}/o/${encodeURIComponent(name)}`;
  const created = time(object.createdAt);
  return {
    kind: "storage#object",
    id: `${bucket}/${name}/${generation}`,
    selfLink: `${base}/storage/v1${path}`,
    mediaLink: `${base}/download/storage/v1${path}?generation=${generation}&alt=media`,
    name,
    bucket,
    generation: String(generation),
    metageneration: "1",
    contentType: object.contentType,
    storageClass: "STANDARD",
    size: String(object.bytes),
    md5Hash: object.md5,
    crc32c: object.crc32c,
    etag: etagOf(object),
    timeCreated: created,
    updated: created,
    timeStorageClassUpdated: created,
    ...(object.metadata === undefined ? {} : { metadata: object.metadata }),
  };
}

export function etagOf(object: StoredObject): string {
  return Buffer.from(String(object.generation)).toString("base64");
}

export function bucketBody({ name, createdAt }: Bucket): JsonObject {
  const created = time(createdAt);
  return {
    ...{ kind: "storage#bucket", id: name, name, metageneration: "1", location: "US", locationType: "multi-region" },
    ...{ storageClass: "STANDARD", etag: "CAE=", timeCreated: created, updated: created },
  };
}
