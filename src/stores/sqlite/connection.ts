import { notOpen, tooNew } from "../store-errors.ts";
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { cannotOpen, foreignStore, isBusy, storeError, unreleased } from "./errors.ts";
import { APPLICATION_ID, lastUnreleased, migrations, schemaVersion } from "./migrations.ts";

export interface ConnectionOptions {
  path: string;
  synchronous: "full" | "normal";
  busyTimeoutMs: number;
  maxBytes: number | undefined;
}

/** A statement whose rows are arrays. Say the types of the columns where they are taken apart. */
export interface Rows {
  get(...values: SQLInputValue[]): unknown[] | undefined;
  all(...values: SQLInputValue[]): unknown[][];
}

/** SQLite sleeps this long for a lock with the thread blocked; between two such naps the event loop gets its turn. */
const NAP_MS = 50;

/**
 * One connection. Everything on it is synchronous: a transaction begins, works and commits without an `await`, so no two of
 * one process ever mix. Only the wait for another process's lock gives up the thread.
 */
export class Connection {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #rows = new Map<string, Rows>();
  readonly #naps: number;
  readonly #full: boolean;
  #closed = false;

  constructor(path: string, database: DatabaseSync, { busyTimeoutMs, synchronous }: ConnectionOptions) {
    this.path = path;
    this.#full = synchronous === "full";
    this.#database = database;
    this.#naps = Math.max(1, Math.ceil(busyTimeoutMs / NAP_MS));
  }

  /** Opens the file, migrates it and makes it ours; leaves a file that is not ours as it was. */
  static async open(options: ConnectionOptions): Promise<Connection> {
    const inMemory = options.path === ":memory:";
    const path = inMemory ? options.path : resolve(options.path);
    let database: DatabaseSync | undefined;
    try {
      if (!inMemory) mkdirSync(dirname(path), { recursive: true });
      database = new DatabaseSync(path, { enableForeignKeyConstraints: false });
      const connection = new Connection(path, database, options);
      database.exec(`PRAGMA busy_timeout = ${Math.min(NAP_MS, options.busyTimeoutMs)}`);
      let version = 0;
      await connection.#patiently(() => {
        version = connection.#versionAtOnce();
      });
      await connection.#patiently(() => connection.#exec("PRAGMA journal_mode = WAL"));
      connection.#exec(`
        PRAGMA synchronous = ${options.synchronous === "full" ? "FULL" : "NORMAL"};
        PRAGMA cache_size = -16384;
        PRAGMA temp_store = MEMORY;
        PRAGMA wal_autocheckpoint = 4000;
        PRAGMA journal_size_limit = 67108864;
      `);
      if (options.maxBytes !== undefined) {
        const { page_size: pageSize } = database.prepare("PRAGMA page_size").get() as { page_size: number };
        connection.#exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(options.maxBytes / pageSize))}`);
      }
      // A store that is up to date opens without the write lock, also while another process is busy writing.
      if (version < schemaVersion()) {
        await connection.write(
          () => connection.#migrate(),
          () => undefined,
        );
      }
      return connection;
    } catch (thrown) {
      database?.close();
      const error = storeError(thrown, path);
      throw error === thrown && (thrown as { syscall?: unknown }).syscall !== undefined ? cannotOpen(path, thrown) : error;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#statements.clear();
    this.#rows.clear();
    this.#database.close();
  }

  /** The statement, prepared once per connection. Pass literals, so that the text is the same object every time. */
  prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      if (this.#closed) throw notOpen(this.path);
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Like `prepare`, for rows that come back as arrays: on hot paths, naming the columns of every row costs as much as reading them. */
  prepareRows(sql: string): Rows {
    let rows = this.#rows.get(sql);
    if (rows === undefined) {
      const statement = this.prepare(sql);
      rows = toRows(statement);
      this.#rows.set(sql, rows);
    }
    return rows;
  }

  /** Every statement prepared so far; for checks of their query plans. */
  statements(): string[] {
    return [...this.#statements.keys()];
  }

  /** `work` in one transaction that is durable when this resolves; if anything throws, nothing happened and `undo` is called. */
  write<T>(work: () => T, undo: () => void): Promise<T> {
    return this.#transaction("BEGIN IMMEDIATE", work, undo);
  }

  /**
   * Like `write`, but only durable against a crash of the process; a power cut may undo it until the next `write` is acknowledged. For what
   * can be done again without a trace: everything later is lost with it, never instead of it.
   */
  writeSoon<T>(work: () => T, undo: () => void): Promise<T> {
    if (!this.#full) return this.write(work, undo);
    return this.#transaction("BEGIN IMMEDIATE", work, undo, true);
  }

  /** `work` on one snapshot. */
  read<T>(work: () => T): Promise<T> {
    return this.#transaction("BEGIN", work, () => undefined);
  }

  /** Nothing is awaited between the begin that succeeds and the commit. */
  async #transaction<T>(begin: string, work: () => T, undo: () => void, soon = false): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        // This pragma does nothing within a transaction.
        if (soon) this.#exec("PRAGMA synchronous = NORMAL");
        this.prepare(begin).run();
        break;
      } catch (thrown) {
        if (soon) this.#exec("PRAGMA synchronous = FULL");
        if (!isBusy(thrown) || tries >= this.#naps) throw storeError(thrown, this.path);
      }
      await new Promise(setImmediate);
    }
    try {
      const result = work();
      this.prepare("COMMIT").run();
      return result;
    } catch (thrown) {
      this.#rollback();
      undo();
      throw storeError(thrown, this.path);
    } finally {
      if (soon) this.#exec("PRAGMA synchronous = FULL");
    }
  }

  /** Some errors (a full disk) have rolled back already, then there is nothing to do. */
  #rollback(): void {
    try {
      this.prepare("ROLLBACK").run();
    } catch {
      return;
    }
  }

  /** Statements outside of a transaction that another process can block: switching to WAL ignores SQLite's own waiting. */
  async #patiently(attempt: () => void): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        return attempt();
      } catch (thrown) {
        if (!isBusy(thrown) || tries >= this.#naps) throw thrown;
      }
      await new Promise(setImmediate);
    }
  }

  #exec(sql: string): void {
    this.#database.exec(sql);
  }

  #pragma(name: "application_id" | "user_version"): number {
    return (this.#database.prepare(`PRAGMA ${name}`).get() as Record<string, number>)[name] ?? 0;
  }

  /** Schema version of the file, 0 for a new one. */
  #version(): number {
    const version = this.#pragma("user_version");
    if (this.#pragma("application_id") === APPLICATION_ID) {
      if (version > schemaVersion()) throw tooNew(this.path, version, schemaVersion());
      if (version <= lastUnreleased) throw unreleased(this.path);
      return version;
    }
    if (this.#database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined) throw foreignStore(this.path);
    return 0;
  }

  /** The version as of one instant: between two reads another process may make the new file a store. */
  #versionAtOnce(): number {
    this.#exec("BEGIN");
    try {
      return this.#version();
    } finally {
      this.#exec("ROLLBACK");
    }
  }

  /** Runs under the write lock and looks again: of two processes that open a new file together, one finds it done. */
  #migrate(): void {
    const version = this.#version();
    if (version === schemaVersion()) return;
    for (const step of migrations.slice(Math.max(0, version - lastUnreleased))) this.#exec(step);
    this.#exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${schemaVersion()};`);
  }
}

/** Node before 22.16 cannot return arrays; the fields of its row objects stand in the order of the columns. */
function toRows(statement: StatementSync): Rows {
  if (typeof statement.setReturnArrays === "function") {
    statement.setReturnArrays(true);
    return statement as unknown as Rows;
  }
  return {
    get: (...values) => {
      const row = statement.get(...values);
      return row === undefined ? undefined : Object.values(row);
    },
    all: (...values) => statement.all(...values).map((row) => Object.values(row)),
  };
}
