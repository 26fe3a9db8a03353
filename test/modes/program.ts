/**
 * A user's program that says nothing about where its prompts go: parallel branches, embeddings, typed output, system instructions, function calling with a second turn, a
 * handler, and models in every form that users write. Where they go is said by environment variables alone. Prints one line of JSON: what came of each run, and of its jobs.
 */
import { Type, type Content } from "@google/genai";
import { z } from "zod";
import { Gembatch } from "../../src/index.ts";

const gembatch = new Gembatch({
  polling: { minInterval: "20ms" },
  batching: { debounce: "50ms" },
  // Left there, so that the test can look at them.
  cleanup: "never",
  logger: "error",
});
const forms = ["gemini-2.5-flash", "models/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"];
const [model = ""] = forms;

const branches = gembatch.chain("branches", async ({ models }, topic: string) => {
  const sides = await Promise.all(
    forms.map(async (form, n) => {
      const config = { systemInstruction: `You are number ${n}.`, temperature: n / 10, maxOutputTokens: 100 };
      return (await models.generateContent({ model: form, contents: `${topic}, side ${n}`, config })).text;
    }),
  );
  return (await models.generateContent({ model, contents: [{ parts: [{ text: `all of ${sides.join(" and ")}` }] }] })).text;
});

const vectors = gembatch.chain("vectors", async ({ models }, texts: string[]) => {
  const { embeddings } = await models.embedContent({ model: "gemini-embedding-001", contents: texts, config: { outputDimensionality: 3 } });
  return embeddings?.map(({ values }) => values);
});

const mood = z.object({ mood: z.enum(["warm", "cold"]), score: z.number().int().optional() });
const typed = gembatch.chain("typed", async ({ models }, text: string) => {
  const { output } = await models.generateContent({ model, contents: `The mood of ${text}` }, { schema: mood });
  return output;
});

const weather = {
  name: "weather",
  description: "The weather in a city",
  parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ["city"] },
};
const tools = gembatch.chain("tools", async ({ models }, city: string) => {
  const config = { tools: [{ functionDeclarations: [weather] }] };
  const question: Content = { role: "user", parts: [{ text: `What to wear in ${city}?` }] };
  const first = await models.generateContent({ model, contents: [question], config });
  const call = first.functionCalls?.[0];
  // As the service wants it: the model's own content goes back unchanged, with its thought signatures.
  const said = first.candidates?.[0]?.content;
  if (!call || !said) throw new Error("no function was called");
  const answer: Content = { role: "user", parts: [{ functionResponse: { name: "weather", response: { degrees: 21 } } }] };
  const second = await models.generateContent({ model, contents: [question, said, answer], config });
  return { called: call.name, args: call.args, text: second.text };
});

const request = (text: string) => ({
  contents: [{ role: "user", parts: [{ text }] }],
  systemInstruction: { parts: [{ text: "You are brief." }] },
});
const last = gembatch.handler("last", (response, n: number) => `${n}: ${response.text}`);
const first = gembatch.handler("first", async (response, n: number) => {
  await gembatch.submit(request(`last after ${response.text}`), forms[n]!, last, n, { id: `last-${n}` });
});

/** One run, every provider that is configured. */
const both = gembatch.chain("both", async ({ models }, providers: string[]) => {
  const answers = await Promise.all(
    providers.map(async (provider) => models.generateContent({ model, contents: `hello ${provider}` }, { provider })),
  );
  return answers.map(({ text }) => text);
});

const runs = await Promise.all([
  branches.start("tides", { id: "branches" }),
  vectors.start(["one", "three"], { id: "vectors" }),
  typed.start("a summer evening", { id: "typed" }),
  tools.start("Oslo", { id: "tools" }),
  both.start(gembatch.info.providers, { id: "both" }),
]);
for (const [n, form] of forms.entries()) await gembatch.submit(request(`first ${n}`), form, first, n, { id: `first-${n}` });
await gembatch.onIdle();

const outputs: Record<string, unknown> = {};
const ids = [...runs.map(({ id }) => id), ...forms.map((_, n) => `last-${n}`)];
for (const id of ids) {
  const run = await gembatch.runs.get(id);
  outputs[id] = run?.error?.code ?? run?.output;
}
const { items } = await gembatch.batches.list({ limit: 1_000 });
const jobs = items.map(({ lane, job, requestCount }) => ({ lane, job, requestCount })).toReversed();
const costs = (await gembatch.costs({ by: "provider" })).map(({ provider, answers, usd }) => ({ provider, answers, usd }));
await gembatch.close();
process.stdout.write(`${JSON.stringify({ outputs, jobs, costs })}\n`);
