import type { PgClient, PgQuery, PgResult } from "./options.ts";

export type Row = Record<string, unknown>;

/** What statements are sent on. Tables are written `gb.name`. */
export interface Sql {
  /** Rows as objects. */
  query<T = Row>(text: string, values?: unknown[]): Promise<T[]>;
  /** Rows as arrays, for hot statements; the number of rows that were changed if there are none. */
  rows<T extends unknown[] = unknown[]>(text: string, values?: unknown[]): Promise<T[]>;
  /** How many rows were changed. */
  run(text: string, values?: unknown[]): Promise<number>;
  /** For a statement whose answer nobody needs: resolves when it is sent, where the connection can do that. If it fails, its transaction does. */
  send(text: string, values?: unknown[]): Promise<void>;
}

/** A query as `pg` takes it. */
interface QueryMaker {
  toQuery(text: string, values: unknown[] | undefined, rowMode?: "array"): PgQuery;
}

/**
 * What is sent on a connection while it is lent, a transaction or a single statement. Where the connection can, statements follow each other without waiting for answers. The server does them in their order, and none
 * after one that fails: so a transaction fails with what failed first in it, and its commit may be on its way before everything is answered, for the server then makes it a rollback.
 */
export class Session implements Sql {
  readonly #client: PgClient;
  readonly #connection: QueryMaker;
  readonly #pipelines: boolean;
  /** What the next one waits for, on a connection that does not pipeline. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #unanswered: Promise<unknown>[] = [];
  #failure: { thrown: unknown } | undefined;
  /** Nothing is sent any more: what goes on beside something that failed would come into the transaction of another. */
  #over = false;

  constructor(client: PgClient, connection: QueryMaker) {
    this.#client = client;
    this.#connection = connection;
    this.#pipelines = client.pipeline === true;
  }

  /** To be waited for: behind a beginning that the server refuses, each statement would be a transaction of its own. */
  async begin(text: string): Promise<PgResult> {
    return this.#ask(text);
  }

  /** What fails in it fails with what failed first. Nothing is under way any more then. */
  async work<T>(work: (sql: Sql) => Promise<T>): Promise<T> {
    try {
      return await work(this);
    } catch (thrown) {
      this.#over = true;
      await Promise.all(this.#unanswered);
      throw this.#failure === undefined ? thrown : this.#failure.thrown;
    }
  }

  /** Commits. */
  async end(): Promise<void> {
    const [ended] = await Promise.allSettled([this.#ask("COMMIT"), ...this.#unanswered]);
    this.#over = true;
    if (this.#failure !== undefined) throw this.#failure.thrown;
    if (ended.status === "fulfilled" && ended.value.command === "ROLLBACK")
      throw new Error("The server rolled back what was to be committed.");
  }

  async query<T = Row>(text: string, values?: unknown[]): Promise<T[]> {
    return (await this.#ask(this.#connection.toQuery(text, values))).rows as T[];
  }

  async rows<T extends unknown[] = unknown[]>(text: string, values?: unknown[]): Promise<T[]> {
    return (await this.#ask(this.#connection.toQuery(text, values, "array"))).rows as T[];
  }

  async run(text: string, values?: unknown[]): Promise<number> {
    return (await this.#ask(this.#connection.toQuery(text, values))).rowCount ?? 0;
  }

  async send(text: string, values?: unknown[]): Promise<void> {
    const answer = this.#ask(this.#connection.toQuery(text, values));
    if (this.#pipelines) this.#unanswered.push(answer.catch(() => undefined));
    else await answer;
  }

  async #ask(query: PgQuery | string): Promise<PgResult> {
    if (this.#over || this.#failure !== undefined) throw new SessionOver();
    const answer = this.#pipelines ? this.#client.query(query) : this.#inTurn(query);
    try {
      return await answer;
    } catch (thrown) {
      this.#failure ??= { thrown };
      throw thrown;
    }
  }

  /** When what was asked before is answered. */
  #inTurn(query: PgQuery | string): Promise<PgResult> {
    const answer = this.#last.then(async () => {
      if (this.#over || this.#failure !== undefined) throw new SessionOver();
      return this.#client.query(query);
    });
    this.#last = answer.catch(() => undefined);
    return answer;
  }
}

/** Something was asked of a transaction that is over. Nobody sees this: there is a failure before it. */
class SessionOver extends Error {}
