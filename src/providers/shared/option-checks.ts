/**
 * Checks of a provider's options: what is wrong is refused with `invalid_option`, by name.
 *
 * @module
 */
import { describe, GembatchError } from "../../core/errors.ts";
import type { ProviderLimits } from "../../core/provider.ts";

export function checkNames(given: object, names: readonly string[], where: string): void {
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new GembatchError("invalid_option", `${where} takes an object of options, got ${describe(given)}.`);
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    throw new GembatchError("invalid_option", `${where} has no option ${JSON.stringify(name)}.`, { hint: `It knows ${names.join(", ")}.` });
  }
}

export function checkText(name: string, value: unknown): void {
  // The value is not shown: it may be the key.
  if (value !== undefined && (typeof value !== "string" || value.trim() === "")) {
    throw new GembatchError("invalid_option", `Option ${name} must be a text that is not empty.`);
  }
}

export function checkHeaders(headers: unknown): Record<string, string> {
  if (headers === undefined) return {};
  if (typeof headers !== "object" || headers === null || Array.isArray(headers)) refuse("headers", "an object of names and texts", headers);
  try {
    return Object.fromEntries(new Headers(headers as Record<string, string>));
  } catch {
    // The values are not shown: there may be keys among them.
    throw new GembatchError("invalid_option", "Option headers has a name or a value that cannot be an HTTP header.");
  }
}

export function checkOneOf(name: string, value: unknown, allowed: readonly unknown[]): void {
  if (value !== undefined && !allowed.includes(value))
    refuse(name, `one of ${allowed.map((item) => JSON.stringify(item)).join(", ")}`, value);
}

export function checkFetch(value: unknown): void {
  if (value !== undefined && typeof value !== "function") refuse("fetch", "a function", value);
}

/** A positive number of bytes. Default 256 MiB. */
export function checkLineBytes(value: number | undefined): number {
  const maxLineBytes = value ?? 256 * 1024 * 1024;
  if (!(typeof maxLineBytes === "number" && maxLineBytes > 0)) refuse("maxLineBytes", "a positive number", maxLineBytes);
  return maxLineBytes;
}

export function refuse(name: string, expected: string, value: unknown): never {
  throw new GembatchError("invalid_option", `Option ${name} must be ${expected}, got ${describe(value)}.`);
}

/** The URL without slashes at its end. */
export function toBaseUrl(name: string, text: string): string {
  const url = URL.parse(text.trim());
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) refuse(name, "an http or https URL without a query", text);
  return url.href.replace(/\/+$/, "");
}

export function isLoopback(url: URL): boolean {
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
}

export function fromEnv(name: string): string | undefined {
  return process.env[name]?.trim() || undefined;
}

/** Overrides of single limits. `enqueuedTokens`: for all models, per model (others keep what is published), or `false` for none. */
export interface LimitOverrides {
  maxRequests?: number;
  maxBytes?: number;
  maxRequestBytes?: number;
  maxJobs?: number;
  enqueuedTokens?: number | Readonly<Record<string, number>> | false;
}

const knownLimits = ["maxRequests", "maxBytes", "maxRequestBytes", "maxJobs", "enqueuedTokens"] as const;

/** The published limits with the overrides in place. `where`: for messages, e.g. `gemini({ limits })`. Throws `invalid_option` for a limit that is no positive number. */
export function overrideLimits(overrides: LimitOverrides, published: ProviderLimits, where: string): ProviderLimits {
  checkNames(overrides, knownLimits, where);
  for (const name of ["maxRequests", "maxBytes", "maxRequestBytes", "maxJobs"] as const) checkPositive(`limits.${name}`, overrides[name]);
  const tokens = overrides.enqueuedTokens;
  if (typeof tokens === "object" && tokens !== null && !Array.isArray(tokens))
    for (const model of Object.keys(tokens)) checkPositive(`limits.enqueuedTokens["${model}"]`, tokens[model]);
  else if (tokens !== false) checkPositive("limits.enqueuedTokens", tokens);
  return {
    maxRequests: overrides.maxRequests ?? published.maxRequests,
    maxBytes: overrides.maxBytes ?? published.maxBytes,
    maxRequestBytes: overrides.maxRequestBytes ?? published.maxRequestBytes,
    maxJobs: overrides.maxJobs ?? published.maxJobs,
    enqueuedTokens(model) {
      if (tokens === false) return undefined;
      if (typeof tokens === "number") return tokens;
      if (tokens && Object.hasOwn(tokens, model)) return tokens[model];
      return published.enqueuedTokens(model);
    },
  };
}

function checkPositive(name: string, value: unknown): void {
  if (value === undefined || (typeof value === "number" && value > 0)) return;
  throw new GembatchError("invalid_option", `Option ${name} must be a positive number, got ${describe(value)}.`);
}
