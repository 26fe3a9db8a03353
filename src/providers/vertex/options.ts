/**
 * The options of `vertex()` and what becomes of them.
 *
 * @module
 */
import { type Duration, parseDuration } from "../../core/duration.ts";
import { GembatchError } from "../../core/errors.ts";
import { checkMethods } from "../../core/options.ts";
import { ProviderError, type ProviderLimits } from "../../core/provider.ts";
import {
  checkFetch,
  checkHeaders,
  checkLineBytes,
  checkNames,
  checkText,
  fromEnv,
  isLoopback,
  refuse,
  toBaseUrl,
} from "../shared/option-checks.ts";
import { patientFetch } from "../shared/patient-fetch.ts";
import { resolveLimits, type VertexLimits } from "./limits.ts";

/** The part of a client of google-auth-library that is used: `GoogleAuth`, and every `AuthClient`. */
export interface VertexAuthClient {
  getRequestHeaders(url?: string | URL): Promise<Headers | Record<string, string>>;
}

export interface VertexOptions {
  /** Id of the Google Cloud project. Default: `GOOGLE_CLOUD_PROJECT`, then `GCLOUD_PROJECT`, read when a call needs it. */
  project?: string;
  /**
   * Where jobs run: a region such as `"us-central1"`, `"us"` or `"eu"`, or `"global"`. Default: `GOOGLE_CLOUD_LOCATION`, else `"global"`, or `"us-central1"` if there is only a
   * dataset: jobs on tables run in a region, that of the dataset. Tuned models and models of other publishers need their region, too.
   */
  location?: string;
  /** Bucket for inputs and outputs, with a folder if wanted: `"gs://bucket/folder"` or `"bucket"`, which means its folder `gembatch`. Default: `GEMBATCH_VERTEX_BUCKET`. */
  bucket?: string;
  /**
   * BigQuery dataset for inputs and outputs: `"bq://project.dataset"`, `"project.dataset"` or `"dataset"`. Default: `GEMBATCH_VERTEX_DATASET`. At least one of bucket and dataset is
   * needed. With both, rows that the importer of JSON Lines cannot take (see `checkRequest`) go through tables, all others through the bucket.
   */
  dataset?: string;
  /** Default: `GOOGLE_VERTEX_BASE_URL`, else the endpoint of the location. No credentials are looked for, or sent, when it is `http` on this machine; unless there is an `authClient`. */
  baseUrl?: string;
  /** Default `"v1"`. */
  apiVersion?: string;
  /** Put on every job, beside `gembatch: "job"`: lower-case letters, digits, `-` and `_`, at most 63 characters each. */
  labels?: Readonly<Record<string, string>>;
  /** Single limits, over the published ones. */
  limits?: VertexLimits;
  /**
   * How long something may take: one call of the Vertex AI API (1m), creating a job (2m), staging a batch as a whole (1h). Downloads have no limit of their own. A direct call
   * (`flex`, `standard`) ends at the timeout of its tier.
   */
  timeout?: { call?: Duration; create?: Duration; upload?: Duration };
  /** Sent with every call of the Vertex AI API. */
  headers?: Readonly<Record<string, string>>;
  /** The transport of the Vertex AI API. Default: the global `fetch`. One of your own must wait for a flex call as long as its tier's timeout says. */
  fetch?: typeof globalThis.fetch;
  /** First part of the lanes of this provider. Default `"vertex"`. */
  name?: string;
  /** A result line longer than this is reported as a problem instead of being held in memory. Default 256 MiB. */
  maxLineBytes?: number;
  /** When BigQuery deletes tables of batches by itself: at least 5 days, which is longer than a job can live. `false`: never. Default `"7d"`. */
  tableLife?: Duration | false;
  /** Credentials. Default: application default credentials, by google-auth-library. Handed to the clients of Cloud Storage and BigQuery as well. */
  authClient?: VertexAuthClient;
  /** A `Storage` of `@google-cloud/storage` that is ready to use. Default: one with this project and these credentials. */
  storage?: { bucket(name: string): object };
  /** A `BigQuery` of `@google-cloud/bigquery` that is ready to use. Default: one with this project and these credentials. */
  bigquery?: { dataset(id: string): object };
  /** Another endpoint of Cloud Storage, e.g. an emulator; no credentials are sent there. `STORAGE_EMULATOR_HOST` works as well. For a private endpoint hand over `storage`. */
  storageEndpoint?: string;
  /** Another endpoint of BigQuery. `BIGQUERY_EMULATOR_HOST` works as well. */
  bigqueryEndpoint?: string;
}

/** A bucket and the folder in it, without slashes at its ends. */
export interface BucketPlace {
  bucket: string;
  folder: string;
}

/** A dataset; without a project, it is one of the provider's. */
export interface DatasetPlace {
  project: string | undefined;
  dataset: string;
}

export interface Settings {
  name: string;
  location: string;
  /** Overrides the endpoint of the location. */
  baseUrl: string | undefined;
  apiVersion: string;
  bucket: BucketPlace | undefined;
  dataset: DatasetPlace | undefined;
  labels: Readonly<Record<string, string>>;
  limits: ProviderLimits;
  timeoutMs: { call: number; create: number; upload: number };
  headers: Readonly<Record<string, string>>;
  fetch: typeof globalThis.fetch;
  /** The same without a limit of time of its own. */
  patientFetch: typeof globalThis.fetch;
  maxLineBytes: number;
  tableLifeMs: number | undefined;
  /** `none`: nothing is sent, the service is a local one. `undefined`: application default credentials. */
  authClient: VertexAuthClient | "none" | undefined;
  storage: object | undefined;
  bigquery: object | undefined;
  storageEndpoint: string | undefined;
  bigqueryEndpoint: string | undefined;
  /** The project if there is one. */
  findProject: () => string | undefined;
  /** The project, or a ProviderError `denied` that says how to give one. */
  requireProject: () => string;
}

const known = [
  ...["project", "location", "bucket", "dataset", "baseUrl", "apiVersion", "labels", "limits", "timeout", "headers", "fetch", "name"],
  ...["maxLineBytes", "tableLife", "authClient", "storage", "bigquery", "storageEndpoint", "bigqueryEndpoint"],
];
const knownTimeouts = ["call", "create", "upload"];
const texts = [
  ...(["project", "location", "bucket", "dataset", "baseUrl", "apiVersion", "name", "storageEndpoint", "bigqueryEndpoint"] as const),
];
const minTableLifeMs = 5 * 86_400_000;

/** Checks the options and fills in defaults. Throws `invalid_option`. */
export function resolveOptions(options: VertexOptions): Settings {
  checkNames(options, known, "vertex()");
  checkNames(options.timeout ?? {}, knownTimeouts, "vertex({ timeout })");
  for (const name of texts) checkText(name, options[name]);
  checkFetch(options.fetch);
  const { project, fetch } = options;
  const bucket = toBucket(options.bucket ?? fromEnv("GEMBATCH_VERTEX_BUCKET"));
  const dataset = toDataset(options.dataset ?? fromEnv("GEMBATCH_VERTEX_DATASET"));
  if (!bucket && !dataset) {
    throw new GembatchError("invalid_option", "vertex() needs a bucket or a dataset for the inputs and outputs of jobs.", {
      hint: 'Pass vertex({ bucket: "gs://bucket/folder" }), or set GEMBATCH_VERTEX_BUCKET or GEMBATCH_VERTEX_DATASET.',
    });
  }
  const location = options.location?.trim() ?? fromEnv("GOOGLE_CLOUD_LOCATION") ?? (bucket ? "global" : "us-central1");
  if (!/^[a-z][a-z0-9-]*$/.test(location)) refuse("location", 'a region, "us", "eu" or "global"', location);
  const givenUrl = options.baseUrl ?? fromEnv("GOOGLE_VERTEX_BASE_URL");
  const baseUrl = givenUrl === undefined ? undefined : toBaseUrl("baseUrl", givenUrl);
  const findProject = (): string | undefined => project?.trim() || fromEnv("GOOGLE_CLOUD_PROJECT") || fromEnv("GCLOUD_PROJECT");
  return {
    name: options.name ?? "vertex",
    location,
    baseUrl,
    apiVersion: options.apiVersion ?? "v1",
    bucket,
    dataset,
    labels: checkLabels(options.labels),
    limits: resolveLimits(options.limits ?? {}),
    timeoutMs: {
      call: parseDuration(options.timeout?.call ?? "1m", "timeout.call"),
      create: parseDuration(options.timeout?.create ?? "2m", "timeout.create"),
      upload: parseDuration(options.timeout?.upload ?? "1h", "timeout.upload"),
    },
    headers: checkHeaders(options.headers),
    // Looked up at each call, so that a global fetch that is replaced later (tests, tracing) is used.
    fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
    patientFetch: fetch ?? patientFetch,
    maxLineBytes: checkLineBytes(options.maxLineBytes),
    tableLifeMs: toTableLife(options.tableLife),
    authClient: checkMethods(options.authClient, ["getRequestHeaders"], "authClient") ?? (isLocal(baseUrl) ? "none" : undefined),
    storage: checkMethods(options.storage, ["bucket"], "storage"),
    bigquery: checkMethods(options.bigquery, ["dataset", "job"], "bigquery"),
    storageEndpoint: toEndpoint("storageEndpoint", options.storageEndpoint),
    bigqueryEndpoint: toEndpoint("bigqueryEndpoint", options.bigqueryEndpoint),
    findProject,
    requireProject() {
      const found = findProject();
      if (found === undefined)
        throw new ProviderError("denied", "There is no Google Cloud project. Set GOOGLE_CLOUD_PROJECT, or pass vertex({ project }).");
      if (!/^[\w.:-]+$/.test(found))
        throw new ProviderError("denied", "The id of the Google Cloud project has characters in it that no id has.");
      return found;
    },
  };
}

/** `gs://bucket/folder`, `bucket/folder`, `bucket`. */
function toBucket(text: string | undefined): BucketPlace | undefined {
  if (text === undefined) return undefined;
  const match = /^(?:gs:\/\/)?([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:\/+([\w./-]*?))?\/*$/.exec(text.trim());
  const folder = match?.[2] || "gembatch";
  if (!match?.[1] || /\/\/|(?:^|\/)\.{1,2}(?:\/|$)/.test(folder)) refuse("bucket", 'a bucket such as "gs://bucket/folder"', text);
  return { bucket: match[1], folder };
}

/** `bq://project.dataset`, `project.dataset`, `dataset`. */
function toDataset(text: string | undefined): DatasetPlace | undefined {
  if (text === undefined) return undefined;
  const match = /^(?:bq:\/\/)?(?:((?:[a-z][\w.-]*:)?[a-z][\w-]*)\.)?(\w{1,1024})$/.exec(text.trim());
  if (!match?.[2]) refuse("dataset", 'a dataset such as "bq://project.dataset"', text);
  return { project: match[1], dataset: match[2] };
}

/** By the rules for labels of Google Cloud resources. */
function checkLabels(labels: unknown): Readonly<Record<string, string>> {
  const rule = "an object whose keys and values are lower-case letters, digits, - and _, at most 63 characters each";
  if (labels === undefined) return {};
  if (typeof labels !== "object" || labels === null || Array.isArray(labels)) refuse("labels", rule, labels);
  for (const [key, value] of Object.entries(labels)) {
    const fits = /^[a-z][a-z0-9_-]{0,62}$/.test(key) && typeof value === "string" && /^[a-z0-9_-]{0,63}$/.test(value);
    if (!fits) refuse(`labels.${key.slice(0, 63)}`, "of lower-case letters, digits, - and _, at most 63 characters each", value);
  }
  return { ...(labels as Record<string, string>) };
}

function toTableLife(value: Duration | false | undefined): number | undefined {
  if (value === false) return undefined;
  const ms = parseDuration(value ?? "7d", "tableLife");
  if (ms < minTableLifeMs) refuse("tableLife", "at least 5 days, or false", value);
  return ms;
}

/** Local services check no credentials, and this machine may have some that are none of their business. */
function isLocal(baseUrl: string | undefined): boolean {
  const url = baseUrl === undefined ? null : URL.parse(baseUrl);
  return url?.protocol === "http:" && isLoopback(url);
}

function toEndpoint(name: string, text: string | undefined): string | undefined {
  return text === undefined ? undefined : toBaseUrl(name, text);
}
