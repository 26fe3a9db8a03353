/**
 * One prompt, answered at once: the flex and standard tiers.
 *
 * `POST {base}/{version}/models/{model}:generateContent` with `"serviceTier":"flex"` as a member of the request beside `contents`: that is where SDK 3.1.0 puts its
 * `config.serviceTier` (run against a local server). Standard is what a request without it gets, so nothing is said then.
 *
 * @module
 */
import { type DirectCall, ProviderError } from "../../core/provider.ts";
import { roundTrip } from "../shared/http.ts";
import { type Client, modelPath } from "./client.ts";
import { errorFromAnswer, errorsOf } from "./errors.ts";
import { decodeItem } from "./rows.ts";

/** The service gives up after 600 seconds unless it is asked to wait longer (ai.google.dev/gemini-api/docs/flex-inference); flex answers within 15 minutes. */
const serverTimeoutSeconds = 900;

/**
 * Asks once and gives the REST response as it came: `{candidates, usageMetadata, …}`, or `{embedding}` as in the rows of a job. The caller's signal is the only limit of
 * time. Throws ProviderError as the port says; a model that has no flex tier is `throttled` there, because its place is in a job, as that of a call that was shed.
 */
export async function callNow(client: Client, call: DirectCall): Promise<unknown> {
  const { lane, body, tier, signal } = call;
  const isFlex = tier === "flex";
  // The request of an embedding has no tier (SDK 3.1.0): it would be answered, and charged, as standard.
  if (isFlex && lane.method === "embedContent")
    throw withoutFlex("The prompt was not asked: embeddings have no flex tier, only batch and standard.");
  if (signal.aborted) throw new ProviderError("unavailable", "The prompt was not asked: the call was aborted before it was sent.");
  const headers = new Headers(client.headers());
  if (isFlex && !headers.has("x-server-timeout")) headers.set("x-server-timeout", String(serverTimeoutSeconds));
  const init = { method: "POST", headers, body: isFlex ? asFlex(body) : body, redirect: "manual" as const, signal };
  try {
    const url = client.url(`${modelPath(lane.model)}:${lane.method}`);
    const { json, text, response } = await roundTrip(errorsOf("ask"), client.settings.patientFetch, url, init);
    if (!isResponse(json)) throw errorFromAnswer("ask", { status: response.status, body: text });
    return json;
  } catch (thrown) {
    if (isFlex && ProviderError.is(thrown) && thrown.failure === "refused" && /\bflex\b|service[ _]?tier/i.test(thrown.message)) {
      throw withoutFlex(thrown.message, thrown.status);
    }
    throw thrown;
  }
}

function withoutFlex(message: string, status?: number): ProviderError {
  return new ProviderError("throttled", message, status === undefined ? {} : { status });
}

/** The body with the tier as its first member; every other character stays. */
function asFlex(body: string): string {
  const rest = body.slice(body.indexOf("{") + 1).trimStart();
  return `{"serviceTier":"flex"${rest.startsWith("}") ? "" : ","}${rest}`;
}

/** By the rules for a row of a job, so that both are routed alike; `error` beside it would be one. */
function isResponse(value: unknown): boolean {
  return decodeItem({ key: "direct", response: value }).response !== undefined && !Object.hasOwn(value as object, "error");
}
