import { describe, expect, it } from "vitest";
import { createTestKit, ManualClock, SteerableProvider, type TestKit, type TestKitOptions } from "../../src/testing.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";

/** A kit with one chain that asks one prompt per run. */
function singleKit(options: TestKitOptions = {}) {
  const kit = createTestKit(options);
  const chain = kit.gembatch.chain(
    "single",
    async ({ models }, text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text,
  );
  const start = async (count: number) => Promise.all(Array.from({ length: count }, async (_, n) => chain.start(`p${n}`, { id: `r${n}` })));
  return { kit, chain, start };
}

const sizes = (kit: TestKit) => kit.provider.jobs.map(({ rows }) => rows.length);

describe("forming", () => {
  it("makes one job of runs that are started together, although each start is a commit of its own", async () => {
    const { kit, start } = singleKit();
    await start(150);
    await kit.run();
    expect(sizes(kit)).toEqual([150]);
    await kit.gembatch.close();
  });

  it("splits at the largest batch and keeps within the job slots", async () => {
    const { kit, start } = singleKit({ batching: { maxRequests: 10, maxJobs: 2 } });
    await start(45);
    await kit.run();
    expect(sizes(kit)).toEqual([10, 10, 10, 10, 5]);
    const starts = kit.provider.jobs.map(({ createdAt, endsAt }) => [createdAt, endsAt] as const);
    for (const [at] of starts) expect(starts.filter(([from, to]) => from <= at && at < to).length).toBeLessThanOrEqual(2);
    await kit.gembatch.close();
  });

  it("keeps within the enqueued-token quota of a model", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, limits: { enqueuedTokens: () => 200 } });
    const { kit, start } = singleKit({ clock, provider });
    await start(30);
    await kit.run();
    expect(sizes(kit).reduce((sum, n) => sum + n)).toBe(30);
    expect(sizes(kit).length).toBeGreaterThan(2);
    await kit.gembatch.close();
  });

  it("does not wait for a bulk start whose process died", async () => {
    const store = new SqliteStore({ path: ":memory:" });
    const { kit, start } = singleKit({ store });
    const begin = kit.clock.now();
    await start(3);
    await store.holdFlush({ producer: "never comes back", until: begin + 30_000 });
    await kit.run();
    expect(sizes(kit)).toEqual([3]);
    expect(kit.provider.jobs[0]!.createdAt - begin).toBeGreaterThanOrEqual(30_000);
    await kit.gembatch.close();
  });

  it("sends the higher priority first", async () => {
    const { kit, chain } = singleKit({ batching: { maxRequests: 2, maxJobs: 1 } });
    for (let n = 0; n < 4; n += 1) await chain.start(`p${n}`, { priority: n });
    await kit.run();
    expect(kit.provider.jobs[0]!.rows.map(({ body }) => body).join()).toMatch(/p3/);
    await kit.gembatch.close();
  });
});

describe("launching", () => {
  it("adopts the job whose creation was not answered", async () => {
    const { kit, start } = singleKit();
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([5]);
    await kit.gembatch.close();
  });

  it("waits out the settle window before it creates again, and finds what the list hid", async () => {
    const { kit, start } = singleKit();
    kit.provider.listLagMs = 90_000;
    kit.provider.failNext("createJob", "ambiguous", { when: "after" });
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([5]);
    await kit.gembatch.close();
  });

  it("creates again when no job turns up", async () => {
    const { kit, start } = singleKit();
    kit.provider.failNext("createJob", "ambiguous", { when: "before" });
    const before = kit.clock.now();
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([5]);
    expect(kit.provider.jobs[0]!.createdAt - before).toBeGreaterThanOrEqual(150_000);
    await kit.gembatch.close();
  });

  it.each(["throttled", "unavailable"] as const)("tries again later when %s", async (failure) => {
    const { kit, start } = singleKit();
    for (let n = 0; n < 5; n += 1) kit.provider.failNext("createJob", failure);
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([5]);
    await kit.gembatch.close();
  });

  it("stages the input again when it is gone", async () => {
    const { kit, start } = singleKit();
    kit.provider.failNext("createJob", "missing");
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([5]);
    expect(kit.provider.calls.filter((call) => call === "stageInput")).toHaveLength(2);
    await kit.gembatch.close();
  });

  it("fails the row that a refusal names, and sends the others", async () => {
    const { kit, chain, start } = singleKit();
    kit.provider.failNext("createJob", "refused", { row: 2, message: "row 2: no contents" });
    await start(5);
    await kit.run();
    expect(sizes(kit)).toEqual([4]);
    await expect(chain.run("r2").result()).rejects.toMatchObject({
      code: "request_refused",
      message: expect.stringContaining("row 2: no contents") as string,
    });
    expect(await chain.run("r1").result()).toBe("<p1>");
    await kit.gembatch.close();
  });

  it("finds the bad row by halving when a refusal names none", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const create = provider.createJob.bind(provider);
    provider.createJob = async (input, staged, options) => {
      for await (const { body } of input.rows())
        if (body.includes('"p11"')) provider.failNext("createJob", "refused", { message: "a request is malformed" });
      return create(input, staged, options);
    };
    const { kit, chain, start } = singleKit({ clock, provider });
    const runs = await start(16);
    await kit.run();
    await expect(chain.run("r11").result()).rejects.toMatchObject({ code: "request_refused" });
    for (const run of runs) if (run.id !== "r11") expect(await run.result()).toBe(`<p${run.id.slice(1)}>`);
    expect(sizes(kit).reduce((sum, n) => sum + n)).toBe(15);
    await kit.gembatch.close();
  });

  it("fails every request of a model that does not exist, at once", async () => {
    const { kit, chain, start } = singleKit();
    kit.provider.failNext("createJob", "refused", { status: 404, message: "models/x is not found" });
    await start(3);
    await kit.run();
    await expect(chain.run("r0").result()).rejects.toMatchObject({
      code: "request_refused",
      message: expect.stringContaining("not found") as string,
    });
    expect(kit.provider.calls).toContain("discardInput");
    expect(sizes(kit)).toEqual([]);
    await kit.gembatch.close();
  });

  it("takes an input that is refused where it is uploaded for a refused request", async () => {
    const { kit, chain, start } = singleKit();
    kit.provider.failNext("stageInput", "refused", { row: 1, message: "row 1: too large" });
    await start(3);
    await kit.run();
    expect(sizes(kit)).toEqual([2]);
    await expect(chain.run("r1").result()).rejects.toMatchObject({ code: "request_refused" });
    expect(await chain.run("r0").result()).toBe("<p0>");
    await kit.gembatch.close();
  });

  it("keeps everything while the place of the input is not there, and goes on when it is", async () => {
    const { kit, chain, start } = singleKit();
    for (let n = 0; n < 3; n += 1) kit.provider.failNext("stageInput", "missing", { message: "the bucket does not exist" });
    await start(3);
    await kit.run();
    expect(await chain.run("r2").result()).toBe("<p2>");
    expect(sizes(kit)).toEqual([3]);
    await kit.gembatch.close();
  });

  it("keeps everything when the key is refused, and goes on when it is mended", async () => {
    const { kit, chain, start } = singleKit();
    for (let n = 0; n < 3; n += 1) kit.provider.failNext("createJob", "denied", { message: "API key not valid" });
    await start(3);
    await kit.run();
    expect(await chain.run("r2").result()).toBe("<p2>");
    expect(sizes(kit)).toEqual([3]);
    await kit.gembatch.close();
  });
});

describe("polling", () => {
  it.each(["failed", "expired", "cancelled"] as const)("asks again when a job is %s", async (end) => {
    const { kit, chain, start } = singleKit();
    await start(4);
    await kit.advance("5s");
    kit.provider.jobs[0]!.end = end;
    await kit.run();
    expect(sizes(kit)).toEqual([4, 4]);
    expect(await chain.run("r3").result()).toBe("<p3>");
    expect((await kit.gembatch.batches.list()).items.map(({ state }) => state).toSorted()).toEqual(["completed", end].toSorted());
    await kit.gembatch.close();
  });

  it("gives up after the last attempt, with the reason", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, turnaroundMs: (job) => ((job.end = "expired"), 1_000) });
    const { kit, chain, start } = singleKit({ clock, provider, retry: { maxAttempts: 2 } });
    await start(1);
    await kit.run();
    expect(sizes(kit)).toEqual([1, 1]);
    await expect(chain.run("r0").result()).rejects.toMatchObject({
      code: "request_expired",
      message: expect.stringContaining("expired") as string,
    });
    await kit.gembatch.close();
  });

  it("asks again when a job is gone", async () => {
    const { kit, chain, start } = singleKit();
    await start(2);
    await kit.advance("5s");
    kit.provider.jobs[0]!.deleted = true;
    await kit.run();
    expect(await chain.run("r1").result()).toBe("<p1>");
    expect(sizes(kit)).toEqual([2, 2]);
    await kit.gembatch.close();
  });

  it("goes on polling through failures of the provider", async () => {
    const { kit, start } = singleKit();
    await start(2);
    await kit.advance("5s");
    for (let n = 0; n < 10; n += 1) kit.provider.failNext("getJobs", "unavailable");
    await kit.run();
    expect(sizes(kit)).toEqual([2]);
    await kit.gembatch.close();
  });
});

describe("routing", () => {
  it("starts again where a broken download stopped; every answer arrives once", async () => {
    const { kit, start } = singleKit();
    for (let n = 0; n < 3; n += 1) kit.provider.failNext("readResults", "unavailable", { when: n === 0 ? "before" : "after" });
    const runs = await start(1_200);
    await kit.run();
    expect(sizes(kit)).toEqual([1_200]);
    expect(await runs[1_199]!.result()).toBe("<p1199>");
    const [batch] = (await kit.gembatch.batches.list()).items;
    expect(batch!.counts).toMatchObject({ succeeded: 1_200, failed: 0, requeued: 0, unknown: 0 });
    await kit.gembatch.close();
  });

  it.each([0, 1, 2])("reads on when an output was cut between two lines, after %i broken reads before", async (broken) => {
    const { kit, start } = singleKit();
    for (let n = 0; n < broken; n += 1) kit.provider.failNext("readResults", "unavailable");
    await start(9);
    await kit.advance("2s");
    let reads = 0;
    kit.provider.jobs[0]!.output = (rows) => rows.slice(0, 3 * (reads += 1));
    await kit.run();
    expect(sizes(kit)).toEqual([9]);
    await kit.gembatch.close();
  });

  it("asks again for rows that never came, and for transient errors", async () => {
    let asked = 0;
    const { kit, chain, start } = singleKit({
      answer: (prompt) => {
        asked += 1;
        if (prompt === "p1" && asked <= 3) return undefined;
        if (prompt === "p2" && asked <= 3) return { error: { code: 13, message: "internal" } };
        return `ok ${prompt}`;
      },
    });
    await start(3);
    await kit.run();
    expect(sizes(kit).reduce((sum, n) => sum + n)).toBe(5);
    expect(await chain.run("r1").result()).toBe("ok p1");
    expect(await chain.run("r2").result()).toBe("ok p2");
    await kit.gembatch.close();
  });

  it("hands an empty answer on after two more tries", async () => {
    const { kit, chain, start } = singleKit({
      answer: () => ({ response: { candidates: [{ finishReason: "STOP", content: { parts: [] } }] } }),
    });
    await start(1);
    await kit.run();
    expect(sizes(kit)).toEqual([1, 1, 1]);
    expect(await chain.run("r0").result()).toBe(null);
    await kit.gembatch.close();
  });

  it("asks anew when the output is gone", async () => {
    const { kit, start } = singleKit();
    // For longer than it may be late.
    for (let n = 0; n < 40; n += 1) kit.provider.failNext("readResults", "missing");
    await start(2);
    await kit.run();
    expect(sizes(kit)).toEqual([2, 2]);
    await kit.gembatch.close();
  });

  it("looks again for an output that is not there yet: a job that succeeded may show it late", async () => {
    const { kit, start } = singleKit();
    for (let n = 0; n < 10; n += 1) kit.provider.failNext("readResults", "missing");
    await start(2);
    await kit.run();
    expect(sizes(kit)).toEqual([2]);
    await kit.gembatch.close();
  });
});

describe("operating", () => {
  it("withdraws a cancelled run's queued request and ignores an answer that comes later", async () => {
    const { kit, start } = singleKit();
    const [first, second] = await start(2);
    await first!.cancel();
    await kit.advance("5s");
    expect(sizes(kit)).toEqual([1]);
    await second!.cancel();
    await kit.run();
    await expect(second!.result()).rejects.toMatchObject({ code: "run_cancelled" });
    const stats = await kit.gembatch.stats();
    expect(stats.runs).toMatchObject({ cancelled: 2, completed: 0 });
    await kit.gembatch.close();
  });

  it("retries a failed run from where it is: what was answered is not asked again", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    let broken = true;
    const chain = kit.gembatch.chain("mends", async ({ models }) => {
      const a = await models.generateContent({ model: "gemini-2.5-flash", contents: "a" });
      if (broken) throw new Error("not yet");
      return a.text;
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toThrow("not yet");
    broken = false;
    expect(await kit.gembatch.runs.retry(run.id)).toEqual([run.id]);
    await kit.run();
    expect(await run.result()).toBe("<a>");
    expect(kit.provider.jobs).toHaveLength(1);
  });

  it("retries a submitted prompt that failed", async () => {
    let bad = true;
    await using kit = createTestKit({ answer: () => (bad ? { error: { code: 3, message: "bad" } } : "good") });
    const handler = kit.gembatch.handler("h", (response) => response.text);
    const id = await kit.gembatch.submit({ contents: [{ parts: [{ text: "x" }] }] }, "gemini-2.5-flash", handler);
    await kit.run();
    expect((await kit.gembatch.runs.get(id))!.state).toBe("failed");
    bad = false;
    await kit.gembatch.runs.retry(id);
    await kit.run();
    expect((await kit.gembatch.runs.get(id))!).toMatchObject({ state: "completed", output: "good" });
  });

  it("shows how lanes stand", async () => {
    const { kit, start } = singleKit();
    await start(3);
    const lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" };
    await kit.advance("100ms");
    expect(await kit.gembatch.lanes.list()).toMatchObject([{ lane, queued: 3, inBatches: 0, answers: 0 }]);
    await kit.advance("5s");
    expect(await kit.gembatch.lanes.list()).toMatchObject([{ lane, queued: 0, inBatches: 3, oldestAt: undefined }]);
    await kit.run();
    expect(await kit.gembatch.lanes.list()).toMatchObject([{ lane, queued: 0, inBatches: 0, answers: 3, usage: { promptTokens: 30 } }]);
    await kit.gembatch.close();
  });

  it("counts runs, requests, tokens and money", async () => {
    const { kit, start } = singleKit();
    await start(4);
    await kit.run();
    const stats = await kit.gembatch.stats();
    expect(stats.runs.completed).toBe(4);
    expect(stats.requests.succeeded).toBe(4);
    expect(stats.usage).toMatchObject({ promptTokens: 40, outputTokens: 20 });
    expect(stats.cost.usd).toBeCloseTo((40 * 0.15 + 20 * 1.25) / 1e6, 12);
    expect(stats.cost.standardUsd).toBeCloseTo(2 * stats.cost.usd, 12);
    await kit.gembatch.close();
  });
});
