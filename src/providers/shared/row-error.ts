import type { RowError } from "../../core/provider.ts";
import { scrub } from "../../core/scrub.ts";
import { isObject } from "./json.ts";

const codes = new Map<unknown, number>(
  Object.entries({
    ...{ CANCELLED: 1, UNKNOWN: 2, INVALID_ARGUMENT: 3, DEADLINE_EXCEEDED: 4, NOT_FOUND: 5, ALREADY_EXISTS: 6, PERMISSION_DENIED: 7 },
    ...{ RESOURCE_EXHAUSTED: 8, FAILED_PRECONDITION: 9, ABORTED: 10, OUT_OF_RANGE: 11, UNIMPLEMENTED: 12, INTERNAL: 13 },
    ...{ UNAVAILABLE: 14, DATA_LOSS: 15, UNAUTHENTICATED: 16 },
  }),
);

/** The gRPC number of a word such as `INTERNAL`. */
export function grpcCode(word: unknown): number | undefined {
  return codes.get(word);
}

/**
 * An error object of a row or a job, its texts scrubbed: a row that is refused is quoted. A code in words becomes its gRPC number; one that says nothing counts as 2
 * (UNKNOWN).
 */
export function toRowError(value: unknown): RowError | undefined {
  if (typeof value === "string") return value === "" || value === "OK" ? undefined : { code: codes.get(value) ?? 2, message: scrub(value) };
  if (!isObject(value)) return undefined;
  const { code, message, status } = value;
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
