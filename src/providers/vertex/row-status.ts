/**
 * Why a row failed: the text in `status`, or an error in place of the answer. Pure.
 *
 * @module
 */
import type { RowError } from "../../core/provider.ts";
import { scrub } from "../../core/scrub.ts";
import { isObject, type JsonObject } from "../shared/json.ts";
import { grpcCode, toRowError } from "../shared/row-error.ts";

/** gRPC codes of texts without JSON in them. Any other text is code 2 (UNKNOWN), worth one more try. */
const codesByText: readonly (readonly [RegExp, number])[] = [
  [/^bad request|invalid argument/i, 3],
  [/^unauthori[sz]ed|unauthenticated/i, 16],
  [/^forbidden|permission denied/i, 7],
  [/^not found/i, 5],
  [/^too many requests|resource exhausted|quota/i, 8],
  [/cancell?ed/i, 1],
  [/internal/i, 13],
  [/unavailable|overloaded/i, 14],
  [/deadline|time(?:d )?out/i, 4],
];

/** Words in errors of Anthropic's API, as HTTP codes. */
const codesByType: ReadonlyMap<unknown, number> = new Map(
  Object.entries({
    ...{ invalid_request_error: 400, authentication_error: 401, permission_error: 403, not_found_error: 404, request_too_large: 413 },
    ...{ rate_limit_error: 429, api_error: 500, timeout_error: 504, overloaded_error: 529 },
  }),
);

/**
 * The error of an output row: in `status`, in `error`, or as its answer. A row that was answered has none, whatever its status says; a row with a status and an empty answer
 * failed (gemini-batch.md 3.3).
 */
export function rowErrorOf(item: JsonObject, response: unknown): RowError | undefined {
  const inAnswer = isObject(response) ? answerError(response) : undefined;
  if (inAnswer) return inAnswer;
  const envelope = isObject(item["response"]) ? item["response"]["status_code"] : undefined;
  if (typeof envelope === "number" && envelope >= 400) return { code: envelope, message: "" };
  if (isObject(response) && Object.keys(response).length > 0) return undefined;
  const { status, error } = item;
  return (
    (typeof status === "string" ? parseStatus(status) : toRowError(status)) ??
    (typeof error === "string" ? parseStatus(error) : toRowError(error))
  );
}

/** `{"type":"error","error":{type,message}}` of Anthropic, `{"error":{…}}` of OpenAI and Google. */
function answerError(response: JsonObject): RowError | undefined {
  const { error } = response;
  if (!isObject(error) || "candidates" in response || "choices" in response || "content" in response) return undefined;
  const code = codesByType.get(error["type"]);
  const parsed = toRowError(error);
  return parsed && code !== undefined ? { ...parsed, code } : parsed;
}

/**
 * `Bad Request: {"error": {"code": 400, "message": "…", "status": "INVALID_ARGUMENT"}}`: words, then JSON. Without JSON, or with one that was cut, the words decide. Empty: no error.
 */
export function parseStatus(status: string): RowError | undefined {
  const text = status.trim();
  if (text === "" || text === "OK") return undefined;
  const start = text.indexOf("{");
  const words = (start === -1 ? text : text.slice(0, start)).replace(/[\s:]+$/, "");
  if (start !== -1) {
    const error = parseJson(text.slice(start));
    if (error) return { ...error, message: error.message || scrub(words) };
    const code = /"code"\s*:\s*(\d{1,3})\b/.exec(text)?.[1];
    if (code !== undefined) return { code: Number(code), message: scrub(words) };
  }
  return { code: codesByText.find(([pattern]) => pattern.test(words))?.[1] ?? 2, message: scrub(words) };
}

function parseJson(text: string): RowError | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    const error = isObject(parsed) ? toRowError(parsed["error"] ?? parsed) : undefined;
    // The code is that of HTTP; its word says more.
    return error && { ...error, code: grpcCode(error.status) ?? error.code };
  } catch {
    return undefined;
  }
}
