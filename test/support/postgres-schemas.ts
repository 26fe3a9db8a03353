/** Schemas that are used by one test after the other: to make one takes longer than most tests. Each is empty whenever it is taken. */
import { Pool } from "pg";
import { afterAll, afterEach, beforeEach, inject } from "vitest";
import { type PostgresStoreOptions, PostgresStore } from "../../src/stores/postgres/store.ts";
import { dropSchema, newSchema, schemaOf } from "./postgres-store.ts";

interface Schema {
  url: string;
  /** Empties every table but the one with the store's id. */
  clean: string | undefined;
}

export class Schemas {
  /** Kept for all tests of a file, as connecting takes its time as well. The stores on it are new ones each. */
  readonly #pool: Pool;
  readonly #all: Schema[] = [];
  readonly #free: Schema[] = [];

  /** @param pipeline whether statements are sent before those before them are answered, as a store's own pool does it. */
  constructor({ pipeline = true } = {}) {
    this.#pool = new Pool({ connectionString: inject("postgresUrl"), max: 24, pipeline });
  }

  /** An empty schema, as a URL. */
  async take(): Promise<string> {
    const schema = this.#free.pop() ?? { url: newSchema(), clean: undefined };
    if (!this.#all.includes(schema)) this.#all.push(schema);
    return schema.url;
  }

  /** A store in it, of its own and with its own memory. Time is what a test says, and others are not told of work, unless it says otherwise. */
  async open(url: string, options: PostgresStoreOptions = {}): Promise<PostgresStore> {
    const store = new PostgresStore({ pool: this.#pool, schema: schemaOf(url), databaseTime: false, notify: false, ...options });
    await store.open();
    return store;
  }

  /** Statements of a test on the tables; the schema is in the search path. */
  async query<T extends object>(url: string, text: string, values?: unknown[]): Promise<T[]> {
    const client = await this.#pool.connect();
    try {
      await client.query(`SET search_path = "${schemaOf(url)}"`);
      return (await client.query(text, values)).rows as T[];
    } finally {
      await client.query("RESET search_path");
      client.release();
    }
  }

  async giveBack(url: string): Promise<void> {
    const schema = this.#all.find((item) => item.url === url);
    if (schema === undefined) throw new Error("This schema was not taken here.");
    schema.clean ??= await this.#cleaner(schemaOf(url));
    await this.#pool.query(schema.clean);
    this.#free.push(schema);
  }

  async #cleaner(schema: string): Promise<string> {
    const { rows } = await this.#pool.query<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = $1 AND tablename <> 'meta' ORDER BY 1`,
      [schema],
    );
    return rows.map(({ name }) => `DELETE FROM ${name}`).join("; ");
  }

  async end(): Promise<void> {
    await this.#pool.end();
    for (const { url } of this.#all) await dropSchema(url);
  }
}

/** An empty schema for every test of a file. Made at its top. */
export class SchemaOfTest {
  readonly #schemas = new Schemas();
  #url = "";

  constructor() {
    beforeEach(async () => {
      this.#url = await this.#schemas.take();
    });
    afterEach(() => this.#schemas.giveBack(this.#url));
    afterAll(() => this.#schemas.end());
  }

  open(): Promise<PostgresStore> {
    return this.#schemas.open(this.#url);
  }

  query<T extends object>(text: string): Promise<T[]> {
    return this.#schemas.query(this.#url, text);
  }
}
