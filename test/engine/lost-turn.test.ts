import { expect, it } from "vitest";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { GembatchError } from "../../src/index.ts";
import { createTestKit, ManualClock, SteerableProvider } from "../../src/testing.ts";

it("a turn whose claim was lost while its step ran makes room for others", async () => {
  const clock = new ManualClock();
  const shared = { clock, store: new SqliteStore({ path: ":memory:" }), provider: new SteerableProvider({ clock }) };
  const worker = { concurrency: 1, lease: "30s" } as const;
  let release = () => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  const define = (kit: ReturnType<typeof createTestKit>, work: () => Promise<void>) =>
    kit.gembatch.chain("slow", async ({ step }, name: string) => {
      await step("work", work);
      return name;
    });
  const frozen = createTestKit({ ...shared, worker });
  const chain = define(frozen, async () => gate);
  await chain.start("first", { id: "first" });
  await frozen.worker.tick();
  await clock.advance(31_000);
  const other = createTestKit({ ...shared, worker, seed: 2 });
  const same = define(other, async () => {});
  await other.run();
  expect(await same.run("first").result()).toBe("first");
  await other.worker.stop();

  release();
  await chain.start("second", { id: "second" });
  await frozen.run("1h");
  expect(await chain.run("second").result()).toBe("second");
});

it("a store that is away between a claim and its history delays the runs by little more than it is away", async () => {
  const store = new SqliteStore({ path: ":memory:" });
  const load = store.loadHistory.bind(store);
  let away = 6;
  store.loadHistory = async (params) => {
    away -= 1;
    if (away >= 0) throw new GembatchError("store_unavailable", "The store is away.", { retryable: true });
    return load(params);
  };
  const clock = new ManualClock();
  const kit = createTestKit({ clock, store });
  const chain = kit.gembatch.chain("once", async () => clock.now());
  const startedAt = clock.now();
  await chain.start(null, { id: "a" });
  await kit.run();
  expect((await chain.run("a").result()) - startedAt).toBeLessThan(10_000);
});
