/** Buckets of Cloud Storage by the JSON API. */
import type { GoogleClient } from "./client.ts";
import { ifFound, isConflict } from "./errors.ts";
import { rewrite } from "./rewrite.ts";

export interface LifecycleRule {
  action?: { type?: string; storageClass?: string };
  condition?: Record<string, unknown> & { age?: number; matchesPrefix?: string[] };
}

export interface Bucket {
  name: string;
  location?: string;
  projectNumber?: string;
  metageneration?: string;
  lifecycle?: { rule?: LifecycleRule[] };
  iamConfiguration?: { uniformBucketLevelAccess?: { enabled?: boolean }; publicAccessPrevention?: string };
}

const service = "storage";

export function readBucket(client: GoogleClient, name: string): Promise<Bucket | undefined> {
  return ifFound(client.call<Bucket>({ service, path: `/storage/v1/b/${name}` }));
}

/** Uniform access, nothing public, no copies of what was deleted. A name that is taken already throws, unless the first of two equal calls made it. */
export async function createBucket(
  client: GoogleClient,
  project: string,
  { name, location, rule }: { name: string; location: string; rule: LifecycleRule },
): Promise<void> {
  try {
    await client.call({
      service,
      method: "POST",
      path: "/storage/v1/b",
      query: { project },
      body: {
        name,
        location,
        iamConfiguration: { uniformBucketLevelAccess: { enabled: true }, publicAccessPrevention: "enforced" },
        lifecycle: { rule: [rule] },
        softDeletePolicy: { retentionDurationSeconds: "0" },
      },
    });
  } catch (error) {
    if (!isConflict(error) || (await readBucket(client, name)) === undefined) throw error;
  }
}

/** Whether a rule deletes everything under the prefix after at most so many days. */
export function deletesPrefix(bucket: Bucket, prefix: string, days: number): boolean {
  return (bucket.lifecycle?.rule ?? []).some(({ action, condition = {} }) => {
    const { age, matchesPrefix, ...others } = condition;
    const reaches = matchesPrefix === undefined || matchesPrefix.some((one) => prefix.startsWith(one));
    return action?.type === "Delete" && age !== undefined && age <= days && reaches && Object.keys(others).length === 0;
  });
}

/** The first rule that deletes objects under the prefix, or some of them, while they are in use: not only older versions of them. */
export function ruleThatDeletes(bucket: Bucket, prefix: string): LifecycleRule | undefined {
  const spares = ["numNewerVersions", "daysSinceNoncurrentTime", "noncurrentTimeBefore", "daysSinceCustomTime", "customTimeBefore"];
  return (bucket.lifecycle?.rule ?? []).find(({ action, condition = {} }) => {
    const { matchesPrefix = [], isLive } = condition;
    const reaches = matchesPrefix.length === 0 || matchesPrefix.some((one) => prefix.startsWith(one) || one.startsWith(prefix));
    return action?.type === "Delete" && reaches && isLive !== false && !spares.some((name) => name in condition);
  });
}

/** Adds the rule to those that are there, against the state that was read. */
export function addLifecycleRule(
  client: GoogleClient,
  name: string,
  rule: LifecycleRule,
  isThere: (bucket: Bucket) => boolean,
): Promise<void> {
  return rewrite(client, async () => {
    const bucket = await readBucket(client, name);
    if (bucket === undefined || isThere(bucket)) return;
    await client.call({
      service,
      method: "PATCH",
      path: `/storage/v1/b/${name}`,
      query: { ifMetagenerationMatch: bucket.metageneration ?? "0" },
      body: { lifecycle: { rule: [...(bucket.lifecycle?.rule ?? []), rule] } },
    });
  });
}

/** Writes, reads and deletes one object; throws what failed. Resolves with whether it came back as it was. */
export async function tryObject(client: GoogleClient, bucket: string, name: string, text: string): Promise<boolean> {
  const path = `/storage/v1/b/${bucket}/o/${encodeURIComponent(name)}`;
  await client.call({
    service,
    method: "POST",
    path: `/upload/storage/v1/b/${bucket}/o`,
    query: { uploadType: "media", name },
    body: text,
  });
  try {
    return (await client.call<string>({ service, path, query: { alt: "media" }, asText: true })) === text;
  } finally {
    await client.call({ service, method: "DELETE", path });
  }
}
