import { describe, expect, it, vi } from "vitest";
import type { ResultRow } from "../../src/core/provider.ts";
import { GembatchError, type Store } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, type TestKitOptions } from "../../src/testing.ts";

const ask = (contents: string) => ({ model: "gemini-2.5-flash", contents });

/** A kit whose store counts what is claimed, and which histories are read. */
function countingKit(options: TestKitOptions = {}) {
  const store: Store = new SqliteStore({ path: ":memory:" });
  const claims = vi.spyOn(store, "claimRuns");
  const histories = vi.spyOn(store, "loadHistory");
  const kit = createTestKit({ ...options, store });
  const claimed = async (): Promise<string[]> =>
    (await Promise.all(claims.mock.results.map(async ({ value }) => value))).flat().map(({ id }) => id);
  return { kit, store, claimed, histories };
}

/** A chain of so many prompts, each with the answer before it. */
function lineOf(kit: ReturnType<typeof createTestKit>, prompts: number) {
  return kit.gembatch.chain("line", async ({ models }, text: string) => {
    let last = text;
    for (let i = 0; i < prompts; i += 1) last = (await models.generateContent(ask(`${i} ${last}`))).text!;
    return last;
  });
}

describe("a turn that waits in memory for one prompt", () => {
  it("goes on with its answer: no claim, no history, no call of the code again", async () => {
    const { kit, claimed, histories } = countingKit();
    const chain = lineOf(kit, 4);
    const ids = Array.from({ length: 20 }, (_, i) => `run-${i}`);
    await Promise.all(ids.map(async (id) => chain.start(id, { id })));
    await kit.run();
    for (const id of ids) expect(await chain.run(id).result()).toBe(`<3 <2 <1 <0 ${id}>>>>`);
    expect((await claimed()).toSorted()).toEqual(ids.toSorted());
    expect(histories).toHaveBeenCalledTimes(1);
    expect((await kit.gembatch.stats()).requests.succeeded).toBe(80);
  });

  it("goes on with the answer of a direct call as well", async () => {
    const { kit, claimed } = countingKit({ tier: "standard" });
    const chain = lineOf(kit, 3);
    for (const id of ["a", "b"]) await chain.start(id, { id });
    await kit.run();
    for (const id of ["a", "b"]) expect(await chain.run(id).result()).toBe(`<2 <1 <0 ${id}>>>`);
    expect(kit.provider.jobs).toEqual([]);
    expect((await claimed()).toSorted()).toEqual(["a", "b"]);
  });

  it("is told of a failed answer, too", async () => {
    const { kit, claimed } = countingKit({
      answer: (prompt) => (prompt === "bad" ? { error: { code: 3, message: "refused on purpose" } } : undefined),
    });
    const chain = kit.gembatch.chain("tries", async ({ models }) => {
      try {
        await models.generateContent(ask("bad"));
      } catch (error) {
        return GembatchError.is(error) ? error.code : "other";
      }
      return "none";
    });
    await chain.start(undefined, { id: "a" });
    await kit.run();
    expect(await chain.run("a").result()).toBe("request_failed");
    expect(await claimed()).toEqual(["a"]);
  });

  it("is given the row that counts where an output has several for one prompt", async () => {
    const clock = new ManualClock();
    const other = { candidates: [{ content: { role: "model", parts: [{ text: "must not be delivered" }] }, finishReason: "STOP" }] };
    const provider = new SteerableProvider({
      clock,
      onJob: (job) => {
        job.output = (rows) => rows.flatMap((row): ResultRow[] => (row.key === undefined ? [] : [row, { key: row.key, response: other }]));
      },
    });
    const { kit, claimed } = countingKit({ clock, provider });
    const chain = lineOf(kit, 2);
    await chain.start("x", { id: "x" });
    await kit.run();
    expect(await chain.run("x").result()).toBe("<1 <0 x>>");
    expect(await claimed()).toEqual(["x"]);
  });

  it("knows what its run has spent", async () => {
    const { kit } = countingKit({ budget: { usd: 0.0015, per: "run" } });
    const chain = kit.gembatch.chain("dear", async ({ models }) => {
      for (let i = 0; ; i += 1) await models.generateContent(ask(`${i} ${"word ".repeat(200)}`));
    });
    await chain.start(undefined, { id: "a" });
    await kit.run();
    const [run] = await kit.gembatch.runs.list({ state: "held" }).then(({ items }) => items);
    expect(run?.error?.code).toBe("budget_exceeded");
    expect(run?.cost.usd).toBeLessThanOrEqual(0.0015);
    expect(run?.cost.usd).toBeGreaterThan(0);
  });

  it("is claimed like any other where several prompts are awaited, or nothing is kept in memory", async () => {
    const several = countingKit();
    const pair = several.kit.gembatch.chain("pair", async ({ models }) => {
      const answers = await Promise.all([models.generateContent(ask("a")), models.generateContent(ask("b"))]);
      return answers.map(({ text }) => text).join();
    });
    await pair.start(undefined, { id: "a" });
    await several.kit.run();
    expect(await pair.run("a").result()).toBe("<a>,<b>");
    expect(await several.claimed()).toEqual(["a", "a"]);

    const none = countingKit({ worker: { parkedBytes: 0 } });
    const chain = lineOf(none.kit, 2);
    await chain.start("x", { id: "x" });
    await none.kit.run();
    expect(await chain.run("x").result()).toBe("<1 <0 x>>");
    expect(await none.claimed()).toEqual(["x", "x", "x"]);
  });

  it("leaves no more turns in hand than there may be", async () => {
    const { kit, claimed } = countingKit({ worker: { concurrency: 3 } });
    let busy = 0;
    let most = 0;
    const chain = kit.gembatch.chain("stepping", async ({ models, step }, n: number) => {
      const { text } = await models.generateContent(ask(`p${n}`));
      await step("work", async () => {
        most = Math.max(most, (busy += 1));
        await Promise.resolve();
        busy -= 1;
      });
      return text;
    });
    for (let n = 0; n < 12; n += 1) await chain.start(n, { id: `r${n}` });
    await kit.run();
    for (let n = 0; n < 12; n += 1) expect(await chain.run(`r${n}`).result()).toBe(`<p${n}>`);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(3);
    // Three went on at once; the others woke up and were claimed.
    expect(await claimed()).toHaveLength(12 + 9);
  });

  it("leaves no more turns in hand than there may be, also while a claim is under way", async () => {
    const { kit, store } = countingKit({ worker: { concurrency: 2 } });
    let busy = 0;
    let most = 0;
    let open = () => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    const work = async () => {
      most = Math.max(most, (busy += 1));
      await gate;
      busy -= 1;
    };
    const asking = kit.gembatch.chain("asking", async ({ models, step }, n: number) => {
      await models.generateContent(ask(`p${n}`));
      await step("work", work);
    });
    const fresh = kit.gembatch.chain("fresh", async ({ step }) => step("work", work));
    for (const n of [1, 2]) await asking.start(n, { id: `asking-${n}` });
    await kit.advance("30s");
    for (const n of [1, 2]) await fresh.start(undefined, { id: `fresh-${n}` });
    const claim = store.claimRuns.bind(store);
    let nested = false;
    store.claimRuns = async (params) => {
      if (!nested) {
        nested = true;
        // The answers come while the claim of others is on its way.
        await kit.clock.advance(60_000);
        await kit.worker.tick();
        await kit.worker.tick();
      }
      return claim(params);
    };
    await kit.worker.tick();
    expect([nested, most]).toEqual([true, 2]);
    open();
    await kit.run();
    expect((await kit.gembatch.stats()).runs.completed).toBe(4);
    expect(most).toBe(2);
  });

  it("is not begun by a worker that stops: it goes back, and another one goes on", async () => {
    const clock = new ManualClock();
    const shared = { clock, store: new SqliteStore({ path: ":memory:" }), provider: new SteerableProvider({ clock }) };
    const calls: string[] = [];
    const define = (kit: ReturnType<typeof createTestKit>, name: string) =>
      kit.gembatch.chain("two", async ({ models, step }) => {
        await models.generateContent(ask("first"));
        return step("work", () => calls.push(name));
      });
    const stopping = createTestKit(shared);
    const chain = define(stopping, "stopping");
    await chain.start(undefined, { id: "a" });
    await stopping.advance("30s");
    const settle = shared.store.settleRows.bind(shared.store);
    let stopped: Promise<void> | undefined;
    shared.store.settleRows = async (params) => {
      const settled = await settle(params);
      stopped ??= stopping.worker.stop();
      return settled;
    };
    await clock.advance(60_000);
    await stopping.worker.tick();
    await stopped;
    expect((await shared.store.stats()).runs).toMatchObject({ running: 0, runnable: 1 });
    const other = createTestKit({ ...shared, seed: 2 });
    define(other, "other");
    await other.run();
    expect(calls).toEqual(["other"]);
  });

  it("begins anew if its code went on by itself in the very moment of its answer", async () => {
    const { kit, store } = countingKit();
    let goOn = () => {};
    const outside = new Promise<void>((resolve) => (goOn = resolve));
    const settle = store.settleRows.bind(store);
    store.settleRows = async (params) => {
      const settled = await settle(params);
      // The code asks for something while the answer is on its way to it.
      goOn();
      await new Promise(setImmediate);
      return settled;
    };
    const chain = kit.gembatch.chain("leaky", async ({ models }) => {
      const first = models.generateContent(ask("first"));
      await outside;
      const second = models.generateContent(ask("second"));
      return `${(await first).text}${(await second).text}`;
    });
    await chain.start(undefined, { id: "a" });
    await kit.run();
    expect(await chain.run("a").result()).toBe("<first><second>");
    expect((await kit.gembatch.stats()).requests.succeeded).toBe(2);
  });

  it("is not lost with the answer to its settlement", async () => {
    const { kit, store } = countingKit({ worker: { lease: "30s" } });
    const settle = store.settleRows.bind(store);
    let lost = 1;
    store.settleRows = async (params) => {
      const settled = await settle(params);
      if ((lost -= 1) < 0) return settled;
      throw new GembatchError("store_unavailable", "The connection was cut.", { retryable: true, details: { inDoubt: true } });
    };
    const chain = lineOf(kit, 3);
    await chain.start("x", { id: "x" });
    const startedAt = kit.clock.now();
    await kit.run();
    expect(await chain.run("x").result()).toBe("<2 <1 <0 x>>>");
    expect(kit.provider.jobs).toHaveLength(3);
    // Three jobs of a minute, and nobody waited for a lease that is renewed for ever.
    expect(kit.clock.now() - startedAt).toBeLessThan(5 * 60_000);
  });

  it("that a worker which stops has in hand is finished first", async () => {
    const { kit } = countingKit();
    const chain = lineOf(kit, 2);
    await chain.start("x", { id: "x" });
    await kit.advance("90s");
    await kit.worker.stop();
    const { runs } = await kit.gembatch.stats();
    expect(runs.running).toBe(0);
    await kit.gembatch.close();
  });
});
