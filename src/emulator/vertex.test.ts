import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorFaults, type EmulatorOptions } from "../emulator.ts";

/** Batch prediction jobs in virtual time: their resources, the importer, their ends. */

type Any = any;
const model = "publishers/google/models/gemini-2.5-flash";
const prompt = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });
const rowsOf = (count: number) => Array.from({ length: count }, (_, i) => ({ key: `r${i}`, request: prompt(`What about r${i}?`) }));
const hour = 3_600_000;
const minute = 60_000;

/** Jobs take 100 minutes: 30 until they run. */
async function setUp(faults: EmulatorFaults = {}, options: EmulatorOptions = {}) {
  let now = Date.UTC(2026, 10, 22);
  const clock = { now: () => now, sleep: async (ms: number) => void (now += ms) };
  const emulator = await startEmulator({ turnaround: 100 * minute, clock, faults, ...options });
  const call = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(emulator.url + path, {
      method,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    return { status: response.status, json: (await response.json()) as Any };
  };
  const jobs = "/v1/projects/p/locations/us-central1/batchPredictionJobs";
  const upload = (name: string, text: string) => call("POST", `/upload/storage/v1/b/bucket/o?uploadType=media&name=${name}`, text);
  const create = (change: object = {}) =>
    call("POST", jobs, {
      ...{ displayName: "d", model },
      inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/in.jsonl"] } },
      outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://bucket/out" } },
      ...change,
    });
  /** A job of these lines. */
  const start = async (rows: readonly unknown[], change: object = {}) => {
    await upload("in.jsonl", rows.map((row) => (typeof row === "string" ? row : JSON.stringify(row))).join("\n"));
    return (await create(change)).json.name as string;
  };
  const get = async (name: string) => (await call("GET", `/v1/${name}`)).json;
  const names = async () =>
    ((await call("GET", "/storage/v1/b/bucket/o?prefix=out/")).json.items ?? []).map((item: Any) => item.name) as string[];
  const linesIn = async (name: string) => {
    const response = await fetch(`${emulator.url}/b/bucket/o/${encodeURIComponent(name)}?alt=media`);
    return (await response.text())
      .split("\n")
      .slice(0, -1)
      .map((line): Any => JSON.parse(line));
  };
  /** The output of a new job of these lines. */
  const answered = async (rows: readonly unknown[], change: object = {}) => {
    const name = await start(rows, change);
    now += 100 * minute;
    const job = await get(name);
    expect(job.error).toBeUndefined();
    return linesIn(`${job.outputInfo.gcsOutputDirectory.slice("gs://bucket/".length)}/predictions.jsonl`);
  };
  return {
    ...{ emulator, call, jobs, upload, create, start, get, names, linesIn, answered },
    advance: (ms: number) => void (now += ms),
    [Symbol.asyncDispose]: () => emulator.close(),
  };
}

describe("a batch prediction job", () => {
  it("goes through its states by the clock alone, and shows its results at its end", async () => {
    await using t = await setUp();
    await t.upload(
      "in.jsonl",
      rowsOf(3)
        .map((row) => JSON.stringify(row))
        .join("\n"),
    );
    const { json: created } = await t.create({ labels: { run: "r1" } });
    expect(created).toEqual({
      name: expect.stringMatching(/^projects\/\d{12}\/locations\/us-central1\/batchPredictionJobs\/\d{19}$/),
      ...{ displayName: "d", model, modelVersionId: "1", state: "JOB_STATE_PENDING", labels: { run: "r1" } },
      inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/in.jsonl"] } },
      outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://bucket/out" } },
      ...{ createTime: "2026-11-22T00:00:00.000000Z", updateTime: "2026-11-22T00:00:00.000000Z" },
    });
    const states: string[] = [];
    for (let i = 0; i < 4; i += 1) {
      states.push((await t.get(created.name)).state);
      t.advance([15, 15, 70, 0][i]! * minute);
      if (i < 2) expect(await t.names()).toEqual([]);
    }
    expect(states).toEqual(["JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"]);
    expect(await t.get(created.name)).toEqual({
      ...created,
      state: "JOB_STATE_SUCCEEDED",
      outputInfo: { gcsOutputDirectory: "gs://bucket/out/prediction-model-2026-11-22T00:00:00.000000Z" },
      completionStats: { successfulCount: "3" },
      startTime: "2026-11-22T00:30:00.000000Z",
      endTime: "2026-11-22T01:40:00.000000Z",
      updateTime: "2026-11-22T01:40:00.000000Z",
    });
    expect(await t.names()).toEqual(["out/prediction-model-2026-11-22T00:00:00.000000Z/predictions.jsonl"]);
    expect(t.emulator.jobs()).toEqual([
      expect.objectContaining({ name: created.name, kind: "storage", rows: 3, billedRows: 3, state: "SUCCEEDED" }),
    ]);
  });

  it("writes rows in another order, the request with sorted keys and nulls", async () => {
    await using t = await setUp();
    const rows = rowsOf(20).map((row, i) => ({
      ...row,
      request: i === 3 ? { generationConfig: { temperature: 0 }, ...row.request } : { ...row.request, labels: { gb_row: row.key } },
    }));
    const lines = await t.answered(rows);
    expect(lines.map((line) => line.key)).not.toEqual(rows.map((row) => row.key));
    const byKey = new Map(lines.map((line) => [line.key, line]));
    expect(byKey.size).toBe(20);
    expect(JSON.stringify(byKey.get("r3").request)).toBe(
      '{"contents":[{"parts":[{"text":"What about r3?"}],"role":"user"}],"generationConfig":{"temperature":0},"labels":null}',
    );
    expect(byKey.get("r4")).toEqual({
      status: "",
      processed_time: expect.stringMatching(/^2026-11-22T0\d:\d\d:\d\d\.\d{3}\+00:00$/),
      request: { ...prompt("What about r4?"), generationConfig: null, labels: { gb_row: "r4" } },
      response: expect.objectContaining({
        modelVersion: "gemini-2.5-flash",
        usageMetadata: expect.objectContaining({ trafficType: "ON_DEMAND" }),
      }),
      key: "r4",
    });
  });

  it.each([
    [{ displayName: "" }, 400, "display_name"],
    [{ model: "gemini-2.5-flash" }, 400, "model resource name"],
    [{ model: "publishers/google/models/no-such-model" }, 404, "was not found"],
    [{ model: "publishers/google/models/gemini-2.5-flash", labels: { Key: "x" } }, 400, "label key"],
    [{ inputConfig: { instancesFormat: "csv" } }, 400, "instances_format"],
    [{ inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://b/1", "gs://b/2"] } } }, 400, "one JSONL file"],
    [{ outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "out" } } }, 400, "Invalid Cloud Storage URI"],
  ])("is refused for %j", async (change, status, message) => {
    await using t = await setUp();
    const answer = await t.create(change);
    expect(answer.status).toBe(status);
    expect(answer.json.error.message).toContain(message);
    expect(t.emulator.jobs()).toEqual([]);
  });

  it.each(["projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash", "projects/1/locations/us-central1/models/7@1"])(
    "takes %s as its model",
    async (name) => {
      await using t = await setUp();
      expect(await t.answered(rowsOf(1), { model: name })).toHaveLength(1);
    },
  );

  it("lies in its project and location, by id or number", async () => {
    await using t = await setUp();
    const name = await t.start(rowsOf(1));
    const id = name.split("/").at(-1);
    expect((await t.call("GET", `/v1beta1/projects/p/locations/us-central1/batchPredictionJobs/${id}`)).status).toBe(200);
    expect((await t.call("GET", `/v1/projects/p/locations/global/batchPredictionJobs/${id}`)).status).toBe(404);
    expect((await t.call("GET", `/v1/projects/other/locations/us-central1/batchPredictionJobs/${id}`)).status).toBe(404);
    expect((await t.call("GET", `/v1beta/batches/${id}`)).status).toBe(404);
    expect((await t.call("GET", "/v1beta/batches")).json).toEqual({});
    expect((await t.call("GET", "/v1/projects/p/locations/global/batchPredictionJobs")).json).toEqual({});
  });

  it("is found by filters", async () => {
    await using t = await setUp();
    for (const [i, run] of ["r1", "r2", "r1"].entries()) {
      await t.start(rowsOf(1), { displayName: `job ${i}`, labels: { run } });
      t.advance(minute);
    }
    const found = async (filter: string) => {
      const { json } = await t.call("GET", `${t.jobs}?filter=${encodeURIComponent(filter)}`);
      return (json.batchPredictionJobs ?? json.error.message).map?.((job: Any) => job.displayName) ?? json.error.status;
    };
    expect(await found('display_name="job 1"')).toEqual(["job 1"]);
    expect(await found('displayName="job 1" OR displayName="job 2"')).toEqual(["job 2", "job 1"]);
    expect(await found('labels.run=r1 AND NOT display_name="job 0"')).toEqual(["job 2"]);
    expect(await found('create_time>"2026-11-22T00:00:30Z"')).toEqual(["job 2", "job 1"]);
    expect(await found('state="JOB_STATE_QUEUED" AND labels.run:*')).toEqual(["job 2", "job 1", "job 0"]);
    expect(await found("whatever")).toBe("INVALID_ARGUMENT");
  });

  it("has no key of its own against being made twice", async () => {
    await using t = await setUp();
    const first = await t.start(rowsOf(2));
    expect((await t.create()).json.name).not.toBe(first);
    expect(t.emulator.ledger.totals).toMatchObject({ jobs: 2, sentRows: 4 });
    expect(t.emulator.ledger.duplicatePrompts()).toHaveLength(2);
  });
});

describe("the end of a batch prediction job", () => {
  it("that is cancelled keeps the rows that it had finished, and bills them", async () => {
    await using t = await setUp();
    const name = await t.start(rowsOf(100));
    t.advance(65 * minute);
    expect((await t.call("POST", `/v1/${name}:cancel`)).json).toEqual({});
    const job = await t.get(name);
    expect(job).toMatchObject({
      state: "JOB_STATE_CANCELLED",
      error: { code: 1 },
      completionStats: { successfulCount: "50", incompleteCount: "50" },
    });
    const [object = ""] = await t.names();
    expect(await t.linesIn(object)).toHaveLength(50);
    expect(t.emulator.ledger.totals.billedRows).toBe(50);
    expect((await t.call("POST", `/v1/${name}:cancel`)).json.error).toMatchObject({ code: 400, status: "FAILED_PRECONDITION" });
  });

  it("that is cancelled before it runs leaves nothing", async () => {
    await using t = await setUp();
    const name = await t.start(rowsOf(10));
    t.advance(10 * minute);
    await t.call("POST", `/v1/${name}:cancel`);
    const job = await t.get(name);
    expect(job).toMatchObject({ state: "JOB_STATE_CANCELLED", completionStats: { incompleteCount: "10" } });
    expect(job).not.toHaveProperty("outputInfo");
    expect(await t.names()).toEqual([]);
    expect(t.emulator.ledger.totals.billedRows).toBe(0);
  });

  it("comes after 24 hours of running, with the rows that were finished", async () => {
    await using t = await setUp({}, { turnaround: 72 * hour, pendingFraction: 1 / 3 });
    const name = await t.start(rowsOf(10));
    t.advance(48 * hour - 1);
    expect((await t.get(name)).state).toBe("JOB_STATE_RUNNING");
    t.advance(1);
    expect(await t.get(name)).toMatchObject({
      state: "JOB_STATE_CANCELLED",
      completionStats: { successfulCount: "5", incompleteCount: "5" },
    });
    expect(await t.linesIn((await t.names())[0] ?? "")).toHaveLength(5);
  });

  it("comes after 72 hours in the queue, with nothing", async () => {
    await using t = await setUp({}, { turnaround: 100 * hour, pendingFraction: 0.9 });
    const name = await t.start(rowsOf(10));
    t.advance(72 * hour - 1);
    expect((await t.get(name)).state).toBe("JOB_STATE_PENDING");
    t.advance(1);
    const job = await t.get(name);
    expect(job.state).toBe("JOB_STATE_EXPIRED");
    expect(job).not.toHaveProperty("error");
    expect(await t.names()).toEqual([]);
  });

  it("must have come before it can be deleted; its results stay", async () => {
    await using t = await setUp();
    const name = await t.start(rowsOf(1));
    expect((await t.call("DELETE", `/v1/${name}`)).json.error).toMatchObject({ code: 400, status: "FAILED_PRECONDITION" });
    t.advance(100 * minute);
    expect((await t.call("DELETE", `/v1/${name}`)).json).toMatchObject({ done: true });
    expect((await t.call("GET", `/v1/${name}`)).status).toBe(404);
    expect((await t.call("DELETE", `/v1/${name}`)).status).toBe(404);
    expect(await t.names()).toHaveLength(1);
  });

  it("does not wait for an answer that never comes", async () => {
    await using emulator = await startEmulator({
      ...{ turnaround: 60_000, pendingFraction: 0 },
      answer: (_, { index }) => (index === 0 ? "at once" : new Promise<string>(() => undefined)),
    });
    const call = (method: string, path: string, body?: unknown) =>
      fetch(emulator.url + path, {
        method,
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
    await call(
      "POST",
      "/upload/storage/v1/b/bucket/o?uploadType=media&name=in",
      rowsOf(3)
        .map((row) => JSON.stringify(row))
        .join("\n"),
    );
    const created = await call("POST", "/v1/batchPredictionJobs", {
      ...{ displayName: "d", model },
      inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/in"] } },
      outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://bucket/out" } },
    });
    const { name } = (await created.json()) as Any;
    expect((await call("POST", `/v1/${name}:cancel`)).status).toBe(200);
    await emulator.idle();
    expect(((await (await call("GET", `/v1/${name}`)).json()) as Any).state).toBe("JOB_STATE_CANCELLED");
  });
});

describe("the importer of JSON Lines", () => {
  const deep = (levels: number): object => (levels === 0 ? { type: "STRING" } : { type: "OBJECT", properties: { a: deep(levels - 1) } });
  const withSchema = (responseSchema: unknown) => ({ key: "a", request: { ...prompt("hi"), generationConfig: { responseSchema } } });

  it.each<[string, unknown[], string]>([
    ["an empty object", [{ key: "a", request: { ...prompt("hi"), tools: [{ googleSearch: {} }] } }], "empty object"],
    ["$schema", [withSchema({ $schema: "x", type: "OBJECT" })], "is not allowed"],
    ["$defs", [withSchema({ type: "OBJECT", $defs: { a: { type: "STRING" } } })], "is not allowed"],
    ["a key with a space", [withSchema({ type: "OBJECT", properties: { "full name": { type: "STRING" } } })], "is not allowed"],
    ["a null in an array", [withSchema({ type: "STRING", enum: ["a", null] })], "null"],
    ["a deep schema", [withSchema(deep(8))], "deeper than 15"],
    ["mixed types in an enum", [withSchema({ enum: ["a", 1] })], "is string in one place and number in another"],
    [
      "types that differ between rows",
      [withSchema({ type: "STRING" }), withSchema({ type: ["STRING", "NULL"] })],
      "is string in one place and array in another",
    ],
    ["what is no JSON", [rowsOf(1)[0], "{"], "row 2 is not a JSON object"],
    ["no rows", [""], "no rows"],
    ["more than 200,000 rows", [Array(200_001).fill('{"request":1}').join("\n")], "more than 200000"],
  ])("fails the whole job for %s", async (_, rows, reason) => {
    await using t = await setUp();
    const name = await t.start(rows);
    expect((await t.get(name)).state).toBe("JOB_STATE_QUEUED");
    t.advance(30 * minute);
    const job = await t.get(name);
    expect(job).toMatchObject({ state: "JOB_STATE_FAILED", error: { code: 3, message: expect.stringMatching(/^Failed to import data/) } });
    expect(job.error.message).toContain(reason);
    expect(job).not.toHaveProperty("outputInfo");
    expect(t.emulator.ledger.totals.billedRows).toBe(0);
  });

  it("takes schemas that are not too deep", async () => {
    await using t = await setUp();
    expect(await t.answered([withSchema(deep(5))])).toHaveLength(1);
  });

  it("turns ids that look like numbers into numbers, if all do", async () => {
    await using t = await setUp();
    const rows = ["000000", "17"].map((key) => ({ key, request: { ...prompt(`What is ${key}?`), labels: { row: key } } }));
    const lines = await t.answered(rows);
    expect(new Set(lines.map((line) => line.key))).toEqual(new Set([0, 17]));
    expect(new Set(lines.map((line) => line.request.labels.row))).toEqual(new Set([0, 17]));
    const mixed = await t.answered([...rows, { key: "r1", request: { ...prompt("x"), labels: { row: "r1" } } }]);
    expect(new Set(mixed.map((line) => line.key))).toEqual(new Set(["000000", "17", "r1"]));
  });

  it.each<[string, object]>([
    ["object", { inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/not-there"] } } }],
    ["bucket", { outputConfig: { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://no-bucket/out" } } }],
    ["table", { inputConfig: { instancesFormat: "bigquery", bigquerySource: { inputUri: "bq://p.d.not_there" } } }],
  ])("fails the whole job later for a %s that does not exist", async (_, change) => {
    await using t = await setUp({}, { buckets: ["bucket"] });
    const name = await t.start(rowsOf(1), change);
    t.advance(30 * minute);
    expect(await t.get(name)).toMatchObject({ state: "JOB_STATE_FAILED", error: { code: 9 } });
  });
});

describe("rows that fail", () => {
  it("say so in their status, and do not fail the job", async () => {
    await using t = await setUp({}, { answer: (_, { key }) => (key === "r1" ? { error: { code: 13, message: "Broken." } } : undefined) });
    const rows: Any[] = [...rowsOf(2), { key: "role", request: { contents: [{ parts: [{ text: "x" }] }] } }];
    rows.push({ key: "cached", request: { ...prompt("x"), cachedContent: "projects/p/locations/l/cachedContents/12" } });
    const status = Object.fromEntries((await t.answered(rows)).map((line) => [line.key, [line.status, line.response]]));
    expect(status).toMatchObject({
      r0: ["", { candidates: expect.any(Array) }],
      r1: [
        'Internal error occurred. Failed to get generateContentResponse: {"error": {"code": 500, "message": "Broken.", "status": "INTERNAL"}}',
        {},
      ],
      role: ['Bad Request: {"error": {"code": 400, "message": "Please use a valid role: user, model.", "status": "INVALID_ARGUMENT"}}', {}],
      cached: [
        expect.stringMatching(
          /^Internal error occurred\. Failed to get generateContentResponse: \{"error": \{"code": 404, .*cached content/,
        ),
        {},
      ],
    });
    const { json } = await t.call("GET", t.jobs);
    expect(json.batchPredictionJobs[0]).toMatchObject({
      state: "JOB_STATE_SUCCEEDED",
      completionStats: { successfulCount: "1", failedCount: "3" },
    });
    expect(t.emulator.ledger.totals.billedRows).toBe(1);
  });
});

describe("other families", () => {
  it("Claude", async () => {
    await using t = await setUp();
    const request = {
      anthropic_version: "vertex-2023-10-16",
      max_tokens: 100,
      messages: [{ role: "user", content: "Why?" }],
      metadata: {},
    };
    const lines = await t.answered(
      [
        { custom_id: "c1", request },
        { custom_id: "c2", request: { messages: [] } },
      ],
      {
        model: "publishers/anthropic/models/claude-sonnet-4-5",
      },
    );
    expect(lines.find((line) => line.custom_id === "c1")).toMatchObject({
      status: "",
      response: {
        ...{ type: "message", role: "assistant", model: "claude-sonnet-4-5", stop_reason: "end_turn" },
        content: [{ type: "text", text: expect.stringContaining("Why?") }],
        usage: { input_tokens: expect.any(Number), output_tokens: expect.any(Number) },
      },
    });
    expect(lines.find((line) => line.custom_id === "c2").status).toMatch(/^Bad Request: /);
  });

  it("open models", async () => {
    await using t = await setUp();
    const row = { custom_id: "o1", method: "POST", url: "/v1/chat/completions", body: { messages: [{ role: "user", content: "Why?" }] } };
    const [line] = await t.answered([row], { model: "publishers/meta/models/llama-4-maverick-maas" });
    expect(line).toMatchObject({
      custom_id: "o1",
      response: { choices: [{ message: { content: expect.stringContaining("Why?") }, finish_reason: "stop" }] },
    });
  });

  it("embeddings, with requests and with instances", async () => {
    await using t = await setUp();
    const content = { parts: [{ text: "hi" }] };
    const [line] = await t.answered([{ key: "e1", request: { content, outputDimensionality: 8 } }], {
      model: "publishers/google/models/gemini-embedding-001",
    });
    expect(line).toMatchObject({ key: "e1", status: "" });
    expect(line.response.embedding.values).toHaveLength(8);
    const [legacy] = await t.answered([{ content: "hi" }], { model: "publishers/google/models/text-embedding-005" });
    expect(legacy).toMatchObject({ instance: { content: "hi" }, status: "" });
    expect(legacy.predictions[0].embeddings.values).toHaveLength(768);
  });
});
