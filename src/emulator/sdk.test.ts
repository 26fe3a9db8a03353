import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GoogleGenAI, JobState, type BatchJob } from "@google/genai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startEmulator, type Emulator } from "../emulator.ts";

/** The official SDK, unmodified, against the emulator. */

let emulator: Emulator;
let ai: GoogleGenAI;
let dir: string;
const model = "gemini-2.5-flash";

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "emulator-sdk-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  emulator = await startEmulator({ turnaround: 0, apiKey: "secret" });
  ai = new GoogleGenAI({ apiKey: "secret", httpOptions: { baseUrl: emulator.url } });
});
afterEach(() => emulator.close());

async function ended(job: BatchJob): Promise<BatchJob> {
  await emulator.idle();
  return ai.batches.get({ name: job.name ?? "" });
}

async function jsonl(name: string, rows: unknown[]): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
}

describe("the official SDK", () => {
  it("uploads a file, runs it as a batch job and downloads the answers", async () => {
    const rows = ["a", "b"].map((key) => ({ key, request: { contents: [{ role: "user", parts: [{ text: `Question ${key}` }] }] } }));
    const file = await ai.files.upload({
      file: await jsonl("in.jsonl", rows),
      config: { mimeType: "application/jsonl", displayName: "rows" },
    });
    expect(file).toMatchObject({ displayName: "rows", state: "ACTIVE", mimeType: "application/jsonl" });
    expect((await ai.files.get({ name: file.name ?? "" })).name).toBe(file.name);

    const created = await ai.batches.create({ model, src: file.name ?? "", config: { displayName: "two questions" } });
    expect(created.name).toMatch(/^batches\/[a-z0-9]{36}$/);
    const job = await ended(created);
    expect(job.state).toBe(JobState.JOB_STATE_SUCCEEDED);
    expect(job.displayName).toBe("two questions");
    const output = job.dest?.fileName ?? "";
    expect(output).toBe(`files/batch-${created.name?.slice("batches/".length)}`);

    const path = join(dir, "out.jsonl");
    await ai.files.download({ file: output, downloadPath: path });
    const lines = (await readFile(path, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map((line) => line.key)).toEqual(["a", "b"]);
    expect(lines[0].response.candidates[0].content.parts[0].text).toContain("Question a");

    await ai.batches.delete({ name: job.name ?? "" });
    await expect(ai.batches.get({ name: job.name ?? "" })).rejects.toMatchObject({ status: 404 });
    await ai.files.delete({ name: file.name ?? "" });
    await expect(ai.files.get({ name: file.name ?? "" })).rejects.toMatchObject({ status: 403 });
  });

  it("uploads a file of several chunks", async () => {
    const rows = Array.from({ length: 9_000 }, (_, i) => ({
      key: `k${i}`,
      request: { contents: [{ parts: [{ text: "x".repeat(1_000) + i }] }] },
    }));
    const path = await jsonl("large.jsonl", rows);
    const file = await ai.files.upload({ file: path, config: { mimeType: "application/jsonl" } });
    expect(Number(file.sizeBytes)).toBe((await readFile(path)).length);
    expect(emulator.ledger.calls["files.uploadChunk"]).toBe(2);
    const job = await ended(await ai.batches.create({ model, src: file.name ?? "" }));
    expect(job.state).toBe(JobState.JOB_STATE_SUCCEEDED);
    expect(emulator.ledger.totals).toMatchObject({ sentRows: 9_000, billedRows: 9_000 });
  });

  it("runs inline requests and gives their metadata back", async () => {
    const src = ["one", "two"].map((text, i) => ({
      contents: text,
      config: { systemInstruction: "Be brief.", temperature: 0 },
      metadata: { key: `r${i}` },
    }));
    const job = await ended(await ai.batches.create({ model, src, config: { displayName: "inline" } }));
    const responses = job.dest?.inlinedResponses ?? [];
    expect(responses.map((response) => response.metadata)).toEqual([{ key: "r0" }, { key: "r1" }]);
    expect(responses[1]?.response?.candidates?.[0]?.content?.parts?.[0]?.text).toContain("two");
  });

  it("lists every job once over several pages, newest first", async () => {
    for (let i = 0; i < 5; i += 1) await ai.batches.create({ model, src: [{ contents: "hi" }], config: { displayName: `job ${i}` } });
    const names: (string | undefined)[] = [];
    for await (const job of await ai.batches.list({ config: { pageSize: 2 } })) names.push(job.displayName);
    expect(names).toEqual(["job 4", "job 3", "job 2", "job 1", "job 0"]);
    for (let i = 0; i < 3; i += 1) await ai.files.upload({ file: new Blob(["{}"]), config: { mimeType: "application/jsonl" } });
    let files = 0;
    for await (const _ of await ai.files.list({ config: { pageSize: 1 } })) files += 1;
    expect(files).toBe(3);
  });

  it("cancels a job at once", async () => {
    emulator.faults.stuck = true;
    const job = await ai.batches.create({ model, src: [{ contents: "hi" }] });
    await ai.batches.cancel({ name: job.name ?? "" });
    expect((await ai.batches.get({ name: job.name ?? "" })).state).toBe(JobState.JOB_STATE_CANCELLED);
  });

  it("runs embeddings, inline and from a file", async () => {
    const embedder = "gemini-embedding-001";
    const inline = await ended(
      await ai.batches.createEmbeddings({
        model: embedder,
        src: { inlinedRequests: { contents: ["one", "two"], config: { outputDimensionality: 8 } } },
      }),
    );
    const responses = inline.dest?.inlinedEmbedContentResponses ?? [];
    expect(responses).toHaveLength(2);
    expect(responses[0]?.response?.embedding?.values).toHaveLength(8);

    const rows = [{ key: "e", request: { content: { parts: [{ text: "three" }] }, outputDimensionality: 4 } }];
    const file = await ai.files.upload({ file: await jsonl("embed.jsonl", rows), config: { mimeType: "application/jsonl" } });
    const job = await ended(await ai.batches.createEmbeddings({ model: embedder, src: { fileName: file.name ?? "" } }));
    expect(job.dest?.fileName).toMatch(/^files\/batch-/);
  });

  it("answers direct calls", async () => {
    const answer = await ai.models.generateContent({ model, contents: "What is blue?" });
    expect(answer.text).toContain("What is blue?");
    let streamed = "";
    let pieces = 0;
    for await (const piece of await ai.models.generateContentStream({ model, contents: "What is blue?" })) {
      streamed += piece.text ?? "";
      pieces += 1;
    }
    expect(streamed).toBe(answer.text);
    expect(pieces).toBe(3);
    expect((await ai.models.countTokens({ model, contents: "12345678" })).totalTokens).toBe(2);
    const embedded = await ai.models.embedContent({
      model: "gemini-embedding-001",
      contents: ["a", "b"],
      config: { outputDimensionality: 16 },
    });
    expect(embedded.embeddings?.map((embedding) => embedding.values?.length)).toEqual([16, 16]);
    expect((await ai.models.get({ model })).name).toBe(`models/${model}`);
    const names: (string | undefined)[] = [];
    for await (const known of await ai.models.list()) names.push(known.name);
    expect(names).toContain(`models/${model}`);
  });

  it("works with v1beta and refuses a wrong key", async () => {
    const beta = new GoogleGenAI({ apiKey: "secret", apiVersion: "v1beta", httpOptions: { baseUrl: emulator.url } });
    expect((await beta.models.generateContent({ model, contents: "hi" })).text).toContain("hi");
    const wrong = new GoogleGenAI({ apiKey: "wrong", httpOptions: { baseUrl: emulator.url } });
    await expect(wrong.models.generateContent({ model, contents: "hi" })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("API_KEY_INVALID"),
    });
  });
});
