import { GembatchError, describe } from "../core/errors.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import type { CallOptions } from "./context.ts";

const prefix = "x-gembatch-";
const known = ["key", "on-change", "priority", "max-attempts"];

/** Call options as headers, the form in which they pass through any SDK. */
export function toHeaders(options: CallOptions): Record<string, string> {
  checkCallOptions(options);
  const headers: Record<string, string> = {};
  if (options.key !== undefined) headers[`${prefix}key`] = encodeURIComponent(options.key);
  if (options.onChange !== undefined) headers[`${prefix}on-change`] = options.onChange;
  if (options.priority !== undefined) headers[`${prefix}priority`] = String(options.priority);
  if (options.retry?.maxAttempts !== undefined) headers[`${prefix}max-attempts`] = String(options.retry.maxAttempts);
  return headers;
}

/** The call options in a request's headers; unknown `x-gembatch-…` names are refused. */
export function fromHeaders(headers: Headers): CallOptions {
  const options: CallOptions = {};
  for (const [header, value] of headers) {
    if (!header.startsWith(prefix)) continue;
    const name = header.slice(prefix.length);
    switch (name) {
      case "key":
        options.key = decodeURIComponent(value);
        break;
      case "on-change":
        options.onChange = value as NonNullable<CallOptions["onChange"]>;
        break;
      case "priority":
        options.priority = Number(value);
        break;
      case "max-attempts":
        options.retry = { maxAttempts: Number(value) };
        break;
      default:
        throw new GembatchError("invalid_option", `Unknown header ${header}.`, {
          hint: `Known: ${known.map((item) => prefix + item).join(", ")}.`,
        });
    }
  }
  checkCallOptions(options);
  return options;
}

export function checkCallOptions(options: CallOptions): void {
  refuseUnknown(options, ["key", "onChange", "priority", "retry"], "call options");
  if (options.key !== undefined && (typeof options.key !== "string" || options.key === "")) {
    throw new GembatchError("invalid_option", `Option key must be a text, got ${describe(options.key)}.`);
  }
  if (options.onChange !== undefined && !["reuse", "redo", "fail"].includes(options.onChange)) {
    throw new GembatchError("invalid_option", `Option onChange must be "reuse", "redo" or "fail", got ${describe(options.onChange)}.`);
  }
  if (options.onChange !== undefined && options.key === undefined) {
    throw new GembatchError("invalid_option", "Option onChange needs a key.", {
      hint: "Without a key the prompt itself is the key, so an edited prompt is always asked anew.",
    });
  }
  if (options.priority !== undefined) checkPriority(options.priority);
  if (options.retry !== undefined) {
    refuseUnknown(options.retry, ["maxAttempts"], "retry");
    if (options.retry.maxAttempts !== undefined) parseCount(options.retry.maxAttempts, "retry.maxAttempts");
  }
}

export function checkPriority(priority: unknown): number {
  if (typeof priority === "number" && Number.isSafeInteger(priority) && Math.abs(priority) <= 1_000_000) return priority;
  throw new GembatchError("invalid_option", `Option priority must be a whole number, got ${describe(priority)}.`, {
    hint: "Higher goes first; the default is 0.",
  });
}
