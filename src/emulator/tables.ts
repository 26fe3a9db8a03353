/**
 * Datasets and tables of BigQuery. Rows are on disk: a line each, its cells as the API shows them.
 *
 * @module
 */
import { appendFileSync, rmSync } from "node:fs";
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Cell, Field } from "./cells.ts";
import { splitLines } from "./lines.ts";
import { RestError } from "./rest.ts";

/** Every so many rows their place in the file is remembered. */
const stride = 1_000;

export interface Table {
  project: string;
  dataset: string;
  name: string;
  fields: readonly Field[];
  rows: number;
  bytes: number;
  /** Where each row begins whose number is a multiple of the stride. */
  places: number[];
  path: string;
  createdAt: number;
  changedAt: number;
  /** From when on it is gone; `undefined`: never. */
  expiresAt: number | undefined;
  ordinal: number;
  /** insertAll: rows that came before, by their `insertId`. */
  inserted: Set<string>;
}

export interface Dataset {
  project: string;
  name: string;
  location: string;
  createdAt: number;
  tables: Map<string, Table>;
}

export interface TableStore {
  /** 404 when it does not exist. */
  dataset(project: string, name: string): Dataset;
  createDataset(project: string, name: string, location?: string): Dataset;
  deleteDataset(project: string, name: string, withTables: boolean): Promise<void>;
  datasets(project: string): Dataset[];
  find(project: string, dataset: string, name: string): Table | undefined;
  /** 404 when it does not exist. */
  get(project: string, dataset: string, name: string): Table;
  /** 409 when it exists. */
  create(project: string, dataset: string, name: string, fields: readonly Field[]): Promise<Table>;
  /** Lets a table expire at this instant, in milliseconds since 1970; `undefined`: never. 400 when that is over. */
  expire(table: Table, at: number | undefined): void;
  delete(project: string, dataset: string, name: string): Promise<void>;
  truncate(table: Table, fields: readonly Field[]): Promise<void>;
  append(table: Table, rows: readonly (readonly Cell[])[]): void;
  /** Rows from `start` on, at most `most` of them and about `bytes`. */
  read(table: Table, start: number, most: number, bytes: number): Promise<Cell[][]>;
  reset(): Promise<void>;
}

export interface TableStoreOptions {
  dir: string;
  now: () => number;
  /** Those that exist at the start, as `dataset` or `project.dataset`; `undefined`: a dataset exists when somebody asks for it. */
  datasets: readonly string[] | undefined;
}

export function tableStore({ dir, now, datasets: known }: TableStoreOptions): TableStore {
  const made = new Map<string, Dataset>();
  const gone = new Set<string>();
  let writes = 0;

  const isKnown = (project: string, name: string) => known?.includes(name) === true || known?.includes(`${project}.${name}`) === true;
  const make = (project: string, name: string, location = "US"): Dataset => {
    const dataset = { project, name, location, createdAt: now(), tables: new Map<string, Table>() };
    made.set(`${project}.${name}`, dataset);
    gone.delete(`${project}.${name}`);
    return dataset;
  };
  const findDataset = (project: string, name: string): Dataset | undefined => {
    const id = `${project}.${name}`;
    const usable = /^\w{1,1024}$/.test(name) && !gone.has(id) && (known === undefined || isKnown(project, name));
    return withoutExpired(made.get(id)) ?? (usable ? make(project, name) : undefined);
  };
  const withoutExpired = (dataset: Dataset | undefined): Dataset | undefined => {
    for (const { name, path, expiresAt } of dataset?.tables.values() ?? []) {
      if (expiresAt === undefined || now() < expiresAt) continue;
      dataset?.tables.delete(name);
      rmSync(path, { force: true });
    }
    return dataset;
  };

  const store: TableStore = {
    dataset(project, name) {
      const dataset = findDataset(project, name);
      if (dataset === undefined) throw new RestError(404, "notFound", `Not found: Dataset ${project}:${name}`);
      return dataset;
    },
    createDataset(project, name, location) {
      if (!/^\w{1,1024}$/.test(name)) throw new RestError(400, "invalid", `Invalid dataset ID "${name}".`);
      if (made.has(`${project}.${name}`) || isKnown(project, name))
        throw new RestError(409, "duplicate", `Already Exists: Dataset ${project}:${name}`);
      return make(project, name, location);
    },
    async deleteDataset(project, name, withTables) {
      const { tables } = store.dataset(project, name);
      if (tables.size > 0 && !withTables) throw new RestError(400, "resourceInUse", `Dataset ${project}:${name} is still in use`);
      for (const table of tables.values()) await rm(table.path, { force: true });
      made.delete(`${project}.${name}`);
      gone.add(`${project}.${name}`);
    },
    datasets: (project) => [...made.values()].filter((dataset) => dataset.project === project),
    find: (project, dataset, name) => findDataset(project, dataset)?.tables.get(name),
    get(project, dataset, name) {
      const table = store.dataset(project, dataset).tables.get(name);
      if (table === undefined) throw new RestError(404, "notFound", `Not found: Table ${project}:${dataset}.${name}`);
      return table;
    },
    async create(project, datasetName, name, fields) {
      const dataset = store.dataset(project, datasetName);
      if (!/^[\w -]{1,1024}$/.test(name)) throw new RestError(400, "invalid", `Invalid table ID "${name}".`);
      if (dataset.tables.has(name)) throw new RestError(409, "duplicate", `Already Exists: Table ${project}:${datasetName}.${name}`);
      writes += 1;
      const path = join(dir, `table-${writes}`);
      const createdAt = now();
      const table: Table = {
        ...{ project, dataset: datasetName, name, fields, rows: 0, bytes: 0, places: [], path, createdAt, changedAt: createdAt },
        expiresAt: undefined,
        ordinal: writes,
        inserted: new Set(),
      };
      dataset.tables.set(name, table);
      await (await open(path, "w")).close();
      return table;
    },
    expire(table, at) {
      if (at !== undefined && !(at > now())) throw new RestError(400, "invalid", "Invalid expirationTime: it must be in the future.");
      Object.assign(table, { expiresAt: at, changedAt: now() });
    },
    async delete(project, dataset, name) {
      const table = store.get(project, dataset, name);
      store.dataset(project, dataset).tables.delete(name);
      await rm(table.path, { force: true });
    },
    async truncate(table, fields) {
      writes += 1;
      const old = table.path;
      // Whoever reads the old rows goes on with them.
      const path = join(dir, `table-${writes}`);
      await (await open(path, "w")).close();
      Object.assign(table, { path, fields, rows: 0, bytes: 0, places: [], changedAt: now() });
      table.inserted.clear();
      await rm(old, { force: true });
    },
    append(table, rows) {
      let text = "";
      for (const row of rows) {
        if (table.rows % stride === 0) table.places.push(table.bytes);
        const line = `${JSON.stringify(row)}\n`;
        table.bytes += Buffer.byteLength(line);
        table.rows += 1;
        text += line;
      }
      table.changedAt = now();
      // At once, so that rows that come at the same time keep to the places that were noted for them.
      appendFileSync(table.path, text);
    },
    async read(table, start, most, bytes) {
      const result: Cell[][] = [];
      if (start >= table.rows || most <= 0) return result;
      const place = Math.floor(start / stride);
      let number = place * stride;
      let left = bytes;
      const { size } = await stat(table.path);
      const file = await open(table.path, "r");
      try {
        const chunks = file.createReadStream({ start: table.places[place] ?? 0, end: size - 1, autoClose: false });
        for await (const lines of splitLines(chunks)) {
          for (const line of lines) {
            if (number >= start && result.length < most && left > 0) {
              result.push(JSON.parse(line.toString()) as Cell[]);
              left -= line.length;
            }
            number += 1;
          }
          if (result.length >= most || left <= 0) break;
        }
      } finally {
        await file.close();
      }
      return result;
    },
    async reset() {
      const paths = [...made.values()].flatMap(({ tables }) => [...tables.values()].map(({ path }) => path));
      made.clear();
      gone.clear();
      await Promise.all(paths.map((path) => rm(path, { force: true })));
    },
  };
  return store;
}
