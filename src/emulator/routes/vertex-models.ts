/**
 * Direct calls on Vertex AI: what the SDK calls in its enterprise mode.
 *
 * @module
 */
import { problemOfContent, problemOfPrompt } from "../rows.ts";
import { familyOf, predictionOf } from "../families.ts";
import { promptTokens } from "../prompt.ts";
import type { Service } from "../service.ts";
import { withExtras } from "../vertex-lines.ts";
import { isObject, parseBody, WireError, type JsonObject } from "../wire.ts";
import { jsonText, type Handler, type HttpContext } from "./context.ts";
import { askDirectly, direct } from "./direct.ts";
import { streamed } from "./models.ts";
import type { Target } from "./target.ts";

/** `publishers/google/models/x` is `x`, `publishers/p/models/x` is `p/x`; tuned models keep their resource name. 404 for what does not exist. */
export function shortModel(service: Service, name: string, version: string, method: string): string {
  const match = /^(?:projects\/[^/]+\/locations\/[^/]+\/)?publishers\/([^/]+)\/models\/([^/]+)$/.exec(name);
  const isTuned = /^(?:projects\/[^/]+\/locations\/[^/]+\/)?(?:models|endpoints)\/[^/]+$/.test(name);
  if (!match && !isTuned) throw new WireError("INVALID_ARGUMENT", `Invalid model resource name: ${JSON.stringify(name)}`);
  const [, publisher = "", model = ""] = match ?? [];
  const short = isTuned ? name : publisher === "google" ? model : `${publisher}/${model}`;
  if (isTuned || service.hasModel(short)) return short;
  throw new WireError(
    "NOT_FOUND",
    `Publisher Model \`${name}\` was not found or your project does not have access to it, or it does not support ${method} in version ${version}. ` +
      "Please ensure you are using a valid model version.",
  );
}

function modelOf(service: Service, target: Target): string {
  return shortModel(service, target.id, target.version, target.endpoint.slice("vertex.".length));
}

/** How a tier is asked for: `flex` or `priority` (docs.cloud.google.com, "Flex PayGo" and "Priority PayGo"). */
const tierHeader = "x-vertex-ai-llm-shared-request-type";

async function generate(service: Service, context: HttpContext, target: Target): Promise<JsonObject> {
  const model = modelOf(service, target);
  const request = parseBody(await context.req.text());
  const asked = familyOf(model).field === "request" ? familyOf("gemini").request(request) : undefined;
  const problem = asked !== undefined && "problem" in asked ? asked.problem : problemOfPrompt(request);
  if (problem !== undefined) throw new WireError("INVALID_ARGUMENT", problem);
  const tier = context.req.header(tierHeader)?.toLowerCase() ?? request.serviceTier;
  if (tier === "flex" && (target.names.location ?? "global") !== "global")
    throw new WireError("INVALID_ARGUMENT", "Flex is available on the global endpoint only.");
  const response = await askDirectly(service, { ...request, serviceTier: tier }, { model, method: "generateContent" });
  const { serviceTier, ...usageMetadata } = isObject(response.usageMetadata) ? response.usageMetadata : {};
  const suffix = serviceTier === "flex" || serviceTier === "priority" ? `_${serviceTier.toUpperCase()}` : "";
  return withExtras({ ...response, usageMetadata }, service.clock.now(), `ON_DEMAND${suffix}`);
}

const generateContent: Handler = async (service, context, target) => jsonText(JSON.stringify(await generate(service, context, target)));

const streamGenerateContent: Handler = async (service, context, target) => streamed(context, await generate(service, context, target));

const countTokens: Handler = async (service, context, target) => {
  modelOf(service, target);
  const totalTokens = promptTokens(parseBody(await context.req.text()));
  return jsonText(JSON.stringify({ totalTokens, promptTokensDetails: [{ modality: "TEXT", tokenCount: totalTokens }] }));
};

const embedContent: Handler = async (service, context, target) => {
  const model = modelOf(service, target);
  const request = parseBody(await context.req.text());
  const problem = problemOfContent(request.content, "content");
  if (problem !== undefined) throw new WireError("INVALID_ARGUMENT", problem);
  const { embedding } = await askDirectly(service, request, { model, method: "embedContent" });
  const tokens = promptTokens(request);
  return jsonText(JSON.stringify({ embedding, usageMetadata: { promptTokenCount: tokens, totalTokenCount: tokens } }));
};

/** Embeddings of older models: `{"instances":[{"content":"…"}],"parameters":{"outputDimensionality":8}}`. */
const predict: Handler = async (service, context, target) => {
  const model = modelOf(service, target);
  const body = parseBody(await context.req.text());
  const instances = Array.isArray(body.instances) ? body.instances.filter(isObject) : [];
  const parameters = isObject(body.parameters) ? body.parameters : {};
  if (instances.length === 0) throw new WireError("INVALID_ARGUMENT", "instances must not be empty.");
  const predictions = await Promise.all(
    instances.map(async ({ content }) => {
      const parts = isObject(content) ? content : { parts: [{ text: typeof content === "string" ? content : "" }] };
      const request = { content: parts, outputDimensionality: parameters.outputDimensionality };
      return predictionOf(request, await askDirectly(service, request, { model, method: "embedContent" }));
    }),
  );
  return jsonText(JSON.stringify({ predictions, metadata: { billableCharacterCount: 0 } }));
};

export const vertexModelHandlers = {
  "vertex.generateContent": direct(generateContent),
  "vertex.streamGenerateContent": direct(streamGenerateContent),
  "vertex.countTokens": countTokens,
  "vertex.embedContent": direct(embedContent),
  "vertex.predict": direct(predict),
} satisfies Record<string, Handler>;
