/** Direct calls over real HTTP, against servers written by hand. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { GoogleGenAI, ServiceTier } from "@google/genai";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type DirectCall, type Lane, ProviderError } from "../../core/provider.ts";
import type { GeminiOptions } from "./options.ts";
import { dispatcherKey } from "../shared/patient-fetch.ts";
import { gemini } from "./provider.ts";

interface Call {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function serve(handler: (call: Call, response: ServerResponse) => void): Promise<{ url: string; calls: Call[] }> {
  const calls: Call[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const call = { method: request.method!, url: request.url!, headers: request.headers, body: Buffer.concat(chunks).toString() };
    calls.push(call);
    handler(call, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

const json = (response: ServerResponse, value: unknown, status = 200, headers = {}): void => {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
};
const lane: Lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" };
const body = '{"contents":[{"parts":[{"text":"hi"}]}]}';
const answer = {
  candidates: [{ content: { parts: [{ text: "x" }] }, finishReason: "STOP" }],
  usageMetadata: { serviceTier: "flex" },
  later: 1,
};
const ask = (url: string, call: Partial<DirectCall> = {}, options: GeminiOptions = {}) =>
  gemini({ apiKey: "the-key", baseUrl: url, ...options }).callNow({
    lane,
    body,
    tier: "flex",
    signal: new AbortController().signal,
    ...call,
  });
const failureOf = async (call: Promise<unknown>): Promise<ProviderError> => {
  const thrown = await call.then(
    () => new Error("did not fail"),
    (error) => error,
  );
  if (!ProviderError.is(thrown)) throw thrown;
  return thrown;
};

describe("a direct call", () => {
  it("puts flex where the SDK does, and gives the answer as it came", async () => {
    const server = await serve((_call, response) => json(response, answer));
    expect(await ask(server.url, {}, { headers: { "x-mine": "1" } })).toEqual(answer);
    const sdk = new GoogleGenAI({ apiKey: "the-key", httpOptions: { baseUrl: server.url, apiVersion: "v1beta" } });
    await sdk.models.generateContent({ model: lane.model, contents: "hi", config: { serviceTier: ServiceTier.FLEX } });
    const [ours, theirs] = server.calls;
    expect(ours).toMatchObject({ method: "POST", url: theirs!.url, headers: { "x-goog-api-key": "the-key", "x-mine": "1" } });
    expect(ours!.headers["content-type"]).toBe("application/json");
    expect(JSON.parse(ours!.body).serviceTier).toBe(JSON.parse(theirs!.body).serviceTier);
  });

  it.each([
    ["flex", body, `{"serviceTier":"flex",${body.slice(1)}`],
    ["standard", body, body],
    ["flex", ' {\n "x":1.0e5,"big":12345678901234567890}', '{"serviceTier":"flex","x":1.0e5,"big":12345678901234567890}'],
    ["flex", "{ }", '{"serviceTier":"flex"}'],
  ] as const)("at %s sends the rest of the body as it is: %s", async (tier, given, sent) => {
    const server = await serve((_call, response) => json(response, answer));
    await ask(server.url, { tier, body: given });
    expect(server.calls.map((call) => call.body)).toEqual([sent]);
  });

  it("embeds at standard, with an answer like a row's; there is no flex for it", async () => {
    const embedding = { embedding: { values: [0.5, 1] } };
    const server = await serve((_call, response) => json(response, embedding));
    const embed: Lane = { ...lane, model: "gemini-embedding-001", method: "embedContent" };
    expect(await ask(server.url, { lane: embed, body: '{"content":{}}', tier: "standard" })).toEqual(embedding);
    expect((await failureOf(ask(server.url, { lane: embed, body: '{"content":{}}' }))).failure).toBe("throttled");
    expect(server.calls.map((call) => call.url)).toEqual(["/v1beta/models/gemini-embedding-001:embedContent"]);
  });

  it("asks the service to be patient with flex, for as long as the user says", async () => {
    const server = await serve((_call, response) => json(response, answer));
    await ask(server.url);
    await ask(server.url, {}, { headers: { "X-Server-Timeout": "1200" } });
    await ask(server.url, { tier: "standard" });
    expect(server.calls.map((call) => call.headers["x-server-timeout"])).toEqual(["900", "1200", undefined]);
  });

  it.each([
    ["The model does not support service_tier flex.", "throttled"],
    ['Invalid JSON payload received. Unknown name "serviceTier": Cannot find field.', "throttled"],
    ["Flex is not available for this model.", "throttled"],
    ["Request contains an invalid argument.", "refused"],
    ['Unknown name "flexible": Cannot find field.', "refused"],
  ])("has its place in a job when there is no flex tier: %s", async (message, failure) => {
    const server = await serve((_call, response) => json(response, { error: { code: 400, status: "INVALID_ARGUMENT", message } }, 400));
    expect((await failureOf(ask(server.url))).failure).toBe(failure);
    expect((await failureOf(ask(server.url, { tier: "standard" }))).failure).toBe("refused");
  });

  it("knows where tuned models are", async () => {
    const server = await serve((_call, response) => json(response, answer));
    await ask(server.url, { lane: { ...lane, model: "tunedModels/mine" } });
    expect(server.calls[0]!.url).toBe("/v1beta/tunedModels/mine:generateContent");
  });

  const info = { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "7s" };
  const answers: [string, (response: ServerResponse) => void, string, number?][] = [
    ["429", (response) => json(response, { error: { code: 429, message: "x", details: [info] } }, 429), "throttled", 7_000],
    [
      "503",
      (response) => json(response, { error: { code: 503, status: "UNAVAILABLE", message: "x" } }, 503, { "retry-after": "3" }),
      "throttled",
      3_000,
    ],
    ["503 of HTML", (response) => void response.writeHead(503).end("<html>"), "throttled"],
    ["400", (response) => json(response, { error: { code: 400, status: "INVALID_ARGUMENT", message: "x" } }, 400), "refused"],
    ["403", (response) => json(response, { error: { code: 403, status: "PERMISSION_DENIED", message: "x" } }, 403), "denied"],
    ["500", (response) => json(response, { error: { code: 500, status: "INTERNAL", message: "x" } }, 500), "ambiguous"],
    ["504 of HTML", (response) => void response.writeHead(504).end("<html>"), "ambiguous"],
    ["200 of HTML", (response) => void response.writeHead(200).end("<html>"), "ambiguous"],
    ["200 with an error", (response) => json(response, { error: { code: 500, message: "x" } }), "ambiguous"],
    ["200 with a list", (response) => json(response, [answer]), "ambiguous"],
    ["200 with null", (response) => json(response, null), "ambiguous"],
    ["closed", (response) => void response.socket!.destroy(), "ambiguous"],
    [
      "cut",
      (response) => void response.writeHead(200, { "content-length": 999 }).write('{"a":', () => response.socket!.destroy()),
      "ambiguous",
    ],
    ["redirect", (response) => void response.writeHead(307, { location: "/elsewhere" }).end(), "unavailable"],
  ];
  it.each(answers)("is sent once, whatever comes back: %s", async (_name, handler, failure, retryAfterMs) => {
    const server = await serve((_call, response) => handler(response));
    for (const tier of ["flex", "standard"] as const) {
      server.calls.length = 0;
      const error = await failureOf(ask(server.url, { tier }));
      expect([error.failure, error.retryAfterMs]).toEqual([failure, retryAfterMs]);
      expect(server.calls).toHaveLength(1);
    }
  });

  it("ends when its signal says so: ambiguous once it was sent, else nothing has happened", async () => {
    const controller = new AbortController();
    const server = await serve(() => controller.abort(new DOMException("x", "TimeoutError")));
    const error = await failureOf(ask(server.url, { signal: controller.signal }));
    expect([error.failure, error.message]).toEqual(["ambiguous", "Could not ask a prompt: no answer in time."]);
    expect((await failureOf(ask(server.url, { signal: controller.signal }))).failure).toBe("unavailable");
    expect(server.calls).toHaveLength(1);
  });

  it("is unavailable when nobody listens, and denied without a key", async () => {
    const server = await serve(() => {});
    await stops.pop()!();
    expect((await failureOf(ask(server.url))).failure).toBe("unavailable");
    expect((await failureOf(ask(server.url, {}, { apiKey: "not a key\u00e4" }))).failure).toBe("denied");
  });

  it("takes the transport that it is given", async () => {
    const fetch: typeof globalThis.fetch = async () => Response.json({ mine: true });
    expect(await ask("http://x.example", {}, { fetch })).toEqual({ mine: true });
  });
});

describe("the patience of a direct call", () => {
  const places = globalThis as unknown as Record<symbol, unknown>;

  it("does not end with that of the transport, whose connections it uses", async () => {
    const waiting: ServerResponse[] = [];
    const server = await serve((_call, response) => void waiting.push(response));
    const usual = places[dispatcherKey] as { constructor: new (options: object) => { close(): Promise<void> } };
    // Gives up after 50 ms (undici looks once a second) instead of the usual 300 s; what was asked before has no such limit.
    const hasty = new usual.constructor({ headersTimeout: 50 });
    places[dispatcherKey] = hasty;
    try {
      const asked = ask(server.url);
      await expect.poll(() => waiting.length, { interval: 5 }).toBe(1);
      await expect(fetch(server.url)).rejects.toMatchObject({ cause: { code: "UND_ERR_HEADERS_TIMEOUT" } });
      json(waiting[0]!, answer);
      expect(await asked).toEqual(answer);
    } finally {
      places[dispatcherKey] = usual;
      await hasty.close();
    }
  });

  it("is that of the plain fetch in a runtime without such a transport", async () => {
    const usual = places[dispatcherKey];
    const seen: unknown[] = [];
    vi.stubGlobal("fetch", async (_url: string, init: object) => (seen.push(Object.hasOwn(init, "dispatcher")), Response.json(answer)));
    try {
      await ask("http://x.example");
      places[dispatcherKey] = undefined;
      await ask("http://x.example");
    } finally {
      places[dispatcherKey] = usual;
      vi.unstubAllGlobals();
    }
    expect(seen).toEqual([true, false]);
  });
});
