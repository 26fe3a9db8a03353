import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { GembatchError, type Gembatch, type PayloadCodec } from "../../src/index.ts";
import { filePayloads, type PayloadStore } from "../../src/payloads.ts";
import { crashEverywhere, createTestKit, type TestKitOptions } from "../../src/testing.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { everyNth } from "../support/thorough.ts";

const model = "gemini-2.5-flash";
/** A text of 200 KB that says what it is about. */
const long = (about: string): string => `${about} `.padEnd(200_000, "x");
const short = (text: string): string => text.replace(/ x*$/, "");

/** Readable in a failed test: how many there are instead of all of them. */
const squeeze = (value: unknown): unknown =>
  JSON.parse((JSON.stringify(value) ?? "null").replaceAll(/([a-z])\1{9,}/g, (run: string) => `${run[0]} × ${run.length}`));

/** Payloads in memory, without a wait for anything real: virtual time stands still meanwhile. */
class MemoryPayloads implements PayloadStore {
  readonly name = "memory";
  readonly #texts = new Map<string, string>();

  async put(key: string, text: string): Promise<void> {
    this.#texts.set(key, text);
  }

  async get(key: string): Promise<string> {
    const text = this.#texts.get(key);
    if (text === undefined) throw new GembatchError("payload_missing", `There is no ${key}.`);
    return text;
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#texts.delete(key);
  }

  get size(): number {
    return this.#texts.size;
  }

  clear(): void {
    this.#texts.clear();
  }
}

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "gembatch-payloads-"));
  onTestFinished(async () => rm(folder, { recursive: true }));
  return folder;
}

async function countFiles(folder: string): Promise<number> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  return found.filter((item) => item.isFile()).length;
}

const hex: PayloadCodec = {
  encode: (text) => Buffer.from(text).toString("hex"),
  decode: (text) => Buffer.from(text, "hex").toString(),
};

/** Two long prompts one after the other, a long step, and a long output. */
function defineDigest(gembatch: Gembatch) {
  return gembatch.chain("digest", async ({ models, step }, input: { text: string }) => {
    const ask = async (contents: string) => (await models.generateContent({ model, contents })).text!;
    const first = await ask(long(`summary of ${short(input.text)}`));
    const note = await step("note", () => long("note"));
    return { first, second: await ask(long(`title of ${short(first)}`)), note };
  });
}

const digestOf = (name: string) => {
  const first = long(`answer to summary of ${name}`);
  return { first, second: long(`answer to title of ${short(first)}`), note: long("note") };
};

function digestKit(store: PayloadStore, options: TestKitOptions = {}) {
  const rows = new SqliteStore({ path: ":memory:" });
  const answer = (prompt: string) => long(`answer to ${short(prompt)}`);
  const kit = createTestKit({ store: rows, payloads: { store }, answer, ...options });
  onTestFinished(async () => kit.gembatch.close());
  return { kit, rows, digest: defineDigest(kit.gembatch) };
}

describe("large payloads", () => {
  const names = Array.from({ length: 12 }, (_, n) => `doc ${n}`);

  async function expectDigests(store: PayloadStore, options: TestKitOptions) {
    const { kit, rows, digest } = digestKit(store, options);
    const runs = await Promise.all(names.map(async (name) => digest.start({ text: long(name) }, { id: name })));
    await kit.run();
    const outputs = await Promise.all(runs.map(async (run) => run.result()));
    expect(squeeze(outputs)).toEqual(squeeze(names.map(digestOf)));
    const lengths = [...(await rows.listRuns({})).items, ...(await rows.listRequests({})).items].map((row) => JSON.stringify(row).length);
    expect(Math.max(...lengths)).toBeLessThan(2_000);
    return kit.provider.jobs.map((job) => job.rows.length);
  }

  it.each<[string, TestKitOptions]>([
    ["as they are", {}],
    ["behind a codec", { codec: hex }],
    ["replayed at each turn", { worker: { parkedBytes: 0 } }],
  ])("%s: chains run to their end with short rows", async (_name, options) => {
    const store = new MemoryPayloads();
    expect(await expectDigests(store, options)).toEqual([12, 12]);
    // Input, two prompts, two answers, a step's value, the output.
    expect(store.size).toBe(12 * 7);
  });

  it("in a folder: the same", async () => {
    const path = await newFolder();
    // Virtual time runs on while files are written: waves may break up, but no job may count as stuck.
    const sizes = await expectDigests(filePayloads({ path }), { polling: { maxAge: "3000d" } });
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(24);
    expect(await countFiles(path)).toBe(12 * 7);
  });
});

describe("retention", () => {
  it("removes the payloads of what it removes, and no other", { timeout: 60_000 }, async () => {
    const store = new MemoryPayloads();
    const { kit, digest } = digestKit(store, { retention: { runs: "2d" } });
    const parent = kit.gembatch.chain("parent", async ({ call }, name: string) => (await call(digest, { text: long(name) })).second);
    await parent.start("old", { id: "old" });
    await kit.run();
    // Those of the digest, and the output of its parent.
    expect(store.size).toBe(8);
    await kit.advance("30h");
    const run = await parent.start("new", { id: "new" });
    await kit.run();
    expect(store.size).toBe(16);
    await kit.advance("30h");
    expect(store.size).toBe(8);
    expect(squeeze(await run.result())).toBe(squeeze(digestOf("new").second));
    expect((await kit.gembatch.requests.list({})).items.map(({ body }) => JSON.stringify(body).length > 200_000)).toEqual([true, true]);
    await kit.advance("2d");
    expect((await kit.gembatch.runs.list({})).items).toEqual([]);
    expect(store.size).toBe(0);
  });
});

describe("a process that is killed at any call of a port", () => {
  it.each([[{}], [{ codec: hex }]])("is taken up by the next one: %o", { timeout: 120_000 }, async (options) => {
    const store = new MemoryPayloads();
    let processes = 0;
    const figures = await crashEverywhere(
      (gembatch) => {
        // The undisturbed course has one process, every other one two. Each course begins with nothing.
        if (processes % 2 === 1 || processes === 0) store.clear();
        processes += 1;
        const part = gembatch.chain(
          "part",
          async ({ models }, text: string) => (await models.generateContent({ model, contents: text })).text!,
        );
        return gembatch.chain("whole", async ({ call, step }, text: string) => {
          const kept = await step("keep", () => `kept ${text}`.padEnd(3_000, "k"));
          return squeeze([text, kept, await call(part, kept)]);
        });
      },
      "y".repeat(2_000),
      {
        payloads: { store, threshold: 1_000 },
        every: everyNth(3),
        worker: { parkedBytes: 0 },
        ...options,
        // What is behind a reference is part of the output of the whole.
        normalize: (output) => (output as { bytes?: number }).bytes ?? output,
      },
    );
    expect(figures).toMatchObject({ runs: 2, prompts: 1, jobs: 1 });
    expect(processes).toBe(1 + 2 * figures.crashes);
    expect(figures.crashes).toBeGreaterThan(60);
  });
});

/** A payload store that is away at times. */
function fragile(inner: PayloadStore) {
  let broken = new Set<string>();
  let refused = 0;
  const guard = async <T>(method: string, call: () => Promise<T>): Promise<T> => {
    if (broken.has(method)) refused += 1;
    if (broken.has(method)) throw new GembatchError("payload_unavailable", "It is away.", { retryable: true });
    return call();
  };
  const store: PayloadStore = {
    name: "fragile",
    put: async (key, text) => guard("put", async () => inner.put(key, text)),
    get: async (key) => guard("get", async () => inner.get(key)),
    delete: async (keys) => guard("delete", async () => inner.delete(keys)),
  };
  return { store, breakDown: (...methods: string[]) => void (broken = new Set(methods)), refused: () => refused };
}

describe("a payload store that is away", () => {
  const names = ["a", "b", "c"];

  function fragileKit() {
    const { store, breakDown, refused } = fragile(new MemoryPayloads());
    const { kit, digest } = digestKit(store, { worker: { parkedBytes: 0 } });
    const start = async () => Promise.all(names.map(async (name) => digest.start({ text: long(name) }, { id: name })));
    const expectWhole = async (): Promise<void> => {
      await kit.run();
      const { items } = await kit.gembatch.runs.list({});
      const outputs = items.map(({ id, state, output, error }) => [id, state, squeeze(output), error?.message]);
      expect(outputs.toReversed()).toEqual(names.map((name) => [name, "completed", squeeze(digestOf(name)), undefined]));
      const keys = kit.provider.jobs.flatMap(({ rows }) => rows.map(({ key }) => key));
      expect([keys.length, new Set(keys).size]).toEqual([6, 6]);
    };
    return { kit, start, breakDown, refused, expectWhole };
  }

  it("refuses a start, which can be made again", async () => {
    const { start, breakDown, expectWhole } = fragileKit();
    breakDown("put");
    await expect(start()).rejects.toMatchObject({ code: "payload_unavailable", retryable: true });
    breakDown();
    await start();
    await expectWhole();
  });

  it.each([
    ["read", ["get"]],
    ["written", ["put"]],
    ["read or written", ["get", "put"]],
  ])("cannot be %s at any moment: it delays, and nothing is lost or paid twice", { timeout: 60_000 }, async (_what, methods) => {
    let troubles = 0;
    for (const after of [0, 1, 2, 4, 8]) {
      const { kit, start, breakDown, refused, expectWhole } = fragileKit();
      await start();
      for (let n = 0; n < after; n += 1) await kit.advance("20s");
      breakDown(...methods);
      await kit.advance("5m");
      breakDown();
      await expectWhole();
      troubles += Math.sign(refused());
    }
    expect(troubles).toBeGreaterThan(2);
  });
});
