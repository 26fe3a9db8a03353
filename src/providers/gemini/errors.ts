/**
 * The one mapping from what a call to the Gemini Developer API ended in to what it means for a batch. Pure.
 *
 * Sources: error envelope `{"error":{code,message,status,details[]}}`; a bad key answers 400 `API_KEY_INVALID`, not 401; a
 * missing or expired file answers 403, not 404; front ends answer HTML (gemini-batch.md 1, 1.7, 1.8).
 *
 * @module
 */
import { ProviderError, type ProviderFailure, type RowError } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";

/** What was being done. `ask`: one prompt, directly. */
export type Call = "upload" | "create" | "ask" | "get" | "list" | "download" | "cancel" | "delete";

/** The calls after which something may have been made, or answered, that costs money. */
const costly: ReadonlySet<Call> = new Set<Call>(["create", "ask"]);

const maxMessage = 500;

/** The parts of an HTTP answer that decide. `retryAfter` is the header of that name. */
export interface Answer {
  status: number;
  body: string;
  retryAfter?: string | null;
}

const doing: Record<Call, string> = {
  upload: "upload the input of a batch",
  create: "create a batch job",
  ask: "ask a prompt",
  get: "read a batch job",
  list: "list batch jobs",
  download: "download the results of a batch job",
  cancel: "cancel a batch job",
  delete: "delete a batch job or its file",
};

const billingHint = "Batch jobs need a project with billing, in a region that the Gemini API serves.";
const keyHint = "Check GEMINI_API_KEY, or the apiKey option of gemini(), and what the key is allowed to do.";

interface Envelope {
  message: string;
  status: string;
  details: unknown[];
}

/** What an answer other than the expected one means. Also takes a 2xx whose body was not what it should be. */
export function errorFromAnswer(call: Call, answer: Answer): ProviderError {
  const envelope = parseEnvelope(answer.body);
  const [failure, hint] = judge(call, answer, envelope);
  const word = envelope?.status ? ` ${scrub(envelope.status)}` : "";
  const said = envelope ? `: ${scrub(envelope.message)}` : answer.status < 300 ? ", but its body is not what was expected." : ".";
  const row = call === "create" && failure === "refused" && envelope ? namedRow(envelope) : undefined;
  const message = `Could not ${doing[call]}: Gemini answered HTTP ${answer.status}${word}${said}${hint ? ` ${hint}` : ""}`;
  return new ProviderError(failure, bounded(message, maxMessage), {
    status: answer.status,
    retryAfterMs: failure === "throttled" ? retryDelay(answer, envelope) : undefined,
    row,
  });
}

function judge(call: Call, answer: Answer, envelope: Envelope | undefined): [ProviderFailure, hint?: string] {
  const { status } = answer;
  const unsure: ProviderFailure = costly.has(call) ? "ambiguous" : "unavailable";
  if (status >= 300 && status < 400) return ["unavailable", "The base URL redirects; set baseUrl to where it leads."];
  // A direct call that is shed, or meets an overloaded model, answers 503 (gemini-batch.md 1.11).
  if (status === 429 || (status === 503 && call === "ask")) return ["throttled"];
  if (status === 401) return ["denied", keyHint];
  if (status === 413 && (call === "create" || call === "upload")) return ["refused", "It is too large; lower limits.maxBytes."];
  if (status === 413 && call === "ask") return ["refused", "It is too large."];
  if (!envelope) {
    // With alt=media Google answers errors as plain text; a page of HTML comes from something in between.
    if (call === "download" && (status === 404 || status === 403) && !/^\s*</.test(answer.body)) return ["missing"];
    return [unsure];
  }
  if (status < 400 || status >= 500 || status === 408 || status === 409 || status === 499) return [unsure];
  if (hasReason(envelope, "API_KEY_INVALID") || /\bAPI key (?:not valid|not found|expired|invalid)/i.test(envelope.message)) {
    return ["denied", keyHint];
  }
  switch (call) {
    case "create":
      return judgeCreate(status, envelope);
    case "ask":
      return judgeAsk(status, envelope);
    case "upload":
      if (status === 403) return ["denied", keyHint];
      if (envelope.status === "FAILED_PRECONDITION") return ["denied", billingHint];
      return status === 404 ? ["unavailable"] : ["refused"];
    case "download":
      return status === 404 || status === 403 ? ["missing"] : ["refused"];
    default:
      if (status === 403) return ["denied", keyHint];
      return status === 404 ? ["missing"] : ["refused"];
  }
}

function judgeCreate(status: number, envelope: Envelope): [ProviderFailure, hint?: string] {
  const aboutFile = /\bfiles?\b/i.test(envelope.message);
  if (aboutFile && (status === 403 || status === 404)) return ["missing", "The uploaded input has expired; it must be staged again."];
  if (status === 403) return ["denied", keyHint];
  if (status === 404) return ["refused", "Check the name of the model, and that it can run in batch jobs."];
  if (aboutFile && /not in an? (?:\S+ )?active state|still (?:being )?process/i.test(envelope.message)) return ["throttled"];
  if (/\bfiles?[ /][^.]{0,60}\b(?:expired|not found|not exist)\b/i.test(envelope.message) && namedRow(envelope) === undefined) {
    return ["missing", "The uploaded input has expired; it must be staged again."];
  }
  if (status === 400 && envelope.status === "FAILED_PRECONDITION") return ["denied", billingHint];
  return ["refused"];
}

function judgeAsk(status: number, envelope: Envelope): [ProviderFailure, hint?: string] {
  // A file that the prompt itself refers to.
  if (status === 403) return /\bfiles?\b/i.test(envelope.message) ? ["refused"] : ["denied", keyHint];
  if (status === 404) return ["refused", "Check the name of the model."];
  if (envelope.status === "FAILED_PRECONDITION" && /\b(?:billing|free tier|location|region)\b/i.test(envelope.message)) {
    return ["denied", "Direct calls need a project in a region that the Gemini API serves; flex needs billing."];
  }
  return ["refused"];
}

/** No connection was made, so nothing was sent. A reset or a closed socket is not among them: it may come after the request. */
const beforeSending = new Set([
  ...["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT", "EPROTO"],
  ...["CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ...["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "ERR_TLS_CERT_ALTNAME_INVALID"],
]);

/** What it means that `fetch` (or reading its body) threw. `sent: false` if the request certainly never left. */
export function errorFromThrown(call: Call, thrown: unknown, sent = true): ProviderError {
  if (ProviderError.is(thrown)) return thrown;
  const nothingSent = !sent || neverConnected(thrown);
  const failure = nothingSent || !costly.has(call) ? "unavailable" : "ambiguous";
  return new ProviderError(failure, bounded(`Could not ${doing[call]}: ${describeThrown(thrown)}.`, maxMessage), { cause: thrown });
}

function neverConnected(thrown: unknown): boolean {
  const cause = causeOf(thrown);
  if (cause === undefined) return false;
  // Several addresses of one host: each try must have failed before it connected.
  if (Array.isArray(cause.errors) && cause.errors.length > 0) return cause.errors.every((error) => isConnectFailure(error));
  return isConnectFailure(cause);
}

function isConnectFailure(error: unknown): boolean {
  const { code, syscall } = (error ?? {}) as { code?: unknown; syscall?: unknown };
  return beforeSending.has(String(code)) || (code === "ETIMEDOUT" && syscall === "connect");
}

/** `fetch` throws `TypeError: fetch failed`; what happened is in its cause. */
function causeOf(thrown: unknown): { code?: unknown; errors?: unknown[] } | undefined {
  if (!(thrown instanceof Error)) return undefined;
  return (thrown.cause instanceof Error ? thrown.cause : thrown) as { code?: unknown; errors?: unknown[] };
}

function describeThrown(thrown: unknown): string {
  if (!(thrown instanceof Error)) return "the transport failed";
  if (thrown.name === "TimeoutError") return "no answer in time";
  if (thrown.name === "AbortError") return "the call was aborted";
  const code = causeOf(thrown)?.code;
  if (typeof code === "string") return `the connection failed with ${code}`;
  return thrown instanceof TypeError ? "the connection failed" : scrub(thrown.message).replace(/\.$/, "");
}

function parseEnvelope(body: string): Envelope | undefined {
  let error: unknown;
  try {
    const parsed: unknown = JSON.parse(body);
    error = ((Array.isArray(parsed) ? parsed[0] : parsed) as { error?: unknown } | null | undefined)?.error;
  } catch {
    return undefined;
  }
  if (typeof error !== "object" || error === null) return undefined;
  const { message, status, details } = error as Record<string, unknown>;
  return {
    message: typeof message === "string" ? message : "",
    status: typeof status === "string" ? status : "",
    details: Array.isArray(details) ? details : [],
  };
}

function hasReason(envelope: Envelope, reason: string): boolean {
  return envelope.details.some((detail) => (detail as { reason?: unknown } | null)?.reason === reason);
}

/** No service asks for more; a larger number is a mistake, and a batch must not wait for ever for it. */
const maxRetryDelayMs = 24 * 3_600_000;

/** `RetryInfo.retryDelay` ("1s", "2.5s") or the header in seconds, in milliseconds. Batch creation mostly sends neither. */
function retryDelay(answer: Answer, envelope: Envelope | undefined): number | undefined {
  for (const detail of envelope?.details ?? []) {
    const delay = (detail as { retryDelay?: unknown } | null)?.retryDelay;
    const match = typeof delay === "string" ? /^(\d+(?:\.\d+)?)s$/.exec(delay) : null;
    if (match) return Math.min(Math.ceil(Number(match[1]) * 1000), maxRetryDelayMs);
  }
  const header = Number(answer.retryAfter || Number.NaN);
  return Number.isFinite(header) && header >= 0 ? Math.min(header * 1000, maxRetryDelayMs) : undefined;
}

/** The row that a refusal names: its key, or its zero-based number (`line 17` and `row 17` are counted from one). */
function namedRow(envelope: Envelope): string | number | undefined {
  const fields = envelope.details.flatMap((detail) => {
    const { fieldViolations } = (detail ?? {}) as { fieldViolations?: unknown };
    return Array.isArray(fieldViolations) ? fieldViolations.map(textsOf) : [];
  });
  for (const text of [envelope.message, ...fields]) {
    const key = /(?<!api[ _-]?)\bkey\b\\?["'`]?\s*(?:[:=]\s*\\?["'`]?|\\?["'`])([A-Za-z][\w.-]{0,127})/i.exec(text);
    if (key) return key[1]!.replace(/\.+$/, "");
    const index = /\brequests\[(\d{1,9})\]/i.exec(text) ?? /\bindex\s*[:=]?\s*(\d{1,9})\b/i.exec(text);
    if (index) return Number(index[1]);
    const line = /\b(?:line|row)\s*(?:number\s*)?[#:=]?\s*(\d{1,9})\b/i.exec(text);
    if (line) return Math.max(0, Number(line[1]) - 1);
  }
  return undefined;
}

/** The texts of a violation (`field`, `description`), whatever else is in it. */
function textsOf(violation: unknown): string {
  return typeof violation === "object" && violation !== null
    ? Object.values(violation)
        .filter((value) => typeof value === "string")
        .join(" ")
    : "";
}

const codes = new Map<unknown, number>(
  Object.entries({
    ...{ CANCELLED: 1, UNKNOWN: 2, INVALID_ARGUMENT: 3, DEADLINE_EXCEEDED: 4, NOT_FOUND: 5, ALREADY_EXISTS: 6, PERMISSION_DENIED: 7 },
    ...{ RESOURCE_EXHAUSTED: 8, FAILED_PRECONDITION: 9, ABORTED: 10, OUT_OF_RANGE: 11, UNIMPLEMENTED: 12, INTERNAL: 13 },
    ...{ UNAVAILABLE: 14, DATA_LOSS: 15, UNAUTHENTICATED: 16 },
  }),
);

/**
 * An error object of a row or a job, its texts scrubbed: a row that is refused is quoted. A code in words becomes its gRPC number; one that says nothing counts as 2
 * (UNKNOWN).
 */
export function toRowError(value: unknown): RowError | undefined {
  if (typeof value === "string") return value === "" || value === "OK" ? undefined : { code: codes.get(value) ?? 2, message: scrub(value) };
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { code, message, status } = value as Record<string, unknown>;
  const word = typeof status === "string" ? status : typeof code === "string" ? code : undefined;
  // An object would be asked for its text, which may overflow the stack or throw.
  const number = typeof code === "number" || typeof code === "string" ? Number(code) : Number.NaN;
  if (number === 0 || Object.keys(value).length === 0) return undefined;
  return {
    code: Number.isInteger(number) ? number : (codes.get(word) ?? 2),
    message: typeof message === "string" ? scrub(message) : "",
    ...(word === undefined || word === String(number) ? {} : { status: scrub(word) }),
  };
}
