/**
 * The options of `gemini()` and what becomes of them.
 *
 * @module
 */
import { tmpdir } from "node:os";
import { type Duration, parseDuration } from "../../core/duration.ts";
import { GembatchError } from "../../core/errors.ts";
import { ProviderError, type ProviderLimits } from "../../core/provider.ts";
import {
  checkFetch,
  checkHeaders,
  checkLineBytes,
  checkNames,
  checkOneOf,
  checkText,
  fromEnv,
  isLoopback,
  toBaseUrl,
} from "../shared/option-checks.ts";
import { patientFetch } from "../shared/patient-fetch.ts";
import { type GeminiLimits, type QuotaTier, resolveLimits } from "./limits.ts";

export interface GeminiOptions {
  /** Default: `GEMINI_API_KEY`, then `GOOGLE_API_KEY`, read when a call needs it. */
  apiKey?: string;
  /** Default: `GOOGLE_GEMINI_BASE_URL`, else `https://generativelanguage.googleapis.com`. */
  baseUrl?: string;
  /** Default `"v1beta"`: what batch jobs are documented and recorded on. The SDK's own default is `v1`. */
  apiVersion?: string;
  /** How rows travel: in an uploaded file, or in the create call when it stays below 20,000,000 bytes. Default: `GEMBATCH_GEMINI_MODE`, else `"file"`. */
  mode?: "file" | "inline";
  /** Single limits, over the published ones. */
  limits?: GeminiLimits;
  /** Paid tier of the project: decides the published number of tokens that may be enqueued. Default 1. */
  quotaTier?: QuotaTier;
  /**
   * How long one HTTP call may take: any (1m), creating a job (2m), one 8 MiB piece of an upload (5m). Downloads have no limit but that of the transport: the global fetch gives up after 5 minutes
   * without a byte. A direct call (`flex`, `standard`) ends at the timeout of its tier.
   */
  timeout?: { call?: Duration; create?: Duration; upload?: Duration };
  /** Sent with every call. */
  headers?: Readonly<Record<string, string>>;
  /** The transport. Default: the global `fetch`. One of your own must wait for a flex call as long as its tier's timeout says. */
  fetch?: typeof globalThis.fetch;
  /** First part of the lanes of this provider. Default `"gemini"`. */
  name?: string;
  /** Where inputs are written before their upload. Default: the system's folder for temporary files. */
  tempDir?: string;
  /**
   * Where the service sends a word when a job of this provider ends: `https`, or `http` to this machine. It goes along with every job that is created (`webhookConfig`),
   * beside the webhooks of the project. What is sent there is a hint to look: see `createWebhookHandler`.
   */
  webhook?: { uri: string | URL };
  /** A result line longer than this is reported as a problem instead of being held in memory. Default 256 MiB. */
  maxLineBytes?: number;
}

export interface Settings {
  name: string;
  baseUrl: string;
  apiVersion: string;
  mode: "file" | "inline";
  limits: ProviderLimits;
  timeoutMs: { call: number; create: number; upload: number };
  headers: Readonly<Record<string, string>>;
  fetch: typeof globalThis.fetch;
  /** The same without a limit of time of its own. */
  patientFetch: typeof globalThis.fetch;
  tempDir: string;
  maxLineBytes: number;
  /** As the create call carries it. */
  webhookConfig: { uris: string[] } | undefined;
  /** The key if there is one. */
  findApiKey(): string | undefined;
  /** The key, or a ProviderError `denied` that says how to give one. */
  requireApiKey(): string;
}

const known = [
  ...[
    "apiKey",
    "baseUrl",
    "apiVersion",
    "mode",
    "limits",
    "quotaTier",
    "timeout",
    "headers",
    "fetch",
    "name",
    "tempDir",
    "maxLineBytes",
    "webhook",
  ],
];
const knownTimeouts = ["call", "create", "upload"];
const modes = ["file", "inline"];

/** Checks the options and fills in defaults. Throws `invalid_option`. */
export function resolveOptions(options: GeminiOptions): Settings {
  checkNames(options, known, "gemini()");
  checkNames(options.timeout ?? {}, knownTimeouts, "gemini({ timeout })");
  if (options.webhook !== undefined) checkNames(options.webhook, ["uri"], "gemini({ webhook })");
  for (const name of ["apiKey", "baseUrl", "apiVersion", "name", "tempDir"] as const) checkText(name, options[name]);
  checkOneOf("mode", options.mode, modes);
  const modeOfEnv = fromEnv("GEMBATCH_GEMINI_MODE");
  checkOneOf("mode from GEMBATCH_GEMINI_MODE", modeOfEnv, modes);
  checkOneOf("quotaTier", options.quotaTier, [1, 2, 3]);
  checkFetch(options.fetch);
  const { apiKey, fetch } = options;
  const findApiKey = (): string | undefined => apiKey?.trim() || fromEnv("GEMINI_API_KEY") || fromEnv("GOOGLE_API_KEY");
  return {
    name: options.name ?? "gemini",
    baseUrl: toBaseUrl("baseUrl", options.baseUrl ?? fromEnv("GOOGLE_GEMINI_BASE_URL") ?? "https://generativelanguage.googleapis.com"),
    apiVersion: options.apiVersion ?? "v1beta",
    mode: options.mode ?? (modeOfEnv as GeminiOptions["mode"]) ?? "file",
    limits: resolveLimits(options.limits ?? {}, options.quotaTier ?? 1),
    timeoutMs: {
      call: parseDuration(options.timeout?.call ?? "1m", "timeout.call"),
      create: parseDuration(options.timeout?.create ?? "2m", "timeout.create"),
      upload: parseDuration(options.timeout?.upload ?? "5m", "timeout.upload"),
    },
    headers: checkHeaders(options.headers),
    // Looked up at each call, so that a global fetch that is replaced later (tests, tracing) is used.
    fetch: fetch ?? ((input, init) => globalThis.fetch(input, init)),
    patientFetch: fetch ?? patientFetch,
    tempDir: options.tempDir ?? tmpdir(),
    maxLineBytes: checkLineBytes(options.maxLineBytes),
    webhookConfig: options.webhook && { uris: [toWebhookUri(options.webhook.uri)] },
    findApiKey,
    requireApiKey() {
      const key = findApiKey();
      if (key === undefined)
        throw new ProviderError("denied", "There is no Gemini API key. Set GEMINI_API_KEY, or pass gemini({ apiKey }).");
      if (!/^[\x21-\x7e]+$/.test(key))
        throw new ProviderError("denied", "The Gemini API key has characters in it that no key has; was it copied whole?");
      return key;
    },
  };
}

/** The URI may carry a secret in its query, so it is not shown. */
function toWebhookUri(uri: unknown): string {
  const url = typeof uri === "string" || uri instanceof URL ? URL.parse(String(uri)) : null;
  const safe = url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url));
  if (!url || !safe || url.hash) {
    throw new GembatchError("invalid_option", "Option webhook.uri must be an https URL, or http to localhost, without a fragment.");
  }
  return url.href;
}
