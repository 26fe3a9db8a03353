/**
 * Cloud Storage, as its JSON API: buckets, and objects that are listed, read and deleted.
 *
 * @module
 */
import { stat } from "node:fs/promises";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import type { StoredObject } from "../objects.ts";
import { bucketBody, etagOf, objectBody } from "../object-body.ts";
import { publishResults } from "../publishing.ts";
import { RestError } from "../rest.ts";
import { parseBody } from "../wire.ts";
import { baseUrlOf, jsonText, sendFile, type Handler, type HttpContext } from "./context.ts";
import { storageUploadHandlers } from "./storage-upload.ts";

const get: Handler = async (service, context, { id, names: { bucket = "" } }) => {
  await publishResults(service);
  // An input that is gone, as after its time.
  if (service.faults.hit("inputFileGone", `gs://${bucket}/${id}`)) throw new RestError(404, "notFound", `No such object: ${bucket}/${id}`);
  return jsonText(JSON.stringify(objectBody(service.objects.get(bucket, id, wantedGeneration(context)), baseUrlOf(context))));
};

function wantedGeneration(context: HttpContext): string | undefined {
  return context.req.query("ifGenerationMatch") ?? context.req.query("generation");
}

const remove: Handler = async (service, context, { id, names: { bucket = "" } }) => {
  await publishResults(service);
  await service.objects.delete(bucket, id, wantedGeneration(context));
  return new Response(null, { status: 204 });
};

/** Pages by name. With a delimiter, what lies deeper is shown by its common beginnings. */
const list: Handler = async (service, context, { names: { bucket = "" } }) => {
  await publishResults(service);
  const { req } = context;
  const prefix = req.query("prefix") ?? "";
  const delimiter = req.query("delimiter") ?? "";
  const token = req.query("pageToken");
  const after = token === undefined || token === "" ? "" : Buffer.from(token, "base64url").toString();
  const most = Math.min(Number(req.query("maxResults") ?? 1_000) || 1_000, 1_000);
  const entries = new Map<string, StoredObject | undefined>();
  for (const object of service.objects.list(bucket, prefix)) {
    const end = delimiter === "" ? -1 : object.name.indexOf(delimiter, prefix.length);
    if (end === -1) entries.set(object.name, object);
    else entries.set(object.name.slice(0, end + delimiter.length), undefined);
  }
  const rest = [...entries].filter(([name]) => after === "" || Buffer.compare(Buffer.from(name), Buffer.from(after)) > 0);
  const shown = rest.slice(0, most);
  const items = shown.flatMap(([, object]) => (object === undefined ? [] : [objectBody(object, baseUrlOf(context))]));
  const prefixes = shown.flatMap(([name, object]) => (object === undefined ? [name] : []));
  const last = shown.at(-1)?.[0];
  return jsonText(
    JSON.stringify({
      kind: "storage#objects",
      ...(rest.length > shown.length && last !== undefined ? { nextPageToken: Buffer.from(last).toString("base64url") } : {}),
      ...(prefixes.length === 0 ? {} : { prefixes }),
      ...(items.length === 0 ? {} : { items }),
    }),
  );
};

const download: Handler = async (service, context, { id, names: { bucket = "" } }) => {
  await publishResults(service);
  const uri = `gs://${bucket}/${id}`;
  const missing = () => new RestError(404, "notFound", `No such object: ${bucket}/${id}`);
  if (service.faults.hit("outputFileGone", uri)) throw missing();
  const object = service.objects.get(bucket, id, wantedGeneration(context));
  const { size } = await stat(object.path).catch(() => {
    throw missing();
  });
  const range = rangeOf(context.req.header("range"), size);
  const headers: Record<string, string> = {
    "content-type": object.contentType,
    "accept-ranges": "bytes",
    etag: etagOf(object),
    "x-goog-hash": `crc32c=${object.crc32c},md5=${object.md5}`,
    "x-goog-generation": String(object.generation),
    "x-goog-metageneration": "1",
    "x-goog-stored-content-length": String(size),
    "x-goog-stored-content-encoding": "identity",
    "x-goog-storage-class": "STANDARD",
  };
  const [start, end] = range ?? [0, size];
  if (range) headers["content-range"] = `bytes ${start}-${end - 1}/${size}`;
  await sendFile(context, {
    path: object.path,
    status: range ? 206 : 200,
    headers,
    ...{ start, end },
    cut: service.faults.hit("downloadCut", uri),
  });
  return RESPONSE_ALREADY_SENT;
};

/** From and up to (not including) a byte; `undefined` for the whole. Throws 416 for what lies outside. */
function rangeOf(header: string | undefined, size: number): [number, number] | undefined {
  const match = header === undefined ? null : /^bytes=(\d*)-(\d*)$/.exec(header);
  if (match === null || (match[1] === "" && match[2] === "")) return undefined;
  const [, from = "", to = ""] = match;
  if (from === "") return [Math.max(0, size - Number(to)), size];
  const start = Number(from);
  const end = to === "" ? size : Math.min(size, Number(to) + 1);
  if (start >= size || end <= start) {
    if (start === 0 && size === 0) return undefined;
    throw new RestError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable");
  }
  return [start, end];
}

const createBucket: Handler = async (service, context) => {
  const { name } = parseBody(await context.req.text());
  return jsonText(JSON.stringify(bucketBody(service.objects.createBucket(typeof name === "string" ? name : ""))));
};

const listBuckets: Handler = (service) =>
  jsonText(JSON.stringify({ kind: "storage#buckets", items: service.objects.buckets().map(bucketBody) }));

const getBucket: Handler = (service, _, { names: { bucket = "" } }) => jsonText(JSON.stringify(bucketBody(service.objects.bucket(bucket))));

const deleteBucket: Handler = async (service, _, { names: { bucket = "" } }) => {
  await publishResults(service);
  service.objects.deleteBucket(bucket);
  return new Response(null, { status: 204 });
};

export const storageHandlers = {
  ...storageUploadHandlers,
  "storage.get": get,
  "storage.delete": remove,
  "storage.list": list,
  "storage.download": download,
  "storage.createBucket": createBucket,
  "storage.listBuckets": listBuckets,
  "storage.getBucket": getBucket,
  "storage.deleteBucket": deleteBucket,
} satisfies Record<string, Handler>;
