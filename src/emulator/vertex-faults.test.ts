import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorFaults } from "../emulator.ts";

/** The faults of Vertex jobs, Cloud Storage and BigQuery, each alone. Jobs take 1,000 ms of virtual time. */

type Any = any;
const keys = ["r0", "r1", "r2", "r3", "r4", "r5"];
const one = { match: "r2" };
const requestOf = (key: string) => ({ contents: [{ role: "user", parts: [{ text: `What about ${key}?` }] }], labels: { gb_row: key } });

async function setUp(faults: EmulatorFaults = {}) {
  let now = Date.UTC(2026, 10, 22);
  const emulator = await startEmulator({ faults, turnaround: 1_000, clock: { now: () => now, sleep: async (ms) => void (now += ms) } });
  const raw = (method: string, path: string, body?: string) =>
    fetch(emulator.url + path, { method, ...(body === undefined ? {} : { body }) });
  const json = async (method: string, path: string, body?: unknown) =>
    (await (await raw(method, path, typeof body === "string" || body === undefined ? body : JSON.stringify(body))).json()) as Any;
  const jobs = "/v1/projects/p/locations/l/batchPredictionJobs";
  const send = async (input: object, output: object, displayName: string) => {
    const response = await raw(
      "POST",
      jobs,
      JSON.stringify({ displayName, model: "publishers/google/models/gemini-2.5-flash", inputConfig: input, outputConfig: output }),
    );
    return { status: response.status, json: (await response.json()) as Any };
  };
  const createStorage = async (displayName = "d") => {
    const rows = keys.map((key) => JSON.stringify({ key, request: requestOf(key) })).join("\n");
    await raw("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=in.jsonl", rows);
    return send(
      { instancesFormat: "jsonl", gcsSource: { uris: ["gs://bucket/in.jsonl"] } },
      { predictionsFormat: "jsonl", gcsDestination: { outputUriPrefix: "gs://bucket/out" } },
      displayName,
    );
  };
  const createTable = async () => {
    const fields = ["key STRING", "request JSON", "weight INTEGER"].map((column) => ({
      name: column.split(" ")[0],
      type: column.split(" ")[1],
    }));
    await json("POST", "/projects/p/datasets/d/tables", { tableReference: { tableId: "in" }, schema: { fields } });
    const rows = keys.map((key, weight) => ({ json: { key, weight, request: JSON.stringify(requestOf(key)) } }));
    await json("POST", "/projects/p/datasets/d/tables/in/insertAll", { rows });
    return send(
      { instancesFormat: "bigquery", bigquerySource: { inputUri: "bq://p.d.in" } },
      { predictionsFormat: "bigquery", bigqueryDestination: { outputUri: "bq://p.d.out" } },
      "d",
    );
  };
  const names = async () =>
    ((await json("GET", "/b/bucket/o?prefix=out/")).items ?? []).map((item: Any) => item.name.split("/").slice(2).join("/")) as string[];
  const directory = "out/prediction-model-2026-11-22T00:00:00.000000Z";
  const read = (name = "predictions.jsonl", ask: RequestInit = {}) =>
    fetch(`${emulator.url}/b/bucket/o/${encodeURIComponent(`${directory}/${name}`)}?alt=media`, ask);
  const finish = async (created: { json: Any }) => {
    now += 1_000;
    return json("GET", `/v1/${created.json.name}`);
  };
  const bytes = async () => {
    expect((await finish(await createStorage())).state).toBe("JOB_STATE_SUCCEEDED");
    return Buffer.from(await (await read()).arrayBuffer());
  };
  const lines = async () => ofText((await bytes()).toString());
  const ofText = (text: string): Any[] =>
    text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  /** The rows of the output table, as objects of texts. */
  const table = async () => {
    expect((await finish(await createTable())).state).toBe("JOB_STATE_SUCCEEDED");
    const { schema } = await json("GET", "/projects/p/datasets/d/tables/out");
    const { rows } = await json("GET", "/bigquery/v2/projects/p/datasets/d/tables/out/data");
    return rows.map((row: Any) => Object.fromEntries(row.f.map((cell: Any, i: number) => [schema.fields[i].name, cell.v]))) as Any[];
  };
  return {
    ...{ emulator, raw, json, jobs, createStorage, createTable, names, read, finish, bytes, lines, ofText, table },
    advance: (ms: number) => void (now += ms),
    [Symbol.asyncDispose]: () => emulator.close(),
  };
}

const keyOf = (row: Any): string => row.key;
const row2 = (rows: Any[]) =>
  rows.find((row) => row.request?.contents?.[0].parts[0].text.includes("r2") || row.request?.includes?.("about r2"));

describe("faults of rows", () => {
  it("missingMetadata: neither key nor label", async () => {
    await using t = await setUp({ missingMetadata: one });
    const line = row2(await t.lines());
    expect(line).not.toHaveProperty("key");
    expect(line.request).not.toHaveProperty("labels");
    const row = row2(await t.table());
    expect([row.key, JSON.parse(row.request).labels, row.weight]).toEqual([null, undefined, "2"]);
  });

  it("missingKey, missingLabels: one of both", async () => {
    await using key = await setUp({ missingKey: one });
    const unkeyed = row2(await key.lines());
    expect([Object.hasOwn(unkeyed, "key"), unkeyed.request.labels]).toEqual([false, { gb_row: "r2" }]);
    await using labels = await setUp({ missingLabels: one });
    const unlabelled = row2(await labels.lines());
    expect([unlabelled.key, Object.hasOwn(unlabelled.request, "labels")]).toEqual(["r2", false]);
    expect(JSON.parse(row2(await labels.table()).request)).not.toHaveProperty("labels");
  });

  it("missingRows, duplicateRows, unknownRows, swappedKeys", async () => {
    await using t = await setUp({ missingRows: one });
    expect((await t.lines()).map(keyOf).toSorted()).toEqual(["r0", "r1", "r3", "r4", "r5"]);
    t.emulator.faults = { duplicateRows: one };
    t.advance(1);
    expect((await t.table()).map(keyOf).filter((key) => key === "r2")).toHaveLength(2);
    await using u = await setUp({ unknownRows: one });
    const unknown = (await u.lines()).find((line) => line.key === "unknown-r2");
    expect(unknown.request.labels).toEqual({ gb_row: "unknown-r2" });
    await using s = await setUp({ swappedKeys: one });
    const swapped = (await s.lines()).find((line) => line.key === "r2");
    expect(swapped?.response.candidates[0].content.parts[0].text).not.toContain("What about r2?");
  });

  it("nullResponse, badLine, nonUtf8Line, blankLines, megabyteLine", async () => {
    await using nothing = await setUp({ nullResponse: one });
    expect(row2(await nothing.lines())).toMatchObject({ status: "", response: null });
    await using bad = await setUp({ badLine: one });
    const broken = (await bad.bytes())
      .toString()
      .split("\n")
      .filter((line) => line !== "" && !line.endsWith("}"));
    expect(broken).toHaveLength(1);
    await using bytes = await setUp({ nonUtf8Line: one });
    expect((await bytes.bytes()).includes(Buffer.from([0xff, 0xfe, 0xc3]))).toBe(true);
    await using blank = await setUp({ blankLines: one });
    expect((await blank.bytes()).toString().split("\n")).toHaveLength(8);
    await using large = await setUp({ megabyteLine: one });
    expect(row2(await large.lines()).response.candidates[0].content.parts[0].text.length).toBeGreaterThan(1_000_000);
  });

  it("rowError: both texts that were seen; rowErrorInStatus: no object in it", async () => {
    await using internal = await setUp({ rowError: one });
    expect(row2(await internal.lines())).toMatchObject({
      status: expect.stringMatching(
        /^Internal error occurred\. Failed to get generateContentResponse: \{"error": \{"code": 500, .*"status": "INTERNAL"\}\}$/,
      ),
      response: {},
    });
    await using bad = await setUp({ rowError: { ...one, code: 3, message: "No." } });
    expect(row2(await bad.table())).toMatchObject({
      status: 'Bad Request: {"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}',
      response: null,
    });
    expect(bad.emulator.ledger.totals.billedRows).toBe(5);
    await using bare = await setUp({ rowErrorInStatus: one });
    expect(row2(await bare.lines())).toMatchObject({ status: "Internal error occurred.", response: {} });
  });

  it("of responses: blockedPrompt, truncated, emptyText", async () => {
    await using t = await setUp({ blockedPrompt: one, truncated: { match: "r3" }, emptyText: { match: "r4" } });
    const byKey = Object.fromEntries((await t.lines()).map((line) => [line.key, line.response]));
    expect(byKey.r2.promptFeedback).toEqual({ blockReason: "PROHIBITED_CONTENT" });
    expect(byKey.r3.candidates[0].finishReason).toBe("MAX_TOKENS");
    expect(byKey.r4.candidates[0].content).toEqual({ role: "model" });
  });
});

describe("faults of jobs", () => {
  it.each<[EmulatorFaults, number, string, object]>([
    [{ jobFails: true }, 1_000, "FAILED", { error: { code: 13, message: expect.stringContaining("Retrying may solve") } }],
    [{ importFails: true }, 300, "FAILED", { error: { code: 3, message: expect.stringContaining("Failed to import data") } }],
    [{ jobExpires: true }, 1_000, "EXPIRED", {}],
    [{ stuck: true }, 1_000_000, "PENDING", {}],
    [{ inputFileGone: { match: "d" } }, 300, "FAILED", { error: { code: 9 } }],
  ])("%j", async (faults, after, state, rest) => {
    await using t = await setUp(faults);
    const { json } = await t.createStorage();
    t.advance(after);
    expect(await t.json("GET", `/v1/${json.name}`)).toMatchObject({ state: `JOB_STATE_${state}`, ...rest });
    expect(await t.names()).toEqual([]);
    expect(t.emulator.ledger.totals.billedRows).toBe(0);
  });

  it("partialSuccess: a part of the rows, and that is billed", async () => {
    await using t = await setUp({ partialSuccess: { at: 4 } });
    const job = await t.finish(await t.createStorage());
    expect(job).toMatchObject({
      state: "JOB_STATE_PARTIALLY_SUCCEEDED",
      partialFailures: [{ code: 13 }],
      completionStats: { successfulCount: "4", incompleteCount: "2" },
    });
    expect(t.ofText(await (await t.read()).text())).toHaveLength(4);
    expect(t.emulator.ledger.totals.billedRows).toBe(4);
  });

  it("jobCancelledOutside: half of the rows are there", async () => {
    await using t = await setUp({ jobCancelledOutside: true });
    expect(await t.finish(await t.createStorage())).toMatchObject({
      state: "JOB_STATE_CANCELLED",
      completionStats: { successfulCount: "3", incompleteCount: "3" },
    });
    expect(t.ofText(await (await t.read()).text())).toHaveLength(3);
  });

  it("cancelledLater, cancelIgnored", async () => {
    await using t = await setUp({ cancelledLater: { ms: 5_000 } });
    const { json } = await t.createStorage();
    t.advance(600);
    await t.json("POST", `/v1/${json.name}:cancel`, {});
    expect((await t.json("GET", `/v1/${json.name}`)).state).toBe("JOB_STATE_CANCELLED");
    expect(await t.names()).toEqual([]);
    t.advance(5_000);
    expect((await t.json("GET", `/v1/${json.name}`)).state).toBe("JOB_STATE_SUCCEEDED");
    expect(t.ofText(await (await t.read()).text())).toHaveLength(6);
    expect(t.emulator.ledger.totals.billedRows).toBe(6);
    await using u = await setUp({ cancelIgnored: true });
    const created = await u.createStorage();
    await u.json("POST", `/v1/${created.json.name}:cancel`, {});
    expect((await u.finish(created)).state).toBe("JOB_STATE_SUCCEEDED");
  });

  it("lateOutputFile: succeeded before there is anything to see", async () => {
    await using t = await setUp({ lateOutputFile: { ms: 500 } });
    const created = await t.createStorage();
    const job = await t.finish(created);
    expect(job).toMatchObject({ state: "JOB_STATE_SUCCEEDED", completionStats: { successfulCount: "6" } });
    expect(job).not.toHaveProperty("outputInfo");
    expect(await t.names()).toEqual([]);
    t.advance(500);
    expect(await t.json("GET", `/v1/${created.json.name}`)).toHaveProperty("outputInfo");
    expect(await t.names()).toEqual(["predictions.jsonl"]);
  });

  it("listLag: GET finds what the list does not", async () => {
    await using t = await setUp({ listLag: { ms: 500 } });
    const { json } = await t.createStorage();
    expect(await t.json("GET", t.jobs)).toEqual({});
    expect((await t.json("GET", `/v1/${json.name}`)).displayName).toBe("d");
    t.advance(500);
    expect((await t.json("GET", t.jobs)).batchPredictionJobs).toHaveLength(1);
  });

  it("shards: all rows, in three objects", async () => {
    await using t = await setUp({ shards: true });
    await t.finish(await t.createStorage());
    const names = await t.names();
    expect(names).toEqual([0, 1, 2].map((i) => `predictions-0000${i}-of-00003.jsonl`));
    const rows = await Promise.all(names.map(async (name) => t.ofText(await (await t.read(name)).text())));
    expect(rows.map((part) => part.length)).toEqual([2, 2, 2]);
    expect(rows.flat().map(keyOf).toSorted()).toEqual(keys);
  });

  it("shards: lines that are longer than what is read at a time stay whole", async () => {
    await using t = await setUp({ shards: true, megabyteLine: true });
    await t.finish(await t.createStorage());
    const parts = await Promise.all((await t.names()).map(async (name) => t.ofText(await (await t.read(name)).text())));
    expect(parts.flat().map(keyOf).toSorted()).toEqual(keys);
  });

  it("incrementalFiles: rows that are in the output as well, and a file without any", async () => {
    await using t = await setUp({ incrementalFiles: true });
    await t.finish(await t.createStorage());
    expect(await t.names()).toEqual(["incremental_predictions.jsonl", "prediction.errors_stats-00000-of-00001", "predictions.jsonl"]);
    expect(t.ofText(await (await t.read("incremental_predictions.jsonl")).text())).toHaveLength(3);
  });

  it("outputMissing: the job says where its results are, and they are not there", async () => {
    await using t = await setUp({ outputMissing: true });
    expect(await t.finish(await t.createStorage())).toHaveProperty("outputInfo");
    expect(await t.names()).toEqual([]);
    await t.finish(await t.createTable());
    expect((await t.raw("GET", "/projects/p/datasets/d/tables/out")).status).toBe(404);
  });

  it("two jobs of one instant with one prefix overwrite one another", async () => {
    await using t = await setUp();
    const first = await t.createStorage();
    const second = await t.createStorage();
    const infos = [await t.finish(first), await t.finish(second)].map((job) => job.outputInfo);
    expect(infos[0]).toEqual(infos[1]);
    expect(await t.names()).toEqual(["predictions.jsonl"]);
    expect(t.emulator.ledger.totals).toMatchObject({ jobs: 2, billedRows: 12 });
  });
});

describe("faults of creating", () => {
  it.each([
    ["throttleCreate", 429],
    ["refuseCreate", 400],
    ["freeTier", 400],
    ["serverErrorCreate", 500],
  ] as const)("%s: %i and no job", async (name, status) => {
    await using t = await setUp({ [name]: true });
    expect((await t.createStorage()).status).toBe(status);
    expect(t.emulator.jobs()).toEqual([]);
  });

  it("createAnswerLost, createAnswerError, duplicateCreate: jobs that nobody was told of", async () => {
    await using lost = await setUp({ createAnswerLost: true });
    await expect(lost.createStorage("lost")).rejects.toThrow("fetch failed");
    expect((await lost.json("GET", lost.jobs)).batchPredictionJobs[0].displayName).toBe("lost");
    await using failed = await setUp({ createAnswerError: true });
    expect((await failed.createStorage()).status).toBe(500);
    expect(failed.emulator.jobs()).toHaveLength(1);
    await using twice = await setUp({ duplicateCreate: true });
    await twice.createStorage();
    expect(twice.emulator.jobs()).toHaveLength(2);
  });
});

describe("faults of objects, tables and calls", () => {
  it("downloadCut, outputFileGone", async () => {
    await using cut = await setUp({ downloadCut: { times: 1 } });
    await cut.finish(await cut.createStorage());
    await expect(cut.read().then((response) => response.text())).rejects.toThrow("terminated");
    expect(cut.ofText(await (await cut.read()).text())).toHaveLength(6);
    const part = await cut.read("predictions.jsonl", { headers: { range: "bytes=10-19" } });
    expect([part.status, part.headers.get("content-range")?.startsWith("bytes 10-19/"), (await part.text()).length]).toEqual([
      206,
      true,
      10,
    ]);
    await using clean = await setUp({ downloadCut: { clean: true } });
    await clean.finish(await clean.createStorage());
    expect((await (await clean.read()).text()).endsWith("\n")).toBe(false);
    await using gone = await setUp({ outputFileGone: true });
    await gone.finish(await gone.createStorage());
    expect((await gone.read()).status).toBe(404);
  });

  it("inputFileGone: the object is not found", async () => {
    await using t = await setUp({ inputFileGone: { match: "gs://bucket/in.jsonl" } });
    await t.createStorage();
    expect((await t.raw("GET", "/b/bucket/o/in.jsonl")).status).toBe(404);
  });

  it("uploadCut: what arrived stays, and the upload goes on from there", async () => {
    await using t = await setUp({ uploadCut: { times: 1, at: 4 } });
    const started = await t.raw("POST", "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=x", "{}");
    const url = started.headers.get("location") ?? "";
    const put = (range: string, body: string) => fetch(url, { method: "PUT", headers: { "content-range": range }, body });
    await expect(put("bytes 0-9/10", "0123456789")).rejects.toThrow("fetch failed");
    const asked = await put("bytes */10", "");
    expect([asked.status, asked.headers.get("range")]).toEqual([308, "bytes=0-3"]);
    const done = await put("bytes 4-9/10", "456789");
    expect(((await done.json()) as Any).size).toBe("10");
    expect(await (await t.raw("GET", "/b/bucket/o/x?alt=media")).text()).toBe("0123456789");
  });

  it("serverError, aimed at an endpoint", async () => {
    await using t = await setUp({ serverError: { match: "storage.list", code: 503 }, throttleAny: { match: "vertex.get" } });
    const { json } = await t.createStorage();
    expect((await t.raw("GET", "/b/bucket/o")).status).toBe(503);
    expect((await t.raw("GET", `/v1/${json.name}`)).status).toBe(429);
  });
});

describe("a BigQuery job", () => {
  it("is not touched by what the importer of JSON Lines refuses", async () => {
    await using t = await setUp();
    const rows = [
      { tools: [{ googleSearch: {} }] },
      { generationConfig: { responseSchema: { $defs: {}, type: ["STRING"] } } },
      { cachedContent: "cachedContents/1" },
    ];
    await t.json("POST", "/projects/p/datasets/d/tables", {
      tableReference: { tableId: "in" },
      schema: {
        fields: [
          { name: "key", type: "STRING" },
          { name: "request", type: "JSON" },
        ],
      },
    });
    const insert = rows.map((row, i) => ({ json: { key: String(i), request: JSON.stringify({ ...requestOf("x"), ...row }) } }));
    await t.json("POST", "/projects/p/datasets/d/tables/in/insertAll", { rows: insert });
    const created = await t.json("POST", t.jobs, {
      ...{ displayName: "d", model: "publishers/google/models/gemini-2.5-flash" },
      inputConfig: { instancesFormat: "bigquery", bigquerySource: { inputUri: "bq://p.d.in" } },
      outputConfig: { predictionsFormat: "bigquery", bigqueryDestination: { outputUri: "bq://p" } },
    });
    const job = await t.finish({ json: created });
    expect(job).toMatchObject({ state: "JOB_STATE_SUCCEEDED", completionStats: { successfulCount: "2", failedCount: "1" } });
    const { bigqueryOutputDataset: dataset, bigqueryOutputTable: table } = job.outputInfo;
    expect([dataset, table]).toEqual(["bq://p.predictions", expect.stringMatching(/^predictions_2026/)]);
    const { rows: found } = await t.json("GET", `/projects/p/datasets/predictions/tables/${table}/data`);
    expect(found.map((row: Any) => row.f[0].v).toSorted()).toEqual(["0", "1", "2"]);
  });

  it.each([
    [
      "a column of a type that does not come back",
      [
        { name: "request", type: "JSON" },
        { name: "at", type: "DATETIME" },
      ],
      "column at has a type",
    ],
    ["no request", [{ name: "key", type: "STRING" }], "no column request"],
  ])("fails for %s", async (_, fields, reason) => {
    await using t = await setUp();
    await t.json("POST", "/projects/p/datasets/d/tables", { tableReference: { tableId: "in" }, schema: { fields } });
    const job = await t.finish(await t.createTable());
    expect(job).toMatchObject({ state: "JOB_STATE_FAILED", error: { code: 3, message: expect.stringContaining(reason) } });
  });

  it("fails when its output table exists", async () => {
    await using t = await setUp();
    await t.json("POST", "/projects/p/datasets/d/tables", { tableReference: { tableId: "out" } });
    expect(await t.finish(await t.createTable())).toMatchObject({ state: "JOB_STATE_FAILED", error: { code: 9 } });
  });
});
