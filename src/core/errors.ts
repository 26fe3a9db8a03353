/**
 * The one error type of gembatch and its codes.
 *
 * @module
 */

/** What went wrong, as a stable word. The text of a message may change between versions; a code does not. */
export type GembatchErrorCode =
  // How gembatch was called
  | "invalid_option"
  | "invalid_argument"
  | "duplicate_name"
  | "unknown_handler"
  | "unknown_chain"
  | "not_serializable"
  | "request_too_large"
  | "outside_of_run"
  | "run_conflict"
  | "run_not_found"
  | "closed"
  // What became of a request
  | "request_refused"
  | "request_failed"
  | "request_expired"
  | "request_cancelled"
  | "request_missing"
  | "output_invalid"
  // What became of a run
  | "run_failed"
  | "run_cancelled"
  | "run_held"
  | "turn_timeout"
  | "too_many_entries"
  | "non_determinism"
  // Around us
  | "provider_auth"
  | "provider_error"
  | "budget_exceeded"
  | "batch_held"
  | "store_unavailable"
  | "store_corrupt"
  | "store_full"
  | "store_read_only"
  | "store_too_new"
  | "store_locked"
  | "codec_failed"
  | "payload_unavailable"
  | "payload_missing"
  | "aborted";

export interface GembatchErrorOptions {
  /** Whether the same call may succeed later without a change. Default `false`. */
  retryable?: boolean;
  /** What to do about it, as one sentence. */
  hint?: string;
  cause?: unknown;
  /** Facts for programs: ids, sizes, limits. Never keys or signed URLs; prompts and replies only where a code says so (`non_determinism`, `output_invalid`). */
  details?: Readonly<Record<string, unknown>>;
}

const marker = Symbol.for("gembatch.error");

/** Every failure that gembatch reports: what happened (`message`, `code`), whether it can be retried, what to do (`hint`). */
export class GembatchError extends Error {
  readonly code: GembatchErrorCode;
  readonly retryable: boolean;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: GembatchErrorCode, message: string, options: GembatchErrorOptions = {}) {
    super(options.hint ? `${message} ${options.hint}` : message, { cause: options.cause });
    this.name = "GembatchError";
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.hint = options.hint;
    this.details = options.details ?? {};
    Object.defineProperty(this, marker, { value: true });
  }

  /** Works across two installed copies of gembatch, where `instanceof` does not. */
  static is(value: unknown): value is GembatchError {
    return typeof value === "object" && value !== null && marker in value;
  }
}

/** An error as it is stored with a run or a request. */
export interface SerializedError {
  code: GembatchErrorCode;
  name: string;
  message: string;
  retryable: boolean;
  hint?: string;
  stack?: string;
  details?: Record<string, unknown>;
}

/** Anything thrown, as plain data. Errors of user code keep their own name and get `code` for the context they failed in. */
export function serializeError(thrown: unknown, code: GembatchErrorCode): SerializedError {
  if (GembatchError.is(thrown)) {
    return {
      code: thrown.code,
      name: thrown.name,
      message: thrown.message,
      retryable: thrown.retryable,
      ...(thrown.hint === undefined ? {} : { hint: thrown.hint }),
      ...(Object.keys(thrown.details).length === 0 ? {} : { details: { ...thrown.details } }),
      ...(thrown.stack === undefined ? {} : { stack: thrown.stack }),
    };
  }
  if (thrown instanceof Error) {
    return {
      code,
      name: thrown.name,
      message: thrown.message,
      retryable: false,
      ...(thrown.stack === undefined ? {} : { stack: thrown.stack }),
    };
  }
  return { code, name: "Error", message: `A value that is not an Error was thrown: ${describe(thrown)}`, retryable: false };
}

export function deserializeError(error: SerializedError): GembatchError {
  const message = error.hint && error.message.endsWith(error.hint) ? error.message.slice(0, -error.hint.length).trimEnd() : error.message;
  const result = new GembatchError(error.code, message, {
    retryable: error.retryable,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.details === undefined ? {} : { details: error.details }),
  });
  if (error.name !== "GembatchError") result.name = error.name;
  if (error.stack !== undefined) result.stack = error.stack;
  return result;
}

/** A short description of any value for an error message: its kind, never its content if it is long. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "string") return value.length > 60 ? `a string of ${value.length} characters` : JSON.stringify(value);
  if (typeof value === "function") return value.name ? `function ${value.name}` : "a function without a name";
  if (typeof value === "object")
    return Array.isArray(value) ? `an array of ${value.length}` : `a ${value.constructor?.name ?? "null-prototype"} object`;
  return typeof value === "symbol" ? value.toString() : `${value as number | boolean | bigint | undefined}`;
}
