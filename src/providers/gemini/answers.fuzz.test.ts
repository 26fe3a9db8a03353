import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { type JobInput, ProviderError, type Provider, type ProviderJob } from "../../core/provider.ts";
import { scrub } from "../../core/scrub.ts";
import { errorFromAnswer, errorFromThrown, type Call } from "./errors.ts";
import { gemini } from "./provider.ts";

const settings = { seed: 20_260_902, numRuns: 100 };
const tempDir = mkdtempSync(join(tmpdir(), "gembatch-fuzz-"));
afterAll(() => rmSync(tempDir, { recursive: true }));

// What a service may answer ---------------------------------------------------------------------------------------------------

const deep = "[".repeat(6_000) + "]".repeat(6_000);
const anyText = fc.oneof(
  { weight: 5, arbitrary: fc.jsonValue({ maxDepth: 2, stringUnit: "binary" }).map((value) => JSON.stringify(value)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(deep, '{"toString":1,"valueOf":1}', `{"__proto__":${deep}}`, '"\\ud800"', "1e999", `"${"9".repeat(400)}s"`),
  },
);
const objectText = (members: Record<string, fc.Arbitrary<string>>): fc.Arbitrary<string> =>
  fc.record(members, { requiredKeys: [] }).map(
    (given) =>
      `{${Object.entries(given)
        .map(([name, value]) => `${JSON.stringify(name)}:${value}`)
        .join(",")}}`,
  );
const listText = (item: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(item, { maxLength: 3 }).map((items) => `[${items.join(",")}]`);
const oneOf = (...texts: string[]): fc.Arbitrary<string> => fc.constantFrom(...texts.map((text) => JSON.stringify(text)));
const or = (...some: fc.Arbitrary<string>[]): fc.Arbitrary<string> => fc.oneof(...some, anyText);

const errorText = or(
  objectText({
    code: anyText,
    message: or(
      oneOf(
        "row 17 is wrong",
        "key: r1.1",
        'API key not valid "AIzaSyA-0123456789abcdef"',
        "requests[99999999999]",
        "The file has expired",
      ),
    ),
    status: or(oneOf("INVALID_ARGUMENT", "FAILED_PRECONDITION")),
    details: or(
      listText(
        or(objectText({ reason: anyText, retryDelay: or(oneOf("3s", `${"9".repeat(300)}s`)), fieldViolations: or(listText(anyText)) })),
      ),
    ),
  }),
);
const output = or(
  objectText({
    responsesFile: or(oneOf("files/batch-a", "../x", "")),
    inlinedResponses: or(listText(anyText), objectText({ inlinedResponses: or(listText(anyText)) })),
  }),
);
const operation = or(
  objectText({
    name: or(oneOf("batches/a", "batches/../x", "", "a b")),
    metadata: or(
      objectText({
        displayName: or(oneOf("token")),
        state: or(oneOf("BATCH_STATE_SUCCEEDED", "JOB_STATE_NEW", "__proto__")),
        createTime: or(oneOf("2026-11-22T10:00:00.123456789Z")),
        output,
      }),
    ),
    done: or(fc.constant("true")),
    error: errorText,
    response: output,
  }),
);
const page = or(objectText({ operations: or(listText(operation)), nextPageToken: or(oneOf("p2", "p3")) }));
const upload = or(
  objectText({
    file: or(
      objectText({
        name: or(oneOf("files/a")),
        state: or(oneOf("ACTIVE", "FAILED")),
        sizeBytes: or(oneOf("34")),
        createTime: or(oneOf("2026-11-22T10:00:00Z")),
        expirationTime: anyText,
      }),
    ),
  }),
);
const body = fc.oneof(
  operation,
  page,
  upload,
  objectText({ error: errorText }),
  objectText({ error: errorText }).map((text) => `[${text}]`),
  fc.constantFrom("", "<html>502</html>", "not found", "{", "\uFEFF{}"),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
);
const answer = fc.record({
  status: fc.oneof(
    { weight: 2, arbitrary: fc.constant(200) },
    { weight: 1, arbitrary: fc.constantFrom(201, 302, 400, 401, 403, 404, 409, 413, 429, 499, 500, 503, 599) },
  ),
  body,
  headers: fc.record(
    {
      "retry-after": fc.constantFrom("5", "-1", "1e300", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"),
      location: fc.constantFrom("http://elsewhere/x", "//", "::", "/same"),
      "content-length": fc.constantFrom("3", "x", "-1"),
      "x-goog-upload-url": fc.constantFrom("http://x/upload?upload_id=1", "::"),
      "x-goog-upload-status": fc.constantFrom("active", "final", "cancelled", "?"),
    },
    { requiredKeys: [] },
  ),
  fails: fc.oneof(
    { weight: 8, arbitrary: fc.constant(undefined) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Error[]>(
        new TypeError("fetch failed"),
        new DOMException("late", "TimeoutError"),
        new Error("x", { cause: { code: "ECONNREFUSED" } }),
      ),
    },
  ),
});
type Scripted = typeof answer extends fc.Arbitrary<infer T> ? T : never;

/** Gives these answers in turn, the last one for ever. */
function scriptedFetch(answers: readonly Scripted[]): typeof globalThis.fetch {
  let calls = 0;
  return () => {
    const next = answers[Math.min(calls, answers.length - 1)];
    calls += 1;
    if (next === undefined || calls > 200) return Promise.reject(new TypeError("fetch failed"));
    if (next.fails !== undefined) return Promise.reject(next.fails);
    return Promise.resolve(new Response(next.body, { status: next.status, headers: next.headers }));
  };
}

const input: JobInput = {
  token: "token",
  lane: { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" },
  requestCount: 1,
  bytes: 2,
  rows: async function* () {
    yield { key: "r1.1", body: "{}" };
  },
};

function expectJob(job: ProviderJob): void {
  expect(job.name).toBeTypeOf("string");
  expect(job.rawStatus).toBeTypeOf("string");
  expect(["pending", "running", "succeeded", "failed", "cancelled", "expired", "unknown"]).toContain(job.state);
  for (const time of [job.createdAt, job.endedAt]) expect(time === undefined || Number.isFinite(time)).toBe(true);
  expect(job.output === undefined || typeof job.output === "string").toBe(true);
  // A job is kept in the store.
  expect(JSON.parse(JSON.stringify(job))).toEqual(job);
}

const signal = new AbortController().signal;
/** Every method that talks to the service, and what its result must look like. */
const methods: Record<string, (provider: Provider, kind: JobInput) => Promise<void>> = {
  getJobs: async (provider) => {
    for (const job of await provider.getJobs(["batches/a"], signal)) expectJob(job);
  },
  "getJobs, many": async (provider) => {
    for (const job of await provider.getJobs(
      Array.from({ length: 9 }, (_, n) => `batches/a${n}`),
      signal,
    ))
      expectJob(job);
  },
  findJobs: async (provider) => {
    for (const job of await provider.findJobs("token", 0, signal)) expectJob(job);
  },
  createJob: async (provider, kind) =>
    expectJob(await provider.createJob(kind, { ref: "files/a" }, { signal, beforeSend: async () => true })),
  "createJob, inline": async (provider, kind) =>
    expectJob(await provider.createJob(kind, { ref: "inline" }, { signal, beforeSend: async () => true })),
  stageInput: async (provider, kind) => {
    const staged = await provider.stageInput(kind, signal);
    expect(staged.ref).toBeTypeOf("string");
    expect(staged.expiresAt === undefined || Number.isFinite(staged.expiresAt)).toBe(true);
  },
  "readResults, file": async (provider, { lane }) => {
    const job: ProviderJob = { name: "batches/a", state: "succeeded", rawStatus: "", output: "files/batch-a" };
    for await (const row of provider.readResults(job, lane, signal)) expect(row).toBeTypeOf("object");
  },
  "readResults, inline": async (provider, { lane }) => {
    const job: ProviderJob = { name: "batches/a", state: "succeeded", rawStatus: "", output: "inline" };
    for await (const row of provider.readResults(job, lane, signal)) expect(row).toBeTypeOf("object");
  },
  callNow: async (provider, { lane }) => {
    await provider.callNow({ lane, body: "{}", tier: "flex", signal });
  },
  cancelJob: (provider) => provider.cancelJob("batches/a", signal),
  deleteJob: (provider) => provider.deleteJob("batches/a", signal),
  discardInput: (provider) => provider.discardInput({ ref: "files/a" }, signal),
};

describe("whatever the service answers", () => {
  it.each(Object.entries(methods))("%s gives a result of the right form or a ProviderError", async (name, call) => {
    const kind = fc.constantFrom<JobInput>(input, { ...input, lane: { ...input.lane, method: "embedContent" } });
    await fc.assert(
      fc.asyncProperty(fc.array(answer, { minLength: 1, maxLength: 5 }), kind, async (answers, given) => {
        // Without this header the SDK waits for seconds before it asks again.
        if (name === "stageInput") for (const { headers } of answers) headers["x-goog-upload-status"] ??= "active";
        const provider = gemini({ apiKey: "AIzaSyA-0123456789abcdef", baseUrl: "http://x", fetch: scriptedFetch(answers), tempDir });
        try {
          await call(provider, given);
        } catch (thrown) {
          if (!ProviderError.is(thrown)) throw thrown;
          expectSafe(thrown);
          // Only a job or an answer can be paid for.
          if (thrown.failure === "ambiguous") expect(name).toMatch(/^(?:createJob|callNow)/);
        }
      }),
      name === "stageInput" ? { ...settings, numRuns: 60 } : settings,
    );
    expect(readdirSync(tempDir)).toEqual([]);
  });
});

function expectSafe(error: ProviderError): void {
  expect(error.message.length).toBeLessThan(600);
  expect(error.message).not.toContain("AIza");
  expect(error.message).not.toMatch(/[\r\n]/);
  const { retryAfterMs, row } = error;
  expect(retryAfterMs === undefined || (retryAfterMs >= 0 && retryAfterMs <= 86_400_000)).toBe(true);
  expect(row === undefined || typeof row === "string" || Number.isSafeInteger(row)).toBe(true);
}

describe("the words for a failure", () => {
  const call = fc.constantFrom<Call[]>("upload", "create", "get", "list", "download", "cancel", "delete", "ask");

  it("come from any answer, in one safe line", () => {
    fc.assert(
      fc.property(call, answer, (name, { status, body: text, headers }) => {
        expectSafe(errorFromAnswer(name, { status, body: text, retryAfter: headers["retry-after"] ?? null }));
      }),
      { ...settings, numRuns: 600 },
    );
  });

  it("come from anything that was thrown", () => {
    fc.assert(
      fc.property(
        call,
        fc.oneof(
          fc.anything(),
          fc.string({ unit: "binary" }).map((text) => new Error(text, { cause: text })),
        ),
        (name, thrown) => {
          expectSafe(errorFromThrown(name, thrown));
        },
      ),
      settings,
    );
  });

  it("hide keys, queries and quoted text, wherever they stand", () => {
    const secret = fc.constantFrom("AIzaSyA-0123456789abcdef", "AQ.Ab8RN6-0123456789abcdef", "ya29.a0AfH6SMB-x");
    const around = fc.string({ unit: "binary", maxLength: 40 }).filter((text) => !/[\w-]$/.test(text));
    fc.assert(
      fc.property(around, secret, around, (before, key, after) => {
        expect(scrub(`${before}${key}${after.replace(/^[\w.-]+/, "")}`)).not.toContain(key.slice(0, 14));
        const url = scrub(`${before.replaceAll(/\s/g, "")} https://host/x?upload_id=signed`);
        expect(url).not.toContain("signed");
        expect(scrub(`${before}"a prompt, in words" ${after}`.replaceAll(/[\r\n\u2028\u2029]/g, " "))).not.toContain("a prompt, in words");
      }),
      settings,
    );
  });
});
