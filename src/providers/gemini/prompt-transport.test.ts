import { ApiError, type Models } from "@google/genai";
import { describe, expect, it } from "vitest";
import { resolveOptions } from "./options.ts";
import { createModels, openSdk } from "./sdk.ts";

const settings = resolveOptions({ apiKey: "k", baseUrl: "https://host.example/base" });
const answer = {
  candidates: [{ content: { role: "model", parts: [{ text: "hi", thoughtSignature: "s" }] }, finishReason: "STOP" }],
  usageMetadata: { promptTokenCount: 3 },
};

/** The same call on our transport and on the SDK's own; what was sent and what came back. */
async function both(call: (models: Models) => Promise<unknown>, response: () => Response) {
  const results = [];
  for (const open of [createModels, (...[own, fetch]: Parameters<typeof createModels>) => openSdk(own, fetch, "k").models]) {
    const sent: unknown[] = [];
    const fetch: typeof globalThis.fetch = async (url, init) => {
      sent.push([String(url), init?.method, init?.body, new Headers(init?.headers).get("x-gembatch-key")]);
      return response();
    };
    const result = await call(open(settings, fetch)).catch((error: unknown) => error);
    results.push({ sent, result });
  }
  return results as [{ sent: unknown[]; result: unknown }, { sent: unknown[]; result: unknown }];
}

const ok = (body: unknown) => () => new Response(JSON.stringify(body), { headers: { "content-type": "application/json" } });

describe("prompts on the short transport", () => {
  it.each<[string, (models: Models) => Promise<unknown>, () => Response]>([
    [
      "generateContent",
      async (models) => models.generateContent({ model: "gemini-2.5-flash", contents: "x", config: { temperature: 0 } }),
      ok(answer),
    ],
    [
      "headers of the call",
      async (models) =>
        models.generateContent({
          model: "gemini-2.5-flash",
          contents: "x",
          config: { httpOptions: { headers: { "x-gembatch-key": "a" } } },
        }),
      ok(answer),
    ],
    [
      "another option of the transport",
      async (models) => models.generateContent({ model: "m", contents: "x", config: { httpOptions: { timeout: 5_000 } } }),
      ok(answer),
    ],
    [
      "embedContent",
      async (models) => models.embedContent({ model: "gemini-embedding-001", contents: ["a", "b"] }),
      ok({ embeddings: [{ values: [1] }, { values: [2] }] }),
    ],
    ["countTokens", async (models) => models.countTokens({ model: "gemini-2.5-flash", contents: "x" }), ok({ totalTokens: 3 })],
    [
      "an error",
      async (models) => models.generateContent({ model: "m", contents: "x" }),
      () => new Response('{"error":{"code":400,"message":"no"}}', { status: 400 }),
    ],
  ])("send and give what the SDK's own transport does: %s", async (_name, call, response) => {
    const [ours, official] = await both(call, response);
    expect(ours.sent).toEqual(official.sent);
    expect(ours.result?.constructor).toBe(official.result?.constructor);
    if (official.result instanceof ApiError) expect(ours.result).toMatchObject({ status: official.result.status });
    else expect(ours.result).toEqual(official.result);
  });
});
