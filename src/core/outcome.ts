/**
 * What a row of a job's output means: delivered, failed, or asked again. One pure function, one table.
 *
 * @module
 */
import type { GembatchErrorCode, SerializedError } from "./errors.ts";
import type { RowError } from "./provider.ts";

/** What becomes of a row. `retries`: how many tries after the first this class of trouble is worth. */
export type RowOutcome =
  | { type: "deliver" }
  /** Ask again up to `retries` times, then deliver what came. */
  | { type: "retry_then_deliver"; retries: number; why: string }
  /** Ask again up to `retries` times, then fail. */
  | { type: "retry_then_fail"; retries: number; error: SerializedError }
  | { type: "fail"; error: SerializedError };

/** gRPC and HTTP codes that pass by themselves. */
const transientCodes = new Set([4, 8, 10, 13, 14, 408, 429]);

/** A row that carries an error object. */
export function outcomeOfError(error: RowError): RowOutcome {
  const { code } = error;
  if (transientCodes.has(code) || (code >= 500 && code < 600)) return retryThenFail(3, "request_failed", error, true);
  if (code === 1 || code === 499) return retryThenFail(3, "request_cancelled", error, true);
  if (code === 2) return retryThenFail(1, "request_failed", error, true);
  return { type: "fail", error: rowErrorOf("request_failed", error, false) };
}

/** A request without a usable row: the line was missing, null, or could not be read. */
export function outcomeOfMissing(why: string): RowOutcome {
  return {
    type: "retry_then_fail",
    retries: 2,
    error: serialized("request_missing", `The provider returned no answer for this request: ${why}.`, true),
  };
}

/** An answer as the model gave it. Blocked, truncated and empty answers are answers; some are worth another try first. */
export function outcomeOfResponse(response: unknown): RowOutcome {
  if (typeof response !== "object" || response === null) return outcomeOfMissing("its response was null");
  const { promptFeedback, candidates } = response as {
    promptFeedback?: { blockReason?: string };
    candidates?: { finishReason?: string; content?: { parts?: unknown[] } }[];
  };
  const blocked = promptFeedback?.blockReason;
  if (blocked !== undefined && blocked !== "BLOCKED_REASON_UNSPECIFIED") {
    return blocked === "OTHER" ? { type: "retry_then_deliver", retries: 1, why: "prompt blocked: OTHER" } : { type: "deliver" };
  }
  const candidate = Array.isArray(candidates) ? candidates[0] : undefined;
  if (candidate === undefined) return { type: "deliver" };
  switch (candidate.finishReason) {
    case "STOP":
      return hasContent(candidate.content?.parts)
        ? { type: "deliver" }
        : { type: "retry_then_deliver", retries: 2, why: "finished without content" };
    case "OTHER":
    case "IMAGE_OTHER":
    case "NO_IMAGE":
      return { type: "retry_then_deliver", retries: 1, why: `finish reason ${candidate.finishReason}` };
    case "MALFORMED_FUNCTION_CALL":
    case "MALFORMED_RESPONSE":
    case "UNEXPECTED_TOOL_CALL":
      return { type: "retry_then_deliver", retries: 2, why: `finish reason ${candidate.finishReason}` };
    default:
      // Blocked and truncated answers are for the chain to judge; finish reasons of newer services are never ours to drop.
      return { type: "deliver" };
  }
}

/** Whether there is anything besides thoughts. */
function hasContent(parts: unknown[] | undefined): boolean {
  if (!Array.isArray(parts)) return false;
  return parts.some((part) => {
    if (typeof part !== "object" || part === null) return false;
    const { thought, text, ...rest } = part as { thought?: boolean; text?: string; thoughtSignature?: string };
    if (thought === true) return false;
    return (typeof text === "string" && text !== "") || Object.keys(rest).some((key) => key !== "thoughtSignature");
  });
}

function retryThenFail(retries: number, code: GembatchErrorCode, error: RowError, retryable: boolean): RowOutcome {
  return { type: "retry_then_fail", retries, error: rowErrorOf(code, error, retryable) };
}

function rowErrorOf(code: GembatchErrorCode, error: RowError, retryable: boolean): SerializedError {
  const status = error.status ? ` ${error.status}` : "";
  return {
    ...serialized(code, `The provider failed this request (code ${error.code}${status}): ${error.message}`, retryable),
    details: { providerCode: error.code },
  };
}

function serialized(code: GembatchErrorCode, message: string, retryable: boolean): SerializedError {
  return { code, name: "GembatchError", message, retryable };
}
