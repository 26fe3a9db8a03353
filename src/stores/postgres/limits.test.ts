import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import { GembatchError } from "../../core/errors.ts";
import { referencePrefix } from "../../core/payload-store.ts";
import { failure, lane, newRun, request, step, StoreKit, succeeded } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import { PORTION, portions } from "./portions.ts";
import type { PostgresStore } from "./store.ts";

const schemas = new Schemas();
let url = "";
let store: PostgresStore;
let kit: StoreKit;

beforeEach(async () => {
  url = await schemas.take();
  store = await schemas.open(url);
  kit = new StoreKit(store);
  await kit.beat();
});
afterEach(async () => {
  await expectConservation(store, expect);
  await store.close();
  await schemas.giveBack(url);
});
afterAll(() => schemas.end());

async function refused(promise: Promise<unknown>): Promise<void> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!GembatchError.is(thrown)) throw new Error(`Expected a GembatchError, got ${String(thrown)}.`, { cause: thrown });
  expect([thrown.code, thrown.retryable, thrown.message]).toEqual([
    "invalid_argument",
    false,
    expect.stringContaining("nothing was changed"),
  ]);
}

/** A text that does not become shorter when it is compressed. */
function noise(length: number): string {
  let text = "";
  for (let i = 0, x = 1; i < length; i += 1) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    text += String.fromCharCode(97 + ((x >>> 16) % 26));
  }
  return text;
}

describe("texts that Postgres cannot hold as they are", () => {
  it.each([
    ["U+0000", "a\0b"],
    ["half of a surrogate pair", "a\ud800b"],
  ])("%s in an id or a name is refused, and finds nothing", async (_, bad) => {
    await refused(kit.start(newRun("good"), newRun(bad)));
    await refused(kit.start(newRun("good", { chain: bad })));
    expect(await store.listRuns({})).toEqual({ items: [], nextCursor: undefined });
    await kit.start(newRun("run"));
    const run = await kit.claimOne();
    await refused(kit.commit(run, { entries: [step(bad)], outcome: { type: "running" } }));
    await refused(kit.commit(run, { entries: [request("q", { lane: { ...lane, model: bad } })] }));
    await refused(kit.commit(run, { entries: [request("q", { cache: { key: bad, ttlMs: 1 } })] }));
    await refused(kit.commit(run, { entries: [request("q")], starts: [newRun(bad)] }));
    expect([await kit.states(bad), await kit.history(bad), await store.cancelRuns({ now: kit.now, ids: [bad] })]).toEqual([
      [undefined],
      [],
      [],
    ]);
    expect([
      await store.getBatch({ id: bad }),
      (await store.listRuns({ chain: bad })).items,
      (await store.listRequests({ run: bad })).items,
    ]).toEqual([undefined, [], []]);
    expect((await store.listRuns({ starter: bad })).items).toEqual([]);
    expect((await store.listRequests({ batch: bad })).items).toEqual([]);
    expect(await kit.commit(run, { entries: [request("q")] })).toEqual({ state: "waiting", seq: 0 });
  });

  it("every other text comes back as it was", async () => {
    const texts = [
      "ä€😀",
      `quote " backslash \\ {a,b} NULL`,
      "line\nbreak\ttab",
      "\u007f\u0001",
      "'; DROP TABLE x; --",
      "$1",
      " ",
      "NULL",
      "gb.runs",
    ];
    await kit.start(...texts.map((id) => newRun(id, { input: JSON.stringify(id) })));
    const runs = await kit.claim();
    expect(runs.map(({ id, input }) => [id, input])).toEqual(texts.map((id) => [id, JSON.stringify(id)]));
    for (const run of runs) {
      await kit.commit(run, {
        entries: [step(run.id, JSON.stringify(run.id)), request(`q ${run.id}`)],
        notes: [run.id],
        starts: [newRun(`of ${run.id}`)],
      });
      expect((await kit.history(run.id)).map(({ key, value }) => [key, value])).toEqual([
        [run.id, JSON.stringify(run.id)],
        [`q ${run.id}`, undefined],
      ]);
      expect((await kit.run(run.id)).notes).toEqual([run.id]);
      expect((await store.listRuns({ starter: run.id })).items.map(({ id }) => id)).toEqual([`of ${run.id}`]);
    }
  });

  it("in prompts, answers, notes and errors anything goes", async () => {
    const any = `\0\ud800\udfff"\\`;
    await kit.start(newRun("run", { input: JSON.stringify(any) }), newRun("other"));
    const run = await kit.claimOne();
    await kit.commit(run, { entries: [request("q", { body: JSON.stringify(any) }), step("s", JSON.stringify(any))], notes: [any] });
    await kit.answer(await kit.routing("b"), { type: "succeeded", value: JSON.stringify(any), usage: { ...noUsage } });
    await kit.update(await kit.batch("b"), { state: "completed" });
    const again = (await kit.claim()).find(({ id }) => id === "run");
    await kit.commit(again!, { firstNo: 2, outcome: { type: "failed", error: failure(any) } });
    const record = await kit.run("run");
    expect([record.input, record.notes, record.error?.message]).toEqual([any, [any], any]);
    expect((await kit.requests("run")).map(({ body, response }) => [body, response])).toEqual([[any, any]]);
    // A filter that looks into errors meets this one.
    expect((await store.listRuns({ error: "request_failed" })).items.map(({ id }) => id)).toEqual(["run"]);
    expect((await store.listRuns({ error: "run_failed" })).items).toEqual([]);
  });
});

const noUsage = { promptTokens: 0, cachedTokens: 0, outputTokens: 0, thoughtTokens: 0, toolTokens: 0, audioTokens: 0, imageTokens: 0 };

describe("what is too much for Postgres", () => {
  it("ids, keys and names that are too long for an index are refused", async () => {
    const long = noise(9_000);
    await refused(kit.start(newRun(long)));
    await refused(kit.start(newRun("a", { chain: long })));
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    await refused(kit.commit(run, { entries: [request("q", { lane: { ...lane, model: long } })] }));
    await refused(kit.commit(run, { entries: [request("q", { cache: { key: long, ttlMs: 1 } })] }));
    expect(await kit.commit(run, { entries: [request(long)] })).toEqual({ state: "waiting", seq: 0 });
    expect((await kit.history("a"))[0]?.key).toBe(long);
    expect(await kit.states(long)).toEqual([undefined]);
    // What the client allows fits, whatever it is made of.
    expect(await kit.start(newRun("😀".repeat(250)))).toEqual(["started"]);
  });

  it("numbers that do not fit are refused", async () => {
    await refused(kit.start(newRun("a", { priority: 3e9 })));
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    await refused(kit.commit(run, { entries: [request("q", { bytes: 3e9 })] }));
    await refused(kit.commit(run, { entries: [request("q", { maxAttempts: Infinity })] }));
    await refused(kit.commit(run, { outcome: { type: "retry", at: 1e300, error: failure("r") } }));
    expect(await kit.commit(run, { outcome: { type: "retry", at: kit.now + 0.5, error: failure("r") } })).toEqual({
      state: "waiting",
      seq: 0,
    });
    expect(await store.fireTimers({ now: kit.now, limit: 9 })).toBe(0);
    kit.now += 1;
    expect(await store.fireTimers({ now: kit.now, limit: 9 })).toBe(1);
  });

  it("outputs and answers may look like references and be of any length", async () => {
    const value = `${referencePrefix}${noise(20_000)}"}`;
    await kit.waiting("a", [request("q"), step("s", value)]);
    await kit.answer(await kit.routing("b"), { ...succeeded("x"), value } as ReturnType<typeof succeeded>);
    await kit.update(await kit.batch("b"), { state: "completed" });
    await kit.commit(await kit.claimOne(), { firstNo: 2, outcome: { type: "completed", output: value } });
    expect((await kit.history("a")).map((entry) => entry.value)).toEqual([value, value]);
    kit.now += 1;
    const removed = await store.removeEnded({ now: kit.now, limit: 9, runs: { completed: kit.now }, referencePrefix });
    expect([removed.runs, removed.references]).toEqual([1, [value]]);
  });

  it("payloads of 20 MB, several in one call", { timeout: 60_000 }, async () => {
    const text = JSON.stringify("0123456789abcdef".repeat(1_250_000));
    const all = ["a", "b"];
    await kit.start(...all.map((id) => newRun(id, { input: text })));
    const runs = await kit.claim();
    expect(runs.map(({ input }) => input === text)).toEqual([true, true]);
    await store.commitTurns({
      worker: "w1",
      now: kit.now,
      turns: runs.map((run) => kit.turn(run, { outcome: { type: "completed", output: text } })),
    });
    expect((await kit.states(...all)).join()).toBe("completed,completed");
    // Reading all of them once more takes its time.
    await store.removeEnded({ now: kit.now + 1, limit: 9, runs: { completed: kit.now + 1 } });
  });

  it("what is larger than a statement should be goes in portions", () => {
    const sizes = (rows: number[], limit: number): number[][] => portions(rows, (size) => size, limit).map((part) => [...part]);
    expect([sizes([], 10), sizes([1, 2, 3], 10), sizes([5, 5, 1], 10), sizes([20, 1, 9, 1, 30], 10)]).toEqual([
      [],
      [[1, 2, 3]],
      [[5, 5], [1]],
      [[20], [1, 9], [1], [30]],
    ]);
    expect(PORTION).toBeLessThan(2 ** 27);
  });
});

describe("commits that wanted more than they got", () => {
  it("an id that a turn wanted to start which came to nothing is free", async () => {
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    const turns = [kit.turn(run, { entries: [request("q")] }), kit.turn(run, { entries: [request("q")], starts: [newRun("child")] })];
    expect((await store.commitTurns({ worker: "w1", now: kit.now, turns })).map(({ state }) => state)).toEqual(["waiting", "lost"]);
    expect(await kit.states("child")).toEqual([undefined]);
    expect(await kit.start(newRun("child", { fingerprint: "another" }))).toEqual(["started"]);
  });
});

describe("a claim right after one that found something", () => {
  it("finds what is there, of however many chains, and nothing when nothing is", async () => {
    const chains = Array.from({ length: 300 }, (_, n) => ({ chain: `chain-${n}`, versions: ["1"] }));
    const last = { chain: "chain-299", version: "1" };
    await kit.start(newRun("a", last), newRun("b", last), newRun("c", last));
    const claim = async (of: typeof chains) => (await kit.claim(1, "w1", of)).map(({ id }) => id);
    expect([await claim(chains), await claim(chains), await claim(chains.slice(290))]).toEqual([["a"], ["b"], ["c"]]);
    expect([await claim(chains.slice(290)), await claim(chains), await claim(chains.slice(0, 5))]).toEqual([[], [], []]);
    await kit.start(newRun("d", last));
    expect([await claim(chains.slice(0, 5)), await claim(chains.slice(290))]).toEqual([[], ["d"]]);
  });
});
