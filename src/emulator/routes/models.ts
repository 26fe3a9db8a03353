import { promptTokens } from "../prompt.ts";
import { embeddingOf } from "../embeddings.ts";
import { problemOfContent, problemOfPrompt } from "../rows.ts";
import type { Service } from "../service.ts";
import { isObject, modelError, parseBody, WireError, type JsonObject } from "../wire.ts";
import { isEmbeddingModel } from "./batches.ts";
import { jsonText, type Handler, type HttpContext } from "./context.ts";
import { askDirectly, direct } from "./direct.ts";
import type { Target } from "./target.ts";

/** What ListModels shows; other names that look like models work too. */
const shownModels = [
  "gemini-3.8-flash",
  "gemini-3.7-flash",
  "gemini-3.6-flash",
  "gemini-3.5-flash",
  "gemini-3.5-flash-lite",
  "gemini-3.1-pro-preview",
  "gemini-3.1-flash-lite",
  "gemini-2.5-pro",
  "gemini-2.5-flash",
  "gemini-2.5-flash-lite",
  "gemini-embedding-001",
  "gemini-embedding-2",
];

function modelBody(model: string): JsonObject {
  const embeds = isEmbeddingModel(model);
  return {
    name: `models/${model}`,
    version: "001",
    displayName: model.replaceAll("-", " ").replace(/\b[a-z]/g, (letter) => letter.toUpperCase()),
    inputTokenLimit: embeds ? 2_048 : 1_048_576,
    outputTokenLimit: embeds ? 1 : 65_536,
    supportedGenerationMethods: embeds
      ? ["embedContent", "countTokens", "asyncBatchEmbedContent"]
      : ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"],
  };
}

const listModels: Handler = (service) => {
  const { models } = service.options;
  const names = Array.isArray(models)
    ? (models as string[]).map((model) => model.replace(/^models\//, ""))
    : shownModels.filter((model) => service.hasModel(model));
  return jsonText(JSON.stringify({ models: names.map(modelBody) }));
};

const getModel: Handler = (service, _, { id, version }) => {
  if (!service.hasModel(id)) throw modelError(id, version, "getModel");
  return jsonText(JSON.stringify(modelBody(id)));
};

async function generate(service: Service, context: HttpContext, { id: model, version, endpoint }: Target): Promise<JsonObject> {
  const verb = endpoint.slice("models.".length);
  if (!service.hasModel(model) || isEmbeddingModel(model)) throw modelError(model, version, verb);
  const request = parseBody(await context.req.text());
  const problem = problemOfPrompt(request);
  if (problem !== undefined) throw new WireError("INVALID_ARGUMENT", `* GenerateContentRequest.${problem}\n`);
  return askDirectly(service, request, { model, method: "generateContent" });
}

const generateContent: Handler = async (service, context, target) => jsonText(JSON.stringify(await generate(service, context, target)));

/** Server-sent events with `alt=sse`, otherwise one JSON array. */
export function streamed(context: HttpContext, response: JsonObject): Response {
  const pieces = piecesOf(response).map((piece) => JSON.stringify(piece));
  if (context.req.query("alt") !== "sse") return jsonText(`[${pieces.join(",\n")}]`);
  const events = pieces.map((piece) => `data: ${piece}\r\n\r\n`).join("");
  return new Response(events, { headers: { "content-type": "text/event-stream" } });
}

const streamGenerateContent: Handler = async (service, context, target) => streamed(context, await generate(service, context, target));

/** The response as a stream sends it: the text in three parts, the finish reason with the last. */
function piecesOf(response: JsonObject): JsonObject[] {
  const candidate = Array.isArray(response.candidates) ? (response.candidates[0] as JsonObject | undefined) : undefined;
  const content = isObject(candidate?.content) ? candidate.content : undefined;
  const parts = Array.isArray(content?.parts) ? (content.parts as JsonObject[]) : [];
  const last = parts.at(-1);
  if (candidate === undefined || typeof last?.text !== "string" || last.thought === true) return [response];
  const characters = [...last.text];
  const third = Math.ceil(characters.length / 3) || 1;
  const texts = [0, 1, 2].map((i) => characters.slice(i * third, (i + 1) * third).join("")).filter((text, i) => i === 0 || text !== "");
  const { finishReason, finishMessage, ...open } = candidate;
  return texts.map((text, i) => {
    const isLast = i === texts.length - 1;
    const shown = [...(i === 0 ? parts.slice(0, -1) : []), { ...last, text }];
    return {
      ...response,
      candidates: [
        {
          ...open,
          content: { ...content, parts: shown },
          ...(isLast ? { finishReason, ...(finishMessage === undefined ? {} : { finishMessage }) } : {}),
        },
      ],
    };
  });
}

const countTokens: Handler = async (service, context, { id: model, version }) => {
  if (!service.hasModel(model)) throw modelError(model, version, "countTokens");
  const body = parseBody(await context.req.text());
  const request = isObject(body.generateContentRequest) ? body.generateContentRequest : body;
  const totalTokens = promptTokens(request);
  return jsonText(JSON.stringify({ totalTokens, promptTokensDetails: [{ modality: "TEXT", tokenCount: totalTokens }] }));
};

async function embed(service: Service, request: JsonObject, model: string, version: string, name: string): Promise<JsonObject> {
  if (!service.hasModel(model) || !isEmbeddingModel(model)) throw modelError(model, version, name);
  const problem = problemOfContent(request.content, "content");
  if (problem !== undefined) throw new WireError("INVALID_ARGUMENT", `* EmbedContentRequest.${problem}\n`);
  const response = await askDirectly(service, request, { model, method: "embedContent" });
  return (response.embedding as JsonObject | undefined) ?? { ...embeddingOf(request, model, service.seed) };
}

const embedContent: Handler = async (service, context, { id, version }) => {
  const request = parseBody(await context.req.text());
  return jsonText(JSON.stringify({ embedding: await embed(service, request, id, version, "embedContent") }));
};

const batchEmbedContents: Handler = async (service, context, { id, version }) => {
  const body = parseBody(await context.req.text());
  if (!service.hasModel(id) || !isEmbeddingModel(id)) throw modelError(id, version, "batchEmbedContents");
  const requests = Array.isArray(body.requests) ? body.requests.filter(isObject) : [];
  if (requests.length === 0)
    throw new WireError("INVALID_ARGUMENT", "* BatchEmbedContentsRequest.requests: at least one request is required\n");
  const embeddings = await Promise.all(requests.map((request) => embed(service, request, id, version, "batchEmbedContents")));
  return jsonText(JSON.stringify({ embeddings }));
};

export const modelHandlers = {
  "models.list": listModels,
  "models.get": getModel,
  "models.generateContent": direct(generateContent),
  "models.streamGenerateContent": direct(streamGenerateContent),
  "models.embedContent": direct(embedContent),
  "models.batchEmbedContents": direct(batchEmbedContents),
  "models.countTokens": countTokens,
} satisfies Record<string, Handler>;
