import { parseDuration, type Duration } from "../core/duration.ts";
import { GembatchError, describe } from "../core/errors.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import { tierChoices, type TierChoice } from "../core/tiers.ts";
import type { CacheOptions, CallOptions } from "./context.ts";

const prefix = "x-gembatch-";
const known = ["key", "on-change", "provider", "priority", "max-attempts", "tier", "deadline", "cache"];

/** Call options as headers, the form in which they pass through any SDK. */
export function toHeaders(options: CallOptions): Record<string, string> {
  checkCallOptions(options);
  const headers: Record<string, string> = {};
  if (options.key !== undefined) headers[`${prefix}key`] = encodeURIComponent(options.key);
  if (options.onChange !== undefined) headers[`${prefix}on-change`] = options.onChange;
  if (options.provider !== undefined) headers[`${prefix}provider`] = encodeURIComponent(options.provider);
  if (options.priority !== undefined) headers[`${prefix}priority`] = String(options.priority);
  if (options.retry?.maxAttempts !== undefined) headers[`${prefix}max-attempts`] = String(options.retry.maxAttempts);
  if (options.tier !== undefined) headers[`${prefix}tier`] = options.tier;
  if (options.deadline !== undefined) {
    headers[`${prefix}deadline`] = options.deadline instanceof Date ? options.deadline.toISOString() : String(options.deadline);
  }
  if (options.cache !== undefined) {
    const { scope, ttl } = options.cache;
    headers[`${prefix}cache`] = ttl === undefined ? scope : `${scope}; ttl=${ttl}`;
  }
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
        options.key = fromEncoded(header, value);
        break;
      case "provider":
        options.provider = fromEncoded(header, value);
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
      case "schema":
      case "repair":
        refuseTyped(name, `The header ${header}`);
        break;
      case "tier":
        options.tier = value as TierChoice;
        break;
      case "deadline":
        options.deadline = fromDeadlineText(value);
        break;
      case "cache":
        options.cache = fromCacheText(value);
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
  for (const name of ["schema", "repair"])
    if ((options as Record<string, unknown> | null)?.[name] !== undefined) refuseTyped(name, `Option ${name}`);
  refuseUnknown(options, ["key", "onChange", "provider", "priority", "retry", "tier", "deadline", "cache"], "call options");
  if (options.key !== undefined && (typeof options.key !== "string" || options.key === "" || !options.key.isWellFormed())) {
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
  if (options.provider !== undefined) checkProviderName(options.provider, "provider");
  if (options.priority !== undefined) checkPriority(options.priority);
  if (options.retry !== undefined) {
    refuseUnknown(options.retry, ["maxAttempts"], "retry");
    if (options.retry.maxAttempts !== undefined) parseCount(options.retry.maxAttempts, "retry.maxAttempts");
  }
  if (options.tier !== undefined) checkTier(options.tier);
  if (options.deadline !== undefined) checkDeadline(options.deadline);
  if (options.cache !== undefined) checkCache(options.cache);
}

export function checkProviderName(name: unknown, option: string): string {
  if (typeof name === "string" && name !== "" && name.isWellFormed()) return name;
  throw new GembatchError("invalid_option", `Option ${option} must be the name of a provider, got ${describe(name)}.`);
}

export function checkTier(tier: unknown): TierChoice {
  if (tierChoices.includes(tier as TierChoice)) return tier as TierChoice;
  throw new GembatchError("invalid_option", `Option tier must be "batch", "flex", "standard" or "auto", got ${describe(tier)}.`);
}

/** A deadline as users write it: a duration from now on, or an instant. */
export function checkDeadline(deadline: unknown): void {
  if (deadline instanceof Date) {
    if (!Number.isNaN(deadline.getTime())) return;
    throw new GembatchError("invalid_option", "Option deadline is an invalid Date.");
  }
  parseDuration(deadline as Duration, "deadline");
}

/** The instant of a prompt's deadline: its own or the run's, whichever is earlier. */
export function deadlineOf(
  deadline: Duration | Date | undefined,
  scope: { now: number; deadlineAt: number | undefined },
): number | undefined {
  if (deadline === undefined) return scope.deadlineAt;
  const at = deadline instanceof Date ? deadline.getTime() : scope.now + parseDuration(deadline, "deadline");
  return Math.min(at, scope.deadlineAt ?? Infinity);
}

function checkCache(cache: unknown): void {
  if (typeof cache !== "object" || cache === null) {
    throw new GembatchError("invalid_option", `Option cache must be { scope, ttl }, got ${describe(cache)}.`);
  }
  refuseUnknown(cache, ["scope", "ttl"], "cache");
  const { scope, ttl } = cache as CacheOptions;
  if (scope !== "run" && scope !== "store") {
    throw new GembatchError("invalid_option", `Option cache.scope must be "run" or "store", got ${describe(scope)}.`);
  }
  if (ttl === undefined) return;
  if (scope === "run")
    throw new GembatchError("invalid_option", 'Option cache.ttl is for the scope "store": within a run an answer never ends.');
  parseDuration(ttl, "cache.ttl");
}

function fromEncoded(header: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new GembatchError("invalid_option", `Header ${header} is not percent-encoded text.`, {
      hint: "Write encodeURIComponent(…).",
    });
  }
}

/** Texts of digits are milliseconds, other texts durations with a unit or instants. */
function fromDeadlineText(text: string): Duration | Date {
  return /^\d{4}-/.test(text) ? new Date(text) : fromDurationText(text);
}

function fromDurationText(text: string): Duration {
  return /^[\d.]+(?:e[+-]?\d+)?$/.test(text) ? Number(text) : (text as Duration);
}

function fromCacheText(text: string): CacheOptions {
  const [scope = "", ttl] = text.split(/;\s*ttl=/);
  return { scope: scope.trim() as CacheOptions["scope"], ...(ttl === undefined ? {} : { ttl: fromDurationText(ttl.trim()) }) };
}

/** A schema is code: it cannot be stored with a prompt, only named by what is registered. */
function refuseTyped(name: string, what: string): never {
  throw new GembatchError("invalid_option", `${what} has no meaning here.`, {
    hint:
      name === "repair"
        ? "It belongs beside `schema`."
        : "It is an option of models.generateContent(); for submitted prompts, of their handler: gembatch.handler(name, fn, { schema }).",
  });
}

export function checkPriority(priority: unknown): number {
  if (typeof priority === "number" && Number.isSafeInteger(priority) && Math.abs(priority) <= 1_000_000) return priority;
  throw new GembatchError("invalid_option", `Option priority must be a whole number, got ${describe(priority)}.`, {
    hint: "Higher goes first; the default is 0.",
  });
}
