/**
 * Load jobs of BigQuery: rows of JSON Lines into a table.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { cellsOf, type Field } from "./cells.ts";
import { isBlank, splitLines } from "./lines.ts";
import { RestError } from "./rest.ts";
import type { Service } from "./service.ts";
import type { Table } from "./tables.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** A job as it was asked for, and how it ended. */
export interface LoadJob {
  project: string;
  id: string;
  configuration: JsonObject;
  createdAt: number;
  error: { reason: string; message: string } | undefined;
  rows: number;
  bytes: number;
}

const objectOf = (value: unknown): JsonObject => (isObject(value) ? value : {});
const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

export interface TableReference {
  project: string;
  dataset: string;
  table: string;
}

export function tableReference(value: unknown, project: string): TableReference {
  const { projectId, datasetId, tableId } = objectOf(value);
  return { project: textOf(projectId) || project, dataset: textOf(datasetId), table: textOf(tableId) };
}

export function fieldsOf(schema: unknown): Field[] {
  const { fields } = objectOf(schema);
  return Array.isArray(fields) ? fields.filter(isObject) : [];
}

/** Runs a load job to its end. `upload`: the file that came with it, else it reads its `sourceUris`. */
export async function runLoad(service: Service, job: LoadJob, upload: string | undefined): Promise<void> {
  const load = objectOf(job.configuration.load);
  try {
    if (textOf(load.sourceFormat) !== "NEWLINE_DELIMITED_JSON")
      throw new RestError(400, "invalid", "The emulator loads NEWLINE_DELIMITED_JSON only.");
    const paths = upload === undefined ? sourcesOf(service, load) : [upload];
    const target = tableReference(load.destinationTable, job.project);
    const fields = await schemaOf(service, load, target, paths);
    // First all rows are looked at: a load happens as a whole or not at all.
    for await (const rows of rowsOf(paths)) for (const row of rows) cellsOf(fields, row, "load");
    const table = await tableFor(service, load, target, fields);
    const before = table.bytes;
    for await (const rows of rowsOf(paths)) {
      service.tables.append(
        table,
        rows.map((row) => cellsOf(table.fields, row, "load")),
      );
      job.rows += rows.length;
    }
    job.bytes = table.bytes - before;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    job.error = {
      reason: error instanceof RestError ? error.reason : "invalid",
      message: `Error while reading data, error message: ${error.message}`,
    };
  }
}

function sourcesOf(service: Service, load: JsonObject): string[] {
  const uris = Array.isArray(load.sourceUris) ? load.sourceUris : [];
  if (uris.length === 0) throw new RestError(400, "invalid", "Load configuration must specify at least one source URI");
  return uris.map((uri) => {
    const match = /^gs:\/\/([^/]+)\/(.+)$/.exec(String(uri));
    if (!match) throw new RestError(400, "invalid", `Invalid source URI ${String(uri)}`);
    return service.objects.get(match[1] ?? "", match[2] ?? "").path;
  });
}

async function* rowsOf(paths: readonly string[]): AsyncGenerator<JsonObject[]> {
  for (const path of paths) {
    for await (const lines of splitLines(createReadStream(path, { highWaterMark: 512 * 1_024 }) as AsyncIterable<Buffer>)) {
      yield lines.filter((line) => !isBlank(line)).map(rowOf);
    }
  }
}

function rowOf(line: Buffer): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(line.toString("utf8"));
  } catch {
    value = undefined;
  }
  if (!isObject(value)) throw new TypeError("JSON table encountered too many errors: a line is not a JSON object.");
  return value;
}

/** Of the job, of the table, or as the first rows look. */
async function schemaOf(service: Service, load: JsonObject, target: TableReference, paths: readonly string[]): Promise<readonly Field[]> {
  const given = fieldsOf(load.schema);
  if (given.length > 0) return given;
  const known = service.tables.find(target.project, target.dataset, target.table);
  if (known && known.fields.length > 0 && load.writeDisposition !== "WRITE_TRUNCATE") return known.fields;
  if (load.autodetect === true) return detected(paths);
  if (known && known.fields.length > 0) return known.fields;
  throw new TypeError("No schema specified on job or table.");
}

async function detected(paths: readonly string[]): Promise<Field[]> {
  const types = new Map<string, string>();
  for await (const rows of rowsOf(paths)) {
    for (const [name, value] of rows.flatMap((row) => Object.entries(row))) {
      if (value === null) continue;
      if (typeof value === "object")
        throw new TypeError(`The emulator does not detect nested fields such as ${name}; give the load job a schema.`);
      const type = typeof value === "boolean" ? "BOOLEAN" : typeof value === "number" ? "FLOAT" : "STRING";
      types.set(name, (types.get(name) ?? type) === type ? type : "STRING");
    }
  }
  return [...types].map(([name, type]) => ({ name, type, mode: "NULLABLE" }));
}

async function tableFor(
  service: Service,
  load: JsonObject,
  { project, dataset, table }: TableReference,
  fields: readonly Field[],
): Promise<Table> {
  const { tables } = service;
  const known = tables.find(project, dataset, table);
  if (known === undefined) {
    if (load.createDisposition === "CREATE_NEVER") return tables.get(project, dataset, table);
    return tables.create(project, dataset, table, fields);
  }
  if (load.writeDisposition === "WRITE_TRUNCATE") await tables.truncate(known, fields);
  else if (load.writeDisposition === "WRITE_EMPTY" && known.rows > 0)
    throw new RestError(409, "duplicate", `Already Exists: Table ${project}:${dataset}.${table}`);
  else if (known.fields.length === 0) known.fields = fields;
  return known;
}

/** The Job resource. */
export function loadJobBody(job: LoadJob, done: boolean): JsonObject {
  const { project, id, configuration, error } = job;
  const at = String(job.createdAt);
  return {
    kind: "bigquery#job",
    id: `${project}:US.${id}`,
    jobReference: { projectId: project, jobId: id, location: "US" },
    configuration: { jobType: "LOAD", ...configuration },
    status: { state: done ? "DONE" : "RUNNING", ...(done && error ? { errorResult: error, errors: [error] } : {}) },
    statistics: {
      ...{ creationTime: at, startTime: at },
      ...(done ? { endTime: at, load: { outputRows: String(job.rows), outputBytes: String(job.bytes), inputFiles: "1" } } : {}),
    },
  };
}
