/** What goes over the wire, recorded by a local server that answers what it is told. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { BigQuery } from "@google-cloud/bigquery";
import { CRC32C, Storage } from "@google-cloud/storage";
import { PassThroughClient } from "google-auth-library";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type JobInput, type Lane, ProviderError, type StagedInput } from "../../core/provider.ts";
import type { VertexOptions } from "./options.ts";
import { vertex } from "./provider.ts";

interface Sent {
  method: string;
  path: string;
  query: Record<string, string>;
  headers: IncomingHttpHeaders;
  body: string;
}

type Reply = [status: number, body: unknown, headers?: Record<string, string>];

const { signal } = new AbortController();
const lane: Lane = { provider: "vertex", model: "gemini-2.5-flash", method: "generateContent" };
const name = "projects/123/locations/us-central1/batchPredictionJobs/456";
const resource = { name, displayName: "gb-1", state: "JOB_STATE_PENDING", createTime: "2026-11-22T10:00:00.000000Z" };
const prompt = '{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}';
const gone: Reply = [
  404,
  { error: { code: 404, message: "not found", status: "NOT_FOUND", errors: [{ reason: "notFound", message: "not found" }] } },
];
const stop: (() => Promise<void>)[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of stop.splice(0)) await close();
});

/** A server that records; the first route whose `METHOD path` begins so answers, anything else is not found. */
async function record(routes: Record<string, Reply | ((sent: Sent) => Reply)>) {
  const sent: Sent[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // The other side has left in the middle: nothing arrived.
      return;
    }
    const url = new URL(request.url ?? "", "http://host");
    const query = Object.fromEntries(url.searchParams);
    const one = {
      method: request.method ?? "",
      path: decodeURIComponent(url.pathname),
      query,
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
    };
    sent.push(one);
    const route = Object.entries(routes).find(([start]) => `${one.method} ${one.path}`.startsWith(start))?.[1] ?? gone;
    const [status, body, headers = {}] = typeof route === "function" ? route(one) : route;
    response
      .writeHead(status, { "content-type": "application/json", ...headers })
      .end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stop.push(() => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const calls = () => sent.map(({ method, path }) => `${method} ${path}`);
  return { url, sent, calls };
}

function on(url: string, options: VertexOptions = {}) {
  const ready = {
    storage: new Storage({ projectId: "p", apiEndpoint: url, retryOptions: { autoRetry: false } }),
    bigquery: new BigQuery({ projectId: "p", apiEndpoint: url, retryOptions: { autoRetry: false }, authClient: new PassThroughClient() }),
  };
  return vertex({ project: "p", location: "us-central1", baseUrl: url, bucket: "gs://bucket/folder", ...ready, ...options });
}

function input(keys: readonly string[] = ["r1.1"], of: Partial<Lane> = {}, body = prompt): JobInput {
  const rows = async function* () {
    for (const key of keys) yield { key, body };
  };
  return { token: "gb-1", lane: { ...lane, ...of }, requestCount: keys.length, bytes: keys.length * body.length, rows };
}

const failureOf = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
  } catch (thrown) {
    if (ProviderError.is(thrown)) return thrown.failure;
    throw thrown;
  }
  return "nothing";
};

const object: Reply = [200, { name: "folder/gb-1/input.jsonl", size: "1" }];
/** The client compares what was received with what it has sent. */
const written = ({ body }: Sent): Reply => {
  const crc = new CRC32C();
  crc.update(Buffer.from(body));
  return [200, { name: "folder/gb-1/input.jsonl", crc32c: crc.toString() }];
};
const staged: StagedInput = { ref: "gs://bucket/folder/gb-1/input.jsonl" };
const sending = { signal, beforeSend: async () => true };
const jobs = "/v1/projects/p/locations/us-central1/batchPredictionJobs";

describe("creating a job", () => {
  it("sends one request with display name, input, output and labels", async () => {
    const { url, sent } = await record({ "GET /storage/v1/b/bucket/o/folder": object, [`POST ${jobs}`]: [200, resource] });
    const provider = on(url, {
      labels: { team: "a" },
      headers: { "x-mine": "1" },
      authClient: { getRequestHeaders: async () => ({ authorization: "Bearer t" }) },
    });
    const job = await provider.createJob(input(), staged, sending);
    expect(job).toEqual({ name, token: "gb-1", state: "pending", rawStatus: "JOB_STATE_PENDING", createdAt: Date.UTC(2026, 10, 22, 10) });
    const [create, ...more] = sent.filter(({ method }) => method === "POST");
    expect(more).toEqual([]);
    expect(create?.path).toBe(jobs);
    expect(create?.headers).toMatchObject({ authorization: "Bearer t", "x-mine": "1", "content-type": "application/json" });
    expect(JSON.parse(create?.body ?? "")).toEqual({
      displayName: "gb-1",
      model: "publishers/google/models/gemini-2.5-flash",
      inputConfig: { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/folder/gb-1/input.jsonl"] } },
      outputConfig: {
        predictionsFormat: "jsonl",
        gcsDestination: { outputUriPrefix: expect.stringMatching(/^gs:\/\/bucket\/folder\/gb-1\/output-[a-z0-9]{10}$/) as string },
      },
      labels: { team: "a", gembatch: "job" },
    });
  });

  it("reads from and writes to tables", async () => {
    const { url, sent } = await record({
      "GET /bigquery/v2/projects/data/datasets/d/tables/gb_1_input": [200, {}],
      [`POST ${jobs}`]: [200, resource],
    });
    await on(url, { dataset: "bq://data.d" }).createJob(input(), { ref: "bq://data.d.gb_1_input" }, sending);
    expect(JSON.parse(sent.at(-1)?.body ?? "")).toMatchObject({
      inputConfig: { instancesFormat: "bigquery", bigquerySource: { inputUri: "bq://data.d.gb_1_input" } },
      outputConfig: {
        predictionsFormat: "bigquery",
        bigqueryDestination: { outputUri: expect.stringMatching(/^bq:\/\/data\.d\.gb_1_output_[a-z0-9]{10}$/) as string },
      },
    });
  });

  it("has another output at each attempt", async () => {
    const { url, sent } = await record({ "GET /storage": object, [`POST ${jobs}`]: [200, resource] });
    const provider = on(url);
    for (let i = 0; i < 3; i += 1) await provider.createJob(input(), staged, sending);
    const outputs = sent
      .filter(({ method }) => method === "POST")
      .map(
        ({ body }) =>
          (JSON.parse(body) as { outputConfig: { gcsDestination: { outputUriPrefix: string } } }).outputConfig.gcsDestination
            .outputUriPrefix,
      );
    expect(new Set(outputs).size).toBe(3);
  });

  it.each([
    ["publishers/anthropic/models/claude", "publishers/anthropic/models/claude"],
    ["projects/p/locations/us-central1/models/77", "projects/p/locations/us-central1/models/77"],
  ])("names the model %s", async (model, written) => {
    const { url, sent } = await record({ "GET /storage": object, [`POST ${jobs}`]: [200, resource] });
    await on(url).createJob(input(["r1.1"], { model }), staged, sending);
    expect(JSON.parse(sent.at(-1)?.body ?? "")).toMatchObject({ model: written });
  });

  it("has its credentials before it asks whether it may still send", async () => {
    const order: string[] = [];
    const { url } = await record({ "GET /storage": object, [`POST ${jobs}`]: () => (order.push("sent"), [200, resource]) });
    const provider = on(url, { authClient: { getRequestHeaders: async () => (order.push("credentials"), {}) } });
    await provider.createJob(input(), staged, { signal, beforeSend: async () => (order.push("asked"), true) });
    expect(order).toEqual(["credentials", "asked", "sent"]);
  });

  it("creates nothing without credentials, and asks nobody", async () => {
    const { url, calls } = await record({ "GET /storage": object });
    const authClient = { getRequestHeaders: () => Promise.reject(new Error("Could not load the default credentials.")) };
    let asked = 0;
    const create = on(url, { authClient }).createJob(input(), staged, { signal, beforeSend: async () => ((asked += 1), true) });
    expect(await failureOf(create)).toBe("denied");
    expect([asked, calls().filter((call) => call.startsWith("POST"))]).toEqual([0, []]);
  });

  it.each<[string, Reply, string]>([
    ["an answer that is no job", [200, { something: 1 }], "ambiguous"],
    ["500", [500, { error: { code: 500, status: "INTERNAL", message: "m" } }], "ambiguous"],
    ["a redirect", [308, "", { location: "http://127.0.0.1:1/" }], "unavailable"],
  ])("sends once, whatever the answer: %s", async (_name, reply, failure) => {
    const { url, calls } = await record({ "GET /storage": object, [`POST ${jobs}`]: reply });
    expect(await failureOf(on(url).createJob(input(), staged, sending))).toBe(failure);
    expect(calls().filter((call) => call.startsWith("POST"))).toHaveLength(1);
  });

  it("is the same with variables that are meant for others, and writes nothing to the console", async () => {
    const { url, sent } = await record({ "GET /storage": object, [`POST ${jobs}`]: [200, resource] });
    const written = (["log", "warn", "error", "debug"] as const).map((method) => vi.spyOn(console, method));
    for (const variable of ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"]) vi.stubEnv(variable, "http://elsewhere.example");
    vi.stubEnv("GOOGLE_GENAI_USE_VERTEXAI", "false");
    await on(url).createJob(input(), staged, sending);
    vi.unstubAllEnvs();
    expect(sent.at(-1)?.path).toBe(jobs);
    expect(sent.at(-1)?.headers["x-goog-api-key"]).toBeUndefined();
    expect(written.flatMap((spy) => spy.mock.calls)).toEqual([]);
  });
});

describe("staging in a bucket", () => {
  const upload = "POST /upload/storage/v1/b/bucket/o";

  it("writes one object that must not be there, a line a row", async () => {
    const { url, sent } = await record({
      [upload]: ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }],
      "PUT /session/1": written,
    });
    const keys = ["r1.1", "r2.3"];
    expect(await on(url).stageInput(input(keys), signal)).toEqual({ ref: "gs://bucket/folder/gb-1/input.jsonl" });
    expect(sent[0]?.query).toMatchObject({ uploadType: "resumable", name: "folder/gb-1/input.jsonl", ifGenerationMatch: "0" });
    const lines = sent[1]?.body.split("\n") ?? [];
    expect(lines.pop()).toBe("");
    expect(lines.map((line) => (JSON.parse(line) as { key: string }).key)).toEqual(keys);
  });

  it("takes an object that is there for its own", async () => {
    const { url, calls } = await record({
      [upload]: [412, { error: { code: 412, message: "conditionNotMet", errors: [{ reason: "conditionNotMet" }] } }],
    });
    expect(await on(url).stageInput(input(), signal)).toEqual({ ref: "gs://bucket/folder/gb-1/input.jsonl" });
    expect(calls()).toHaveLength(1);
  });

  it.each<[string, Reply, string]>([
    ["a missing bucket", gone, "denied"],
    ["no rights", [403, { error: { code: 403, message: "no access", errors: [{ reason: "forbidden" }] } }], "denied"],
    ["too many calls", [429, { error: { code: 429, message: "slow down", errors: [{ reason: "rateLimitExceeded" }] } }], "throttled"],
    ["an error", [503, { error: { code: 503, message: "m" } }], "unavailable"],
  ])("says what is wrong: %s", async (_name, reply, failure) => {
    const { url } = await record({ [upload]: reply });
    expect(await failureOf(on(url).stageInput(input(), signal))).toBe(failure);
  });

  it("removes what arrived differently, lest the next attempt takes it for its own", async () => {
    const { url, calls } = await record({
      [upload]: ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }],
      "PUT /session/1": [200, { crc32c: "AAAAAA==" }],
      "DELETE /storage": () => (calls().length < 4 ? [503, { error: { code: 503, message: "m" } }] : [204, ""]),
    });
    expect(await failureOf(on(url).stageInput(input(), signal))).toBe("unavailable");
    expect(calls().filter((call) => call === "DELETE /storage/v1/b/bucket/o/folder/gb-1/input.jsonl")).toHaveLength(2);
  });

  it("leaves nothing behind when reading the rows fails, and passes that on", async () => {
    const { url, calls } = await record({
      [upload]: ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }],
      "PUT /session/1": [200, {}],
    });
    const broken = {
      ...input(),
      rows: async function* () {
        yield { key: "r1.1", body: prompt };
        throw new RangeError("the store broke");
      },
    };
    await expect(on(url).stageInput(broken, signal)).rejects.toThrow(new RangeError("the store broke"));
    expect(calls().filter((call) => call.startsWith("PUT"))).toEqual([]);
  });

  it("refuses what a job does not take", async () => {
    const { url } = await record({ [upload]: ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }] });
    expect(await failureOf(on(url).stageInput(input([]), signal))).toBe("refused");
    expect(await failureOf(on(url, { limits: { maxRequests: 2 } }).stageInput(input(["r1.1", "r2.1", "r3.1"]), signal))).toBe("refused");
    expect(await failureOf(on(url).stageInput(input(["r1.1"], {}, "[]"), signal))).toBe("refused");
    expect(await failureOf(on(url).stageInput(input(), AbortSignal.abort()))).toBe("unavailable");
  });
});

describe("staging in a table", () => {
  const jobsPath = "/bigquery/v2/projects/p/jobs";
  const done = { jobReference: { projectId: "p", jobId: "gb_1_load_0", location: "US" }, status: { state: "DONE" } };
  const tablePath = "/bigquery/v2/projects/p/datasets/d/tables/gb_1_input";
  const created = Date.UTC(2026, 10, 22);
  const table: Reply = [200, { creationTime: String(created) }];
  const both = { dataset: "d" };
  const json = { shape: "json" };

  it("loads an object of rows under a job id of its own, removes it, and lets the table expire", async () => {
    const { url, sent, calls } = await record({
      "POST /upload/storage": ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }],
      "PUT /session/1": written,
      [`POST ${jobsPath}`]: [200, done],
      [`GET ${jobsPath}`]: [200, done],
      [`GET ${tablePath}`]: table,
      [`PATCH ${tablePath}`]: [200, {}],
      "DELETE /storage": [204, ""],
    });
    const week = 7 * 86_400_000;
    expect(await on(url, both).stageInput(input(["r1.1"], json), signal)).toEqual({
      ref: "bq://p.d.gb_1_input",
      expiresAt: created + week - 4 * 86_400_000,
    });
    const load = sent.find(({ method, path }) => method === "POST" && path === jobsPath);
    expect(JSON.parse(load?.body ?? "")).toMatchObject({
      jobReference: { jobId: "gb_1_load_0" },
      configuration: {
        load: {
          destinationTable: { projectId: "p", datasetId: "d", tableId: "gb_1_input" },
          sourceUris: ["gs://bucket/folder/gb-1/table-rows.jsonl"],
          sourceFormat: "NEWLINE_DELIMITED_JSON",
          schema: {
            fields: [
              { name: "key", type: "STRING" },
              { name: "request", type: "JSON" },
            ],
          },
        },
      },
    });
    expect(JSON.parse(sent.find(({ method }) => method === "PATCH")?.body ?? "")).toEqual({ expirationTime: String(created + week) });
    expect(calls()).toContain("DELETE /storage/v1/b/bucket/o/folder/gb-1/table-rows.jsonl");
  });

  it("sends the rows along when there is no bucket", async () => {
    const { url, sent } = await record({
      "POST /upload/bigquery/v2/projects/p/jobs": [200, done],
      [`GET ${jobsPath}`]: [200, done],
      [`GET ${tablePath}`]: gone,
    });
    const provider = vertex({ project: "p", baseUrl: url, dataset: "d", bigqueryEndpoint: url });
    expect(await provider.stageInput(input(["r1.1", "r2.1"]), signal)).toEqual({ ref: "bq://p.d.gb_1_input" });
    expect(sent[0]?.body).toContain('"jobId":"gb_1_load_0"');
    expect(sent[0]?.body).toContain('{"key":"r2.1","request":{');
  });

  it("loads nothing when reading the rows fails, and passes that on", async () => {
    const { url, calls } = await record({
      "POST /upload/bigquery/v2/projects/p/jobs": [200, done],
      "POST /upload/storage": ({ headers }) => [200, {}, { location: `http://${headers.host}/session/1` }],
      [`GET ${jobsPath}`]: [200, done],
    });
    const provider = vertex({ project: "p", baseUrl: url, dataset: "d", bigqueryEndpoint: url });
    const broken = async function* () {
      for (let i = 0; i < 5_000; i += 1) yield { key: `r${i}.1`, body: prompt };
      throw new RangeError("the store broke");
    };
    await expect(provider.stageInput({ ...input(), rows: broken }, signal)).rejects.toThrow(new RangeError("the store broke"));
    expect(calls()).toEqual([]);
    const throughBucket = on(url, both).stageInput({ ...input(["r1.1"], json), rows: broken }, signal);
    await expect(throughBucket).rejects.toThrow(new RangeError("the store broke"));
    expect(calls().filter((call) => call.startsWith("PUT") || call.endsWith("/jobs"))).toEqual([]);
  });

  const exists: Reply = [409, { error: { code: 409, message: "Already Exists: Job", errors: [{ reason: "duplicate" }] } }];

  it("finds the load of an earlier attempt, and waits for it", async () => {
    const { url, calls } = await record({
      "POST /upload/storage": [412, {}],
      [`POST ${jobsPath}`]: exists,
      [`GET ${jobsPath}/gb_1_load_0`]: [200, done],
      [`GET ${tablePath}`]: table,
      "DELETE /storage": [204, ""],
    });
    expect((await on(url, both).stageInput(input(["r1.1"], json), signal)).ref).toBe("bq://p.d.gb_1_input");
    expect(calls().filter((call) => call === `POST ${jobsPath}`)).toHaveLength(1);
  });

  it("loads again when the table of an earlier load is gone, or that load broke", async () => {
    const loads: string[] = [];
    const broken = {
      ...done,
      status: { state: "DONE", errorResult: { reason: "backendError", message: "m" }, errors: [{ reason: "backendError", message: "m" }] },
    };
    const { url } = await record({
      "POST /upload/storage": [412, {}],
      [`POST ${jobsPath}`]: ({ body }) => {
        const { jobId } = (JSON.parse(body) as { jobReference: { jobId: string } }).jobReference;
        loads.push(jobId);
        return jobId === "gb_1_load_2" ? [200, done] : exists;
      },
      [`GET ${jobsPath}/gb_1_load_1`]: [200, broken],
      [`GET ${jobsPath}`]: [200, done],
      [`GET ${tablePath}`]: () => (loads.length < 3 ? gone : table),
      "DELETE /storage": [204, ""],
    });
    expect((await on(url, both).stageInput(input(["r1.1"], json), signal)).ref).toBe("bq://p.d.gb_1_input");
    expect(loads).toEqual(["gb_1_load_0", "gb_1_load_1", "gb_1_load_2"]);
  });

  it.each([
    ["invalid", "refused"],
    ["accessDenied", "denied"],
    ["notFound", "denied"],
    ["quotaExceeded", "throttled"],
    ["backendError", "unavailable"],
  ])("says why a load failed: %s", async (reason, failure) => {
    const failed = { ...done, status: { state: "DONE", errorResult: { reason, message: "m" }, errors: [{ reason, message: "m" }] } };
    const running = { ...done, status: { state: "RUNNING" } };
    const { url } = await record({
      "POST /upload/storage": [412, {}],
      [`POST ${jobsPath}`]: [200, running],
      [`GET ${jobsPath}`]: [200, failed],
    });
    expect(await failureOf(on(url, both).stageInput(input(["r1.1"], json), signal))).toBe(failure);
  });

  it("goes through the bucket without that shape, and for embeddings", async () => {
    const { url, calls } = await record({ "POST /upload/storage": [412, {}] });
    const provider = on(url, both);
    expect((await provider.stageInput(input(), signal)).ref).toMatch(/^gs:/);
    expect((await provider.stageInput(input(["r1.1"], { shape: "a1b2c3d4" }), signal)).ref).toMatch(/^gs:/);
    const content = '{"content":{"parts":[{"text":"a"}]}}';
    expect((await provider.stageInput(input(["r1.1"], { method: "embedContent", ...json }, content), signal)).ref).toMatch(/^gs:/);
    expect(calls()).toHaveLength(3);
    expect(await failureOf(on(url).stageInput(input(["r1.1"], json), signal))).toBe("denied");
  });
});

describe("reading and removing jobs", () => {
  it("asks for the exact display name, and confirms each by a get where it lives", async () => {
    const other = "projects/123/locations/europe-west4/batchPredictionJobs/7";
    const { url, sent } = await record({
      [`GET ${jobs}`]: [200, { batchPredictionJobs: [resource, { ...resource, name: other, displayName: "gb-10" }] }],
      [`GET /v1/${name}`]: [200, resource],
    });
    expect((await on(url).findJobs("gb-1", 0, signal)).map((job) => job.name)).toEqual([name]);
    expect(sent[0]?.query).toMatchObject({ filter: 'display_name="gb-1"', pageSize: "100" });
    expect(sent).toHaveLength(2);
  });

  it("calls the endpoint of a job's own location", async () => {
    const urls: string[] = [];
    const fetch: typeof globalThis.fetch = async (url) => (urls.push(String(url)), Response.json(resource));
    const authClient = { getRequestHeaders: async () => ({}) };
    await vertex({ project: "p", bucket: "bucket", location: "global", fetch, authClient }).getJobs([name], signal);
    expect(urls).toEqual([`https://us-central1-aiplatform.googleapis.com/v1/${name}`]);
  });

  it("does not take names that are none for jobs that are gone", async () => {
    const { url, calls } = await record({});
    for (const bad of ["../../x", "batches/1", `${name}?x`, `${name}/../1`]) {
      expect(await failureOf(on(url).getJobs([bad], signal))).toBe("refused");
      expect(await failureOf(on(url).deleteJob(bad, signal))).toBe("refused");
    }
    expect(calls()).toEqual([]);
  });

  it("cancels what runs, and does not mind what has ended", async () => {
    const { url, sent } = await record({
      [`POST /v1/${name}:cancel`]: [400, { error: { code: 400, status: "FAILED_PRECONDITION", message: "ended" } }],
    });
    await on(url).cancelJob(name, signal);
    expect(sent.map(({ body }) => body)).toEqual(["{}"]);
  });

  const ended = {
    ...resource,
    state: "JOB_STATE_SUCCEEDED",
    outputConfig: { gcsDestination: { outputUriPrefix: "gs://bucket/folder/gb-1/output-abc" } },
  };

  it("removes the output, and the job after it", async () => {
    const { url, calls } = await record({
      [`GET /v1/${name}`]: [200, ended],
      "GET /storage/v1/b/bucket/o": [200, { items: [{ name: "folder/gb-1/output-abc/x/predictions.jsonl" }] }],
      "DELETE /storage": [204, ""],
      [`DELETE /v1/${name}`]: [200, { done: true }],
    });
    await on(url).deleteJob(name, signal);
    expect(calls()).toEqual([
      `GET /v1/${name}`,
      "GET /storage/v1/b/bucket/o",
      "DELETE /storage/v1/b/bucket/o/folder/gb-1/output-abc/x/predictions.jsonl",
      `DELETE /v1/${name}`,
    ]);
  });

  it("removes the table of the output", async () => {
    const outputConfig = { bigqueryDestination: { outputUri: "bq://p.d.gb_1_output_abc" } };
    const { url, calls } = await record({
      [`GET /v1/${name}`]: [200, { ...ended, outputConfig }],
      "DELETE /bigquery": [204, ""],
      [`DELETE /v1/${name}`]: [200, {}],
    });
    await on(url).deleteJob(name, signal);
    expect(calls()).toContain("DELETE /bigquery/v2/projects/p/datasets/d/tables/gb_1_output_abc");
  });

  it.each([
    { gcsDestination: { outputUriPrefix: "gs://bucket/folder" } },
    { gcsDestination: { outputUriPrefix: "gs://bucket/folder/gb-2/output-abc" } },
    { bigqueryDestination: { outputUri: "bq://p.d.precious" } },
    undefined,
  ])("leaves alone what was not made for the batch: %j", async (outputConfig) => {
    const { url, calls } = await record({ [`GET /v1/${name}`]: [200, { ...ended, outputConfig }], [`DELETE /v1/${name}`]: [200, {}] });
    await on(url).deleteJob(name, signal);
    expect(calls()).toEqual([`GET /v1/${name}`, `DELETE /v1/${name}`]);
  });

  it("cancels a job that runs, and deletes it when that is done", async () => {
    let state = "JOB_STATE_RUNNING";
    const { url, calls } = await record({
      [`GET /v1/${name}`]: () => [200, { ...resource, state }],
      [`POST /v1/${name}:cancel`]: [200, {}],
      [`DELETE /v1/${name}`]: [200, {}],
    });
    expect(await failureOf(on(url).deleteJob(name, signal))).toBe("unavailable");
    expect(calls()).toEqual([`GET /v1/${name}`, `POST /v1/${name}:cancel`, `GET /v1/${name}`]);
    state = "JOB_STATE_CANCELLED";
    await on(url).deleteJob(name, signal);
    expect(calls().at(-1)).toBe(`DELETE /v1/${name}`);
  });

  it("does not mind a job or input that is gone", async () => {
    const { url } = await record({});
    await on(url).deleteJob(name, signal);
    await on(url).discardInput(staged, signal);
    await on(url).discardInput({ ref: "bq://p.d.gb_1_input" }, signal);
  });
});

describe("reading results", () => {
  const folder = "folder/gb-1/output-abc/prediction-model-1";
  const job = { name, state: "succeeded" as const, rawStatus: "JOB_STATE_SUCCEEDED", output: `gs://bucket/${folder}` };
  const line = (key: string, response: object, status = "") => `${JSON.stringify({ key, response, status })}\n`;
  const media = (files: Record<string, string>): Record<string, Reply | ((sent: Sent) => Reply)> => ({
    "GET /storage/v1/b/bucket/o/": ({ path }) => [200, files[path.replace("/storage/v1/b/bucket/o/", "")] ?? ""],
    "GET /storage/v1/b/bucket/o": [
      200,
      { items: Object.entries(files).map(([object, text]) => ({ name: object, size: String(Buffer.byteLength(text)) })) },
    ],
  });

  it("reads every shard, final ones before incremental ones, and nothing else", async () => {
    const error = "Internal error occurred.";
    const { url, sent } = await record(
      media({
        [`${folder}/incremental_predictions.jsonl`]: line("r1.1", {}, error),
        [`${folder}/predictions-00001-of-00002.jsonl`]: line("r2.1", { a: 2 }),
        [`${folder}/predictions-00000-of-00002.jsonl`]: line("r1.1", { a: 1 }),
        [`${folder}/errors.jsonl`]: "not for us\n",
        [`${folder}/predictions.txt`]: "not for us\n",
      }),
    );
    const rows = await Array.fromAsync(on(url).readResults(job, lane, signal));
    expect(rows).toEqual([
      { key: "r1.1", response: { a: 1 } },
      { key: "r2.1", response: { a: 2 } },
      { key: "r1.1", error: { code: 13, message: error } },
    ]);
    expect(sent[0]?.query).toMatchObject({ prefix: `${folder}/` });
    expect(sent.slice(1).every(({ query, headers }) => query["alt"] === "media" && headers["accept-encoding"] === "identity")).toBe(true);
  });

  it("tells a lost output from a job that ended before it wrote anything", async () => {
    const { url } = await record(media({}));
    expect(await failureOf(Array.fromAsync(on(url).readResults(job, lane, signal)))).toBe("missing");
    expect(await Array.fromAsync(on(url).readResults({ ...job, rawStatus: "JOB_STATE_CANCELLED" }, lane, signal))).toEqual([]);
    expect(await failureOf(Array.fromAsync(on(url).readResults({ name, state: "succeeded", rawStatus: "" }, lane, signal)))).toBe(
      "unavailable",
    );
    expect(await failureOf(Array.fromAsync(on(url).readResults({ ...job, output: "files/x" }, lane, signal)))).toBe("missing");
  });

  it("does not take a part for the whole", async () => {
    const text = line("r1.1", { a: 1 }) + line("r2.1", { a: 2 });
    const file = `${folder}/predictions.jsonl`;
    const { url } = await record({
      "GET /storage/v1/b/bucket/o/": [200, text.slice(0, text.indexOf("\n") + 1)],
      "GET /storage/v1/b/bucket/o": [200, { items: [{ name: file, size: String(text.length) }] }],
    });
    const rows: unknown[] = [];
    const read = async () => {
      for await (const row of on(url).readResults(job, lane, signal)) rows.push(row);
    };
    expect(await failureOf(read())).toBe("unavailable");
    expect(rows).toHaveLength(1);
  });

  it("sends the credentials of the client to a real endpoint", async () => {
    const { url, sent } = await record(media({ [`${folder}/predictions.jsonl`]: line("r1.1", { a: 1 }) }));
    const authClient = new PassThroughClient();
    authClient.getRequestHeaders = async () => new Headers({ authorization: "Bearer mine" });
    const storage = new Storage({ projectId: "p", apiEndpoint: url, useAuthWithCustomEndpoint: true, authClient });
    expect(await Array.fromAsync(on(url, { storage }).readResults(job, lane, signal))).toHaveLength(1);
    expect(sent.at(-1)?.headers.authorization).toBe("Bearer mine");
  });

  it("reads tables page by page, and gives them an end", async () => {
    const schema = {
      fields: [
        { name: "key", type: "STRING" },
        { name: "request", type: "JSON" },
        { name: "response", type: "JSON" },
        { name: "status", type: "STRING" },
      ],
    };
    const row = (key: string, response: string | null, status: string | null) => ({
      f: [{ v: key }, { v: "{}" }, { v: response }, { v: status }],
    });
    const path = "/bigquery/v2/projects/p/datasets/d/tables/gb_1_output_abc";
    const { url, sent } = await record({
      [`GET ${path}/data`]: ({ query }) =>
        query["pageToken"]
          ? [200, { rows: [row("r2.1", null, "Bad Request: {}")] }]
          : [200, { rows: [row("r1.1", '{"a":1}', "")], pageToken: "2" }],
      [`GET ${path}`]: [200, { schema, creationTime: "1000" }],
      [`PATCH ${path}`]: [200, {}],
    });
    const read = on(url, { dataset: "d", tableLife: "5d" }).readResults({ ...job, output: "bq://p.d.gb_1_output_abc" }, lane, signal);
    expect(await Array.fromAsync(read)).toEqual([
      { key: "r1.1", response: { a: 1 } },
      { key: "r2.1", error: { code: 3, message: "Bad Request" } },
    ]);
    expect(JSON.parse(sent.find(({ method }) => method === "PATCH")?.body ?? "")).toEqual({
      expirationTime: String(1_000 + 5 * 86_400_000),
    });
  });
});

describe("direct calls", () => {
  const answer = { candidates: [{ content: { parts: [{ text: "hi" }] } }], usageMetadata: { trafficType: "ON_DEMAND_FLEX" } };
  const path = "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent";

  it("ask for flex by headers, because the body is not read for it", async () => {
    const { url, sent } = await record({ [`POST ${path}`]: [200, answer] });
    const provider = on(url, { location: "global" });
    expect(await provider.callNow({ lane, body: prompt, tier: "flex", signal })).toEqual(answer);
    await provider.callNow({ lane, body: '{"contents":[{"parts":[{"text":"a"}]}]}', tier: "standard", signal });
    const [flex, standard] = sent;
    expect(flex?.headers).toMatchObject({
      "x-vertex-ai-llm-request-type": "shared",
      "x-vertex-ai-llm-shared-request-type": "flex",
      "x-server-timeout": "900",
    });
    expect(flex?.body).toBe(prompt);
    expect(Object.keys(standard?.headers ?? {}).filter((header) => /vertex|timeout/.test(header))).toEqual([]);
    expect(JSON.parse(standard?.body ?? "")).toEqual({ contents: [{ role: "user", parts: [{ text: "a" }] }] });
  });

  it("go to the model where it is", async () => {
    const { url, calls } = await record({ "POST /v1/projects": [200, answer] });
    const provider = on(url);
    for (const model of ["gemini-2.5-flash", "projects/q/locations/europe-west4/endpoints/9"])
      await provider.callNow({ lane: { ...lane, model }, body: prompt, tier: "standard", signal });
    expect(calls()).toEqual([
      "POST /v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent",
      "POST /v1/projects/q/locations/europe-west4/endpoints/9:generateContent",
    ]);
  });

  it("embed by the call that the model has", async () => {
    const start = "/v1/projects/p/locations/us-central1/publishers/google/models/";
    const { url, sent } = await record({
      [`POST ${start}gemini-embedding-001:predict`]: [
        200,
        { predictions: [{ embeddings: { values: [1, 2], statistics: { token_count: 3 } } }] },
      ],
      [`POST ${start}gemini-embedding-2:embedContent`]: [200, { embedding: { values: [3] } }],
      [`POST ${start}text-embedding-005:predict`]: [200, { predictions: [] }],
    });
    const body = '{"content":{"parts":[{"text":"a"},{"text":"b"}]},"taskType":"RETRIEVAL_QUERY","outputDimensionality":2}';
    const ask = (model: string) => on(url).callNow({ lane: { ...lane, model, method: "embedContent" }, body, tier: "standard", signal });
    expect(await ask("gemini-embedding-001")).toEqual({ embedding: { values: [1, 2] }, tokenCount: 3 });
    expect(await ask("gemini-embedding-2")).toEqual({ embedding: { values: [3] } });
    expect(await failureOf(ask("text-embedding-005"))).toBe("ambiguous");
    expect(sent.slice(0, 2).map((call) => JSON.parse(call.body) as unknown)).toEqual([
      { instances: [{ content: "ab", task_type: "RETRIEVAL_QUERY" }], parameters: { outputDimensionality: 2 } },
      { content: { parts: [{ text: "a" }, { text: "b" }] }, embedContentConfig: { taskType: "RETRIEVAL_QUERY", outputDimensionality: 2 } },
    ]);
  });

  it("are not made at a tier that does not exist there", async () => {
    const { url, calls } = await record({});
    const call = { lane, body: prompt, tier: "flex" as const, signal };
    expect(await failureOf(on(url).callNow(call))).toBe("throttled");
    expect(await failureOf(on(url, { location: "global" }).callNow({ ...call, lane: { ...lane, method: "embedContent" } }))).toBe(
      "throttled",
    );
    const claude = { ...lane, model: "publishers/anthropic/models/claude" };
    expect(await failureOf(on(url).callNow({ ...call, tier: "standard", lane: claude }))).toBe("refused");
    expect(calls()).toEqual([]);
  });

  it.each<[Reply, string]>([
    [[400, { error: { code: 400, status: "INVALID_ARGUMENT", message: "Flex PayGo is not supported for this model." } }], "throttled"],
    [[400, { error: { code: 400, status: "INVALID_ARGUMENT", message: "bad" } }], "refused"],
    [[503, { error: { code: 503, status: "UNAVAILABLE", message: "shed" } }], "throttled"],
    [[200, { error: { code: 13, message: "m" } }], "ambiguous"],
    [[200, "not JSON"], "ambiguous"],
  ])("that end in %j are %s", async (reply, failure) => {
    const { url } = await record({ [`POST ${path}`]: reply });
    expect(await failureOf(on(url, { location: "global" }).callNow({ lane, body: prompt, tier: "flex", signal }))).toBe(failure);
  });
});

describe("the SDK's models", () => {
  it("need neither project nor credentials for prompts, and have both for everything else", async () => {
    const seen: [string, string | null][] = [];
    const fetch: typeof globalThis.fetch = async (url, init) => {
      seen.push([String(url), new Headers(init?.headers).get("authorization")]);
      return Response.json({ candidates: [{ content: { parts: [{ text: "hi" }] } }], totalTokens: 3 });
    };
    const authClient = { getRequestHeaders: async () => ({ authorization: "Bearer t" }) };
    const models = vertex({ project: "p", location: "us-central1", bucket: "bucket", authClient }).createModels(fetch);
    expect((await models.generateContent({ model: "gemini-2.5-flash", contents: "a" })).text).toBe("hi");
    await models.countTokens({ model: "gemini-2.5-flash", contents: "a" });
    await models.generateContent({ model: "projects/p/locations/us-central1/endpoints/9", contents: "a" });
    const base = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1";
    expect(seen).toEqual([
      [`${base}/publishers/google/models/gemini-2.5-flash:generateContent`, null],
      [`${base}/publishers/google/models/gemini-2.5-flash:countTokens`, "Bearer t"],
      [`${base}/endpoints/9:generateContent`, null],
    ]);
  });

  it("stream a prompt without credentials", async () => {
    const seen: (string | null)[] = [];
    const fetch: typeof globalThis.fetch = async (_url, init) => {
      seen.push(new Headers(init?.headers).get("authorization"));
      return new Response('data: {"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}\n\n', {
        headers: { "content-type": "text/event-stream" },
      });
    };
    const authClient = { getRequestHeaders: () => Promise.reject(new Error("must not be asked")) };
    const models = vertex({ bucket: "bucket", authClient }).createModels(fetch);
    const texts: (string | undefined)[] = [];
    for await (const chunk of await models.generateContentStream({ model: "gemini-2.5-flash", contents: "a" })) texts.push(chunk.text);
    expect([texts, seen]).toEqual([["hi"], [null]]);
  });
});
