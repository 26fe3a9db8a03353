/** What goes over the wire, against servers written by hand in its raw shapes. */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type JobInput, type Lane, ProviderError, type ProviderJob, type ResultRow } from "../../core/provider.ts";
import type { GeminiOptions } from "./options.ts";
import { gemini } from "./provider.ts";

interface Call {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  body: string;
}
type Handler = (call: Call, response: ServerResponse) => void | Promise<void>;

const stops: (() => Promise<unknown>)[] = [];
let tempDir = "";
beforeEach(async () => {
  tempDir = await mkdtemp(join(tmpdir(), "gemini-test-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const stop of stops.splice(0)) await stop();
  await rm(tempDir, { recursive: true });
});

async function serve(handler: Handler): Promise<{ url: string; calls: Call[] }> {
  const calls: Call[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const call = { method: request.method!, url: request.url!, headers: request.headers, body: Buffer.concat(chunks).toString() };
    calls.push(call);
    await handler(call, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, calls };
}

const json = (response: ServerResponse, value: unknown, status = 200, headers = {}): void => {
  response.writeHead(status, { "content-type": "application/json; charset=UTF-8", ...headers }).end(JSON.stringify(value));
};
const open = (): AbortSignal => new AbortController().signal;
const lane: Lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" };
const batch = (bodies: string[], over: Partial<JobInput> = {}): JobInput => ({
  ...{ token: "gb-1", lane, requestCount: bodies.length, bytes: bodies.join("").length },
  rows: async function* () {
    for (const [i, body] of bodies.entries()) yield { key: `r${i}`, body };
  },
  ...over,
});
const provide = (url: string, options: GeminiOptions = {}) => gemini({ apiKey: "the-key", baseUrl: url, tempDir, ...options });
const failureOf = async (call: Promise<unknown>): Promise<ProviderError> => {
  const thrown = await call.then(
    () => new Error("did not fail"),
    (error) => error,
  );
  if (!ProviderError.is(thrown)) throw thrown;
  return thrown;
};
const pending = { name: "batches/a", metadata: { state: "BATCH_STATE_PENDING", displayName: "gb-1" } };
const staged = { ref: "files/in" };
const sending = { signal: open(), beforeSend: async () => true };

describe("staging", () => {
  /** Takes uploads; `chunk` decides what a piece is answered. */
  const uploads = async (chunk: (call: Call, response: ServerResponse, whole: string) => void) => {
    let whole = "";
    return serve((call, response) => {
      if (call.url.startsWith("/upload/"))
        return json(response, {}, 200, { "x-goog-upload-url": "https://front.example/session?upload_id=signed" });
      whole += call.body;
      chunk(call, response, whole);
    });
  };
  const final = (response: ServerResponse, whole: string, file = {}): void =>
    json(response, { file: { name: "files/in", sizeBytes: String(Buffer.byteLength(whole)), ...file } }, 200, {
      "x-goog-upload-status": "final",
    });

  it("uploads one line a row with the resumable protocol, and leaves no file behind", async () => {
    let modes: string[] = [];
    let received = "";
    const server = await uploads(async (_call, response, whole) => {
      received = whole;
      const [folder] = await readdir(tempDir);
      modes = [folder!, join(folder!, "input.jsonl")].map((path) => path);
      modes = await Promise.all(modes.map(async (path) => ((await stat(join(tempDir, path))).mode & 0o777).toString(8)));
      final(response, whole, { createTime: "2026-11-22T10:00:00.5Z" });
    });
    const bodies = ['{"contents":[{"parts":[{"text":"a\u2028b"}]}]}', '{\n"contents":[]}'];
    expect(await provide(server.url).stageInput(batch(bodies), open())).toEqual({
      ref: "files/in",
      expiresAt: Date.UTC(2026, 10, 24, 9, 0, 0, 500),
    });
    expect(received).toBe(`{"key":"r0","request":${bodies[0]}}\n{"key":"r1","request":{ "contents":[]}}\n`);
    expect(modes).toEqual(["700", "600"]);
    expect(await readdir(tempDir)).toEqual([]);
    const [start, piece] = server.calls;
    expect(start).toMatchObject({ method: "POST", url: "/upload/v1beta/files" });
    expect(JSON.parse(start!.body).file).toMatchObject({ displayName: "gb-1", mimeType: "application/jsonl" });
    expect(start!.headers).toMatchObject({ "x-goog-api-key": "the-key", "x-goog-upload-header-content-type": "application/jsonl" });
    expect(piece).toMatchObject({ url: "/session?upload_id=signed" });
    expect(piece!.headers).toMatchObject({ "x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0" });
  });

  it("sends pieces of 8 MiB", async () => {
    const server = await uploads((call, response, whole) => {
      if (String(call.headers["x-goog-upload-command"]).includes("finalize")) final(response, whole);
      else json(response, {}, 200, { "x-goog-upload-status": "active" });
    });
    const body = `{"contents":[{"parts":[{"text":"${"x".repeat(1_000_000)}"}]}]}`;
    expect(await provide(server.url).stageInput(batch(Array(20).fill(body)), open())).toEqual({ ref: "files/in" });
    expect(server.calls.map((call) => call.headers["x-goog-upload-offset"])).toEqual([undefined, "0", "8388608", "16777216"]);
  });

  it.each([
    [503, { error: { code: 503, status: "UNAVAILABLE", message: "later" } }, "unavailable"],
    [429, { error: { code: 429, status: "RESOURCE_EXHAUSTED", message: "later" } }, "throttled"],
    [400, { error: { code: 400, status: "INVALID_ARGUMENT", message: "bad" } }, "refused"],
    [403, { error: { code: 403, status: "PERMISSION_DENIED", message: "bad" } }, "denied"],
  ])("maps HTTP %i, once asked, and leaves no file behind", async (status, body, failure) => {
    const server = await uploads((_call, response) => json(response, body, status));
    const error = await failureOf(provide(server.url).stageInput(batch(["{}"]), open()));
    expect(error.failure).toBe(failure);
    expect(error.message).not.toContain("signed");
    expect(server.calls.length).toBe(2);
    expect(await readdir(tempDir)).toEqual([]);
  });

  it("does not take a file that was stored otherwise than sent", async () => {
    const server = await uploads((_call, response, whole) => final(response, whole, { sizeBytes: "3" }));
    expect((await failureOf(provide(server.url).stageInput(batch(["{}"]), open()))).failure).toBe("unavailable");
  });

  it("ends when it is aborted, while rows come and while it uploads", async () => {
    const server = await uploads(() => {});
    const controller = new AbortController();
    const stalled = failureOf(provide(server.url).stageInput(batch(["{}"]), controller.signal));
    await vi.waitFor(() => expect(server.calls.length).toBe(2));
    controller.abort();
    expect((await stalled).failure).toBe("unavailable");
    let asked = 0;
    const rows = async function* () {
      for (; asked < 100; asked += 1) yield { key: `r${asked}`, body: `"${"x".repeat(500_000)}"` };
    };
    const many = failureOf(provide(server.url).stageInput(batch([], { rows }), AbortSignal.abort()));
    expect((await many).failure).toBe("unavailable");
    expect(asked).toBeLessThan(3);
    expect(server.calls.length).toBe(2);
    expect(await readdir(tempDir)).toEqual([]);
  });

  it("hands on what the rows throw, and refuses a batch of none", async () => {
    const server = await uploads(() => {});
    const broken = batch([], {
      rows: async function* () {
        throw new Error("the store");
      },
    });
    await expect(provide(server.url).stageInput(broken, open())).rejects.toThrow("the store");
    expect((await failureOf(provide(server.url).stageInput(batch([]), open()))).failure).toBe("refused");
    expect(await readdir(tempDir)).toEqual([]);
    expect(server.calls).toEqual([]);
  });

  it("sends small batches inline, large ones as a file", async () => {
    const server = await uploads((call, response, whole) => {
      if (String(call.headers["x-goog-upload-command"]).includes("finalize")) final(response, whole);
      else json(response, {}, 200, { "x-goog-upload-status": "active" });
    });
    const provider = provide(server.url, { mode: "inline" });
    expect(await provider.stageInput(batch(["{}"]), open())).toEqual({ ref: "inline" });
    expect(server.calls.length).toBe(0);
    const almost = `"${"x".repeat(1_999_950)}"`;
    expect(await provider.stageInput(batch(Array(10).fill(almost)), open())).toEqual({ ref: "files/in" });
  });
});

describe("creating", () => {
  it.each<[string, string, Lane["method"], string, string, unknown]>([
    ["file", "files/in", "generateContent", "batchGenerateContent", "gemini-2.5-flash", { fileName: "files/in" }],
    ["file", "files/in", "embedContent", "asyncBatchEmbedContent", "gemini-embedding-001", { fileName: "files/in" }],
    [
      "inline",
      "inline",
      "generateContent",
      "batchGenerateContent",
      "gemini-2.5-flash",
      { requests: { requests: [{ request: { x: 1.5 }, metadata: { key: "r0" } }] } },
    ],
    [
      "inline",
      "inline",
      "embedContent",
      "asyncBatchEmbedContent",
      "gemini-embedding-001",
      { requests: { requests: [{ request: { x: 1.5 }, metadata: { key: "r0" } }] } },
    ],
    ["file", "files/in", "generateContent", "batchGenerateContent", "tunedModels/mine", { fileName: "files/in" }],
  ])("posts a job of kind %s, %s, %s", async (_kind, ref, method, verb, model, inputConfig) => {
    const said = vi.spyOn(console, "warn");
    const server = await serve((_call, response) => json(response, pending));
    const input = batch(['{"x":1.5}'], { lane: { ...lane, method, model } });
    const job = await provide(server.url, { headers: { "x-mine": "1" } }).createJob(input, { ref }, sending);
    expect(job).toEqual({ name: "batches/a", token: "gb-1", state: "pending", rawStatus: "BATCH_STATE_PENDING" });
    expect(server.calls.length).toBe(1);
    expect(server.calls[0]).toMatchObject({ method: "POST", url: `/v1beta/${model.includes("/") ? model : `models/${model}`}:${verb}` });
    expect(server.calls[0]!.headers).toMatchObject({ "x-goog-api-key": "the-key", "x-mine": "1", "content-type": "application/json" });
    expect(JSON.parse(server.calls[0]!.body)).toEqual({ batch: { displayName: "gb-1", inputConfig } });
    expect(said).not.toHaveBeenCalled();
  });

  it.each<[string, Lane["method"]]>([
    ["files/in", "generateContent"],
    ["files/in", "embedContent"],
    ["inline", "generateContent"],
    ["inline", "embedContent"],
  ])("asks for a webhook: %s, %s", async (ref, method) => {
    const server = await serve((_call, response) => json(response, pending));
    const input = batch(['{"x":1}'], { lane: { ...lane, method } });
    await provide(server.url, { webhook: { uri: "https://me.example/hook?a=b" } }).createJob(input, { ref }, sending);
    expect(JSON.parse(server.calls[0]!.body).batch).toMatchObject({
      displayName: "gb-1",
      inputConfig: {},
      webhookConfig: { uris: ["https://me.example/hook?a=b"] },
    });
  });

  it("keeps the body of an inline row as it is", async () => {
    const server = await serve((_call, response) => json(response, pending));
    const body = '{"x":1.0e5,"big":12345678901234567890,"x":"\u2028"}';
    await provide(server.url).createJob(batch([body]), { ref: "inline" }, sending);
    expect(server.calls[0]!.body).toContain(`{"request":${body},"metadata"`);
  });

  it("knows the error of a job that failed at once, which the SDK drops", async () => {
    const server = await serve((_call, response) =>
      json(response, { name: "batches/a", done: true, metadata: { state: "BATCH_STATE_FAILED" }, error: { code: 3, message: "bad" } }),
    );
    expect(await provide(server.url).createJob(batch(["{}"]), staged, sending)).toMatchObject({
      state: "failed",
      error: { code: 3, message: "bad" },
    });
  });

  const answers: [string, Handler, string][] = [
    ["500", (_call, response) => json(response, { error: { code: 500, status: "INTERNAL", message: "x" } }, 500), "ambiguous"],
    ["429", (_call, response) => json(response, { error: { code: 429, status: "RESOURCE_EXHAUSTED", message: "x" } }, 429), "throttled"],
    ["408", (_call, response) => json(response, {}, 408), "ambiguous"],
    ["503 of HTML", (_call, response) => void response.writeHead(503, { "content-type": "text/html" }).end("<html>"), "ambiguous"],
    [
      "400 row",
      (_call, response) => json(response, { error: { code: 400, status: "INVALID_ARGUMENT", message: "Failed to parse line 2." } }, 400),
      "refused",
    ],
    [
      "400 that calls itself JSON",
      (_call, response) => void response.writeHead(400, { "content-type": "application/json" }).end("<html>"),
      "ambiguous",
    ],
    ["200 of HTML", (_call, response) => void response.writeHead(200).end("<html>"), "ambiguous"],
    ["200 without a name", (_call, response) => json(response, {}), "ambiguous"],
    ["closed", (_call, response) => void response.socket!.destroy(), "ambiguous"],
    [
      "cut",
      (_call, response) => void response.writeHead(200, { "content-length": 999 }).write('{"name":', () => response.socket!.destroy()),
      "ambiguous",
    ],
    ["redirect", (_call, response) => void response.writeHead(307, { location: "/elsewhere" }).end(), "unavailable"],
    ["silence", () => {}, "ambiguous"],
  ];
  it.each(answers)("sends once, whatever comes back: %s", async (_name, handler, failure) => {
    const server = await serve(handler);
    for (const ref of ["files/in", "inline"]) {
      server.calls.length = 0;
      const error = await failureOf(provide(server.url, { timeout: { create: 300 } }).createJob(batch(["{}"]), { ref }, sending));
      expect(error.failure).toBe(failure);
      expect(server.calls.length).toBe(1);
    }
  });

  it("names the row that was refused", async () => {
    const server = await serve((_call, response) =>
      json(response, { error: { code: 400, status: "INVALID_ARGUMENT", message: "Failed to parse line 2." } }, 400),
    );
    expect((await failureOf(provide(server.url).createJob(batch(["{}"]), staged, sending))).row).toBe(1);
  });

  it("is unavailable when nobody listens", async () => {
    const server = await serve(() => {});
    await stops.pop()!();
    for (const ref of ["files/in", "inline"]) {
      const error = await failureOf(provide(server.url).createJob(batch(["{}"]), { ref }, sending));
      expect([error.failure, error.message]).toEqual(["unavailable", expect.stringContaining("ECONNREFUSED")]);
    }
  });

  it("asks whether it may send after everything else, and right before it sends", async () => {
    for (const ref of ["files/in", "inline"]) {
      const order: string[] = [];
      const fetch: typeof globalThis.fetch = async () => (order.push("sent"), Response.json(pending));
      const rows = async function* () {
        order.push("row");
        yield { key: "r0", body: "{}" };
      };
      await gemini({ apiKey: "k", fetch }).createJob(
        batch(["{}"], { rows }),
        { ref },
        { signal: open(), beforeSend: async () => (order.push("asked"), true) },
      );
      expect(order.slice(-2)).toEqual(["asked", "sent"]);
    }
  });

  it("is unavailable when the SDK throws before it sends", async () => {
    const server = await serve(() => {});
    const error = await failureOf(provide(server.url).createJob(batch(["{}"], { lane: { ...lane, model: "a..b" } }), staged, sending));
    expect([error.failure, error.message]).toEqual(["unavailable", "Could not create a batch job: invalid model parameter."]);
    expect(server.calls).toEqual([]);
  });

  it("is ambiguous when it is aborted after sending, and unavailable before", async () => {
    const server = await serve(() => {});
    const controller = new AbortController();
    const call = failureOf(
      provide(server.url).createJob(batch(["{}"]), staged, { signal: controller.signal, beforeSend: async () => true }),
    );
    await vi.waitFor(() => expect(server.calls.length).toBe(1));
    controller.abort();
    expect((await call).failure).toBe("ambiguous");
    expect(
      (await failureOf(provide(server.url).createJob(batch(["{}"]), staged, { signal: controller.signal, beforeSend: async () => true })))
        .failure,
    ).toBe("unavailable");
    expect(server.calls.length).toBe(1);
  });
});

describe("jobs", () => {
  const operation = (id: number | string, state: string, createTime = "2026-11-22T10:00:00Z", displayName = "gb-1") => ({
    ...{ name: `batches/${id}`, metadata: { state: `BATCH_STATE_${state}`, displayName, createTime } },
  });

  it("are read by GET when few; one that is gone is left out, one that cannot be read is unknown", async () => {
    const server = await serve((call, response) => {
      if (call.url.endsWith("/gone")) return json(response, { error: { code: 404, status: "NOT_FOUND", message: "x" } }, 404);
      if (call.url.endsWith("/broken")) return json(response, { error: { code: 500, status: "INTERNAL", message: "x" } }, 500);
      json(response, operation("a", "RUNNING"));
    });
    const jobs = await provide(server.url).getJobs(["batches/a", "batches/gone", "batches/broken"], open());
    expect(jobs.map((job) => [job.name, job.state])).toEqual([
      ["batches/a", "running"],
      ["batches/broken", "unknown"],
    ]);
    expect(server.calls.every((call) => call.method === "GET" && !call.url.includes("?"))).toBe(true);
    expect((await failureOf(provide(server.url).getJobs(["batches/broken"], open()))).failure).toBe("unavailable");
  });

  it("are read by list when many, and by GET where the list says nothing or an end", async () => {
    let parallel = 0;
    let most = 0;
    const server = await serve(async (call, response) => {
      if (call.url.startsWith("/v1beta/batches?")) {
        return json(response, { operations: Array.from({ length: 90 }, (_, i) => operation(i, i % 10 === 0 ? "SUCCEEDED" : "RUNNING")) });
      }
      most = Math.max(most, (parallel += 1));
      await new Promise((resolve) => setTimeout(resolve, 2));
      parallel -= 1;
      const id = Number(call.url.split("/").at(-1));
      json(response, { ...operation(id, "SUCCEEDED"), response: { responsesFile: `files/batch-${id}` } });
    });
    const names = Array.from({ length: 100 }, (_, i) => `batches/${i}`);
    const jobs = await provide(server.url).getJobs(names, open());
    expect(jobs.map((job) => job.name)).toEqual(names);
    expect(jobs.filter((job) => job.output).length).toBe(9 + 10);
    expect(server.calls.length).toBe(1 + 9 + 10);
    expect(most).toBeLessThanOrEqual(8);
  });

  it("are read by GET when the list fails, but not when the service asks for fewer calls", async () => {
    let status = 500;
    const server = await serve((call, response) => {
      if (call.url.includes("?")) return json(response, { error: { code: status, message: "x" } }, status);
      json(response, operation(call.url.split("/").at(-1)!, "RUNNING"));
    });
    const names = Array.from({ length: 9 }, (_, i) => `batches/${i}`);
    expect((await provide(server.url).getJobs(names, open())).length).toBe(9);
    status = 429;
    server.calls.length = 0;
    expect((await failureOf(provide(server.url).getJobs(names, open()))).failure).toBe("throttled");
    expect(server.calls.length).toBe(1);
  });

  it("are found while the list shifts, each confirmed by GET, and paging ends behind `since`", async () => {
    const at = (minutes: number): string => new Date(Date.UTC(2026, 10, 22, 10, minutes)).toISOString();
    const pages: Record<string, object> = {
      "": { operations: [operation("n", "RUNNING", at(50), "other"), operation("b", "RUNNING", at(40))], nextPageToken: "p2" },
      // One was created meanwhile: the last of the first page shows up again.
      p2: {
        operations: [operation("b", "RUNNING", at(40)), operation("gone", "RUNNING", at(35)), operation("x", "RUNNING", at(34), "gb-10")],
        nextPageToken: "p3",
      },
      p3: { operations: [], nextPageToken: "p4" },
      p4: { operations: [operation("a", "RUNNING", at(33)), operation("old", "RUNNING", at(5), "other")], nextPageToken: "p5" },
      p5: { operations: [operation("o1", "RUNNING", at(4), "other"), operation("o2", "RUNNING", at(3), "other")], nextPageToken: "p6" },
    };
    const server = await serve((call, response) => {
      const url = new URL(call.url, "http://x");
      if (url.pathname === "/v1beta/batches") {
        const page = pages[url.searchParams.get("pageToken") ?? ""];
        return page ? json(response, page) : json(response, { error: { code: 500, message: "too far" } }, 500);
      }
      const id = url.pathname.split("/").at(-1)!;
      if (id === "gone") return json(response, { error: { code: 404, message: "x" } }, 404);
      json(response, operation(id, "RUNNING", id === "a" ? at(33) : at(40)));
    });
    const jobs = await provide(server.url).findJobs("gb-1", Date.parse(at(30)), open());
    expect(jobs.map((job) => job.name)).toEqual(["batches/a", "batches/b"]);
    expect(server.calls.filter((call) => !call.url.includes("?")).length).toBe(3);
  });

  it("are found to the end of a list that is oldest first, or that repeats its page tokens", async () => {
    const server = await serve((call, response) => {
      if (!call.url.includes("?")) return json(response, operation("b", "RUNNING"));
      if (!call.url.includes("pageToken")) {
        return json(response, {
          operations: [operation("o1", "RUNNING", "2026-01-01T00:00:00Z", "x"), operation("o2", "RUNNING", "2026-01-02T00:00:00Z", "x")],
          nextPageToken: "p",
        });
      }
      json(response, { operations: [operation("b", "RUNNING")], nextPageToken: "p" });
    });
    expect((await provide(server.url).findJobs("gb-1", Date.UTC(2026, 10, 22, 10), open())).map((job) => job.name)).toEqual(["batches/b"]);
    expect(server.calls.length).toBe(3);
  });

  it("are not said to be absent when a page of the list has gone stale", async () => {
    const server = await serve((call, response) => {
      if (call.url.includes("pageToken"))
        return json(response, { error: { code: 400, status: "INVALID_ARGUMENT", message: "page_token" } }, 400);
      json(response, { operations: [operation("b", "RUNNING", undefined, "other")], nextPageToken: "p" });
    });
    expect((await failureOf(provide(server.url).findJobs("gb-1", 0, open()))).failure).toBe("unavailable");
  });

  it("are not found under a token that their GET does not show", async () => {
    const server = await serve((call, response) => {
      if (call.url.includes("?")) return json(response, { operations: [operation("a", "RUNNING")] });
      json(response, operation("a", "RUNNING", undefined, "another"));
    });
    expect(await provide(server.url).findJobs("gb-1", 0, open())).toEqual([]);
  });

  it("are not asked for further when the service wants fewer calls", async () => {
    const server = await serve((call, response) => {
      if (call.url.endsWith("/b")) return json(response, { error: { code: 429, status: "RESOURCE_EXHAUSTED", message: "x" } }, 429);
      json(response, operation("a", "RUNNING"));
    });
    expect((await failureOf(provide(server.url).getJobs(["batches/a", "batches/b"], open()))).failure).toBe("throttled");
  });

  it("that cannot be listed or confirmed are never said to be absent", async () => {
    const server = await serve((call, response) => {
      if (call.url.includes("?")) return json(response, { operations: [operation("a", "RUNNING")], nextPageToken: "" });
      json(response, { error: { code: 503, message: "x" } }, 503);
    });
    expect((await failureOf(provide(server.url).findJobs("gb-1", 0, open()))).failure).toBe("unavailable");
  });

  it("end quietly when they are cancelled after their end or deleted twice", async () => {
    let status = 400;
    const server = await serve((_call, response) =>
      json(response, { error: { code: status, status: "FAILED_PRECONDITION", message: "already ended" } }, status),
    );
    await provide(server.url).cancelJob("batches/a", open());
    status = 404;
    await provide(server.url).deleteJob("batches/a", open());
    await provide(server.url).discardInput({ ref: "files/a" }, open());
    status = 403;
    await provide(server.url).discardInput({ ref: "files/a" }, open());
    await provide(server.url).discardInput({ ref: "inline" }, open());
    expect(server.calls.map((call) => `${call.method} ${call.url}`)).toEqual([
      ...["POST /v1beta/batches/a:cancel", "DELETE /v1beta/batches/a", "DELETE /v1beta/files/a", "DELETE /v1beta/files/a"],
    ]);
    status = 404;
    expect((await failureOf(provide(server.url).cancelJob("batches/a", open()))).failure).toBe("missing");
  });

  it("cannot be named so that another path is called", async () => {
    const server = await serve((_call, response) => json(response, {}));
    for (const name of ["../files/x", "batches/..", "batches/a?x=1", "batches/a:cancel", "", "/"]) {
      expect((await failureOf(provide(server.url).deleteJob(name, open()))).failure).toBe("refused");
    }
    expect(server.calls).toEqual([]);
  });
});

describe("results", () => {
  const job = (output?: string): ProviderJob => ({ name: "batches/a", state: "succeeded", rawStatus: "BATCH_STATE_SUCCEEDED", output });
  const read = (url: string, output?: string, options?: GeminiOptions): Promise<ResultRow[]> =>
    Array.fromAsync(provide(url, options).readResults(job(output), lane, open()));
  const file = "files/batch-31u18uq6dr4ods3957z38i1mbfa581k01xcq";
  const good = '{"key":"r0","response":{"x":1}}';

  it("come from the file, with every kind of line", async () => {
    const text = `\n${good}\r\n  \nnot json\n{"response":{"y":"\u2028"},"key":"r1"}\n{"key":"r2","error":{"code":13,"message":"m"}}`;
    const server = await serve((_call, response) => void response.writeHead(200, { "content-length": Buffer.byteLength(text) }).end(text));
    expect(await read(server.url, file)).toEqual([
      { key: "r0", response: { x: 1 } },
      { key: undefined, problem: "a line that is not JSON" },
      { key: "r1", response: { y: "\u2028" } },
      { key: "r2", error: { code: 13, message: "m" } },
    ]);
    expect(server.calls).toMatchObject([
      { method: "GET", url: `/v1beta/${file}:download?alt=media`, headers: { "x-goog-api-key": "the-key" } },
    ]);
  });

  it.each<[string, Record<string, number>, string, boolean, string]>([
    ["cut inside a line, length unknown", {}, `${good}\n{"key":"r1","resp`, false, "unavailable"],
    ["the connection breaks", {}, `${good}\n{"key":"r1","resp`, true, "unavailable"],
    ["shorter than announced", { "content-length": 500 }, `${good}\n`, true, "unavailable"],
  ])("are not taken for whole when %s", async (_name, headers, text, destroy, failure) => {
    const server = await serve((_call, response) => {
      response.writeHead(200, headers);
      if (destroy) response.write(text, () => setTimeout(() => response.socket!.destroy(), 20));
      else response.end(text);
    });
    const rows: ResultRow[] = [];
    const error = await failureOf(
      (async () => {
        for await (const row of provide(server.url).readResults(job(file), lane, open())) rows.push(row);
      })(),
    );
    expect(error.failure).toBe(failure);
    expect(rows).toEqual([{ key: "r0", response: { x: 1 } }]);
  });

  it("that end in a bad line at the announced length are whole", async () => {
    const text = `${good}\n{"key":"r1","resp`;
    const server = await serve((_call, response) => void response.writeHead(200, { "content-length": text.length }).end(text));
    expect(await read(server.url, file)).toEqual([
      { key: "r0", response: { x: 1 } },
      { key: undefined, problem: "a line that is not JSON" },
    ]);
  });

  it("may end without a line break, in a row without a key as well", async () => {
    const server = await serve((_call, response) => void response.writeHead(200).end('{"response":{}}'));
    expect(await read(server.url, file)).toEqual([{ key: undefined, problem: "a response without a key" }]);
  });

  it("are checked against the announced length on any transport", async () => {
    const fetch: typeof globalThis.fetch = async () => new Response(`${good}\n`, { headers: { "content-length": "500" } });
    expect((await failureOf(read("http://x.example", file, { fetch }))).failure).toBe("unavailable");
  });

  it("drop a line that is too long", async () => {
    const server = await serve((_call, response) => void response.writeHead(200).end(`${good}\n"${"x".repeat(500)}"\n${good}\n`));
    expect((await read(server.url, file, { maxLineBytes: 100 })).map((row) => row.key)).toEqual(["r0", undefined, "r0"]);
  });

  it("that are gone are missing, that are not there yet are unavailable", async () => {
    const server = await serve((_call, response) => json(response, { error: { code: 404, status: "NOT_FOUND", message: "x" } }, 404));
    expect((await failureOf(read(server.url, file))).failure).toBe("missing");
    expect((await failureOf(read(server.url, "inline"))).failure).toBe("missing");
    expect((await failureOf(read(server.url, undefined))).failure).toBe("unavailable");
  });

  it("follow a redirect, but the key does not", async () => {
    const other = await serve((_call, response) => void response.end(good));
    const server = await serve((_call, response) => void response.writeHead(302, { location: `${other.url}/signed?x=1` }).end());
    expect(await read(server.url, file)).toEqual([{ key: "r0", response: { x: 1 } }]);
    expect(other.calls[0]!.headers["x-goog-api-key"]).toBe(undefined);
  });

  it("come from either place of the operation when they are inline", async () => {
    const items = [
      { response: { x: 1 }, metadata: { key: "r0" } },
      { error: { code: 3, message: "m" }, metadata: { key: "r1" } },
      { response: { x: 2 } },
    ];
    const rows = [
      { key: "r0", response: { x: 1 } },
      { key: "r1", error: { code: 3, message: "m" } },
      { key: undefined, problem: "a response without a key" },
    ];
    for (const rest of [
      { response: { inlinedResponses: { inlinedResponses: items } } },
      { metadata: { output: { inlinedResponses: { inlinedResponses: items } } } },
      { response: { inlinedEmbedContentResponses: { inlinedResponses: items } } },
    ]) {
      const server = await serve((_call, response) => json(response, { name: "batches/a", ...rest }));
      expect(await read(server.url, "inline")).toEqual(rows);
    }
    const server = await serve((_call, response) => json(response, { name: "batches/a", metadata: { output: {} } }));
    expect((await failureOf(read(server.url, "inline"))).failure).toBe("unavailable");
  });

  it("stop the download when nobody reads on", async () => {
    let closed = false;
    const server = await serve((_call, response) => {
      response.on("close", () => (closed = true));
      const more = (): void => void (closed || (response.write(`${good}\n`), setTimeout(more, 1)));
      more();
    });
    for await (const row of provide(server.url).readResults(job(file), lane, open())) {
      expect(row.key).toBe("r0");
      break;
    }
    await vi.waitFor(() => expect(closed).toBe(true));
  });

  it("end as unavailable when they are aborted", async () => {
    const server = await serve((_call, response) => void response.writeHead(200).write(`${good}\n`));
    const controller = new AbortController();
    const call = async (): Promise<void> => {
      for await (const _row of provide(server.url).readResults(job(file), lane, controller.signal)) controller.abort();
    };
    expect((await failureOf(call())).failure).toBe("unavailable");
  });
});
