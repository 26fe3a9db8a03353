/** Models of other publishers on Vertex AI: their requests and answers are carried as they are. */
import { PassThroughClient } from "google-auth-library";
import { afterAll, describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { startEmulator } from "../../src/emulator.ts";
import { Gembatch, GembatchError, type ChainContext, type GembatchOptions } from "../../src/index.ts";
import { crashEverywhere, createTestKit, ManualClock, SteerableProvider } from "../../src/testing.ts";
import { vertex, type VertexOptions } from "../../src/vertex.ts";
import { everyNth } from "../support/thorough.ts";

const claude = "publishers/anthropic/models/claude-sonnet-4-5@20250929";
const llama = "publishers/meta/models/llama-4-maverick-maas";
const location = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5";
const claudeUrl = `${location}/${claude}:rawPredict`;
const chatUrl = `${location}/endpoints/openapi/chat/completions`;

interface Message {
  content: { type: string; text: string }[];
  stop_reason: string;
  usage: { input_tokens: number; output_tokens: number };
}
interface Completion {
  choices: { message: { content: string }; finish_reason: string }[];
  usage: { prompt_tokens: number; completion_tokens: number };
}

/** A body of Anthropic's messages. */
const message = (text: string, more: object = {}) => ({
  ...{ anthropic_version: "vertex-2023-10-16", max_tokens: 100, messages: [{ role: "user", content: text }] },
  ...more,
});
/** One of OpenAI's chat completions. */
const chat = (text: string, more: object = {}) => ({ messages: [{ role: "user", content: text }], ...more });

type Fetch = ChainContext["fetch"];
const post = async (fetch: Fetch, url: string, body: object, headers: Record<string, string> = {}) =>
  fetch(url, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
const askClaude = async (fetch: Fetch, text: string, headers?: Record<string, string>) =>
  (await (await post(fetch, claudeUrl, message(text), headers)).json()) as Message;
const askLlama = async (fetch: Fetch, text: string) =>
  (await (await post(fetch, chatUrl, chat(text, { model: "meta/llama-4-maverick-maas" }))).json()) as Completion;

describe.each<[string, VertexOptions]>([
  ["Cloud Storage", { bucket: "gs://bucket/batches" }],
  ["BigQuery", { dataset: "bq://p.batches" }],
])("on the emulator, through %s,", (_name, place) => {
  const starting = startEmulator({
    turnaround: 5,
    answer: (request) => {
      const [content] = request["contents"] as { parts: { text: string }[] }[];
      const text = content?.parts[0]?.text ?? "";
      return text === "fail" ? { error: { code: 3, message: "no such tool" } } : `<${text}>`;
    },
  });
  afterAll(async () => (await starting).close());

  const onEmulator = async (options: GembatchOptions = {}) => {
    const { url } = await starting;
    const endpoints = { baseUrl: url, storageEndpoint: url, bigqueryEndpoint: url, authClient: new PassThroughClient() };
    return new Gembatch({
      store: "sqlite::memory:",
      logger: false,
      provider: vertex({ project: "p", location: "us-east5", ...endpoints, ...place }),
      polling: { minInterval: "5ms" },
      batching: { debounce: "5ms" },
      ...options,
    });
  };

  it("submitted bodies come to their handlers as raw JSON, and are counted", { timeout: 60_000 }, async () => {
    const price = { model: claude, input: 3, cached: 0.3, output: 15 };
    await using gembatch = await onEmulator({ prices: [price] });
    const keep = gembatch.handler<{ n: number }, Message & Completion>("keep", (response, { n }) => ({ n, response }));
    const ids = [
      await gembatch.submit(message("a"), claude, keep, { n: 1 }),
      await gembatch.submit(message("b"), "anthropic/claude-sonnet-4-5@20250929", keep, { n: 2 }),
      await gembatch.submit(chat("c", { model: "meta/llama-4-maverick-maas" }), llama, keep, { n: 3 }),
    ];
    await gembatch.onIdle();
    const outputs = await Promise.all(ids.map(async (id) => gembatch.run(id).result()));
    const text = (given: string) =>
      expect.objectContaining({ content: [{ type: "text", text: given }], stop_reason: "end_turn" }) as unknown;
    expect(outputs).toEqual([
      { n: 1, response: text("<a>") },
      { n: 2, response: text("<b>") },
      {
        n: 3,
        response: expect.objectContaining({ choices: [expect.objectContaining({ message: { role: "assistant", content: "<c>" } })] }),
      },
    ]);
    const { items } = await gembatch.batches.list();
    expect(items.map(({ lane, requestCount }) => `${requestCount} ${lane.model}:${lane.method}`).toSorted()).toEqual([
      `1 ${llama}:rawPredict`,
      `2 ${claude}:rawPredict`,
    ]);
    // Half of the price that was given; unknown is never 0, so the other has none.
    const usage = (outputs as { response: Message }[]).slice(0, 2).map(({ response }) => response.usage);
    const tokens = usage.reduce((sum, one) => ({ in: sum.in + one.input_tokens, out: sum.out + one.output_tokens }), { in: 0, out: 0 });
    const costs = await gembatch.costs({ by: "model" });
    const line = costs.find(({ model }) => model === claude);
    expect([line?.answers, line?.usage.promptTokens, line?.usage.outputTokens]).toEqual([2, tokens.in, tokens.out]);
    expect(tokens.in * tokens.out).toBeGreaterThan(0);
    expect(line?.usd).toBeCloseTo((tokens.in * 3 + tokens.out * 15) / 2e6, 12);
    expect(costs.find(({ model }) => model === llama)).toMatchObject({ answers: 1, unpriced: 1, usd: 0 });
  });

  it("chains ask them by their URLs, one after another and side by side", { timeout: 60_000 }, async () => {
    await using gembatch = await onEmulator({ worker: { parkedBytes: 0 } });
    const chain = gembatch.chain("both", async ({ fetch }) => {
      const [first, other] = await Promise.all([askClaude(fetch, "a"), askLlama(fetch, "b")]);
      const last = await askClaude(fetch, `again ${first.content[0]?.text}`);
      return [first.content[0]?.text, other.choices[0]?.message.content, last.content[0]?.text];
    });
    const run = await chain.start(undefined, { id: "r" });
    expect(await run.result()).toEqual(["<a>", "<b>", "<again <a>>"]);
    const { items } = await gembatch.requests.list({ run: "r" });
    expect(items.map(({ lane }) => lane.method)).toEqual(["rawPredict", "rawPredict", "rawPredict"]);
  });

  it("a row that failed is answered with a status that no SDK retries", { timeout: 60_000 }, async () => {
    await using gembatch = await onEmulator();
    const chain = gembatch.chain("fails", async ({ fetch }) => {
      const response = await post(fetch, claudeUrl, message("fail"));
      return { status: response.status, body: await response.json() };
    });
    const run = await chain.start(undefined);
    expect(await run.result()).toEqual({
      status: 400,
      body: { error: expect.objectContaining({ code: 400, message: expect.stringContaining("no such tool") as string }) },
    });
  });
});

describe("requests of other publishers' models", () => {
  it("are replayed: each is asked once, by its content or its key", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 } });
    const chain = kit.gembatch.chain("replay", async ({ fetch }, words: string[]) => {
      const texts: (string | undefined)[] = [];
      for (const word of words) texts.push((await askClaude(fetch, word)).content[0]?.text);
      texts.push((await askClaude(fetch, `${texts.length} more`, { "x-gembatch-key": "last" })).content[0]?.text);
      return texts;
    });
    const run = await chain.start(["a", "b", "a"], { id: "r" });
    await kit.run();
    expect(await run.result()).toEqual(["<a>", "<b>", "<a>", "<3 more>"]);
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([1, 1, 1, 1]);
    const { items } = await kit.gembatch.requests.list({ run: "r" });
    expect(items.filter(({ key }) => key === "k:last")).toHaveLength(1);
  });

  it("have lanes of their own, beside Gemini's in one run", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("mixed", async ({ fetch, models }) => {
      const [one, two, three] = await Promise.all([
        askClaude(fetch, "a"),
        askLlama(fetch, "b"),
        models.generateContent({ model: "gemini-2.5-flash", contents: "c" }),
      ]);
      return [one.content[0]?.text, two.choices[0]?.message.content, three.text];
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual(["<a>", "<b>", "<c>"]);
    expect(kit.provider.jobs.map(({ lane }) => `${lane.model}:${lane.method}`).toSorted()).toEqual([
      "gemini-2.5-flash:generateContent",
      `${claude}:rawPredict`,
      `${llama}:rawPredict`,
    ]);
    // Neither the model nor anything of ours is in a row.
    const rows = kit.provider.jobs.flatMap((job) => job.rows.map(({ body }) => JSON.parse(body) as unknown));
    expect(rows).toEqual(expect.arrayContaining([message("a"), chat("b")]));
  });

  it("go on after a deadline that only a direct call could keep", async () => {
    await using kit = createTestKit({ turnaround: "2h" });
    const keep = kit.gembatch.handler<unknown, Message>("keep", (response) => response.content[0]?.text);
    const id = await kit.gembatch.submit(message("late"), claude, keep, undefined, { deadline: "10m" });
    await kit.run();
    expect([await kit.gembatch.run(id).result(), kit.provider.directCalls.length, kit.provider.jobs.length]).toEqual(["<late>", 0, 1]);
  });

  it("need a price of the user's own where a budget is set", async () => {
    const ended = async (prices: GembatchOptions["prices"] = []) => {
      await using kit = createTestKit({ budget: { usd: 1, per: "total" }, prices });
      const keep = kit.gembatch.handler<unknown, Message>("keep", (response) => response.content[0]?.text);
      const id = await kit.gembatch.submit(message("a", { max_tokens: 1_000 }), claude, keep);
      await kit.advance("1h");
      const { items } = await kit.gembatch.batches.list();
      return { state: (await kit.gembatch.runs.get(id))?.state, usd: items.map((batch) => batch.usd) };
    };
    expect(await ended()).toEqual({ state: "waiting", usd: [] });
    // What it may answer, at half of the price, and a little input.
    const { state, usd } = await ended([{ model: "publishers/anthropic/models/claude-*", input: 0, cached: 0, output: 20 }]);
    expect([state, usd]).toEqual(["completed", [0.01]]);
  });

  it("are answered with what came, cut or refused: it is billed, and asked once", async () => {
    const cut = { type: "message", content: [], stop_reason: "refusal", usage: { input_tokens: 4, output_tokens: 1 } };
    await using kit = createTestKit({ answer: () => ({ response: cut }) });
    const keep = kit.gembatch.handler<unknown, Message>("keep", (response) => response);
    const id = await kit.gembatch.submit(message("a"), claude, keep);
    await kit.run();
    expect([await kit.gembatch.run(id).result(), kit.provider.jobs.length]).toEqual([cut, 1]);
  });

  it("share an answer if they say so", async () => {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("shared", async ({ fetch }) => askClaude(fetch, "a", { "x-gembatch-cache": "store" }));
    const runs = [await chain.start(undefined), await chain.start(undefined)];
    await kit.run();
    expect((await runs[0]!.result()).content).toEqual((await runs[1]!.result()).content);
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([1]);
  });

  it("survive a process that is killed anywhere, in chains and in handlers", { timeout: 60_000 }, async () => {
    const figures = await crashEverywhere(
      (gembatch) => {
        const keep = gembatch.handler<{ from: string }, Message>("keep", (response, { from }) => [from, response.content[0]?.text]);
        return gembatch.chain("crash", async ({ fetch }, text: string) => {
          const first = await askClaude(fetch, text);
          const word = first.content[0]?.text ?? "";
          const second = await askLlama(fetch, word);
          await gembatch.submit(message(`submitted ${word}`), claude, keep, { from: text }, { id: "submitted" });
          return second.choices[0]?.message.content;
        });
      },
      "doc",
      { worker: { parkedBytes: 0 }, every: everyNth(5) },
    );
    expect(figures).toMatchObject({ runs: 2, prompts: 3, jobs: 3 });
  });
});

describe("what other publishers' models cannot do is refused at the call, and nothing is queued:", () => {
  const keepName = "keep";
  const setUp = (options: Parameters<typeof createTestKit>[0] = {}) => {
    const kit = createTestKit(options);
    kit.gembatch.handler<unknown, object>(keepName, (response) => response);
    return kit;
  };
  const refusal = async (work: Promise<unknown>): Promise<GembatchError> => {
    const thrown = await work.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!GembatchError.is(thrown)) throw new Error("not refused", { cause: thrown });
    return thrown;
  };

  it.each<[string, object, string, object, string, RegExp]>([
    ["the flex tier", message("a"), claude, { tier: "flex" }, "request_refused", /at the flex tier: .* in batch jobs only/],
    ["the standard tier", message("a"), claude, { tier: "standard" }, "request_refused", /at the standard tier/],
    ["a stream", message("a", { stream: true }), claude, {}, "request_refused", /cannot be streamed/],
    [
      "messages for a model of Google",
      message("a"),
      "gemini-2.5-flash",
      {},
      "request_refused",
      /is no model of another publisher at the provider "gemini"/,
    ],
    ["a list", [message("a")], claude, {}, "invalid_argument", /A request needs "contents"/],
    ["what is neither", { prompt: "a" }, "gemini-2.5-flash", {}, "invalid_argument", /"messages"/],
  ])("%s", async (_name, body, model, options, code, text) => {
    await using kit = setUp();
    const error = await refusal(kit.gembatch.submit(body as never, model, keepName, undefined, options));
    expect([error.code, error.retryable, error.hint === undefined]).toEqual([code, false, false]);
    expect(error.message).toMatch(text);
    expect((await kit.gembatch.requests.list()).items).toEqual([]);
  });

  it("a tier of the whole instance, and of a chain; auto means batch", async () => {
    await using standard = setUp({ tier: "standard" });
    expect((await refusal(standard.gembatch.submit(message("a"), claude, keepName))).hint).toContain('tier: "batch"');
    await standard.gembatch.submit(message("a"), claude, keepName, undefined, { tier: "batch" });
    await using auto = setUp({ tier: "auto" });
    await auto.gembatch.submit(message("a"), claude, keepName);
    const chain = auto.gembatch.chain("flex", async ({ fetch }) => (await post(fetch, claudeUrl, message("b"))).status, { tier: "flex" });
    const run = await chain.start(undefined);
    for (const kit of [standard, auto]) await kit.run();
    expect(await run.result()).toBe(400);
    expect([standard, auto].map(({ provider }) => [provider.jobs.length, provider.directCalls.length])).toEqual([
      [1, 0],
      [1, 0],
    ]);
  });

  it("a handler with a schema", async () => {
    await using kit = setUp();
    kit.gembatch.handler("typed", (response) => response.output, { schema: z.object({ ok: z.boolean() }) });
    const error = await refusal(kit.gembatch.submit(message("a"), claude, "typed"));
    expect([error.code, error.message]).toEqual([
      "invalid_argument",
      expect.stringContaining("has a schema, and answers of other publishers") as string,
    ]);
  });

  it("generateContent, by the context's models", async () => {
    await using kit = setUp();
    const chain = kit.gembatch.chain("models", async ({ models }) => models.generateContent({ model: claude, contents: "a" }));
    const run = await chain.start(undefined);
    await kit.run();
    expect(await refusal(run.result())).toMatchObject({
      message: expect.stringContaining("in the form of its publisher, not generateContent") as string,
    });
  });

  it("contents, by the provider itself, which says what it takes", async () => {
    await using gembatch = new Gembatch({ store: "sqlite::memory:", logger: false, provider: vertex({ bucket: "bucket" }) });
    const keep = gembatch.handler("keep", () => undefined);
    const contents = [{ role: "user", parts: [{ text: "a" }] }];
    expect((await refusal(gembatch.submit({ contents }, claude, keep))).message).toContain("Anthropic's Messages API");
    expect((await refusal(gembatch.submit({ contents }, llama, keep))).message).toContain("OpenAI's chat completions");
  });

  it("the Gemini API, which has none of them", async () => {
    await using gembatch = new Gembatch({ store: "sqlite::memory:", logger: false, provider: ["gemini", vertex({ bucket: "bucket" })] });
    const keep = gembatch.handler("keep", () => undefined);
    const error = await refusal(gembatch.submit(message("a"), claude, keep));
    expect([error.code, error.hint]).toEqual(["invalid_argument", expect.stringContaining('{ provider: "vertex" }') as string]);
    expect(await gembatch.submit(message("a"), claude, keep, undefined, { id: "named", provider: "vertex" })).toBe("named");
  });
});

describe("a provider of Vertex AI under another name", () => {
  it("is found by the URLs of its API", async () => {
    const clock = new ManualClock();
    class Eu extends SteerableProvider {
      readonly api = "vertex" as const;
    }
    const [gemini, eu] = [new SteerableProvider({ clock, name: "g" }), new Eu({ clock, name: "eu" })];
    await using kit = createTestKit({ clock, provider: [gemini, eu] });
    const google = `${location}/publishers/google/models/gemini-2.5-flash:generateContent`;
    const chain = kit.gembatch.chain("find", async ({ fetch }) => {
      await Promise.all([askClaude(fetch, "a"), post(fetch, google, { contents: [{ parts: [{ text: "b" }] }] })]);
    });
    const run = await chain.start(undefined);
    await kit.run();
    await run.result();
    expect([gemini.jobs.length, eu.jobs.map(({ lane }) => lane.provider)]).toEqual([0, ["eu", "eu"]]);
    expect([vertex({ name: "eu", bucket: "bucket" }).api, vertex({ bucket: "bucket" }).api]).toEqual(["vertex", "vertex"]);
  });
});

describe("the types of submit and of handlers", () => {
  it("take raw requests and answers, and still find mistakes in those of Gemini", () => {
    const check = (gembatch: Gembatch) => {
      const inferred = gembatch.handler("inferred", (response: Message, params: { n: number }) => response.content.length + params.n);
      const contents = [{ role: "user", parts: [{ text: "a" }] }];
      void gembatch.submit(message("a"), claude, inferred, { n: 1 });
      void gembatch.submit({ messages: [], temperature: 1 }, llama, inferred, { n: 1 });
      void gembatch.submit({ contents, generationConfig: { temperature: 1 } }, "gemini-2.5-flash", inferred, { n: 1 });
      // @ts-expect-error: one form or the other
      void gembatch.submit({ contents, messages: [] }, "gemini-2.5-flash", inferred, { n: 1 });
      // @ts-expect-error: there is no such field
      void gembatch.submit({ contents, generationConfigs: {} }, "gemini-2.5-flash", inferred, { n: 1 });
      // @ts-expect-error: a prompt in neither form
      void gembatch.submit({ prompt: "a" }, "gemini-2.5-flash", inferred, { n: 1 });
      // @ts-expect-error: params are typed
      void gembatch.submit(message("a"), claude, inferred, { n: "1" });
      gembatch.handler("plain", (response) => expectTypeOf(response.text).toEqualTypeOf<string | undefined>());
    };
    expect(check).toBeInstanceOf(Function);
  });
});
