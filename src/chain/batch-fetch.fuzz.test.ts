import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GembatchError } from "../core/errors.ts";
import { laneName } from "../core/keys.ts";
import { defaultPrices } from "../core/pricing.ts";
import type { ClaimedRun, NewEntry } from "../core/store.ts";
import { tierChoices } from "../core/tiers.ts";
import { gemini } from "../providers/gemini/provider.ts";
import { vertex } from "../providers/vertex/provider.ts";
import { createBatchFetch } from "./batch-fetch.ts";
import { checkCallOptions, fromHeaders, toHeaders } from "./call-options.ts";
import type { CallOptions } from "./context.ts";
import { Registry } from "./definition.ts";
import { parsePromptUrl } from "./prompt-url.ts";
import { Providers } from "./providers.ts";
import { Turn } from "./turn.ts";

const settings = { seed: 20_260_903, numRuns: 200 };
const plainUrl = "https://host/v1beta/models/gemini-2.5-flash:generateContent";
const provider = gemini({ apiKey: "k", limits: { maxRequestBytes: 2_000 } });
const onVertex = vertex({ project: "p", bucket: "bucket" });

// One turn of a chain that makes these calls ----------------------------------------------------------------------------------

type Fetch = typeof globalThis.fetch;
type Call = [input: Parameters<Fetch>[0], init?: RequestInit];
type Outcome =
  | { type: "waits" }
  | { type: "passed"; call: unknown[] }
  | { type: "answered"; status: number }
  | { type: "threw"; error: unknown };

/** What became of each call, and the requests that the turn would commit. */
async function callAll(
  calls: readonly Call[],
  failures: "throw" | "respond" = "throw",
  to = provider,
): Promise<{ outcomes: Outcome[]; requests: NewEntry[] }> {
  const run: ClaimedRun = {
    ...{ id: "r1", kind: "chain", chain: "c", version: "", code: "", input: "null", epoch: 1, seq: 0, attempts: 0, priority: 0 },
    ...{ deadlineAt: undefined, usd: 0, reservedUsd: 0, createdAt: 0 },
  };
  const definition = new Registry(new Providers([to])).add("chain", "c", async () => undefined);
  const host = {
    now: () => 0,
    maxEntries: 1_000,
    commit: async () => {
      throw new Error("There is no step in it.");
    },
    touch() {},
    late() {},
  };
  const turn = new Turn(run, definition, [], host);
  const passed: unknown[][] = [];
  const passThrough: Fetch = async (...call) => {
    passed.push(call);
    return new Response("passed", { status: 299 });
  };
  const fetch = createBatchFetch({
    turn,
    providerFor: () => to,
    defaults: { maxAttempts: 4, tier: "batch", prices: defaultPrices },
    failures,
    passThrough,
  });
  const outcomes: Outcome[] = calls.map(() => ({ type: "waits" }));
  turn.start(async () => {
    const all = calls.map(async (call, index) => {
      try {
        const { status } = await fetch(...call);
        outcomes[index] =
          status === 299 ? { type: "passed", call: passed.find(([input]) => input === call[0]) ?? [] } : { type: "answered", status };
      } catch (error) {
        outcomes[index] = { type: "threw", error };
      }
    });
    await Promise.all(all);
    return new Promise(() => {});
  });
  for (let round = 0; round < 4; round += 1) await new Promise(setImmediate);
  return { outcomes, requests: turn.finish().entries.filter(({ kind }) => kind === "request") };
}

// Calls ------------------------------------------------------------------------------------------------------------------------

const model = fc.constantFrom("gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001");
const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);

/** URLs that mean the same call of the Gemini API. */
const geminiUrl = (name: string, method: string): fc.Arbitrary<string> =>
  fc
    .record({
      origin: fc.constantFrom(
        "https://generativelanguage.googleapis.com",
        "http://127.0.0.1:8787",
        "HTTPS://Proxy.example:443",
        "http://user:secret@host",
      ),
      prefix: fc.array(fc.oneof(word, fc.constantFrom("endpoints", "projects", "models", "my%20proxy", "%FF")), {
        maxLength: 2,
      }),
      version: fc.constantFrom("v1beta/", "v1/", "v1alpha/", "v1beta1/", ""),
      colon: fc.constantFrom(":", "%3A", "%3a"),
      query: fc.constantFrom("", "?key=secret", "?alt=json&$httpMethod=POST", "#part", "?x=:countTokens"),
      escape: fc.boolean(),
    })
    .map(({ origin, prefix, version, colon, query, escape }) => {
      const written = escape ? name.replace("-", "%2D").replace("g", "%67") : name;
      return `${origin}/${prefix.map((part) => `${part}/`).join("")}${version}models/${written}${colon}${method}${query}`;
    });

/** JSON texts of the same value: other orders of keys, other spaces, escapes. */
function textsOf(value: unknown): fc.Arbitrary<string> {
  return fc
    .record({ reversed: fc.boolean(), indent: fc.constantFrom(undefined, 1, "\t"), escaped: fc.boolean() })
    .map(({ reversed, indent, escaped }) => {
      const text = JSON.stringify(reversed ? reverseKeys(value) : value, undefined, indent);
      return escaped ? text.replaceAll(/[\u007f-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`) : text;
    });
}

function reverseKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reverseKeys);
  if (typeof value !== "object" || value === null) return value;
  const reversed = Object.entries(value)
    .toReversed()
    .map(([key, item]) => [key, reverseKeys(item)] as const);
  return Object.fromEntries(reversed);
}

/** Texts that `encodeURIComponent` never gives. */
const notEncoded = ["%", "%ff", "%E0%A4%A"];

/** What a fetch wants to be told with a stream, and the types do not know. */
const halfDuplex: object = { duplex: "half" };

/** The forms in which a body and its URL can be handed to a fetch. */
const formOf: Record<string, (url: string, text: string) => Call> = {
  text: (url, body) => [url, { method: "POST", body }],
  url: (url, body) => [new URL(url), { method: "post", body }],
  foreignUrl: (url, body) => [{ href: url } as URL, { method: "POST", body }],
  bytes: (url, body) => [url, { method: "POST", body: new TextEncoder().encode(body) }],
  blob: (url, body) => [url, { method: "POST", body: new Blob([body]) }],
  stream: (url, body) => [url, { method: "POST", body: new Blob([body]).stream(), ...halfDuplex }],
  request: (url, body) => [new Request(url.replace("user:secret@", ""), { method: "POST", body })],
  foreign: (url, body) => [{ url, method: "POST", headers: new Headers(), text: async () => body } as unknown as Request],
};
const form = fc.constantFrom(...Object.keys(formOf)).map((name) => formOf[name]!);

const json = fc.jsonValue({ maxDepth: 3, stringUnit: "grapheme" });
const body = fc.dictionary(fc.oneof(fc.constantFrom("contents", "generationConfig", "tools", "__proto__", "model"), word), json, {
  maxKeys: 4,
  noNullPrototype: true,
});
const deep = `{"contents":${"[".repeat(20_000)}${"]".repeat(20_000)}}`;

describe("equal prompts", () => {
  it("have the same lane and key, whatever their URL, their order of keys, their spaces and the form of the call", async () => {
    const method = fc.constantFrom("generateContent", "streamGenerateContent", "embedContent");
    const pair = fc.tuple(model, method, body).chain(([name, verb, value]) => {
      const call = fc.tuple(form, geminiUrl(name, verb), textsOf(value)).map(([make, url, text]) => make(url, text));
      return fc.tuple(fc.constant(name), call, call);
    });
    await fc.assert(
      fc.asyncProperty(pair, async ([name, ...calls]) => {
        const found = await Promise.all(calls.map(async (call) => callAll([call])));
        expect(found.map(({ outcomes }) => outcomes)).toEqual([[{ type: "waits" }], [{ type: "waits" }]]);
        const [one, two] = found.map(({ requests }) =>
          requests.map(({ key, request }) => ({ key, lane: request!.lane, body: JSON.parse(request!.body) as unknown })),
        );
        expect(one).toHaveLength(1);
        expect(one).toEqual(two);
        expect(one![0]!.lane.model).toBe(name);
      }),
      settings,
    );
  });

  it("of one turn are told apart by their order; different ones never share a key", async () => {
    const texts = fc.array(fc.constantFrom('{"a":1}', '{ "a": 1 }', '{"a":2}', '{"a":"1"}', '{"a":[1]}', "{}"), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(texts, geminiUrl("gemini-2.5-flash", "generateContent"), async (bodies, url) => {
        const { requests } = await callAll(bodies.map((text) => [url, { method: "POST", body: text }]));
        expect(new Set(requests.map(({ key }) => key)).size).toBe(bodies.length);
        expect(requests.map(({ request }) => request!.body)).toEqual(bodies.map((text) => JSON.stringify(JSON.parse(text))));
        const byBase = Map.groupBy(requests, ({ key }) => key.split("#")[0]);
        for (const same of byBase.values()) expect(new Set(same.map(({ request }) => request!.body)).size).toBe(1);
      }),
      { ...settings, numRuns: 100 },
    );
  });

  it("under names of their own are told apart by the name and their order", async () => {
    const keys = fc.array(fc.constantFrom("a", "b", "a/0", "0", "a#", "ä"), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(keys, async (names) => {
        const found = await callAll(names.map((key) => [plainUrl, { method: "POST", body: "{}", headers: toHeaders({ key }) }]));
        expect(new Set(found.requests.map(({ key }) => key)).size).toBe(names.length);
      }),
      { ...settings, numRuns: 100 },
    );
  });

  it("under names that look like a count are told apart as well", async () => {
    const found = await callAll(["a", "a", "a#1"].map((key) => [plainUrl, { method: "POST", body: "{}", headers: toHeaders({ key }) }]));
    expect(new Set(found.requests.map(({ key }) => key)).size).toBe(3);
  });
});

describe("prompts for models of other publishers", () => {
  const publisher = fc.constantFrom("anthropic", "meta", "openai", "deepseek-ai");
  const prefix = fc.constantFrom("v1/", "v1beta1/projects/p/locations/us-east5/", "proxy/v1/projects/p/locations/global/");
  const messages = fc.array(fc.record({ role: fc.constantFrom("user", "assistant"), content: fc.string({ unit: "grapheme" }) }), {
    minLength: 1,
  });
  /** What the publishers' own SDKs send, with what only gembatch could misread. */
  const raw = fc
    .record(
      {
        messages,
        max_tokens: fc.nat(),
        temperature: fc.double({ noNaN: true, noDefaultInfinity: true }),
        stream: fc.constant(false),
        serviceTier: json,
        tools: json,
      },
      { requiredKeys: ["messages"], noNullPrototype: true },
    )
    .filter((value) => JSON.stringify(value).length < 1_500);

  it("have the same lane and key by their own URL and by that of chat completions, in any form of the call", async () => {
    const pair = fc
      .tuple(publisher, word, raw, prefix, form, form)
      .chain(([by, name, value, path, one, two]) =>
        fc
          .tuple(fc.constant([by, name, value] as const), textsOf(value), textsOf({ ...value, model: `${by}/${name}-maas` }))
          .map(
            ([given, own, chat]) =>
              [
                given,
                one(`https://host/${path}publishers/${by}/models/${name}-maas:rawPredict`, own),
                two(`https://host/${path}endpoints/openapi/chat/completions`, chat),
              ] as const,
          ),
      );
    await fc.assert(
      fc.asyncProperty(pair, async ([[by, name, value], ...calls]) => {
        const found = await Promise.all(calls.map(async (call) => callAll([call], "throw", onVertex)));
        expect(found.map(({ outcomes }) => outcomes)).toEqual([[{ type: "waits" }], [{ type: "waits" }]]);
        const [one, two] = found.map(({ requests }) =>
          requests.map(({ key, request }) => ({ key, lane: request!.lane, body: JSON.parse(request!.body) as unknown })),
        );
        expect(one).toEqual(two);
        const lane = { provider: "vertex", model: `publishers/${by}/models/${name}-maas`, method: "rawPredict" };
        expect(one).toEqual([{ key: one![0]!.key, lane, body: JSON.parse(JSON.stringify(value)) as unknown }]);
      }),
      settings,
    );
  });

  it("pass through, with all that was read, if the model of a chat is Google's or none", async () => {
    const url = "https://host/v1/projects/p/locations/global/endpoints/openapi/chat/completions";
    const texts = fc.oneof(
      fc
        .constantFrom("google/gemini-2.5-flash", "gemini-2.5-flash", "", 5, null, ["meta/x-maas"], "a/b/c", "meta/")
        .map((name) => JSON.stringify({ model: name, messages: [] })),
      fc.constantFrom("", "not JSON", "[]", "null", deep),
    );
    await fc.assert(
      fc.asyncProperty(texts, form, async (text, make) => {
        const [input, init] = make(url, text);
        const { outcomes, requests } = await callAll([[input, init]], "throw", onVertex);
        expect(requests).toEqual([]);
        expect(outcomes).toEqual([{ type: "passed", call: [input, expect.anything()] }]);
        const [outcome] = outcomes as [Outcome & { type: "passed" }];
        const passed = outcome.call[1] as RequestInit;
        expect(await new Response(passed.body).text()).toBe(text);
        if (init?.method !== undefined) expect(passed.method).toBe(init.method);
      }),
      { ...settings, numRuns: 100 },
    );
  });

  it.each<[string, string, object, string]>([
    ["a stream, by its URL", "publishers/anthropic/models/claude:streamRawPredict", { messages: [] }, "request_refused"],
    ["a stream, by its body", "publishers/anthropic/models/claude:rawPredict", { messages: [], stream: true }, "request_refused"],
    ["a stream of a chat", "endpoints/openapi/chat/completions", { model: "meta/x-maas", messages: [], stream: true }, "request_refused"],
    ["contents", "publishers/anthropic/models/claude:rawPredict", { contents: [] }, "request_refused"],
    ["the call of Google's models", "publishers/anthropic/models/claude:generateContent", { contents: [] }, "request_refused"],
    ["embeddings", "publishers/meta/models/x-maas:embedContent", { content: {} }, "request_refused"],
  ])("refuse %s before anything is queued, with a status that no SDK retries", async (_name, path, value, code) => {
    const call: Call = [`https://host/v1/projects/p/locations/global/${path}`, { method: "POST", body: JSON.stringify(value) }];
    const thrown = await callAll([call], "throw", onVertex);
    expect(thrown).toMatchObject({ outcomes: [{ type: "threw", error: { code, hint: expect.any(String) as string } }], requests: [] });
    expect(await callAll([call], "respond", onVertex)).toEqual({ outcomes: [{ type: "answered", status: 400 }], requests: [] });
  });

  it.each(["flex", "standard"] as const)("refuse the tier %s, and take auto as batch", async (tier) => {
    const url = "https://host/v1/publishers/anthropic/models/claude:rawPredict";
    const call = (headers: Record<string, string>): Call => [url, { method: "POST", body: '{"messages":[]}', headers }];
    expect((await callAll([call(toHeaders({ tier }))], "throw", onVertex)).outcomes).toMatchObject([
      { type: "threw", error: { code: "request_refused", message: expect.stringContaining(`at the ${tier} tier`) as string } },
    ]);
    const { requests } = await callAll([call(toHeaders({ tier: "auto" }))], "throw", onVertex);
    expect(requests.map(({ request }) => laneName(request!.lane))).toEqual(["vertex/publishers/anthropic/models/claude:rawPredict"]);
  });

  it("are refused by the Gemini API, by its own call too", async () => {
    for (const url of ["publishers/anthropic/models/claude:rawPredict", "models/x-maas:generateContent"]) {
      const { outcomes, requests } = await callAll([[`https://host/v1/${url}`, { method: "POST", body: "{}" }]]);
      expect(outcomes).toMatchObject([
        { type: "threw", error: { code: "invalid_argument", message: expect.stringContaining("another publisher") as string } },
      ]);
      expect(requests).toEqual([]);
    }
  });
});

describe("a recognised prompt", () => {
  it("of many contents becomes one request for each, or none if any is refused", async () => {
    const item = fc.oneof({ weight: 6, arbitrary: body }, { weight: 1, arbitrary: fc.constantFrom<unknown>(null, 1, "text", []) });
    const list = fc.oneof({ weight: 8, arbitrary: fc.array(item, { maxLength: 5 }) }, { weight: 1, arbitrary: json });
    await fc.assert(
      fc.asyncProperty(list, geminiUrl("gemini-embedding-001", "batchEmbedContents"), fc.option(word), async (requests, url, key) => {
        const headers = toHeaders(key === null ? {} : { key });
        const found = await callAll([[url, { method: "POST", body: JSON.stringify({ requests }), headers }]], "respond");
        const good = Array.isArray(requests) && requests.every((one) => typeof one === "object" && one !== null && !Array.isArray(one));
        expect(found.requests).toHaveLength(good ? requests.length : 0);
        if (good) {
          expect(found.requests.map(({ request }) => JSON.parse(request!.body) as unknown)).toEqual(
            requests.map((one) => JSON.parse(JSON.stringify({ ...(one as object), model: undefined })) as unknown),
          );
          expect(found.outcomes).toEqual([requests.length === 0 ? { type: "answered", status: 200 } : { type: "waits" }]);
        } else expect(found.outcomes).toEqual([{ type: "answered", status: 400 }]);
      }),
      { ...settings, numRuns: 150 },
    );
  });

  it("becomes exactly one request or a GembatchError, whatever its headers and body", async () => {
    const headers = fc.dictionary(
      fc.oneof(
        word,
        fc.string({ maxLength: 5 }),
        fc
          .constantFrom("key", "on-change", "priority", "max-attempts", "tier", "deadline", "cache", "other")
          .map((name) => `x-gembatch-${name}`),
      ),
      fc.oneof(
        fc.string({ maxLength: 8 }),
        fc.string({ unit: "binary", maxLength: 5 }),
        fc.constantFrom(...notEncoded, "redo", "1", "1e9", "batch", "1h", "store; ttl=1d", "x\ny"),
      ),
      { maxKeys: 3, noNullPrototype: true },
    );
    const anyBody = fc.oneof<fc.Arbitrary<() => RequestInit["body"]>[]>(
      body.map((value) => () => JSON.stringify(value)),
      fc.string({ unit: "binary" }).map((text) => () => text),
      fc.uint8Array().map((bytes) => () => new Uint8Array(bytes)),
      json.map((value) => () => JSON.stringify(value)),
      fc.constantFrom<() => RequestInit["body"]>(
        () => null,
        () => deep,
        () => `{"contents":"${"x".repeat(3_000)}"}`,
        () => new URLSearchParams("a=1"),
        () => new FormData(),
        () => new ReadableStream({ pull: (controller) => controller.error(new Error("broken")) }),
        () => new ReadableStream({ pull: (controller) => controller.enqueue("not bytes" as unknown as Uint8Array) }),
        () => {
          const used = new Blob(["{}"]).stream();
          used.getReader();
          return used;
        },
      ),
    );
    const names = fc.oneof(model, fc.constantFrom("..", "a b", "%", "claude", "\ud800", "x".repeat(5_000)));
    await fc.assert(
      fc.asyncProperty(names, headers, anyBody, fc.boolean(), async (name, fields, makeBody, respond) => {
        const url = `https://host/v1beta/models/${name}:generateContent`;
        const init = { method: "POST", headers: fields, body: makeBody(), duplex: "half" } as RequestInit;
        const { outcomes, requests } = await callAll([[url, init]], respond ? "respond" : "throw");
        const [outcome] = outcomes;
        expect(requests).toHaveLength(outcome?.type === "waits" ? 1 : 0);
        if (outcome?.type === "threw") expectKnown(outcome.error);
        else if (outcome?.type === "answered") expect({ respond, ...outcome }).toEqual({ respond: true, type: "answered", status: 400 });
        else expect(outcome?.type === "waits" || name.startsWith("..")).toBe(true);
      }),
      { ...settings, numRuns: 400 },
    );
  });
});

function expectKnown(error: unknown): void {
  if (!GembatchError.is(error)) throw error;
  expect(["invalid_argument", "invalid_option", "request_too_large"]).toContain(error.code);
}

describe("anything else", () => {
  const anyUrl = fc.oneof(
    fc.webUrl({ withFragments: true, withQueryParameters: true }),
    fc.string({ unit: "binary" }),
    fc.constantFrom(
      "models/x:generateContent",
      "/v1/models/x:generateContent",
      "blob:https://x/models/y:generateContent",
      "https://h/v1/models/x:generateContent/",
      "https://h/%E0%A4%A:generateContent",
    ),
    fc.tuple(fc.webUrl(), fc.string()).map(([url, text]) => `${url}/models/${text}Content`),
    fc.tuple(fc.webUrl(), fc.string()).map(([url, text]) => `${url}/publishers/${text}/models/${text}:rawPredict`),
  );

  it("passes through as it was called", async () => {
    const verbs = fc.constantFrom("GET", "PUT", "DELETE", "POST", "post", "PATCH", "x y", undefined);
    await fc.assert(
      fc.asyncProperty(anyUrl, verbs, fc.constantFrom("text", "url", "foreign url", "nothing"), async (text, method, as) => {
        const input = { text, url: URL.parse(text) ?? text, "foreign url": { href: text } as URL, nothing: null as unknown as string }[as];
        fc.pre(method?.toUpperCase() !== "POST" || as === "nothing" || parsePromptUrl(text) === undefined);
        const init = { ...(method === undefined ? {} : { method }), headers: { "x-gembatch-nonsense": "1" } };
        const { outcomes, requests } = await callAll([[input, init]]);
        expect(requests).toEqual([]);
        expect(outcomes).toEqual([{ type: "passed", call: [input, init] }]);
      }),
      settings,
    );
  });

  it("is told from prompts by any URL without a throw", () => {
    fc.assert(
      fc.property(anyUrl, (url) => {
        const target = parsePromptUrl(url);
        if (target) expect(target.model === "").toBe(target.method === "chatCompletions");
        expect(parsePromptUrl(url)).toEqual(target);
      }),
      { ...settings, numRuns: 1_000 },
    );
  });

  it("in a path of any length takes no time", () => {
    for (const part of ["projects/p/", "publishers/", "publishers/a/models/", "endpoints/openapi/", "models/", ":generateContent", "%FF"]) {
      expect(parsePromptUrl(`https://host/${part.repeat(100_000)}x:countTokens`)).toBeUndefined();
      parsePromptUrl(`https://host/${part.repeat(100_000)}x:rawPredict`);
      parsePromptUrl(`https://host/${part.repeat(100_000)}x:generateContent`);
    }
  });
});

describe("call options", () => {
  // One line for each option. A new one that is missing here is noticed below.
  const duration = fc.oneof(
    fc.integer({ min: 0, max: 1e9 }),
    fc.constantFrom("500ms" as const, "2s" as const, "1.5h" as const, "7d" as const),
    fc.double({ min: 0, max: 1e12, noNaN: true }),
  );
  const valid: { [Name in keyof Required<CallOptions>]: fc.Arbitrary<CallOptions[Name]> } = {
    key: fc.oneof(
      fc.string({ unit: "grapheme", minLength: 1 }),
      fc.constantFrom("k", "ключ 🧵", "a,b; c=%41", " spaces ", "#1", "a/b", "%"),
    ),
    onChange: fc.constantFrom("reuse", "redo", "fail"),
    provider: fc.oneof(fc.string({ unit: "grapheme", minLength: 1 }), fc.constantFrom("gemini", "vertex eu", "%", "ключ")),
    priority: fc.integer({ min: -1_000_000, max: 1_000_000 }),
    retry: fc.record({ maxAttempts: fc.integer({ min: 1, max: 1_000 }) }),
    tier: fc.constantFrom(...tierChoices),
    deadline: fc.oneof<fc.Arbitrary<CallOptions["deadline"]>[]>(
      duration,
      fc.date({ min: new Date(0), max: new Date("9999-12-31"), noInvalidDate: true }),
    ),
    cache: fc.oneof<fc.Arbitrary<CallOptions["cache"]>[]>(
      fc.constant({ scope: "run" }),
      fc.constant({ scope: "store" }),
      duration.map((ttl) => ({ scope: "store", ttl })),
    ),
  };
  const options = fc
    .record(valid, { requiredKeys: [] })
    .filter(({ key, onChange }) => onChange === undefined || key !== undefined) as fc.Arbitrary<CallOptions>;

  it("come back from their headers as they were", () => {
    fc.assert(
      fc.property(options, (given) => {
        checkCallOptions(given);
        expect(fromHeaders(new Headers(toHeaders(given)))).toEqual(given);
      }),
      { ...settings, numRuns: 500 },
    );
  });

  it("do not change what a prompt is: lane and content are the same, the key is the given one", async () => {
    await fc.assert(
      fc.asyncProperty(options, async (given) => {
        const plain = await callAll([[plainUrl, { method: "POST", body: "{}" }]]);
        const { requests, outcomes } = await callAll([[plainUrl, { method: "POST", body: "{}", headers: toHeaders(given) }]]);
        expect(outcomes).toEqual([{ type: "waits" }]);
        expect(requests).toHaveLength(1);
        const { lane, body: text, priority } = requests[0]!.request!;
        expect(text).toBe(plain.requests[0]!.request!.body);
        expect(laneName({ ...lane, ...{ tier: undefined } })).toBe(laneName(plain.requests[0]!.request!.lane));
        expect(priority).toBe(given.priority ?? 0);
        if (given.key !== undefined) expect(requests[0]!.key).toMatch(/(?:^|\/)k:/);
        // Prompts that name a provider are told apart from those that do not.
        else if (given.provider !== undefined) expect(requests[0]!.key.split("/").at(-1)).not.toBe(plain.requests[0]!.key);
        else expect(requests[0]!.key.split("/").at(-1)).toBe(plain.requests[0]!.key);
      }),
      { ...settings, numRuns: 150 },
    );
  });

  it.each(notEncoded)("a key that is not percent-encoded, %s, is refused by name", (key) => {
    expect(() => fromHeaders(new Headers({ "x-gembatch-key": key }))).toThrow(expect.objectContaining({ code: "invalid_option" }) as Error);
  });

  it("a key that is no text of whole characters is refused by name", () => {
    expect(() => checkCallOptions({ key: "\ud800" })).toThrow(expect.objectContaining({ code: "invalid_option" }) as Error);
  });

  it("the shortest duration comes back from its header", () => {
    expect(fromHeaders(new Headers(toHeaders({ deadline: 1e-7 })))).toEqual({ deadline: 1e-7 });
  });

  it("of any kind are taken or refused by name", () => {
    const headers = fc.dictionary(
      fc.constantFrom("key", "on-change", "provider", "priority", "max-attempts", "tier", "deadline", "cache"),
      fc.oneof(
        fc.stringMatching(/^[\x21-\x7e]{0,12}$/),
        fc.constantFrom("", ...notEncoded, "NaN", "1e99", "-1", "store; ttl=", "2026-13-01"),
      ),
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(headers, (fields) => {
        const sent = new Headers(Object.entries(fields).map(([name, value]): [string, string] => [`x-gembatch-${name}`, value]));
        let given: CallOptions;
        try {
          given = fromHeaders(sent);
        } catch (error) {
          if (!GembatchError.is(error)) throw error;
          expect(error.code).toBe("invalid_option");
          return;
        }
        checkCallOptions(given);
        expect(fromHeaders(new Headers(toHeaders(given)))).toEqual(given);
      }),
      { ...settings, numRuns: 1_000 },
    );
  });
});
