/**
 * What all Google APIs have in common when a call fails: the envelope `{"error":{code,message,status,details[]}}` (gemini-batch.md 1.8), and what Node's fetch throws. Pure.
 *
 * @module
 */
import { ProviderError } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";

/** Longest message of a failed call, in characters. */
export const maxMessage = 500;

/** The parts of an HTTP answer that decide. `retryAfter` is the header of that name. */
export interface Answer {
  status: number;
  body: string;
  retryAfter?: string | null;
}

export interface Envelope {
  message: string;
  status: string;
  details: unknown[];
}

/** The error of an answer; `undefined` if its body is no envelope. */
export function parseEnvelope(body: string): Envelope | undefined {
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

export function hasReason(envelope: Envelope, reason: string): boolean {
  return envelope.details.some((detail) => (detail as { reason?: unknown } | null)?.reason === reason);
}

/** No service asks for more; a larger number is a mistake, and a batch must not wait for ever for it. */
const maxRetryDelayMs = 24 * 3_600_000;

/** `RetryInfo.retryDelay` ("1s", "2.5s") or the header in seconds, in milliseconds. Batch creation mostly sends neither. */
export function retryDelay(answer: Answer, envelope: Envelope | undefined): number | undefined {
  for (const detail of envelope?.details ?? []) {
    const delay = (detail as { retryDelay?: unknown } | null)?.retryDelay;
    const match = typeof delay === "string" ? /^(\d+(?:\.\d+)?)s$/.exec(delay) : null;
    if (match) return Math.min(Math.ceil(Number(match[1]) * 1000), maxRetryDelayMs);
  }
  const header = Number(answer.retryAfter || Number.NaN);
  return Number.isFinite(header) && header >= 0 ? Math.min(header * 1000, maxRetryDelayMs) : undefined;
}

/** What a failed call was about. `costly`: something may have been made, or answered, that costs money. */
export interface Doing {
  /** Behind "Could not", e.g. `create a batch job`. */
  what: string;
  costly: boolean;
}

/** What it means that `fetch` (or reading its body) threw. `sent: false` if the request certainly never left. */
export function thrownError({ what, costly }: Doing, thrown: unknown, sent: boolean): ProviderError {
  if (ProviderError.is(thrown)) return thrown;
  const failure = !sent || neverConnected(thrown) || !costly ? "unavailable" : "ambiguous";
  return new ProviderError(failure, bounded(`Could not ${what}: ${describeThrown(thrown)}.`, maxMessage), { cause: thrown });
}

/** No connection was made, so nothing was sent. A reset or a closed socket is not among them: it may come after the request. */
const beforeSending = new Set([
  ...["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT", "EPROTO"],
  ...["CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  ...["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "ERR_TLS_CERT_ALTNAME_INVALID"],
]);

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

/** What was thrown, in words for a message. */
export function describeThrown(thrown: unknown): string {
  if (!(thrown instanceof Error)) return "the transport failed";
  if (thrown.name === "TimeoutError") return "no answer in time";
  if (thrown.name === "AbortError") return "the call was aborted";
  const code = causeOf(thrown)?.code;
  if (typeof code === "string") return `the connection failed with ${code}`;
  return thrown instanceof TypeError ? "the connection failed" : scrub(thrown.message).replace(/\.$/, "");
}
