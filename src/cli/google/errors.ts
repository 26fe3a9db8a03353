/**
 * What Google's APIs refuse, in words: `provider_auth` for rights and credentials, `provider_error` for all else, with `status`, `reason` and `service` as details.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";
import { scrub } from "../../core/scrub.ts";

/** The error envelope of Google's APIs (google.rpc.Status); Cloud Storage and BigQuery have `errors[].reason` instead of details. */
interface ErrorBody {
  error?: {
    code?: number;
    message?: string;
    status?: string;
    details?: readonly { "@type"?: string; reason?: string; metadata?: Record<string, string> }[];
    errors?: readonly { reason?: string }[];
  };
}

const passing = new Set([408, 429, 500, 502, 503, 504]);

/** `status`: of HTTP; `undefined` for an operation that failed, whose code is one of gRPC. */
export function refusalOf(host: string, status: number | undefined, body: unknown): GembatchError {
  const { error = {} } = (typeof body === "object" && body !== null ? body : {}) as ErrorBody;
  const info = error.details?.find((detail) => detail["@type"]?.endsWith("google.rpc.ErrorInfo"));
  const message = scrub(error.message ?? "It said nothing more.");
  const isDisabled =
    info?.reason === "SERVICE_DISABLED" ||
    error.errors?.[0]?.reason === "accessNotConfigured" ||
    (status === 403 && /has not been used in project|it is disabled/.test(error.message ?? ""));
  const reason = isDisabled ? "SERVICE_DISABLED" : (info?.reason ?? error.errors?.[0]?.reason ?? error.status);
  const denied = status === 401 || status === 403;
  const what = isDisabled ? `The API ${info?.metadata?.["service"] ?? host} is not enabled.` : `${host}: ${message}`;
  return new GembatchError(denied ? "provider_auth" : "provider_error", `${what}${status === undefined ? "" : ` (HTTP ${status})`}`, {
    retryable: status !== undefined && passing.has(status),
    ...hintOf(status, isDisabled, info?.metadata?.["service"] ?? host),
    details: { status, reason, service: host },
  });
}

function hintOf(status: number | undefined, isDisabled: boolean, host: string): { hint?: string } {
  if (isDisabled) return { hint: `Run: gcloud services enable ${host}` };
  if (status === 401) return { hint: "Run: gcloud auth application-default login" };
  if (status === 403) return { hint: "These credentials lack a role: an owner of the project can run this, or grant it." };
  return {};
}

export function unreachable(host: string, cause: unknown): GembatchError {
  const timedOut = (cause as { name?: unknown } | undefined)?.name === "TimeoutError";
  const why = timedOut ? "it did not answer in time" : "no connection";
  return new GembatchError("provider_error", `${host} cannot be reached: ${why}.`, {
    retryable: true,
    hint: "Check the network. `gembatch init --offline` does what needs none.",
    cause,
    details: { reason: "UNREACHABLE", service: host },
  });
}

const detail = (error: unknown, name: "status" | "reason"): unknown => (GembatchError.is(error) ? error.details[name] : undefined);

export const isNotFound = (error: unknown): boolean => detail(error, "status") === 404;
/** Somebody else changed it in between: 409 of IAM, 412 of Cloud Storage and BigQuery. */
export const isConflict = (error: unknown): boolean => [409, 412].includes(Number(detail(error, "status")));
export const isDenied = (error: unknown): boolean => [401, 403].includes(Number(detail(error, "status"))) && !isDisabled(error);
export const isDisabled = (error: unknown): boolean => detail(error, "reason") === "SERVICE_DISABLED";
export const isUnreachable = (error: unknown): boolean => detail(error, "reason") === "UNREACHABLE";

/** A policy names an account that does not exist, or not everywhere yet. */
export const isMissingMember = (error: unknown): boolean =>
  detail(error, "status") === 400 && error instanceof Error && /does not exist/.test(error.message);

/** The value, or `undefined` for what is not there. */
export async function ifFound<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
