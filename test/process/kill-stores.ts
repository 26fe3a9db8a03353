/**
 * The stores of the kill test: where its programs keep their runs, and what is asked of a store that lived through it.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Page, Store } from "../../src/core/store.ts";
import { PostgresStore } from "../../src/postgres.ts";
import { SqliteStore } from "../../src/sqlite.ts";
import { FirestoreStore } from "../../src/stores/firestore/store.ts";
import { newProject } from "../support/firestore-client.ts";
import { newSchema } from "../support/postgres-store.ts";

export interface KillStore {
  url: string;
  /** A store on it, not open yet. */
  open: () => Store;
  /** `ok`, or what is wrong with what the store keeps for itself. */
  check: (store: Store) => Promise<string>;
}

/** A store that is empty, for the course of this name. */
export type KillStores = (course: string) => KillStore;

/** One SQLite file a course. */
export function sqliteStores(folder: string): KillStores {
  return (course) => {
    mkdirSync(join(folder, course), { recursive: true });
    const path = join(folder, course, "store.db");
    return { url: `sqlite:${path}`, open: () => new SqliteStore({ path }), check: async () => integrityOf(path) };
  };
}

/** One schema a course, on the server of this URL. `made` receives the URL of each. */
export function postgresStores(server: string, made: string[]): KillStores {
  return () => {
    const url = newSchema(server);
    made.push(url);
    return { url, open: () => new PostgresStore(url), check: miscounted };
  };
}

/** One project a course, in the emulator that `FIRESTORE_EMULATOR_HOST` names: for this process and those that it starts. */
export const firestoreStores: KillStores = () => {
  const projectId = newProject();
  return { url: `firestore://${projectId}`, open: () => new FirestoreStore({ projectId }), check: miscounted };
};

function integrityOf(path: string): string {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const rows = database.prepare("PRAGMA integrity_check").all();
    return rows.map((row) => String(row["integrity_check"])).join("; ");
  } finally {
    database.close();
  }
}

/** A database server looks after its own pages; what many processes could spoil are the counters beside the rows. */
async function miscounted(store: Store): Promise<string> {
  const { runs, requests, batches } = await store.stats();
  const wrong = [
    ...differences("runs", runs, await all(async (cursor) => store.listRuns({ limit: 500, ...cursor }))),
    ...differences("requests", requests, await all(async (cursor) => store.listRequests({ limit: 500, ...cursor }))),
    ...differences("batches", batches, await all(async (cursor) => store.listBatches({ limit: 500, ...cursor }))),
  ];
  return wrong.length === 0 ? "ok" : wrong.join("; ");
}

function differences(what: string, counted: Readonly<Record<string, number>>, items: readonly { state: string }[]): string[] {
  const there = Map.groupBy(items, ({ state }) => state);
  return [...new Set([...Object.keys(counted), ...there.keys()])].flatMap((state) => {
    const [count, found] = [counted[state] ?? 0, there.get(state)?.length ?? 0];
    return count === found ? [] : [`${count} ${what} are counted as ${state}, ${found} are there`];
  });
}

/** Every item of a list that comes in pages. */
export async function all<T>(page: (cursor: { cursor?: string }) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  for (let cursor: string | undefined; ;) {
    const next = await page(cursor === undefined ? {} : { cursor });
    items.push(...next.items);
    cursor = next.nextCursor;
    if (cursor === undefined) return items;
  }
}
