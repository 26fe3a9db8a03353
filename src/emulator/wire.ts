/**
 * How the Developer API writes things down: error bodies, times, and its tolerance for snake_case.
 *
 * @module
 */

/** A parsed JSON object from outside. */
export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** HTTP status of each canonical code that the API uses in `error.status`. */
const httpStatus = {
  CANCELLED: 499,
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  PERMISSION_DENIED: 403,
  UNAUTHENTICATED: 401,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  RESOURCE_EXHAUSTED: 429,
  INTERNAL: 500,
  UNAVAILABLE: 503,
} as const;

export type WireStatus = keyof typeof httpStatus;

/** An answer that is an error: `{"error":{code,message,status,details}}`. Thrown by handlers, written by the server. */
export class WireError extends Error {
  readonly status: WireStatus;
  readonly http: number;
  readonly details: readonly JsonObject[];

  constructor(status: WireStatus, message: string, details: readonly JsonObject[] = []) {
    super(message);
    this.name = "WireError";
    this.status = status;
    this.http = httpStatus[status];
    this.details = details;
  }

  body(): JsonObject {
    return {
      error: {
        code: this.http,
        message: this.message,
        status: this.status,
        ...(this.details.length === 0 ? {} : { details: this.details }),
      },
    };
  }
}

const google = "type.googleapis.com/google";

/** What a wrong API key gets: HTTP 400, not 401. */
export function invalidKeyError(): WireError {
  const message = "API key not valid. Please pass a valid API key.";
  return new WireError("INVALID_ARGUMENT", message, [
    {
      "@type": `${google}.rpc.ErrorInfo`,
      reason: "API_KEY_INVALID",
      domain: "googleapis.com",
      metadata: { service: "generativelanguage.googleapis.com" },
    },
    { "@type": `${google}.rpc.LocalizedMessage`, locale: "en-US", message },
  ]);
}

export function missingKeyError(): WireError {
  return new WireError(
    "PERMISSION_DENIED",
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
  );
}

/** A call to Vertex AI without any credentials. */
export function unauthenticatedError(): WireError {
  return new WireError(
    "UNAUTHENTICATED",
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
  );
}

/** An unknown model, or one that cannot do `method`. */
export function modelError(model: string, version: string, method: string): WireError {
  const message =
    `models/${model} is not found for API version ${version}, or is not supported for ${method}. ` +
    "Call ListModels to see the list of available models and their supported methods.";
  return new WireError("NOT_FOUND", message, [
    { "@type": `${google}.rpc.DebugInfo`, detail: `[ORIGINAL ERROR] generic::not_found: ${message}` },
  ]);
}

const help = {
  "@type": `${google}.rpc.Help`,
  links: [{ description: "Learn more about Gemini API quotas", url: "https://ai.google.dev/gemini-api/docs/rate-limits" }],
};

const quotaMessage =
  "You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.";

/** A full project, as batch create reports it: no `RetryInfo`, so the client must choose its own back-off. */
export function quotaError(reason?: string): WireError {
  return new WireError("RESOURCE_EXHAUSTED", reason === undefined ? quotaMessage : `${quotaMessage} ${reason}`, [help]);
}

/** Rate limiting of an ordinary call: with `QuotaFailure` and `RetryInfo`. */
export function throttleError(retryMs: number): WireError {
  const retryDelay = `${Math.max(1, Math.round(retryMs / 1_000))}s`;
  return new WireError("RESOURCE_EXHAUSTED", `${quotaMessage}\nPlease retry in ${retryDelay}.`, [
    help,
    {
      "@type": `${google}.rpc.QuotaFailure`,
      violations: [
        {
          quotaMetric: "generativelanguage.googleapis.com/generate_content_requests",
          quotaId: "GenerateRequestsPerMinutePerProjectPerModel",
          quotaDimensions: { location: "global" },
          quotaValue: "1000",
        },
      ],
    },
    { "@type": `${google}.rpc.RetryInfo`, retryDelay },
  ]);
}

/** What front ends send instead of JSON when they are in trouble. */
export const htmlErrorPage =
  "<!DOCTYPE html>\n<html lang=en>\n<title>Error 502 (Server Error)!!1</title>\n<p><b>502.</b> <ins>That’s an error.</ins>\n" +
  "<p>The server encountered a temporary error and could not complete your request.<p>Please try again in 30 seconds. <ins>That’s all we know.</ins>\n</html>\n";

/** An instant as the service writes it: RFC 3339 with nanoseconds. `salt` fills the digits below the millisecond. */
export function wireTime(ms: number, salt = 0): string {
  const digits = String(((salt >>> 0) * 2_654_435) % 1_000_000).padStart(6, "0");
  return `${new Date(ms).toISOString().slice(0, -1)}${digits}Z`;
}

/** Keys under which the names belong to the user, not to the protocol. */
const opaque = new Set([
  "args",
  "response",
  "responseJsonSchema",
  "parametersJsonSchema",
  "metadata",
  "labels",
  "enum",
  "default",
  "example",
  "userMetadata",
]);

const snakeKey = /"[a-z0-9]+(?:_[a-z0-9]+)+"\s*:/;

/** Whether JSON text may hold snake_case keys: a cheap test before {@link camelKeys}. */
export function mayBeSnake(text: string): boolean {
  return text.includes("_") && snakeKey.test(text);
}

/** The value with protocol names in camelCase. What users named (schema properties, arguments, metadata) stays. */
export function camelKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelKeys);
  if (!isObject(value)) return value;
  const result: JsonObject = {};
  for (const [key, item] of Object.entries(value)) {
    const name = key.includes("_") ? key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()) : key;
    if (opaque.has(name)) result[name] = item;
    else if (name === "properties" && isObject(item)) {
      result[name] = Object.fromEntries(Object.entries(item).map(([property, schema]) => [property, camelKeys(schema)]));
    } else result[name] = camelKeys(item);
  }
  return result;
}

/** The parsed object of a request body, its protocol names in camelCase; a tuned error when it is not JSON. */
export function parseBody(text: string): JsonObject {
  const value = parseJson(text);
  return mayBeSnake(text) ? (camelKeys(value) as JsonObject) : value;
}

/** The same with all names as they are: those of columns belong to the user. */
export function parseJson(text: string): JsonObject {
  let value: unknown;
  try {
    value = text.trim() === "" ? {} : JSON.parse(text);
  } catch {
    const start = text.trimStart().slice(0, 40);
    throw new WireError(
      "INVALID_ARGUMENT",
      `Invalid JSON payload received. The body is not JSON (${Buffer.byteLength(text)} bytes, it starts with ${JSON.stringify(start)}).`,
    );
  }
  if (!isObject(value)) throw new WireError("INVALID_ARGUMENT", "Invalid JSON payload received. Root element must be an object.");
  return value;
}
