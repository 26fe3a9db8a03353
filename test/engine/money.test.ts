import { describe, expect, it } from "vitest";
import { createTestKit, ManualClock, SteerableProvider, textResponse } from "../../src/testing.ts";
import { singleKit, sizes } from "./kit.ts";

/** What one answer of the steerable provider costs at the batch tier: 10 tokens in and 5 out of gemini-2.5-flash. */
const answerUsd = ((10 * 0.3 + 5 * 2.5) / 1e6) * 0.5;

describe("cost", () => {
  it("is kept for every answer, run, batch, chain and day", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    await start(3);
    await kit.run();
    const [request] = (await kit.gembatch.requests.list({ run: "r0" })).items;
    expect(request!.cost.usd).toBeCloseTo(answerUsd, 12);
    expect(request!.cost.standardUsd).toBeCloseTo(2 * answerUsd, 12);
    expect((await kit.gembatch.runs.get("r0"))!.cost).toMatchObject({ usd: expect.closeTo(answerUsd, 12), unpriced: 0 });
    expect((await kit.gembatch.batches.list()).items[0]!.cost.usd).toBeCloseTo(3 * answerUsd, 12);
    expect(await kit.gembatch.costs({ by: ["chain", "day", "model", "tier"] })).toEqual([
      {
        chain: "single",
        day: "2026-01-01",
        model: "gemini-2.5-flash",
        tier: "batch",
        answers: 3,
        usage: { promptTokens: 30, outputTokens: 15, cachedTokens: 0, thoughtTokens: 0, toolTokens: 0, audioTokens: 0, imageTokens: 0 },
        usd: expect.closeTo(3 * answerUsd, 12),
        standardUsd: expect.closeTo(6 * answerUsd, 12),
        unpriced: 0,
      },
    ]);
    expect((await kit.gembatch.stats()).cost.usd).toBeCloseTo(3 * answerUsd, 12);
  });

  it("counts answers that were not good enough and asked again", async () => {
    const clock = new ManualClock();
    let asked = 0;
    const provider = new SteerableProvider({
      clock,
      answer: () => {
        asked += 1;
        return asked > 1
          ? "good"
          : { response: { ...(textResponse("") as object), candidates: [{ finishReason: "STOP", content: { parts: [] } }] } };
      },
    });
    const { kit, start } = singleKit({ clock, provider });
    await using _ = kit;
    await start(1);
    await kit.run();
    expect((await kit.gembatch.runs.get("r0"))!.cost.usd).toBeCloseTo(2 * answerUsd, 12);
  });

  it("is unknown, never 0, for a model without a price", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models }) => (await models.generateContent({ model: "mystery-1", contents: "x" })).text);
    await chain.start(undefined, { id: "r" });
    await kit.run();
    expect((await kit.gembatch.runs.get("r"))!.cost).toEqual({ usd: 0, standardUsd: 0, unpriced: 1 });
    expect((await kit.gembatch.stats()).cost).toEqual({ usd: 0, standardUsd: 0, unknownModels: ["mystery-1"] });
  });

  it("follows the price of the day on which an answer came", async () => {
    const clock = new ManualClock(Date.UTC(2026, 11, 31, 23, 0));
    const kit = createTestKit({ clock });
    await using _ = kit;
    const chain = kit.gembatch.chain(
      "x",
      async ({ models }, n: number) => (await models.generateContent({ model: "gemini-3.6-flash", contents: `${n}` })).text,
    );
    await chain.start(1);
    await kit.run();
    await kit.advance("2h");
    await chain.start(2);
    await kit.run();
    const [before, after] = await kit.gembatch.costs({ by: "day" });
    expect([before!.day, after!.day]).toEqual(["2026-12-31", "2027-01-01"]);
    expect(after!.usd).toBeCloseTo(2 * before!.usd, 12);
  });
});

describe("budget", () => {
  const small = { usd: 0.003, per: "total" } as const;

  it("reserves estimates before anything is sent, holds what would exceed it, and says so", async () => {
    const { kit, start } = singleKit({ budget: small });
    await using _ = kit;
    const runs = await start(10);
    const results = runs.map(async (run) => run.result());
    const settled = Promise.allSettled(results);
    await kit.advance("30m");
    // An estimate is 1,000 tokens of output, 0.00125 USD: two fit at first, more once the real cost is known.
    expect(sizes(kit)[0]).toBe(2);
    const [lane] = await kit.gembatch.lanes.list();
    expect((await kit.gembatch.stats()).cost.usd).toBeLessThan(small.usd);
    if (lane!.queued > 0) expect(lane!.blocked!.reason).toMatch(/budget of 0.003 USD/i);
    const outcomes = await settled;
    expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
  });

  it("tells whoever awaits that nothing more is sent, and goes on when it is raised", async () => {
    const { kit, start, chain } = singleKit({ budget: { usd: 0.000_001, per: "day" } });
    await using _ = kit;
    await start(2);
    await Promise.all([
      expect(chain.run("r0").result()).rejects.toMatchObject({ code: "budget_exceeded", retryable: true }),
      kit.advance("1m"),
    ]);
    expect(sizes(kit)).toEqual([]);
  });

  it("starts afresh every day", async () => {
    const clock = new ManualClock();
    const long = { ...(textResponse("long") as object), usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 1_000_000 } };
    const provider = new SteerableProvider({ clock, answer: () => ({ response: long }) });
    const { kit, start, chain } = singleKit({ clock, provider, budget: { usd: 1, per: "day" } });
    await using _ = kit;
    await start(2);
    await kit.run();
    // Far longer than estimated: today's budget is gone.
    expect((await kit.gembatch.stats()).cost.usd).toBeGreaterThan(1);
    await chain.start("tomorrow", { id: "tomorrow" });
    await kit.advance("1h");
    expect(sizes(kit)).toEqual([2]);
    expect((await kit.gembatch.lanes.list())[0]!.blocked).toMatchObject({ until: Date.UTC(2026, 0, 2) });
    await kit.run();
    expect(provider.jobs[1]!.createdAt).toBeGreaterThanOrEqual(Date.UTC(2026, 0, 2));
  });

  it("sends nothing of a model without a price", async () => {
    const kit = createTestKit({ budget: { usd: 5, per: "month" } });
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models }) => (await models.generateContent({ model: "mystery-1", contents: "x" })).text);
    await chain.start(undefined, { id: "r" });
    await kit.advance("1h");
    expect(sizes(kit)).toEqual([]);
    expect((await kit.gembatch.lanes.list())[0]!.blocked!.reason).toMatch(/price of mystery-1 is unknown/);
  });

  it("does not send a prompt that alone is dearer than what is left, though others of the queue are not", async () => {
    const kit = createTestKit({ budget: { usd: 0.01, per: "total" } });
    await using _ = kit;
    const ask = kit.gembatch.chain(
      "ask",
      async ({ models }, maxOutputTokens: number) =>
        (await models.generateContent({ model: "gemini-2.5-flash", contents: `${maxOutputTokens}`, config: { maxOutputTokens } })).text,
    );
    await ask.start(20_000, { id: "dear", priority: 1 });
    for (let n = 1; n < 10; n += 1) await ask.start(n, { id: `cheap ${n}` });
    await Promise.all([expect(ask.run("dear").result()).rejects.toMatchObject({ code: "budget_exceeded" }), kit.advance("1m")]);
    expect(sizes(kit)).toEqual([]);
  });

  it("holds a run whose next prompts would cost more than a run may", async () => {
    const kit = createTestKit({ budget: { usd: 0.0015, per: "run" } });
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models }, n: number) => {
      const ask = async (text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text;
      await ask("first");
      return Promise.all(Array.from({ length: n }, async (_item, i) => ask(`then ${i}`)));
    });
    await chain.start(1, { id: "small" });
    await chain.start(4, { id: "large" });
    await kit.run();
    expect((await kit.gembatch.runs.get("small"))!.state).toBe("completed");
    const large = await kit.gembatch.runs.get("large");
    expect(large).toMatchObject({ state: "held", error: { code: "budget_exceeded", message: expect.stringMatching(/per run/) } });
    expect(kit.provider.jobs.reduce((sum, { rows }) => sum + rows.length, 0)).toBe(3);
  });
});

describe("shared answers", () => {
  const ask = "What is the capital of France?";

  it("are off: equal prompts are asked each", async () => {
    const { kit, chain } = singleKit();
    await using _ = kit;
    for (let n = 0; n < 3; n += 1) await chain.start(ask);
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
  });

  it("serve equal prompts of one run, in whatever scope", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models, scope }) => {
      const once = async () =>
        (await models.generateContent({ model: "gemini-2.5-flash", contents: ask }, { cache: { scope: "run" } })).text;
      const [a, b] = await Promise.all([once(), scope("other", once)]);
      return [a, b, await once()];
    });
    await chain.start(undefined, { id: "r" });
    await kit.run();
    expect((await kit.gembatch.runs.get("r"))!.output).toEqual([`<${ask}>`, `<${ask}>`, `<${ask}>`]);
    expect(sizes(kit)).toEqual([1]);
  });

  it("serve equal prompts of all runs, on the way and later, until their time is over", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const chain = kit.gembatch.chain(
      "x",
      async ({ models }, _n: number) =>
        (await models.generateContent({ model: "gemini-2.5-flash", contents: ask }, { cache: { scope: "store", ttl: "1h" } })).text,
    );
    for (let n = 0; n < 5; n += 1) await chain.start(n);
    await kit.run();
    expect(sizes(kit)).toEqual([1]);
    const late = await chain.start(5);
    await kit.run();
    expect((await late.get()).output).toBe(`<${ask}>`);
    expect(sizes(kit)).toEqual([1]);
    await kit.advance("2h");
    await chain.start(6);
    await kit.run();
    expect(sizes(kit)).toEqual([1, 1]);
    expect((await kit.gembatch.stats()).cost.usd).toBeCloseTo(2 * answerUsd, 12);
  });

  it("go to whoever waits when the run that asked is cancelled", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const chain = kit.gembatch.chain(
      "x",
      async ({ models }, _n: number) =>
        (await models.generateContent({ model: "gemini-2.5-flash", contents: ask }, { cache: { scope: "store" } })).text,
    );
    const first = await chain.start(1);
    await kit.worker.tick();
    const second = await chain.start(2);
    await kit.worker.tick();
    await first.cancel();
    await kit.run();
    expect((await second.get()).state).toBe("completed");
    expect(sizes(kit)).toEqual([1]);
  });
});
