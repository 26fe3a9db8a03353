/**
 * The provider port: how a batch becomes a job of the service, and how its answers come back.
 *
 * @module
 */
import type { Models } from "@google/genai";
import type { DirectTier, LaneTier } from "./tiers.ts";

/**
 * What a lane's requests call: the REST method behind the last colon of the URL. `rawPredict`: a model of another publisher, whose requests and answers have the form of that
 * publisher's API and are only carried.
 */
export type Method = "generateContent" | "embedContent" | "rawPredict";

/** The queue of requests that may share a job. */
export interface Lane {
  provider: string;
  /** The provider's own short form, e.g. `gemini-2.5-flash`. */
  model: string;
  method: Method;
  /** The price class of its requests; absent for `batch`, so that equal lanes are equal objects. */
  tier?: Exclude<LaneTier, "batch">;
  /**
   * What the rows of one job must have in common for a provider that imports them into typed columns: a short word of letters and digits, made by its `checkRequest`. Absent
   * where rows of any form travel together.
   */
  shape?: string;
}

/** One line of a job's input. `key` starts with a letter and is unique in the job; `body` is REST JSON text. */
export interface BatchRow {
  key: string;
  body: string;
}

/** One item of a job's output, exactly as far as it could be understood. */
export type ResultRow =
  | { key: string; response: unknown; error?: undefined }
  | { key: string; error: RowError; response?: undefined }
  /** A line that belongs to no request: no key, not JSON, not UTF-8, a null response. `reason` never quotes the line. */
  | { key: string | undefined; problem: string; response?: undefined; error?: undefined };

/** The error object of a row. `code` is a gRPC code (1–16) or an HTTP status; some services put it in words. */
export interface RowError {
  code: number;
  message: string;
  status?: string;
}

export type JobState = "pending" | "running" | "succeeded" | "failed" | "cancelled" | "expired" | "unknown";

/** A job as the provider reports it: its state in our words, and the raw word beside it. */
export interface ProviderJob {
  /** The provider's name of the job, e.g. `batches/abc`. */
  name: string;
  /** The token it was created with, if the provider returns it. */
  token?: string;
  state: JobState;
  rawStatus: string;
  createdAt?: number;
  endedAt?: number;
  /** Why it failed as a whole. */
  error?: RowError;
  /** Opaque reference to its output, once that can be read. A succeeded job may get it later than its state. */
  output?: string;
}

/** What was uploaded for a batch, as plain data that survives a restart. `expiresAt`: when it must be staged again. */
export interface StagedInput {
  ref: string;
  expiresAt?: number;
}

/** What the provider takes. Data, not code: `gemini({ limits })` overrides each. */
export interface ProviderLimits {
  /** Rows in one job. */
  maxRequests: number;
  /** Bytes of one job's input. */
  maxBytes: number;
  /** Bytes of one row. */
  maxRequestBytes: number;
  /** Jobs that may be unfinished at the same time. */
  maxJobs: number;
  /** Input tokens of all unfinished jobs of this model; `undefined` for no limit. */
  enqueuedTokens: (model: string) => number | undefined;
}

/** One prompt that is answered at once, without a job. */
export interface DirectCall {
  lane: Lane;
  /** REST JSON text, without a tier in it. */
  body: string;
  tier: DirectTier;
  /** Aborts at the tier's timeout. */
  signal: AbortSignal;
}

/**
 * What a failed call means for the batch:
 * - `refused`: a definite answer that nothing was created and the same input will never be accepted.
 * - `throttled`: a definite answer that nothing was created, try later (quota, rate).
 * - `unavailable`: nothing was created, try later (no connection was made).
 * - `ambiguous`: it is unknown whether something was created.
 * - `missing`: the job or file does not exist (any more).
 * - `denied`: the key or account is not accepted; no retry helps until somebody changes it.
 */
export type ProviderFailure = "refused" | "throttled" | "unavailable" | "ambiguous" | "missing" | "denied";

const marker = Symbol.for("gembatch.provider-error");

/** Thrown by providers; the pipeline decides by `failure` alone. */
export class ProviderError extends Error {
  readonly failure: ProviderFailure;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  /** Zero-based row or row key that the service named in its refusal. */
  readonly row: string | number | undefined;

  constructor(
    failure: ProviderFailure,
    message: string,
    options: { status?: number; retryAfterMs?: number; row?: string | number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "ProviderError";
    this.failure = failure;
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.row = options.row;
    Object.defineProperty(this, marker, { value: true });
  }

  static is(value: unknown): value is ProviderError {
    return typeof value === "object" && value !== null && marker in value;
  }
}

/** Everything about a batch that a provider needs to make a job of it. */
export interface JobInput {
  /** Unique per batch, the same for every attempt: goes into the job's display name. */
  token: string;
  lane: Lane;
  requestCount: number;
  /** Bytes of all bodies together. */
  bytes: number;
  /** A fresh pass over the rows; may be called more than once. */
  rows: () => AsyncIterable<BatchRow>;
}

export interface Provider {
  /** First part of every lane: `gemini`, `vertex`. */
  readonly name: string;
  /** Whose REST API it speaks, for calls that come by URL. Absent: the one of its name. */
  readonly api?: "gemini" | "vertex";
  readonly limits: ProviderLimits;

  /** The official SDK's `models` on this transport: its types, converters and getters are what a chain sees. */
  createModels(fetch: typeof globalThis.fetch): Models;
  /** The model's short form in lanes, from any form that users write (`models/x`, `publishers/google/models/x`). */
  normalizeModel(model: string): string;
  /** `rawPredict` for a model of another publisher, given in the short form of lanes; nothing for all others. Pure and fast. Absent: there are none. */
  methodOf?(model: string): Method | undefined;

  /**
   * Looks at a request before it is queued: pure and fast, no call. Throws a GembatchError `request_refused` for what its jobs can never take, with what to change; returns the
   * `shape` of its lane. Absent: everything goes, together.
   */
  checkRequest?(call: Lane, body: Readonly<Record<string, unknown>>): { shape?: string };
  /** Uploads the input. Creates no job; may be repeated, an orphaned upload costs nothing but space. */
  stageInput(input: JobInput, signal: AbortSignal): Promise<StagedInput>;
  /**
   * Creates the job with one single request and no retry of any kind. Must await `beforeSend()` as the very last thing before it sends, and
   * send nothing if that is false (then it fails with `unavailable`). `signal` aborts the call at the launch deadline.
   */
  createJob(
    input: JobInput,
    staged: StagedInput,
    options: { signal: AbortSignal; beforeSend: () => Promise<boolean> },
  ): Promise<ProviderJob>;
  /** Every job that carries this token, oldest first, each confirmed by a get. Looks at least back to `since`. */
  findJobs(token: string, since: number, signal: AbortSignal): Promise<ProviderJob[]>;
  /** The named jobs; one that does not exist is left out only if the provider said so definitely. */
  getJobs(names: readonly string[], signal: AbortSignal): Promise<ProviderJob[]>;
  /** Streams the output; memory does not grow with it. A broken connection throws `unavailable`: start again. */
  readResults(job: ProviderJob, lane: Lane, signal: AbortSignal): AsyncIterable<ResultRow>;
  cancelJob(name: string, signal: AbortSignal): Promise<void>;
  /** Removes the job and its output. Missing is fine. */
  deleteJob(name: string, signal: AbortSignal): Promise<void>;
  /** Removes what `stageInput` made. Missing is fine. */
  discardInput(staged: StagedInput, signal: AbortSignal): Promise<void>;
  /**
   * Asks one prompt at the flex or standard tier with one single request and no retry; resolves with the REST response. Throws `throttled` for a quota and for a call that
   * the flex tier shed (429, 503), `refused` for a definite no, `ambiguous` when it is unknown whether the prompt was answered (timeout, broken connection, 5xx).
   */
  callNow(call: DirectCall): Promise<unknown>;
  close(): Promise<void>;
}
