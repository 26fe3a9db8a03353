import { GembatchError, deserializeError } from "../core/errors.ts";
import { estimateTokens } from "../core/estimate.ts";
import { parseDuration } from "../core/duration.ts";
import { canonicalJson, digest } from "../core/json.ts";
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

/** What tells a prompt from others. */
interface IdentifiedPrompt {
  /** Identifies it within its scope, by its content or by its `key`. */
  base: string;
  /** Digest of its content, whatever its `key`. */
  fingerprint: string;
  call: Lane;
  serviceTier: unknown;
  /** REST, as it is sent. */
  body: Record<string, unknown>;
  canonical: string;
}

/**
 * Gives a prompt its key. The provider is part of it only if the prompt names one: when the configuration changes to another default provider, runs find the
 * answers that they have, while equal prompts to two named providers are two. `raw`: the digest of the text as it is, if it is known.
 */
export function identifyPrompt(prompt: Prompt, raw?: string): IdentifiedPrompt {
  const { provider, model, method, text, options } = prompt;
  // The tier is the lane's, and so is the model: neither belongs into a batch row. The rest of a raw body is its publisher's.
  const { model: _model, ...given } = parseBody(text);
  const { serviceTier, ...untiered } = given;
  const isRaw = method === "rawPredict";
  const body = isRaw ? given : untiered;
  const call: Lane = { provider: provider.name, model: provider.normalizeModel(model), method };
  const canonical = canonicalJson(body);
  const isSame = raw !== undefined && canonical === text && call.model === model;
  const fingerprint = isSame ? raw : digestOf(prompt, call.model, canonical);
  // Behind a "#" stands the count of a key that is asked more than once.
  const base = options.key === undefined ? fingerprint : `k:${options.key.replaceAll(/[%#]/g, encodeURIComponent)}`;
  return { base, fingerprint, call, serviceTier: isRaw ? undefined : serviceTier, body, canonical };
}

/** What tells a prompt of this text to this model from others. */
function digestOf({ method, options }: Prompt, model: string, text: string): string {
  return digest(`${namedProvider(options)}${model}:${method}\n${text}`);
}

const namedProvider = ({ provider }: CallOptions): string => (provider === undefined ? "" : `${provider}\n`);

/** Validates a prompt, sizes it and finds its lane. Throws what no retry can mend. */
export function toRequest(prompt: Prompt, identified: IdentifiedPrompt, scope: RequestScope): NewRequest {
  const { provider, options } = prompt;
  const { body, canonical, fingerprint } = identified;
  checkMethod(provider, identified.call, body);
  const tier = tierFor(identified.call, options.tier ?? tierOf(identified.serviceTier) ?? scope.tier);
  const bytes = Buffer.byteLength(canonical);
  if (bytes > provider.limits.maxRequestBytes) {
    throw new GembatchError(
      "request_too_large",
      `A request of ${bytes} bytes for ${identified.call.model} is over the limit of ${provider.limits.maxRequestBytes}.`,
      {
        hint: "Upload large media once and refer to them by URI, or split the prompt.",
        details: { bytes, limit: provider.limits.maxRequestBytes },
      },
    );
  }
  const lane = laneOf(provider, atTier(identified.call, tier), body);
  const tokens = estimateTokens(canonical);
  const maxOutputTokens = outputLimitOf(body);
  const usd = estimateUsd(
    { model: lane.model, tokens, ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }) },
    scope.now,
    scope.prices,
  );
  const deadlineAt = deadlineOf(options.deadline, scope);
  return {
    lane,
    body: canonical === prompt.text ? canonical : JSON.stringify(body),
    bytes,
    tokens,
    ...(usd === undefined ? {} : { usd }),
    priority: options.priority ?? scope.priority,
    maxAttempts: options.retry?.maxAttempts ?? scope.maxAttempts,
    ...(deadlineAt === undefined ? {} : { deadlineAt }),
    ...(options.cache?.scope === "store"
      ? { cache: { key: fingerprint, ttlMs: parseDuration(options.cache.ttl ?? defaultCacheTtl, "cache.ttl") } }
      : {}),
  };
}

/** The lane with its shape. The provider sees the tier: what is called directly need not be fit for a job. */
function laneOf(provider: Provider, lane: Lane, body: Readonly<Record<string, unknown>>): Lane {
  const shape = provider.checkRequest?.(lane, body).shape;
  return shape === undefined ? lane : { ...lane, shape };
}

/** The tier that a request body of the SDK names, in any spelling of the service. */
function tierOf(serviceTier: unknown): TierChoice | undefined {
  const word = typeof serviceTier === "string" ? serviceTier.toLowerCase().replace(/^service_tier_/, "") : "";
  return word === "flex" || word === "standard" ? word : undefined;
}

/** Embeddings have no flex tier; jobs cost them the same. Models of other publishers have jobs only, and what asks for a faster answer must not wait for one unawares. */
function tierFor({ method, model }: Lane, tier: TierChoice): TierChoice {
  switch (method) {
    case "generateContent":
      return tier;
    case "embedContent":
      return tier === "flex" || tier === "auto" ? "batch" : tier;
    case "rawPredict":
      if (tier === "batch" || tier === "auto") return "batch";
      throw new GembatchError(
        "request_refused",
        `A request for ${model} cannot go at the ${tier} tier: models of other publishers are asked in batch jobs only.`,
        {
          hint: 'Say tier: "batch" for this prompt (or its chain), or leave the tier out.',
        },
      );
  }
}

/** Throws `request_refused` for a call that its model does not take, and for streams of other publishers' models. */
function checkMethod(provider: Provider, { model, method }: Lane, body: Readonly<Record<string, unknown>>): void {
  const isForeign = provider.methodOf?.(model) === "rawPredict";
  if (method === "rawPredict" && !isForeign) {
    throw new GembatchError(
      "request_refused",
      `${model} is no model of another publisher at the provider "${provider.name}", so it takes no requests in the form of one.`,
      {
        hint: "Ask it by generateContent; models of other publishers, such as publishers/anthropic/models/…, are with vertex().",
      },
    );
  }
  if (method !== "rawPredict" && isForeign) {
    throw new GembatchError("request_refused", `${model} takes requests in the form of its publisher, not ${method}.`, {
      hint: "Submit a body of that form, or call its own URL on the context's fetch.",
    });
  }
  if (method === "rawPredict" && body["stream"] === true) throw withoutStream(model);
}

/** A stream would have to be written in the events of each publisher. */
export function withoutStream(model: string): GembatchError {
  return new GembatchError("request_refused", `A request for ${model} cannot be streamed: its answer comes whole, from a batch job.`, {
    hint: "Call it without streaming.",
  });
}

/**
 * Sends a prompt as a request of this turn's run; resolves with the raw REST response text, rejects with the typed failure. Not an async function: what
 * waits for the answer must not keep the prompt in memory.
 */
export function sendPrompt(turn: Turn, prompt: Prompt, defaults: RequestDefaults): Promise<string> {
  const { options } = prompt;
  // A prompt without a key is recognised by the digest of its very text, which is cheaper than the canonical one and enough at a replay.
  const raw = options.key === undefined ? digestOf(prompt, prompt.model, prompt.text) : undefined;
  const known = raw === undefined ? undefined : turn.baseOf(raw);
  let identified: IdentifiedPrompt | undefined;
  const identify = () => (identified ??= identifyPrompt(prompt, raw));
  const base = known ?? identify().base;
  // Only a prompt that is new to the run has to be one that can be sent: the others were.
  const create = () => ({ entry: { request: toRequest(prompt, identify(), scopeOf(turn, defaults)) } });
  const onChange = raw === undefined ? (options.onChange ?? "reuse") : undefined;
  const wait = () => turn.wait("request", base, raw ?? identify().fingerprint, create, onChange);
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
