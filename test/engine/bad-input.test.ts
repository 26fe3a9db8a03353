import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Gembatch } from "../../src/index.ts";
import { gemini } from "../../src/gemini.ts";
import { startEmulator } from "../../src/emulator.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, type TestKit } from "../../src/testing.ts";

const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const create = (options: object) => new Gembatch({ store: "sqlite::memory:", logger: false, ...options });

describe("options", () => {
  it.each<[string, object, RegExp]>([
    ["an unknown option", { stroe: "x" }, /Unknown option stroe\. Known here: store/],
    ["an unknown nested option", { batching: { maxRequest: 5 } }, /Unknown option batching\.maxRequest\. Known here: maxRequests/],
    ["a bad duration", { polling: { minInterval: "5 parsecs" } }, /polling\.minInterval must be a duration/],
    ["a bad count", { batching: { maxJobs: 0 } }, /batching\.maxJobs must be a whole number of at least 1, got 0/],
    [
      "bounds the wrong way round",
      { polling: { minInterval: "2m", maxInterval: "1m" } },
      /polling\.minInterval .* is larger than polling\.maxInterval/,
    ],
    ["an unknown store", { store: "mysql://user:secret@host/db" }, /not a store URL that gembatch knows: "mysql:\/\/…@host\/db"/],
    ["an unknown provider", { provider: "acme" }, /no provider that gembatch knows/],
    ["an unknown logger", { logger: "loud" }, /Option logger/],
  ])("%s is refused by name", (_name, options, message) => {
    expect(() => create(options)).toThrow(message);
  });

  it("nothing is touched before it is needed: no key, no file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "gembatch-lazy-"));
    const gembatch = new Gembatch({ store: `sqlite:${folder}/deep/store.db`, provider: gemini() });
    gembatch.chain("c", async () => 1);
    await gembatch.close();
    const { existsSync } = await import("node:fs");
    expect(existsSync(`${folder}/deep`)).toBe(false);
  });
});

describe("names", () => {
  it("twice, empty, or without a function are refused", async () => {
    await using gembatch = create({});
    gembatch.chain("a", async () => 1);
    expect(() => gembatch.chain("a", async () => 2)).toThrow(/already taken by a chain/);
    expect(() => gembatch.handler("a", () => 2)).toThrow(/already taken by a chain/);
    expect(() => gembatch.chain("", async () => 1)).toThrow(/needs a name, got ""/);
    expect(() => gembatch.handler(undefined as never, () => 1)).toThrow(/A handler needs a name/);
    expect(() => gembatch.handler((() => 1) as never, undefined as never)).toThrow(/needs a name, got .*function/);
    expect(() => gembatch.chain("b", "not a function" as never)).toThrow(/needs a function/);
    expect(() => gembatch.chain("b", async () => 1, { versoin: "1" } as never)).toThrow(/Unknown option chain\("b"\)\.versoin/);
  });
});

describe("submit", () => {
  it.each<[string, (gembatch: Gembatch) => Promise<unknown>, object]>([
    [
      "an unknown handler",
      async (g) => g.submit({ contents }, "m", "nobody"),
      { code: "unknown_handler", message: expect.stringContaining("Registered: known") as string },
    ],
    [
      "a function instead of a handler",
      async (g) => g.submit({ contents }, "m", (() => 1) as unknown as string),
      { code: "unknown_handler", message: expect.stringContaining("Register it first") as string },
    ],
    [
      "params that are not JSON",
      async (g) => g.submit({ contents }, "m", "known", { when: new Map() } as never),
      { code: "not_serializable", message: expect.stringContaining("when is a Map") as string },
    ],
    ["a request without contents", async (g) => g.submit({} as never, "m", "known"), { code: "invalid_argument" }],
    ["no model", async (g) => g.submit({ contents }, "", "known"), { code: "invalid_argument" }],
    [
      "an unknown call option",
      async (g) => g.submit({ contents }, "m", "known", undefined, { prioritty: 1 } as never),
      { code: "invalid_option" },
    ],
    [
      "a priority that is no number",
      async (g) => g.submit({ contents }, "m", "known", undefined, { priority: "high" } as never),
      { code: "invalid_option" },
    ],
    [
      "a request over the size limit",
      async (g) => g.submit({ contents: [{ parts: [{ text: "x".repeat(30_000_000) }] }] }, "m", "known"),
      { code: "request_too_large", message: expect.stringMatching(/is over the limit of/) as string },
    ],
  ])("refuses %s", async (_name, call, expected) => {
    await using gembatch = create({});
    gembatch.handler("known", () => {});
    await expect(call(gembatch)).rejects.toMatchObject(expected);
    expect((await gembatch.stats()).runs.waiting).toBe(0);
  });
});

describe("start", () => {
  it("refuses inputs that are not JSON, and bad ids", async () => {
    await using gembatch = create({});
    const chain = gembatch.chain("c", async (_context, input: unknown) => input);
    await expect(chain.start({ deep: [() => 1] })).rejects.toMatchObject({
      code: "not_serializable",
      message: expect.stringContaining("deep.0 is a function") as string,
    });
    await expect(chain.start(1, { id: "" })).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(chain.start(1, { key: "x" } as never)).rejects.toMatchObject({ code: "invalid_option" });
  });

  it("an output that is not JSON fails its run with the reason", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("c", async () => new Set([1]));
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ code: "not_serializable", message: expect.stringContaining("is a Set") as string });
  });

  it("prompts inside a step, and prompts outside of a chain, say what to do", async () => {
    await using kit = createTestKit();
    let outside: ((...args: Parameters<typeof fetch>) => Promise<Response>) | undefined;
    const chain = kit.gembatch.chain("c", async ({ step, models, fetch }) => {
      outside = fetch;
      return step("nested", async () => (await models.generateContent({ model: "m", contents: "x" })).text);
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ message: expect.stringContaining("inside step()") as string });
    expect(outside).toBeDefined();
  });

  it("a run with too many prompts fails with the limit", async () => {
    await using kit = createTestKit({ worker: { maxEntries: 5 } });
    const chain = kit.gembatch.chain("c", async ({ models }) => {
      await Promise.all(
        Array.from({ length: 6 }, async (_, n) => models.generateContent({ model: "gemini-2.5-flash", contents: String(n) })),
      );
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ code: "too_many_entries" });
    expect(kit.provider.jobs).toHaveLength(0);
  });

  it("a turn that awaits something for ever fails in the end", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("c", async () => new Promise(() => {}));
    const run = await chain.start(undefined);
    await kit.run("1h");
    await expect(run.result()).rejects.toMatchObject({ code: "turn_timeout", message: expect.stringContaining("step()") as string });
  });
});

describe("against a server", async () => {
  const emulator = await startEmulator({ apiKey: "right", turnaround: 5 });
  afterAll(async () => emulator.close());
  const connect = (apiKey: string) =>
    create({
      provider: gemini({ apiKey, baseUrl: emulator.url }),
      polling: { minInterval: "5ms" },
      batching: { debounce: "5ms" },
      retry: { initialDelay: "20ms" },
    });

  it("a bad key ends the wait with a clear error; the run is unharmed", async () => {
    await using gembatch = connect("wrong");
    const chain = gembatch.chain(
      "c",
      async ({ models }) => (await models.generateContent({ model: "gemini-2.5-flash", contents: "hi" })).text,
    );
    const run = await chain.start(undefined);
    await expect(run.result()).rejects.toMatchObject({ code: "provider_auth", retryable: true });
    expect((await run.get()).state).toBe("waiting");
  });

  it("no key at all says which variable to set", async () => {
    const before = { ...process.env };
    delete process.env["GEMINI_API_KEY"];
    delete process.env["GOOGLE_API_KEY"];
    try {
      await using gembatch = create({ provider: gemini({ baseUrl: emulator.url }), batching: { debounce: "5ms" } });
      const chain = gembatch.chain(
        "c",
        async ({ models }) => (await models.generateContent({ model: "gemini-2.5-flash", contents: "hi" })).text,
      );
      const run = await chain.start(undefined);
      await expect(run.result()).rejects.toMatchObject({
        code: "provider_auth",
        message: expect.stringContaining("GEMINI_API_KEY") as string,
      });
    } finally {
      Object.assign(process.env, before);
    }
  });

  it("a model that does not exist fails the run with the server's words", async () => {
    await using gembatch = connect("right");
    const chain = gembatch.chain(
      "c",
      async ({ models }) => (await models.generateContent({ model: "no-such-model", contents: "hi" })).text,
    );
    const run = await chain.start(undefined);
    await expect(run.result()).rejects.toMatchObject({
      code: "request_refused",
      message: expect.stringContaining("no-such-model") as string,
    });
  });

  it("no server: everything waits, nothing is lost, and it goes on when there is one", async () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    for (let n = 0; n < 20; n += 1) provider.failNext("stageInput", "unavailable");
    await using kit = createTestKit({ clock, provider });
    const chain = kit.gembatch.chain(
      "c",
      async ({ models }) => (await models.generateContent({ model: "gemini-2.5-flash", contents: "hi" })).text,
    );
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe("<hi>");
  });
});

describe("a full disk", () => {
  it("is a clear error; what was started is kept, and goes on when there is room", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "gembatch-full-")), "store.db");
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    const define = ({ gembatch }: TestKit) =>
      gembatch.chain(
        "c",
        async ({ models }, text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text.slice(0, 5) })).text,
      );
    {
      await using kit = createTestKit({ store: new SqliteStore({ path, maxBytes: 1_000_000 }), clock, provider });
      const chain = define(kit);
      await chain.start("small", { id: "small" });
      await expect(chain.start("large".repeat(400_000), { id: "large" })).rejects.toMatchObject({ code: "store_full", retryable: true });
      expect(await kit.gembatch.runs.get("large")).toBeUndefined();
    }
    await using kit = createTestKit({ store: new SqliteStore({ path }), clock, provider });
    const chain = define(kit);
    await chain.start("large".repeat(400_000), { id: "large" });
    await kit.run();
    expect([await chain.run("small").result(), await chain.run("large").result()]).toEqual(["<small>", "<large>"]);
    expect(provider.jobs).toHaveLength(1);
  });
});
