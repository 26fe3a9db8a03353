import { afterEach, describe, expect, it, vi } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import { ProviderError } from "../../core/provider.ts";
import { startEmulator } from "../../emulator.ts";
import { gemini } from "./provider.ts";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const withoutKeys = (): void => {
  for (const name of ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"]) vi.stubEnv(name, undefined);
};
const refusal = (options: object): GembatchError => {
  try {
    gemini(options);
  } catch (thrown) {
    if (GembatchError.is(thrown)) return thrown;
    throw thrown;
  }
  throw new Error("not refused");
};

describe("options", () => {
  it.each([
    [{ apikey: "k" }, /no option "apikey".*It knows apiKey, baseUrl/],
    [{ limits: { maxRows: 1 } }, /no option "maxRows".*maxRequests/],
    [{ timeout: { download: "1s" } }, /no option "download".*call, create, upload/],
    [{ timeout: { call: "soon" } }, /timeout\.call must be a duration/],
    [{ mode: "gcs" }, /mode must be one of "file", "inline"/],
    [{ quotaTier: 4 }, /quotaTier must be one of 1, 2, 3/],
    [{ limits: { maxJobs: 0 } }, /limits\.maxJobs must be a positive number/],
    [{ limits: { enqueuedTokens: { "gemini-2.5-pro": -1 } } }, /enqueuedTokens\["gemini-2.5-pro"\]/],
    [{ baseUrl: "localhost:80" }, /baseUrl must be an http or https URL/],
    [{ apiKey: 12 }, /apiKey must be a text/],
    [{ fetch: "x" }, /fetch must be a function/],
    [{ webhook: { uri: "http://me.example/hook" } }, /webhook\.uri must be an https URL/],
    [{ webhook: { uri: "http://127.0.0.1.me.example/hook" } }, /webhook\.uri must be an https URL/],
    [{ webhook: { uri: "https://me.example/#part" } }, /webhook\.uri must be an https URL/],
    [{ webhook: { uri: 5 } }, /webhook\.uri must be an https URL/],
    [{ webhook: { url: "https://me.example/" } }, /no option "url".*It knows uri/],
    [{ webhook: "https://me.example/" }, /gemini\(\{ webhook \}\) takes an object/],
  ])("refuses %j", (options, message) => {
    expect(refusal(options).code).toBe("invalid_option");
    expect(refusal(options).message).toMatch(message);
  });

  it.each([
    "https://me.example/hook",
    "http://localhost:8080/hook",
    "http://127.0.0.1/hook",
    "http://[::1]:80/hook",
    new URL("https://me.example/"),
  ])("takes %s for webhooks", (uri) => {
    expect(() => gemini({ webhook: { uri } })).not.toThrow();
  });

  it("needs no key until a call does, and then says where to put one", async () => {
    withoutKeys();
    const provider = gemini({ fetch: () => Promise.reject(new Error("must not be called")) });
    const error = await provider.getJobs(["batches/a"], AbortSignal.timeout(1_000)).catch((thrown) => thrown);
    expect(ProviderError.is(error) && error.failure).toBe("denied");
    expect(error.message).toContain("GEMINI_API_KEY");
  });

  it.each([
    [{ GEMINI_API_KEY: "a", GOOGLE_API_KEY: "b" }, {}, "a"],
    [{ GOOGLE_API_KEY: "b\n" }, {}, "b"],
    [{ GEMINI_API_KEY: "a" }, { apiKey: "c" }, "c"],
  ])("takes the key of %j with %j", async (env, options, key) => {
    withoutKeys();
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    vi.stubEnv("GOOGLE_GEMINI_BASE_URL", "http://env.example/prefix/");
    const seen: [string, string | null][] = [];
    const fetch: typeof globalThis.fetch = async (url, init) => {
      seen.push([String(url), new Headers(init?.headers).get("x-goog-api-key")]);
      return Response.json({ name: "batches/a", metadata: { state: "BATCH_STATE_RUNNING" } });
    };
    await gemini({ ...options, fetch }).getJobs(["batches/a"], new AbortController().signal);
    expect(seen).toEqual([["http://env.example/prefix/v1beta/batches/a", key]]);
  });

  it.each([
    [undefined, {}, "batch.inputConfig.fileName"],
    ["inline", {}, "batch.inputConfig.requests"],
    ["inline", { mode: "file" as const }, "batch.inputConfig.fileName"],
  ])("takes the mode %s of the environment with %j", async (mode, options, carrier) => {
    vi.stubEnv("GEMBATCH_GEMINI_MODE", mode);
    await using emulator = await startEmulator({ turnaround: 60_000 });
    const bodies: object[] = [];
    const fetch: typeof globalThis.fetch = async (url, init) => {
      if (String(url).includes(":batch")) bodies.push(JSON.parse(String(init?.body)) as object);
      return globalThis.fetch(url, init);
    };
    const provider = gemini({ ...options, apiKey: "k", baseUrl: emulator.url, fetch });
    const lane = { provider: "gemini", model: "gemini-2.5-flash", method: "generateContent" } as const;
    const rows = async function* () {
      yield { key: "r1.1", body: '{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}' };
    };
    const input = { token: "gb-1", lane, requestCount: 1, bytes: 60, rows };
    const { signal } = new AbortController();
    await provider.createJob(input, await provider.stageInput(input, signal), { signal, beforeSend: async () => true });
    expect(bodies).toHaveLength(1);
    expect(bodies[0]).toHaveProperty(carrier);
  });

  it("refuses a mode of the environment that there is not", () => {
    vi.stubEnv("GEMBATCH_GEMINI_MODE", "table");
    expect(refusal({}).message).toMatch(/GEMBATCH_GEMINI_MODE must be one of "file", "inline"/);
  });
});

describe("models of the SDK", () => {
  it("work without a key, with all variables set against them, and without a word on the console", async () => {
    const said = (["warn", "log", "debug", "error", "info"] as const).map((name) => vi.spyOn(console, name).mockImplementation(() => {}));
    const environments = [
      { GEMINI_API_KEY: undefined, GOOGLE_API_KEY: undefined },
      { GEMINI_API_KEY: "a", GOOGLE_API_KEY: "b", GOOGLE_GENAI_USE_VERTEXAI: "true", GOOGLE_GENAI_USE_ENTERPRISE: "false" },
      { GOOGLE_GENAI_USE_VERTEXAI: "true", GOOGLE_CLOUD_PROJECT: "p", GOOGLE_CLOUD_LOCATION: "l", GOOGLE_GENAI_API_VERSION: "v9" },
    ];
    for (const environment of environments) {
      withoutKeys();
      for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
      const urls: string[] = [];
      const models = gemini().createModels(async (url) => {
        urls.push(String(url));
        return Response.json({ embeddings: [{ values: [1] }] });
      });
      await models.generateContent({ model: "gemini-2.5-flash", contents: "hi" });
      await models.embedContent({ model: "gemini-embedding-001", contents: ["hi"] });
      expect(urls).toEqual([
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents",
      ]);
      expect(process.env["GOOGLE_API_KEY"]).toBe(environment.GOOGLE_API_KEY);
    }
    expect(said.flatMap((spy) => spy.mock.calls)).toEqual([]);
  });
});

describe("names of models", () => {
  it.each([
    ["gemini-2.5-flash", "gemini-2.5-flash"],
    ["  models/gemini-2.5-flash ", "gemini-2.5-flash"],
    ["publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"],
    ["google/gemini-2.5-pro", "gemini-2.5-pro"],
    ["projects/p/locations/global/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"],
    ["projects/p/publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"],
    ["tunedModels/mine-123", "tunedModels/mine-123"],
    ["gemini-embedding-001", "gemini-embedding-001"],
  ])("%j is %j", (model, short) => {
    expect(gemini().normalizeModel(model)).toBe(short);
  });

  it.each([
    "",
    "  ",
    "models/",
    "anthropic/claude",
    "publishers/meta/models/llama",
    "a b",
    "a?b=c",
    "models/../files",
    "tunedModels/",
    undefined as never,
  ])("refuses %j", (model) => {
    expect(() => gemini().normalizeModel(model)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });

  it.each([
    "anthropic/claude-sonnet-4-5@20250929",
    "publishers/anthropic/models/claude-sonnet-4-5@20250929",
    "projects/p/locations/us-east5/publishers/meta/models/llama-4-maverick-maas",
    "gpt-oss-120b-maas",
  ])("says that %s is another publisher's, and who has it", (model) => {
    const refusal = {
      message: expect.stringContaining("a model of another publisher") as string,
      hint: expect.stringContaining("vertex()") as string,
    };
    expect(() => gemini().normalizeModel(model)).toThrow(expect.objectContaining(refusal));
  });
});

describe("limits", () => {
  it.each([
    ["gemini-2.5-flash", 1, 3_000_000],
    ["gemini-2.5-flash", 2, 400_000_000],
    ["gemini-2.5-flash-lite", 1, 10_000_000],
    ["gemini-3.1-pro-preview", 3, 1_000_000_000],
    ["gemini-3.8-flash", 1, 3_000_000],
    ["gemini-3.1-flash-image", 1, 1_000_000],
    ["gemini-3-pro-image", 1, 2_000_000],
    ["gemini-2.5-pro-preview-tts", 1, 25_000],
    ["gemini-embedding-001", 1, 500_000],
    ["tunedModels/mine", 1, 3_000_000],
  ] as const)("%s in tier %i: %i tokens", (model, quotaTier, tokens) => {
    expect(gemini({ quotaTier }).limits.enqueuedTokens(model)).toBe(tokens);
  });

  it("can be overridden one by one", () => {
    expect(gemini({ limits: { maxJobs: 7 } }).limits).toMatchObject({ maxJobs: 7, maxRequests: 100_000 });
    expect(gemini({ limits: { enqueuedTokens: 5 } }).limits.enqueuedTokens("x")).toBe(5);
    expect(gemini({ limits: { enqueuedTokens: false } }).limits.enqueuedTokens("x")).toBe(undefined);
    const { enqueuedTokens } = gemini({ limits: { enqueuedTokens: { x: 9 } } }).limits;
    expect([enqueuedTokens("x"), enqueuedTokens("gemini-2.5-flash"), enqueuedTokens("toString")]).toEqual([9, 3_000_000, 3_000_000]);
  });
});
