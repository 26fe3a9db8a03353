import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Lane } from "../../src/core/provider.ts";
import { startEmulator, type AnswerScript, type Emulator } from "../../src/emulator.ts";
import { environmentOf, modes, type Mode } from "./modes.ts";

const program = new URL("./program.ts", import.meta.url).pathname;
const signature = "c2lnbmF0dXJl";

interface Outcome {
  outputs: Record<string, unknown>;
  jobs: { lane: Lane; job: string; requestCount: number }[];
  costs: { provider: string; answers: number; usd: number }[];
}

interface Part {
  text?: string;
  thoughtSignature?: string;
  functionCall?: object;
  functionResponse?: { response: object };
}

/** What the model says depends on what reached it, so that nothing can be lost on the way unnoticed. */
const answer: AnswerScript = (given, { model, method }) => {
  const request = given as {
    contents?: { parts: Part[] }[];
    content?: { parts: Part[] };
    systemInstruction?: { parts: Part[] };
    generationConfig?: Record<string, unknown>;
    tools?: object[];
  };
  const texts = (parts: Part[] = []) => parts.map(({ text }) => text ?? "").join("");
  if (method === "embedContent") return [texts(request.content?.parts).length, 0.5, 0.25];
  const parts = request.contents?.flatMap((content) => content.parts) ?? [];
  const prompt = texts(parts);
  if (prompt.startsWith("The mood of")) return { mood: "warm", score: prompt.length };
  if (!request.tools) {
    const { temperature = "-", maxOutputTokens = "-" } = request.generationConfig ?? {};
    return `${model} (${texts(request.systemInstruction?.parts)} ${temperature} ${maxOutputTokens}) says: ${prompt}`;
  }
  const response = parts.find(({ functionResponse }) => functionResponse)?.functionResponse?.response;
  if (response) {
    const echoed = parts.find(({ functionCall }) => functionCall)?.thoughtSignature;
    return `wear a shirt at ${JSON.stringify(response)}, signature ${echoed}`;
  }
  const call = {
    functionCall: { name: "weather", args: { city: prompt.split(" ").at(-1)?.replace("?", "") } },
    thoughtSignature: signature,
  };
  return { candidates: [{ content: { role: "model", parts: [call] }, finishReason: "STOP" }] };
};

let emulator: Emulator;
let folder: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "gembatch-modes-"));
  emulator = await startEmulator({ turnaround: 50, answer });
});
afterEach(async () => {
  await emulator.close();
  rmSync(folder, { recursive: true });
});

/** The machine's own variables must not decide. */
const ours = /^(?:GEMBATCH|GOOGLE|GEMINI|GCLOUD|STORAGE|BIGQUERY)_/;

async function run(variables: Record<string, string>): Promise<Outcome> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
  const child = spawn(process.execPath, [program], {
    env: { ...env, ...variables, GEMBATCH_STORE: `sqlite:${join(folder, "store.db")}` },
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    let output = "";
    for await (const text of child.stdout.setEncoding("utf8")) output += String(text);
    return JSON.parse(output) as Outcome;
  } finally {
    child.kill("SIGKILL");
  }
}

const said = (text: string, head = "( - -)") => `gemini-2.5-flash ${head} says: ${text}`;
const side = (n: number) => said(`tides, side ${n}`, `(You are number ${n}. ${n / 10} 100)`);
const brief = "(You are brief. - -)";
const outputsOf = (provider: string) => ({
  branches: said(`all of ${side(0)} and ${side(1)} and ${side(2)}`),
  vectors: [
    [3, 0.5, 0.25],
    [5, 0.5, 0.25],
  ],
  typed: { mood: "warm", score: "The mood of a summer evening".length },
  tools: { called: "weather", args: { city: "Oslo" }, text: `wear a shirt at {"degrees":21}, signature ${signature}` },
  both: [said(`hello ${provider}`)],
  ...Object.fromEntries([0, 1, 2].map((n) => [`last-${n}`, `${n}: ${said(`last after ${said(`first ${n}`, brief)}`, brief)}`])),
});

describe("one program, by environment variables alone", () => {
  it.each(modes)("comes to the same on %s", async (mode: Mode) => {
    const { outputs, jobs, costs } = await run(environmentOf(mode, emulator.url));
    const [provider = ""] = mode.split("-");
    const expected = outputsOf(provider);
    // The service has no jobs of embeddings on tables; that is said when they are asked for.
    expect(outputs).toEqual(mode === "vertex-bigquery" ? { ...expected, vectors: "request_refused" } : expected);
    expect(costs).toEqual([{ provider, answers: mode === "vertex-bigquery" ? 14 : 16, usd: expect.any(Number) as number }]);
    expect(costs[0]!.usd).toBeGreaterThan(0);
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    const kinds = { "gemini-file": "file", "gemini-inline": "inline", "vertex-storage": "storage", "vertex-bigquery": "bigquery" };
    expect(new Set(emulator.jobs().map(({ kind }) => kind))).toEqual(new Set([kinds[mode]]));
    // All forms of a model are one lane.
    expect(new Set(jobs.map(({ lane }) => lane.model))).toEqual(
      new Set(mode === "vertex-bigquery" ? ["gemini-2.5-flash"] : ["gemini-2.5-flash", "gemini-embedding-001"]),
    );
    const names = provider === "gemini" ? /^batches\/\w+$/ : /^projects\/\d+\/locations\/europe-west4\/batchPredictionJobs\/\d+$/;
    expect(jobs.map(({ job }) => job)).toEqual(jobs.map(() => expect.stringMatching(names) as string));
    if (provider === "vertex") await expectLabels(jobs.length);
  });

  it("goes to Gemini and Vertex AI in one run", async () => {
    const url = emulator.url;
    const variables = { ...environmentOf("vertex-storage", url), ...environmentOf("gemini-file", url), GEMBATCH_PROVIDER: "gemini,vertex" };
    const { outputs, jobs, costs } = await run(variables);
    expect(outputs).toEqual({ ...outputsOf("gemini"), both: [said("hello gemini"), said("hello vertex")] });
    const lanes = new Map(["gemini", "vertex"].map((name) => [name, jobs.filter(({ lane }) => lane.provider === name)]));
    expect(lanes.get("vertex")).toMatchObject([
      { job: expect.stringMatching(/^projects\/\d+\/locations\/europe-west4\//), requestCount: 1 },
    ]);
    expect(lanes.get("gemini")!.every(({ job }) => job.startsWith("batches/"))).toBe(true);
    expect(emulator.jobs().filter(({ kind }) => kind === "storage")).toHaveLength(1);
    expect(costs.map(({ provider, answers }) => [provider, answers])).toEqual([
      ["gemini", 16],
      ["vertex", 1],
    ]);
    for (const { usd } of costs) expect(usd).toBeGreaterThan(0);
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
  });
});

async function expectLabels(count: number): Promise<void> {
  const answer = await fetch(`${emulator.url}/v1/projects/p/locations/europe-west4/batchPredictionJobs`);
  const { batchPredictionJobs } = (await answer.json()) as { batchPredictionJobs: { labels: object; model: string }[] };
  expect(batchPredictionJobs).toHaveLength(count);
  for (const { labels, model } of batchPredictionJobs) {
    expect(labels).toEqual({ gembatch: "job" });
    expect(model).toMatch(/^publishers\/google\/models\/gemini-(?:2\.5-flash|embedding-001)$/);
  }
}
