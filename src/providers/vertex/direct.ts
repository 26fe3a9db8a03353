/**
 * One prompt, answered at once: the flex and standard tiers.
 *
 * `POST {endpoint}/{version}/{model}:generateContent`. Flex is asked for by headers: `X-Vertex-AI-LLM-Shared-Request-Type: flex`, and `X-Vertex-AI-LLM-Request-Type: shared` so that no
 * provisioned throughput is used; the global endpoint alone has it (docs.cloud.google.com, "Flex PayGo"). A `serviceTier` in the body is refused, or ignored and charged as standard
 * (python-genai#2847, measured 2026-08). Standard is what a request without the headers gets.
 *
 * @module
 */
import { type DirectCall, type Method, ProviderError } from "../../core/provider.ts";
import { roundTrip } from "../shared/http.ts";
import { isObject, type JsonObject } from "../shared/json.ts";
import { type Client, modelResource } from "./client.ts";
import { embedRequest, isAskedByPredict, predictRequest, predictResponse } from "./embeddings.ts";
import { errorFromAnswer, errorsOf } from "./errors.ts";
import { familyOf } from "./models.ts";
import { contentRequest, decodeItem } from "./rows.ts";

/** How long the service works on a flex call; it allows up to 30 minutes, and flex answers within 15. */
const serverTimeoutSeconds = 900;
const flexHeaders = {
  "x-vertex-ai-llm-request-type": "shared",
  "x-vertex-ai-llm-shared-request-type": "flex",
  "x-server-timeout": String(serverTimeoutSeconds),
};

/**
 * Asks once and gives the REST response as it came; that of an older embedding model in the form of the newer ones. The caller's signal is the only limit of time. Throws ProviderError as the port says; what has no flex tier (embeddings, other locations than
 * `global`) is `throttled` there, because its place is in a job, as that of a call that was shed. Models of other publishers have calls of their own, and are `refused`.
 */
export async function callNow(client: Client, call: DirectCall): Promise<unknown> {
  const { lane, body, tier, signal } = call;
  const isFlex = tier === "flex";
  if (familyOf(lane.model) !== "google") {
    throw new ProviderError("refused", `The prompt was not asked: ${lane.model} is answered in batch jobs only.`);
  }
  if (isFlex && lane.method === "embedContent")
    throw withoutFlex("The prompt was not asked: embeddings have no flex tier, only batch and standard.");
  if (isFlex && client.settings.location !== "global")
    throw withoutFlex(`The prompt was not asked: location ${client.settings.location} has no flex tier, only global has.`);
  if (signal.aborted) throw new ProviderError("unavailable", "The prompt was not asked: the call was aborted before it was sent.");
  const byPredict = lane.method === "embedContent" && isAskedByPredict(lane.model);
  const url = client.url(`${modelResource(client, lane.model)}:${byPredict ? "predict" : lane.method}`);
  const headers = new Headers(await client.headers(url));
  for (const [name, value] of Object.entries(isFlex ? flexHeaders : {})) if (!headers.has(name)) headers.set(name, value);
  const init = { method: "POST", headers, body: written(lane.method, byPredict, body), redirect: "manual" as const, signal };
  try {
    const { json, text, response } = await roundTrip(errorsOf("ask"), client.settings.patientFetch, url, init);
    const answer = byPredict ? predictResponse(json) : json;
    if (!isResponse(answer)) throw errorFromAnswer("ask", { status: response.status, body: text });
    return answer;
  } catch (thrown) {
    if (isFlex && ProviderError.is(thrown) && thrown.failure === "refused" && /\bflex\b|shared[- ]request/i.test(thrown.message)) {
      throw withoutFlex(thrown.message, thrown.status);
    }
    throw thrown;
  }
}

function withoutFlex(message: string, status?: number): ProviderError {
  return new ProviderError("throttled", message, status === undefined ? {} : { status });
}

function written(method: Method, byPredict: boolean, body: string): string {
  const request = JSON.parse(body) as JsonObject;
  if (method === "generateContent") return JSON.stringify(contentRequest(request));
  return JSON.stringify(byPredict ? predictRequest(request) : embedRequest(request, "direct"));
}

/** By the rules for a row of a job, so that both are routed alike. */
function isResponse(value: unknown): boolean {
  return isObject(value) && !Object.hasOwn(value, "error") && decodeItem({ key: "direct", response: value }).response !== undefined;
}
