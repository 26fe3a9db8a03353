/**
 * What a failure of the clients of Cloud Storage and BigQuery means for a batch. Pure. Neither makes anything that costs money, so none of it is ambiguous.
 *
 * Both throw an `ApiError` with `code` (HTTP) and `errors[{reason,message}]`, or the error of the connection; a load job fails with `errors` alone.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";
import { ProviderError, type ProviderFailure } from "../../core/provider.ts";
import { bounded, scrub } from "../../core/scrub.ts";
import { describeThrown, maxMessage } from "../shared/http-errors.ts";
import { isLacking } from "./auth.ts";

export type Service = "Cloud Storage" | "BigQuery";

const roles: Record<Service, string> = {
  "Cloud Storage": "Check that these credentials have the role Storage Object Admin (roles/storage.objectAdmin) on the bucket.",
  BigQuery: "Check that these credentials have the roles BigQuery Data Editor on the dataset and BigQuery Job User in the project.",
};

/** Reasons that come as 403 or 400, or without an HTTP code, and mean: later. */
const laterReasons: ReadonlySet<unknown> = new Set(["rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded"]);
const brokenReasons: ReadonlySet<unknown> = new Set([
  "backendError",
  "internalError",
  "jobBackendError",
  "jobInternalError",
  "stopped",
  "timeout",
]);

/** `doing`: behind "Could not", e.g. `upload the input of a batch`. */
export function serviceError(service: Service, doing: string, thrown: unknown): Error {
  if (ProviderError.is(thrown) || GembatchError.is(thrown)) return thrown;
  const [failure, hint] = judge(service, thrown);
  const code = httpCode(thrown);
  const said = code === undefined ? wordsOf(thrown) : `${service} answered HTTP ${code}: ${wordsOf(thrown)}`;
  return new ProviderError(failure, bounded(`Could not ${doing}: ${said}.${hint ? ` ${hint}` : ""}`, maxMessage), {
    status: code,
    cause: thrown,
  });
}

function judge(service: Service, thrown: unknown): [ProviderFailure, hint?: string] {
  const reason = reasonOf(thrown);
  if (laterReasons.has(reason)) return ["throttled"];
  if (brokenReasons.has(reason)) return ["unavailable"];
  const code = httpCode(thrown);
  switch (code) {
    case 401:
    case 403:
      return ["denied", roles[service]];
    case 404:
      return ["missing"];
    case 429:
      return ["throttled"];
    case undefined:
      if (thrown instanceof Error && isLacking(thrown.message))
        return ["denied", "Run gcloud auth application-default login, or pass vertex({ authClient })."];
      if (reason === "accessDenied") return ["denied", roles[service]];
      if (reason === "notFound") return ["missing"];
      return [reason === "invalid" || reason === "invalidQuery" ? "refused" : "unavailable"];
    default:
      return [code >= 400 && code < 500 && code !== 408 && code !== 409 && code !== 412 ? "refused" : "unavailable"];
  }
}

/** The HTTP status of the answer; `undefined` if there was none. */
export function httpCode(thrown: unknown): number | undefined {
  const code = Number((thrown as { code?: unknown } | null)?.code);
  return Number.isInteger(code) && code >= 300 && code < 600 ? code : undefined;
}

function reasonOf(thrown: unknown): unknown {
  const { errors } = (thrown ?? {}) as { errors?: unknown };
  return Array.isArray(errors) ? (errors[0] as { reason?: unknown } | null | undefined)?.reason : undefined;
}

/** The message of the answer is a page, a JSON text or a sentence; the sentence alone is wanted. */
function wordsOf(thrown: unknown): string {
  const { errors } = (thrown ?? {}) as { errors?: unknown };
  const [first] = Array.isArray(errors) ? (errors as ({ message?: unknown } | null)[]) : [];
  const words = typeof first?.message === "string" ? scrub(first.message) : describeThrown(thrown);
  return words.replace(/\.$/, "");
}
