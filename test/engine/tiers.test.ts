import { describe, expect, it } from "vitest";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, type TestKit, type TestKitOptions } from "../../src/testing.ts";
import { singleKit, sizes } from "./kit.ts";

const minute = 60_000;
const directCalls = (calls: readonly string[]) => calls.filter((call) => call === "callNow").length;

describe("direct tiers", () => {
  it.each(["flex", "standard"] as const)("answers by calls at the tier %s, without a job", async (tier) => {
    const { kit, start } = singleKit({ tier });
    await using _ = kit;
    await start(40);
    await kit.run();
    expect(sizes(kit)).toEqual([]);
    expect(directCalls(kit.provider.calls)).toBe(40);
    expect((await kit.gembatch.runs.get("r7"))!.output).toBe("<p7>");
    const [line] = await kit.gembatch.costs({ by: "tier" });
    expect(line).toMatchObject({ tier, answers: 40 });
    expect(line!.usd / line!.standardUsd).toBeCloseTo(tier === "flex" ? 0.5 : 1, 9);
  });

  it("is chosen per instance, chain and call, and by the SDK's own serviceTier", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const ask = kit.gembatch.chain(
      "ask",
      async ({ models }) => {
        await models.generateContent({ model: "gemini-2.5-flash", contents: "of the chain" });
        await models.generateContent({ model: "gemini-2.5-flash", contents: "of the call" }, { tier: "standard" });
        await models.generateContent({ model: "gemini-2.5-flash", contents: "of the SDK", config: { serviceTier: "standard" as never } });
        await models.generateContent({ model: "gemini-2.5-flash", contents: "in a job" }, { tier: "batch" });
      },
      { tier: "flex" },
    );
    await ask.start(undefined, { id: "r" });
    await kit.run();
    const { items } = await kit.gembatch.requests.list({ run: "r" });
    expect(items.map(({ lane }) => lane.tier ?? "batch").toReversed()).toEqual(["flex", "standard", "standard", "batch"]);
    expect(sizes(kit)).toEqual([1]);
  });

  it("puts what the flex tier sheds into a job", async () => {
    const { kit, start } = singleKit({ tier: "flex" });
    await using _ = kit;
    kit.provider.failNext("callNow", "throttled", { status: 503 });
    await start(3);
    await kit.run();
    expect(sizes(kit)).toEqual([1]);
    const requests = (await kit.gembatch.requests.list()).items;
    expect(requests.filter(({ tierReason }) => tierReason?.includes("shed"))).toHaveLength(1);
    expect((await kit.gembatch.stats()).runs.completed).toBe(3);
  });

  it("asks again after a call that was not answered, and fails what is refused", async () => {
    const { kit, start } = singleKit({ tier: "standard" });
    await using _ = kit;
    kit.provider.failNext("callNow", "ambiguous");
    kit.provider.failNext("callNow", "refused", { status: 400 });
    await start(2);
    await kit.run();
    const states = (await kit.gembatch.runs.list()).items.map(({ state, error }) => [state, error?.code]);
    expect(states).toContainEqual(["completed", undefined]);
    expect(states).toContainEqual(["failed", "request_refused"]);
    expect(directCalls(kit.provider.calls)).toBe(3);
  });

  it("begins no call once its worker stops, and keeps the answers that are on their way", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, callMs: 5_000 });
    const { kit, start } = singleKit({ clock, provider, tier: "standard", tiers: { standard: { perMinute: 10, concurrency: 100 } } });
    await start(20);
    await kit.advance("8s");
    const begun = provider.directCalls.length;
    expect(begun).toBeGreaterThan(0);
    const stopped = kit.worker.stop();
    await clock.advance(9_000);
    await stopped;
    await clock.advance(300_000);
    expect(provider.directCalls).toHaveLength(begun);
    expect((await kit.gembatch.stats()).requests.succeeded).toBe(begun);
    await kit.gembatch.close();
  });

  it("keeps the answers of other calls when the key is refused in between", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, callMs: 5_000 });
    const { kit, start } = singleKit({ clock, provider, tier: "standard", tiers: { standard: { perMinute: 1_000 } } });
    await using _ = kit;
    provider.failNext("callNow", "denied");
    await start(4);
    await kit.run();
    expect((await kit.gembatch.stats()).runs.completed).toBe(4);
    // Three were answered at once, and only the refused one is asked again.
    expect(provider.directCalls).toHaveLength(4);
  });

  it("keeps within the rate of the model", async () => {
    const { kit, start } = singleKit({ tier: "standard", tiers: { standard: { perMinute: 5, concurrency: 100 } } });
    await using _ = kit;
    const begin = kit.clock.now();
    await start(20);
    await kit.run();
    expect(kit.clock.now() - begin).toBeGreaterThanOrEqual(2 * minute);
    expect((await kit.gembatch.stats()).runs.completed).toBe(20);
  });
});

describe("tier auto", () => {
  it("sends wide waves to jobs and the narrow tail to flex, and says why", async () => {
    const kit = createTestKit({ tier: "auto" });
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models }, n: number) => {
      await models.generateContent({ model: "gemini-2.5-flash", contents: `first ${n}` });
      if (n < 2) await models.generateContent({ model: "gemini-2.5-flash", contents: `second ${n}` });
    });
    for (let n = 0; n < 30; n += 1) await chain.start(n);
    await kit.run();
    expect(sizes(kit)).toEqual([30]);
    expect(directCalls(kit.provider.calls)).toBe(2);
    const reasons = new Set((await kit.gembatch.requests.list({ limit: 100 })).items.map(({ tierReason }) => tierReason));
    expect([...reasons].join("\n")).toMatch(/nothing to join them/);
    expect([...reasons].join("\n")).toMatch(/more than the 10/);
  });
});

describe("deadlines", () => {
  function slowKit(options: TestKitOptions = {}) {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, turnaroundMs: 4 * 60 * minute });
    return singleKit({ clock, provider, ...options });
  }

  it("leave alone what a job will reach", async () => {
    const { kit, chain } = slowKit();
    await using _ = kit;
    const run = await chain.start("x", { deadline: "2d" });
    await kit.run();
    expect(sizes(kit)).toEqual([1]);
    expect((await run.get()).deadlineAt).toBeDefined();
  });

  it("send what a job would miss to flex, or to standard when flex would miss it, too", async () => {
    const { kit, chain } = slowKit();
    await using _ = kit;
    // What a job takes here is learned from the first.
    await chain.start("learn");
    await kit.run();
    const soon = await chain.start("soon", { id: "soon", deadline: "1h" });
    const sooner = await chain.start("sooner", { id: "sooner", deadline: "5m" });
    const before = kit.clock.now();
    await kit.run();
    expect(kit.clock.now() - before).toBeLessThan(10 * minute);
    expect(sizes(kit)).toEqual([1]);
    const tierOf = async (run: string) =>
      (await kit.gembatch.requests.list({ run })).items.map(({ lane, tierReason }) => [lane.tier, tierReason]);
    expect(await tierOf("soon")).toEqual([["flex", expect.stringMatching(/deadline/)]]);
    expect(await tierOf("sooner")).toEqual([["standard", expect.stringMatching(/deadline/)]]);
    expect([(await soon.get()).state, (await sooner.get()).state]).toEqual(["completed", "completed"]);
  });

  it("take a request out of a job that is late, say that it is paid twice, and count both answers", async () => {
    const { kit, chain } = slowKit();
    await using _ = kit;
    const run = await chain.start("x", { id: "r", deadline: "3h" });
    await kit.run();
    expect((await run.get()).state).toBe("completed");
    const { items } = await kit.gembatch.requests.list({ run: "r" });
    expect(items).toMatchObject([{ lane: { tier: "flex" }, tierReason: expect.stringMatching(/paid as well/) }]);
    await kit.advance("6h");
    expect((await kit.gembatch.costs({ by: "tier" })).map(({ tier, answers }) => [tier, answers])).toEqual([
      ["batch", 1],
      ["flex", 1],
    ]);
    expect((await kit.gembatch.runs.get("r"))!.output).toBe("<x>");
  });

  it("empty a batch that cannot be sent, and then no job is made of it", async () => {
    const { kit, start, chain } = slowKit();
    await using _ = kit;
    for (let n = 0; n < 40; n += 1) kit.provider.failNext("stageInput", "unavailable");
    await start(2);
    const run = await chain.start("x", { id: "x", deadline: "40m" });
    await kit.gembatch.runs.cancel(["r0", "r1"]);
    await kit.run();
    expect((await run.get()).state).toBe("completed");
    expect((await kit.gembatch.requests.list({ run: "x" })).items[0]!.tierReason).not.toMatch(/paid as well/);
    await kit.advance("5h");
    expect(sizes(kit)).toEqual([]);
    expect((await kit.gembatch.batches.list({ active: true })).items).toEqual([]);
  });

  it("of a call win over the run's only when they are earlier", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const begin = kit.clock.now();
    const chain = kit.gembatch.chain(
      "x",
      async ({ models }) => {
        await models.generateContent({ model: "gemini-2.5-flash", contents: "a" }, { deadline: "2h" });
        await models.generateContent({ model: "gemini-2.5-flash", contents: "b" }, { deadline: "30d" });
      },
      { deadline: "1d" },
    );
    await chain.start(undefined, { id: "r" });
    await kit.run();
    const { items } = await kit.gembatch.requests.list({ run: "r" });
    const hours = items.toReversed().map(({ deadlineAt }) => Math.round((deadlineAt! - begin) / (60 * minute)));
    expect(hours).toEqual([2, 24]);
  });
});

describe("a worker that dies in the middle of its calls", () => {
  it("leaves them to the next one, which asks only what has no answer yet", async () => {
    const clock = new ManualClock();
    const store = new SqliteStore({ path: ":memory:" });
    const shared = new Proxy(store, {
      get: (target, name) => {
        if (name === "close") return async () => {};
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const asked: string[] = [];
    const first = createTestKit({ clock, store: shared, tier: "standard", worker: { lease: "30s" } });
    const answerNow = first.provider.callNow.bind(first.provider);
    // The second half of the calls is never answered: this process will be gone by then.
    first.provider.callNow = async (call) => {
      asked.push(call.body);
      return asked.length <= 4 ? answerNow(call) : new Promise(() => {});
    };
    const define = (kit: TestKit) =>
      kit.gembatch.chain(
        "single",
        async ({ models }, text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text,
      );
    const chain = define(first);
    for (let n = 0; n < 8; n += 1) await chain.start(`p${n}`, { id: `r${n}` });
    for (let n = 0; n < 5; n += 1) {
      await first.worker.tick();
      await clock.advance(1);
    }
    expect(asked).toHaveLength(8);

    const second = createTestKit({ clock, store: shared, tier: "standard", worker: { lease: "30s" }, seed: 2 });
    define(second);
    await second.run();
    expect((await second.gembatch.stats()).runs.completed).toBe(8);
    expect(second.provider.calls.filter((call) => call === "callNow")).toHaveLength(4);
  });
});
