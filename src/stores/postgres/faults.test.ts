import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { Pool } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { dropSchema, newSchema, onServer, schemaOf } from "../../../test/support/postgres-store.ts";
import { type PostgresServer, startPostgres } from "../../../test/support/postgres-server.ts";
import { GembatchError } from "../../core/errors.ts";
import { newRun, request, StoreKit, type TurnParts } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import type { PgPool } from "./options.ts";
import { PostgresStore, type PostgresStoreOptions } from "./store.ts";

type Verdict = "pass" | "cut" | "cut after";

/**
 * Stands between a store and the server, reads what is sent, and cuts a connection before a message reaches the server, or after, before the server's answer comes back.
 */
class Proxy {
  /** Asked for each piece of text on its way to the server. */
  judge: (text: string) => Verdict = () => "pass";
  /** Nobody is let through. */
  closed = false;
  cuts = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: URL) {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      if (this.closed) return socket.destroy();
      const upstream = connect(Number(target.port), target.hostname);
      const end = (): void => {
        socket.destroy();
        upstream.destroy();
        this.#sockets.delete(socket);
      };
      for (const side of [socket, upstream]) side.on("error", end).on("close", end);
      socket.on("data", (data) => {
        const verdict = this.judge(data.toString("latin1"));
        if (verdict === "pass") return upstream.write(data);
        this.cuts += 1;
        if (verdict === "cut") return end();
        // The server gets it and does it; its answer is what is lost.
        upstream.removeAllListeners("data");
        upstream.once("data", end);
        return upstream.write(data);
      });
      upstream.on("data", (data) => socket.write(data));
      return undefined;
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return String((this.#server.address() as { port: number }).port);
  }

  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.cutAll();
  }
}

/** Cuts once, when this text comes by for the `nth` time. */
function onceAt(text: string, verdict: Verdict, nth = 1): (sent: string) => Verdict {
  let count = 0;
  return (sent) => (sent.includes(text) && (count += 1) === nth ? verdict : "pass");
}

const stores: PostgresStore[] = [];
const schemas: string[] = [];
const proxies: Proxy[] = [];

afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  for (const proxy of proxies.splice(0)) proxy.close();
  for (const url of schemas.splice(0)) await dropSchema(url);
});

function schema(base?: string): string {
  const url = newSchema(base);
  schemas.push(url);
  return url;
}

async function open(url: string, options: PostgresStoreOptions = {}): Promise<PostgresStore> {
  const store = new PostgresStore({ url, max: 4, databaseTime: false, ...options });
  await store.open();
  stores.push(store);
  return store;
}

/** A store behind a proxy, and one that goes straight to the same schema. */
async function behindProxy(
  options: PostgresStoreOptions = {},
): Promise<{ proxy: Proxy; store: PostgresStore; direct: PostgresStore; url: string }> {
  const url = schema();
  const direct = await open(url, { notify: false });
  const proxy = new Proxy(new URL(url));
  proxies.push(proxy);
  const through = new URL(url);
  through.port = await proxy.listen();
  const store = await open(through.href, { notify: false, ...options });
  return { proxy, store, direct, url };
}

async function failureOf(promise: Promise<unknown>): Promise<GembatchError> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!GembatchError.is(thrown)) throw new Error(`Expected a GembatchError, got ${String(thrown)}.`, { cause: thrown });
  return thrown;
}

const done: TurnParts = { outcome: { type: "completed", output: '"out"' } };

describe("a connection that breaks around a commit", () => {
  it.each([
    ["before the commit reaches the server: the work is done again", "cut"],
    ["after it, before the answer: what was done is found out", "cut after"],
  ] as const)("%s", async (_, verdict) => {
    const { proxy, store, direct } = await behindProxy();
    const kit = new StoreKit(store);
    await kit.beat();
    proxy.judge = onceAt("COMMIT", verdict);
    expect(await kit.start(newRun("a"), newRun("b"))).toEqual(["started", "started"]);
    expect(proxy.cuts).toBe(1);
    proxy.judge = onceAt("COMMIT", verdict);
    const run = await kit.claimOne();
    expect([run.id, run.epoch, proxy.cuts]).toEqual(["a", 1, 2]);
    proxy.judge = onceAt("COMMIT", verdict);
    expect(await kit.commit(run, { entries: [request("q")] })).toEqual({ state: "waiting", seq: 0 });
    proxy.judge = onceAt("COMMIT", verdict);
    const batch = await kit.form("b1");
    expect([batch?.state, batch?.requestCount, proxy.cuts]).toEqual(["sealed", 1, 4]);
    expect((await direct.stats()).requests.batched).toBe(1);
    await expectConservation(direct, expect);
  });

  it("in the middle of the work: it is done again", async () => {
    const { proxy, store, direct } = await behindProxy();
    const kit = new StoreKit(store);
    await kit.beat();
    for (const text of ["run_inputs", "gb_", "BEGIN"]) {
      proxy.judge = onceAt(text, "cut");
      expect(await kit.start(newRun(text))).toEqual(["started"]);
    }
    expect(proxy.cuts).toBe(3);
    await expectConservation(direct, expect);
  });

  it("on all connections of a small pool at once: nobody waits for another", async () => {
    const { proxy, store, direct } = await behindProxy({ max: 2 });
    const kit = new StoreKit(store);
    await kit.beat();
    await Promise.all([kit.start(newRun("warm-1")), kit.start(newRun("warm-2"))]);
    let commits = 0;
    proxy.judge = (text) => (text.includes("COMMIT") && (commits += 1) <= 2 ? "cut after" : "pass");
    const outcomes = await Promise.all(Array.from({ length: 6 }, (_, i) => kit.start(newRun(`run-${i}`))));
    expect([outcomes, proxy.cuts]).toEqual([Array.from({ length: 6 }, () => ["started"]), 2]);
    expect((await direct.stats()).runs.runnable).toBe(8);
  });

  it("again and again: every turn counts once", async () => {
    const { proxy, store, direct } = await behindProxy();
    const kit = new StoreKit(store);
    await kit.beat();
    let sent = 0;
    proxy.judge = () => ((sent += 1) % 9 === 0 ? (sent % 2 === 0 ? "cut" : "cut after") : "pass");
    const ids = Array.from({ length: 12 }, (_, i) => `run-${i}`);
    for (const id of ids) expect(await kit.start(newRun(id))).toEqual(["started"]);
    const runs = [];
    while (runs.length < ids.length) runs.push(...(await kit.claim(3)));
    for (const run of runs) expect(await kit.commit(run, done)).toEqual({ state: "completed", seq: 0 });
    proxy.judge = () => "pass";
    expect(proxy.cuts).toBeGreaterThan(5);
    expect([runs.map(({ epoch }) => epoch), (await direct.stats()).runs.completed]).toEqual([ids.map(() => 1), ids.length]);
    await expectConservation(direct, expect);
  });
});

describe("a server that is away", () => {
  it("for longer than the store's patience: it says so, and works as soon as the server is back", async () => {
    const { proxy, store } = await behindProxy({ patienceMs: 80 });
    const kit = new StoreKit(store);
    proxy.closed = true;
    proxy.cutAll();
    const failures = await Promise.all([failureOf(kit.start(newRun("a"))), failureOf(store.stats()), failureOf(kit.beat())]);
    for (const error of failures) expect([error.code, error.retryable]).toEqual(["store_unavailable", true]);
    proxy.closed = false;
    expect(await kit.start(newRun("a"))).toEqual(["started"]);
    await expectConservation(store, expect);
  });

  it("during a commit, and stays away: it is said that the outcome is not known", async () => {
    const { proxy, store, direct } = await behindProxy({ patienceMs: 0 });
    const kit = new StoreKit(store);
    proxy.judge = (text) => {
      if (!text.includes("COMMIT")) return "pass";
      proxy.closed = true;
      return "cut";
    };
    const starting = failureOf(kit.start(newRun("a")));
    await expect.poll(() => proxy.closed).toBe(true);
    // The server's limit for idle transactions has to pass before it is given up: but for a server that is back, one look is enough.
    proxy.judge = () => "pass";
    proxy.closed = false;
    const error = await starting;
    expect([error.code, error.retryable]).toEqual(["store_unavailable", true]);
    expect(await kit.start(newRun("a"))).toEqual(["started"]);
    await expectConservation(direct, expect);
  });

  it("ends every connection: the calls go on with new ones", async () => {
    const url = schema();
    const store = await open(url);
    const kit = new StoreKit(store);
    await kit.beat();
    const ids = Array.from({ length: 40 }, (_, i) => `run-${i}`);
    const starting = Promise.all(ids.map((id) => kit.start(newRun(id))));
    const kill = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%"${schemaOf(url)}".%' AND pid <> pg_backend_pid()`;
    for (let i = 0; i < 3; i += 1) await onServer(url, (client) => client.query(kill));
    expect((await starting).flat()).toEqual(ids.map(() => "started"));
    await onServer(url, (client) => client.query(kill));
    expect((await store.stats()).runs.runnable).toBe(ids.length);
    await expectConservation(store, expect);
  });
});

describe("locks of others", () => {
  it("that a frozen process keeps: the server ends its transaction, and the store goes on", async () => {
    const url = schema();
    const kit = new StoreKit(await open(url));
    await kit.beat();
    await kit.start(newRun("a"));
    await onServer(url, async (frozen) => {
      frozen.on("error", () => undefined);
      await frozen.query(`BEGIN; SET LOCAL idle_in_transaction_session_timeout = 200; SELECT * FROM ${schemaOf(url)}.runs FOR UPDATE`);
      // A claim passes it over, a cancellation waits for it.
      expect(await kit.claim()).toEqual([]);
      expect(await kit.store.cancelRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      await expect(frozen.query("COMMIT")).rejects.toThrow();
    });
  });

  it("the store's own transactions end when their process freezes", async () => {
    const url = schema();
    const settings: string[] = [];
    const pool = new Pool({ connectionString: inject("postgresUrl"), max: 2 });
    const store = new PostgresStore({ pool: watched(pool, settings), schema: schemaOf(url), notify: false });
    await store.open();
    await new StoreKit(store).start(newRun("a"));
    expect(settings.some((text) => /^BEGIN;.*idle_in_transaction_session_timeout = 15000.*lock_timeout = 10000/.test(text))).toBe(true);
    await store.close();
    await pool.end();
  });

  it("against ours, in the opposite order: the work is done again", async () => {
    const url = schema();
    const store = await open(url);
    const kit = new StoreKit(store);
    await kit.start(newRun("a"), newRun("b"));
    const runs = `${schemaOf(url)}.runs`;
    await onServer(url, async (other) => {
      await other.query(`SET deadlock_timeout = '1h'; BEGIN; SELECT 1 FROM ${runs} WHERE id = 'b' FOR UPDATE`);
      const cancelling = store.cancelRuns({ now: kit.now, ids: ["a", "b"] });
      const waiting = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%"${schemaOf(url)}".%' AND pid <> pg_backend_pid()`;
      await expect.poll(() => onServer(url, async (client) => (await client.query(waiting)).rowCount)).toBe(1);
      // It has a and waits for b: now this one wants a. The store's transaction is the one that finds the deadlock.
      await other.query(`SELECT 1 FROM ${runs} WHERE id = 'a' FOR UPDATE`);
      await other.query("COMMIT");
      expect(await cancelling).toEqual(["a", "b"]);
    });
    expect(await kit.states("a", "b")).toEqual(["cancelled", "cancelled"]);
    await expectConservation(store, expect);
  });

  it("a transaction that is done again leaves nothing of the first try in memory", async () => {
    const { proxy, store, direct } = await behindProxy();
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("a", { chain: "new", version: "7" }));
    const chains = [{ chain: "new", versions: ["7"] }];
    const lane = { provider: "new", model: "new", method: "generateContent" as const };
    const [run] = await kit.claim(1, "w1", chains);
    // Each statement of the commit in turn is cut once: lanes, chains and counters of the tries that came to nothing must not stay.
    let statements = 0;
    proxy.judge = (text) => (text.includes("gb_") && (statements += 1) % 7 === 0 && proxy.cuts < 4 ? "cut" : "pass");
    const child = newRun("child", { chain: "newer", version: "1" });
    expect(await kit.commit(run!, { entries: [request("q", { lane })], starts: [child] })).toEqual({ state: "waiting", seq: 0 });
    expect(proxy.cuts).toBeGreaterThan(0);
    proxy.judge = () => "pass";
    expect([await kit.queued(lane), await kit.on(direct).queued(lane)]).toEqual([1, 1]);
    expect((await kit.claim(1, "w1", [{ chain: "newer", versions: ["1"] }]))[0]?.version).toBe("1");
    await expectConservation(direct, expect);
  });
});

/** A pool that remembers what was asked. */
function watched(pool: Pool, seen: string[]): PgPool {
  return {
    async connect() {
      const client = await pool.connect();
      return new globalThis.Proxy(client, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name);
          if (name !== "query") return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
          return (query: string | { text: string }) => {
            seen.push(typeof query === "string" ? query : query.text);
            return target.query(query);
          };
        },
      });
    },
  };
}

describe("a server that is restarted", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ own: true, volatile: false });
  }, 60_000);
  afterAll(async () => server.stop());

  it("in a stream of commits: they ride it out, nothing is lost, nothing is done twice", { timeout: 60_000 }, async () => {
    const url = newSchema(server.url);
    const store = await open(url, { patienceMs: 30_000 });
    store.onHint(() => undefined);
    const kit = new StoreKit(store);
    await kit.beat();
    let restarted = false;
    let begun = 0;
    const acknowledged: string[] = [];
    const stream = async (): Promise<void> => {
      for (let after = 0; after < 5; after += restarted ? 1 : 0) {
        const id = `run-${(begun += 1)}`;
        expect(await kit.start(newRun(id))).toEqual(["started"]);
        const run = await kit.claimOne();
        const results = await store.commitTurns({ worker: "w1", now: kit.now, turns: [kit.turn(run, done)] });
        expect([run.epoch, results]).toEqual([1, [{ state: "completed", seq: 0 }]]);
        acknowledged.push(run.id);
      }
    };
    const streams = Promise.all(Array.from({ length: 4 }, stream));
    await expect.poll(() => acknowledged.length, { timeout: 20_000 }).toBeGreaterThan(10);
    await server.restart?.(200);
    restarted = true;
    await streams;
    expect([new Set(acknowledged).size, (await store.stats()).runs.completed]).toEqual([begun, begun]);
    await expectConservation(store, expect);
    await store.close();
  });
});
