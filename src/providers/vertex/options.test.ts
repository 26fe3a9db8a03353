import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import { ProviderError } from "../../core/provider.ts";
import { createAuth } from "./auth.ts";
import { endpointOf } from "./client.ts";
import { resolveOptions } from "./options.ts";
import { loadPackage } from "./packages.ts";
import { vertex } from "./provider.ts";

const variables = [
  "GOOGLE_CLOUD_PROJECT",
  "GCLOUD_PROJECT",
  "GOOGLE_CLOUD_LOCATION",
  "GEMBATCH_VERTEX_BUCKET",
  "GEMBATCH_VERTEX_DATASET",
  "GOOGLE_VERTEX_BASE_URL",
];
beforeEach(() => {
  for (const name of variables) vi.stubEnv(name, undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

const refusal = (options: object): GembatchError => {
  try {
    vertex(options);
  } catch (thrown) {
    if (GembatchError.is(thrown)) return thrown;
    throw thrown;
  }
  throw new Error("not refused");
};
const rejected = async (call: Promise<unknown>): Promise<ProviderError> => {
  const thrown: unknown = await call.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (ProviderError.is(thrown)) return thrown;
  throw new Error("not rejected with a ProviderError", { cause: thrown });
};

describe("options", () => {
  it.each([
    [{}, /needs a bucket or a dataset.*GEMBATCH_VERTEX_BUCKET/],
    [{ apiKey: "k" }, /no option "apiKey".*It knows project, location/],
    [{ bucket: "bucket", limits: { maxRows: 1 } }, /vertex\(\{ limits \}\) has no option "maxRows"/],
    [{ bucket: "bucket", timeout: { download: "1s" } }, /no option "download".*call, create, upload/],
    [{ bucket: "B!" }, /bucket must be a bucket such as/],
    [{ bucket: "gs://" }, /bucket must be a bucket such as/],
    [{ bucket: "bucket/../other" }, /bucket must be a bucket such as/],
    [{ bucket: "bucket/a//b" }, /bucket must be a bucket such as/],
    [{ dataset: "bq://p.d.t.x" }, /dataset must be a dataset such as/],
    [{ dataset: "bq://p.d.t" }, /dataset must be a dataset such as/],
    [{ dataset: "my-dataset" }, /dataset must be a dataset such as/],
    [{ bucket: "bucket", location: "Europe" }, /location must be a region/],
    [{ bucket: "bucket", labels: { Team: "a" } }, /labels\.Team must be of lower-case/],
    [{ bucket: "bucket", labels: { team: "A" } }, /labels\.team must be of lower-case/],
    [{ bucket: "bucket", labels: ["a"] }, /labels must be an object/],
    [{ bucket: "bucket", tableLife: "1d" }, /tableLife must be at least 5 days/],
    [{ bucket: "bucket", authClient: {} }, /authClient must be an object with getRequestHeaders/],
    [{ bucket: "bucket", storage: {} }, /storage must be an object with bucket/],
    [{ bucket: "bucket", bigquery: { dataset: () => ({}) } }, /bigquery must be an object with dataset, job/],
    [{ bucket: "bucket", storageEndpoint: "localhost:80" }, /storageEndpoint must be an http or https URL/],
    [{ bucket: "bucket", baseUrl: "ftp://x" }, /baseUrl must be an http or https URL/],
    [{ bucket: "bucket", fetch: "x" }, /fetch must be a function/],
    [{ bucket: "bucket", project: 5 }, /project must be a text/],
    [{ bucket: "bucket", maxLineBytes: -1 }, /maxLineBytes must be a positive number/],
  ])("refuses %j", (options, message) => {
    expect(refusal(options).code).toBe("invalid_option");
    expect(refusal(options).message).toMatch(message);
  });

  it.each([
    ["gs://bucket/folder/deeper/", { bucket: "bucket", folder: "folder/deeper" }],
    ["gs://bucket", { bucket: "bucket", folder: "gembatch" }],
    ["bucket", { bucket: "bucket", folder: "gembatch" }],
    ["my.bucket-1/", { bucket: "my.bucket-1", folder: "gembatch" }],
  ])("reads the bucket %s", (bucket, place) => expect(resolveOptions({ bucket }).bucket).toEqual(place));

  it.each([
    ["bq://p-1.d", { project: "p-1", dataset: "d" }],
    ["p-1.d_2", { project: "p-1", dataset: "d_2" }],
    ["example.com:p.d", { project: "example.com:p", dataset: "d" }],
    ["d", { project: undefined, dataset: "d" }],
  ])("reads the dataset %s", (dataset, place) => expect(resolveOptions({ dataset }).dataset).toEqual(place));

  it("takes what is not given from the environment", () => {
    vi.stubEnv("GEMBATCH_VERTEX_BUCKET", "gs://bucket/folder\n");
    vi.stubEnv("GEMBATCH_VERTEX_DATASET", "p.d");
    vi.stubEnv("GOOGLE_CLOUD_LOCATION", "europe-west4");
    vi.stubEnv("GCLOUD_PROJECT", "second");
    const settings = resolveOptions({});
    expect(settings).toMatchObject({
      location: "europe-west4",
      bucket: { folder: "folder" },
      dataset: { dataset: "d" },
      apiVersion: "v1",
      name: "vertex",
    });
    expect(settings.requireProject()).toBe("second");
    vi.stubEnv("GOOGLE_CLOUD_PROJECT", "first");
    expect(settings.requireProject()).toBe("first");
    expect(resolveOptions({ project: "own" }).requireProject()).toBe("own");
  });

  it("runs in global with a bucket, and in a region with tables alone", () => {
    expect(resolveOptions({ bucket: "bucket" }).location).toBe("global");
    expect(resolveOptions({ bucket: "bucket", dataset: "d" }).location).toBe("global");
    expect(resolveOptions({ dataset: "d" }).location).toBe("us-central1");
  });

  it.each([
    ["global", "https://aiplatform.googleapis.com"],
    ["us", "https://aiplatform.us.rep.googleapis.com"],
    ["eu", "https://aiplatform.eu.rep.googleapis.com"],
    ["europe-west4", "https://europe-west4-aiplatform.googleapis.com"],
  ])("calls %s at %s", (location, url) => {
    expect(endpointOf(resolveOptions({ bucket: "bucket", location }))).toBe(url);
    expect(endpointOf(resolveOptions({ bucket: "bucket", location, baseUrl: "https://proxy.example/v/" }))).toBe("https://proxy.example/v");
  });

  it("needs no project until a call does, and then says where to put one", async () => {
    const provider = vertex({ bucket: "bucket", fetch: () => Promise.reject(new Error("must not be called")) });
    const error = await rejected(provider.findJobs("t", 0, AbortSignal.timeout(5_000)));
    expect(error.failure).toBe("denied");
    expect(error.message).toContain("GOOGLE_CLOUD_PROJECT");
  });
});

describe("credentials", () => {
  const url = "https://aiplatform.googleapis.com/v1/x";

  it("come from the client that is given, whatever it answers with", async () => {
    const plain = createAuth({
      authClient: { getRequestHeaders: async () => ({ Authorization: "Bearer a", "x-goog-user-project": "p" }) },
    });
    expect(await plain(url)).toEqual({ authorization: "Bearer a", "x-goog-user-project": "p" });
    const asked: unknown[] = [];
    const headers = createAuth({
      authClient: { getRequestHeaders: async (to) => (asked.push(to), new Headers({ authorization: "Bearer b" })) },
    });
    expect(await headers(url)).toEqual({ authorization: "Bearer b" });
    expect(asked).toEqual([url]);
  });

  it("are not looked for, nor sent, when the service is on this machine", async () => {
    for (const baseUrl of ["http://127.0.0.1:8080", "http://localhost:80/x", "http://[::1]:80"]) {
      const none = createAuth(resolveOptions({ bucket: "bucket", baseUrl }), () => Promise.reject(new Error("must not be called")));
      expect(await none(url)).toEqual({});
    }
    expect(resolveOptions({ bucket: "bucket", baseUrl: "https://localhost" }).authClient).toBeUndefined();
    expect(resolveOptions({ bucket: "bucket", baseUrl: "http://127.0.0.1.example" }).authClient).toBeUndefined();
    const client = { getRequestHeaders: async () => ({ authorization: "Bearer a" }) };
    expect(resolveOptions({ bucket: "bucket", baseUrl: "http://localhost", authClient: client }).authClient).toBe(client);
  });

  it.each<[string, Error, string]>([
    ["none", new Error("Could not load the default credentials. Browse to https://cloud.google.com/docs"), "denied"],
    ["revoked", Object.assign(new Error("invalid_grant"), { status: 400 }), "denied"],
    ["refused", Object.assign(new Error("m"), { response: { status: 403 } }), "denied"],
    ["too many", Object.assign(new Error("m"), { response: { status: 429 } }), "unavailable"],
    ["down", Object.assign(new Error("m"), { status: 503 }), "unavailable"],
    ["no network", Object.assign(new Error("getaddrinfo ENOTFOUND oauth2.googleapis.com"), { code: "ENOTFOUND" }), "unavailable"],
  ])("that cannot be had (%s): nothing was sent", async (_name, thrown, failure) => {
    let asked = 0;
    const auth = createAuth({ authClient: undefined }, async () => ({ getRequestHeaders: () => ((asked += 1), Promise.reject(thrown)) }));
    const error = await rejected(auth(url));
    expect(error.failure).toBe(failure);
    expect(error.message.includes("gcloud auth application-default login")).toBe(failure === "denied");
    await rejected(auth(url));
    expect(asked).toBe(2);
  });

  it("never reach a message", async () => {
    const auth = createAuth({
      authClient: { getRequestHeaders: () => Promise.reject(new Error("401 for Bearer ya29.secret-token-value")) },
    });
    expect((await rejected(auth(url))).message).not.toContain("secret-token");
  });
});

describe("packages", () => {
  const missing = (name: string) =>
    Object.assign(new Error(`Cannot find package '${name}' imported from /x.js`), { code: "ERR_MODULE_NOT_FOUND" });

  it("that are missing are named, with what to run", async () => {
    const load = loadPackage("@google-cloud/storage", "inputs and outputs in a bucket", () =>
      Promise.reject(missing("@google-cloud/storage")),
    );
    await expect(load).rejects.toMatchObject({
      code: "invalid_option",
      message: expect.stringContaining("npm install @google-cloud/storage") as string,
    });
  });

  it("that break are not called missing", async () => {
    await expect(loadPackage("@google-cloud/storage", "x", () => Promise.reject(missing("something-else")))).rejects.toThrow(
      "something-else",
    );
    await expect(loadPackage("@google-cloud/storage", "x", () => Promise.reject(new TypeError("broken")))).rejects.toThrow("broken");
  });
});
