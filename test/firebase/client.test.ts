/** What the functions rest on: who is told of new work, and when the next thing is due. */
import { describe, expect, it, vi } from "vitest";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit } from "../../src/testing.ts";

const model = "gemini-2.5-flash";
const request = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

describe("onWork", () => {
  it("tells of what was committed from outside of turns, once it is, and is awaited", async () => {
    await using kit = createTestKit();
    const { gembatch } = kit;
    const output = gembatch.handler("output", async (response) => response.text);
    const again = gembatch.handler("again", async (response) => gembatch.submit(request(`2 ${response.text}`), model, output));
    const chain = gembatch.chain("chain", async (_, n: number) => n);
    const seen: number[] = [];
    const stop = gembatch.onWork(async () => {
      await new Promise(setImmediate);
      seen.push((await gembatch.runs.list()).items.length);
    });
    await gembatch.submit(request("1"), model, again);
    expect(seen).toEqual([1]);
    await chain.start(1);
    expect(seen).toEqual([1, 2]);
    await kit.run();
    // What the handler submitted is its turn's, and the worker that runs it knows.
    expect(seen).toEqual([1, 2]);
    await chain.startMany([1, 2, 3]);
    expect(seen.at(-1)).toBe(6);
    await gembatch.runs.retry("nobody");
    await gembatch.hasten();
    const told = seen.length;
    stop();
    await chain.start(2);
    expect(seen).toHaveLength(told);
  });

  it("lets no submit fail", async () => {
    const lines: string[] = [];
    const warn = (line: string) => void lines.push(line);
    await using kit = createTestKit({ logger: { debug() {}, info() {}, warn, error: warn } });
    kit.gembatch.onWork(() => {
      throw new Error("no queue");
    });
    const chain = kit.gembatch.chain("chain", async (_, n: number) => n);
    await chain.start(1, { id: "one" });
    expect(lines).toEqual([expect.stringContaining("no queue")]);
    await kit.run();
    expect((await kit.gembatch.runs.get("one"))?.output).toBe(1);
    expect(() => kit.gembatch.onWork("x" as never)).toThrow(/listener/);
  });
});

describe("dueAt", () => {
  it("is never, at once, or when the next job, sleep or retry is due", async () => {
    await using kit = createTestKit({ turnaround: "1h", polling: { minInterval: "10m", maxInterval: "10m" } });
    const { gembatch, clock } = kit;
    const asking = gembatch.chain("asking", async ({ models }) => (await models.generateContent({ model, contents: "?" })).text);
    const sleeping = gembatch.chain("sleeping", async ({ sleep }) => sleep("2d"));
    expect(await gembatch.dueAt()).toBeUndefined();
    await asking.start(undefined, { id: "a" });
    expect(await gembatch.dueAt()).toBe(clock.now());
    await kit.advance("1m");
    const [batch] = (await gembatch.batches.list({ limit: 1 })).items;
    expect(await gembatch.dueAt()).toBe(batch!.dueAt);
    expect(batch!.dueAt).toBeGreaterThan(clock.now());
    await kit.run();
    expect(await gembatch.dueAt()).toBeUndefined();
    await sleeping.start(undefined);
    await kit.advance("1s");
    const wakeAt = await gembatch.dueAt();
    expect(wakeAt! - clock.now()).toBeGreaterThan(47 * 3_600_000);
  });

  it("counts what a living worker executes as due when its lease would be over", async () => {
    await using kit = createTestKit({ worker: { lease: "10m" } });
    let finish = () => {};
    const chain = kit.gembatch.chain("long", async ({ step }) =>
      step("long", async () => new Promise<void>((resolve) => (finish = resolve))),
    );
    await chain.start(undefined, { id: "a" });
    await kit.worker.tick();
    const due = await kit.gembatch.dueAt();
    expect(due! - kit.clock.now()).toBe(600_000);
    finish();
    await kit.run();
    expect(await kit.gembatch.dueAt()).toBeUndefined();
  });
});

it("workers of functions share no host, though all of their hosts are called the same and their processes are numbered alike", async () => {
  const hosts: string[] = [];
  class Watched extends SqliteStore {
    override heartbeat(params: Parameters<SqliteStore["heartbeat"]>[0]) {
      hosts.push(params.worker.host);
      return super.heartbeat(params);
    }
  }
  const tick = async (seed: number) => {
    await using kit = createTestKit({ seed, store: new Watched({ path: ":memory:" }) });
    await kit.worker.tick();
  };
  await tick(1);
  vi.stubEnv("K_SERVICE", "gembatchwork");
  await tick(2);
  await tick(3);
  vi.unstubAllEnvs();
  expect(new Set(hosts).size).toBe(3);
  expect(hosts.filter((host) => host.startsWith("gembatchwork-"))).toHaveLength(2);
});
