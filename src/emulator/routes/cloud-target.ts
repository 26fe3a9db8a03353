/**
 * What a request to Vertex AI, Cloud Storage or BigQuery is aimed at.
 *
 * @module
 */
import type { CloudEndpoint, Target } from "./target.ts";

/** A request's method and path, and the query parameter that tells its kind, if it has one. */
export interface Aim {
  method: string;
  path: string;
  uploadId: string | undefined;
  alt: string | undefined;
}

/** `undefined` when none of the three has an endpoint there. */
export function cloudTarget(aim: Aim): Target | undefined {
  return vertexTarget(aim) ?? storageTarget(aim) ?? bigQueryTarget(aim);
}

type Found = [endpoint: CloudEndpoint | undefined, names?: Record<string, string | undefined>, version?: string];

function targetFrom([endpoint, names = {}, version = ""]: Found): Target | undefined {
  if (endpoint === undefined) return undefined;
  const given = Object.entries(names).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const { id = "", ...rest } = Object.fromEntries(given.map(([name, value]) => [name, decoded(value)]));
  return { endpoint, version, id, names: rest };
}

const modelVerbs: Record<string, CloudEndpoint> = {
  generateContent: "vertex.generateContent",
  streamGenerateContent: "vertex.streamGenerateContent",
  countTokens: "vertex.countTokens",
  embedContent: "vertex.embedContent",
  predict: "vertex.predict",
};

/** With an API key and an address of its own the SDK leaves project and location out. */
function vertexTarget({ method, path }: Aim): Target | undefined {
  const match = /^\/(v1|v1beta1)\/(?:projects\/([^/]+)\/locations\/([^/]+)\/)?(.+)$/.exec(path);
  if (!match) return undefined;
  const [, version, project, location, rest = ""] = match;
  const model = /^((?:publishers\/[^/]+\/models|models|endpoints)\/[^/:]+):(\w+)$/.exec(rest);
  // Without a project, `models/…` is the Developer API.
  if (model && (project !== undefined || rest.startsWith("publishers/"))) {
    const [, id, verb = ""] = model;
    return method === "POST" ? targetFrom([modelVerbs[verb], { id, project, location }, version]) : undefined;
  }
  const job = /^batchPredictionJobs(?:\/([^/:]+))?(?::(\w+))?\/?$/.exec(rest);
  if (!job) return undefined;
  const [, id, verb] = job;
  const endpoint = jobEndpoint(method, id !== undefined, verb);
  return targetFrom([endpoint, { id, project, location }, version]);
}

function jobEndpoint(method: string, named: boolean, verb: string | undefined): CloudEndpoint | undefined {
  if (verb !== undefined) return method === "POST" && named && verb === "cancel" ? "vertex.cancel" : undefined;
  if (method === "POST") return named ? undefined : "vertex.create";
  if (method === "GET") return named ? "vertex.get" : "vertex.list";
  return method === "DELETE" && named ? "vertex.delete" : undefined;
}

/** Both styles of the client: `/storage/v1/b/…` with `apiEndpoint`, `/b/…` with `STORAGE_EMULATOR_HOST`. */
function storageTarget({ method, path, uploadId, alt }: Aim): Target | undefined {
  const match = /^(\/upload|\/download)?(?:\/storage\/v1)?\/b(?:\/([^/]+)(?:\/(o)(?:\/([^/]+))?)?)?\/?$/.exec(path);
  if (!match) return undefined;
  const [, prefix, bucket, objects, object] = match;
  const names = { bucket, id: object };
  if (prefix === "/upload") {
    if (bucket === undefined || objects === undefined) return undefined;
    if (uploadId !== undefined) return targetFrom([method === "DELETE" ? "storage.cancelUpload" : "storage.uploadChunk", names]);
    return targetFrom([method === "POST" || method === "PUT" ? "storage.upload" : undefined, names]);
  }
  if (objects !== undefined && object !== undefined) {
    if (method === "GET") return targetFrom([prefix === "/download" || alt === "media" ? "storage.download" : "storage.get", names]);
    return targetFrom([method === "DELETE" ? "storage.delete" : undefined, names]);
  }
  if (objects !== undefined) return targetFrom([method === "GET" ? "storage.list" : undefined, names]);
  if (bucket === undefined)
    return targetFrom([method === "GET" ? "storage.listBuckets" : method === "POST" ? "storage.createBucket" : undefined]);
  return targetFrom([method === "GET" ? "storage.getBucket" : method === "DELETE" ? "storage.deleteBucket" : undefined, names]);
}

const tables = "/datasets/:dataset/tables";
const bigQueryPaths: readonly [method: string, path: string, endpoint: CloudEndpoint][] = [
  ["GET", "/datasets", "bigquery.listDatasets"],
  ["POST", "/datasets", "bigquery.createDataset"],
  ["GET", "/datasets/:dataset", "bigquery.getDataset"],
  ["DELETE", "/datasets/:dataset", "bigquery.deleteDataset"],
  ["GET", tables, "bigquery.listTables"],
  ["POST", tables, "bigquery.createTable"],
  ["GET", `${tables}/:id`, "bigquery.getTable"],
  ["PATCH", `${tables}/:id`, "bigquery.patchTable"],
  ["PUT", `${tables}/:id`, "bigquery.patchTable"],
  ["DELETE", `${tables}/:id`, "bigquery.deleteTable"],
  ["GET", `${tables}/:id/data`, "bigquery.readRows"],
  ["POST", `${tables}/:id/insertAll`, "bigquery.insertAll"],
  ["POST", "/jobs", "bigquery.createJob"],
  ["GET", "/jobs/:id", "bigquery.getJob"],
  ["POST", "/queries", "bigquery.query"],
];

/** Both styles of the client: `/bigquery/v2/projects/…` with `apiEndpoint`, `/projects/…` with `BIGQUERY_EMULATOR_HOST`. */
function bigQueryTarget({ method, path, uploadId }: Aim): Target | undefined {
  const match = /^(\/upload|\/resumable\/upload)?(?:\/bigquery\/v2)?\/projects\/([^/]+)(\/.+?)\/?$/.exec(path);
  if (!match) return undefined;
  const [, prefix, project, rest = ""] = match;
  if (prefix !== undefined) {
    if (rest !== "/jobs") return undefined;
    return targetFrom([uploadId === undefined ? "bigquery.upload" : "bigquery.uploadChunk", { project }]);
  }
  const parts = rest.split("/");
  for (const [wanted, pattern, endpoint] of bigQueryPaths) {
    const wantedParts = pattern.split("/");
    if (wanted !== method || wantedParts.length !== parts.length) continue;
    const names: Record<string, string | undefined> = { project };
    const fits = wantedParts.every((part, i) => {
      if (!part.startsWith(":")) return part === parts[i];
      names[part.slice(1)] = parts[i];
      return parts[i] !== "";
    });
    if (fits) return targetFrom([endpoint, names]);
  }
  return undefined;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
