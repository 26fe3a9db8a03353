/**
 * What a request is aimed at. The service puts verbs behind the last colon of a path: `batches/x:cancel`.
 *
 * @module
 */

/** The endpoints, in the words that the ledger and `match` of call faults use. */
export type Endpoint = GeminiEndpoint | CloudEndpoint;

/** Those of Vertex AI, Cloud Storage and BigQuery. */
export type CloudEndpoint =
  | `vertex.${"create" | "get" | "list" | "cancel" | "delete"}`
  | `vertex.${"generateContent" | "streamGenerateContent" | "countTokens" | "embedContent" | "predict"}`
  | `storage.${"upload" | "uploadChunk" | "cancelUpload" | "get" | "list" | "delete" | "download"}`
  | `storage.${"listBuckets" | "createBucket" | "getBucket" | "deleteBucket"}`
  | `bigquery.${"listDatasets" | "createDataset" | "getDataset" | "deleteDataset"}`
  | `bigquery.${"listTables" | "createTable" | "getTable" | "patchTable" | "deleteTable" | "readRows" | "insertAll"}`
  | `bigquery.${"createJob" | "getJob" | "query" | "upload" | "uploadChunk"}`;

export type GeminiEndpoint =
  | "models.list"
  | "models.get"
  | "models.generateContent"
  | "models.streamGenerateContent"
  | "models.embedContent"
  | "models.batchEmbedContents"
  | "models.countTokens"
  | "batches.create"
  | "batches.createEmbeddings"
  | "batches.get"
  | "batches.list"
  | "batches.cancel"
  | "batches.delete"
  | "files.upload"
  | "files.uploadChunk"
  | "files.get"
  | "files.list"
  | "files.delete"
  | "files.download";

export interface Target {
  endpoint: Endpoint;
  version: string;
  /** Of the model, batch, file, object or table; `""` for collections. */
  id: string;
  /** What else the path names: `project`, `location`, `bucket`, `dataset`. */
  names: Readonly<Record<string, string>>;
}

const modelVerbs: Record<string, GeminiEndpoint> = {
  generateContent: "models.generateContent",
  streamGenerateContent: "models.streamGenerateContent",
  embedContent: "models.embedContent",
  batchEmbedContents: "models.batchEmbedContents",
  countTokens: "models.countTokens",
  batchGenerateContent: "batches.create",
  asyncBatchEmbedContent: "batches.createEmbeddings",
};

/** Finds the endpoint of the Developer API for a method and a URL path; `undefined` when the service has none there. */
export function targetOf(method: string, path: string, uploadId: string | undefined): Target | undefined {
  const match = /^\/(?:(upload|download)\/)?(v1|v1beta|v1alpha)\/(models|batches|files)(?:\/([^/]+))?\/?$/.exec(path);
  if (!match) return undefined;
  const [, prefix, version = "", collection, rest = ""] = match;
  const colon = rest.lastIndexOf(":");
  const id = decoded(colon === -1 ? rest : rest.slice(0, colon));
  const verb = colon === -1 ? "" : rest.slice(colon + 1);
  const to = (endpoint: GeminiEndpoint | undefined): Target | undefined => endpoint && { endpoint, version, id, names: {} };

  if (prefix === "upload") {
    const sends = method === "POST" || method === "PUT";
    return collection === "files" && rest === "" && sends ? to(uploadId === undefined ? "files.upload" : "files.uploadChunk") : undefined;
  }
  if (prefix === "download" && verb !== "download") return undefined;
  if (collection === "models") {
    if (method === "GET" && verb === "") return to(id === "" ? "models.list" : "models.get");
    return method === "POST" && id !== "" ? to(modelVerbs[verb]) : undefined;
  }
  if (collection === "batches") {
    if (method === "POST" && id !== "" && verb === "cancel") return to("batches.cancel");
    if (verb !== "") return undefined;
    if (method === "GET") return to(id === "" ? "batches.list" : "batches.get");
    return method === "DELETE" && id !== "" ? to("batches.delete") : undefined;
  }
  if (method === "GET" && verb === "download" && id !== "") return to("files.download");
  if (verb !== "") return undefined;
  if (method === "GET") return to(id === "" ? "files.list" : "files.get");
  return method === "DELETE" && id !== "" ? to("files.delete") : undefined;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
