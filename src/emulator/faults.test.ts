import { describe, expect, it } from "vitest";
import { startEmulator, type EmulatorFaults, type EmulatorOptions } from "../emulator.ts";
import { faultBox } from "./faults.ts";

type Any = any;
const model = "gemini-2.5-flash";
const keys = ["r0", "r1", "r2", "r3", "r4", "r5"];
const textOf = (key: string) => `What about ${key}?`;
const rows = keys.map((key) => ({ key, request: { contents: [{ parts: [{ text: textOf(key) }] }] } }));

/** An emulator in virtual time with raw calls; jobs take 1,000 ms. */
async function setUp(faults: EmulatorFaults, options: EmulatorOptions = {}) {
  let now = 1_800_000_000_000;
  const clock = {
    now: () => now,
    sleep: async (ms: number) => void (now += ms),
  };
  const emulator = await startEmulator({ turnaround: 1_000, clock, faults, ...options });
  const raw = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    fetch(emulator.url + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  const call = async (method: string, path: string, body?: unknown) => {
    const response = await raw(method, `/v1beta/${path}`, body);
    return { status: response.status, json: (await response.json()) as Any };
  };
  const startUpload = async () => {
    const started = await raw(
      "POST",
      "/upload/v1beta/files",
      { file: {} },
      { "x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start" },
    );
    return (started.headers.get("x-goog-upload-url") ?? "").slice(emulator.url.length);
  };
  const upload = async (content = rows.map((row) => JSON.stringify(row)).join("\n")) => {
    const done = await raw("POST", await startUpload(), content, {
      "x-goog-upload-command": "upload, finalize",
      "x-goog-upload-offset": "0",
    });
    return ((await done.json()) as Any).file.name as string;
  };
  const createFile = async (displayName = "d") =>
    call("POST", `models/${model}:batchGenerateContent`, { batch: { displayName, inputConfig: { fileName: await upload() } } });
  const createInline = (displayName = "d") =>
    call("POST", `models/${model}:batchGenerateContent`, {
      batch: { displayName, inputConfig: { requests: { requests: rows.map(({ key, request }) => ({ request, metadata: { key } })) } } },
    });
  const advance = (ms: number) => void (now += ms);
  const get = async (name: string) => (await call("GET", name)).json;
  /** The output file of a new file job, as bytes. */
  const output = async () => {
    const { json } = await createFile();
    advance(1_000);
    const done = await get(json.name);
    expect(done.metadata.state).toBe("BATCH_STATE_SUCCEEDED");
    return Buffer.from(await (await raw("GET", `/v1beta/${done.response.responsesFile}:download?alt=media`)).arrayBuffer());
  };
  const lines = async () =>
    (await output())
      .toString()
      .split("\n")
      .slice(0, -1)
      .map((line): Any => JSON.parse(line));
  const inlineItems = async () => {
    const { json } = await createInline();
    advance(1_000);
    return (await get(json.name)).response.inlinedResponses.inlinedResponses as Any[];
  };
  return {
    emulator,
    raw,
    call,
    startUpload,
    upload,
    createFile,
    createInline,
    advance,
    get,
    output,
    lines,
    inlineItems,
    [Symbol.asyncDispose]: () => emulator.close(),
  };
}

const one = { match: "r2" };

describe("faults of rows", () => {
  it("shuffledRows: every row, another order, the same for the same seed", async () => {
    await using a = await setUp({ shuffledRows: true });
    await using b = await setUp({ shuffledRows: true });
    const order = (await a.lines()).map((line) => line.key);
    expect(order).not.toEqual(keys);
    expect(order.toSorted((a, b) => String(a).localeCompare(String(b)))).toEqual(keys);
    expect((await b.lines()).map((line) => line.key)).toEqual(order);
    expect((await a.inlineItems()).map((item) => item.metadata.key)).not.toEqual(keys);
  });

  it("missingMetadata", async () => {
    await using t = await setUp({ missingMetadata: one });
    expect((await t.inlineItems()).map((item) => item.metadata?.key)).toEqual(["r0", "r1", undefined, "r3", "r4", "r5"]);
    expect((await t.lines())[2]).not.toHaveProperty("key");
  });

  it("missingRows", async () => {
    await using t = await setUp({ missingRows: one });
    expect((await t.lines()).map((line) => line.key)).toEqual(["r0", "r1", "r3", "r4", "r5"]);
    expect(t.emulator.ledger.totals.billedRows).toBe(6);
  });

  it("nullResponse", async () => {
    await using t = await setUp({ nullResponse: one });
    expect((await t.lines())[2]).toEqual({ key: "r2", response: null });
  });

  it("duplicateRows", async () => {
    await using t = await setUp({ duplicateRows: one });
    const lines = await t.lines();
    expect(lines).toHaveLength(7);
    expect(lines[3]).toEqual(lines[2]);
  });

  it("unknownRows", async () => {
    await using t = await setUp({ unknownRows: one });
    expect((await t.lines()).map((line) => line.key)).toContain("unknown-r2");
    expect(await t.inlineItems()).toHaveLength(7);
  });

  it("swappedKeys", async () => {
    await using t = await setUp({ swappedKeys: one });
    const lines = await t.lines();
    expect(lines[2].key).toBe("r2");
    expect(lines[2].response.candidates[0].content.parts[0].text).toContain(textOf("r3"));
    expect(lines[3].response.candidates[0].content.parts[0].text).toContain(textOf("r2"));
  });

  it("rowError, counted but not billed", async () => {
    await using t = await setUp({ rowError: { ...one, code: 8, message: "Busy." } });
    const { json } = await t.createFile();
    t.advance(1_000);
    const done = await t.get(json.name);
    expect(done.metadata).toMatchObject({
      state: "BATCH_STATE_SUCCEEDED",
      batchStats: { requestCount: "6", successfulRequestCount: "5", failedRequestCount: "1" },
    });
    expect(t.emulator.ledger.totals.billedRows).toBe(5);
    expect((await t.lines())[2]).toEqual({ key: "r2", error: { code: 8, message: "Busy." } });
  });

  it("rowErrorInStatus", async () => {
    await using t = await setUp({ rowErrorInStatus: one });
    expect((await t.lines())[2]).toEqual({ key: "r2", status: { code: 13, message: expect.any(String) } });
  });

  it("badLine, nonUtf8Line, blankLines", async () => {
    await using bad = await setUp({ badLine: one });
    const line = (await bad.output()).toString().split("\n")[2] ?? "";
    expect(() => JSON.parse(line) as unknown).toThrow(SyntaxError);
    await using bytes = await setUp({ nonUtf8Line: one });
    expect(() => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.alloc(0))).not.toThrow();
    const output = await bytes.output();
    expect(() => new TextDecoder("utf-8", { fatal: true }).decode(output)).toThrow(TypeError);
    await using blank = await setUp({ blankLines: one });
    expect((await blank.output()).toString().split("\n")[2]).toBe("");
  });

  it("megabyteLine", async () => {
    await using t = await setUp({ megabyteLine: one });
    expect((await t.lines())[2].response.candidates[0].content.parts[0].text.length).toBeGreaterThan(1_000_000);
  });
});

describe("faults of responses", () => {
  it.each([
    ["emptyText", { candidates: [{ content: { role: "model" }, finishReason: "STOP", index: 0 }] }],
    ["blockedOutput", { candidates: [{ content: { role: "model" }, finishReason: "SAFETY", index: 0 }] }],
    ["blockedPrompt", { promptFeedback: { blockReason: "PROHIBITED_CONTENT" } }],
    ["truncated", { candidates: [{ finishReason: "MAX_TOKENS" }] }],
  ] as const)("%s", async (name, expected) => {
    await using t = await setUp({ [name]: one });
    const lines = await t.lines();
    expect(lines[2].response).toMatchObject(expected);
    expect(lines[3].response.candidates[0].finishReason).toBe("STOP");
    expect("candidates" in lines[2].response).toBe(name !== "blockedPrompt");
  });

  it("invalidJson, in direct calls too", async () => {
    await using t = await setUp({ invalidJson: { times: 1 } });
    const request = { contents: [{ parts: [{ text: "x" }] }], generationConfig: { responseMimeType: "application/json" } };
    const ask = async () =>
      (await t.call("POST", `models/${model}:generateContent`, request)).json.candidates[0].content.parts[0].text as string;
    const [broken, whole] = [await ask(), await ask()];
    expect(() => JSON.parse(broken) as unknown).toThrow(SyntaxError);
    expect(JSON.parse(whole)).toEqual({ answer: expect.any(String) });
  });
});

describe("faults of jobs", () => {
  it.each([
    ["jobFails", "BATCH_STATE_FAILED", 13],
    ["jobExpires", "BATCH_STATE_EXPIRED", 4],
    ["jobCancelledOutside", "BATCH_STATE_CANCELLED", 1],
  ] as const)("%s", async (name, state, code) => {
    await using t = await setUp({ [name]: true });
    const { json } = await t.createFile();
    expect(json.metadata.state).toBe("BATCH_STATE_PENDING");
    t.advance(1_000);
    const done = await t.get(json.name);
    expect(done).toMatchObject({ done: true, metadata: { state }, error: { code } });
    expect(done).not.toHaveProperty("response");
    expect(t.emulator.ledger.totals).toMatchObject({ sentRows: 6, billedRows: 0 });
  });

  it("stuck: PENDING for ever, until it is cancelled", async () => {
    await using t = await setUp({ stuck: true });
    const { json } = await t.createFile();
    t.advance(1_000 * 3_600_000);
    expect((await t.get(json.name)).metadata.state).toBe("BATCH_STATE_PENDING");
    await t.call("POST", `${json.name}:cancel`, {});
    expect((await t.get(json.name)).metadata.state).toBe("BATCH_STATE_CANCELLED");
  });

  it("lateOutputFile", async () => {
    await using t = await setUp({ lateOutputFile: { ms: 5_000 } });
    const { json } = await t.createFile();
    t.advance(1_000);
    const early = await t.get(json.name);
    expect(early.metadata.state).toBe("BATCH_STATE_SUCCEEDED");
    expect(early.metadata).not.toHaveProperty("output");
    expect(early).not.toHaveProperty("response");
    t.advance(5_000);
    expect((await t.get(json.name)).response.responsesFile).toMatch(/^files\/batch-/);
  });

  it("listLag", async () => {
    await using t = await setUp({ listLag: { ms: 500 } });
    const { json } = await t.createInline();
    expect((await t.call("GET", "batches")).json).toEqual({});
    expect((await t.get(json.name)).name).toBe(json.name);
    t.advance(500);
    expect((await t.call("GET", "batches")).json.operations).toHaveLength(1);
  });
});

describe("faults of files", () => {
  it("outputFileGone and inputFileGone", async () => {
    await using t = await setUp({ outputFileGone: { times: 1 }, inputFileGone: { after: 1 } });
    const { json } = await t.createFile();
    t.advance(1_000);
    const done = await t.get(json.name);
    expect((await t.call("GET", `${done.response.responsesFile}:download?alt=media`)).status).toBe(404);
    expect((await t.raw("GET", `/v1beta/${done.response.responsesFile}:download?alt=media`)).status).toBe(200);
    expect((await t.createFile()).status).toBe(403);
  });

  it("downloadCut: in the middle of a line, broken or clean", async () => {
    await using t = await setUp({ downloadCut: { times: 1 } });
    const { json } = await t.createFile();
    t.advance(1_000);
    const path = `/v1beta/${(await t.get(json.name)).response.responsesFile}:download?alt=media`;
    const broken = await t.raw("GET", path);
    await expect(broken.text()).rejects.toThrow();
    const whole = await (await t.raw("GET", path)).text();
    for (const at of [1, 0.25, 0.5, 0.99, 1_000_000]) {
      t.emulator.faults.downloadCut = { clean: true, at };
      const part = await (await t.raw("GET", path)).text();
      expect(part.length).toBeGreaterThan(0);
      expect(part.length).toBeLessThan(whole.length - 1);
      expect(whole.startsWith(part)).toBe(true);
      expect(() => JSON.parse(part.split("\n").at(-1) ?? "") as unknown).toThrow(SyntaxError);
    }
  });

  it("uploadCut: what arrived is kept, and the upload can go on", async () => {
    await using t = await setUp({ uploadCut: { times: 1, at: 4 } });
    const url = await t.startUpload();
    const send = (offset: number, body: string) =>
      t.raw("POST", url, body, { "x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": String(offset) });
    await expect(send(0, "0123456789")).rejects.toThrow();
    const asked = await t.raw("POST", url, "", { "x-goog-upload-command": "query" });
    expect(asked.headers.get("x-goog-upload-status")).toBe("active");
    const received = Number(asked.headers.get("x-goog-upload-size-received"));
    expect(received).toBe(4);
    const done = await send(received, "0123456789".slice(received));
    expect(((await done.json()) as Any).file.sizeBytes).toBe("10");
  });
});

describe("faults of creating", () => {
  it.each([
    ["throttleCreate", true, 429, "RESOURCE_EXHAUSTED"],
    ["refuseCreate", true, 400, "INVALID_ARGUMENT"],
    ["freeTier", true, 400, "FAILED_PRECONDITION"],
    ["serverErrorCreate", true, 500, "INTERNAL"],
    ["serverErrorCreate", { code: 503 }, 503, "UNAVAILABLE"],
  ] as const)("%s %j: %i %s and no job", async (name, setting, code, status) => {
    await using t = await setUp({ [name]: setting });
    const { status: http, json } = await t.createInline();
    expect(http).toBe(code);
    expect(json.error).toMatchObject({ code, status });
    expect(JSON.stringify(json)).not.toContain("RetryInfo");
    expect(t.emulator.jobs()).toEqual([]);
  });

  it("createAnswerLost: no answer, but a job", async () => {
    await using t = await setUp({ createAnswerLost: { times: 1 } });
    await expect(t.createInline("lost")).rejects.toThrow("fetch failed");
    expect((await t.call("GET", "batches")).json.operations[0].metadata.displayName).toBe("lost");
    expect((await t.createInline()).status).toBe(200);
  });

  it("createAnswerError: 500, but a job", async () => {
    await using t = await setUp({ createAnswerError: true });
    expect((await t.createInline()).status).toBe(500);
    expect(t.emulator.jobs()).toHaveLength(1);
  });

  it("createAnswerSlow: the job is there before the answer", async () => {
    let release = (): void => undefined;
    const slept = new Promise<void>((resolve) => (release = resolve));
    const clock = { now: () => 0, sleep: () => slept };
    await using t = await setUp({ createAnswerSlow: { ms: 60_000 } }, { clock });
    const answer = t.createInline();
    await expect.poll(() => t.emulator.jobs().length, { interval: 2 }).toBe(1);
    release();
    expect((await answer).json.name).toBe(t.emulator.jobs()[0]?.name);
  });
});

describe("faults of any call", () => {
  it("throttleAny has RetryInfo and can be aimed at an endpoint", async () => {
    await using t = await setUp({ throttleAny: { match: "batches.list", ms: 7_000 } });
    const { json } = await t.createInline();
    expect((await t.call("GET", json.name)).status).toBe(200);
    const list = await t.call("GET", "batches");
    expect(list.status).toBe(429);
    expect(list.json.error.details).toContainEqual({ "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "7s" });
  });

  it("htmlError, serverError, connectionLost, latency", async () => {
    await using t = await setUp({
      htmlError: { times: 1 },
      serverError: { times: 1, code: 503 },
      connectionLost: { after: 2, times: 1 },
      latency: { ms: 250 },
    });
    const html = await t.raw("GET", "/v1beta/batches");
    expect([html.status, html.headers.get("content-type")]).toEqual([502, "text/html; charset=UTF-8"]);
    expect((await t.raw("GET", "/v1beta/batches")).status).toBe(503);
    await expect(t.raw("GET", "/v1beta/batches")).rejects.toThrow("fetch failed");
    expect((await t.raw("GET", "/v1beta/batches")).status).toBe(200);
    expect(t.emulator.ledger.faults).toEqual({ htmlError: 1, serverError: 1, connectionLost: 1, latency: 4 });
  });
});

describe("a switch", () => {
  it("counts, skips, and draws by its seed", () => {
    const hits = (faults: EmulatorFaults, seed = "s") => {
      const box = faultBox(faults, seed);
      return Array.from({ length: 200 }, (_, i) => (box.hit("rowError", `r${i}`) ? i : -1)).filter((i) => i >= 0);
    };
    expect(hits({ rowError: { times: 2, after: 3 } })).toEqual([3, 4]);
    expect(hits({ rowError: { match: "*99*" } })).toEqual([99, 199]);
    expect(hits({ rowError: { match: /^r1.$/ } })).toHaveLength(10);
    const drawn = hits({ rowError: 0.25 });
    expect(drawn.length).toBeGreaterThan(25);
    expect(drawn.length).toBeLessThan(75);
    expect(hits({ rowError: 0.25 })).toEqual(drawn);
    expect(hits({ rowError: 0.25 }, "other")).not.toEqual(drawn);
    expect(hits({ rowError: false })).toEqual([]);
    expect(hits({ rowError: 0 })).toEqual([]);
    expect(hits({ rowError: 1 })).toHaveLength(200);
  });

  it("starts its count again when it is set again", () => {
    const box = faultBox({ rowError: { times: 1 } }, "s");
    expect([box.hit("rowError", "a"), box.hit("rowError", "b")].map(Boolean)).toEqual([true, false]);
    box.settings.rowError = { times: 1 };
    expect(Boolean(box.hit("rowError", "c"))).toBe(true);
  });

  it("must be known and sensible", async () => {
    await expect(startEmulator({ faults: { rowErrors: true } as EmulatorFaults })).rejects.toThrow('Unknown fault "rowErrors"');
    expect(() => faultBox({ rowError: 2 }, "s")).toThrow("a probability from 0 to 1");
  });
});
