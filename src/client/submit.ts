import type {
  Content,
  EmbedContentResponse,
  GenerateContentResponse,
  GenerationConfig,
  SafetySetting,
  Tool,
  ToolConfig,
} from "@google/genai";
import { checkCallOptions } from "../chain/call-options.ts";
import type { CallOptions, ChainContext } from "../chain/context.ts";
import type { Definition, Registry } from "../chain/definition.ts";
import { identifyPrompt, scopeOf, toRequest } from "../chain/requests.ts";
import { withRestSchema } from "../chain/typed-output.ts";
import { turnStorage } from "../chain/turn-scope.ts";
import { timeOrderedId } from "../core/clock.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { digest, toJson } from "../core/json.ts";
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

/** A registered handler; `submit` names it, the store keeps its name. */
export interface Handler<Params> {
  readonly kind: "handler";
  readonly name: string;
  /** Never set: carries the type. */
  readonly params?: (params: Params) => void;
}

/** Called once with a response and the params of its submit; what it submits and returns lands with it. */
export type HandlerFunction<Params, Response extends GenerateContentResponse | EmbedContentResponse = GenerateContentResponse> = (
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
  request: GenerateContentRequest | EmbedContentRequest,
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
  const prompt = {
    provider: session.parts.providers.choose({ named: callOptions.provider, ofDefinition: definition.provider }),
    model: checkModel(model),
    method: methodOf(request),
    text: toJson(typedRequest(definition, request), "The request"),
    options: callOptions,
  };
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
function typedRequest(definition: Definition, request: GenerateContentRequest | EmbedContentRequest): object {
  if (!definition.typed) return request;
  if ("contents" in request) return withRestSchema(request, definition.typed.schema);
  throw new GembatchError("invalid_argument", `The handler "${definition.name}" has a schema, and an embedding is no JSON to validate.`, {
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

function methodOf(request: unknown): "generateContent" | "embedContent" {
  if (typeof request === "object" && request !== null) {
    if (Array.isArray((request as { contents?: unknown }).contents)) return "generateContent";
    if (typeof (request as { content?: unknown }).content === "object") return "embedContent";
  }
  throw new GembatchError("invalid_argument", `A request needs "contents" (or "content" to embed), got ${describe(request)}.`, {
    hint: 'The shortest: { contents: [{ role: "user", parts: [{ text: "…" }] }] }.',
  });
}

function checkModel(model: unknown): string {
  if (typeof model === "string" && model.trim() !== "") return model;
  throw new GembatchError("invalid_argument", `A model must be a name such as "gemini-2.5-flash", got ${describe(model)}.`);
}
