import * as fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { createFileStore } from "../../test/support/sqlite-store.ts";
import type { PayloadCodec } from "../core/codec.ts";
import { GembatchError } from "../core/errors.ts";
import { readReference, writeReference, type PayloadStore } from "../core/payload-store.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { testStore } from "../testing/store-conformance.ts";
import { child, failure, leaseMs, newRun, request, step, StoreKit, usage } from "../testing/store-kit.ts";
import { codecStore } from "./codec-store.ts";
import { offloadingStore } from "./offloading-store.ts";
import { SqliteStore } from "./sqlite/store.ts";
import { isThorough } from "../../test/support/thorough.ts";

/** A payload store in memory that can be told to fail. */
class MemoryPayloads implements PayloadStore {
  readonly name = "memory";
  readonly texts = new Map<string, string>();
  readonly calls: string[] = [];
  /** Keys or texts of calls that fail. */
  failing: { method: "put" | "get" | "delete"; when: RegExp } | undefined;
  active = 0;
  most = 0;

  async put(key: string, text: string): Promise<void> {
    await this.#call("put", key, text);
    this.texts.set(key, text);
  }

  async get(key: string): Promise<string> {
    await this.#call("get", key, this.texts.get(key) ?? "");
    const text = this.texts.get(key);
    if (text === undefined) throw new GembatchError("payload_missing", `There is no ${key}.`);
    return text;
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      await this.#call("delete", key, "");
      this.texts.delete(key);
    }
  }

  count(method: string): number {
    return this.calls.filter((call) => call === method).length;
  }

  async #call(method: "put" | "get" | "delete", key: string, text: string): Promise<void> {
    this.calls.push(method);
    this.most = Math.max(this.most, (this.active += 1));
    for (let turns = 3; turns > 0; turns -= 1) await Promise.resolve();
    this.active -= 1;
    if (this.failing?.method === method && this.failing.when.test(`${key} ${text}`)) throw new RangeError(`no ${text}`);
  }
}

const hex: PayloadCodec = {
  encode: (text) => Buffer.from(text).toString("hex"),
  decode: (text) => Buffer.from(text, "hex").toString(),
};

async function openStores(threshold = 20) {
  const inner = new SqliteStore({ path: ":memory:" });
  await inner.open();
  onTestFinished(async () => inner.close());
  const payloads = new MemoryPayloads();
  const clock = new ManualClock();
  const random = new SeededRandom(1);
  const open = () => offloadingStore(inner, { store: payloads, threshold }, { clock, random });
  const store = open();
  /** Another one on the same, that has read nothing yet. */
  const fresh = () => new StoreKit(open());
  const without = offloadingStore(inner, undefined, { clock, random });
  return { inner, payloads, store, without, fresh, kit: new StoreKit(store), seen: new StoreKit(inner), blind: new StoreKit(without) };
}

/** A JSON text above the threshold. */
const long = (text: string): string => JSON.stringify({ text: text.padEnd(40, ".") });

testStore(
  { describe, it, expect },
  {
    name: "SQLite with payloads elsewhere",
    walks: isThorough ? 4 : 1,
    // In this suite texts of every length are payloads.
    without: { references: "they are removed with what refers to them" },
    createStore() {
      const payloads = new MemoryPayloads();
      let seed = 0;
      return createFileStore((path) => {
        const parts = { clock: new ManualClock(), random: new SeededRandom((seed += 1)) };
        return offloadingStore(new SqliteStore({ path }), { store: payloads, threshold: 0 }, parts);
      });
    },
  },
);

describe("what lies where", () => {
  it("rows hold references to what is above the threshold, in bytes, and the rest as it is", async () => {
    const { payloads, kit, seen } = await openStores(20);
    await kit.beat();
    const fits = JSON.stringify("x".repeat(18));
    const wide = JSON.stringify("é".repeat(10));
    await kit.start(newRun("a", { input: fits }), newRun("b", { input: wide }));
    expect((await seen.run("a")).input).toBe("x".repeat(18));
    const { input } = (await seen.run("b")) as { input: { "$gembatch.payload": string; bytes: number } };
    expect(input).toEqual({ "$gembatch.payload": expect.stringMatching(/^[0-9a-z]{12}\/2023-11-14\/[0-9a-z]{26}$/), bytes: 22 });
    expect(payloads.texts.get(input["$gembatch.payload"])).toBe(wide);
    expect([(await kit.run("a")).input, (await kit.run("b")).input]).toEqual(["x".repeat(18), "é".repeat(10)]);
    expect((await kit.claim()).map((run) => run.input)).toEqual([fits, wide]);
  });

  it("inputs, prompts, answers, values of steps and outputs come back", async () => {
    const { payloads, kit, seen } = await openStores();
    await kit.beat();
    const entries = [request("q", { body: long("prompt") }), step("s", long("step")), child("c")];
    await kit.waiting("a", entries, { input: long("input") });
    await kit.start(newRun("kid", { parent: { run: "a", key: "c" }, input: "1" }));
    await kit.commit(await kit.claimOne(), { outcome: { type: "completed", output: long("output") } });
    const batch = await kit.routing("b");
    const [member] = await kit.members("b");
    expect(member?.body).toBe(long("prompt"));
    await kit.settle(batch, [{ ...member!, result: { type: "succeeded", value: long("answer"), usage } }]);
    expect((await kit.history("a")).map(({ value }) => value)).toEqual([long("answer"), long("step"), long("output")]);
    expect((await seen.history("a")).map(({ value }) => readReference(value!) !== undefined)).toEqual([true, true, true]);
    expect((await kit.requests("a"))[0]).toMatchObject({ body: JSON.parse(long("prompt")), response: JSON.parse(long("answer")) });
    expect([(await kit.run("a")).input, (await kit.run("kid")).output]).toEqual([JSON.parse(long("input")), JSON.parse(long("output"))]);
    // The output of the child is one text, though two rows refer to it.
    expect(payloads.texts.size).toBe(5);
  });

  it("holds the encoded text, if there is a codec", async () => {
    const { payloads, store } = await openStores();
    const kit = new StoreKit(codecStore(store, hex));
    await kit.beat();
    await kit.start(newRun("a", { input: long("moonlit harbour") }));
    expect([...payloads.texts.values()]).toEqual([JSON.stringify({ $gembatch: hex.encode(long("moonlit harbour")) })]);
    expect((await kit.claimOne()).input).toBe(long("moonlit harbour"));
  });

  it("leaves errors in rows, and what a retry may deliver", async () => {
    const { payloads, kit } = await openStores();
    await kit.beat();
    await kit.waiting("a", [request("q", { maxAttempts: 1 })]);
    const batch = await kit.routing("b");
    const [member] = await kit.members("b");
    const error = failure(long("error"));
    await kit.settle(batch, [{ ...member!, result: { type: "retry", availableAt: kit.now, error, value: long("value") } }]);
    expect((await kit.history("a"))[0]?.value).toBe(long("value"));
    await kit.store.holdRuns({ now: kit.now, ids: ["a"], error });
    expect((await kit.run("a")).error).toEqual(error);
    expect(payloads.texts.size).toBe(0);
  });

  it("is written before the row that refers to it, in every call", async () => {
    const { inner, payloads, kit } = await openStores();
    const seen: [method: string, references: number][] = [];
    for (const method of ["startRuns", "commitTurns", "settleRows"] as const) {
      const call = inner[method].bind(inner) as (params: unknown) => Promise<never>;
      inner[method] = async (params: unknown) => {
        const keys = [...JSON.stringify(params).matchAll(/gembatch\.payload\\":\\"([^"\\]+)/g)].map(([, key]) => key!);
        expect(keys.filter((key) => !payloads.texts.has(key))).toEqual([]);
        seen.push([method, keys.length]);
        return call(params);
      };
    }
    await kit.beat();
    const entries = [request("q", { body: long("q") }), step("s", long("s"))];
    await kit.waiting("a", entries, { input: long("input") });
    await kit.answer(await kit.routing("b"), { type: "succeeded", value: long("answer"), usage });
    await kit.commit(await kit.claimOne(), {
      firstNo: 2,
      starts: [newRun("kid", { kind: "handler", input: long("params"), request: request("q", { body: long("prompt") }) })],
      outcome: { type: "completed", output: long("output") },
    });
    expect(seen).toEqual([
      ["startRuns", 1],
      ["commitTurns", 2],
      ["settleRows", 1],
      ["commitTurns", 3],
    ]);
  });

  it("at most 32 calls at a time, and one call of the store for each call", async () => {
    const { inner, payloads, kit } = await openStores();
    const ids = Array.from({ length: 100 }, (_, n) => `run-${n}`);
    const calls: number[] = [];
    const startRuns = inner.startRuns.bind(inner);
    inner.startRuns = async (params) => {
      calls.push(payloads.texts.size);
      return startRuns(params);
    };
    await kit.beat();
    await kit.start(...ids.map((id) => newRun(id, { input: long(id) })));
    expect([calls, payloads.most]).toEqual([[100], 32]);
    payloads.most = 0;
    expect((await kit.claim()).map(({ input }) => input)).toEqual(ids.map(long));
    expect(payloads.most).toBe(32);
  });
});

describe("what looks like a reference", () => {
  const lookalikes = [
    writeReference({ key: `store/2026-01-01/${"0".repeat(26)}`, bytes: 5 }),
    '{"$gembatch.payload":null,"text":"5"}',
    ' {\n"$gembatch.payload" : "x", "bytes": 5 }',
    '{"\\u0024gembatch.payload":"x","bytes":5}',
    '{"bytes":5,"$gembatch.payload":"x"}',
    '{"$gembatch.payload":1,"$gembatch.payload":"x","bytes":5}',
  ];

  it.each(lookalikes)("and was written by a user comes back as it was: %s", async (text) => {
    for (const threshold of [0, 1_000]) {
      const { kit, blind } = await openStores(threshold);
      for (const one of threshold === 0 ? [kit] : [kit, blind]) {
        await one.beat();
        const id = one === kit ? "a" : "b";
        await one.waiting(id, [request("q", { body: text }), step("s", text)], { input: text });
        const batch = await one.routing(`batch of ${id}`);
        const [member] = await one.members(`batch of ${id}`);
        expect(member?.body).toBe(text);
        await one.settle(batch, [{ ...member!, result: { type: "succeeded", value: text, usage } }]);
        const claimed = await one.claimOne();
        expect(claimed.input).toBe(text);
        expect((await one.history(id)).map(({ value }) => value)).toEqual([text, text]);
        await one.commit(claimed, { firstNo: 2, outcome: { type: "completed", output: text } });
        const value: unknown = JSON.parse(text);
        expect(await one.run(id)).toMatchObject({ input: value, output: value });
        expect((await one.requests(id))[0]).toMatchObject({ body: value, response: value });
      }
    }
  });

  it("any JSON text comes back as it was, in every spelling", async () => {
    const { kit } = await openStores(60);
    await kit.beat();
    const name = fc.constantFrom("$gembatch.payload", "bytes", "text", "x");
    const inner = fc.dictionary(name, fc.oneof(fc.constant(null), fc.string(), fc.nat(), fc.constantFrom(...lookalikes)), { maxKeys: 3 });
    const spaced = fc
      .tuple(fc.oneof(inner, fc.jsonValue()), fc.constantFrom(0, 1))
      .map(([value, space]) => JSON.stringify(value, null, space));
    let runs = 0;
    const property = fc.asyncProperty(fc.oneof(spaced, fc.constantFrom(...lookalikes)), async (text) => {
      const id = `run-${(runs += 1)}`;
      await kit.start(newRun(id, { input: text }));
      const run = await kit.claimOne();
      expect(run.input).toBe(text);
      await kit.commit(run, { outcome: { type: "completed", output: text } });
      const value: unknown = JSON.parse(text);
      expect(await kit.run(id)).toMatchObject({ input: value, output: value });
      expect((await kit.store.listRuns({ limit: 1 })).items[0]).toMatchObject({ input: value, output: value });
    });
    await fc.assert(property, { seed: 20_261_122, numRuns: 200 });
  });
});

describe("texts that nothing refers to", () => {
  it("are not written for runs that exist", async () => {
    const { payloads, kit } = await openStores();
    await kit.beat();
    const runs = ["a", "b"].map((id) => newRun(id, { kind: "handler", input: long(id), request: request("q", { body: long("body") }) }));
    await kit.start(runs[0]!);
    expect(payloads.texts.size).toBe(2);
    expect(await kit.start(...runs)).toEqual(["existing", "started"]);
    expect(payloads.texts.size).toBe(4);
    expect(await kit.start(newRun("a", { input: long("other"), fingerprint: "other" }))).toEqual(["conflict"]);
    expect(payloads.texts.size).toBe(4);
  });

  it("are removed when a turn ends in its run's cancellation", async () => {
    const { payloads, kit, store } = await openStores();
    await kit.beat();
    await kit.start(newRun("a", { input: long("input") }), newRun("b"));
    const [a, b] = await kit.claim();
    await store.cancelRuns({ now: kit.now, ids: ["a"] });
    const turns = [a!, b!].map((run) => kit.turn(run, { entries: [request("q", { body: long(run.id) })] }));
    const results = await store.commitTurns({ worker: "w1", now: kit.now, turns });
    expect(results.map(({ state }) => state)).toEqual(["cancelled", "waiting"]);
    expect([...payloads.texts.values()]).toEqual([long("input"), long("b")]);
  });

  it("stay when a claim was lost: another attempt may have come through", async () => {
    const { payloads, kit } = await openStores();
    await kit.beat();
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    kit.now += leaseMs;
    await kit.beat("w2");
    expect(await kit.commit(run, { entries: [step("s", long("step"))] })).toEqual({ state: "lost" });
    expect([...payloads.texts.values()]).toEqual([long("step")]);
  });
});

describe("removal", () => {
  it("takes the texts along, and nothing else", async () => {
    const { payloads, kit, store } = await openStores();
    await kit.beat();
    for (const id of ["old", "new"]) {
      await kit.start(newRun(id, { input: long(`input of ${id}`) }));
      await kit.commit(await kit.claimOne(), {
        entries: [step("s", long(`step of ${id}`))],
        outcome: { type: "completed", output: long(`output of ${id}`) },
      });
      kit.now += 10;
    }
    const removed = await store.removeEnded({ now: kit.now, limit: 99, runs: { completed: kit.now - 10 } });
    expect(removed).toEqual({ runs: 1, histories: 0, batches: 0, more: false, references: [] });
    expect([...payloads.texts.values()]).toEqual(["input", "step", "output"].map((what) => long(`${what} of new`)));
    await store.removeEnded({ now: kit.now, limit: 99, runs: {}, histories: kit.now });
    expect([...payloads.texts.values()]).toEqual(["input", "output"].map((what) => long(`${what} of new`)));
  });

  it("goes on when the payload store does not", async () => {
    const { payloads, kit, store } = await openStores();
    await kit.beat();
    await kit.start(newRun("a", { input: long("input") }));
    await kit.commit(await kit.claimOne(), { outcome: { type: "completed", output: "1" } });
    kit.now += 1;
    payloads.failing = { method: "delete", when: /./ };
    expect((await store.removeEnded({ now: kit.now, limit: 9, runs: { completed: kit.now } })).runs).toBe(1);
    expect(payloads.texts.size).toBe(1);
  });
});

describe("a payload store that fails", () => {
  it("to write: nothing is stored, what was written goes, and the error says so without quoting", async () => {
    const { payloads, kit, inner } = await openStores();
    await kit.beat();
    payloads.failing = { method: "put", when: /secret/ };
    const runs = Array.from({ length: 50 }, (_, n) => newRun(`run-${n}`, { input: long(n === 40 ? "secret" : "x") }));
    const error: unknown = await kit.start(...runs).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "payload_unavailable",
      retryable: true,
      message: "The payload store memory did not take a payload (RangeError).",
    });
    expect([(await inner.listRuns({})).items, payloads.texts.size, payloads.active]).toEqual([[], 0, 0]);
    payloads.failing = undefined;
    expect(await kit.start(...runs)).toHaveLength(50);
    const run = await kit.claimOne();
    payloads.failing = { method: "put", when: /./ };
    await expect(kit.commit(run, { entries: [step("s", long("step"))] })).rejects.toMatchObject({ code: "payload_unavailable" });
    expect(await kit.history(run.id)).toEqual([]);
    expect(await kit.commit(run, { entries: [step("s")], outcome: { type: "completed", output: "1" } })).toMatchObject({
      state: "completed",
    });
  });

  it("to read an input: that run goes back for minutes, the others are claimed", async () => {
    const { payloads, kit, seen, store } = await openStores();
    await kit.beat();
    await kit.start(newRun("a", { input: long("a") }), newRun("b", { input: long("b") }));
    payloads.failing = { method: "get", when: /"a\./ };
    expect((await kit.claim()).map(({ id }) => id)).toEqual(["b"]);
    const { state, attempts, error } = await seen.run("a");
    expect([state, attempts, error?.code, error?.message]).toEqual([
      "waiting",
      1,
      "payload_unavailable",
      "A payload of run a cannot be had: The payload store memory could not be read (RangeError).",
    ]);
    payloads.failing = undefined;
    kit.now += 60_000;
    await store.fireTimers({ now: kit.now, limit: 9 });
    expect((await kit.claim()).map(({ id, input }) => [id, input])).toEqual([["a", long("a")]]);
  });

  it("to read a history: it is refused, with the name of the run", async () => {
    const { payloads, kit, store } = await openStores();
    await kit.beat();
    for (const id of ["a", "b"]) await kit.waiting(id, [request("q"), step("s", long(id))]);
    payloads.failing = { method: "get", when: /"a\./ };
    const both = store.loadHistory({ runs: ["b", "a"].map((run) => ({ run, since: 0 })) });
    await expect(both).rejects.toMatchObject({ code: "payload_unavailable", message: expect.stringContaining("run a cannot be had") });
    expect((await kit.history("b"))[1]?.value).toBe(long("b"));
  });

  it("to read a prompt: the page is refused, and a prompt that is gone fails alone", async () => {
    const { payloads, kit, fresh } = await openStores();
    await kit.beat();
    for (let n = 0; n < 6; n += 1) await kit.waiting(`run-${n}`, [request("q", { body: long(`prompt ${n}`) })]);
    const batch = await kit.routing("b");
    payloads.failing = { method: "get", when: /prompt 4/ };
    await expect(kit.members("b")).rejects.toMatchObject({ code: "payload_unavailable" });
    payloads.failing = undefined;
    for (const [key, text] of payloads.texts) if (/prompt [013]/.test(text)) payloads.texts.delete(key);
    // Pages stay whole: a short one would be taken for the last.
    const other = fresh();
    const page = await other.members("b", undefined, 2);
    expect(page.map(({ body }) => body)).toEqual([long("prompt 2"), long("prompt 4")]);
    expect((await other.members("b", page[1]!.id, 2)).map(({ body }) => body)).toEqual([long("prompt 5")]);
    expect((await kit.batch("b")).counts.failed).toBe(3);
    expect((await kit.history("run-1"))[0]?.error).toMatchObject({ code: "payload_missing", retryable: false });
    expect(await kit.states("run-0", "run-1", "run-2")).toEqual(["runnable", "runnable", "waiting"]);
    await kit.answer(batch);
    expect(await kit.update(batch, { state: "completed" })).toBe(true);
  });

  it("a prompt that is gone does not fail in a batch that somebody else holds", async () => {
    const { payloads, kit, inner } = await openStores();
    await kit.beat();
    await kit.waiting("a", [request("q", { body: long("prompt") })]);
    await kit.routing("b");
    payloads.texts.clear();
    inner.settleRows = async () => undefined;
    await expect(kit.members("b")).rejects.toMatchObject({ code: "payload_missing" });
  });

  it("to keep an output: whoever awaits it is told, the others have theirs", async () => {
    const { payloads, kit, seen, store } = await openStores();
    await kit.beat();
    await kit.start(newRun("a"), newRun("b"));
    for (const run of await kit.claim()) await kit.commit(run, { outcome: { type: "completed", output: long(run.id) } });
    payloads.failing = { method: "get", when: /"b\./ };
    await expect(store.getRuns({ ids: ["a", "b"] })).rejects.toMatchObject({
      code: "payload_unavailable",
      message: expect.stringContaining("run b"),
    });
    payloads.failing = undefined;
    for (const [key, text] of payloads.texts) if (text.includes('"b.')) payloads.texts.delete(key);
    const [a, b] = await store.getRuns({ ids: ["a", "b"] });
    expect([a?.output, b?.state, b?.error?.code]).toEqual([JSON.parse(long("a")), "failed", "payload_missing"]);
    expect(await seen.state("b")).toBe("completed");
  });

  it("to keep what was written as it was: that counts as gone", async () => {
    const { payloads, kit, seen } = await openStores();
    await kit.beat();
    await kit.start(newRun("a", { input: long("a") }));
    for (const key of payloads.texts.keys()) payloads.texts.set(key, '{"text":"a"}');
    expect(await kit.claim()).toEqual([]);
    expect((await seen.run("a")).error?.code).toBe("payload_missing");
  });
});

describe("looking", () => {
  it("at runs that have not ended reads an input once, and those of many not at all", async () => {
    const { payloads, kit, store } = await openStores();
    const ids = ["a", "b"];
    await kit.start(...ids.map((id) => newRun(id, { input: long(id) })));
    await store.getRuns({ ids });
    expect(payloads.count("get")).toBe(0);
    for (let n = 0; n < 5; n += 1) expect((await kit.run("a")).input).toEqual(JSON.parse(long("a")));
    expect(payloads.count("get")).toBe(1);
  });

  it("at lists shows the reference of what cannot be read", async () => {
    const { payloads, kit, store } = await openStores();
    await kit.start(newRun("a", { input: long("a") }), newRun("b", { input: long("b") }));
    payloads.failing = { method: "get", when: /"a\./ };
    const { items } = await store.listRuns({});
    expect(items.map(({ input }) => input)).toEqual([
      JSON.parse(long("b")),
      { "$gembatch.payload": expect.any(String), bytes: long("a").length },
    ]);
  });

  it("without a payload store never takes a reference for a payload", async () => {
    const { kit, seen, without } = await openStores();
    await kit.beat();
    await kit.waiting("a", [request("q", { body: long("q") }), step("s", long("step"))]);
    await kit.start(newRun("b"), newRun("c", { input: long("c") }));
    const hint = { code: "payload_unavailable", message: expect.stringContaining("Set option payloads") };
    const blind = new StoreKit(without);
    await kit.commit(await kit.claimOne(), { outcome: { type: "completed", output: long("b") } });
    await expect(without.getRuns({ ids: ["b"] })).rejects.toMatchObject(hint);
    await expect(blind.history("a")).rejects.toMatchObject(hint);
    await expect(blind.requests("a")).rejects.toMatchObject(hint);
    expect(await blind.claim()).toEqual([]);
    expect((await seen.run("c")).error).toMatchObject(hint);
    await kit.routing("batch");
    await expect(blind.members("batch")).rejects.toMatchObject(hint);
    expect((await without.listRuns({})).items).toHaveLength(3);
  });
});
