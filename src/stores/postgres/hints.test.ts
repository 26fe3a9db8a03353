import { Client, type QueryConfig } from "pg";
import { afterEach, describe, expect, inject, it } from "vitest";
import { dropSchema, newSchema, onServer, schemaOf } from "../../../test/support/postgres-store.ts";
import { newRun, StoreKit } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import type { PgClient, PgPool } from "./options.ts";
import { PostgresStore, type PostgresStoreOptions } from "./store.ts";

const stores: PostgresStore[] = [];
const schemas: string[] = [];
const poolers: Pooler[] = [];

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  for (const pooler of poolers.splice(0)) await pooler.end();
  for (const url of schemas.splice(0)) await dropSchema(url);
});

function schema(): string {
  const url = newSchema();
  schemas.push(url);
  return url;
}

async function open(url: string, options: PostgresStoreOptions = {}): Promise<PostgresStore> {
  const where = options.pool === undefined ? { url } : { schema: schemaOf(url) };
  const store = new PostgresStore({ ...where, databaseTime: false, ...(options.pool === undefined && { max: 3 }), ...options });
  await store.open();
  stores.push(store);
  return store;
}

/** Counts the hints that a store hears. */
async function ear(store: PostgresStore): Promise<() => number> {
  let heard = 0;
  store.onHint(() => (heard += 1));
  await expect.poll(() => store.hintsWork).toBe(true);
  return () => heard;
}

/**
 * What a pooler does that hands out connections by transaction: each transaction, and each statement outside of one, is on the next of a few server connections, and none of them is told what others
 * have prepared. Clients of `pg` remember prepared statements by the connection that they believe to have: here all share one memory.
 */
class Pooler implements PgPool {
  readonly #servers: Promise<Client[]>;
  readonly #busy = new Set<Client>();
  #turn = 0;
  /** Names of prepared statements that were sent. */
  names = 0;

  constructor(url: string) {
    poolers.push(this);
    const memory = { parsedStatements: {}, submittedNamedStatements: {} };
    this.#servers = Promise.all(
      Array.from({ length: 3 }, async () => {
        const client = new Client({ connectionString: url });
        client.on("error", () => undefined);
        await client.connect();
        Object.assign((client as unknown as { connection: object }).connection, memory);
        return client;
      }),
    );
  }

  async connect(): Promise<PgClient> {
    const servers = await this.#servers;
    let pinned: Client | undefined;
    // Whoever takes one has it for himself, for his transaction or his statement.
    const take = async (): Promise<Client> => {
      for (;;) {
        const client = servers[(this.#turn += 1) % servers.length]!;
        if (!this.#busy.has(client)) {
          this.#busy.add(client);
          return client;
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    return {
      query: async (query) => {
        const text = typeof query === "string" ? query : query.text;
        if (typeof query !== "string" && query.name !== undefined) this.names += 1;
        if (text.startsWith("BEGIN")) pinned = await take();
        const client = pinned ?? (await take());
        try {
          return await client.query(query as QueryConfig);
        } finally {
          if (pinned === undefined) this.#busy.delete(client);
          if ((text === "COMMIT" || text === "ROLLBACK") && pinned !== undefined) {
            this.#busy.delete(pinned);
            pinned = undefined;
          }
        }
      },
      // A transaction that its client leaves is rolled back before anybody else has the connection.
      release: () => {
        const left = pinned;
        pinned = undefined;
        if (left !== undefined) void left.query("ROLLBACK").finally(() => this.#busy.delete(left));
      },
      // The pooler keeps notifications to itself: it does not know whose they are.
      on: () => undefined,
      removeListener: () => undefined,
    };
  }

  async end(): Promise<void> {
    for (const client of await this.#servers) await client.end();
  }
}

describe("hints between stores", () => {
  it("a commit that brings work wakes whoever listens elsewhere, and not itself", async () => {
    const url = schema();
    const [a, b] = [await open(url), await open(url)];
    const [heardByA, heardByB] = [await ear(a), await ear(b)];
    await new StoreKit(a).start(newRun("a"));
    await expect.poll(heardByB).toBe(1);
    // B's own comes back to B later than A's would have.
    await new StoreKit(b).start(newRun("b"));
    await expect.poll(heardByA).toBe(1);
    expect([heardByA(), heardByB()]).toEqual([1, 1]);
  });

  it("many commits are few hints, and the last one is heard", async () => {
    const url = schema();
    const [a, b] = [await open(url), await open(url)];
    const heard = await ear(b);
    const kit = new StoreKit(a);
    for (let i = 0; i < 30; i += 1) await kit.start(newRun(`run-${i}`));
    await expect.poll(heard, { timeout: 3_000 }).toBeGreaterThan(0);
    const before = heard();
    expect(before).toBeLessThan(15);
    await kit.start(newRun("last"));
    await expect.poll(heard, { timeout: 3_000 }).toBeGreaterThan(before);
  });

  it("no hint without news, without listening, or without wanting any", async () => {
    const url = schema();
    const [a, b, quiet] = [await open(url), await open(url), await open(url, { notify: false })];
    const heard = await ear(b);
    const kit = new StoreKit(a);
    quiet.onHint(() => undefined);
    await new StoreKit(quiet).start(newRun("quiet"));
    await kit.beat();
    await a.stats();
    await kit.claim();
    // Heard in the order in which they were sent: this one comes after all that should not have been.
    await onServer(url, (client) => client.query(`SELECT pg_notify($1, 'a stranger')`, [`gembatch_${schemaOf(url)}`]));
    await expect.poll(heard).toBe(1);
    expect(quiet.hintsWork).toBe(undefined);
  });

  it("other schemas hear nothing", async () => {
    const [a, b] = [await open(schema()), await open(schema())];
    const [heardByA, heardByB] = [await ear(a), await ear(b)];
    await new StoreKit(a).start(newRun("a"));
    await new StoreKit(b).start(newRun("b"));
    await onServer(schemas[0]!, (client) =>
      client.query(
        `SELECT pg_notify($1, 'x'), pg_notify($2, 'x')`,
        schemas.map((url) => `gembatch_${schemaOf(url)}`),
      ),
    );
    await expect.poll(() => [heardByA(), heardByB()]).toEqual([1, 1]);
  });

  it("a listener that was taken away hears nothing, and may come back", async () => {
    const url = schema();
    const [a, b] = [await open(url), await open(url)];
    let first = 0;
    const stop = b.onHint(() => (first += 1));
    const heard = await ear(b);
    stop();
    await new StoreKit(a).start(newRun("a"));
    await expect.poll(heard).toBe(1);
    expect(first).toBe(0);
  });

  it("the connection to listen on is made again after it was ended", { timeout: 20_000 }, async () => {
    const url = schema();
    const [a, b] = [await open(url), await open(url)];
    const heard = await ear(b);
    const listening = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = $1`;
    const ended = await onServer(url, (client) => client.query(listening, [`LISTEN gembatch_${schemaOf(url)}`]));
    expect(ended.rowCount).toBe(1);
    const kit = new StoreKit(a);
    await expect
      .poll(
        async () => {
          await kit.start(newRun(`run-${kit.now++}`));
          return heard();
        },
        { timeout: 15_000, interval: 300 },
      )
      .toBeGreaterThan(0);
  });

  it("closing in the middle of everything leaves nothing behind", async () => {
    const url = schema();
    for (let i = 0; i < 5; i += 1) {
      const store = await open(url);
      store.onHint(() => undefined);
      if (i > 0) await new Promise((resolve) => setImmediate(resolve));
      if (i > 2) await new StoreKit(store).start(newRun(`run-${i}`));
      await store.close();
    }
    const left = `SELECT 1 FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()`;
    await expect.poll(() => onServer(url, async (client) => (await client.query(left, [`%${schemaOf(url)}%`])).rowCount)).toBe(0);
  });
});

describe("a store behind a pooler that changes connections", () => {
  it("finds out that no hint comes through, and prepares nothing any more", { timeout: 20_000 }, async () => {
    const url = schema();
    await (await open(url)).close();
    const pooler = new Pooler(inject("postgresUrl"));
    const store = await open(url, { pool: pooler });
    store.onHint(() => undefined);
    await expect.poll(() => store.hintsWork, { timeout: 10_000 }).toBe(false);
    const before = pooler.names;
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("a"));
    expect(pooler.names).toBe(before);
    await expectConservation(store, expect);
  });

  it("works from the first call on: a statement that is not found is sent again without a name", async () => {
    const url = schema();
    const pooler = new Pooler(inject("postgresUrl"));
    const store = await open(url, { pool: pooler, notify: false });
    const kit = new StoreKit(store);
    await kit.beat();
    const ids = Array.from({ length: 30 }, (_, i) => `run-${i}`);
    expect((await Promise.all(ids.map((id) => kit.start(newRun(id))))).flat()).toEqual(ids.map(() => "started"));
    for (const run of await kit.claim()) await kit.commit(run, { outcome: { type: "completed", output: "1" } });
    const before = pooler.names;
    await expectConservation(store, expect);
    expect([pooler.names, (await store.stats()).runs.completed]).toEqual([before, ids.length]);
  });

  it("never prepares if it is told so, also by its URL", async () => {
    const url = schema();
    const pooler = new Pooler(inject("postgresUrl"));
    const kit = new StoreKit(await open(url, { pool: pooler, notify: false, prepare: false }));
    await kit.beat();
    await kit.start(newRun("a"));
    await expectConservation(kit.store, expect);
    expect(pooler.names).toBe(0);
    const plain = await open(`${url}&prepare=false`);
    await new StoreKit(plain).start(newRun("b"));
    expect((await plain.stats()).runs.runnable).toBe(2);
  });
});
