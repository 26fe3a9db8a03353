/**
 * Results of Vertex jobs become objects and tables when somebody looks: what can be seen then follows from the clock alone.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import type { Cell } from "./cells.ts";
import { endOf, hasOutput, hasResults, isEnded, stateOf, type Job, type JobOutput, type VertexOutput } from "./jobs.ts";
import { splitLines } from "./lines.ts";
import type { Service } from "./service.ts";

const underWay = new WeakMap<Service, Promise<void>>();

/** Writes the results of all jobs that have some by now; one caller at a time. */
export function publishResults(service: Service): Promise<void> {
  if (service.unpublished.size === 0) return underWay.get(service) ?? Promise.resolve();
  const done = (underWay.get(service) ?? Promise.resolve()).then(() => publishDue(service));
  underWay.set(service, done);
  return done;
}

async function publishDue(service: Service): Promise<void> {
  const { unpublished, clock, realTime } = service;
  await service.ready([...unpublished]);
  const now = clock.now();
  const due: Job[] = [];
  for (const job of unpublished) {
    const state = stateOf(job, now);
    const mayRevive = job.cancelledAt !== undefined && job.plan.revivesAfterMs !== undefined && state === "CANCELLED";
    if (!isEnded(state) || mayRevive) continue;
    if (hasOutput(job, now, realTime)) due.push(job);
    else if (!hasResults(job, state)) unpublished.delete(job);
  }
  // Where two write to one place, the later one is seen.
  due.sort((a, b) => endOf(a, now, realTime) - endOf(b, now, realTime) || a.ordinal - b.ordinal);
  for (const job of due) {
    unpublished.delete(job);
    await publish(service, job).catch((error: unknown) => service.log(`job ${job.name} could not write its results: ${String(error)}`));
  }
}

async function publish(service: Service, job: Job): Promise<void> {
  const { output, vertex } = job;
  if (output === undefined || vertex === undefined) return;
  const place = vertex.output;
  const strikes = (name: "outputMissing" | "shards" | "incrementalFiles") => service.faults.hit(name, job.displayName, job.settings);
  if (!strikes("outputMissing")) {
    if (place.kind === "bigquery") await writeTable(service, place, output);
    else await writeObjects(service, place, output, strikes("shards") ? 3 : 1, strikes("incrementalFiles") !== undefined);
  }
  await rm(output.path, { force: true });
}

async function writeObjects(
  { objects }: Service,
  { bucket, directory }: Extract<VertexOutput, { kind: "storage" }>,
  output: JobOutput,
  shards: number,
  incremental: boolean,
): Promise<void> {
  const put = (name: string, from: number, to: number) =>
    objects.put(bucket, `${directory}/${name}`, "application/octet-stream", linesBetween(output.path, from, to));
  for (let i = 0; i < shards; i += 1) {
    const number = (value: number) => String(value).padStart(5, "0");
    const name = shards === 1 ? "predictions.jsonl" : `predictions-${number(i)}-of-${number(shards)}.jsonl`;
    await put(name, Math.floor((output.lines * i) / shards), Math.floor((output.lines * (i + 1)) / shards));
  }
  if (!incremental) return;
  await put("incremental_predictions.jsonl", 0, Math.ceil(output.lines / 2));
  await put("prediction.errors_stats-00000-of-00001", 0, 0);
}

async function writeTable(
  { tables }: Service,
  { project, dataset, table: name, fields }: Extract<VertexOutput, { kind: "bigquery" }>,
  output: JobOutput,
): Promise<void> {
  const known = tables.find(project, dataset, name);
  if (known) await tables.truncate(known, fields);
  const table = known ?? (await tables.create(project, dataset, name, fields));
  for await (const lines of splitLines(linesBetween(output.path, 0, output.lines))) {
    tables.append(
      table,
      lines.map((line) => JSON.parse(line.toString()) as Cell[]),
    );
  }
}

/** The lines of a file from one number up to (not including) another, with their line feeds. */
async function* linesBetween(path: string, from: number, to: number): AsyncGenerator<Buffer> {
  if (to <= from) return;
  let number = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 512 * 1_024 }) as AsyncIterable<Buffer>) {
    let start = number >= from ? 0 : -1;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, end + 1)) {
      number += 1;
      if (number === from) start = end + 1;
      if (number === to) {
        yield chunk.subarray(start, end + 1);
        return;
      }
    }
    if (start !== -1) yield chunk.subarray(start);
  }
}
