/**
 * Jobs of BigQuery: loading, from Cloud Storage or with the file in the call.
 *
 * @module
 */
import { loadJobBody, runLoad, type LoadJob } from "../bigquery-jobs.ts";
import { idOf } from "../chance.ts";
import { readRelated } from "../multipart.ts";
import type { ObjectUpload } from "../objects.ts";
import { RestError } from "../rest.ts";
import type { Service } from "../service.ts";
import { isObject, parseJson, type JsonObject } from "../wire.ts";
import { baseUrlOf, breakConnection, cutOf, jsonText, type Handler } from "./context.ts";

const keyOf = (project: string, id: string) => `${project} ${id}`;

/** Takes the job's name; 409 when it was used before. */
function begin(service: Service, project: string, body: JsonObject): LoadJob {
  const reference = isObject(body.jobReference) ? body.jobReference : {};
  const configuration = isObject(body.configuration) ? body.configuration : {};
  if (!isObject(configuration.load)) throw new RestError(400, "invalid", "The emulator runs load jobs only.");
  const createdAt = service.clock.now();
  const made = idOf(`${service.seed} load ${createdAt} ${service.loadJobs.size}`, 27);
  const id = typeof reference.jobId === "string" && reference.jobId !== "" ? reference.jobId : `job_${made}`;
  if (service.loadJobs.has(keyOf(project, id))) throw new RestError(409, "duplicate", `Already Exists: Job ${project}:US.${id}`);
  const job: LoadJob = { project, id, configuration, createdAt, error: undefined, rows: 0, bytes: 0 };
  service.loadJobs.set(keyOf(project, id), job);
  return job;
}

const createJob: Handler = async (service, context, { names: { project = "" } }) => {
  const job = begin(service, project, parseJson(await context.req.text()));
  await runLoad(service, job, undefined);
  return jsonText(JSON.stringify(loadJobBody(job, false)));
};

const getJob: Handler = (service, _, { id, names: { project = "" } }) => {
  const job = service.loadJobs.get(keyOf(project, id));
  if (job === undefined) throw new RestError(404, "notFound", `Not found: Job ${project}:${id}`);
  return jsonText(JSON.stringify(loadJobBody(job, true)));
};

/** Where files of load jobs lie until they are loaded. */
const uploadBucket = "bigquery-uploads";

/** The client's way to load a file: as one multipart body, or resumable. */
const upload: Handler = async (service, context, { names: { project = "" } }) => {
  const { req } = context;
  const start = async () => {
    const session = await service.uploads.start({ bucket: uploadBucket, name: "load" });
    return Object.assign(session, { name: session.id });
  };
  if (req.query("uploadType") === "multipart") {
    const { about, bytes } = await readRelated(req.header("content-type") ?? "", context.env.incoming);
    const job = begin(service, project, about);
    const session = await start();
    const hit = service.faults.hit("uploadCut", `bq://${project}`);
    if (!(await service.uploads.append(session, bytes, hit && cutOf(hit, 2)))) return breakConnection(context);
    return load(service, job, session);
  }
  if (req.query("uploadType") !== "resumable") throw new RestError(400, "invalid", "uploadType must be multipart or resumable.");
  const about = parseJson(await req.text());
  const session = await start();
  session.metadata = about;
  const { pathname } = new URL(req.url);
  return new Response("", { headers: { location: `${baseUrlOf(context)}${pathname}?uploadType=resumable&upload_id=${session.id}` } });
};

const uploadChunk: Handler = async (service, context, { names: { project = "" } }) => {
  const session = service.uploads.upload(context.req.query("upload_id") ?? "");
  const range = /^bytes (?:\d+-(\d+|\*)|\*)\/(\d+|\*)$/.exec(context.req.header("content-range") ?? "bytes 0-*/*");
  await service.uploads.append(session, context.env.incoming);
  const [, to, total] = range ?? [];
  if (to !== "*" && total !== String(session.received)) {
    const headers: Record<string, string> = session.received === 0 ? {} : { range: `bytes=0-${session.received - 1}` };
    return new Response(null, { status: 308, headers });
  }
  return load(service, begin(service, project, session.metadata ?? {}), session);
};

async function load(service: Service, job: LoadJob, session: ObjectUpload): Promise<Response> {
  const { path } = await service.uploads.finish(session);
  await runLoad(service, job, path);
  await service.uploads.delete(uploadBucket, session.name);
  return jsonText(JSON.stringify(loadJobBody(job, false)));
}

export const bigQueryJobHandlers = {
  "bigquery.createJob": createJob,
  "bigquery.getJob": getJob,
  "bigquery.upload": upload,
  "bigquery.uploadChunk": uploadChunk,
} satisfies Record<string, Handler>;
