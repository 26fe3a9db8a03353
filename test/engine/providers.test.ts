import { createHmac } from "node:crypto";
import { HarmBlockThreshold, HarmCategory, Type, type EmbedContentResponse } from "@google/genai";
import { describe, expect, it } from "vitest";
import { connectProviders } from "../../src/client/connect.ts";
import { GembatchError } from "../../src/core/errors.ts";
import { laneName } from "../../src/core/keys.ts";
import { Gembatch } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import {
  crashEverywhere,
  createTestKit,
  ManualClock,
  SteerableProvider,
  type SteerableProviderOptions,
  type TestKitOptions,
} from "../../src/testing.ts";
import { vertex } from "../../src/vertex.ts";
import { promptText } from "../../src/testing/steerable-answers.ts";
import { everyNth } from "../support/thorough.ts";

const model = "gemini-2.5-flash";
const ask = (contents: string) => ({ model, contents });
const request = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

type ProviderParts = Partial<Omit<SteerableProviderOptions, "clock">>;

/** A provider whose answers say who gave them. */
function provider(clock: ManualClock, name: string, parts: ProviderParts = {}): SteerableProvider {
  return new SteerableProvider({ clock, name, answer: answersOf(name), ...parts });
}

/** Texts that begin with the name; an embedding is the length of what is embedded. */
const answersOf =
  (name: string): SteerableProviderOptions["answer"] =>
  (prompt, _row, { method }) =>
    method === "embedContent" ? { response: { embedding: { values: [prompt.length] } } } : `${name}: ${prompt}`;

/** A kit with a provider `gemini`, which is the default, and a provider `vertex`. */
function pairKit({ gemini = {}, vertex = {}, ...options }: TestKitOptions & { gemini?: ProviderParts; vertex?: ProviderParts } = {}) {
  const clock = new ManualClock();
  const pair = [provider(clock, "gemini", gemini), provider(clock, "vertex", vertex)] as const;
  return { kit: createTestKit({ clock, provider: [...pair], ...options }), gemini: pair[0], vertex: pair[1] };
}

const objectSchema = { type: "object", properties: { ok: { type: "boolean" } } };
/** Takes `{ ok: true }` only. */
const okSchema = {
  "~standard": {
    version: 1 as const,
    vendor: "test",
    validate: (value: unknown) => ((value as { ok?: boolean }).ok ? { value } : { issues: [{ message: "not ok" }] }),
    jsonSchema: { input: () => objectSchema, output: () => objectSchema },
  },
};

/** The prompts of a provider's jobs. */
const prompts = ({ jobs }: SteerableProvider): string[][] => jobs.map(({ rows }) => rows.map(({ body }) => promptText(body)));

/** Asked as the official SDK asks Vertex AI. */
class Vertex extends SteerableProvider {
  readonly #vertex = vertex({ project: "p", location: "global", bucket: "gs://bucket" });

  constructor(clock: ManualClock) {
    super({ clock, name: "vertex", answer: answersOf("vertex") });
  }

  override createModels(fetch: typeof globalThis.fetch): ReturnType<SteerableProvider["createModels"]> {
    return this.#vertex.createModels(fetch);
  }

  override normalizeModel(model: string): string {
    return this.#vertex.normalizeModel(model);
  }
}

describe("several providers", () => {
  it("serve one run, each its prompts, in lanes of their own", async () => {
    const { kit, gemini, vertex } = pairKit();
    const chain = kit.gembatch.chain("both", async ({ models }, text: string) => {
      const first = await Promise.all([
        models.generateContent(ask(text)),
        models.generateContent(ask(text), { provider: "vertex" }),
        models.generateContent(ask(`more ${text}`), { provider: "gemini" }),
      ]);
      const last = await models.generateContent(ask("last"), { provider: "vertex" });
      return [...first, last].map((response) => response.text);
    });
    const run = await chain.start("x", { id: "r" });
    await kit.run();
    expect(await run.result()).toEqual(["gemini: x", "vertex: x", "gemini: more x", "vertex: last"]);
    expect([prompts(gemini), prompts(vertex)]).toEqual([[["x", "more x"]], [["x"], ["last"]]]);
    expect((await kit.gembatch.lanes.list()).map(({ lane, answers }) => [laneName(lane), answers])).toEqual([
      ["gemini/gemini-2.5-flash:generateContent", 2],
      ["vertex/gemini-2.5-flash:generateContent", 2],
    ]);
    const { items } = await kit.gembatch.batches.list({ lane: { provider: "vertex", model, method: "generateContent" } });
    expect(items.map(({ state, requestCount }) => [state, requestCount])).toEqual([
      ["completed", 1],
      ["completed", 1],
    ]);
    const requests = (await kit.gembatch.requests.list({ run: "r" })).items.map(({ lane }) => lane.provider);
    expect(requests.toSorted()).toEqual(["gemini", "gemini", "vertex", "vertex"]);
    const costs = await kit.gembatch.costs({ by: "provider" });
    expect(costs.map((line) => [line.provider, line.answers, line.usd > 0])).toEqual([
      ["gemini", 2, true],
      ["vertex", 2, true],
    ]);
    await kit.gembatch.close();
  });

  it("are chosen by a prompt, else by its chain or handler, else it is the first", async () => {
    const { kit, vertex } = pairKit();
    const { gembatch } = kit;
    const own = gembatch.chain("own", async ({ models }) => (await models.generateContent(ask("a"))).text, { provider: "vertex" });
    const other = gembatch.chain("other", async ({ models }) => (await models.generateContent(ask("b"), { provider: "gemini" })).text, {
      provider: "vertex",
    });
    const keep = gembatch.handler("keep", (response) => response.text, { provider: "vertex" });
    const plain = gembatch.handler("plain", (response) => response.text);
    const runs = [await own.start(undefined), await other.start(undefined)];
    const ids = [
      await gembatch.submit(request("c"), model, keep),
      await gembatch.submit(request("d"), model, keep, undefined, { provider: "gemini" }),
      await gembatch.submit(request("e"), model, plain),
      await gembatch.submit(request("f"), model, plain, undefined, { provider: "vertex" }),
    ];
    await kit.run();
    const results = await Promise.all([...runs, ...ids.map((id) => gembatch.run(id))].map(async (run) => run.result()));
    expect(results).toEqual(["vertex: a", "gemini: b", "vertex: c", "gemini: d", "gemini: e", "vertex: f"]);
    expect(prompts(vertex).flat()).toEqual(["a", "c", "f"]);
    await gembatch.close();
  });

  it("are chosen by header and URL for other SDKs", async () => {
    const { kit } = pairKit();
    const hosts = "https://generativelanguage.googleapis.com/v1beta/models";
    const vertexUrl = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models";
    const chain = kit.gembatch.chain("fetch", async ({ fetch }) => {
      const call = async (url: string, text: string, headers: Record<string, string> = {}) => {
        const response = await fetch(`${url}/${model}:generateContent`, { method: "POST", headers, body: JSON.stringify(request(text)) });
        const body = (await response.json()) as { candidates?: { content: { parts: { text: string }[] } }[]; error?: { message: string } };
        return body.candidates?.[0]?.content.parts[0]?.text ?? body.error?.message;
      };
      return Promise.all([
        call(hosts, "a"),
        call(vertexUrl, "b"),
        call(hosts, "c", { "x-gembatch-provider": "vertex" }),
        call(vertexUrl, "d", { "x-gembatch-provider": "acme" }),
      ]);
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual([
      "gemini: a",
      "vertex: b",
      "vertex: c",
      expect.stringMatching(/"acme", which is not configured here.*Configured: gemini, vertex\./),
    ]);
    await kit.gembatch.close();
  });

  it("have quotas of their own", async () => {
    const { kit, gemini, vertex } = pairKit({ gemini: { limits: { maxJobs: 1 } }, vertex: { limits: { maxJobs: 1 } } });
    const chain = kit.gembatch.chain(
      "quota",
      async ({ models }, to: string) =>
        (await models.generateContent({ model: to.split("/")[1]!, contents: to }, { provider: to.split("/")[0]! })).text,
    );
    const inputs = ["gemini/gemini-2.5-flash", "gemini/gemini-2.5-pro", "vertex/gemini-2.5-flash", "vertex/gemini-2.5-pro"];
    for (const input of inputs) await chain.start(input);
    await kit.advance("30s");
    expect([gemini.jobs.length, vertex.jobs.length]).toEqual([1, 1]);
    await kit.run();
    expect([gemini.jobs.length, vertex.jobs.length]).toEqual([2, 2]);
    await kit.gembatch.close();
  });

  it("are all looked at when a webhook came", async () => {
    const hastened: string[][] = [];
    class WatchedStore extends SqliteStore {
      override hastenBatches(params: { now: number; providers: string[] }): Promise<number> {
        hastened.push(params.providers);
        return super.hastenBatches(params);
      }
    }
    const { kit } = pairKit({ store: new WatchedStore({ path: ":memory:" }) });
    const secret = `whsec_${Buffer.from("a secret of the project").toString("base64")}`;
    const [id, timestamp, body] = ["msg_1", String(Math.floor(kit.clock.now() / 1_000)), '{"type":"batch.succeeded","data":{"id":"b"}}'];
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
    const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
    const hook = new Request("http://localhost/hook", { method: "POST", headers, body });
    expect((await kit.gembatch.webhook({ secret, jwks: false })(hook)).status).toBe(200);
    expect(hastened).toEqual([["gemini", "vertex"]]);
    await kit.gembatch.close();
  });

  it("ask again what they failed to answer, each its own", async () => {
    let failed = 0;
    const shaky: SteerableProviderOptions["answer"] = (prompt, { key }) =>
      key.endsWith(".1") && (failed += 1) > 0 ? { error: { code: 14, message: "busy" } } : `vertex: ${prompt}`;
    const { kit, gemini, vertex } = pairKit({ vertex: { answer: shaky } });
    const chain = kit.gembatch.chain("retry", async ({ models }) => (await models.generateContent(ask("x"), { provider: "vertex" })).text);
    const run = await chain.start(undefined);
    await kit.run();
    expect([await run.result(), failed, prompts(vertex), gemini.jobs.length]).toEqual(["vertex: x", 1, [["x"], ["x"]], 0]);
    await kit.gembatch.close();
  });

  it("ask for a repair where the answer came from", async () => {
    const told: string[] = [];
    const answering =
      (name: string): SteerableProviderOptions["answer"] =>
      (_prompt, { body }) => {
        told.push(name);
        return body.includes("not ok") ? '{"ok":true}' : "{}";
      };
    const { kit } = pairKit({ gemini: { answer: answering("gemini") }, vertex: { answer: answering("vertex") } });
    const chain = kit.gembatch.chain("typed", async ({ models }) => {
      const { output } = await models.generateContent(ask("x"), { schema: okSchema, provider: "vertex" });
      return output;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect([await run.result(), told]).toEqual([{ ok: true }, ["vertex", "vertex"]]);
    await kit.gembatch.close();
  });

  it("ask for the repair of a submitted prompt there, too", async () => {
    const told: string[] = [];
    const answering =
      (name: string): SteerableProviderOptions["answer"] =>
      (_prompt, { body }) => {
        told.push(name);
        return body.includes("not ok") ? '{"ok":true}' : "{}";
      };
    const { kit } = pairKit({ gemini: { answer: answering("gemini") }, vertex: { answer: answering("vertex") } });
    const keep = kit.gembatch.handler("keep", (response) => response.output, { schema: okSchema });
    const id = await kit.gembatch.submit(request("x"), model, keep, undefined, { provider: "vertex" });
    await kit.run();
    expect([await kit.gembatch.run(id).result(), told]).toEqual([{ ok: true }, ["vertex", "vertex"]]);
    await kit.gembatch.close();
  });

  it("embed in jobs, whatever call their SDK would make for it", async () => {
    const clock = new ManualClock();
    const kit = createTestKit({ clock, provider: [provider(clock, "gemini"), new Vertex(clock)] });
    const embedding = "gemini-embedding-001";
    const chain = kit.gembatch.chain("embed", async ({ models }, texts: string[]) => {
      const { embeddings } = await models.embedContent({ model: embedding, contents: texts }, { provider: "vertex" });
      return embeddings?.map(({ values }) => values);
    });
    const keep = kit.gembatch.handler<undefined, EmbedContentResponse>("keep", (response) => response.embeddings?.[0]?.values);
    const run = await chain.start(["a", "bc"]);
    const id = await kit.gembatch.submit({ content: { parts: [{ text: "def" }] } }, embedding, keep, undefined, { provider: "vertex" });
    await kit.run();
    expect([await run.result(), await kit.gembatch.run(id).result()]).toEqual([[[1], [2]], [3]]);
    await kit.gembatch.close();
  });

  it("survive kills", { timeout: 60_000 }, async () => {
    const figures = await crashEverywhere(
      (gembatch) => {
        const output = gembatch.handler("output", (response) => response.text, { provider: "other" });
        return gembatch.chain("both", async ({ models }, text: string) => {
          const [one, two] = await Promise.all([
            models.generateContent(ask(text)),
            models.generateContent(ask(text), { provider: "other" }),
          ]);
          await gembatch.submit(request(`after ${one.text} and ${two.text}`), model, output);
          return [one.text, two.text];
        });
      },
      "doc",
      { every: everyNth(3), providers: ["gemini", "other"], answer: (prompt, _row, lane) => `${lane.provider}: ${prompt}` },
    );
    expect(figures).toMatchObject({ runs: 2, prompts: 3, jobs: 3, crashes: 2 * Math.ceil(figures.calls / everyNth(3)) });
  });

  it("tell equal prompts apart by the provider that they name, whichever comes first at a replay", async () => {
    const { kit } = pairKit({ worker: { parkedBytes: 0 }, vertex: { turnaroundMs: 10_000 } });
    const chain = kit.gembatch.chain("apart", async ({ models, sleep }) => {
      const branch = async (name: string) => {
        // The slower provider's branch comes second in the first turn, and first in later ones.
        if (name === "gemini") await sleep("1s");
        const answer = (await models.generateContent(ask("same"), { provider: name })).text;
        await sleep("1h");
        return answer;
      };
      return Promise.all([branch("vertex"), branch("gemini")]);
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual(["vertex: same", "gemini: same"]);
    await kit.gembatch.close();
  });
});

describe("another default provider", () => {
  /** A run that asks, sleeps for a day, and asks again; `before` and `after` are the providers of two programs on one store. */
  async function change(
    before: (clock: ManualClock) => readonly [SteerableProvider, ...SteerableProvider[]],
    after: (clock: ManualClock) => readonly [SteerableProvider, ...SteerableProvider[]],
    asked: "answered" | "in a job",
    onChange: "fail" | "reuse" = "fail",
  ) {
    const clock = new ManualClock();
    const store = new SqliteStore({ path: ":memory:" });
    // The store outlives the first program.
    const close = store.close.bind(store);
    store.close = async () => {};
    const define = (gembatch: Gembatch) =>
      gembatch.chain("wait", async ({ models, sleep }, text: string) => {
        const named = models.generateContent(ask(`${text} by key`), { key: "first", onChange });
        const one = await models.generateContent(ask(`${text} one`));
        const key = (await named).text;
        await sleep("1d");
        return [key, one.text, (await models.generateContent(ask(`${text} two`))).text];
      });
    const first = before(clock);
    const second = after(clock);
    {
      await using kit = createTestKit({ store, clock, provider: first });
      await define(kit.gembatch).start("x", { id: "r" });
      await kit.advance(asked === "answered" ? "1h" : "10s");
    }
    await using kit = createTestKit({ store, clock, provider: second });
    const run = define(kit.gembatch).run("r");
    await kit.run();
    const record = (await kit.gembatch.runs.get("r"))!;
    const output = record.state === "completed" ? ((await run.result()) as string[]) : [];
    await close();
    return { record, answeredBy: output.map((text) => text.split(":")[0]), first, second };
  }

  it("does not ask again what runs have an answer to", async () => {
    const { record, answeredBy, first, second } = await change(
      (clock) => [provider(clock, "gemini")],
      (clock) => [provider(clock, "vertex")],
      "answered",
    );
    expect([record.state, record.notes, answeredBy]).toEqual(["completed", [], ["gemini", "gemini", "vertex"]]);
    expect([prompts(first[0])[0]?.length, prompts(second[0])[0]?.length]).toEqual([2, 1]);
  });

  it("is another SDK of Google's, and the answers are found all the same", async () => {
    const clock = new ManualClock();
    const store = new SqliteStore({ path: ":memory:" });
    const close = store.close.bind(store);
    store.close = async () => {};
    const providers = [provider(clock, "gemini"), new Vertex(clock)] as const;
    for (const each of providers) {
      await using kit = createTestKit({ store, clock, provider: each });
      const chain = kit.gembatch.chain("rich", async ({ models, sleep }) => {
        const config = {
          systemInstruction: "Be brief.",
          temperature: 0.5,
          maxOutputTokens: 100,
          responseMimeType: "application/json",
          responseSchema: { type: Type.OBJECT, properties: { title: { type: Type.STRING } }, required: ["title"] },
          safetySettings: [{ category: HarmCategory.HARM_CATEGORY_HARASSMENT, threshold: HarmBlockThreshold.BLOCK_NONE }],
        };
        const tools = [
          { functionDeclarations: [{ name: "lookUp", parameters: { type: Type.OBJECT, properties: { q: { type: Type.STRING } } } }] },
        ];
        const image = { inlineData: { mimeType: "image/png", data: "AAAA" } };
        await Promise.all([
          models.generateContent({ ...ask("typed"), config }),
          models.generateContent({ ...ask("tools"), config: { tools, thinkingConfig: { thinkingBudget: 5 } } }),
          models.generateContent({ model: `models/${model}`, contents: [{ role: "user", parts: [image, { text: "media" }] }] }),
          models.embedContent({ model: "gemini-embedding-001", contents: ["one", "two"], config: { outputDimensionality: 8 } }),
        ]);
        await sleep("1d");
      });
      if (each.name === "gemini") {
        await chain.start(undefined, { id: "r" });
        await kit.advance("1h");
      } else await kit.run();
    }
    expect(providers[0].jobs.map(({ rows }) => rows.length).toSorted((a, b) => a - b)).toEqual([2, 3]);
    expect(prompts(providers[1])).toEqual([]);
    await using kit = createTestKit({ store, clock });
    expect(await kit.gembatch.runs.get("r")).toMatchObject({ state: "completed", notes: [] });
    await close();
  });

  it("takes the answers of jobs under way, if the other one stays in the list", async () => {
    let old: SteerableProvider | undefined;
    const { record, answeredBy } = await change(
      (clock) => [(old = provider(clock, "gemini"))],
      (clock) => [provider(clock, "vertex"), old!],
      "in a job",
    );
    expect([record.state, answeredBy, old!.jobs.length]).toEqual(["completed", ["gemini", "gemini", "vertex"], 1]);
  });

  it("counts as a deploy where its SDK words a prompt in another way: that one is asked anew", async () => {
    /** Sends one field more than the official SDK of the other provider. */
    class Wordy extends SteerableProvider {
      override createModels(fetch: typeof globalThis.fetch): ReturnType<SteerableProvider["createModels"]> {
        return super.createModels(async (input, init) =>
          fetch(input, { ...init, body: JSON.stringify({ ...(JSON.parse(init?.body as string) as object), labels: { wordy: "yes" } }) }),
        );
      }
    }
    const { record, answeredBy } = await change(
      (clock) => [provider(clock, "gemini")],
      (clock) => [new Wordy({ clock, name: "vertex", answer: (prompt) => `vertex: ${prompt}` })],
      "answered",
      "reuse",
    );
    expect([record.state, answeredBy]).toEqual(["completed", ["gemini", "vertex", "vertex"]]);
    expect(record.notes.slice(0, 2)).toEqual([
      expect.stringMatching(/"k:first" was edited; the answer .* is kept/),
      expect.stringMatching(/^New code of "wait"/),
    ]);
  });
});

describe("what a provider says of a request before it is queued", () => {
  const shapes: ProviderParts = {
    checkRequest: (_call, body) => {
      const text = JSON.stringify(body);
      if (text.includes("never")) throw new GembatchError("request_refused", "Its jobs cannot take this.");
      return text.includes("image") ? { shape: "img" } : {};
    },
  };

  it("keeps prompts of different shapes in different jobs", async () => {
    const { kit, gemini } = pairKit({ gemini: shapes });
    const chain = kit.gembatch.chain("shapes", async ({ models }, text: string) => (await models.generateContent(ask(text))).text);
    for (const text of ["a", "image b", "c", "image d"]) await chain.start(text);
    await kit.run();
    expect(new Set(prompts(gemini).map((rows) => rows.join()))).toEqual(new Set(["a,c", "image b,image d"]));
    expect(new Set(gemini.jobs.map(({ lane }) => lane.shape))).toEqual(new Set(["img", undefined]));
    expect((await kit.gembatch.lanes.list()).map(({ lane }) => laneName(lane)).toSorted()).toEqual([
      "gemini/gemini-2.5-flash:generateContent",
      "gemini/gemini-2.5-flash:generateContent+img",
    ]);
    await kit.gembatch.close();
  });

  it("lets prompts of different shapes share the limit of direct calls, and travel apart once they were shed", async () => {
    const answer: SteerableProviderOptions["answer"] = (prompt, { key }) => (key === "" ? { error: { code: 8, message: "busy" } } : prompt);
    const { kit, gemini } = pairKit({ gemini: { ...shapes, answer, callMs: 60_000 }, tiers: { flex: { concurrency: 1 } } });
    const chain = kit.gembatch.chain("flex", async ({ models }, text: string) => (await models.generateContent(ask(text))).text, {
      tier: "flex",
    });
    for (const text of ["a", "image b"]) await chain.start(text);
    await kit.advance("50s");
    expect(gemini.directCalls).toHaveLength(1);
    await kit.run();
    expect(new Set(prompts(gemini).map((rows) => rows.join()))).toEqual(new Set(["a", "image b"]));
    expect(new Set(gemini.jobs.map(({ lane }) => lane.shape))).toEqual(new Set(["img", undefined]));
    await kit.gembatch.close();
  });

  it("reaches whoever asked, and nothing is queued", async () => {
    const { kit, gemini } = pairKit({ gemini: shapes });
    const chain = kit.gembatch.chain("refused", async ({ models }, text: string) => (await models.generateContent(ask(text))).text);
    const run = await chain.start("never");
    const output = kit.gembatch.handler("output", (response) => response.text);
    await expect(kit.gembatch.submit(request("never"), model, output)).rejects.toMatchObject({ code: "request_refused" });
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ message: expect.stringContaining("Its jobs cannot take this.") as string });
    expect([gemini.jobs.length, (await kit.gembatch.requests.list()).items]).toEqual([0, []]);
    await kit.gembatch.close();
  });

  it("is asked once a prompt, with the tier that it goes to", async () => {
    const asked: unknown[] = [];
    const parts: ProviderParts = {
      checkRequest: ({ tier }, body) => {
        asked.push([promptText(JSON.stringify(body)), tier]);
        return {};
      },
    };
    const { kit } = pairKit({ gemini: parts, worker: { parkedBytes: 0 } });
    const chain = kit.gembatch.chain("once", async ({ models }) => {
      await models.generateContent(ask("a"));
      await models.generateContent(ask("b"), { key: "b" });
      await models.generateContent(ask("c"), { tier: "standard" });
    });
    await chain.start(undefined);
    await kit.run();
    expect(asked).toEqual([
      ["a", undefined],
      ["b", undefined],
      ["c", "standard"],
    ]);
    await kit.gembatch.close();
  });
});

describe("the option provider", () => {
  const clock = new ManualClock();
  const refusal = (create: () => unknown): string => {
    try {
      create();
    } catch (error) {
      expect(error).toMatchObject({ code: "invalid_option" });
      return (error as Error).message;
    }
    return "";
  };
  const gembatch = (...providers: (string | SteerableProvider)[]) => new Gembatch({ store: "sqlite::memory:", provider: providers });

  it("names each provider once, and at least one", () => {
    expect(refusal(() => gembatch(provider(clock, "a"), provider(clock, "a")))).toMatch(/two providers with the name "a"/);
    expect(refusal(() => gembatch("gemini", provider(clock, "gemini")))).toMatch(/two providers with the name "gemini"/);
    expect(refusal(() => gembatch())).toMatch(/empty list/);
    expect(refusal(() => gembatch("gemini", "acme"))).toMatch(/no provider that gembatch knows: "acme"/);
  });

  it("may come as a list from the environment", () => {
    expect(connectProviders(undefined, {}).names).toEqual(["gemini"]);
    expect(connectProviders(undefined, { GEMBATCH_PROVIDER: " gemini " }).names).toEqual(["gemini"]);
    expect(refusal(() => connectProviders(undefined, { GEMBATCH_PROVIDER: "gemini, acme" }))).toMatch(/"acme"/);
    expect(refusal(() => connectProviders(undefined, { GEMBATCH_PROVIDER: "gemini,gemini" }))).toMatch(/two providers/);
  });

  it("is what chains, handlers and prompts choose from", async () => {
    await using both = gembatch(provider(clock, "a"), provider(clock, "b"));
    const handler = both.handler("h", () => undefined, { provider: "b" });
    expect(refusal(() => both.chain("c", () => undefined, { provider: "x" }))).toMatch(
      /"x", which is not configured here.*Configured: a, b\./,
    );
    expect(refusal(() => both.chain("c", () => undefined, { provider: "" }))).toMatch(/must be the name of a provider/);
    await expect(both.submit(request("q"), model, handler, undefined, { provider: "x" })).rejects.toThrow(/Configured: a, b\./);
  });
});
