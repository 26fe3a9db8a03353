/**
 * BigQuery, as its REST API: datasets, tables and their rows.
 *
 * @module
 */
import { cellsOf, type Cell } from "../cells.ts";
import { fieldsOf, tableReference } from "../bigquery-jobs.ts";
import { publishResults } from "../publishing.ts";
import { RestError } from "../rest.ts";
import type { Service } from "../service.ts";
import type { Dataset, Table } from "../tables.ts";
import { isObject, parseJson, type JsonObject } from "../wire.ts";
import { bigQueryJobHandlers } from "./bigquery-jobs.ts";
import { breakConnection, jsonText, type Handler } from "./context.ts";
import type { Target } from "./target.ts";

/** Most rows of one page, and most bytes. */
const pageRows = 50_000;
const pageBytes = 10_000_000;

const json = (value: JsonObject) => jsonText(JSON.stringify(value));

function datasetBody({ project, name, location, createdAt }: Dataset): JsonObject {
  return {
    ...{ kind: "bigquery#dataset", id: `${project}:${name}`, etag: "emulator", location },
    datasetReference: { projectId: project, datasetId: name },
    ...{ creationTime: String(createdAt), lastModifiedTime: String(createdAt) },
  };
}

function tableBody(table: Table): JsonObject {
  const { project, dataset, name } = table;
  return {
    ...{ kind: "bigquery#table", id: `${project}:${dataset}.${name}`, etag: "emulator", type: "TABLE", location: "US" },
    tableReference: { projectId: project, datasetId: dataset, tableId: name },
    ...(table.fields.length === 0 ? {} : { schema: { fields: table.fields } }),
    ...{ numRows: String(table.rows), numBytes: String(table.bytes) },
    ...{ creationTime: String(table.createdAt), lastModifiedTime: String(table.changedAt) },
    ...(table.expiresAt === undefined ? {} : { expirationTime: String(table.expiresAt) }),
  };
}

const listDatasets: Handler = (service, _, { names: { project = "" } }) =>
  json({ kind: "bigquery#datasetList", datasets: service.tables.datasets(project).map(datasetBody) });

const createDataset: Handler = async (service, context, { names: { project = "" } }) => {
  const body = parseJson(await context.req.text());
  const reference = tableReference(body.datasetReference, project);
  const location = typeof body.location === "string" ? body.location : undefined;
  return json(datasetBody(service.tables.createDataset(reference.project, reference.dataset, location)));
};

const getDataset: Handler = (service, _, { names: { project = "", dataset = "" } }) =>
  json(datasetBody(service.tables.dataset(project, dataset)));

const deleteDataset: Handler = async (service, context, { names: { project = "", dataset = "" } }) => {
  await publishResults(service);
  await service.tables.deleteDataset(project, dataset, context.req.query("deleteContents") === "true");
  return new Response(null, { status: 204 });
};

const listTables: Handler = async (service, context, { names: { project = "", dataset = "" } }) => {
  await publishResults(service);
  const all = [...service.tables.dataset(project, dataset).tables.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const most = Number(context.req.query("maxResults") ?? 1_000) || 1_000;
  const start = Number(context.req.query("pageToken") ?? 0) || 0;
  const tables = all.slice(start, start + most).map(tableBody);
  const next = start + tables.length < all.length ? { nextPageToken: String(start + tables.length) } : {};
  return json({ kind: "bigquery#tableList", totalItems: all.length, ...(tables.length === 0 ? {} : { tables }), ...next });
};

const createTable: Handler = async (service, context, { names: { project = "", dataset = "" } }) => {
  const body = parseJson(await context.req.text());
  const { table } = tableReference(body.tableReference, project);
  const created = await service.tables.create(project, dataset, table, fieldsOf(body.schema));
  setExpiration(service, created, body.expirationTime);
  return json(tableBody(created));
};

/** An int64 as text, in milliseconds since 1970; null takes it away. */
function setExpiration(service: Service, table: Table, value: unknown): void {
  if (value === undefined) return;
  const at = value === null ? undefined : Number(value);
  if (Number.isNaN(at)) throw new RestError(400, "invalid", "Invalid expirationTime.");
  service.tables.expire(table, at);
}

async function tableOf(service: Service, { id, names: { project = "", dataset = "" } }: Target): Promise<Table> {
  await publishResults(service);
  return service.tables.get(project, dataset, id);
}

const getTable: Handler = async (service, _, target) => {
  const { names, id } = target;
  if (service.faults.hit("inputFileGone", `bq://${names.project}.${names.dataset}.${id}`))
    throw new RestError(404, "notFound", `Not found: Table ${names.project}:${names.dataset}.${id}`);
  return json(tableBody(await tableOf(service, target)));
};

/** Of what a table can be told, its expiration alone. */
const patchTable: Handler = async (service, context, target) => {
  const body = parseJson(await context.req.text());
  const table = await tableOf(service, target);
  setExpiration(service, table, body.expirationTime);
  return json(tableBody(table));
};

const deleteTable: Handler = async (service, _, target) => {
  await tableOf(service, target);
  await service.tables.delete(target.names.project ?? "", target.names.dataset ?? "", target.id);
  return new Response(null, { status: 204 });
};

function rowBody(cells: readonly Cell[]): JsonObject {
  return { f: cells.map((v) => ({ v })) };
}

const readRows: Handler = async (service, context, target) => {
  const { req } = context;
  const { names, id } = target;
  const uri = `bq://${names.project}.${names.dataset}.${id}`;
  if (service.faults.hit("outputFileGone", uri))
    throw new RestError(404, "notFound", `Not found: Table ${names.project}:${names.dataset}.${id}`);
  const table = await tableOf(service, target);
  if (service.faults.hit("downloadCut", uri)) return breakConnection(context);
  const token = req.query("pageToken");
  const start = Number(token ?? req.query("startIndex") ?? 0);
  if (!Number.isSafeInteger(start) || start < 0) throw new RestError(400, "invalid", "Invalid page token.");
  const wanted = Number(req.query("maxResults") ?? pageRows);
  const most = Number.isInteger(wanted) && wanted > 0 ? Math.min(wanted, pageRows) : pageRows;
  const rows = await service.tables.read(table, start, most, pageBytes);
  const end = start + rows.length;
  return json({
    kind: "bigquery#tableDataList",
    etag: "emulator",
    totalRows: String(table.rows),
    ...(rows.length === 0 ? {} : { rows: rows.map(rowBody) }),
    ...(end < table.rows && rows.length > 0 ? { pageToken: String(end) } : {}),
  });
};

/** A row whose `insertId` came before is taken once. All rows are taken or none. */
const insertAll: Handler = async (service, context, target) => {
  const body = parseJson(await context.req.text());
  const table = await tableOf(service, target);
  const rows = Array.isArray(body.rows) ? body.rows.filter(isObject) : [];
  if (rows.length === 0) throw new RestError(400, "invalid", "No rows present in the request.");
  const insertErrors: JsonObject[] = [];
  const cells: { id: string | undefined; cells: Cell[] }[] = [];
  for (const [index, row] of rows.entries()) {
    try {
      const id = typeof row.insertId === "string" ? row.insertId : undefined;
      cells.push({ id, cells: cellsOf(table.fields, isObject(row.json) ? row.json : {}, "insert") });
    } catch (error) {
      insertErrors.push({ index, errors: [{ reason: "invalid", message: error instanceof Error ? error.message : String(error) }] });
    }
  }
  if (insertErrors.length > 0) return json({ kind: "bigquery#tableDataInsertAllResponse", insertErrors });
  const fresh = cells.filter(({ id }) => id === undefined || !table.inserted.has(id));
  for (const { id } of fresh) if (id !== undefined) table.inserted.add(id);
  service.tables.append(
    table,
    fresh.map((row) => row.cells),
  );
  return json({ kind: "bigquery#tableDataInsertAllResponse" });
};

const selectAll = /^\s*SELECT\s+\*\s+FROM\s+`?([\w-]+)[.:](\w+)\.([\w-]+)`?\s*(?:LIMIT\s+(\d+)\s*)?;?\s*$/i;

/** `SELECT * FROM table [LIMIT n]`, up to one page; other queries are refused. */
const query: Handler = async (service, context, target) => {
  const body = parseJson(await context.req.text());
  const match = selectAll.exec(typeof body.query === "string" ? body.query : "");
  if (!match) throw new RestError(400, "invalidQuery", "The emulator answers SELECT * FROM `project.dataset.table` [LIMIT n] only.");
  const [, project = "", dataset = "", id = "", limit] = match;
  const table = await tableOf(service, { ...target, id, names: { project, dataset } });
  const most = limit === undefined ? table.rows : Math.min(table.rows, Number(limit));
  const rows = await service.tables.read(table, 0, Math.min(most, pageRows), pageBytes);
  if (rows.length < most)
    throw new RestError(400, "invalidQuery", "The result is larger than a page of the emulator. Use LIMIT, or read the rows of the table.");
  return json({
    kind: "bigquery#queryResponse",
    schema: { fields: table.fields },
    queryId: "emulator",
    ...{ totalRows: String(rows.length), totalBytesProcessed: "0", jobComplete: true, cacheHit: false },
    ...(rows.length === 0 ? {} : { rows: rows.map(rowBody) }),
  });
};

export const bigQueryHandlers = {
  ...bigQueryJobHandlers,
  "bigquery.listDatasets": listDatasets,
  "bigquery.createDataset": createDataset,
  "bigquery.getDataset": getDataset,
  "bigquery.deleteDataset": deleteDataset,
  "bigquery.listTables": listTables,
  "bigquery.createTable": createTable,
  "bigquery.getTable": getTable,
  "bigquery.patchTable": patchTable,
  "bigquery.deleteTable": deleteTable,
  "bigquery.readRows": readRows,
  "bigquery.insertAll": insertAll,
  "bigquery.query": query,
} satisfies Record<string, Handler>;
