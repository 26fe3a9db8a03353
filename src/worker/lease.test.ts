import { describe, expect, it } from "vitest";
import { GembatchError } from "../core/errors.ts";
import type { Store } from "../core/store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider } from "../testing.ts";

const model = "gemini-2.5-flash";

/** A store whose methods fail when a test says so: before they have done anything, or after. */
class FailingStore extends SqliteStore implements Store {
  /** Methods that fail, with nothing done. */
  readonly away = new Set<string>();
  /** Methods whose next call is done, and its answer lost. */
  readonly inDoubt = new Set<string>();

  override async heartbeat(params: Parameters<Store["heartbeat"]>[0]): ReturnType<Store["heartbeat"]> {
    return this.#fail("heartbeat", async () => super.heartbeat(params));
  }

  override async claimRuns(params: Parameters<Store["claimRuns"]>[0]): ReturnType<Store["claimRuns"]> {
    return this.#fail("claimRuns", async () => super.claimRuns(params));
  }

  override async claimBatches(params: Parameters<Store["claimBatches"]>[0]): ReturnType<Store["claimBatches"]> {
    return this.#fail("claimBatches", async () => super.claimBatches(params));
  }

  override async formBatch(params: Parameters<Store["formBatch"]>[0]): ReturnType<Store["formBatch"]> {
    // A request a call: what is cut off in the middle of it is still being filled.
    return this.#fail("formBatch", async () => super.formBatch({ ...params, chunk: 1 }));
  }

  override async updateBatch(params: Parameters<Store["updateBatch"]>[0]): ReturnType<Store["updateBatch"]> {
    return this.#fail("updateBatch", async () => super.updateBatch(params));
  }

  async #fail<T>(method: string, perform: () => Promise<T>): Promise<T> {
    if (this.away.has(method)) throw new GembatchError("store_unavailable", "The store is away.", { retryable: true });
    const result = await perform();
    const found = Array.isArray(result) ? result.length > 0 : result !== undefined;
    if (!found || !this.inDoubt.delete(method)) return result;
    throw new GembatchError("store_unavailable", "The answer was lost.", { retryable: true, details: { inDoubt: true } });
  }
}

describe("a worker whose claim was done and not answered", () => {
  it.each(["claimRuns", "claimBatches", "formBatch"])("finds what it has in hand within two leases: %s", async (method) => {
    const store = new FailingStore({ path: ":memory:" });
    const { gembatch, worker, clock, provider } = createTestKit({ store, worker: { lease: "30s" } });
    const chain = gembatch.chain("ask", async ({ models }, n: number) => (await models.generateContent({ model, contents: `${n}` })).text!);
    const runs = await Promise.all([1, 2, 3].map(async (n) => chain.start(n)));
    store.inDoubt.add(method);
    for (let seconds = 0; seconds < 180; seconds += 1) {
      await worker.tick().catch(() => {});
      await clock.advance(1_000);
    }
    expect(store.inDoubt.size).toBe(0);
    const records = await store.getRuns({ ids: runs.map(({ id }) => id) });
    expect(records.map((run) => run?.output)).toEqual(["<1>", "<2>", "<3>"]);
    expect(provider.jobs.flatMap(({ rows }) => rows)).toHaveLength(3);
    await gembatch.close();
  });

  it("lets steps in hand come to their end first, if they do so within a lease", async () => {
    const store = new FailingStore({ path: ":memory:" });
    const { gembatch, worker, clock } = createTestKit({ store, worker: { lease: "30s" } });
    let executed = 0;
    const chain = gembatch.chain("work", async ({ step }, ms: number) =>
      step("work", async () => {
        executed += 1;
        await clock.sleep(ms);
        return ms;
      }),
    );
    const begin = async (ms: number) => {
      const { id } = await chain.start(ms);
      await worker.tick().catch(() => {});
      return id;
    };
    const long = await begin(20_000);
    store.inDoubt.add("claimRuns");
    const short = await begin(0);
    expect(executed).toBe(1);
    for (let seconds = 0; seconds < 90; seconds += 1) {
      await worker.tick().catch(() => {});
      await clock.advance(1_000);
    }
    expect((await store.getRuns({ ids: [long, short] })).map((run) => run?.output)).toEqual([20_000, 0]);
    expect(executed).toBe(2);
    await gembatch.close();
  });
});

describe("a worker that cannot renew its lease", () => {
  it("begins nothing new once it is over, and goes on when it can again", async () => {
    const store = new FailingStore({ path: ":memory:" });
    const { gembatch, worker, clock, provider } = createTestKit({ store, worker: { lease: "30s" } });
    const settle = async () => {
      for (let round = 0; round < 200; round += 1) await new Promise(setImmediate);
    };
    const pass = async (seconds: number) => {
      for (let passed = 0; passed < seconds; passed += 1) {
        await clock.advance(1_000);
        await settle();
      }
    };
    const chain = gembatch.chain("ask", async ({ models }, n: number) => (await models.generateContent({ model, contents: `${n}` })).text!);
    await worker.start();
    await settle();
    const first = await chain.start(1);
    await pass(5);
    expect(provider.jobs).toHaveLength(1);
    store.away.add("heartbeat");
    await pass(20);
    // Its lease may be alive still: what is there to do is done.
    const second = await chain.start(2);
    await pass(5);
    expect(provider.jobs).toHaveLength(2);
    await pass(60);
    const third = await chain.start(3);
    await pass(60);
    expect(await gembatch.runs.get(third.id)).toMatchObject({ state: "runnable" });
    expect(provider.jobs).toHaveLength(2);
    store.away.clear();
    await pass(180);
    const outputs = (await store.getRuns({ ids: [first.id, second.id, third.id] })).map((run) => run?.output);
    expect(outputs).toEqual(["<1>", "<2>", "<3>"]);
    const closed = gembatch.close();
    await pass(5);
    await closed;
  });
});

describe("a store that fails while jobs of two providers are looked at", () => {
  it("leaves none of them in nobody's hand", async () => {
    const clock = new ManualClock();
    const store = new FailingStore({ path: ":memory:" });
    const provider = [new SteerableProvider({ clock, name: "one" }), new SteerableProvider({ clock, name: "two" })] as const;
    const { gembatch, worker } = createTestKit({ store, clock, provider });
    const runs = await Promise.all(
      provider.map(async ({ name }) =>
        gembatch
          .chain(`ask-${name}`, async ({ models }) => (await models.generateContent({ model, contents: name })).text!, { provider: name })
          .start(undefined),
      ),
    );
    while (provider.some(({ jobs }) => jobs.length === 0)) {
      await worker.tick();
      await clock.advance(100);
    }
    await clock.advance(3_600_000);
    store.away.add("updateBatch");
    await worker.tick().catch(() => {});
    store.away.clear();
    for (let minutes = 0; minutes < 60; minutes += 1) {
      await worker.tick();
      await clock.advance(60_000);
    }
    expect((await store.getRuns({ ids: runs.map(({ id }) => id) })).map((run) => run?.output)).toEqual(["<one>", "<two>"]);
    await gembatch.close();
  });
});
