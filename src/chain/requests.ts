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
  /** The parsed REST body. */
  body: Record<string, unknown>;
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
  const { serviceTier: _tier, model: _model, ...body } = prompt.body;
  const lane: Lane = { provider: provider.name, model: provider.normalizeModel(prompt.model), method };
  const canonical = canonicalJson(body);
  const bytes = Buffer.byteLength(canonical);
  if (bytes > provider.limits.maxRequestBytes) {
    throw new GembatchError("request_too_large", `A request of ${bytes} bytes for ${lane.model} is over the limit of ${provider.limits.maxRequestBytes}.`, {
      hint: "Upload large media once and refer to them by URI, or split the prompt.",
      details: { bytes, limit: provider.limits.maxRequestBytes },
    });
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

/** Sends a prompt as a request of this turn's run; resolves with the raw REST response text, rejects with the typed failure. */
export async function sendPrompt(turn: Turn, prompt: Prompt, maxAttempts: number): Promise<string> {
  const { base, fingerprint, request } = prepareRequest(prompt, { priority: turn.run.priority, maxAttempts });
  const entry = await turn.wait("request", base, fingerprint, () => ({ entry: { request } }), prompt.options.onChange ?? "reuse");
  return answerText(entry);
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
