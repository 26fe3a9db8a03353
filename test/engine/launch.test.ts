import { describe, expect, it } from "vitest";
import { GembatchError } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, type SteerableJob, type TestKitOptions } from "../../src/testing.ts";
import { singleKit, sizes } from "./kit.ts";

const hour = 3_600_000;

/** A kit whose jobs a test can look at and change when they are created. */
function kitWithJobs(turnaroundMs: (job: SteerableJob) => number, options: TestKitOptions = {}) {
  const clock = new ManualClock();
  return singleKit({ clock, provider: new SteerableProvider({ clock, turnaroundMs }), ...options });
}

describe("a creation that was not answered", () => {
  it("holds the batch when asked to, and sends it again only when an operator says so", async () => {
    const { kit, start } = singleKit({ launch: { onAmbiguous: "hold" } });
    await using _ = kit;
    kit.provider.failNext("createJob", "ambiguous", { when: "before" });
    await start(3);
    await kit.advance("5h");
    expect(sizes(kit)).toEqual([]);
    const { items } = await kit.gembatch.batches.list({ held: true });
    expect(items).toMatchObject([{ state: "launching", held: true, error: { code: "batch_held" }, launchAttempts: 1 }]);

    expect(await kit.gembatch.batches.release(items[0]!.id)).toEqual([items[0]!.id]);
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
    expect((await kit.gembatch.batches.list({ held: true })).items).toEqual([]);
  });

  it("tells whoever awaits a result that the batch is held", async () => {
    const { kit, chain } = singleKit({ launch: { onAmbiguous: "hold" } });
    await using _ = kit;
    kit.provider.failNext("createJob", "ambiguous", { when: "before" });
    const result = chain.start("p").then(async (run) => run.result());
    await Promise.all([expect(result).rejects.toMatchObject({ code: "batch_held", retryable: true }), kit.advance("10m")]);
  });

  it("adopts the job of a held batch when it turns up after all", async () => {
    const { kit, start } = singleKit({ launch: { onAmbiguous: "hold" } });
    await using _ = kit;
    kit.provider.listLagMs = 2 * hour;
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(3);
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
    expect((await kit.gembatch.stats()).duplicateJobs).toBe(0);
  });

  it("holds once more when what an operator released is not answered either", async () => {
    const { kit, start } = singleKit({ launch: { onAmbiguous: "hold" } });
    await using _ = kit;
    kit.provider.failNext("createJob", "ambiguous", { when: "before" });
    kit.provider.failNext("createJob", "ambiguous", { when: "before" });
    await start(3);
    await kit.advance("1h");
    const held = async () => (await kit.gembatch.batches.list({ held: true })).items;
    await kit.gembatch.batches.release((await held()).map(({ id }) => id));
    await kit.advance("1h");
    expect(await held()).toMatchObject([{ held: true, launchAttempts: 2 }]);
    expect(sizes(kit)).toEqual([]);
  });
});

describe("a job that the provider hid for longer than the settle window", () => {
  it("is cancelled when it shows, counted, and never read", async () => {
    const { kit, start } = kitWithJobs((job) => (job.name === "batches/1" ? 10 * hour : 60_000));
    await using _ = kit;
    kit.provider.listLagMs = 400_000;
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(4);
    await kit.run();
    expect(sizes(kit)).toEqual([4, 4]);
    await kit.advance("1h");
    const [hidden, own] = kit.provider.jobs;
    expect(hidden).toMatchObject({ cancelled: true });
    expect(own).toMatchObject({ cancelled: false });
    const { items } = await kit.gembatch.batches.list();
    expect(items).toMatchObject([
      { state: "completed", job: "batches/2", duplicateJobs: ["batches/1"], counts: { succeeded: 4, duplicate: 0, unknown: 0 } },
    ]);
    expect((await kit.gembatch.stats()).duplicateJobs).toBe(1);
    // Although the batch was cleaned up long before.
    expect(hidden).toMatchObject({ deleted: true });
  });

  it("is not taken over once it was cancelled as a duplicate", async () => {
    const store = new SqliteStore({ path: ":memory:" });
    const { kit, start } = singleKit({ store });
    await using _ = kit;
    kit.provider.listLagMs = 5_000;
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(2);
    await kit.advance("1s");
    // A worker that found two jobs, cancelled the younger one, and died before it could take the other.
    const [batch] = await store.activeBatches();
    await store.updateSweep({ batch: batch!.id, update: { sweepAt: null, duplicateJobs: ["batches/1"] } });
    await kit.run();
    expect((await kit.gembatch.batches.list()).items).toMatchObject([{ job: "batches/2", duplicateJobs: ["batches/1"] }]);
  });

  it("is looked for even if everybody has left its batch", async () => {
    const { kit, start } = kitWithJobs((job) => (job.name === "batches/1" ? 10 * hour : 60_000));
    await using _ = kit;
    kit.provider.listLagMs = 400_000;
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(1);
    await kit.advance("1s");
    await kit.gembatch.runs.cancel("r0");
    await kit.gembatch.runs.retry("r0", { afresh: true });
    await kit.run();
    expect(sizes(kit)).toEqual([1, 1]);
    await kit.advance("2h");
    expect(kit.provider.jobs[0]).toMatchObject({ cancelled: true });
    expect((await kit.gembatch.stats()).duplicateJobs).toBe(1);
  });

  it.each(["throttled", "unavailable", "missing"] as const)(
    "is not looked for after an attempt that was %s: it made nothing for certain",
    async (failure) => {
      const { kit, start } = singleKit({ cleanup: "never" });
      await using _ = kit;
      kit.provider.failNext("createJob", failure);
      await start(2);
      await kit.run();
      await kit.advance("2d");
      expect(kit.provider.calls.filter((call) => call === "findJobs")).toHaveLength(0);
      expect((await kit.gembatch.batches.list()).items).toMatchObject([{ state: "completed", launchAttempts: 1 }]);
    },
  );

  it("is not looked for after a launch that was answered", async () => {
    const { kit, start } = singleKit({ cleanup: "never" });
    await using _ = kit;
    await start(2);
    await kit.run();
    await kit.advance("2d");
    expect(kit.provider.calls.filter((call) => call === "findJobs")).toHaveLength(0);
  });
});

describe("cleaning up at the provider", () => {
  const removed = (calls: readonly string[]) => [
    calls.filter((call) => call === "discardInput").length,
    calls.filter((call) => call === "deleteJob").length,
  ];

  it("removes job, output and input once they are routed", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    await start(2);
    await kit.run();
    await kit.advance("1m");
    expect(removed(kit.provider.calls)).toEqual([1, 1]);
    expect(kit.provider.jobs).toMatchObject([{ deleted: true }]);
    expect((await kit.gembatch.batches.list()).items).toMatchObject([{ cleanedAt: expect.any(Number), sweepAt: undefined }]);
  });

  it("keeps them for as long as asked, or for ever", async () => {
    const { kit, start } = singleKit({ cleanup: "2h" });
    await using _ = kit;
    await start(2);
    await kit.run();
    await kit.advance("1h");
    expect(removed(kit.provider.calls)).toEqual([0, 0]);
    await kit.advance("2h");
    expect(removed(kit.provider.calls)).toEqual([1, 1]);

    const never = singleKit({ cleanup: "never" });
    await using __ = never.kit;
    await never.start(2);
    await never.kit.run();
    await never.kit.advance("2d");
    expect(removed(never.kit.provider.calls)).toEqual([0, 0]);
  });

  it("tries again when the provider is away, and harms nothing meanwhile", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    for (let n = 0; n < 3; n += 1) kit.provider.failNext("deleteJob", "unavailable");
    await start(2);
    await kit.run();
    await kit.advance("1h");
    expect(kit.provider.jobs).toMatchObject([{ deleted: true }]);
  });
});

describe("jobs that do not end well", () => {
  it("cancels a stuck job at the age limit and asks again what it did not answer", async () => {
    const { kit, start } = kitWithJobs((job) => (job.name === "batches/1" ? Infinity : 60_000), { polling: { maxAge: "2h" } });
    await using _ = kit;
    await start(3);
    await kit.run();
    const [stuck, second] = kit.provider.jobs;
    expect(stuck).toMatchObject({ cancelled: true });
    expect(second!.createdAt - stuck!.createdAt).toBeGreaterThan(2 * hour);
    expect(second!.createdAt - stuck!.createdAt).toBeLessThan(3 * hour);
    expect(sizes(kit)).toEqual([3, 3]);
    expect((await kit.gembatch.requests.list({ run: "r0" })).items).toMatchObject([{ attempt: 2, state: "succeeded" }]);
  });

  it("gives up on a stuck job that does not even end when it is cancelled", async () => {
    const { kit, start } = kitWithJobs((job) => (job.name === "batches/1" ? Infinity : 60_000), { polling: { maxAge: "2h" } });
    await using _ = kit;
    await start(3);
    const cancel = kit.provider.cancelJob.bind(kit.provider);
    let asked = 0;
    kit.provider.cancelJob = async (name) => {
      asked += 1;
      if (asked > 1) await cancel(name);
    };
    await kit.run();
    expect(sizes(kit)).toEqual([3, 3]);
    await kit.advance("1h");
    // Once more when it is removed: its answers would be paid for nothing.
    expect(kit.provider.jobs[0]).toMatchObject({ cancelled: true, deleted: true });
  });

  it("looks once more at a cancelled job before its requests are paid again", async () => {
    const { kit, start } = kitWithJobs(() => 10 * 60_000);
    await using _ = kit;
    await start(3);
    await kit.advance("1m");
    const [job] = kit.provider.jobs;
    job!.cancelled = true;
    await kit.advance("30s");
    job!.cancelled = false;
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
  });

  it("asks again what a job cancelled from outside did not answer", async () => {
    const { kit, start } = kitWithJobs((job) => (job.name === "batches/1" ? hour : 60_000));
    await using _ = kit;
    await start(3);
    await kit.advance("1m");
    kit.provider.jobs[0]!.cancelled = true;
    await kit.run();
    expect(sizes(kit)).toEqual([3, 3]);
    expect((await kit.gembatch.batches.list()).items.map(({ state }) => state).toSorted()).toEqual(["cancelled", "completed"]);
  });

  it.each(["expired", "cancelled", "failed"] as const)(
    "reads what a job that ended %s had answered, and asks again only for the rest",
    async (end) => {
      const { kit, start } = kitWithJobs((job) => {
        if (job.name === "batches/1") Object.assign(job, { end, partialRows: 3 });
        return 60_000;
      });
      await using _ = kit;
      await start(5);
      await kit.run();
      expect(sizes(kit)).toEqual([5, 2]);
      const { items } = await kit.gembatch.batches.list();
      expect(items.map(({ state, counts }) => [state, counts.succeeded, counts.requeued])).toEqual([
        ["completed", 2, 0],
        [end, 3, 2],
      ]);
      expect((await kit.gembatch.stats()).runs.completed).toBe(5);
    },
  );

  it("lets rows that broke two jobs travel alone, so that the bad one spoils no third", async () => {
    const { kit, start } = kitWithJobs((job) => {
      if (job.rows.some(({ body }) => body.includes('"p2"'))) job.end = "failed";
      return 60_000;
    });
    await using _ = kit;
    await start(5);
    await kit.run();
    expect(sizes(kit).slice(0, 2)).toEqual([5, 5]);
    expect(
      sizes(kit)
        .slice(2)
        .every((size) => size === 1),
    ).toBe(true);
    const states = (await kit.gembatch.runs.list()).items.map(({ id, state }) => [id, state]).toReversed();
    expect(states).toEqual([
      ["r0", "completed"],
      ["r1", "completed"],
      ["r2", "failed"],
      ["r3", "completed"],
      ["r4", "completed"],
    ]);
  });

  it("keeps rows together when segregation is off", async () => {
    const { kit, start } = kitWithJobs(
      (job) => {
        job.end = "failed";
        return 60_000;
      },
      { retry: { segregate: false, maxAttempts: 3 } },
    );
    await using _ = kit;
    await start(4);
    await kit.run();
    expect(sizes(kit)).toEqual([4, 4, 4]);
  });
});

describe("the breaker of a lane", () => {
  it("stops launching when every job expires, says that the model may be retired, and tries one batch later", async () => {
    let healthy = false;
    const { kit, chain, start } = kitWithJobs(
      (job) => {
        if (!healthy) job.end = "expired";
        return 60_000;
      },
      { retry: { maxAttempts: 20, initialDelay: "1s", maxDelay: "1s" } },
    );
    await using _ = kit;
    await start(1);
    await kit.advance("10m");
    expect(sizes(kit)).toEqual([1, 1, 1]);
    const [lane] = await kit.gembatch.lanes.list();
    expect(lane!.blocked).toMatchObject({ reason: expect.stringMatching(/retired/), until: expect.any(Number) });

    healthy = true;
    for (let n = 0; n < 3; n += 1) await chain.start(`more ${n}`);
    await kit.run("2d");
    expect(sizes(kit)[3]).toBeGreaterThan(0);
    expect((await kit.gembatch.lanes.list())[0]!.blocked).toBeUndefined();
  });

  it("leaves other models alone", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({
      clock,
      turnaroundMs: (job) => {
        if (job.lane.model === "gemini-2.5-pro") job.end = "expired";
        return 60_000;
      },
    });
    const kit = createTestKit({ clock, provider, retry: { maxAttempts: 3, initialDelay: "1s", maxDelay: "1s" } });
    await using _ = kit;
    const ask = kit.gembatch.chain(
      "ask",
      async ({ models }, model: string) => (await models.generateContent({ model, contents: "x" })).text,
    );
    const bad = await ask.start("gemini-2.5-pro", { id: "bad" });
    await kit.run();
    const good = await ask.start("gemini-2.5-flash", { id: "good" });
    await kit.run();
    expect([(await bad.get()).state, (await good.get()).state]).toEqual(["failed", "completed"]);
    expect((await bad.get()).error).toMatchObject({ code: "request_expired" });
  });
});

describe("a store that is away for a moment", () => {
  it.each(["stageInput", "getJobs"] as const)("does not leave a batch in hand whose %s failed just then", async (call) => {
    let failing = 0;
    const store = new Proxy(new SqliteStore({ path: ":memory:" }), {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        if (name !== "updateBatch") return value.bind(target);
        return async (params: never) => {
          failing -= 1;
          if (failing >= 0) throw new GembatchError("store_locked", "Another program writes.", { retryable: true });
          return target.updateBatch(params);
        };
      },
    });
    const { kit, start } = singleKit({ store });
    await using _ = kit;
    await start(3);
    if (call === "getJobs") await kit.advance("10s");
    kit.provider.failNext(call, "unavailable");
    failing = 2;
    const before = kit.clock.now();
    for (let tick = 0; tick < 400 && failing > -1; tick += 1) {
      const { wakeAt } = await kit.worker.tick().catch(() => ({ wakeAt: kit.clock.now() + 1_000 }));
      await kit.clock.advance(Math.max(1, wakeAt - kit.clock.now()));
    }
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
    expect(kit.clock.now() - before).toBeLessThan(10 * 60_000);
  });
});

describe("an input that is written", () => {
  it.each([
    ["large", 20_000, 20],
    ["small", 1, 1_000],
  ])("reads %s members in pages of about the same bytes, each once", async (_, chars, limit) => {
    const store = new SqliteStore({ path: ":memory:" });
    const reads: number[] = [];
    const read = store.readMembers.bind(store);
    store.readMembers = async (params) => {
      reads.push(params.limit);
      return read(params);
    };
    const { kit, chain } = singleKit({ store });
    await using _kit = kit;
    const count = 2 * limit + 5;
    await chain.startMany(Array.from({ length: count }, (_, n) => `${n} ${"x".repeat(chars)}`));
    await kit.run();
    expect(sizes(kit)).toEqual([count]);
    expect(new Set(kit.provider.jobs[0]!.rows.map(({ key }) => key)).size).toBe(count);
    const pages = reads.filter((size) => size > 1);
    expect([pages.length, Math.max(...pages)]).toEqual([3, limit]);
  });
});

describe("quotas", () => {
  it("gives the job slot back while a batch is throttled", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const kit = createTestKit({ clock, provider, batching: { maxJobs: 1 } });
    await using _ = kit;
    const ask = kit.gembatch.chain(
      "ask",
      async ({ models }, model: string) => (await models.generateContent({ model, contents: "x" })).text,
    );
    provider.failNext("createJob", "throttled");
    provider.failNext("createJob", "throttled");
    await ask.start("gemini-2.5-pro", { id: "throttled" });
    await kit.advance("5s");
    await ask.start("gemini-2.5-flash", { id: "other" });
    await kit.run();
    // Refused for minutes each time, and the other model's job was not kept waiting by it.
    expect(provider.jobs.map(({ lane }) => lane.model)[0]).toBe("gemini-2.5-flash");
    const runs = await kit.gembatch.runs.list();
    expect(runs.items.every(({ state }) => state === "completed")).toBe(true);
  });

  it("backs off for minutes after a 429 without a hint, with one create a time", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    for (let n = 0; n < 4; n += 1) kit.provider.failNext("createJob", "throttled");
    const before = kit.clock.now();
    await start(5);
    await kit.run();
    expect(kit.provider.jobs[0]!.createdAt - before).toBeGreaterThan(4 * 60_000);
    expect(kit.provider.calls.filter((call) => call === "createJob")).toHaveLength(5);
  });

  it("takes lanes by age when slots are few, so that none starves", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const kit = createTestKit({ clock, provider, batching: { maxJobs: 1, maxRequests: 2 } });
    await using _ = kit;
    const ask = kit.gembatch.chain(
      "ask",
      async ({ models }, { model, text }: { model: string; text: string }) =>
        (await models.generateContent({ model, contents: text })).text,
    );
    for (let n = 0; n < 8; n += 1) await ask.start({ model: "gemini-2.5-flash", text: `a${n}` });
    await kit.advance("10s");
    for (let n = 0; n < 2; n += 1) await ask.start({ model: "gemini-2.5-pro", text: `b${n}` });
    await kit.advance("10s");
    for (let n = 8; n < 20; n += 1) await ask.start({ model: "gemini-2.5-flash", text: `a${n}` });
    await kit.run();
    const models = provider.jobs.map(({ lane }) => lane.model);
    expect(models.indexOf("gemini-2.5-pro")).toBeLessThanOrEqual(4);
  });
});
