import type { StatementSync } from "node:sqlite";
import { Connection } from "./connection.ts";
import { Names } from "./names.ts";
import { Tallies } from "./tallies.ts";

/** The connection with what its transactions share: names as numbers, and the counters they change. */
export class Database {
  readonly names: Names;
  readonly tallies = new Tallies();
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.names = new Names(connection);
  }

  sql(text: string): StatementSync {
    return this.#connection.prepare(text);
  }

  /** One durable transaction; counters are written at its end. After a failure nothing of it is left, in the file or in memory. */
  write<T>(work: () => T): Promise<T> {
    return this.#connection.write(
      () => {
        const result = work();
        this.tallies.flush(this.#connection);
        return result;
      },
      () => {
        this.tallies.clear();
        this.names.clear();
      },
    );
  }

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
