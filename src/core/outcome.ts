/**
 * What a row of a job's output means: delivered, failed, or asked again. One pure function, one table.
 *
 * A prompt is asked again exactly as it was; nothing here changes what the user wrote. Source: finish and block reasons of GenerateContentResponse, gRPC codes of row errors.
 *
 * @module
 */
import type { GembatchErrorCode, SerializedError } from "./errors.ts";
import type { Method, ResultRow, RowError } from "./provider.ts";
import { scrub } from "./scrub.ts";

/** What becomes of a row. `retries`: how many tries after the first this class of trouble is worth. */
export type RowOutcome =
  | { type: "deliver" }
  /** Ask again up to `retries` times, then deliver what came. */
  | { type: "retry_then_deliver"; retries: number; why: string }
  /** Ask again up to `retries` times, then fail. */
  | { type: "retry_then_fail"; retries: number; error: SerializedError }
  | { type: "fail"; error: SerializedError };

const deliver: RowOutcome = { type: "deliver" };

/** The whole table: what a line of a job's output means for the request that it names. */
export function outcomeOf(row: ResultRow, method: Method): RowOutcome {
  if ("problem" in row) return outcomeOfMissing(row.problem);
  if (row.error) return outcomeOfError(row.error);
  switch (method) {
    case "generateContent":
      return outcomeOfResponse(row.response);
    case "embedContent":
      return outcomeOfEmbedding(row.response);
    case "rawPredict":
      return outcomeOfRaw(row.response);
  }
}

// Rows without an answer ---------------------------------------------------------------------------------------------

/** gRPC codes: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE. */
const transientCodes = new Set([4, 8, 10, 13, 14]);
/** INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED. */
const permanentCodes = new Set([3, 5, 6, 7, 9, 11, 12, 16]);

/** A row that carries an error object; its code is a gRPC code or an HTTP status. Codes that say nothing are worth one more try. */
function outcomeOfError(error: RowError): RowOutcome {
  const { code } = error;
  if (code === 1 || code === 499) return retryThenFail(3, "request_cancelled", error);
  if (transientCodes.has(code) || code === 408 || code === 429 || (code >= 500 && code < 600))
    return retryThenFail(3, "request_failed", error);
  if (permanentCodes.has(code) || (code >= 400 && code < 500)) return { type: "fail", error: rowErrorOf("request_failed", error, false) };
  return retryThenFail(1, "request_failed", error);
}

/** A request without a usable row: the line was missing, null, or could not be read. */
export function outcomeOfMissing(why: string): RowOutcome {
  return {
    type: "retry_then_fail",
    retries: 2,
    error: serialized("request_missing", `The provider returned no answer for this request: ${scrub(why)}.`, true),
  };
}

// Answers ------------------------------------------------------------------------------------------------------------

const unspecifiedBlock = "BLOCKED_REASON_UNSPECIFIED";
/** Blocked for a reason that is none: another try may pass. Every other reason is final, and its input is billed each time. */
const unclearBlocks = new Set(["OTHER", unspecifiedBlock]);

/** Finish reasons that are worth another try, and how many. What is not here is for the chain to judge: blocked and truncated answers, and reasons of newer services. */
const retriesByFinish: ReadonlyMap<string, number> = new Map([
  ["RECITATION", 1],
  ["IMAGE_RECITATION", 1],
  ["OTHER", 1],
  ["IMAGE_OTHER", 1],
  ["NO_IMAGE", 1],
  ["MALFORMED_FUNCTION_CALL", 2],
  ["MALFORMED_RESPONSE", 2],
  ["UNEXPECTED_TOOL_CALL", 2],
]);

/** Finish reasons under which the answer must have content; an answer without a reason is judged alike. */
const finished = new Set(["STOP", "FINISH_REASON_UNSPECIFIED"]);

const emptyRetries = 2;

interface Candidate {
  finishReason?: unknown;
  content?: { parts?: unknown } | null;
}

/** An answer as the model gave it. Blocked, truncated and empty answers are answers; some are worth another try first. */
function outcomeOfResponse(response: unknown): RowOutcome {
  if (!isObject(response)) return outcomeOfMissing("its response is not an object");
  const { promptFeedback, candidates } = response;
  const blocked = isObject(promptFeedback) ? promptFeedback["blockReason"] : undefined;
  const given = Array.isArray(candidates) ? (candidates as unknown[]).filter(isObject) : [];
  if (typeof blocked === "string" && (blocked !== unspecifiedBlock || given.length === 0)) {
    return unclearBlocks.has(blocked) ? retryThenDeliver(1, `its prompt was blocked: ${blocked}`) : deliver;
  }
  // One good candidate of several is an answer.
  const outcomes = given.map(outcomeOfCandidate);
  return outcomes.find(({ type }) => type === "deliver") ?? outcomes[0] ?? retryThenDeliver(emptyRetries, "it has no candidate");
}

function outcomeOfCandidate({ finishReason, content }: Candidate): RowOutcome {
  if (typeof finishReason !== "string" || finished.has(finishReason)) {
    return hasContent(content?.parts) ? deliver : retryThenDeliver(emptyRetries, "it finished without content");
  }
  const retries = retriesByFinish.get(finishReason);
  return retries === undefined ? deliver : retryThenDeliver(retries, `finish reason ${finishReason}`);
}

/** Whether there is anything besides thoughts. */
function hasContent(parts: unknown): boolean {
  if (!Array.isArray(parts)) return false;
  return (parts as unknown[]).filter(isObject).some(({ thought, text, ...rest }) => {
    if (thought === true) return false;
    return (
      (typeof text === "string" && text !== "") ||
      Object.keys(rest).some((key) => key !== "thoughtSignature" && key !== "thought_signature")
    );
  });
}

/** An embedding without values is as empty as a text without content. */
function outcomeOfEmbedding(response: unknown): RowOutcome {
  if (!isObject(response)) return outcomeOfMissing("its response is not an object");
  const { embedding, embeddings } = response;
  const first: unknown = Array.isArray(embeddings) ? embeddings[0] : embedding;
  const values = isObject(first) ? first["values"] : undefined;
  return Array.isArray(values) && values.length > 0 ? deliver : retryThenDeliver(emptyRetries, "it has no embedding");
}

/**
 * An answer of another publisher's API is the chain's to judge, also one that was cut or refused (`stop_reason`, `finish_reason`): it is billed, and the same prompt would mostly
 * come to the same again.
 */
function outcomeOfRaw(response: unknown): RowOutcome {
  return isObject(response) ? deliver : outcomeOfMissing("its response is not an object");
}

// Parts --------------------------------------------------------------------------------------------------------------

function retryThenDeliver(retries: number, why: string): RowOutcome {
  return { type: "retry_then_deliver", retries, why };
}

function retryThenFail(retries: number, code: GembatchErrorCode, error: RowError): RowOutcome {
  return { type: "retry_then_fail", retries, error: rowErrorOf(code, error, true) };
}

function rowErrorOf(code: GembatchErrorCode, error: RowError, retryable: boolean): SerializedError {
  const status = error.status ? ` ${scrub(error.status)}` : "";
  return {
    ...serialized(code, `The provider failed this request (code ${error.code}${status}): ${scrub(error.message)}`, retryable),
    details: { providerCode: error.code },
  };
}

function serialized(code: GembatchErrorCode, message: string, retryable: boolean): SerializedError {
  return { code, name: "GembatchError", message, retryable };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
