import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { Pool } from "pg";
import { afterEach, describe, expect, inject, it } from "vitest";
import { dropSchema, newSchema, onServer, schemaOf } from "../../../test/support/postgres-store.ts";
import { GembatchError } from "../../core/errors.ts";
import { newRun, StoreKit } from "../../testing/store-kit.ts";
import { migrations, schemaVersion } from "./migrations.ts";
import { PostgresStore, type PostgresStoreOptions, postgresStore } from "./store.ts";
import { freePort } from "../../../test/support/free-port.ts";

const stores: PostgresStore[] = [];
const schemas: string[] = [];
const roles: string[] = [];
const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const store of stores.splice(0)) await store.close();
  for (const url of schemas.splice(0)) await dropSchema(url);
  for (const role of roles.splice(0))
    await onServer(inject("postgresUrl"), (client) => client.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`));
});

/** The URL of a schema that goes after the test. */
function schema(name?: string): string {
  const url = new URL(newSchema());
  if (name !== undefined) url.searchParams.set("schema", name);
  schemas.push(url.href);
  return url.href;
}

async function open(url: string, options: Omit<PostgresStoreOptions, "url"> = {}): Promise<PostgresStore> {
  const store = new PostgresStore({ url, max: 2, ...options });
  await store.open();
  stores.push(store);
  return store;
}

async function failureOf(promise: Promise<unknown>): Promise<GembatchError> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!GembatchError.is(thrown)) throw new Error(`Expected a GembatchError, got ${String(thrown)}.`, { cause: thrown });
  return thrown;
}

/** A user who may do nothing yet, as the URL of the same schema. */
async function userOf(url: string, rights: (role: string) => string): Promise<string> {
  const role = `r_${schemaOf(url)}`;
  await onServer(url, (client) => client.query(`CREATE ROLE ${role} LOGIN PASSWORD 'secret-word'; ${rights(role)}`));
  roles.push(role);
  const other = new URL(url);
  other.username = role;
  other.password = "secret-word";
  return other.href;
}

const changed = (url: string, change: (url: URL) => void): string => {
  const other = new URL(url);
  change(other);
  return other.href;
};

function tablesOf(url: string): Promise<string[]> {
  return onServer(url, async (client) => {
    const { rows } = await client.query<{ tablename: string }>(`SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1`, [
      schemaOf(url),
    ]);
    return rows.map(({ tablename }) => tablename);
  });
}

/** Runs a program as another process; `url` is its first argument. */
function run(program: string, url: string): ChildProcess {
  const source = `import { PostgresStore } from ${JSON.stringify(join(import.meta.dirname, "store.ts"))};\n${program}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source, url], { stdio: ["ignore", "pipe", "pipe", "ipc"] });
  children.push(child);
  return child;
}

describe("opening a Postgres store", () => {
  it("makes the schema, and keeps the id", async () => {
    const url = schema();
    const store = await open(url);
    const { id } = store;
    await store.close();
    expect((await open(url)).id).toBe(id);
  });

  it("may be opened twice, also at once, and closed twice, and is of no use closed", async () => {
    const store = new PostgresStore({ url: schema(), max: 2 });
    await Promise.all([store.open(), store.open()]);
    await store.open();
    await store.close();
    await store.close();
    expect((await failureOf(store.stats())).code).toBe("closed");
    expect(() => store.id).toThrow("is not open");
    const left = await onServer(inject("postgresUrl"), (client) =>
      client.query(`SELECT 1 FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()`, [`%"${schemaOf(schemas[0]!)}".%`]),
    );
    expect(left.rows).toEqual([]);
  });

  it("draws its id from the given random numbers", async () => {
    expect((await open(schema(), { random: { next: () => 0.5 } })).id).toBe("gggggggggggg");
  });

  it("is the same for all who open it at the same moment", async () => {
    const url = schema();
    const all = await Promise.all(Array.from({ length: 10 }, () => open(url)));
    expect(new Set(all.map(({ id }) => id)).size).toBe(1);
  });

  it("is the same for processes that open it at the same moment", async () => {
    const url = schema();
    const program = `
      const store = new PostgresStore({ url: process.argv[1], max: 2 });
      process.once("message", async () => {
        await store.open().then(() => process.send(store.id), (error) => process.send(String(error)));
        await store.close();
        process.disconnect();
      });
      process.send("ready");
    `;
    const processes = Array.from({ length: 3 }, () => run(program, url));
    await Promise.all(processes.map((child) => once(child, "message")));
    const answers = processes.map(async (child) => ((await once(child, "message")) as [string])[0]);
    for (const child of processes) child.send("go");
    expect(new Set(await Promise.all(answers))).toEqual(new Set([(await open(url)).id]));
  });

  it("finishes what another process has begun, or waits for it", async () => {
    const url = schema();
    const name = schemaOf(url);
    await onServer(url, async (client) => {
      await client.query(`BEGIN; SELECT pg_advisory_xact_lock(hashtext('gembatch ${name}'))`);
      const opening = open(url);
      const waiting = `SELECT 1 FROM pg_locks w JOIN pg_locks h USING (locktype, classid, objid) WHERE NOT w.granted AND h.granted AND h.pid = pg_backend_pid()`;
      await expect.poll(async () => (await client.query(waiting)).rowCount).toBe(1);
      expect(await tablesOf(url)).toEqual([]);
      await client.query("ROLLBACK");
      expect((await opening).id).toHaveLength(12);
    });
  });

  it("two schemas of a database do not see each other", async () => {
    const [a, b] = [new StoreKit(await open(schema())), new StoreKit(await open(schema()))];
    await a.start(newRun("one"));
    expect([await a.states("one"), await b.states("one"), await b.start(newRun("one"))]).toEqual([["runnable"], [undefined], ["started"]]);
    expect((a.store as PostgresStore).id).not.toBe((b.store as PostgresStore).id);
  });

  it.each(["user", "select", "_", `s${"x".repeat(62)}`])("a schema may be called %s", async (name) => {
    const url = schema(name);
    const kit = new StoreKit(await open(url));
    const heard = Promise.withResolvers<void>();
    const other = await open(url);
    other.onHint(heard.resolve);
    await expect.poll(() => hintsWork(other)).toBe(true);
    await kit.start(newRun("a"));
    await heard.promise;
    expect(await new StoreKit(other).states("a")).toEqual(["runnable"]);
  });

  it("needs no right to make anything once it is made", async () => {
    const url = schema();
    await (await open(url)).close();
    const name = schemaOf(url);
    const user = await userOf(
      url,
      (role) =>
        `GRANT USAGE ON SCHEMA ${name} TO ${role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${name} TO ${role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA ${name} TO ${role}`,
    );
    const kit = new StoreKit(await open(user));
    await kit.start(newRun("a"));
    expect((await kit.claimOne()).id).toBe("a");
  });

  it("needs no right to make schemas if there is an empty one for it", async () => {
    const url = schema();
    const user = await userOf(url, (role) => `CREATE SCHEMA ${schemaOf(url)} AUTHORIZATION ${role}`);
    await new StoreKit(await open(user)).start(newRun("a"));
    expect(await tablesOf(url)).toContain("runs");
  });

  it("says which right is missing", async () => {
    const url = schema();
    const user = await userOf(url, () => "");
    const error = await failureOf(open(user));
    expect([error.code, error.retryable, error.message]).toEqual([
      "store_unavailable",
      false,
      expect.stringContaining("CREATE on the database"),
    ]);
    expect(JSON.stringify([error.message, error.details])).not.toContain("secret-word");
    await (await open(url)).close();
    expect((await failureOf(open(user))).message).toContain("permission denied");
  });

  it("refuses a store of a newer version, and leaves it as it is", async () => {
    const url = schema();
    await (await open(url)).close();
    const version = String(schemaVersion() + 1);
    await onServer(url, (client) => client.query(`UPDATE ${schemaOf(url)}.meta SET value = $1 WHERE key = 'version'`, [version]));
    const error = await failureOf(open(url));
    expect([error.code, error.retryable, error.details["found"]]).toEqual(["store_too_new", false, schemaVersion() + 1]);
    const after = await onServer(url, (client) => client.query(`SELECT value FROM ${schemaOf(url)}.meta WHERE key = 'version'`));
    expect(after.rows).toEqual([{ value: version }]);
  });

  it("refuses a schema with tables of another program, and leaves it as it is", async () => {
    for (const table of ["recipes (name text)", "meta (key text, value text)", "meta (name text)"]) {
      const url = schema();
      await onServer(url, (client) => client.query(`CREATE SCHEMA ${schemaOf(url)}; CREATE TABLE ${schemaOf(url)}.${table}`));
      const error = await failureOf(open(url));
      expect([error.code, error.message]).toEqual(["store_unavailable", expect.stringContaining("somebody else")]);
      expect(await tablesOf(url)).toHaveLength(1);
    }
  });

  it("leaves nothing behind when it cannot be made", async () => {
    const url = schema();
    await onServer(url, (client) => client.query(`CREATE SCHEMA ${schemaOf(url)}; CREATE TYPE ${schemaOf(url)}.shared AS ENUM ('a')`));
    await expect(open(url)).rejects.toThrow("already exists");
    expect(await tablesOf(url)).toEqual([]);
    expect(migrations.length).toBe(schemaVersion());
  });
});

/** Whether the self-test of its hints has passed. */
const hintsWork = (store: PostgresStore): boolean | undefined => store.hintsWork;

describe("a Postgres store that cannot be opened says why, and never its password", () => {
  const secret = "secret-word";
  const check = (error: GembatchError): void => {
    expect([error.message, JSON.stringify(error.details)].join()).not.toContain(secret);
  };

  it("a wrong password, and a missing database", async () => {
    const url = inject("postgresUrl");
    for (const [change, text] of [
      [(u: URL) => (u.password = secret), "user or password"],
      [(u: URL) => ((u.username = "nobody"), (u.password = secret)), "user or password"],
      [(u: URL) => (u.pathname = "/nowhere"), "does not exist"],
    ] as const) {
      const error = await failureOf(open(changed(url, change)));
      expect([error.code, error.retryable, error.message]).toEqual(["store_unavailable", false, expect.stringContaining(text)]);
      check(error);
    }
  });

  it("no server: at once without patience, and soon with little", async () => {
    const port = await freePort();
    for (const patienceMs of [0, 60]) {
      const error = await failureOf(open(`postgres://user:${secret}@127.0.0.1:${port}/db?schema=x`, { patienceMs }));
      expect([error.code, error.retryable]).toEqual(["store_unavailable", true]);
      expect(error.message).toContain(`postgres://127.0.0.1:${port}/db, schema x cannot be reached: connect ECONNREFUSED`);
      check(error);
    }
  });

  it("a server that speaks something else, and one that hangs up", async () => {
    for (const answer of ["HTTP/1.1 400 Bad Request\r\n\r\n", ""]) {
      const server = createServer((socket) => socket.end(answer)).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as { port: number };
      await expect(open(`postgres://u:${secret}@127.0.0.1:${port}/db`, { patienceMs: 0 })).rejects.toThrow();
      server.close();
    }
  });

  it("a session that may only read: a new store is refused, one that is there can be read", async () => {
    const url = schema();
    const readOnly = changed(url, (u) => u.searchParams.set("options", "-c default_transaction_read_only=on"));
    const error = await failureOf(open(readOnly));
    expect([error.code, error.retryable]).toEqual(["store_read_only", true]);
    expect(await tablesOf(url)).toEqual([]);
    await new StoreKit(await open(url)).start(newRun("a"));
    const kit = new StoreKit(await open(readOnly));
    expect(await kit.states("a")).toEqual(["runnable"]);
    expect((await failureOf(kit.start(newRun("b")))).code).toBe("store_read_only");
  });

  it.each([
    ["postgres://u:secret-word@host:1:2/db", "cannot be read"],
    ["postgres://u:secret-word/x@host/db", "cannot be read"],
    ["mysql://u:secret-word@host/db", "a postgres:// URL"],
    ["postgres://u:secret-word@host/db?schema=", "Option schema"],
    ["postgres://u:secret-word@host/db?schema=a-b", "Option schema"],
    ["postgres://u:secret-word@host/db?schema=%22%3BDROP%20TABLE%20x", "Option schema"],
    ["postgres://u:secret-word@host/db?schema=pg_temp", "Option schema"],
    ["postgres://u:secret-word@host/db?schema=Upper", "Option schema"],
    [`postgres://u:secret-word@host/db?schema=${"x".repeat(64)}`, "Option schema"],
    ["postgres://u:secret-word@host/db?max=1", "Option max"],
    ["postgres://u:secret-word@host/db?max=many", "Option max"],
    ["postgres://u:secret-word@host/db?prepare=maybe", "Option prepare"],
  ])("%s", (url, text) => {
    let message = "";
    try {
      postgresStore(url);
    } catch (thrown) {
      if (GembatchError.is(thrown) && thrown.code === "invalid_option") ({ message } = thrown);
    }
    expect(message).toContain(text);
    expect(message).not.toContain("secret-word");
  });

  it.each([
    [{}, "either option url or option pool"],
    [{ url: "postgres://h/d", pool: { connect: () => undefined } }, "either option url or option pool"],
    [{ url: 1 }, "Option url"],
    [{ pool: {} }, "Option pool"],
    [{ url: "postgres://h/d", file: "x" }, "no option file"],
    [{ url: "postgres://h/d", schema: "x; DROP TABLE y" }, "Option schema"],
    [{ url: "postgres://h/d", schema: 'x"y' }, "Option schema"],
    [{ url: "postgres://h/d", max: 1.5 }, "Option max"],
    [{ url: "postgres://h/d", patienceMs: -1 }, "Option patienceMs"],
    [{ url: "postgres://h/d", prepare: "no" }, "Option prepare"],
    [{ url: "postgres://h/d", notify: 1 }, "Option notify"],
    [{ url: "postgres://h/d", databaseTime: "yes" }, "Option databaseTime"],
    [{ url: "postgres://h/d", random: {} }, "Option random"],
    [{ url: "postgres://h/d", isProcessAlive: true }, "Option isProcessAlive"],
    [null, "takes a URL"],
  ])("options %j", (options, text) => {
    expect(() => postgresStore(options as unknown as PostgresStoreOptions)).toThrow(text);
  });

  it("the place is shown without what is secret", () => {
    expect(postgresStore("postgres://user:secret-word@db.example:6000/app?schema=jobs&sslmode=require&password=secret-word").place).toBe(
      "postgres://db.example:6000/app, schema jobs",
    );
    expect(postgresStore("postgresql:///app?host=/var/run/postgresql").place).toBe("postgres:///var/run/postgresql/app, schema gembatch");
  });
});

describe("a Postgres store on a pool of its user", () => {
  it("works, and never ends it", async () => {
    const url = schema();
    const pool = new Pool({ connectionString: inject("postgresUrl"), max: 3 });
    const store = new PostgresStore({ pool, schema: schemaOf(url) });
    await store.open();
    store.onHint(() => undefined);
    const kit = new StoreKit(store);
    await Promise.all(Array.from({ length: 10 }, (_, i) => kit.start(newRun(`run-${i}`))));
    await store.close();
    expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await expect.poll(() => pool.totalCount - pool.idleCount).toBe(0);
    await pool.end();
  });

  it("works on a single connection: nothing is listened for", async () => {
    const url = schema();
    const pool = new Pool({ connectionString: inject("postgresUrl"), max: 1 });
    const store = new PostgresStore({ pool, schema: schemaOf(url) });
    await store.open();
    store.onHint(() => undefined);
    const kit = new StoreKit(store);
    await Promise.all([kit.start(newRun("a")), kit.start(newRun("b"))]);
    expect(await kit.states("a", "b")).toEqual(["runnable", "runnable"]);
    await store.close();
    await pool.end();
  });
});

describe("a program that forgets to close the store", () => {
  it("ends by itself all the same", async () => {
    const url = schema();
    const program = `
      const store = new PostgresStore(process.argv[1]);
      await store.open();
      store.onHint(() => undefined);
      await store.startRuns({ now: 1, runs: [
        { id: "a", kind: "chain", chain: "c", version: "1", input: "1", fingerprint: "f", priority: 0 },
      ] });
      console.log("done");
      process.disconnect();
    `;
    const child = run(program, url);
    const [code] = (await once(child, "exit")) as [number | null];
    expect([code, String(child.stderr?.read() ?? ""), await new StoreKit(await open(url)).states("a")]).toEqual([0, "", ["runnable"]]);
  });
});
