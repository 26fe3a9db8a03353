import { GembatchError, deserializeError } from "../core/errors.ts";
import { estimateTokens } from "../core/estimate.ts";
import { canonicalJson, digest } from "../core/json.ts";
import { laneName } from "../core/keys.ts";
import type { Lane, Method, Provider } from "../core/provider.ts";
import type { Entry, NewEntry } from "../core/store.ts";
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

export interface PreparedRequest {
  /** Identifies the prompt by its content. */
  base: string;
  fingerprint: string;
  request: NonNullable<NewEntry["request"]>;
}

/** Validates a prompt, sizes it and gives it its key. Throws what no retry can mend. */
export function prepareRequest(prompt: Prompt, defaults: { priority: number; maxAttempts: number }): PreparedRequest {
  const { provider, method, options } = prompt;
  // The tier is ours to choose, and the model is the lane's: neither belongs into a batch row.
  const { serviceTier: _tier, model: _model, ...body } = parseBody(prompt.text);
  const lane: Lane = { provider: provider.name, model: provider.normalizeModel(prompt.model), method };
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
  const fingerprint = digest(`${laneName(lane)}\n${canonical}`);
  return {
    base: options.key === undefined ? fingerprint : `k:${options.key}`,
    fingerprint,
    request: {
      lane,
      body: JSON.stringify(body),
      bytes,
      tokens: estimateTokens(canonical),
      priority: options.priority ?? defaults.priority,
      maxAttempts: options.retry?.maxAttempts ?? defaults.maxAttempts,
    },
  };
}

/**
 * Sends a prompt as a request of this turn's run; resolves with the raw REST response text, rejects with the typed failure. Not an async function: what
 * waits for the answer must not keep the prompt in memory.
 */
export function sendPrompt(turn: Turn, prompt: Prompt, maxAttempts: number): Promise<string> {
  const { text, model, method, options } = prompt;
  // A prompt without a name is recognised by the digest of its very text, which is cheaper than the canonical one and enough at a replay.
  const raw = options.key === undefined ? digest(`${model}:${method}\n${text}`) : undefined;
  const known = raw === undefined ? undefined : turn.baseOf(raw);
  if (known !== undefined) {
    const create = () => ({ entry: { request: prepareRequest(prompt, defaultsOf(turn, maxAttempts)).request } });
    return turn.wait("request", known, raw!, create).then(answerText);
  }
  const { base, fingerprint, request } = prepareRequest(prompt, defaultsOf(turn, maxAttempts));
  const onChange = raw === undefined ? (options.onChange ?? "reuse") : undefined;
  return turn.wait("request", base, raw ?? fingerprint, () => ({ entry: { request } }), onChange).then(answerText);
}

function defaultsOf(turn: Turn, maxAttempts: number): { priority: number; maxAttempts: number } {
  return { priority: turn.run.priority, maxAttempts };
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
