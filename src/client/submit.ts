import type { Content, GenerateContentResponse, GenerationConfig, SafetySetting, Tool, ToolConfig } from "@google/genai";
import { checkCallOptions } from "../chain/call-options.ts";
import type { CallOptions, ChainContext } from "../chain/context.ts";
import type { Definition, Registry } from "../chain/definition.ts";
import { identifyPrompt, scopeOf, toRequest } from "../chain/requests.ts";
import { withRestSchema } from "../chain/typed-output.ts";
import { turnStorage } from "../chain/turn-scope.ts";
import { timeOrderedId } from "../core/clock.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { digest, toJson } from "../core/json.ts";
import type { Method, Provider } from "../core/provider.ts";
import type { NewRun } from "../core/store.ts";
import { checkRunId } from "./chain.ts";
import type { Session } from "./session.ts";
import { commitStart } from "./start-many.ts";

/** The REST body of generateContent. */
export interface GenerateContentRequest {
  contents: Content[];
  systemInstruction?: Content;
  generationConfig?: GenerationConfig;
  tools?: Tool[];
  toolConfig?: ToolConfig;
  safetySettings?: SafetySetting[];
  cachedContent?: string;
  labels?: Record<string, string>;
}

/** The REST body of embedContent. */
export interface EmbedContentRequest {
  content: Content;
  taskType?: string;
  title?: string;
  outputDimensionality?: number;
}

/**
 * The body of a model of another publisher on Vertex AI, in the form of its API: Anthropic's messages (`{ anthropic_version, max_tokens, messages }`), OpenAI's chat completions
 * (`{ messages }`). It travels unchanged, but for `model`.
 */
export interface RawRequest {
  messages: readonly unknown[];
  contents?: never;
  content?: never;
  [field: string]: unknown;
}

/** What `submit` takes. */
export type SubmitRequest = GenerateContentRequest | EmbedContentRequest | RawRequest;

/** A registered handler; `submit` names it, the store keeps its name. */
export interface Handler<Params> {
  readonly kind: "handler";
  readonly name: string;
  /** Never set: carries the type. */
  readonly params?: (params: Params) => void;
}

/**
 * Called once with a response and the params of its submit; what it submits and returns lands with it. `Response` is `EmbedContentResponse` for embeddings, and the JSON
 * of the publisher's API for models of other publishers.
 */
export type HandlerFunction<Params, Response extends object = GenerateContentResponse> = (
  response: Response,
  params: Params,
  context: ChainContext,
) => unknown;

export interface SubmitOptions extends CallOptions {
  /** Idempotence: the same id is submitted once. Default: a new id. */
  id?: string;
}

/** Queues one prompt whose response goes to a handler; returns the id of its run. */
export async function submit(
  session: Session,
  request: SubmitRequest,
  model: string,
  handler: Handler<never> | string,
  params: unknown,
  options: SubmitOptions = {},
): Promise<string> {
  if (typeof options !== "object" || options === null)
    throw new GembatchError("invalid_option", `Option submit options must be an object, got ${describe(options)}.`);
  const { id: givenId, ...callOptions } = options;
  checkCallOptions(callOptions);
  const definition = handlerDefinition(session.registry, handler);
  const turn = turnStorage.getStore()?.turn;
  const provider = session.parts.providers.choose({ named: callOptions.provider, ofDefinition: definition.provider });
  const method = methodOf(request, provider, checkModel(model));
  const text = toJson(typedRequest(definition, request, method), "The request");
  const prompt = { provider, model, method, text, options: callOptions };
  const identified = identifyPrompt(prompt);
  const prepared = toRequest(
    prompt,
    identified,
    turn ? scopeOf(turn, session.defaults) : { ...session.defaults, priority: 0, deadlineAt: undefined, now: session.parts.clock.now() },
  );
  const input = toJson(params, `The params of handler "${definition.name}"`);
  const run: NewRun = {
    id: givenId === undefined ? "" : checkRunId(givenId),
    kind: "handler",
    chain: definition.name,
    version: definition.version,
    input,
    fingerprint: digest(`${definition.name}\n${identified.fingerprint}\n${input}`),
    priority: prepared.priority,
    ...(prepared.deadlineAt === undefined ? {} : { deadlineAt: prepared.deadlineAt }),
    request: { key: identified.base, kind: "request", fingerprint: identified.fingerprint, request: prepared },
  };
  if (turn) {
    const base = `submit:${digest(`${run.fingerprint}\n${givenId ?? ""}`)}`;
    const value = turn.record("start", base, run.fingerprint, (key) => {
      const start = { ...run, id: givenId ?? turn.childId(key) };
      return { value: JSON.stringify(start.id), start };
    });
    return JSON.parse(value ?? '""') as string;
  }
  const { clock, random } = session.parts;
  const start = givenId === undefined ? { ...run, id: timeOrderedId(clock.now(), random) } : run;
  await commitStart(session, start);
  return start.id;
}

/** The request with the schema of its handler. */
function typedRequest({ typed, name }: Definition, request: SubmitRequest, method: Method): object {
  if (!typed) return request;
  if (method === "generateContent") return withRestSchema(request as GenerateContentRequest, typed.schema);
  const why = method === "embedContent" ? "an embedding is no JSON to validate" : "answers of other publishers' models are not validated";
  throw new GembatchError("invalid_argument", `The handler "${name}" has a schema, and ${why}.`, {
    hint: "Submit it to a handler without a schema.",
  });
}

function handlerDefinition(registry: Registry, handler: Handler<never> | string) {
  const name: unknown = typeof handler === "string" ? handler : handler?.name;
  if (typeof handler === "function") {
    throw new GembatchError("unknown_handler", `submit() was given ${describe(handler)} instead of a registered handler.`, {
      hint: 'Register it first: const output = gembatch.handler("output", async (response, params) => …). Only a name survives a restart.',
    });
  }
  const definition = typeof name === "string" ? registry.get(name) : undefined;
  if (definition?.kind === "handler") return definition;
  const known = registry.names("handler");
  throw new GembatchError("unknown_handler", `No handler ${typeof name === "string" ? `"${name}"` : describe(handler)} is registered.`, {
    hint: known.length === 0 ? "Register it with gembatch.handler(name, function)." : `Registered: ${known.join(", ")}.`,
  });
}

function methodOf(request: unknown, provider: Provider, model: string): Method {
  if (typeof request === "object" && request !== null && !Array.isArray(request)) {
    const { contents, content, messages } = request as { contents?: unknown; content?: unknown; messages?: unknown };
    // Whether it is of its publisher's form is for the provider to say.
    if (provider.methodOf?.(provider.normalizeModel(model)) === "rawPredict" || (Array.isArray(messages) && contents === undefined))
      return "rawPredict";
    if (Array.isArray(contents)) return "generateContent";
    if (typeof content === "object") return "embedContent";
  }
  throw new GembatchError(
    "invalid_argument",
    `A request needs "contents" (or "content" to embed, "messages" for models of other publishers), got ${describe(request)}.`,
    {
      hint: 'The shortest: { contents: [{ role: "user", parts: [{ text: "…" }] }] }.',
    },
  );
}

function checkModel(model: unknown): string {
  if (typeof model === "string" && model.trim() !== "") return model;
  throw new GembatchError("invalid_argument", `A model must be a name such as "gemini-2.5-flash", got ${describe(model)}.`);
}
