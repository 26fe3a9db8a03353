/**
 * Calls of Google's APIs as plain REST: credentials, time-outs, retries, errors in words, operations that take a while.
 *
 * @module
 */
import type { Clock } from "../../core/clock.ts";
import { GembatchError } from "../../core/errors.ts";
import type { Credentials } from "./credentials.ts";
import { isDisabled, refusalOf, unreachable } from "./errors.ts";

/** The APIs that are called, and the one place where their addresses stand. */
export const hosts = {
  serviceUsage: "serviceusage.googleapis.com",
  resourceManager: "cloudresourcemanager.googleapis.com",
  iam: "iam.googleapis.com",
  firestore: "firestore.googleapis.com",
  rules: "firebaserules.googleapis.com",
  storage: "storage.googleapis.com",
  bigQuery: "bigquery.googleapis.com",
  functions: "cloudfunctions.googleapis.com",
  tasks: "cloudtasks.googleapis.com",
  scheduler: "cloudscheduler.googleapis.com",
  secrets: "secretmanager.googleapis.com",
} as const;

export type ServiceName = keyof typeof hosts;

/** Where all hosts are found instead, as `ENDPOINT/HOST/PATH`: for tests. */
export const endpointVariable = "GEMBATCH_GOOGLE_ENDPOINT";

export interface Call {
  service: ServiceName;
  /** Default `GET`. */
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With a leading slash; what comes from outside is encoded already. */
  path: string;
  query?: Readonly<Record<string, string | readonly string[]>>;
  /** Sent as JSON; a text as it is. */
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  /** The answer's text instead of its JSON. */
  asText?: boolean;
}

export interface Operation {
  name?: string;
  done?: boolean;
  error?: { code?: number; message?: string };
  response?: Record<string, unknown>;
}

export interface GoogleClientOptions {
  credentials: Credentials;
  clock: Clock;
  /** Replaces `https://HOST` by `ENDPOINT/HOST`. */
  endpoint?: string | undefined;
  /** How long one call may take. Default 30 s. */
  timeoutMs?: number;
}

const attempts = 4;
const firstDelayMs = 1_000;
const propagationDelayMs = 5_000;
const operationPatienceMs = 5 * 60_000;

export class GoogleClient {
  readonly clock: Clock;
  readonly #options: GoogleClientOptions;
  #propagatedAt = -Infinity;

  constructor(options: GoogleClientOptions) {
    this.#options = options;
    this.clock = options.clock;
  }

  /** Something was just made or enabled: for so long, being refused for want of it may pass. */
  expectPropagation(ms: number): void {
    this.#propagatedAt = Math.max(this.#propagatedAt, this.clock.monotonic() + ms);
  }

  get isPropagating(): boolean {
    return this.clock.monotonic() < this.#propagatedAt;
  }

  /**
   * One call. What may pass (429, 5xx, a broken connection) is tried again, four times in all: every change that is made here may be repeated. Throws `provider_auth` for 401
   * and 403, `provider_error` for all else; `details` holds `status`, `reason` and `service`.
   */
  async call<T>(call: Call): Promise<T> {
    let delayMs = firstDelayMs;
    for (let attempt = 1; ;) {
      try {
        return await this.#send<T>(call);
      } catch (error) {
        const propagates = isDisabled(error) && this.isPropagating;
        if (!propagates && (!GembatchError.is(error) || !error.retryable || attempt === attempts)) throw error;
        if (propagates) await this.clock.sleep(propagationDelayMs);
        else {
          await this.clock.sleep(delayMs);
          delayMs *= 2;
          attempt += 1;
        }
      }
    }
  }

  /** All pages of a list; `key` is the field that holds the items. */
  async list<T>(call: Call, key: string): Promise<T[]> {
    const items: T[] = [];
    let pageToken: string | undefined;
    do {
      const query = { ...call.query, ...(pageToken === undefined ? {} : { pageToken }) };
      const page = await this.call<Record<string, unknown> & { nextPageToken?: string }>({ ...call, query });
      items.push(...((page[key] ?? []) as T[]));
      pageToken = page.nextPageToken || undefined;
    } while (pageToken !== undefined);
    return items;
  }

  /** Looks at an operation until it is done; resolves with its response. `base`: the API's version, such as `/v1`. */
  async finish(service: ServiceName, base: string, started: Operation): Promise<Record<string, unknown>> {
    let operation = started;
    const deadline = this.clock.monotonic() + operationPatienceMs;
    for (let delayMs = 500; operation.done !== true; delayMs = Math.min(delayMs * 2, 10_000)) {
      if (operation.name === undefined || this.clock.monotonic() > deadline) {
        throw new GembatchError("provider_error", `${hosts[service]} has not finished an operation within 5 minutes.`, {
          hint: "It goes on there. Run the command again later.",
          details: { service: hosts[service] },
        });
      }
      await this.clock.sleep(delayMs);
      operation = await this.call<Operation>({ service, path: `${base}/${operation.name}` });
    }
    if (operation.error) throw refusalOf(hosts[service], undefined, { error: operation.error });
    return operation.response ?? {};
  }

  async #send<T>({ service, method = "GET", path, query = {}, body, headers, asText }: Call): Promise<T> {
    const host = hosts[service];
    const { endpoint, credentials, timeoutMs = 30_000 } = this.#options;
    const url = new URL(endpoint === undefined ? `https://${host}${path}` : `${endpoint}/${host}${path}`);
    for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) url.searchParams.append(name, one);
    const isText = typeof body === "string";
    let response: Response;
    let text: string;
    const authorization = await credentials.headers(url.href);
    try {
      response = await fetch(url, {
        method,
        signal: AbortSignal.timeout(timeoutMs),
        headers: {
          ...authorization,
          ...(body === undefined ? {} : { "content-type": isText ? "text/plain" : "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: isText ? body : JSON.stringify(body) }),
      });
      text = await response.text();
    } catch (cause) {
      throw unreachable(host, cause);
    }
    if (!response.ok) throw refusalOf(host, response.status, parseJson(text));
    if (asText) return text as T;
    return (text === "" ? {} : (parseJson(text) ?? {})) as T;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
