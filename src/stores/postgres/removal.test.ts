import { Pool } from "pg";
import { afterAll, afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import { schemaOf } from "../../../test/support/postgres-store.ts";
import { newRun, paid, request, step, StoreKit, succeeded } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import type { PgPool } from "./options.ts";
import { PostgresStore } from "./store.ts";

const schemas = new Schemas();
let url = "";

beforeEach(async () => {
  url = await schemas.take();
});
afterEach(() => schemas.giveBack(url));
afterAll(() => schemas.end());

const done = { type: "completed" as const, output: "1" };

/** Completes everything that is runnable. */
async function completeAll(kit: StoreKit): Promise<void> {
  for (let runs = await kit.claim(2_000); runs.length > 0; runs = await kit.claim(2_000)) {
    const histories = await kit.store.loadHistory({ runs: runs.map(({ id }) => ({ run: id, since: 0 })) });
    const turns = runs.map((run, i) => kit.turn(run, { firstNo: histories[i]!.length, outcome: done }));
    await kit.store.commitTurns({ worker: "w1", now: kit.now, turns });
  }
  kit.now += 1;
}

/** Runs that have ended, with answered requests and steps; each tenth shares an answer with the others of its kind. */
async function ended(kit: StoreKit, name: string, count: number): Promise<void> {
  await kit.start(...Array.from({ length: count }, (_, i) => newRun(`${name}-${i}`)));
  const shared = request("shared", { cache: { key: name, ttlMs: 1_000_000 } });
  const turns = (await kit.claim(count)).map((run, i) => {
    const entries = [request("q"), step("s"), step("t"), request("p"), i % 10 === 0 ? shared : step("u")];
    return kit.turn(run, { entries });
  });
  await kit.store.commitTurns({ worker: "w1", now: kit.now, turns });
  for (let n = 0; (await kit.queued()) > 0; n += 1) {
    await kit.form(`${name} ${n}`, { chunk: 1_000 });
    const batch = await kit.routing(`${name} ${n}`);
    const members = await kit.members(batch.id, undefined, 1_000);
    await kit.settle(
      batch,
      members.map(({ id, attempt }) => ({ id, attempt, result: paid("x", 0.001) })),
    );
    await kit.update(batch, { state: "completed" });
  }
  await completeAll(kit);
}

/** A store that counts what it sends. */
async function counting(): Promise<{ store: PostgresStore; statements: () => number; end: () => Promise<void> }> {
  const pool = new Pool({ connectionString: inject("postgresUrl"), max: 2 });
  let count = 0;
  const counted: PgPool = {
    async connect() {
      const client = await pool.connect();
      return new Proxy(client, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name);
          if (name === "query") count += 1;
          return typeof value === "function" ? (value as (...args: unknown[]) => unknown).bind(target) : value;
        },
      });
    },
  };
  const store = new PostgresStore({ pool: counted, schema: schemaOf(url), databaseTime: false, notify: false });
  await store.open();
  return { store, statements: () => count, end: () => pool.end() };
}

describe("removing from a Postgres store", () => {
  it.each(["runs", "histories"] as const)("%s go together: many take hardly more statements than few", async (what) => {
    const { store, statements, end } = await counting();
    const kit = new StoreKit(store);
    await kit.beat();
    const costs: number[] = [];
    for (const count of [9, 90]) {
      await ended(kit, `of ${count}`, count);
      const before = statements();
      const limits = what === "runs" ? { runs: { completed: kit.now } } : { runs: {}, histories: kit.now };
      const removed = await store.removeEnded({ now: kit.now, limit: 1_000, ...limits });
      expect([removed[what], removed.more]).toEqual([count, false]);
      costs.push(statements() - before);
      await expectConservation(store, expect);
    }
    // Those that share an answer are one in ten, and go one by one.
    expect(costs[1]! - costs[0]!).toBeLessThan(8 * 12);
    expect(costs[0]).toBeLessThan(32);
    await store.close();
    await end();
    for (const table of what === "runs" ? ["runs", "run_inputs", "run_outcomes", "entries", "bodies"] : ["entries", "bodies"]) {
      expect([table, await schemas.query(url, `SELECT * FROM ${table}`)]).toEqual([table, []]);
    }
    // What is kept for others to share stays.
    expect(await schemas.query(url, `SELECT uses FROM answers`)).toEqual([{ uses: 1 }, { uses: 1 }]);
  });

  it("what must stay is looked at in portions, and does not stand in the way of the rest", { timeout: 60_000 }, async () => {
    const store = await schemas.open(url);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("starter"));
    const starts = Array.from({ length: 5_100 }, (_, i) => newRun(`blocked-${i}`));
    await kit.commit(await kit.claimOne(), { entries: [request("q")], starts });
    await completeAll(kit);
    await kit.start(...Array.from({ length: 30 }, (_, i) => newRun(`free-${i}`)));
    await completeAll(kit);
    const remove = async (limit: number) => {
      const { runs, more } = await store.removeEnded({ now: kit.now, limit, runs: { completed: kit.now, cancelled: kit.now } });
      return [runs, more];
    };
    expect([await remove(20), await remove(20), await remove(20)]).toEqual([
      [0, true],
      [20, true],
      [10, false],
    ]);
    await store.cancelRuns({ now: kit.now, ids: ["starter"] });
    kit.now += 1;
    expect([await remove(5_000), await remove(5_000), (await store.listRuns({})).items]).toEqual([[5_000, true], [101, false], []]);
    await store.close();
  });

  it("whoever removes at the same time, each is removed once", async () => {
    const [a, b] = [await schemas.open(url), await schemas.open(url)];
    const kit = new StoreKit(a);
    await kit.beat();
    await ended(kit, "run", 60);
    const remove = (store: PostgresStore, limit: number) =>
      store.removeEnded({ now: kit.now, limit, runs: { completed: kit.now }, histories: kit.now, batches: kit.now });
    const first = await Promise.all([remove(a, 40), remove(b, 25), remove(a, 7)]);
    const counts = first.map(({ runs }) => runs);
    while ((await remove(a, 50)).more);
    expect([counts.every((count) => count <= 40), await a.listRuns({}), (await a.stats()).runs.completed]).toEqual([
      true,
      { items: [], nextCursor: undefined },
      0,
    ]);
    await expectConservation(a, expect);
    await kit.waiting("later", [request("q", { cache: { key: "run", ttlMs: 1 } })]);
    expect(await kit.state("later")).toBe("runnable");
    for (const store of [a, b]) await store.close();
  });

  it("an answer on its way keeps its run, and one that came late is nobody's", async () => {
    const store = await schemas.open(url);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.waiting("a", [request("q")]);
    const batch = await kit.routing("b");
    const [row] = await kit.members("b");
    await store.cancelRuns({ now: kit.now, ids: ["a"] });
    kit.now += 1;
    expect((await store.removeEnded({ now: kit.now, limit: 9, runs: { cancelled: kit.now }, histories: kit.now })).runs).toBe(0);
    await kit.settle(batch, [{ ...row!, result: succeeded("late") }]);
    expect((await store.removeEnded({ now: kit.now, limit: 9, runs: { cancelled: kit.now } })).runs).toBe(1);
    await expectConservation(store, expect);
    await store.close();
  });
});
