import { stat } from "node:fs/promises";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { fileBody, type UploadSession } from "../files.ts";
import { canDownload } from "../service.ts";
import { isObject, parseBody, WireError } from "../wire.ts";
import { baseUrlOf, breakConnection, cutOf, jsonText, page, sendFile, type Handler, type HttpContext } from "./context.ts";

/** What clients may send in one chunk that is not the last: multiples of this. */
const granularity = "262144";

const startUpload: Handler = async (service, context) => {
  const { req } = context;
  if (req.header("x-goog-upload-protocol") !== "resumable" || !hasCommand(context, "start")) {
    throw new WireError(
      "INVALID_ARGUMENT",
      "Start an upload with the headers X-Goog-Upload-Protocol: resumable and X-Goog-Upload-Command: start.",
    );
  }
  const body = parseBody(await req.text());
  const file = isObject(body.file) ? body.file : {};
  const length = req.header("x-goog-upload-header-content-length");
  const declaredBytes = length === undefined ? undefined : Number(length);
  if (declaredBytes !== undefined && !(Number.isSafeInteger(declaredBytes) && declaredBytes >= 0)) {
    throw new WireError("INVALID_ARGUMENT", "X-Goog-Upload-Header-Content-Length must be a number of bytes.");
  }
  const mimeType = typeof file.mimeType === "string" ? file.mimeType : req.header("x-goog-upload-header-content-type");
  const session = await service.files.start({
    id: typeof file.name === "string" ? file.name.replace(/^files\//, "") : undefined,
    declaredBytes,
    displayName: typeof file.displayName === "string" ? file.displayName : undefined,
    mimeType,
  });
  const url = `${baseUrlOf(context)}${new URL(req.url).pathname}?upload_id=${session.id}&upload_protocol=resumable`;
  return new Response("", {
    headers: { "x-goog-upload-url": url, "x-goog-upload-status": "active", "x-goog-upload-chunk-granularity": granularity },
  });
};

function hasCommand(context: HttpContext, command: string): boolean {
  const commands = context.req.header("x-goog-upload-command") ?? "";
  return commands.split(",").some((part) => part.trim().toLowerCase() === command);
}

const uploadChunk: Handler = async (service, context) => {
  const session = service.files.session(context.req.query("upload_id") ?? "");
  if (session.file || hasCommand(context, "query")) return progress(session, context);
  if (hasCommand(context, "cancel")) throw new WireError("CANCELLED", "The upload was cancelled.");
  if (hasCommand(context, "upload")) {
    const offset = Number(context.req.header("x-goog-upload-offset") ?? 0);
    if (offset !== session.received) {
      throw new WireError("INVALID_ARGUMENT", `The upload offset is ${offset}, but ${session.received} bytes have arrived.`);
    }
    const hit = service.faults.hit("uploadCut", session.displayName ?? `files/${session.id}`);
    const length = Number(context.req.header("content-length") ?? 0);
    const complete = await service.files.append(session, context.env.incoming, hit && cutOf(hit, length));
    if (!complete) return breakConnection(context);
  }
  if (hasCommand(context, "finalize")) await service.files.finalize(session);
  return progress(session, context);
};

function progress(session: UploadSession, context: HttpContext): Response {
  const headers = { "content-type": "application/json; charset=UTF-8", "x-goog-upload-size-received": String(session.received) };
  if (session.file === undefined) return new Response("", { headers: { ...headers, "x-goog-upload-status": "active" } });
  const body = JSON.stringify({ file: fileBody(session.file, baseUrlOf(context)) });
  return new Response(body, { headers: { ...headers, "x-goog-upload-status": "final" } });
}

/** The output file of a batch is no file of this API: its id is too long. */
function checkId(id: string): void {
  if (id.length > 40) {
    throw new WireError("INVALID_ARGUMENT", `* GetFileRequest.name: files/${id}: the resource id must be at most 40 characters long\n`);
  }
}

const get: Handler = (service, context, { id }) => {
  checkId(id);
  return jsonText(JSON.stringify(fileBody(service.files.get(id), baseUrlOf(context))));
};

const remove: Handler = async (service, _, { id }) => {
  checkId(id);
  await service.files.delete(id);
  return jsonText("{}");
};

const list: Handler = (service, context) => {
  const { items, next } = page(context, service.files.list(), 10, 100);
  const files = items.map((file) => fileBody(file, baseUrlOf(context)));
  return jsonText(JSON.stringify({ ...(files.length === 0 ? {} : { files }), ...(next === undefined ? {} : { nextPageToken: next }) }));
};

const download: Handler = async (service, context, { id }) => {
  if (!id.startsWith("batch-")) {
    const file = service.files.get(id);
    throw new WireError("INVALID_ARGUMENT", `files/${file.id} was uploaded. Only generated files can be downloaded.`);
  }
  if (service.faults.hit("outputFileGone", `files/${id}`)) throw notFound(id);
  const job = service.job(id.slice("batch-".length));
  await service.ready([job]);
  if (job.kind !== "file" || job.output === undefined || !canDownload(service, job)) throw notFound(id);
  const { path } = job.output;
  const { size } = await stat(path).catch(() => {
    throw notFound(id);
  });
  const cut = service.faults.hit("downloadCut", `files/${id}`);
  await sendFile(context, { path, status: 200, headers: { "content-type": "application/octet-stream" }, start: 0, end: size, cut });
  return RESPONSE_ALREADY_SENT;
};

function notFound(id: string): WireError {
  return new WireError("NOT_FOUND", `The file ${id} does not exist.`);
}

export const fileHandlers = {
  "files.upload": startUpload,
  "files.uploadChunk": uploadChunk,
  "files.get": get,
  "files.delete": remove,
  "files.list": list,
  "files.download": download,
} satisfies Record<string, Handler>;
