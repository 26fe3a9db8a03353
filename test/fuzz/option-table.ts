/**
 * Every option that a user can write, as a table: where it belongs, a value that is taken, and the kinds of values that can be right. A new option is one line.
 *
 * @module
 */

export type Kind = "null" | "boolean" | "number" | "bigint" | "string" | "symbol" | "function" | "array" | "object";

export interface Option {
  /** Values that are taken. */
  good: readonly unknown[];
  /** Kinds of which some values can be right. Every value of another kind is refused. */
  kinds: readonly Kind[];
  /** Only values of wrong kinds are tried beside the good ones: a right one has effects outside. */
  careful?: boolean;
}

/** Options by their path, e.g. `batching.maxRequests`. */
export type OptionTable = Readonly<Record<string, Option>>;

export function kindOf(value: unknown): Kind | "undefined" {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value;
}

const option = (kinds: readonly Kind[], ...good: readonly unknown[]): Option => ({ kinds, good });
const count = option(["number"], 1, 5);
const duration = option(["number", "string"], 5, "5ms", "5s", "5m", "5h", "5d");
const deadline = option(["number", "string", "object"], "5h", 5, new Date("2099-01-01"));
const text = option(["string"], "some-text");
export const flag = option(["boolean"], true, false);
const positive = option(["number"], 5, 0.5);
const tier = option(["string"], "batch", "flex", "standard", "auto");
const callback = option(["function"], () => "id");
const signal = option(["object"], new AbortController().signal);
const priority = option(["number"], 0, -5, 5);

/** A schema of a library that follows Standard Schema. */
export const schema = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate: (value: unknown) => ({ value }),
    jsonSchema: { input: () => ({ type: "object", properties: {} }), output: () => ({ type: "object", properties: {} }) },
  },
};

/** A payload store that is never used. */
export const payloadStore = { name: "none", put: async () => undefined, get: async () => "", delete: async () => undefined };

/** `new Gembatch({ … })`. */
export const gembatchOptions: OptionTable = {
  "batching.maxRequests": count,
  "batching.maxBytes": count,
  "batching.maxWait": duration,
  "batching.maxJobs": count,
  "batching.debounce": duration,
  "polling.minInterval": option(["number", "string"], 5, "50ms"),
  "polling.maxInterval": option(["number", "string"], 5_000, "5s", "5m"),
  "polling.maxAge": duration,
  "retry.maxAttempts": count,
  "retry.initialDelay": option(["number", "string"], 5, "50ms"),
  "retry.maxDelay": option(["number", "string"], 50_000, "5h"),
  "retry.segregate": flag,
  "launch.deadline": duration,
  "launch.settle": duration,
  "launch.onAmbiguous": option(["string"], "adopt", "hold"),
  "worker.concurrency": count,
  "worker.parkedBytes": option(["number"], 0, 5),
  "worker.maxTurn": duration,
  "worker.maxEntries": count,
  "worker.lease": duration,
  tier,
  "tiers.flex.concurrency": count,
  "tiers.flex.perMinute": count,
  "tiers.flex.timeout": duration,
  "tiers.standard.concurrency": count,
  "tiers.standard.perMinute": count,
  "tiers.standard.timeout": duration,
  "tiers.auto.maxRequests": option(["number"], 0, 5),
  "budget.usd": positive,
  "budget.per": option(["string"], "run", "day", "month", "total"),
  prices: option(["array"], []),
  cleanup: option(["number", "string"], "after-routing", "never", "5h", 0),
  "retention.runs": option(["number", "string", "object"], "30d", { completed: "1d" }),
  "retention.histories": duration,
  "retention.batches": duration,
  store: option(["string", "object"], "sqlite::memory:"),
  provider: option(["string", "object", "array"], "gemini", ["gemini"]),
  codec: option(["object"], { encode: (value: string) => value, decode: (value: string) => value }),
  "payloads.store": option(["object"], payloadStore),
  "payloads.threshold": option(["number"], 0, 5),
  logger: option(["boolean", "string", "object"], false, "error", "silent"),
  autoWorker: flag,
  clock: option(["object"]),
  random: option(["object"], { next: () => 0.5 }),
};

/** `chain(name, function, { … })`. */
export const chainOptions: OptionTable = {
  version: text,
  accepts: option(["array"], [], ["1", "2"]),
  maxAttempts: count,
  provider: option(["string"], "gemini"),
  tier,
  deadline: duration,
};

/** `handler(name, function, { … })`. */
export const handlerOptions: OptionTable = { ...chainOptions, schema: option(["object"], schema), repair: option(["number"], 0, 5) };

/** One prompt: second argument of the `models` methods, and more. */
export const callOptions: OptionTable = {
  key: text,
  onChange: option(["string"], "reuse", "redo", "fail"),
  provider: option(["string"], "gemini"),
  priority,
  "retry.maxAttempts": count,
  tier,
  deadline,
  "cache.scope": option(["string"], "run", "store"),
  "cache.ttl": duration,
};

/** `submit(request, model, handler, params, { … })`. */
export const submitOptions: OptionTable = { ...callOptions, id: text };

/** `chain.start(input, { … })`. */
export const startOptions: OptionTable = { id: text, priority, deadline };

/** `chain.startMany(inputs, { … })`. */
export const startManyOptions: OptionTable = { id: callback, priority, deadline, signal };

/** `chain.map(inputs, { … })`. */
export const mapOptions: OptionTable = { ...startManyOptions, order: option(["string"], "input", "completion"), onProgress: callback };

/** `run.result({ … })`, `gembatch.onIdle({ … })`. */
export const waitOptions: OptionTable = { signal: option(["object"]) };

const page: OptionTable = { limit: option(["number"], 1, 1_000), cursor: option(["string"]) };
const instant = option(["number"], 0, 1e12);

/** `gembatch.runs.list({ … })`. */
export const runListOptions: OptionTable = {
  ...page,
  chain: text,
  state: option(["string"], "held"),
  error: option(["string"], "run_failed"),
  starter: text,
  createdBefore: instant,
  createdAfter: instant,
};

/** `gembatch.requests.list({ … })`. */
export const requestListOptions: OptionTable = { ...page, run: text, batch: text, state: option(["string"], "queued") };

/** `gembatch.batches.list({ … })`. */
export const batchListOptions: OptionTable = { ...page, active: flag, held: flag, state: option(["string"], "sealed") };

/** `gembatch.costs({ … })`. */
export const costOptions: OptionTable = {
  by: option(["string", "array"], "day", ["chain", "model"], []),
  since: option(["string"], "2026-01-01"),
  until: option(["string"], "2026-12-31"),
};

/** `gemini({ … })`. */
export const geminiOptions: OptionTable = {
  apiKey: text,
  baseUrl: option(["string"], "http://127.0.0.1:1/prefix"),
  apiVersion: text,
  mode: option(["string"], "file", "inline"),
  "limits.maxRequests": positive,
  "limits.maxBytes": positive,
  "limits.maxRequestBytes": positive,
  "limits.maxJobs": positive,
  "limits.enqueuedTokens": option(["boolean", "number", "object"], false, 5, { "gemini-2.5-flash": 5 }),
  quotaTier: option(["number"], 1, 2, 3),
  "timeout.call": duration,
  "timeout.create": duration,
  "timeout.upload": duration,
  headers: option(["object"], { "x-name": "value" }),
  fetch: option(["function"], globalThis.fetch),
  name: text,
  tempDir: text,
  "webhook.uri": option(["string", "object"], "https://host/path", new URL("https://host/path")),
  maxLineBytes: positive,
};

/** `vertex({ … })`, beside a bucket. */
export const vertexOptions: OptionTable = {
  project: text,
  location: option(["string"], "us-central1", "global"),
  bucket: option(["string"], "bucket", "gs://bucket/folder"),
  dataset: option(["string"], "dataset", "project.dataset", "bq://project.dataset"),
  baseUrl: option(["string"], "http://127.0.0.1:1/prefix"),
  apiVersion: text,
  labels: option(["object"], {}, { team: "a" }),
  "limits.maxRequests": positive,
  "limits.maxBytes": positive,
  "limits.maxRequestBytes": positive,
  "limits.maxJobs": positive,
  "limits.enqueuedTokens": option(["boolean", "number", "object"], false, 5, { "gemini-2.5-flash": 5 }),
  "timeout.call": duration,
  "timeout.create": duration,
  "timeout.upload": duration,
  headers: option(["object"], { "x-name": "value" }),
  fetch: option(["function"], globalThis.fetch),
  name: text,
  maxLineBytes: positive,
  tableLife: option(["boolean", "number", "string"], false, "7d", 6 * 86_400_000),
  authClient: option(["object"], { getRequestHeaders: async () => ({}) }),
  storage: option(["object"], { bucket: () => ({}) }),
  bigquery: option(["object"], { dataset: () => ({}), job: () => ({}) }),
  storageEndpoint: option(["string"], "http://127.0.0.1:1"),
  bigqueryEndpoint: option(["string"], "http://127.0.0.1:1"),
};

/** `new SqliteStore({ … })`. */
export const sqliteOptions: OptionTable = {
  path: option(["string"], ":memory:"),
  synchronous: option(["string"], "full", "normal"),
  busyTimeoutMs: option(["number"], 0, 5),
  maxBytes: option(["number"], 5_000_000),
  random: option(["object"], { next: () => 0.5 }),
  isProcessAlive: option(["function"], () => true),
};

/** `filePayloads({ … })`. */
export const filePayloadsOptions: OptionTable = { path: text };

const objectPayloadsOptions: OptionTable = { bucket: text, prefix: option(["string"], "", "some/folder") };

/** `cloudStoragePayloads({ … })`. */
export const cloudStoragePayloadsOptions: OptionTable = { ...objectPayloadsOptions, storage: option(["object"], { bucket: () => ({}) }) };

/** `s3Payloads({ … })`. */
export const s3PayloadsOptions: OptionTable = {
  ...objectPayloadsOptions,
  client: option(["object"], { send: async () => ({}) }),
  endpoint: option(["string"], "http://127.0.0.1:1"),
  region: text,
  forcePathStyle: flag,
};

/** `startEmulator({ … })`. */
export const emulatorOptions: OptionTable = {
  port: { ...option(["number"], 0), careful: true },
  apiKey: text,
  turnaround: option(["number", "object", "function"], 0, 5, { min: 1, max: 5 }, () => 5),
  pendingFraction: option(["number"], 0, 0.5, 1),
  answer: option(["function"], () => "text"),
  faults: option(["object"], {}, { rowError: 0.5 }),
  models: option(["array", "object", "function"], ["gemini-2.5-flash"], /gemini/, () => true),
  seed: option(["string", "number"], "seed", 5),
  clock: option(["object"], { now: () => 0, sleep: async () => undefined }),
  dir: { ...option(["string"]), careful: true },
  latency: option(["number"], 0, 5),
  malformedRows: option(["string"], "refuse", "rowError"),
  uniqueKeys: flag,
  "limits.concurrentJobs": count,
  "limits.enqueuedTokens": option(["number", "object"], 5, { "gemini-2.5-flash": 5 }),
  "limits.fileBytes": count,
  "limits.inlineBytes": count,
  ledger: option(["string"], "full", "counts"),
  "upstream.baseUrl": option(["string"], "http://127.0.0.1:1/v1"),
  "upstream.model": text,
  "upstream.apiKey": text,
  "upstream.concurrency": count,
  "webhooks.uri": option(["string"], "http://127.0.0.1:1/hook"),
  "webhooks.secret": option(["string"], "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="),
  "webhooks.jobSignature": option(["string"], "jwt", "ed25519"),
  log: option(["function"], () => undefined),
};
