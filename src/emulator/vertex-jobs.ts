/**
 * Creating batch prediction jobs: their input, what the importer says to it, and where the results will go.
 *
 * @module
 */
import { open } from "node:fs/promises";
import { typeOf, isRepeated, type Cell, type Field } from "./cells.ts";
import { chanceOf, digitsOf } from "./chance.ts";
import { familyOf, rowOf, type Family } from "./families.ts";
import type { Job, JobPlan, VertexDetails } from "./jobs.ts";
import { isBlank, splitLines } from "./lines.ts";
import { importMessage, planVertexJob } from "./plan.ts";
import type { Row } from "./rows.ts";
import type { Service } from "./service.ts";
import { emptyShape, widen } from "./shape.ts";
import { outputFields, storageLines, tableLines } from "./vertex-lines.ts";
import { isObject, WireError, type JsonObject } from "./wire.ts";
import { inspect, type JobForm } from "./work.ts";

const rowsAtATime = 128;
const bytesAtATime = 4_000_000;
/** Of generateContent; embedding jobs take five times as many. */
const mostRows = 200_000;
const mostBytes = 1_073_741_824;

/** A batch prediction job as it was asked for, its body checked. */
export interface WantedVertexJob {
  displayName: string;
  /** The short form: `gemini-2.5-flash`, `anthropic/claude-…`. */
  model: string;
  details: Omit<VertexDetails, "output">;
  input: { kind: "storage"; bucket: string; object: string } | { kind: "bigquery"; project: string; dataset: string; table: string };
  /** Without a table, a name is made up. */
  output:
    | { kind: "storage"; bucket: string; prefix: string }
    | { kind: "bigquery"; project: string; dataset: string; table: string | undefined };
}

type Failure = JobPlan["error"];

/** A form, why the job will fail once the form has been read, and where its results go. */
interface Import {
  form: JobForm;
  failure(): Failure;
  fields: readonly Field[];
}

export async function createVertexJob(service: Service, wanted: WantedVertexJob): Promise<Job> {
  const { faults, options, seed, clock } = service;
  const generation = service.generation();
  const family = familyOf(wanted.model);
  const gone = faults.hit("inputFileGone", wanted.displayName) !== undefined;
  const source = gone ? notReadable("the input") : await importOf(service, wanted, family);
  const { form, fields } = source;
  let started = false;
  try {
    const input = await inspect(form, wanted.model, { stopAtProblem: false, uniqueKeys: false });
    if (generation !== service.generation()) throw new WireError("UNAVAILABLE", "The emulator was reset.");
    const method = wanted.model.includes("embedding") ? "embedContent" : "generateContent";
    const limit = method === "embedContent" ? 5 * mostRows : mostRows;
    const tooMany = input.rows > limit ? { code: 3, message: importMessage(`${input.rows} rows are more than ${limit}`) } : undefined;
    const empty = input.rows === 0 ? { code: 3, message: importMessage("the input has no rows") } : undefined;
    const failure = source.failure() ?? outputFailure(service, wanted) ?? tooMany ?? empty;
    const { rows, inputTokens, hashes } = input;
    const createdAt = clock.now();
    started = true;
    const job = service.register({
      ...{ displayName: wanted.displayName, model: wanted.model, method, kind: wanted.input.kind },
      ...{ inputFile: undefined, priority: undefined, webhook: { uris: [], userMetadata: undefined } },
      vertex: { ...wanted.details, output: outputOf(wanted, createdAt, fields) },
      ...{ form, rows, inputTokens, hashes, createdAt },
      names(number, era) {
        const { project, location } = wanted.details;
        const id = digitsOf(`${era} job ${number}`, 19);
        return { id, name: `projects/${projectNumber(project)}/locations/${location}/batchPredictionJobs/${id}` };
      },
      plan(ordinal, at) {
        const info = { model: wanted.model, displayName: wanted.displayName, rows, method, ordinal } as const;
        return planVertexJob(info, at, options, faults, chanceOf(`${seed} job ${ordinal}`), failure);
      },
    });
    service.unpublished.add(job);
    return job;
  } finally {
    if (!started) await form.close().catch(() => undefined);
  }
}

/** Resource names show projects by number. */
export function projectNumber(project: string): string {
  return /^\d+$/.test(project) ? project : digitsOf(`project ${project}`, 12);
}

/** Two jobs of the same instant with the same prefix have the same directory. */
function outputOf({ output }: WantedVertexJob, createdAt: number, fields: readonly Field[]): VertexDetails["output"] {
  const instant = vertexTime(createdAt);
  if (output.kind === "storage") {
    const directory = `${output.prefix}${output.prefix === "" || output.prefix.endsWith("/") ? "" : "/"}prediction-model-${instant}`;
    return { kind: "storage", bucket: output.bucket, directory };
  }
  const table = output.table ?? `predictions_${instant.replaceAll(/\W/g, "_")}`;
  return { ...output, table, fields: [...fields, ...outputFields] };
}

/** An instant as resources of Vertex show it. */
export function vertexTime(ms: number): string {
  return new Date(ms).toISOString().replace("Z", "000Z");
}

/** What can be known of the output beforehand: the bucket or dataset must exist, and a table that is named must not. */
function outputFailure({ objects, tables }: Service, { output }: WantedVertexJob): Failure {
  try {
    if (output.kind === "storage") void objects.bucket(output.bucket);
    else if (output.table !== undefined && tables.find(output.project, output.dataset, output.table))
      return { code: 9, message: `The output table ${output.project}.${output.dataset}.${output.table} exists already.` };
    else if (output.kind === "bigquery") void tables.dataset(output.project, output.dataset);
    return undefined;
  } catch {
    const place = output.kind === "storage" ? `gs://${output.bucket}` : `bq://${output.project}.${output.dataset}`;
    return { code: 9, message: `The output location ${place} does not exist or cannot be written to.` };
  }
}

function notReadable(place: string): Import {
  const failure = { code: 9, message: `${place} does not exist or cannot be read.` };
  return { form: emptyForm, failure: () => failure, fields: [] };
}

const emptyForm: JobForm = {
  rows: async function* () {},
  lines: () => ({ breakable: false, line: () => "", withKey: (row) => row }),
  shuffles: false,
  keepsFinished: true,
  refusal: () => undefined,
  close: async () => undefined,
};

const common = (family: Family): Pick<JobForm, "shuffles" | "keepsFinished" | "refusal"> => ({
  shuffles: true,
  keepsFinished: true,
  refusal(row) {
    if (row.request === undefined) return { error: { code: 3, message: row.problem ?? "Request contains an invalid argument." } };
    if (family.field !== "request" || row.request.cachedContent === undefined) return undefined;
    const { cachedContent } = row.request;
    const id = typeof cachedContent === "string" ? cachedContent.replace(/^.*\//, "") : "";
    return { error: { code: 5, message: `Not found: cached content metadata for ${id}.` } };
  },
});

async function importOf(service: Service, { input }: WantedVertexJob, family: Family): Promise<Import> {
  const { objects, tables } = service;
  try {
    if (input.kind === "storage") {
      const object = objects.get(input.bucket, input.object);
      return await storageImport(object.path, object.bytes, family);
    }
    const table = tables.get(input.project, input.dataset, input.table);
    return await tableImport(table.path, table.bytes, table.fields, family);
  } catch {
    const place =
      input.kind === "storage" ? `gs://${input.bucket}/${input.object}` : `bq://${input.project}.${input.dataset}.${input.table}`;
    return notReadable(place);
  }
}

async function* grouped(
  chunks: AsyncIterable<Uint8Array>,
  toRow: (line: Buffer) => Row | undefined,
): AsyncGenerator<{ row: Row; bytes: number }[]> {
  let rows: { row: Row; bytes: number }[] = [];
  let bytes = 0;
  for await (const lines of splitLines(chunks)) {
    for (const line of lines) {
      const row = isBlank(line) ? undefined : toRow(line);
      if (row === undefined) continue;
      rows.push({ row, bytes: line.length });
      bytes += line.length;
      if (rows.length >= rowsAtATime || bytes >= bytesAtATime) {
        yield rows;
        rows = [];
        bytes = 0;
      }
    }
  }
  if (rows.length > 0) yield rows;
}

/** JSON Lines are imported into a table with typed columns; for other publishers they are taken as they are. */
async function storageImport(path: string, bytes: number, family: Family): Promise<Import> {
  const handle = await open(path, "r");
  const shape = family.echoes ? emptyShape() : undefined;
  let problem = bytes > mostBytes ? `the input has ${bytes} bytes, more than ${mostBytes}` : undefined;
  let number = 0;
  let looked = false;
  const toRow = (line: Buffer): Row | undefined => {
    number += 1;
    const value = parsed(line);
    if (value === undefined) {
      problem ??= `row ${number} is not a JSON object`;
      return undefined;
    }
    if (!looked && shape !== undefined) problem ??= widen(shape, value);
    return rowOf(value, family);
  };
  const rows = async function* () {
    yield* grouped(handle.createReadStream({ start: 0, autoClose: false, highWaterMark: 512 * 1_024 }), toRow);
    looked = true;
  };
  return {
    form: { ...common(family), rows, lines: (job) => storageLines(job, family, shape), close: () => handle.close() },
    failure: () => (problem === undefined ? undefined : { code: 3, message: importMessage(problem) }),
    fields: [],
  };
}

/** The columns of these types do not come back, and a table that has them is refused. */
const refusedTypes = new Set(["RECORD", "RANGE", "DATETIME", "GEOGRAPHY"]);

/** A JSON value has no column typing: nothing of what the importer says to JSON Lines is said here. */
async function tableImport(path: string, bytes: number, all: readonly Field[], family: Family): Promise<Import> {
  const handle = await open(path, "r");
  const refused = all.find((field) => isRepeated(field) || refusedTypes.has(typeOf(field)));
  const missing = all.some(({ name }) => name === family.field) ? undefined : `the table has no column ${family.field}`;
  const problem = refused ? `column ${String(refused.name)} has a type that is not supported` : missing;
  const taken = new Set(outputFields.map(({ name }) => name));
  const toRow = (line: Buffer): Row => {
    const cells = JSON.parse(line.toString()) as Cell[];
    const columns = Object.fromEntries(all.map(({ name }, i) => [String(name), cells[i] ?? null]));
    const asked = columns[family.field];
    return { ...rowOf({ ...columns, [family.field]: typeof asked === "string" ? jsonOf(asked) : undefined }, family), columns };
  };
  const rows = async function* () {
    if (bytes > 0) yield* grouped(handle.createReadStream({ start: 0, end: bytes - 1, autoClose: false }), toRow);
  };
  const fields = all.filter(({ name }) => !taken.has(name));
  return {
    form: { ...common(family), rows, lines: (job) => tableLines(job, family, fields), close: () => handle.close() },
    failure: () => (problem === undefined ? undefined : { code: 3, message: importMessage(problem) }),
    fields,
  };
}

function parsed(line: Buffer): JsonObject | undefined {
  const value = jsonOf(line.toString("utf8"));
  return isObject(value) ? value : undefined;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
