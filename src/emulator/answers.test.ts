import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";
import { embedText } from "./embeddings.ts";

type Any = any;
const model = "gemini-2.5-flash";
const ask = (text: string, more: object = {}) => ({ contents: [{ role: "user", parts: [{ text }] }], ...more });

async function setUp(options: EmulatorOptions = {}) {
  const emulator = await startEmulator({ turnaround: 0, ...options });
  const generate = async (request: object, name = model) => {
    const response = await fetch(`${emulator.url}/v1beta/models/${name}:generateContent`, {
      method: "POST",
      body: JSON.stringify(request),
    });
    return (await response.json()) as Any;
  };
  const text = async (request: object, name?: string) => (await generate(request, name)).candidates[0].content.parts[0].text as string;
  /** The items of an inline job with one prompt each. */
  const batch = async (texts: string[]) => {
    const requests = texts.map((prompt, i) => ({ request: ask(prompt), metadata: { key: `k${i}` } }));
    const created = await fetch(`${emulator.url}/v1beta/models/${model}:batchGenerateContent`, {
      method: "POST",
      body: JSON.stringify({ batch: { displayName: "b", inputConfig: { requests: { requests } } } }),
    });
    const { name } = (await created.json()) as Any;
    await emulator.idle();
    return ((await (await fetch(`${emulator.url}/v1beta/${name}`)).json()) as Any).response.inlinedResponses.inlinedResponses as Any[];
  };
  return { emulator, generate, text, batch, [Symbol.asyncDispose]: () => emulator.close() };
}

describe("built-in answers", () => {
  it("follow from seed, model and request, whatever the order of fields", async () => {
    await using a = await setUp({ seed: 1 });
    await using b = await setUp({ seed: 2 });
    const request = ask("Why is the sky blue?", { generationConfig: { temperature: 0, topK: 1 } });
    const reordered = { generationConfig: { topK: 1, temperature: 0 }, contents: request.contents };
    const first = await a.text(request);
    expect(first).toContain("Why is the sky blue?");
    expect(await a.text(reordered)).toBe(first);
    expect(await a.text({ ...request, model: `models/${model}` })).toBe(first);
    const others = [await b.text(request), await a.text(request, "gemini-2.5-pro"), await a.text(ask("Why is the sea blue?"))];
    expect(new Set([first, ...others]).size).toBeGreaterThanOrEqual(3);
    expect((await a.batch(["same", "same"])).map((item) => item.response.candidates[0].content.parts[0].text)).toEqual([
      await a.text(ask("same")),
      await a.text(ask("same")),
    ]);
  });

  it("are cut at maxOutputTokens", async () => {
    await using t = await setUp();
    const { candidates, usageMetadata } = await t.generate(ask("hello", { generationConfig: { maxOutputTokens: 3 } }));
    expect(candidates[0]).toMatchObject({ finishReason: "MAX_TOKENS", content: { parts: [{ text: expect.stringMatching(/^.{12}$/) }] } });
    expect(usageMetadata.candidatesTokenCount).toBe(3);
  });

  it.each([
    [
      "responseSchema",
      { responseMimeType: "application/json", responseSchema: { type: "OBJECT", properties: { n: { type: "INTEGER" } }, required: ["n"] } },
    ],
    [
      "responseJsonSchema",
      {
        responseMimeType: "application/json",
        responseJsonSchema: { type: "object", properties: { n: { type: "integer" } }, required: ["n"] },
      },
    ],
    [
      "responseFormat",
      {
        responseFormat: [
          { text: { mimeType: "application/json", schema: { type: "object", properties: { n: { type: "integer" } }, required: ["n"] } } },
        ],
      },
    ],
  ])("are JSON for %s", async (_, generationConfig) => {
    await using t = await setUp();
    expect(JSON.parse(await t.text(ask("x", { generationConfig })))).toEqual({ n: expect.any(Number) });
  });

  it("are one of the values for text/x.enum", async () => {
    await using t = await setUp();
    const generationConfig = { responseMimeType: "text/x.enum", responseSchema: { type: "STRING", enum: ["yes", "no"] } };
    expect(["yes", "no"]).toContain(await t.text(ask("x", { generationConfig })));
  });

  it("call a function when they must", async () => {
    await using t = await setUp();
    const tools = [
      {
        functionDeclarations: ["one", "two"].map((name) => ({
          name,
          parameters: { type: "OBJECT", properties: { city: { type: "STRING" } }, required: ["city"] },
        })),
      },
    ];
    const toolConfig = { functionCallingConfig: { mode: "ANY", allowedFunctionNames: ["two"] } };
    const { candidates } = await t.generate(ask("Weather in Rome?", { tools, toolConfig }));
    expect(candidates[0]).toMatchObject({ finishReason: "STOP", finishMessage: "Model generated function call(s)." });
    expect(candidates[0].content.parts[0].functionCall).toEqual({ name: "two", args: { city: expect.any(String) } });
    expect((await t.generate(ask("Weather in Rome?", { tools }))).candidates[0].content.parts[0].text).toContain("Weather");
  });

  it("show thoughts when asked to", async () => {
    await using t = await setUp();
    const { candidates } = await t.generate(ask("x", { generationConfig: { thinkingConfig: { includeThoughts: true } } }));
    expect(candidates[0].content.parts.map((part: Any) => part.thought)).toEqual([true, undefined]);
  });

  it("embed texts that share words close to each other", () => {
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
    const cat = embedText("the cat sat on the mat", 256, "s");
    expect(embedText("the cat sat on the mat", 256, "s")).toEqual(cat);
    expect(dot(cat, cat)).toBeCloseTo(1, 4);
    expect(dot(cat, embedText("a cat sat on my mat", 256, "s"))).toBeGreaterThan(
      dot(cat, embedText("stock markets fell sharply", 256, "s")) + 0.3,
    );
  });
});

describe("scripted answers", () => {
  it("may be texts, responses, objects, errors, and late", async () => {
    const script: Record<string, () => Any> = {
      text: () => "a text",
      late: () => Promise.resolve("a late text"),
      response: () => ({ promptFeedback: { blockReason: "SAFETY" } }),
      object: () => ({ n: 1 }),
      usual: () => undefined,
      error: () => ({ error: { code: 8, message: "Full." } }),
      thrown: () => {
        throw new Error("Boom.");
      },
      rejected: () => Promise.reject(Object.assign(new Error("Later."), { code: 14 })),
    };
    await using t = await setUp({ answer: (request) => script[(request as Any).contents[0].parts[0].text]?.() });
    const items = await t.batch(Object.keys(script));
    const texts = items.map((item) => item.error ?? item.response.candidates?.[0].content.parts[0].text ?? item.response.promptFeedback);
    expect(texts).toEqual([
      "a text",
      "a late text",
      { blockReason: "SAFETY" },
      '{"n":1}',
      expect.stringContaining("usual"),
      { code: 8, message: "Full." },
      { code: 13, message: "Boom." },
      { code: 14, message: "Later." },
    ]);
    expect(items[2].response).toMatchObject({ modelVersion: model, usageMetadata: { promptTokenCount: 2 } });
    expect((await t.generate(ask("error"))).error).toEqual({ code: 429, message: "Full.", status: "RESOURCE_EXHAUSTED" });
  });

  it("know which row they answer", async () => {
    const infos: Any[] = [];
    await using t = await setUp({ answer: (_, info) => void infos.push(info) });
    await t.batch(["a", "b"]);
    expect(infos[1]).toEqual({
      model,
      key: "k1",
      index: 1,
      job: t.emulator.jobs()[0]?.name,
      displayName: "b",
      method: "generateContent",
      hash: expect.any(String),
    });
  });
});

describe("answers from an upstream server", () => {
  it("ask it in its own protocol, a few at a time", async () => {
    const bodies: Any[] = [];
    let most = 0;
    let busy = 0;
    const server = createServer((request, response) => {
      let body = "";
      busy += 1;
      most = Math.max(most, busy);
      request.on("data", (chunk: Buffer) => (body += chunk.toString()));
      request.on("end", () => {
        bodies.push({ url: request.url, authorization: request.headers.authorization, ...JSON.parse(body) });
        setImmediate(() => {
          busy -= 1;
          if (body.includes("fail")) response.writeHead(500).end();
          else
            response.end(
              JSON.stringify({
                choices: [{ message: { content: `#${bodies.length}` }, finish_reason: "stop" }],
                usage: { prompt_tokens: 5, completion_tokens: 2 },
              }),
            );
        });
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/`;
      await using t = await setUp({ upstream: { baseUrl, model: "tiny", apiKey: "u", concurrency: 2 } });
      const answer = await t.generate(
        ask("hi", { systemInstruction: { parts: [{ text: "Be kind." }] }, generationConfig: { temperature: 0.5 } }),
      );
      expect(answer).toMatchObject({
        candidates: [{ content: { parts: [{ text: "#1" }] }, finishReason: "STOP" }],
        usageMetadata: { totalTokenCount: 7 },
      });
      expect(bodies[0]).toEqual({
        url: "/v1/chat/completions",
        authorization: "Bearer u",
        model: "tiny",
        temperature: 0.5,
        messages: [
          { role: "system", content: "Be kind." },
          { role: "user", content: "hi" },
        ],
      });
      const items = await t.batch(["a", "b", "c", "d", "e", "fail"]);
      expect(items.map((item) => item.error?.code)).toEqual([undefined, undefined, undefined, undefined, undefined, 14]);
      expect(most).toBeLessThanOrEqual(2);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
