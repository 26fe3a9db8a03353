import type { ObjectUpload } from "../objects.ts";
import { objectBody } from "../object-body.ts";
import { RestError } from "../rest.ts";
import { readRelated } from "../multipart.ts";
import type { Service } from "../service.ts";
import { isObject, parseBody, type JsonObject } from "../wire.ts";
import { baseUrlOf, breakConnection, cutOf, jsonText, type Handler, type HttpContext } from "./context.ts";

const startUpload: Handler = async (service, context, { names }) => {
  const { req } = context;
  const bucket = names.bucket ?? "";
  const kind = req.query("uploadType");
  const ifGenerationMatch = req.query("ifGenerationMatch");
  const named = (about: JsonObject) => req.query("name") ?? (typeof about.name === "string" ? about.name : "");
  if (kind === "multipart") {
    const { about, bytes, contentType } = await readRelated(req.header("content-type") ?? "", context.env.incoming);
    const upload = await service.objects.start({ bucket, name: named(about), ifGenerationMatch, ...describedBy(about, contentType) });
    return receive(service, context, upload, bytes);
  }
  if (kind === "media") {
    const upload = await service.objects.start({
      bucket,
      name: named({}),
      ifGenerationMatch,
      ...describedBy({}, req.header("content-type")),
    });
    return receive(service, context, upload, context.env.incoming);
  }
  if (kind !== "resumable") throw new RestError(400, "invalid", "uploadType must be media, multipart or resumable.");
  const about = parseBody(await req.text());
  const upload = await service.objects.start({
    ...{ bucket, name: named(about), ifGenerationMatch },
    ...describedBy(about, req.header("x-upload-content-type")),
  });
  const { pathname } = new URL(req.url);
  const location = `${baseUrlOf(context)}${pathname}?uploadType=resumable&upload_id=${upload.id}`;
  return new Response("", { headers: { location, "x-guploader-uploadid": upload.id } });
};

function describedBy(about: JsonObject, contentType: string | undefined): Pick<ObjectUpload, "contentType" | "metadata"> {
  return {
    contentType: typeof about.contentType === "string" ? about.contentType : (contentType ?? "application/octet-stream"),
    metadata: isObject(about.metadata) ? about.metadata : undefined,
  };
}

async function receive(service: Service, context: HttpContext, upload: ObjectUpload, bytes: AsyncIterable<Uint8Array>): Promise<Response> {
  if (!(await append(service, context, upload, bytes))) return breakConnection(context);
  return jsonText(JSON.stringify(objectBody(await service.objects.finish(upload), baseUrlOf(context))));
}

/** `false` when the fault struck that breaks the connection. */
function append(service: Service, context: HttpContext, upload: ObjectUpload, bytes: AsyncIterable<Uint8Array>): Promise<boolean> {
  const hit = service.faults.hit("uploadCut", `gs://${upload.bucket}/${upload.name}`);
  // Bodies of unknown length are cut after their first byte.
  const length = Number(context.req.header("content-length") ?? 2);
  return service.objects.append(upload, bytes, hit && cutOf(hit, length));
}

/**
 * A part of a resumable upload. `bytes 0-*\/*`: the end of the body is the end of the object. `bytes a-b/*`: more will come. `bytes a-b/n`: the last part if b+1 = n.
 * `bytes *\/*` asks how much has arrived.
 */
const uploadChunk: Handler = async (service, context) => {
  const upload = service.objects.upload(context.req.query("upload_id") ?? "");
  if (upload.object) return jsonText(JSON.stringify(objectBody(upload.object, baseUrlOf(context))));
  const range = context.req.header("content-range");
  const match = range === undefined ? undefined : /^bytes (?:(\d+)-(\d+|\*)|\*)\/(\d+|\*)$/.exec(range);
  if (match === null) throw new RestError(400, "invalid", `Failed to parse Content-Range header: ${range}`);
  const [, from, to, total = "*"] = match ?? [undefined, "0", "*", "*"];
  if (from !== undefined) {
    if (Number(from) > upload.received) {
      throw new RestError(503, "backendError", `The part begins at byte ${from}, but only ${upload.received} bytes have arrived.`);
    }
    const repeated = upload.received - Number(from);
    const complete = await append(service, context, upload, without(context.env.incoming, repeated));
    if (!complete) return breakConnection(context);
  }
  const ended = to === "*" || (total !== "*" && upload.received === Number(total));
  if (ended && (from !== undefined || total !== "*")) {
    return jsonText(JSON.stringify(objectBody(await service.objects.finish(upload), baseUrlOf(context))));
  }
  const headers: Record<string, string> = upload.received === 0 ? {} : { range: `bytes=0-${upload.received - 1}` };
  return new Response(null, { status: 308, headers });
};

/** What arrived before a connection broke is sent again by some clients. */
async function* without(chunks: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const chunk of chunks) {
    if (left < chunk.length) yield left === 0 ? chunk : chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}

const cancelUpload: Handler = (service, context) => {
  service.objects.upload(context.req.query("upload_id") ?? "");
  return new Response("", { status: 499 });
};

export const storageUploadHandlers = {
  "storage.upload": startUpload,
  "storage.uploadChunk": uploadChunk,
  "storage.cancelUpload": cancelUpload,
} satisfies Record<string, Handler>;
