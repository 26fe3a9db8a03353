import { GembatchError, deserializeError } from "../core/errors.ts";
import { estimateTokens } from "../core/estimate.ts";
import { parseDuration } from "../core/duration.ts";
import { canonicalJson, digest } from "../core/json.ts";
import { laneCall } from "../core/keys.ts";
import { estimateUsd, outputLimitOf, type Price } from "../core/pricing.ts";
import type { Lane, Method, Provider } from "../core/provider.ts";
import type { Entry, NewRequest } from "../core/store.ts";
import { atTier, type TierChoice } from "../core/tiers.ts";
import { deadlineOf } from "./call-options.ts";
import type { CallOptions } from "./context.ts";
import type { Turn } from "./turn.ts";

/** A prompt as it was called, before it is a request. */
export interface Prompt {
  provider: Provider;
  model: string;
  method: Method;
  /** The REST body. */
  text: string;
  options: CallOptions;
}

/** What every prompt of a gembatch is sent with unless it says something else. */
export interface RequestDefaults {
  maxAttempts: number;
  tier: TierChoice;
  prices: readonly Price[];
}

/** The same for one run, and the time. */
export interface RequestScope extends RequestDefaults {
  priority: number;
  /** When the run's answers are wanted. */
  deadlineAt: number | undefined;
  now: number;
}

/** How long a shared answer is used if nothing is said. */
const defaultCacheTtl = "1d";

export interface PreparedRequest {
  /** Identifies the prompt by its content. */
  base: string;
  fingerprint: string;
  request: NewRequest;
}

/** Validates a prompt, sizes it and gives it its key. Throws what no retry can mend. */
export function prepareRequest(prompt: Prompt, scope: RequestScope): PreparedRequest {
  const { provider, method, options } = prompt;
  // The tier is the lane's, and so is the model: neither belongs into a batch row.
  const { serviceTier, model: _model, ...body } = parseBody(prompt.text);
  const tier = options.tier ?? tierOf(serviceTier) ?? scope.tier;
  const call: Lane = { provider: provider.name, model: provider.normalizeModel(prompt.model), method };
  const lane = atTier(call, tierFor(method, tier));
  const canonical = canonicalJson(body);
  const bytes = Buffer.byteLength(canonical);
  if (bytes > provider.limits.maxRequestBytes) {
    throw new GembatchError(
      "request_too_large",
      `A request of ${bytes} bytes for ${lane.model} is over the limit of ${provider.limits.maxRequestBytes}.`,
      {
        hint: "Upload large media once and refer to them by URI, or split the prompt.",
        details: { bytes, limit: provider.limits.maxRequestBytes },
      },
    );
  }
  const fingerprint = digest(`${laneCall(lane)}\n${canonical}`);
  const tokens = estimateTokens(canonical);
  const maxOutputTokens = outputLimitOf(body);
  const usd = estimateUsd(
    { model: lane.model, tokens, ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }) },
    scope.now,
    scope.prices,
  );
  const deadlineAt = deadlineOf(options.deadline, scope);
  return {
    // Behind a "#" stands the count of a key that is asked more than once.
    base: options.key === undefined ? fingerprint : `k:${options.key.replaceAll(/[%#]/g, encodeURIComponent)}`,
    fingerprint,
    request: {
      lane,
      body: JSON.stringify(body),
      bytes,
      tokens,
      ...(usd === undefined ? {} : { usd }),
      priority: options.priority ?? scope.priority,
      maxAttempts: options.retry?.maxAttempts ?? scope.maxAttempts,
      ...(deadlineAt === undefined ? {} : { deadlineAt }),
      ...(options.cache?.scope === "store"
        ? { cache: { key: fingerprint, ttlMs: parseDuration(options.cache.ttl ?? defaultCacheTtl, "cache.ttl") } }
        : {}),
    },
  };
}

/** The tier that a request body of the SDK names, in any spelling of the service. */
function tierOf(serviceTier: unknown): TierChoice | undefined {
  const word = typeof serviceTier === "string" ? serviceTier.toLowerCase().replace(/^service_tier_/, "") : "";
  return word === "flex" || word === "standard" ? word : undefined;
}

/** Embeddings have no flex tier; jobs cost them the same. */
function tierFor(method: Method, tier: TierChoice): TierChoice {
  return method === "embedContent" && (tier === "flex" || tier === "auto") ? "batch" : tier;
}

/**
 * Sends a prompt as a request of this turn's run; resolves with the raw REST response text, rejects with the typed failure. Not an async function: what
 * waits for the answer must not keep the prompt in memory.
 */
export function sendPrompt(turn: Turn, prompt: Prompt, defaults: RequestDefaults): Promise<string> {
  const { text, model, method, options } = prompt;
  // A prompt without a name is recognised by the digest of its very text, which is cheaper than the canonical one and enough at a replay.
  const raw = options.key === undefined ? digest(`${model}:${method}\n${text}`) : undefined;
  const known = raw === undefined ? undefined : turn.baseOf(raw);
  if (known !== undefined) {
    const create = () => ({ entry: { request: prepareRequest(prompt, scopeOf(turn, defaults)).request } });
    if (options.cache?.scope === "run") return turn.waitOnce(known, () => turn.wait("request", known, raw!, create)).then(answerText);
    return turn.wait("request", known, raw!, create).then(answerText);
  }
  const { base, fingerprint, request } = prepareRequest(prompt, scopeOf(turn, defaults));
  const onChange = raw === undefined ? (options.onChange ?? "reuse") : undefined;
  const wait = () => turn.wait("request", base, raw ?? fingerprint, () => ({ entry: { request } }), onChange);
  return (options.cache?.scope === "run" ? turn.waitOnce(base, wait) : wait()).then(answerText);
}

/** What a prompt of this turn is sent with unless it says something else. */
export function scopeOf(turn: Turn, defaults: RequestDefaults): RequestScope {
  const { priority, deadlineAt } = turn.run;
  return { ...defaults, tier: turn.definition.tier ?? defaults.tier, priority, deadlineAt, now: turn.now() };
}

export function parseBody(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw new GembatchError("invalid_argument", "The body of a prompt must be a JSON object.");
}

/** The REST response of a settled request, with ids where the model left function calls without one. */
export function answerText(entry: Entry): string {
  if (entry.error) throw deserializeError(entry.error);
  const value = entry.value ?? "null";
  return value.includes('"functionCall"') ? withFunctionCallIds(value, entry.key) : value;
}

/** SDKs invent random ids for calls without one, and the next prompt would differ at every replay. */
function withFunctionCallIds(value: string, key: string): string {
  const response = JSON.parse(value) as { candidates?: { content?: { parts?: { functionCall?: { id?: string } }[] } }[] };
  let n = 0;
  for (const candidate of response.candidates ?? []) {
    for (const { functionCall } of candidate.content?.parts ?? []) {
      if (!functionCall) continue;
      functionCall.id ??= `call_${digest(`${key}\n${n}`).slice(0, 16)}`;
      n += 1;
    }
  }
  return JSON.stringify(response);
}
