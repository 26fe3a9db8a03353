import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { systemClock } from "../client/system-clock.ts";
import type { Store } from "../core/store.ts";
import { Gembatch } from "../index.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider } from "../testing.ts";

describe("a worker that stops", () => {
  it("keeps its lease until the turns in hand are done, and gives up its roles meanwhile", async () => {
    const folder = mkdtempSync(join(tmpdir(), "gembatch-worker-"));
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const open = (seed: number) =>
      createTestKit({ store: new SqliteStore({ path: join(folder, "store.db") }), clock, provider, worker: { lease: "30s" }, seed });
    const [leaving, staying] = [open(1), open(2)];
    let executed = 0;
    const working = Promise.withResolvers<void>();
    const chains = [leaving, staying].map(({ gembatch }) =>
      gembatch.chain("long", async ({ step, models }, text: string) => {
        if (text === "short") return (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text;
        return step("work", async () => {
          executed += 1;
          await working.promise;
          return "worked";
        });
      }),
    );
    const long = await chains[0]!.start("long");
    await leaving.worker.tick();
    expect(executed).toBe(1);

    const stopping = leaving.worker.stop({ grace: "1h" });
    const short = await chains[1]!.start("short");
    for (let seconds = 0; seconds < 180; seconds += 5) {
      while ((await staying.worker.tick()).worked);
      await clock.advance(5_000);
    }
    // The other one took over the sending within seconds, and not the run.
    expect([await short.result(), executed, provider.jobs.length]).toEqual(["<short>", 1, 1]);
    working.resolve();
    await stopping;
    while ((await staying.worker.tick()).worked);
    expect([await long.result(), executed]).toEqual(["worked", 1]);
    for (const { gembatch } of [leaving, staying]) await gembatch.close();
    rmSync(folder, { recursive: true });
  });

  it("removes what is left at the provider, though it gave up its roles before", async () => {
    const { gembatch, worker, provider, clock } = createTestKit({ clock: new ManualClock(), cleanup: "10s" });
    const working = Promise.withResolvers<void>();
    let executed = 0;
    const chain = gembatch.chain("long", async ({ step, models }) => {
      await models.generateContent({ model: "gemini-2.5-flash", contents: "one" });
      await step("work", async () => {
        executed += 1;
        await working.promise;
      });
    });
    await chain.start(null);
    const left = () => provider.jobs.filter(({ deleted }) => !deleted).length;
    while (executed === 0) {
      await worker.tick();
      await clock.advance(1_000);
    }
    expect(left()).toBe(1);
    const stopping = worker.stop({ grace: "1h" });
    for (let seconds = 0; seconds < 60; seconds += 5) await clock.advance(5_000);
    working.resolve();
    await stopping;
    expect(left()).toBe(0);
    await gembatch.close();
  });
});

/** Everything that can happen while time stands still. */
const settle = async (): Promise<void> => {
  for (let round = 0; round < 200; round += 1) await new Promise(setImmediate);
};

describe("a worker that runs", () => {
  // The next timer is looked for every 100 ms at most.
  it.each([
    { prompts: 3, turnaroundMs: 10, withinMs: 500 },
    { prompts: 1, turnaroundMs: 1_550, withinMs: 1_900 },
  ])(
    "does everything as soon as it can, and does not wait for its look of every second: %o",
    async ({ prompts, turnaroundMs, withinMs }) => {
      const clock = new ManualClock();
      const provider = new SteerableProvider({ clock, turnaroundMs });
      const { gembatch, worker } = createTestKit({ clock, provider, polling: { minInterval: 1 }, batching: { debounce: 2 } });
      const chain = gembatch.chain("jobs", async ({ models, sleep }) => {
        let text = "x";
        for (let i = 0; i < prompts; i += 1) {
          text = (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text!;
          await sleep(1);
        }
        return text;
      });
      await worker.start();
      await settle();
      const from = clock.now();
      const { id } = await chain.start(null);
      await settle();
      while ((await gembatch.runs.get(id))?.state !== "completed" && clock.now() - from < 10_000) {
        await clock.advance(5);
        await settle();
      }
      expect(await gembatch.runs.get(id)).toMatchObject({ state: "completed", output: `${"<".repeat(prompts)}x${">".repeat(prompts)}` });
      expect(clock.now() - from).toBeLessThan(withinMs);
      await worker.stop();
      await gembatch.close();
    },
  );
});

describe("a worker with work in the background", () => {
  it("goes on as soon as a turn that took long is committed", async () => {
    const { gembatch, worker } = createTestKit({ clock: new ManualClock() });
    const working = Promise.withResolvers<string>();
    const child = gembatch.chain("child", async ({ step }) => step("slow", () => working.promise));
    const parent = gembatch.chain("parent", async ({ call }) => call(child, null));
    await worker.start();
    const { id } = await parent.start(null);
    await settle();
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "waiting" });
    // Nobody else does anything, and time stands still.
    working.resolve("done");
    await settle();
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "completed", output: "done" });
    await worker.stop();
    await gembatch.close();
  });

  it("goes on as soon as the answer of a direct call is stored", async () => {
    const { gembatch, worker } = createTestKit({ clock: new ManualClock() });
    const chain = gembatch.chain("direct", async ({ models }, prompts: number) => {
      let text = "x";
      for (let i = 0; i < prompts; i += 1) {
        text = (await models.generateContent({ model: "gemini-2.5-flash", contents: text }, { tier: "standard" })).text!;
      }
      return text;
    });
    await worker.start();
    const { id } = await chain.start(3);
    await settle();
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "completed", output: "<<<x>>>" });
    await worker.stop();
    await gembatch.close();
  });
});

describe("a worker on a store that gives hints", () => {
  it("looks when it is told to, until it is stopped", async () => {
    const listeners = new Set<() => void>();
    class HintingStore extends SqliteStore implements Store {
      onHint(listener: () => void): () => void {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      }
    }
    const store = new HintingStore({ path: ":memory:" });
    const clock = new ManualClock();
    const { gembatch, worker } = createTestKit({ store, clock });
    const chain = gembatch.chain("plain", (_context, n: number) => n);
    await worker.start();
    await settle();
    // Another process starts a run: nobody here is told, and time stands still.
    const { id } = await chain.start(5);
    const [record] = await store.getRuns({ ids: [id] });
    await settle();
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "completed" });
    await store.startRuns({
      now: clock.now(),
      runs: [{ id: "r2", kind: "chain", chain: record!.chain, version: "", input: "6", fingerprint: "f", priority: 0 }],
    });
    await settle();
    expect(await gembatch.runs.get("r2")).toMatchObject({ state: "runnable" });
    for (const listener of listeners) listener();
    await settle();
    expect([(await gembatch.runs.get("r2"))?.state, listeners.size]).toEqual(["completed", 1]);
    const closed = gembatch.close();
    await clock.advance(60_000);
    await closed;
    expect(listeners.size).toBe(0);
  });
});

describe("a worker on a store that other workers share", () => {
  it("takes up what another may keep in memory when it has found nothing of its own for half a second", async () => {
    const asked: boolean[] = [];
    class SharedStore extends SqliteStore implements Store {
      override async claimRuns(params: Parameters<Store["claimRuns"]>[0]) {
        asked.push(params.own ?? false);
        return params.own ? [] : super.claimRuns(params);
      }
    }
    const clock = new ManualClock();
    const { gembatch, worker } = createTestKit({ store: new SharedStore({ path: ":memory:" }), clock });
    const chain = gembatch.chain("plain", (_context, n: number) => n);
    await worker.start();
    await settle();
    await clock.advance(10_500);
    await settle();
    asked.length = 0;
    const { id } = await chain.start(5);
    await settle();
    expect([...new Set(asked)]).toEqual([true]);
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "runnable" });
    for (let ms = 0; ms < 600; ms += 50) {
      await clock.advance(50);
      await settle();
    }
    expect(await gembatch.runs.get(id)).toMatchObject({ state: "completed" });
    await worker.stop();
    await gembatch.close();
  });
});

describe("a worker on a store with a clock", () => {
  /** A store whose clock is an hour ahead. */
  class AheadStore extends SqliteStore implements Store {
    override async heartbeat(params: Parameters<Store["heartbeat"]>[0]): ReturnType<Store["heartbeat"]> {
      return { ...(await super.heartbeat(params)), time: systemClock.now() + 3_600_000 };
    }
  }
  const nowOf = async (options: { clock?: typeof systemClock }) => {
    await using gembatch = new Gembatch({
      store: new AheadStore({ path: ":memory:" }),
      provider: new SteerableProvider({ clock: systemClock }),
      logger: false,
      ...options,
    });
    const run = await gembatch.chain("now", ({ now }) => now()).start(undefined);
    return ((await run.result()) - systemClock.now()) / 3_600_000;
  };

  it("goes by that clock", async () => {
    expect(await nowOf({})).toBeCloseTo(1, 1);
  });

  it("goes by the clock that it was given", async () => {
    expect(await nowOf({ clock: { ...systemClock } })).toBeCloseTo(0, 1);
  });
});

describe("a worker without the provider that requests wait for", () => {
  it("says so when it starts", async () => {
    const clock = new ManualClock();
    const store = new SqliteStore({ path: ":memory:" });
    const close = store.close.bind(store);
    store.close = async () => {};
    const warnings: string[] = [];
    const silent = () => {};
    const logger = { debug: silent, info: silent, warn: (message: string) => void warnings.push(message), error: silent };
    for (const name of ["gemini", "vertex"]) {
      const kit = createTestKit({ store, clock, provider: new SteerableProvider({ clock, name }), logger });
      const chain = kit.gembatch.chain("ask", async ({ models }) => models.generateContent({ model: "gemini-2.5-flash", contents: "x" }));
      await chain.start(undefined);
      await kit.worker.tick();
      await kit.gembatch.close();
    }
    expect(warnings).toEqual([expect.stringMatching(/^Requests to gemini wait in this store/)]);
    await close();
  });
});
