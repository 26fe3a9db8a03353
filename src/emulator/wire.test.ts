import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorOptions } from "../emulator.ts";
import { camelKeys, wireTime } from "./wire.ts";

/** The exact shapes on the wire, as the service was seen to send them. */

type Any = any;
const model = "gemini-2.5-flash";
const prompt = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

async function setUp(options: EmulatorOptions = {}) {
  const emulator = await startEmulator({ turnaround: 0, ...options });
  const call = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const response = await fetch(emulator.url + path, {
      method,
      headers: { "content-type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const json: Any = response.headers.get("content-type")?.includes("json") && text !== "" ? JSON.parse(text) : undefined;
    return { status: response.status, json, text, headers: response.headers };
  };
  const upload = async (content: string, version = "v1beta") => {
    const started = await call(
      "POST",
      `/upload/${version}/files`,
      { file: { displayName: "rows", mimeType: "application/jsonl" } },
      {
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": String(Buffer.byteLength(content)),
        "x-goog-upload-header-content-type": "application/jsonl",
      },
    );
    const url = new URL(started.headers.get("x-goog-upload-url") ?? "");
    const done = await call("POST", url.pathname + url.search, content, {
      "x-goog-upload-command": "upload, finalize",
      "x-goog-upload-offset": "0",
    });
    expect(done.headers.get("x-goog-upload-status")).toBe("final");
    return done.json.file;
  };
  const create = (batch: unknown, path = `/v1beta/models/${model}:batchGenerateContent`) => call("POST", path, { batch });
  const inline = (texts: string[], displayName = "d") =>
    create({
      displayName,
      inputConfig: { requests: { requests: texts.map((text, i) => ({ request: prompt(text), metadata: { key: `r${i}` } })) } },
    });
  return { emulator, call, upload, create, inline, [Symbol.asyncDispose]: () => emulator.close() };
}

describe("the operation of an inline job", () => {
  it("is pending without done, then has its result in both places", async () => {
    await using t = await setUp({ turnaround: 60_000, clock: stoppedClock() });
    const { json: created } = await t.inline(["a", "b"], "two");
    expect(created).toEqual({
      name: expect.stringMatching(/^batches\/[a-z0-9]{36}$/),
      metadata: {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        model: `models/${model}`,
        displayName: "two",
        createTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/),
        updateTime: created.metadata.createTime,
        batchStats: { requestCount: "2", pendingRequestCount: "2" },
        state: "BATCH_STATE_PENDING",
        name: created.name,
      },
    });
    now += 30_000;
    const { json: running } = await t.call("GET", `/v1/${created.name}`);
    expect(running).toEqual({ ...created, metadata: { ...created.metadata, state: "BATCH_STATE_RUNNING" } });

    now += 30_000;
    const { json: done } = await t.call("GET", `/v1alpha/${created.name}`);
    expect(done.done).toBe(true);
    expect(done.metadata).toMatchObject({ state: "BATCH_STATE_SUCCEEDED", batchStats: { requestCount: "2", successfulRequestCount: "2" } });
    expect(done.metadata.endTime).toBe(done.metadata.updateTime);
    expect(done.metadata.endTime > created.metadata.createTime).toBe(true);
    expect(done.response["@type"]).toBe("type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatchOutput");
    expect(done.metadata.output.inlinedResponses).toEqual(done.response.inlinedResponses);
    expect(done.response.inlinedResponses.inlinedResponses[0]).toEqual({
      response: {
        candidates: [{ content: { parts: [{ text: expect.stringContaining("a") }], role: "model" }, finishReason: "STOP", index: 0 }],
        usageMetadata: expect.objectContaining({ promptTokenCount: 1, candidatesTokenCount: expect.any(Number) }),
        modelVersion: model,
        responseId: expect.any(String),
      },
      metadata: { key: "r0" },
    });
    const { json: list } = await t.call("GET", "/v1beta/batches");
    expect(list.operations).toHaveLength(1);
    expect(list.operations[0].response).toBeUndefined();
    expect(list.operations[0].metadata.output).toBeUndefined();
    expect(list).not.toHaveProperty("nextPageToken");
  });

  it("counts usage so that the total is the sum", async () => {
    await using t = await setUp();
    const { json } = await t.call("POST", `/v1beta/models/${model}:generateContent`, prompt("a".repeat(400)));
    const { promptTokenCount, candidatesTokenCount, thoughtsTokenCount, totalTokenCount } = json.usageMetadata;
    expect(promptTokenCount).toBe(100);
    expect(totalTokenCount).toBe(promptTokenCount + candidatesTokenCount + thoughtsTokenCount);
  });
});

describe("the operation of a file job", () => {
  it("names the output twice, and the output is no ordinary file", async () => {
    await using t = await setUp();
    const file = await t.upload(
      `${JSON.stringify({ key: "r1", request: prompt("one") })}\n\n${JSON.stringify({ key: "r2", request: prompt("two") })}`,
    );
    const { json: created } = await t.create({ displayName: "f", inputConfig: { fileName: file.name }, priority: "5" });
    expect(created.metadata).toMatchObject({ inputConfig: { fileName: file.name }, priority: "5", batchStats: { requestCount: "2" } });
    await t.emulator.idle();
    const { json: done } = await t.call("GET", `/v1beta/${created.name}`);
    const output = `files/batch-${created.name.slice(8)}`;
    expect(done.response.responsesFile).toBe(output);
    expect(done.metadata.output).toEqual({ responsesFile: output });
    expect((await t.call("GET", `/v1beta/${output}`)).status).toBe(400);
    expect((await t.call("DELETE", `/v1beta/${output}`)).status).toBe(400);
    for (const path of [`/v1beta/${output}:download?alt=media`, `/download/v1/${output}:download?alt=media`]) {
      const download = await t.call("GET", path);
      expect(download.headers.get("content-length")).toBe(String(Buffer.byteLength(download.text)));
      expect(
        download.text
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line).key),
      ).toEqual(["r1", "r2"]);
    }
    expect((await t.call("GET", "/v1beta/files")).json.files.map((listed: Any) => listed.name)).toEqual([file.name]);
    expect((await t.call("GET", `/v1beta/${file.name}:download?alt=media`)).status).toBe(400);
    expect((await t.call("DELETE", `/v1beta/${created.name}`, {})).json).toEqual({});
    expect((await t.call("GET", `/v1beta/${output}:download?alt=media`)).status).toBe(404);
    expect((await t.call("GET", `/v1beta/${created.name}`)).status).toBe(404);
    expect((await t.call("DELETE", `/v1beta/${created.name}`)).status).toBe(404);
  });

  it("accepts snake_case everywhere and leaves the names of users alone", async () => {
    const seen: Any[] = [];
    await using t = await setUp({ answer: (request) => void seen.push(request) });
    const schema = { type: "object", properties: { first_name: { type: "string", min_length: 2 } }, property_ordering: ["first_name"] };
    const request = { ...prompt("hi"), system_instruction: { parts: [{ text: "s" }] }, generation_config: { response_schema: schema } };
    const file = await t.upload(JSON.stringify({ key: "r1", request }));
    const { json } = await t.create({ display_name: "snake", input_config: { file_name: file.name } });
    expect(json.metadata.displayName).toBe("snake");
    await t.emulator.idle();
    expect(seen[0]).toEqual({
      ...prompt("hi"),
      systemInstruction: { parts: [{ text: "s" }] },
      generationConfig: {
        responseSchema: { type: "object", properties: { first_name: { type: "string", minLength: 2 } }, propertyOrdering: ["first_name"] },
      },
    });
  });

  it("sends embeddings with a token count that is a string", async () => {
    await using t = await setUp();
    const row = { key: "e1", request: { content: { parts: [{ text: "word" }] }, output_dimensionality: 3 } };
    const file = await t.upload(JSON.stringify(row));
    const { json: created } = await t.create(
      { input_config: { file_name: file.name } },
      "/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent",
    );
    expect(created.metadata["@type"]).toMatch(/EmbedContentBatch$/);
    expect(created.metadata).not.toHaveProperty("displayName");
    await t.emulator.idle();
    const { text } = await t.call("GET", `/v1beta/files/batch-${created.name.slice(8)}:download?alt=media`);
    const line = JSON.parse(text);
    expect(line).toEqual({
      key: "e1",
      response: { tokenCount: "1", embedding: { values: [expect.any(Number), expect.any(Number), expect.any(Number)] } },
    });
    const square = line.response.embedding.values.reduce((sum: number, value: number) => sum + value * value, 0);
    expect(square).toBeCloseTo(1, 5);
  });
});

describe("uploads", () => {
  it("describe the file as the service does", async () => {
    await using t = await setUp();
    const file = await t.upload("hello");
    expect(file).toEqual({
      name: expect.stringMatching(/^files\/[a-z0-9]{1,40}$/),
      displayName: "rows",
      mimeType: "application/jsonl",
      sizeBytes: "5",
      createTime: expect.any(String),
      updateTime: file.createTime,
      expirationTime: expect.any(String),
      sha256Hash: Buffer.from("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824").toString("base64"),
      uri: `${t.emulator.url}/v1beta/${file.name}`,
      state: "ACTIVE",
      source: "UPLOADED",
    });
    expect(Date.parse(file.expirationTime) - Date.parse(file.createTime)).toBe(48 * 3_600_000);
  });

  it("take chunks at their offsets and tell how far they are", async () => {
    await using t = await setUp();
    const started = await t.call(
      "POST",
      "/upload/v1/files",
      {},
      { "x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start" },
    );
    const path = (started.headers.get("x-goog-upload-url") ?? "").slice(t.emulator.url.length);
    expect(path).toMatch(/^\/upload\/v1\/files\?upload_id=/);
    const chunk = (command: string, offset: number, body: string) =>
      t.call("POST", path, body, { "x-goog-upload-command": command, "x-goog-upload-offset": String(offset) });
    expect((await chunk("upload", 0, "abc")).headers.get("x-goog-upload-status")).toBe("active");
    expect((await chunk("upload", 1, "xyz")).json.error.status).toBe("INVALID_ARGUMENT");
    const asked = await t.call("POST", path, "", { "x-goog-upload-command": "query" });
    expect(asked.headers.get("x-goog-upload-size-received")).toBe("3");
    expect((await chunk("upload, finalize", 3, "def")).json.file.sizeBytes).toBe("6");
    expect((await t.call("POST", path, "", { "x-goog-upload-command": "query" })).headers.get("x-goog-upload-status")).toBe("final");
  });

  it("refuse what is larger than the limit", async () => {
    await using t = await setUp({ limits: { fileBytes: 10 } });
    const headers = {
      "x-goog-upload-protocol": "resumable",
      "x-goog-upload-command": "start",
      "x-goog-upload-header-content-length": "11",
    };
    expect((await t.call("POST", "/upload/v1beta/files", {}, headers)).status).toBe(400);
  });
});

describe("errors", () => {
  it("have the envelope of the service", async () => {
    await using t = await setUp({ apiKey: "k" });
    const missing = await t.call("GET", "/v1beta/batches");
    expect([missing.status, missing.json.error.status]).toEqual([403, "PERMISSION_DENIED"]);
    const wrong = await t.call("GET", "/v1beta/batches?key=x");
    expect(wrong.status).toBe(400);
    expect(wrong.json.error).toMatchObject({
      code: 400,
      status: "INVALID_ARGUMENT",
      message: "API key not valid. Please pass a valid API key.",
    });
    expect(wrong.json.error.details[0]).toMatchObject({
      "@type": "type.googleapis.com/google.rpc.ErrorInfo",
      reason: "API_KEY_INVALID",
      domain: "googleapis.com",
    });
    expect((await t.call("GET", "/v1beta/batches", undefined, { "x-goog-api-key": "k" })).json).toEqual({});
  });

  it.each([
    ["generateContent", "no-such-model", prompt("hi")],
    ["generateContent", "gemini-embedding-001", prompt("hi")],
    ["batchGenerateContent", "no-such-model", { batch: {} }],
    ["asyncBatchEmbedContent", model, { batch: {} }],
    ["embedContent", model, { content: { parts: [{ text: "a" }] } }],
  ])("404 for %s with %s", async (verb, name, body) => {
    await using t = await setUp();
    const { status, json } = await t.call("POST", `/v1beta/models/${name}:${verb}`, body);
    expect(status).toBe(404);
    expect(json.error).toMatchObject({ code: 404, status: "NOT_FOUND" });
    expect(json.error.message).toContain(`models/${name} is not found for API version v1beta, or is not supported for ${verb}`);
    expect(json.error.details[0]["@type"]).toBe("type.googleapis.com/google.rpc.DebugInfo");
  });

  it.each([
    ["not JSON", "{nope", /Row|not JSON/],
    ["an array", "[]", /object/],
    ["nothing", "", /batch is not specified/],
    ["no input", '{"batch":{"inputConfig":{}}}', /requests or file_name/],
    ["no rows", '{"batch":{"inputConfig":{"requests":{"requests":[]}}}}', /no requests/],
    [
      "a row without request",
      '{"batch":{"inputConfig":{"requests":{"requests":[{"metadata":{"key":"x9"}}]}}}}',
      /Request 1 \(key "x9"\) is malformed: request is missing/,
    ],
    ["a row without contents", '{"batch":{"inputConfig":{"requests":{"requests":[{"request":{}}]}}}}', /contents is not specified/],
    [
      "empty parts",
      '{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"contents":[{"parts":[]}]}}]}}}}',
      /contents\[0\]\.parts must not be empty/,
    ],
  ])("400 for a create with %s", async (_, body, message) => {
    await using t = await setUp();
    const { status, json } = await t.call("POST", `/v1beta/models/${model}:batchGenerateContent`, body);
    expect([status, json.error.code, json.error.status]).toEqual([400, 400, "INVALID_ARGUMENT"]);
    expect(json.error.message).toMatch(message);
    expect(t.emulator.jobs()).toEqual([]);
  });

  it.each([
    ["not JSON", '{"key":"r1"', /Request 2 is malformed: the line is not valid JSON/],
    ["a key that is a number", '{"key":1,"request":{}}', /key must be a string/],
    ["no contents", '{"key":"r7","request":{}}', /Request 2 \(key "r7"\)/],
  ])("400 for an input file with a line that is %s, or a row error when so set", async (_, line, message) => {
    await using strict = await setUp();
    const content = `${JSON.stringify({ key: "r0", request: prompt("a") })}\n${line}\n`;
    const refused = await strict.create({ inputConfig: { fileName: (await strict.upload(content)).name } });
    expect(refused.status).toBe(400);
    expect(refused.json.error.message).toMatch(message);

    await using lenient = await setUp({ malformedRows: "rowError" });
    const { json } = await lenient.create({ inputConfig: { fileName: (await lenient.upload(content)).name } });
    await lenient.emulator.idle();
    const done = (await lenient.call("GET", `/v1beta/${json.name}`)).json;
    expect(done.metadata.batchStats).toEqual({ requestCount: "2", successfulRequestCount: "1", failedRequestCount: "1" });
    const { text } = await lenient.call("GET", `/v1beta/${done.response.responsesFile}:download?alt=media`);
    expect(JSON.parse(text.split("\n")[1] ?? "").error.code).toBe(3);
  });

  it("403 for a missing input file, 404 for a missing job and an unknown path", async () => {
    await using t = await setUp();
    const missing = await t.create({ inputConfig: { fileName: "files/nope" } });
    expect([missing.status, missing.json.error.status]).toEqual([403, "PERMISSION_DENIED"]);
    expect((await t.call("GET", "/v1beta/batches/nope")).status).toBe(404);
    expect((await t.call("POST", "/v1beta/batches/nope:cancel", {})).status).toBe(404);
    expect((await t.call("GET", "/v1beta/batches/%E0%A4%A")).json.error.status).toBe("NOT_FOUND");
    expect((await t.call("GET", "/v2/batches")).json.error.code).toBe(404);
    expect((await t.call("GET", "/v1beta/batches?pageToken=%7B")).status).toBe(400);
  });

  it("429 without RetryInfo when the project is full", async () => {
    await using t = await setUp({ turnaround: 60_000, limits: { concurrentJobs: 2, enqueuedTokens: { "gemini-2.5-pro": 10 } } });
    await t.inline(["a"]);
    const long = { displayName: "", inputConfig: { requests: { requests: [{ request: prompt("a".repeat(100)) }] } } };
    const tokens = await t.create(long, "/v1beta/models/gemini-2.5-pro:batchGenerateContent");
    expect([tokens.status, tokens.json.error.status]).toEqual([429, "RESOURCE_EXHAUSTED"]);
    const { json: second } = await t.inline(["b"]);
    const third = await t.inline(["c"]);
    expect(third.status).toBe(429);
    expect(third.json.error.details.map((detail: Any) => detail["@type"])).toEqual(["type.googleapis.com/google.rpc.Help"]);
    // A deleted job goes on, and still counts.
    await t.call("DELETE", `/v1beta/${second.name}`);
    expect((await t.inline(["c"])).status).toBe(429);
    expect(t.emulator.ledger.totals).toMatchObject({ jobs: 2, peakConcurrentJobs: 2, sentRows: 2 });
  });

  it("400 for inline input beyond the limit", async () => {
    await using t = await setUp({ limits: { inlineBytes: 300 } });
    expect((await t.inline(["a".repeat(300)])).json.error.message).toContain("Request payload size exceeds the limit: 300 bytes");
  });
});

describe("streams", () => {
  it("come as events or as one array", async () => {
    await using t = await setUp();
    const events = await t.call("POST", `/v1beta/models/${model}:streamGenerateContent?alt=sse`, prompt("hi"));
    expect(events.headers.get("content-type")).toContain("text/event-stream");
    expect(
      events.text
        .split("\r\n\r\n")
        .filter(Boolean)
        .every((event) => event.startsWith("data: {")),
    ).toBe(true);
    const { json } = await t.call("POST", `/v1beta/models/${model}:streamGenerateContent`, prompt("hi"));
    expect(json.map((piece: Any) => piece.candidates[0].finishReason)).toEqual([undefined, undefined, "STOP"]);
  });
});

describe("the emulator's own endpoints", () => {
  it("show the ledger, set faults and reset", async () => {
    await using t = await setUp();
    await t.inline(["same", "same", "other"]);
    await t.emulator.idle();
    const { json: ledger } = await t.call("GET", "/__emulator/ledger");
    expect(ledger).toMatchObject({ totals: { jobs: 1, sentRows: 3, billedRows: 3 }, distinctPrompts: 2, calls: { "batches.create": 1 } });
    expect(ledger.duplicatePrompts).toEqual([{ hash: expect.any(String), sent: 2, billed: 2 }]);
    expect((await t.call("GET", "/")).text).toContain("rows sent 3");
    expect((await t.call("POST", "/__emulator/faults", { throttleCreate: { times: 1 } })).status).toBe(200);
    expect((await t.inline(["a"])).status).toBe(429);
    const unknown = await t.call("POST", "/__emulator/faults", { nope: true });
    expect([unknown.status, unknown.json.error]).toEqual([400, expect.stringContaining('Unknown fault "nope"')]);
    await t.call("POST", "/__emulator/reset");
    expect((await t.call("GET", "/__emulator/ledger")).json.totals.jobs).toBe(0);
    expect(t.emulator.faults).toEqual({});
  });
});

describe("wire words", () => {
  it("writes nanoseconds", () => expect(wireTime(1_755_614_052_267, 7)).toMatch(/^2025-08-19T14:34:12\.267\d{6}Z$/));
  it("keeps what users named", () =>
    expect(camelKeys({ function_call: { args: { my_arg: 1 } }, inline_data: { mime_type: "a" } })).toEqual({
      functionCall: { args: { my_arg: 1 } },
      inlineData: { mimeType: "a" },
    }));
});

let now = 1_800_000_000_000;
function stoppedClock() {
  now = 1_800_000_000_000;
  return { now: () => now, sleep: () => Promise.resolve() };
}
