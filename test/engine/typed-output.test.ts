import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GenerateContentResponse, Type, type CallableTool } from "@google/genai";
import { type } from "arktype";
import * as v from "valibot";
import { afterAll, describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { startEmulator } from "../../src/emulator.ts";
import { gemini } from "../../src/gemini.ts";
import { Gembatch, GembatchError, type ChainContext, type Duration } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { createTestKit, ManualClock, SteerableProvider, type TestKit, type TestKitOptions } from "../../src/testing.ts";

const model = "gemini-2.5-flash";
const film = z.object({ title: z.string(), year: z.int() });
const filmSchema = {
  type: "OBJECT",
  properties: { title: { type: "STRING" }, year: { type: "INTEGER" } },
  required: ["title", "year"],
  propertyOrdering: ["title", "year"],
};
const right = '{"title":"Heat","year":1995}';
const wrong = '{"title":"Heat","year":"1995"}';

interface Body {
  contents: { role: string; parts: { text?: string }[] }[];
  systemInstruction?: unknown;
  generationConfig: Record<string, unknown>;
}

/** All prompts that were sent, in the order of the jobs. */
const sent = (kit: Pick<TestKit, "provider">) => kit.provider.jobs.flatMap(({ rows }) => rows.map(({ body }) => JSON.parse(body) as Body));
const jobSizes = (kit: Pick<TestKit, "provider">) => kit.provider.jobs.map(({ rows }) => rows.length);
/** Answers of a prompt by how often it was complained about. */
const inTurn = (...answers: string[]): NonNullable<TestKitOptions["answer"]> => {
  return (_prompt, row) => {
    const { contents } = JSON.parse(row.body) as Body;
    const complaints = contents.filter(({ parts }) => parts[0]?.text?.startsWith("Your reply")).length;
    const words = contents[0]?.parts[0]?.text ?? "";
    // Each complaint replaces the one before, so the model's last turn tells the tries apart.
    const last = contents.at(-2)?.parts[0]?.text;
    const tries = complaints === 0 ? 0 : answers.findIndex((answer) => answer.replace("$", words) === last) + 1;
    return (answers[tries] ?? answers.at(-1)!).replace("$", words);
  };
};
const numbered = (count: number) => Array.from({ length: count }, (_, n) => `not JSON, try ${n + 1}`);

describe("a typed prompt", () => {
  it("sends the schema as responseSchema and gives the validated output", async () => {
    await using kit = createTestKit({ answer: inTurn(right) });
    const chain = kit.gembatch.chain("typed", async ({ models }) => {
      const response = await models.generateContent({ model, contents: "A film.", config: { temperature: 0 } }, { schema: film });
      return { output: response.output, text: response.text, official: response instanceof GenerateContentResponse };
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({ output: { title: "Heat", year: 1995 }, text: right, official: true });
    expect(sent(kit).map(({ generationConfig }) => generationConfig)).toEqual([
      { temperature: 0, responseMimeType: "application/json", responseSchema: filmSchema },
    ]);
    const { properties } = sent(kit)[0]!.generationConfig["responseSchema"] as { properties: object };
    expect(Object.keys(properties)).toEqual(["title", "year"]);
  });

  it("is asked again with what is wrong, the model's turn unchanged", async () => {
    const parts = [
      { text: "a thought", thought: true },
      { text: wrong, thoughtSignature: "c2lnbmF0dXJl", partOfTomorrow: { a: [1] } },
    ];
    await using kit = createTestKit({
      worker: { parkedBytes: 0 },
      answer: (prompt) =>
        prompt === "A film." ? { response: { candidates: [{ finishReason: "STOP", content: { role: "model", parts } }] } } : right,
    });
    const chain = kit.gembatch.chain("repaired", async ({ models }) => {
      const config = { systemInstruction: "Be exact.", temperature: 0.5 };
      const { output } = await models.generateContent({ model, contents: "A film.", config }, { schema: film });
      return output;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({ title: "Heat", year: 1995 });
    const [first, second, ...more] = sent(kit);
    expect(more).toEqual([]);
    const { contents, ...rest } = second!;
    expect({ ...rest, contents: contents.slice(0, 1) }).toEqual(first);
    expect(contents.slice(1)).toEqual([
      { role: "model", parts },
      { role: "user", parts: [{ text: expect.stringContaining("- year: Invalid input: expected number, received string") as string }] },
    ]);
    expect(JSON.stringify(contents[1])).toContain(JSON.stringify(parts));
  });

  it("fails with the text and the issues when no try fits, and can be caught", async () => {
    const messages: string[] = [];
    const write = (message: string) => messages.push(message);
    await using kit = createTestKit({ answer: inTurn(...numbered(3)), logger: { debug: write, info: write, warn: write, error: write } });
    const failing = kit.gembatch.chain("fails", async ({ models }) => {
      await models.generateContent({ model, contents: "A film." }, { schema: film });
    });
    const catching = kit.gembatch.chain("catches", async ({ models }) => {
      try {
        return (await models.generateContent({ model, contents: "A film!" }, { schema: film })).output;
      } catch (error) {
        return GembatchError.is(error) ? { code: error.code, details: error.details } : "another error";
      }
    });
    const [failed, caught] = [await failing.start(undefined), await catching.start(undefined)];
    await kit.run();
    const details = { text: "not JSON, try 3", issues: [{ path: "", message: "The reply is not valid JSON." }] };
    const error = await failed.result().catch((thrown: unknown) => thrown as GembatchError);
    expect(error).toMatchObject({ code: "output_invalid", retryable: false, details });
    expect((error as GembatchError).message).toContain("in 3 tries");
    expect(await caught.result()).toEqual({ code: "output_invalid", details });
    expect(jobSizes(kit)).toEqual([2, 2, 2]);
    expect([(error as GembatchError).message, ...messages].join("\n")).not.toContain("not JSON, try");
    await kit.gembatch.runs.retry(failed.id);
    await kit.run();
    expect(await failed.get()).toMatchObject({ state: "failed", error: { code: "output_invalid" } });
    expect(kit.provider.jobs).toHaveLength(3);
    // Each try goes on from the last reply only.
    expect(sent(kit).map(({ contents }) => contents.length)).toEqual([1, 1, 3, 3, 3, 3]);
  });

  it.each([
    [0, 1],
    [1, 2],
    [4, 5],
  ])("with repair %i is asked %i times", async (repair, tries) => {
    await using kit = createTestKit({ answer: inTurn(...numbered(9)) });
    const chain = kit.gembatch.chain("repair", async ({ models }) => {
      await models.generateContent({ model, contents: "A film." }, { schema: film, repair });
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ code: "output_invalid" });
    expect(kit.provider.jobs).toHaveLength(tries);
  });

  it.each<[string, object]>([
    ["a blocked prompt", { promptFeedback: { blockReason: "SAFETY" } }],
    ["no text before the limit", { candidates: [{ finishReason: "MAX_TOKENS" }] }],
    ["a blocked answer", { candidates: [{ finishReason: "SAFETY", content: { parts: [{ text: "{" }] } }] }],
    ["a function call", { candidates: [{ finishReason: "STOP", content: { parts: [{ functionCall: { name: "f", args: {} } }] } }] }],
  ])("that gets %s fails at once", async (_name, response) => {
    await using kit = createTestKit({ answer: () => ({ response }) });
    const chain = kit.gembatch.chain("blocked", async ({ models }) => {
      await models.generateContent({ model, contents: "A film." }, { schema: film });
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ code: "output_invalid", message: expect.stringContaining("in one try") as string });
    expect(kit.provider.jobs).toHaveLength(1);
  });

  it("does not take part in the failures of requests", async () => {
    await using kit = createTestKit({ answer: () => ({ error: { code: 3, message: "bad argument" } }) });
    const chain = kit.gembatch.chain("request", async ({ models }) => {
      await models.generateContent({ model, contents: "A film." }, { schema: film });
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({ code: "request_failed" });
  });

  it("goes with others, each repaired by itself", async () => {
    await using kit = createTestKit({
      worker: { parkedBytes: 0 },
      answer: (prompt, row) =>
        prompt === "bad" ? "no" : JSON.stringify({ title: (JSON.parse(row.body) as Body).contents[0]!.parts[0]!.text, year: 1 }),
    });
    const chain = kit.gembatch.chain("parallel", async ({ models, scope }) => {
      const ask = async (contents: string) => (await models.generateContent({ model, contents }, { schema: film })).output.title;
      const titles = await Promise.all([ask("good"), ask("bad"), ask("bad"), scope("s", async () => ask("bad"))]);
      const next = await models.generateContent({ model, contents: titles.join() });
      return [titles, JSON.parse(next.text!) as unknown];
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual([["good", "bad", "bad", "bad"], { title: "good,bad,bad,bad", year: 1 }]);
    expect(jobSizes(kit)).toEqual([4, 3, 1]);
  });

  it("asks again under a key of its own", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 }, answer: inTurn("$ 1", "$ 2", right) });
    const chain = kit.gembatch.chain("keyed", async ({ models }) => {
      const [a, b] = await Promise.all([
        models.generateContent({ model, contents: "x" }, { schema: film, key: "first", priority: 5 }),
        models.generateContent({ model, contents: "y" }, { schema: film }),
      ]);
      return [a.output.title, b.output.title];
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual(["Heat", "Heat"]);
    const keys = (await kit.gembatch.requests.list({ run: run.id })).items.map(({ key }) => key).toReversed();
    expect(keys).toEqual([
      "k:first",
      expect.not.stringContaining("~") as string,
      "k:first~repair1",
      expect.stringMatching(/^k:~repair1:/) as string,
      "k:first~repair2",
      expect.stringMatching(/^k:~repair2:/) as string,
    ]);
    expect((await run.get()).notes).toEqual([]);
  });

  it.each([
    ["zod", film],
    ["arktype", type({ title: "string", year: "number.integer" })],
  ])("takes schemas of %s", async (_vendor, schema) => {
    await using kit = createTestKit({ answer: inTurn(wrong, right) });
    const chain = kit.gembatch.chain("library", async ({ models }) => {
      return (await models.generateContent({ model, contents: "A film." }, { schema })).output;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({ title: "Heat", year: 1995 });
    expect(sent(kit)[0]!.generationConfig["responseSchema"]).toEqual(filmSchema);
  });

  it("takes what validates later, and transforms", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 }, answer: inTurn(wrong, right) });
    const slow = film.transform(async ({ year }) => {
      await Promise.resolve();
      return new Date(Date.UTC(year, 0));
    });
    const chain = kit.gembatch.chain("slow", async ({ models }) => {
      const { output } = await models.generateContent({ model, contents: "A film." }, { schema: slow });
      return output.getUTCFullYear();
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toBe(1995);
  });

  it.each<[string, object, object]>([
    [
      "responseSchema",
      { responseSchema: { type: Type.OBJECT, properties: { title: { type: Type.STRING } } } },
      { responseSchema: { type: "OBJECT", properties: { title: { type: "STRING" } } } },
    ],
    ["responseJsonSchema", { responseJsonSchema: { type: "object" } }, { responseJsonSchema: { type: "object" } }],
  ])("sends the prompt's own %s, and validates with the schema", async (_name, config, expected) => {
    await using kit = createTestKit({ answer: inTurn(wrong, right) });
    const plain = v.object({ title: v.string(), year: v.number() });
    const chain = kit.gembatch.chain("own", async ({ models }) => {
      return (await models.generateContent({ model, contents: "A film.", config }, { schema: plain })).output;
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual({ title: "Heat", year: 1995 });
    const wanted = { ...expected, responseMimeType: "application/json" };
    expect(sent(kit).map(({ generationConfig }) => generationConfig)).toEqual([wanted, wanted]);
  });

  it("keeps contents of any form, and what the SDK called by itself", async () => {
    await using kit = createTestKit({
      answer: (prompt, row) => {
        const { contents } = JSON.parse(row.body) as { contents: { parts: object[] }[] };
        if (prompt === "call" && contents.length === 1)
          return { response: { candidates: [{ content: { role: "model", parts: [{ functionCall: { name: "f", args: {} } }] } }] } };
        return prompt.startsWith("Your reply") ? right : wrong;
      },
    });
    const tool: CallableTool = {
      tool: async () => ({ functionDeclarations: [{ name: "f" }] }),
      callTool: async (calls) => calls.map(({ id, name }) => ({ functionResponse: { id: id!, name: name!, response: { ok: true } } })),
    };
    const chain = kit.gembatch.chain("contents", async ({ models }) => {
      const ask = async (contents: Parameters<typeof models.generateContent>[0]["contents"], config = {}) =>
        (await models.generateContent({ model, contents, config }, { schema: film })).output.year;
      return [
        await ask({ text: "part" }),
        await ask(["one", { text: "two" }]),
        await ask({ role: "user", parts: [{ text: "content" }] }),
        await ask([
          { role: "user", parts: [{ text: "a" }] },
          { role: "model", parts: [{ text: "b" }] },
          { role: "user", parts: [{ text: "c" }] },
        ]),
        await ask("call", { tools: [tool] }),
      ];
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(await run.result()).toEqual([1995, 1995, 1995, 1995, 1995]);
    const bodies = sent(kit);
    for (const [index, body] of bodies.entries()) {
      if (body.contents.at(-1)!.parts[0]!.text?.startsWith("Your reply"))
        expect(body.contents.slice(0, -2)).toEqual(bodies[index - 1]!.contents);
    }
    expect(bodies.map(({ contents }) => contents.length)).toEqual([1, 3, 1, 3, 1, 3, 3, 5, 1, 3, 5]);
  });

  it("does not call the SDK's tools in place of a corrected reply", async () => {
    const call = { response: { candidates: [{ content: { role: "model", parts: [{ functionCall: { name: "f", args: {} } }] } }] } };
    await using kit = createTestKit({ answer: (prompt) => (prompt === "x" ? "no" : call) });
    const tool: CallableTool = { tool: async () => ({ functionDeclarations: [{ name: "f" }] }), callTool: async () => [] };
    const chain = kit.gembatch.chain("tools", async ({ models }) => {
      await models.generateContent({ model, contents: "x", config: { tools: [tool] } }, { schema: film });
    });
    const run = await chain.start(undefined);
    await kit.run();
    await expect(run.result()).rejects.toMatchObject({
      code: "output_invalid",
      message: expect.stringContaining("calls a function") as string,
    });
    expect(jobSizes(kit)).toEqual([1, 1]);
  });
});

describe("a typed prompt after a restart", () => {
  /** Two lives of one store: `first` until this much time has passed, then `second` to the end. */
  async function restart(until: Duration, answer: TestKitOptions["answer"], define: (kit: TestKit, life: number) => Promise<void>) {
    const path = `${mkdtempSync(join(tmpdir(), "gembatch-typed-"))}/typed.db`;
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock, ...(answer ? { answer } : {}) });
    for (const life of [1, 2]) {
      await using kit = createTestKit({ store: new SqliteStore({ path }), provider, clock });
      await define(kit, life);
      if (life === 1) await kit.advance(until);
      else await kit.run();
    }
    const store = new SqliteStore({ path });
    await store.open();
    const { items } = await store.listRuns({});
    await store.close();
    return { provider, runs: items };
  }

  // A job takes a minute: nothing is answered, the first reply is, the second is.
  it.each<Duration>(["30s", "90s", "150s"])("goes on after %s where it stopped, and asks nothing twice", async (until) => {
    const { provider, runs } = await restart(until, inTurn("no", wrong, right), async (kit, life) => {
      const chain = kit.gembatch.chain(
        "film",
        async ({ models }) => (await models.generateContent({ model, contents: "A film." }, { schema: film })).output,
      );
      if (life === 1) await chain.start(undefined, { id: "r" });
    });
    expect(runs).toMatchObject([{ id: "r", state: "completed", output: { title: "Heat", year: 1995 }, notes: [] }]);
    expect(jobSizes({ provider })).toEqual([1, 1, 1]);
  });

  it("keeps the answer to a complaint that a newer library would word otherwise", async () => {
    const { provider, runs } = await restart("90s", inTurn(wrong, right), async (kit, life) => {
      const schema = z.object({ title: z.string(), year: z.int({ error: `wording ${life}` }) });
      const chain = kit.gembatch.chain(
        "film",
        async ({ models }) => (await models.generateContent({ model, contents: "A film." }, { schema })).output,
      );
      if (life === 1) await chain.start(undefined, { id: "r" });
    });
    expect(runs).toMatchObject([{ state: "completed", output: { year: 1995 }, notes: [expect.stringContaining("edited") as string] }]);
    expect(jobSizes({ provider })).toEqual([1, 1]);
  });

  it("of a handler goes on too", async () => {
    const { provider, runs } = await restart("90s", inTurn("no", wrong, right), async (kit, life) => {
      const handler = kit.gembatch.handler("film", ({ output }) => output.year, { schema: film });
      if (life === 1)
        await kit.gembatch.submit({ contents: [{ role: "user", parts: [{ text: "A film." }] }] }, model, handler, undefined, { id: "r" });
    });
    expect(runs).toMatchObject([{ id: "r", state: "completed", output: 1995, notes: [] }]);
    expect(jobSizes({ provider })).toEqual([1, 1, 1]);
  });

  it("of a handler with another schema is a deploy", async () => {
    const { provider, runs } = await restart("90s", inTurn(wrong, right), async (kit, life) => {
      const schema = life === 1 ? film : z.object({ title: z.string() });
      const more = async (response: { output: { title: string } }, _params: unknown, { models }: ChainContext) =>
        (await models.generateContent({ model, contents: response.output.title })).text;
      const handler = kit.gembatch.handler("film", more, { schema });
      if (life === 1)
        await kit.gembatch.submit({ contents: [{ role: "user", parts: [{ text: "A film." }] }] }, model, handler, undefined, { id: "r" });
    });
    // The first reply fits now: what was asked again for the old schema is not used.
    expect(runs).toMatchObject([{ state: "completed", notes: [expect.stringContaining("New code") as string] }]);
    expect(jobSizes({ provider })).toEqual([1, 1, 1]);
  });
});

describe("a handler with a schema", () => {
  const request = { contents: [{ role: "user", parts: [{ text: "A film." }] }], systemInstruction: { parts: [{ text: "Be exact." }] } };

  it("is given valid replies only, once", async () => {
    await using kit = createTestKit({ worker: { parkedBytes: 0 }, answer: inTurn(wrong, right) });
    const seen: unknown[] = [];
    const handler = kit.gembatch.handler(
      "film",
      async (response, params: { n: number }, { models }) => {
        seen.push([response.output, params]);
        return [
          response.output.title,
          response instanceof GenerateContentResponse,
          (await models.generateContent({ model, contents: "more" })).text,
        ];
      },
      { schema: film },
    );
    const id = await kit.gembatch.submit({ ...request, generationConfig: { temperature: 0 } }, `models/${model}`, handler, { n: 1 });
    await kit.run();
    expect(await kit.gembatch.run(id).result()).toEqual(["Heat", true, wrong]);
    expect(new Set(seen.map((item) => JSON.stringify(item)))).toEqual(new Set([JSON.stringify([{ title: "Heat", year: 1995 }, { n: 1 }])]));
    const [first, second, third] = sent(kit);
    expect(first).toEqual({
      ...request,
      generationConfig: { temperature: 0, responseMimeType: "application/json", responseSchema: filmSchema },
    });
    expect(second).toEqual({
      ...first,
      contents: [
        ...request.contents,
        { role: "model", parts: [{ text: wrong }] },
        { role: "user", parts: [{ text: expect.stringContaining("- year: ") as string }] },
      ],
    });
    expect(third!.contents).toHaveLength(1);
    const { items } = await kit.gembatch.requests.list({ run: id });
    expect(items.map(({ key, lane }) => [key, lane.model]).toReversed()).toEqual([
      [expect.not.stringContaining("~") as string, model],
      ["k:~repair1", model],
      [expect.not.stringContaining("~") as string, model],
    ]);
  });

  it("is not called if no reply fits", async () => {
    await using kit = createTestKit({ answer: inTurn(...numbered(3)) });
    let calls = 0;
    const handler = kit.gembatch.handler("film", () => (calls += 1), { schema: film, repair: 1 });
    const id = await kit.gembatch.submit(request, model, handler);
    await kit.run();
    expect(await kit.gembatch.runs.get(id)).toMatchObject({
      state: "failed",
      error: { code: "output_invalid", details: { text: "not JSON, try 2" } },
    });
    expect(calls).toBe(0);
    expect(kit.provider.jobs).toHaveLength(2);
  });

  it("leaves a request's own responseSchema", async () => {
    await using kit = createTestKit({ answer: inTurn(right) });
    const responseSchema = { type: Type.OBJECT, properties: { title: { type: Type.STRING } } };
    const handler = kit.gembatch.handler("film", ({ output }) => output.title, { schema: v.object({ title: v.string() }) });
    const id = await kit.gembatch.submit({ ...request, generationConfig: { responseSchema } }, model, handler);
    await kit.run();
    expect(await kit.gembatch.run(id).result()).toBe("Heat");
    expect(sent(kit)[0]!.generationConfig).toEqual({ responseMimeType: "application/json", responseSchema });
    await expect(kit.gembatch.submit(request, model, handler)).rejects.toThrow(/\(of valibot\) gives no JSON Schema/);
  });

  it("takes no embeddings", async () => {
    await using kit = createTestKit();
    const handler = kit.gembatch.handler("film", () => {}, { schema: film });
    await expect(kit.gembatch.submit({ content: { parts: [{ text: "x" }] } }, "gemini-embedding-001", handler)).rejects.toThrow(
      /"film" has a schema, and an embedding is no JSON/,
    );
  });
});

describe("where a schema has no meaning it is refused", () => {
  /** What the models of a chain throw at this call. */
  async function refusal(call: (models: ChainContext["models"], context: ChainContext) => Promise<unknown>): Promise<unknown> {
    await using kit = createTestKit();
    const chain = kit.gembatch.chain("refuses", async (context) => {
      await call(context.models, context);
    });
    const run = await chain.start(undefined);
    await kit.run();
    expect(kit.provider.jobs).toHaveLength(0);
    return await run.result().then(
      () => "nothing thrown",
      (error: unknown) => error,
    );
  }

  const prompt = { model, contents: "A film." };
  const url = `https://host/v1beta/models/${model}:generateContent`;
  it.each<[string, Parameters<typeof refusal>[0], RegExp]>([
    [
      "a stream",
      (models) => models.generateContentStream(prompt, { schema: film } as never),
      /Option schema has no meaning here\. .*models\.generateContent\(\)/,
    ],
    ["an embedding", (models) => models.embedContent(prompt, { schema: film } as never), /Option schema has no meaning here/],
    [
      "repair alone",
      (models) => models.generateContent(prompt, { repair: 1 } as never),
      /Option repair has no meaning here\. It belongs beside `schema`/,
    ],
    [
      "what is no schema",
      (models) => models.generateContent(prompt, { schema: { type: "object" } } as never),
      /must be a Standard Schema, got a Object object/,
    ],
    ["null", (models) => models.generateContent(prompt, { schema: null } as never), /must be a Standard Schema, got null/],
    [
      "a bad repair",
      (models) => models.generateContent(prompt, { schema: film, repair: -1 }),
      /Option repair must be a whole number of at least 0, got -1/,
    ],
    [
      "another unknown option",
      (models) => models.generateContent(prompt, { schema: film, repairs: 1 } as never),
      /Unknown option call options\.repairs/,
    ],
    [
      "another form of answer",
      (models) => models.generateContent({ ...prompt, config: { responseMimeType: "text/x.enum" } }, { schema: film }),
      /responseMimeType must be "application\/json"/,
    ],
    [
      "a record",
      (models) => models.generateContent(prompt, { schema: z.record(z.string(), z.string()) }),
      /#\/additionalProperties.*config\.responseSchema/,
    ],
    [
      "a library without JSON Schema",
      (models) => models.generateContent(prompt, { schema: v.object({ a: v.string() }) }),
      /gives no JSON Schema/,
    ],
    [
      "a header",
      async (_models, { fetch }) => {
        const response = await fetch(url, { method: "POST", body: '{"contents":[]}', headers: { "x-gembatch-schema": "film" } });
        throw new Error(await response.text());
      },
      /The header x-gembatch-schema has no meaning here/,
    ],
  ])("%s", async (_name, call, message) => {
    expect(await refusal(call)).toMatchObject({ message: expect.stringMatching(message) as string });
  });

  it("an option of submit(), of a chain, and repair alone", async () => {
    await using kit = createTestKit();
    const handler = kit.gembatch.handler("plain", () => {});
    const submitted = kit.gembatch.submit({ contents: [] }, model, handler, undefined, { schema: film } as never);
    await expect(submitted).rejects.toThrow(/gembatch\.handler\(name, fn, \{ schema \}\)/);
    await expect(submitted).rejects.toMatchObject({ code: "invalid_option" });
    expect(() => kit.gembatch.chain("c", async () => 1, { schema: film } as never)).toThrow(/Unknown option chain\("c"\)\.schema/);
    expect(() => kit.gembatch.handler("h", () => 1, { repair: 1 } as never)).toThrow(/Option repair needs a schema/);
    expect(() => kit.gembatch.handler("h", () => 1, { schema: {} } as never)).toThrow(/must be a Standard Schema/);
  });
});

describe("over HTTP", async () => {
  const emulator = await startEmulator({ turnaround: 5 });
  afterAll(async () => emulator.close());

  it("the emulator answers in the form of the schema", async () => {
    await using gembatch = new Gembatch({
      store: "sqlite::memory:",
      logger: false,
      provider: gemini({ apiKey: "any", baseUrl: emulator.url }),
      polling: { minInterval: "5ms" },
      batching: { debounce: "5ms" },
    });
    const schema = z.object({
      title: z.string(),
      genre: z.enum(["crime", "comedy"]),
      cast: z.array(z.object({ name: z.string(), age: z.int().min(0).nullable() })).min(1),
    });
    const chain = gembatch.chain(
      "real",
      async ({ models }) => (await models.generateContent({ model, contents: "A film." }, { schema, repair: 0 })).output,
    );
    const run = await chain.start(undefined);
    const output = await run.result();
    expect(schema.parse(output)).toEqual(output);
  });
});

describe("types", () => {
  it("of output follow the schema", async () => {
    await using kit = createTestKit({ answer: inTurn(right) });
    const chain = kit.gembatch.chain("types", async ({ models }) => {
      const byZod = await models.generateContent({ model, contents: "a" }, { schema: film });
      expectTypeOf(byZod.output).toEqualTypeOf<{ title: string; year: number }>();
      expectTypeOf(byZod).toExtend<GenerateContentResponse>();
      const byArktype = await models.generateContent({ model, contents: "b" }, { schema: type({ title: "string" }), repair: 1, key: "b" });
      expectTypeOf(byArktype.output).toEqualTypeOf<{ title: string }>();
      const config = { responseSchema: { type: Type.OBJECT } };
      const byValibot = await models.generateContent(
        { model, contents: "c", config },
        { schema: v.object({ year: v.pipe(v.number(), v.transform(String)) }) },
      );
      expectTypeOf(byValibot.output).toEqualTypeOf<{ year: string }>();
      const plain = await models.generateContent({ model, contents: "d" }, { key: "d" });
      expectTypeOf(plain).toEqualTypeOf<GenerateContentResponse>();
      // @ts-expect-error: without a schema there is no output
      expect(plain.output).toBeUndefined();
      return byValibot.output.year;
    });
    const handler = kit.gembatch.handler(
      "h",
      (response, params: { n: number }) => {
        expectTypeOf(response.output).toEqualTypeOf<{ title: string; year: number }>();
        return params.n;
      },
      { schema: film, version: "1" },
    );
    const untyped = kit.gembatch.handler("u", (response) => expectTypeOf(response).toEqualTypeOf<GenerateContentResponse>());
    const submit = async () => kit.gembatch.submit({ contents: [{ parts: [{ text: "x" }] }] }, model, handler, { n: 1 });
    const run = await chain.start(undefined);
    const ids = [await submit(), await kit.gembatch.submit({ contents: [{ parts: [{ text: "y" }] }] }, model, untyped)];
    // @ts-expect-error: a chain takes no schema
    expect(() => kit.gembatch.chain("c", async () => 1, { schema: film })).toThrow("Unknown option");
    await kit.run();
    expect(await run.result()).toBe("1995");
    expect((await kit.gembatch.runs.get(ids[0]!))!.output).toBe(1);
  });
});
