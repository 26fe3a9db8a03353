import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { BigQuery } from "@google-cloud/bigquery";
import { Storage } from "@google-cloud/storage";
import { GoogleGenAI, JobState, type BatchJob } from "@google/genai";
import { PassThroughClient } from "google-auth-library";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startEmulator, type Emulator } from "../emulator.ts";

/** The official clients of Vertex AI, Cloud Storage and BigQuery, unmodified, against the emulator. */

type Any = any;
let emulator: Emulator;
let ai: GoogleGenAI;
let storage: Storage;
let bigQuery: BigQuery;
let dir: string;
const model = "gemini-2.5-flash";
const prompt = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

/** What stands in for credentials. */
const authClient: Any = { getRequestHeaders: async () => new Headers({ authorization: "Bearer token" }), universeDomain: "googleapis.com" };
const noCredentials = new PassThroughClient();

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "emulator-cloud-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
beforeEach(async () => {
  emulator = await startEmulator({ turnaround: 0, apiKey: "secret" });
  ai = new GoogleGenAI({
    ...{ enterprise: true, project: "p", location: "us-central1" },
    googleAuthOptions: { authClient },
    httpOptions: { baseUrl: emulator.url },
  });
  storage = new Storage({ apiEndpoint: emulator.url, projectId: "p" });
  bigQuery = new BigQuery({ apiEndpoint: emulator.url, projectId: "p", authClient: noCredentials });
});
afterEach(() => emulator.close());

async function ended(job: BatchJob): Promise<BatchJob> {
  await emulator.idle();
  return ai.batches.get({ name: job.name ?? "" });
}

const linesOf = (bytes: Buffer): Any[] =>
  bytes
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("Vertex AI and Cloud Storage", () => {
  it("upload, job, results", async () => {
    const bucket = storage.bucket("b-1");
    const rows = ["a", "b", "c"].map((key) => ({ key, request: { ...prompt(`Question ${key}`), labels: { gb_row: key } } }));
    await bucket.file("in/rows.jsonl").save(rows.map((row) => `${JSON.stringify(row)}\n`).join(""), { resumable: false });
    const created = await ai.batches.create({
      model,
      src: "gs://b-1/in/rows.jsonl",
      config: { displayName: "three", dest: "gs://b-1/out/three" },
    });
    expect(created.name).toMatch(/^projects\/\d+\/locations\/us-central1\/batchPredictionJobs\/\d{19}$/);
    expect(created).toMatchObject({ state: JobState.JOB_STATE_PENDING, displayName: "three", model: `publishers/google/models/${model}` });
    const job = await ended(created);
    expect(job).toMatchObject({ state: JobState.JOB_STATE_SUCCEEDED, completionStats: { successfulCount: "3" } });
    const directory = job.outputInfo?.gcsOutputDirectory ?? "";
    expect(directory).toMatch(/^gs:\/\/b-1\/out\/three\/prediction-model-\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    expect(directory).toContain(created.createTime);
    const [files] = await bucket.getFiles({ prefix: `${directory.slice("gs://b-1/".length)}/` });
    expect(files.map((file) => file.name)).toEqual([`${directory.slice("gs://b-1/".length)}/predictions.jsonl`]);
    const [bytes] = await files[0]!.download();
    const lines = linesOf(bytes);
    expect(lines.map((line) => String(line.key)).toSorted()).toEqual(["a", "b", "c"]);
    for (const line of lines) {
      expect(line).toMatchObject({ status: "", request: { labels: { gb_row: line.key } } });
      expect(line.response.candidates[0].content.parts[0].text).toContain(`Question ${line.key}`);
    }
    await expect(ai.batches.cancel({ name: job.name ?? "" })).rejects.toMatchObject({ status: 400 });
    await ai.batches.delete({ name: job.name ?? "" });
    await expect(ai.batches.get({ name: job.name ?? "" })).rejects.toMatchObject({ status: 404 });
    expect((await files[0]!.exists())[0]).toBe(true);
    expect(emulator.ledger.totals).toMatchObject({ jobs: 1, sentRows: 3, billedRows: 3 });
  });

  it("lists jobs over pages and by filter", async () => {
    await storage
      .bucket("b-1")
      .file("in.jsonl")
      .save(JSON.stringify({ key: "a", request: prompt("hi") }), { resumable: false });
    const names: (string | undefined)[] = [];
    for (let i = 0; i < 5; i += 1)
      await ai.batches.create({ model, src: "gs://b-1/in.jsonl", config: { displayName: `job ${i}`, dest: "gs://b-1/out" } });
    for await (const job of await ai.batches.list({ config: { pageSize: 2 } })) names.push(job.displayName);
    expect(names).toEqual(["job 4", "job 3", "job 2", "job 1", "job 0"]);
    const found = await ai.batches.list({ config: { filter: 'displayName="job 3"' } });
    expect(found.page.map((job) => job.displayName)).toEqual(["job 3"]);
  });

  it("answers direct calls and embeddings", async () => {
    const answer = await ai.models.generateContent({ model, contents: "What is blue?" });
    expect(answer.text).toContain("What is blue?");
    let streamed = "";
    for await (const piece of await ai.models.generateContentStream({ model, contents: "What is blue?" })) streamed += piece.text ?? "";
    expect(streamed).toBe(answer.text);
    expect((await ai.models.countTokens({ model, contents: "12345678" })).totalTokens).toBe(2);
    const predicted = await ai.models.embedContent({
      model: "gemini-embedding-001",
      contents: ["a", "b"],
      config: { outputDimensionality: 16 },
    });
    expect(predicted.embeddings?.map((embedding) => embedding.values?.length)).toEqual([16, 16]);
    const embedded = await ai.models.embedContent({ model: "gemini-embedding-2", contents: "a", config: { outputDimensionality: 8 } });
    expect(embedded.embeddings?.map((embedding) => embedding.values?.length)).toEqual([8]);
    await expect(ai.models.generateContent({ model: "no-such-model", contents: "hi" })).rejects.toMatchObject({ status: 404 });
  });

  it("works with a key and without a project", async () => {
    const keyed = new GoogleGenAI({ enterprise: true, apiKey: "secret", httpOptions: { baseUrl: emulator.url } });
    expect((await keyed.models.generateContent({ model, contents: "hi" })).text).toContain("hi");
    await storage
      .bucket("b-1")
      .file("in.jsonl")
      .save(JSON.stringify({ key: "a", request: prompt("hi") }));
    const job = await keyed.batches.create({ model, src: "gs://b-1/in.jsonl", config: { dest: "gs://b-1/out" } });
    expect((await keyed.batches.get({ name: job.name?.split("/").at(-1) ?? "" })).displayName).toMatch(/^genaiBatchJob_/);
    const wrong = new GoogleGenAI({ enterprise: true, apiKey: "wrong", httpOptions: { baseUrl: emulator.url } });
    await expect(wrong.models.generateContent({ model, contents: "hi" })).rejects.toMatchObject({ status: 400 });
  });
});

describe("Vertex AI and BigQuery", () => {
  it("load, job, results", async () => {
    const dataset = bigQuery.dataset("d");
    const path = join(dir, "rows.jsonl");
    const rows = ["a", "b", "c"].map((key) => ({ key, request: prompt(`Question ${key}`) }));
    await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const schema = {
      fields: [
        { name: "key", type: "STRING" },
        { name: "request", type: "JSON" },
      ],
    };
    const load = { sourceFormat: "NEWLINE_DELIMITED_JSON", schema, jobId: "load-1" };
    await dataset.table("in").load(path, load);
    await expect(dataset.table("in").load(path, load)).rejects.toMatchObject({ code: 409 });
    const created = await ai.batches.create({ model, src: "bq://p.d.in", config: { displayName: "table", dest: "bq://p.d.out" } });
    const job = await ended(created);
    expect(job).toMatchObject({
      state: JobState.JOB_STATE_SUCCEEDED,
      outputInfo: { bigqueryOutputDataset: "bq://p.d", bigqueryOutputTable: "out" },
      completionStats: { successfulCount: "3" },
    });
    const [found] = await dataset.table("out").getRows();
    expect(found.map((row: Any) => String(row.key)).toSorted()).toEqual(["a", "b", "c"]);
    for (const row of found) {
      expect(row.status).toBe("");
      expect(row.processed_time.value).toMatch(/Z$/);
      expect(JSON.parse(row.request)).toEqual(prompt(`Question ${row.key}`));
      expect(JSON.parse(row.response).candidates[0].content.parts[0].text).toContain(`Question ${row.key}`);
    }
    const [metadata] = await dataset.table("out").getMetadata();
    expect(metadata.schema.fields.map((field: Any) => field.name)).toEqual(["key", "request", "response", "status", "processed_time"]);
  });
});

describe("Cloud Storage", () => {
  const text = "line one\nline two\n".repeat(40_000);

  it.each(["apiEndpoint", "STORAGE_EMULATOR_HOST"])("reads and writes, by %s", async (style) => {
    if (style !== "apiEndpoint") process.env.STORAGE_EMULATOR_HOST = emulator.url;
    const client = style === "apiEndpoint" ? storage : new Storage({ projectId: "p" });
    delete process.env.STORAGE_EMULATOR_HOST;
    const bucket = client.bucket("b-2");
    await bucket.file("plain.txt").save("hello", { resumable: false, metadata: { contentType: "text/plain", metadata: { run: "r1" } } });
    const [metadata] = await bucket.file("plain.txt").getMetadata();
    expect(metadata).toMatchObject({
      ...{ size: "5", contentType: "text/plain", md5Hash: "XUFAKrxLKna5cZ2REBfFkg==", crc32c: "mnG7TA==", metadata: { run: "r1" } },
      generation: expect.stringMatching(/^\d+$/),
    });
    await bucket.file("resumable.txt").save(text);
    await bucket.file("chunked.txt").save(text, { chunkSize: 262_144 });
    await pipeline([text], bucket.file("a dir/streamed?.txt").createWriteStream());
    for (const name of ["resumable.txt", "chunked.txt", "a dir/streamed?.txt"])
      expect((await bucket.file(name).download())[0].toString()).toBe(text);
    expect((await bucket.file("plain.txt").download({ start: 1, end: 3 }))[0].toString()).toBe("ell");
    const path = join(dir, "down.txt");
    await pipeline(bucket.file("resumable.txt").createReadStream(), createWriteStream(path));
    expect(await readFile(path, "utf8")).toBe(text);
    await bucket.file("plain.txt").delete();
    expect((await bucket.file("plain.txt").exists())[0]).toBe(false);
    await expect(bucket.file("plain.txt").download()).rejects.toMatchObject({ code: 404 });
  });

  it.each([{ resumable: false }, { resumable: true }])("writes an object once with ifGenerationMatch 0: %j", async (how) => {
    const file = storage.bucket("b-3").file("once");
    const save = (data: string) => file.save(data, { ...how, preconditionOpts: { ifGenerationMatch: 0 } });
    await save("one");
    await expect(save("two")).rejects.toMatchObject({ code: 412 });
    expect((await file.download())[0].toString()).toBe("one");
  });

  it("lists by prefix and delimiter, over pages", async () => {
    const bucket = storage.bucket("b-4");
    for (const name of ["a/1", "a/2", "a/deep/3", "b/4", "ä"]) await bucket.file(name).save("x", { resumable: false });
    const names = (files: { name: string }[]) => files.map((file) => file.name);
    expect(names((await bucket.getFiles({ prefix: "a/" }))[0])).toEqual(["a/1", "a/2", "a/deep/3"]);
    const pages: string[][] = [];
    for (let query: Any = { maxResults: 2, autoPaginate: false }; query;) {
      const [page, next] = (await bucket.getFiles(query)) as Any[];
      pages.push(names(page));
      query = next;
    }
    expect(pages).toEqual([["a/1", "a/2"], ["a/deep/3", "b/4"], ["ä"]]);
    const [files, , response] = (await bucket.getFiles({ prefix: "a/", delimiter: "/", autoPaginate: false })) as Any[];
    expect(names(files)).toEqual(["a/1", "a/2"]);
    expect(response.prefixes).toEqual(["a/deep/"]);
  });

  it("has the buckets that it is told of", async () => {
    await emulator.close();
    emulator = await startEmulator({ buckets: ["there"] });
    const client = new Storage({ apiEndpoint: emulator.url, projectId: "p" });
    expect((await client.bucket("there").exists())[0]).toBe(true);
    expect((await client.bucket("not-there").exists())[0]).toBe(false);
    await expect(client.bucket("not-there").file("x").save("x", { resumable: false })).rejects.toMatchObject({ code: 404 });
    await client.createBucket("not-there");
    await expect(client.createBucket("not-there")).rejects.toMatchObject({ code: 409 });
    await client.bucket("not-there").file("x").save("x", { resumable: false });
    await expect(client.bucket("not-there").delete()).rejects.toMatchObject({ code: 409 });
    expect((await client.getBuckets())[0].map((bucket) => bucket.name)).toEqual(["not-there", "there"]);
  });
});

describe("BigQuery", () => {
  it.each(["apiEndpoint", "BIGQUERY_EMULATOR_HOST"])("makes, fills, reads and deletes a table, by %s", async (style) => {
    if (style !== "apiEndpoint") process.env.BIGQUERY_EMULATOR_HOST = emulator.url;
    const client = style === "apiEndpoint" ? bigQuery : new BigQuery({ projectId: "p", authClient: noCredentials });
    delete process.env.BIGQUERY_EMULATOR_HOST;
    const [dataset] = await client.createDataset("d2");
    await expect(client.createDataset("d2")).rejects.toMatchObject({ code: 409 });
    const [table] = await dataset.createTable("t", { schema: "key:STRING,number:INTEGER,at:TIMESTAMP,ok:BOOLEAN,data:JSON" });
    await table.insert({ key: "a", number: 7, at: "2026-11-22T10:00:00.5Z", ok: true, data: '{"x":[1,2]}' });
    await table.insert([{ insertId: "i1", json: { key: "b" } }], { raw: true });
    await table.insert([{ insertId: "i1", json: { key: "b" } }], { raw: true });
    await expect(table.insert({ nope: 1 })).rejects.toMatchObject({ name: "PartialFailureError" });
    const [rows] = (await table.getRows()) as Any[];
    expect(rows).toHaveLength(2);
    expect(rows[0]).toMatchObject({ key: "a", number: 7, at: { value: "2026-11-22T10:00:00.500Z" }, ok: true, data: '{"x":[1,2]}' });
    expect(rows[1]).toMatchObject({ key: "b", number: null });
    expect((await dataset.getTables())[0].map((known) => known.id)).toEqual(["t"]);
    const [queried] = (await client.query("SELECT * FROM `p.d2.t` LIMIT 1")) as Any[];
    expect(queried.map((row: Any) => row.key)).toEqual(["a"]);
    await expect(client.query("SELECT 1")).rejects.toMatchObject({ code: 400 });
    await table.delete();
    expect((await table.exists())[0]).toBe(false);
  });

  it("lets a table expire, by the clock", async () => {
    let now = Date.UTC(2026, 10, 22);
    await using timed = await startEmulator({ clock: { now: () => now, sleep: async () => {} } });
    const dataset = new BigQuery({ apiEndpoint: timed.url, projectId: "p", authClient: noCredentials }).dataset("d");
    const [table] = await dataset.createTable("t", { schema: "key:STRING" });
    expect(table.metadata.expirationTime).toBeUndefined();
    await table.setMetadata({ expirationTime: String(now + 1_000) });
    expect((await table.getMetadata())[0]).toMatchObject({ tableReference: { tableId: "t" }, expirationTime: String(now + 1_000) });
    await expect(table.setMetadata({ expirationTime: String(now) })).rejects.toMatchObject({ code: 400 });
    await expect(table.setMetadata({ expirationTime: "soon" })).rejects.toMatchObject({ code: 400 });
    await dataset.createTable("kept", { schema: "key:STRING", expirationTime: String(now + 1_000) });
    await dataset.table("kept").setMetadata({ expirationTime: null } as Any);
    now += 999;
    expect((await table.exists())[0]).toBe(true);
    now += 1;
    expect((await table.exists())[0]).toBe(false);
    expect((await dataset.getTables())[0].map(({ id }) => id)).toEqual(["kept"]);
    await expect(table.setMetadata({ expirationTime: String(now + 1_000) })).rejects.toMatchObject({ code: 404 });
    await dataset.createTable("t", { schema: "key:STRING" });
  });

  it("loads an object, once for a job id, as a whole or not at all", async () => {
    const file = storage.bucket("b-5").file("rows.jsonl");
    await file.save(Array.from({ length: 25 }, (_, i) => JSON.stringify({ key: `r${i}`, request: { n: i } })).join("\n"));
    const table = bigQuery.dataset("d3").table("t");
    const schema = "key:STRING,request:JSON";
    await table.load(file, { sourceFormat: "NEWLINE_DELIMITED_JSON", schema: { fields: fieldsOf(schema) }, jobId: "once" });
    await expect(table.createLoadJob(file, { sourceFormat: "NEWLINE_DELIMITED_JSON", jobId: "once" })).rejects.toMatchObject({ code: 409 });
    const rows: Any[] = [];
    for (let query: Any = { maxResults: 10, autoPaginate: false }; query;) {
      const [page, next] = (await table.getRows(query)) as Any[];
      rows.push(...page);
      query = next;
    }
    expect(emulator.ledger.calls["bigquery.readRows"]).toBe(3);
    expect(rows.map((row: Any) => row.key)).toEqual(Array.from({ length: 25 }, (_, i) => `r${i}`));
    expect(rows[3].request).toBe('{"n":3}');
    await file.save('{"key":"x"}\n{"nope":1}\n');
    await expect(table.load(file, { sourceFormat: "NEWLINE_DELIMITED_JSON" })).rejects.toThrow("no such field: nope");
    await table.load(file, { sourceFormat: "NEWLINE_DELIMITED_JSON", autodetect: true, writeDisposition: "WRITE_TRUNCATE" });
    // The client remembers the schema of a table.
    const [again] = (await bigQuery.dataset("d3").table("t").getRows()) as Any[];
    expect(again).toEqual([
      { key: "x", nope: null },
      { key: null, nope: 1 },
    ]);
  });
});

function fieldsOf(schema: string): { name: string; type: string }[] {
  return schema.split(",").map((column) => {
    const [name = "", type = ""] = column.split(":");
    return { name, type };
  });
}
