import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { webcrypto } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { createFileStore } from "../../test/support/sqlite-store.ts";
import type { PayloadCodec } from "../core/codec.ts";
import { serializeError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { RequestResult, Store, TurnCommit, TurnOutcome } from "../core/store.ts";
import { testStore } from "../testing/store-conformance.ts";
import { child, digestRuns, failed, failure, newRun, request, step, StoreKit, usage } from "../testing/store-kit.ts";
import { createTestKit } from "../testing/test-kit.ts";
import { codecStore } from "./codec-store.ts";
import { SqliteStore } from "./sqlite/store.ts";
import { isThorough } from "../../test/support/thorough.ts";

const key = await webcrypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);

/** What a user would write: 12 random bytes, then the encrypted text. */
const aesGcm: PayloadCodec = {
  async encode(text) {
    const iv = webcrypto.getRandomValues(new Uint8Array(12));
    const data = await webcrypto.subtle.encrypt({ name: "AES-GCM", iv }, key, Buffer.from(text));
    return Buffer.concat([iv, Buffer.from(data)]).toString("base64");
  },
  async decode(text) {
    const bytes = Buffer.from(text, "base64");
    const data = await webcrypto.subtle.decrypt({ name: "AES-GCM", iv: bytes.subarray(0, 12) }, key, bytes.subarray(12));
    return Buffer.from(data).toString();
  },
};

/** Readable in a failed test, and at once. */
const reversed: PayloadCodec = {
  encode: (text) => Buffer.from(text).toString("hex"),
  decode: (text) => Buffer.from(text, "hex").toString(),
};

const newFolder = async (): Promise<string> => mkdtemp(join(tmpdir(), "gembatch-codec-"));

testStore(
  { describe, it, expect },
  {
    name: "SQLite behind a codec",
    walks: isThorough ? 4 : 1,
    without: { references: "what it stores is none" },
    createStore: () => createFileStore((path) => codecStore(new SqliteStore({ path }), aesGcm)),
  },
);

describe("what is on disk", () => {
  const secrets = ["moonlit harbour", "ferryman", "lantern", "drowned bell", "salt ledger"];

  /** Runs that ask, answer, compute, call, fail and are held about secrets; the bytes of their store. */
  async function bytesOfRun(codec: PayloadCodec | undefined): Promise<{ bytes: Buffer; outcomes: unknown[] }> {
    const folder = await newFolder();
    onTestFinished(async () => rm(folder, { recursive: true }));
    const store = codecStore(new SqliteStore({ path: join(folder, "gembatch.db") }), codec);
    const kit = createTestKit({ store, answer: (prompt) => `the ferryman heard ${prompt}` });
    const part = kit.gembatch.chain("part", (_context, from: string) => `${from} lantern`);
    const chain = kit.gembatch.chain("clear-name", async ({ models, step, call }, { about, fail }: { about: string; fail: boolean }) => {
      const answer = await models.generateContent({ model: "gemini-2.5-flash", contents: `Tell of the ${about}` });
      const noted = await step("note", () => "drowned bell");
      if (fail) throw new Error(`no salt ledger in ${answer.text}`);
      return [answer.text, noted, await call(part, about)];
    });
    const runs = [
      await chain.start({ about: "moonlit harbour", fail: false }, { id: "clear-id" }),
      await chain.start({ about: "moonlit harbour", fail: true }),
    ];
    await kit.run();
    const outcomes = await Promise.all(runs.map(async (run) => run.result().catch((error: unknown) => (error as Error).message)));
    const shown = await kit.gembatch.requests.list();
    expect(JSON.stringify(shown.items)).toContain("moonlit harbour");
    const before = await readFolder(folder);
    await kit.gembatch.close();
    return { bytes: Buffer.concat([before, await readFolder(folder)]), outcomes };
  }

  async function readFolder(folder: string): Promise<Buffer> {
    const names = await readdir(folder);
    return Buffer.concat(await Promise.all(names.map(async (name) => readFile(join(folder, name)))));
  }

  it("has every text in clear without a codec, and none of them with one", { timeout: 60_000 }, async () => {
    const plain = await bytesOfRun(undefined);
    const encoded = await bytesOfRun(aesGcm);
    expect(encoded.outcomes).toEqual(plain.outcomes);
    expect(plain.outcomes).toEqual([
      ["the ferryman heard Tell of the moonlit harbour", "drowned bell", "moonlit harbour lantern"],
      expect.stringContaining("no salt ledger"),
    ]);
    for (const secret of secrets)
      expect([secret, plain.bytes.includes(secret), encoded.bytes.includes(secret)]).toEqual([secret, true, false]);
    for (const clear of ["clear-id", "clear-name", "gemini-2.5-flash", "run_failed"]) {
      expect([clear, encoded.bytes.includes(clear)]).toEqual([clear, true]);
    }
  });
});

describe("what reaches the wrapped store", () => {
  it("is encoded, and nothing but payloads is", async () => {
    const { inner, store } = await openStores(reversed);
    const kit = new StoreKit(store);
    await kit.beat();
    const run = await kit.waiting("a", [request("ask"), step("note"), child("sub")], {});
    await kit.start(newRun("sub", { parent: { run: "a", key: "sub" } }));
    const batch = await kit.routing("b");
    await kit.answer(batch, failed("The prompt said this."));
    const seen = new StoreKit(inner);
    const record = await seen.run("a");
    expect(record).toMatchObject({ id: "a", chain: "digest", state: "runnable", input: { $gembatch: expect.any(String) } });
    const [asked] = await seen.requests("a");
    expect(asked).toMatchObject({
      key: "ask",
      body: { $gembatch: expect.any(String) },
      error: { code: "request_failed", name: "GembatchError", message: expect.stringMatching(/^\{"\$gembatch":/) },
    });
    expect(asked?.error).not.toHaveProperty("stack");
    const entries = await seen.history("a");
    expect(entries.map(({ key }) => key)).toEqual(["ask", "note", "sub"]);
    expect(entries[1]?.value).toMatch(/^\{"\$gembatch":/);
    expect((await kit.requests("a"))[0]).toMatchObject({ body: { ask: "ask" }, error: failure("The prompt said this.") });
    expect((await kit.history("a"))[1]?.value).toBe('"done"');
    expect(run.input).toBe('{"of":"a"}');
  });

  it("keeps every text of an error", async () => {
    const { store } = await openStores(reversed);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("a"));
    const error = {
      ...failure("It said so. Do this."),
      hint: "Do this.",
      stack: "Error: It said so.\n  at x",
      details: { body: "text" },
      retryable: true,
    };
    await kit.commit(await kit.claimOne(), { outcome: { type: "failed", error } });
    expect((await kit.run("a")).error).toEqual(error);
  });

  it("is one call for each call, in its order, with at most 32 calls of the codec at a time", async () => {
    let active = 0;
    let most = 0;
    const slow: PayloadCodec = {
      async encode(text) {
        most = Math.max(most, (active += 1));
        // The later, the sooner done.
        for (let turns = 100 - Number(/\d+/.exec(text)); turns > 0; turns -= 1) await Promise.resolve();
        active -= 1;
        return reversed.encode(text);
      },
      decode: reversed.decode,
    };
    const { inner, store } = await openStores(slow);
    const calls: string[][] = [];
    const startRuns = inner.startRuns.bind(inner);
    inner.startRuns = async (params) => {
      calls.push(params.runs.map(({ id }) => id));
      return startRuns(params);
    };
    const ids = Array.from({ length: 100 }, (_, n) => `run-${n}`);
    await new StoreKit(store).start(...ids.map((id, n) => newRun(id, { input: `${n}` })));
    expect(calls).toEqual([ids]);
    expect(most).toBe(32);
    expect((await store.getRuns({ ids })).map((run) => run?.input)).toEqual(ids.map((_, n) => n));
  });
});

describe("every way in and out", () => {
  /** A store that keeps what it is given and gives what it is told. */
  function recorder(answer: unknown): { store: Store; received: () => string } {
    const received: unknown[] = [];
    const handler = { get: () => async (params: unknown) => (received.push(params), answer) };
    return { store: codecStore(new Proxy({} as Store, handler), reversed), received: () => JSON.stringify(received) };
  }
  const error = { ...failure("secret"), stack: "secret", hint: "secret", details: { body: "secret" } };
  const run = newRun("clear", { input: '"secret"', request: request("clear", { body: '"secret"' }) });
  const turn = (outcome: TurnOutcome): TurnCommit => ({
    run: "clear",
    epoch: 1,
    seen: 0,
    firstNo: 0,
    entries: [request("clear", { body: '"secret"' }), step("clear", '"secret"'), { ...step("clear"), settled: { error } }],
    starts: [run],
    code: "clear",
    notes: ["clear"],
    outcome,
  });
  const settle = { batch: "clear", epoch: 1, now: 0 };
  const results: RequestResult[] = [
    { type: "succeeded", value: '"secret"', usage },
    { type: "failed", error },
    { type: "retry", availableAt: 0, error, value: '"secret"' },
    { type: "move", tier: "flex", reason: "clear", availableAt: 0 },
  ];

  it.each<[string, (store: Store) => Promise<unknown>]>([
    ["startRuns", (store) => store.startRuns({ now: 0, runs: [run] })],
    ...(
      [
        { type: "running" },
        { type: "waiting" },
        { type: "retry", at: 0, error },
        { type: "completed", output: '"secret"' },
        { type: "failed", error },
        { type: "held", error },
      ] satisfies TurnOutcome[]
    ).map((outcome): [string, (store: Store) => Promise<unknown>] => [
      `commitTurns, ${outcome.type}`,
      (store) => store.commitTurns({ worker: "clear", now: 0, turns: [turn(outcome)] }),
    ]),
    [
      "settleRows",
      (store) =>
        store.settleRows({ ...settle, rows: results.map((result) => ({ id: "clear", attempt: 1, result })), unknown: 0, cursor: 0 }),
    ],
    [
      "settleRemaining",
      (store) => store.settleRemaining({ ...settle, limit: 1, result: { type: "retry", availableAt: 0, error, value: '"secret"' } }),
    ],
    ["updateBatch", (store) => store.updateBatch({ ...settle, update: { job: "clear", error } })],
    ["holdRuns", (store) => store.holdRuns({ now: 0, ids: ["clear"], error })],
  ])("%s stores no payload in clear, and the rest is", async (_name, call) => {
    const { store, received } = recorder(undefined);
    await call(store);
    expect(received()).not.toContain("secret");
    expect(received()).toContain("clear");
    expect(received()).toContain("$gembatch");
  });

  const hidden = { ...failure(JSON.stringify({ $gembatch: reversed.encode(JSON.stringify({ message: "shown" })) })) };
  it.each<[string, unknown, (store: Store) => Promise<unknown>]>([
    ["activeBatches", [{ error: hidden }], (store) => store.activeBatches()],
    ["formBatch", { error: hidden }, (store) => store.formBatch({} as never)],
    ["claimBatches", [{ error: hidden }], (store) => store.claimBatches({} as never)],
    ["dueSweeps", [{ error: hidden }], (store) => store.dueSweeps({} as never)],
    ["getBatch", { error: hidden }, (store) => store.getBatch({ id: "b" })],
    ["listBatches", { items: [{ error: hidden }] }, (store) => store.listBatches({})],
    ["getRuns", [{ error: hidden }], (store) => store.getRuns({ ids: ["a"] })],
    ["listRuns", { items: [{ error: hidden }] }, (store) => store.listRuns({})],
    ["getRequest", { error: hidden }, (store) => store.getRequest({ id: "a" })],
    ["listRequests", { items: [{ error: hidden }] }, (store) => store.listRequests({})],
    ["loadHistory", [[{ error: hidden }]], (store) => store.loadHistory({ runs: [{ run: "a", since: 0 }] })],
  ])("%s shows it again", async (_name, answer, call) => {
    const shown = JSON.stringify(await call(recorder(answer).store));
    expect(shown).toContain('"message":"shown"');
    expect(shown).not.toContain("$gembatch");
  });
});

describe("a codec that fails", () => {
  const broken = (method: "encode" | "decode", when: RegExp): PayloadCodec => ({
    ...reversed,
    [method]: (text: string) => {
      const result = reversed[method](text) as string;
      if (when.test(method === "encode" ? text : result)) throw new RangeError(`refused: ${text}`);
      return result;
    },
  });

  it("to encode: nothing is written", async () => {
    const { inner, store } = await openStores(broken("encode", /secret/));
    const kit = new StoreKit(store);
    await kit.beat();
    const error: unknown = await kit.start(newRun("a"), newRun("b", { input: '"secret"' })).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "codec_failed",
      retryable: true,
      message: expect.stringContaining("could not encode a payload of run b (RangeError)"),
    });
    expect((error as Error).message).not.toContain("secret");
    expect((await inner.listRuns({})).items).toEqual([]);

    await kit.start(newRun("c"));
    const run = await kit.claimOne();
    await expect(kit.commit(run, { entries: [step("fine"), step("not", '"secret"')] })).rejects.toMatchObject({ code: "codec_failed" });
    expect(await kit.history("c")).toEqual([]);
    expect(await kit.commit(run, { entries: [step("fine")], outcome: { type: "completed", output: "1" } })).toMatchObject({
      state: "completed",
    });
  });

  it("to encode anything at all: that much can be told", async () => {
    const { inner, store } = await openStores(broken("encode", /x/));
    const kit = new StoreKit(inner);
    await kit.beat();
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    const coded = new StoreKit(store);
    const thrown: unknown = await coded.commit(run, { outcome: { type: "failed", error: failure("x") } }).catch((error: unknown) => error);
    const error = serializeError(thrown, "run_failed");
    await coded.commit(run, { outcome: { type: "retry", at: coded.now + 1, error } });
    expect(await kit.run("a")).toMatchObject({ state: "waiting", error: { code: "codec_failed", message: error.message } });
  });

  it.each([undefined, 5, Buffer.from("x")])("to give a text: %o", async (result) => {
    const { store } = await openStores({ ...reversed, encode: () => result as unknown as string });
    await expect(new StoreKit(store).start(newRun("a"))).rejects.toMatchObject({ code: "codec_failed" });
  });

  it("to decode: the error names what could not be read", async () => {
    const { inner, store } = await openStores(reversed);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.waiting("a", [request("secret")]);
    const [asked] = await kit.requests("a");
    await kit.form("b");
    const reading = codecStore(inner, broken("decode", /secret|"of"/));
    await expect(reading.getRuns({ ids: ["a"] })).rejects.toThrow("could not decode a payload of run a (RangeError)");
    await expect(reading.getRequest({ id: asked!.id })).rejects.toThrow(`could not decode a payload of request ${asked!.id}`);
    await expect(reading.readMembers({ batch: "b", after: undefined, limit: 10 })).rejects.toThrow(
      `could not decode a payload of request ${asked!.id}`,
    );
    await expect(codecStore(inner, { ...reversed, decode: () => "no JSON" }).getRuns({ ids: ["a"] })).rejects.toMatchObject({
      code: "codec_failed",
    });
  });

  it("to decode one claimed run: it goes back for minutes, the others are worked on", async () => {
    const { inner, store } = await openStores(reversed);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("good"), newRun("bad", { input: '"secret"' }));
    const lines: string[] = [];
    const reading = new StoreKit(
      codecStore(inner, broken("decode", /secret/), { error: (message: string) => lines.push(message) } as unknown as Logger),
    );
    reading.now = kit.now;
    expect((await reading.claim()).map(({ id }) => id)).toEqual(["good"]);
    expect(lines).toEqual([expect.stringContaining("could not decode a payload of run bad")]);
    const [record] = await inner.getRuns({ ids: ["bad"] });
    expect(record).toMatchObject({
      state: "waiting",
      attempts: 1,
      error: { code: "codec_failed", message: expect.stringContaining("run bad") },
    });

    expect(await reading.claim()).toEqual([]);
    kit.now += 60_000;
    await store.fireTimers({ now: kit.now, limit: 10 });
    expect(await kit.claim()).toMatchObject([{ id: "bad", input: '"secret"', attempts: 1 }]);
  });
});

describe("a codec that comes or goes", () => {
  it("reads what was stored before it was set", async () => {
    const { inner, store } = await openStores(reversed);
    const before = new StoreKit(inner);
    await before.beat();
    await before.waiting("a", [request("ask"), step("note")]);
    await before.answer(await before.routing("b"), failed("no"));
    const kit = new StoreKit(store);
    expect(await kit.run("a")).toMatchObject({ input: { of: "a" } });
    expect(await kit.requests("a")).toMatchObject([{ body: { ask: "ask" }, error: failure("no") }]);
    expect(await kit.history("a")).toEqual(await before.history("a"));
    expect(await kit.claim()).toMatchObject([{ id: "a", input: '{"of":"a"}' }]);
  });

  it("is missed by name, and what it encoded is taken for nothing else", async () => {
    const { inner, store } = await openStores(reversed);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.waiting("a", [request("ask"), step("note")]);
    await kit.start(newRun("new"));
    await kit.form("b");
    const without = codecStore(inner, undefined);
    const plain = new StoreKit(without);
    expect(await plain.claim()).toEqual([]);
    expect((await plain.run("new")).error).toMatchObject({
      code: "codec_failed",
      message: expect.stringMatching(/stored with a codec, and there is none now.*option codec/),
    });
    await expect(plain.history("a")).rejects.toThrow(/A payload of run a was stored with a codec.*option codec/);
    await expect(plain.members("b")).rejects.toThrow(/A payload of request .* was stored with a codec/);
    expect((await plain.run("a")).input).toEqual({ $gembatch: expect.any(String) });
  });

  it("changes nothing when there never was one", async () => {
    const { inner, store } = await openStores(undefined);
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.waiting("a", [request("ask"), step("note")]);
    await kit.answer(await kit.routing("b"));
    expect(await kit.run("a")).toEqual(await new StoreKit(inner).run("a"));
    expect(await kit.history("a")).toEqual(await new StoreKit(inner).history("a"));
    expect(await store.claimRuns({ worker: "w1", now: kit.now, limit: 1, chains: digestRuns })).toMatchObject([{ id: "a" }]);
    expect([store.name, store.id]).toEqual([inner.name, inner.id]);
  });
});

async function openStores(codec: PayloadCodec | undefined): Promise<{ inner: Store; store: Store }> {
  const inner = new SqliteStore({ path: ":memory:" });
  const store = codecStore(inner, codec);
  await store.open();
  onTestFinished(async () => store.close());
  return { inner, store };
}
