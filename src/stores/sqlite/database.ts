import type { StatementSync } from "node:sqlite";
import type { Connection, Rows } from "./connection.ts";
import { Names } from "./names.ts";
import type { Place } from "./removal.ts";
import { Tallies } from "./tallies.ts";

/** The connection with what its transactions share: names as numbers, and the counters they change. */
export class Database {
  readonly names: Names;
  readonly tallies = new Tallies();
  /** Where the next look for what can be removed begins, by index. */
  readonly removals = new Map<string, Place>();
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.names = new Names(connection);
  }

  sql(text: string): StatementSync {
    return this.#connection.prepare(text);
  }

  /** Rows as arrays; see `Connection.prepareRows`. */
  rows(text: string): Rows {
    return this.#connection.prepareRows(text);
  }

  /** One durable transaction; counters are written at its end. After a failure nothing of it is left, in the file or in memory. */
  write<T>(work: () => T): Promise<T> {
    return this.#connection.write(() => this.#counted(work), this.#undo);
  }

  /** For what can be done again without a trace; see `Connection.writeSoon`. */
  writeSoon<T>(work: () => T): Promise<T> {
    return this.#connection.writeSoon(() => this.#counted(work), this.#undo);
  }

  #counted<T>(work: () => T): T {
    const result = work();
    this.tallies.flush(this.#connection);
    return result;
  }

  readonly #undo = (): void => {
    this.tallies.clear();
    this.names.clear();
    this.removals.clear();
  };

  read<T>(work: () => T): Promise<T> {
    return this.#connection.read(work);
  }

  statements(): string[] {
    return this.#connection.statements();
  }

  close(): void {
    this.#connection.close();
  }
}
