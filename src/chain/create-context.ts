import type { GenerateContentParameters, GenerateContentResponse, Models } from "@google/genai";
import { parseDuration, type Duration } from "../core/duration.ts";
import { GembatchError, describe } from "../core/errors.ts";
import { canonicalJson, digest, toJson } from "../core/json.ts";
import type { Logger } from "../core/log.ts";
import { toHeaders } from "./call-options.ts";
import type { BatchModels, CallOptions, Callable, ChainContext, TypedOptions } from "./context.ts";
import type { Registry } from "./definition.ts";
import { entryValue } from "./entry-value.ts";
import type { Turn } from "./turn.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { turnStorage } from "./turn-scope.ts";
import { completeOutput, conversationOf, parseTypedOutput, repairKey, withConversation, withResponseSchema } from "./typed-output.ts";

/** What every context of a gembatch shares. */
export interface ContextParts {
  /** The official SDK's models of the provider of this name (default: the first one), on the batch fetch of the current turn. */
  modelsOf: (provider: string | undefined) => Models;
  /** The same for embeddings, in the form of the Gemini API whoever is asked: one request a content is what rows of embedding jobs hold. */
  embeddingsOf: (provider: string | undefined) => Pick<Models, "embedContent">;
  /** The batch fetch for other SDKs, bound to one turn. */
  createFetch: (turn: Turn) => typeof globalThis.fetch;
  registry: Registry;
  log: Logger;
}

/** The context of one turn. */
export function createContext(turn: Turn, parts: ContextParts): ChainContext {
  return new TurnContext(turn, parts);
}

/** A waiting turn stays in memory: what its code takes from the context, also by destructuring, is made then. A closure for each member would be a quarter of it. */
class TurnContext implements ChainContext {
  readonly #turn: Turn;
  readonly #parts: ContextParts;
  #models: BatchModels | undefined;
  #fetch: typeof globalThis.fetch | undefined;
  #log: Logger | undefined;

  constructor(turn: Turn, parts: ContextParts) {
    this.#turn = turn;
    this.#parts = parts;
  }

  get models(): BatchModels {
    return (this.#models ??= createModels(this.#parts, this.#turn));
  }

  get fetch(): typeof globalThis.fetch {
    return (this.#fetch ??= this.#parts.createFetch(this.#turn));
  }

  get step(): ChainContext["step"] {
    const turn = this.#turn;
    return async <T>(name: string, fn: () => T | Promise<T>) => {
      if (typeof name !== "string" || name === "")
        throw new GembatchError("invalid_argument", `A step needs a name, got ${describe(name)}.`);
      return (await turn.step(name, fn)) as T;
    };
  }

  get call(): ChainContext["call"] {
    const turn = this.#turn;
    const { registry } = this.#parts;
    return async <Input, Output>(chain: Callable<Input, Output>, input: Input) =>
      entryValue(await waitForChild(turn, registry, chain, input)) as Output;
  }

  get map(): ChainContext["map"] {
    const { call } = this;
    return async <Input, Output>(chain: Callable<Input, Output>, inputs: readonly Input[]) =>
      Promise.all(inputs.map(async (input) => call(chain, input)));
  }

  get sleep(): ChainContext["sleep"] {
    const turn = this.#turn;
    return async (duration: Duration) => {
      const ms = parseDuration(duration, "sleep");
      await turn.wait("sleep", "z", "", () => ({ entry: { wakeAt: turn.now() + ms } }));
    };
  }

  get now(): ChainContext["now"] {
    const turn = this.#turn;
    return () => Number(turn.record("now", "n", "", () => ({ value: String(turn.now()) })) ?? turn.now());
  }

  get random(): ChainContext["random"] {
    const turn = this.#turn;
    return () => turn.random();
  }

  get scope(): ChainContext["scope"] {
    const turn = this.#turn;
    return async <T>(name: string, fn: () => Promise<T>) => {
      const prefix = turnStorage.getStore()?.prefix ?? "";
      return turnStorage.run({ turn, prefix: `${prefix}${encodeURIComponent(name)}/`, inStep: false }, fn);
    };
  }

  get run(): ChainContext["run"] {
    const { id, chain, attempts } = this.#turn.run;
    return { id, chain, attempt: attempts + 1 };
  }

  get signal(): AbortSignal {
    return this.#turn.signal;
  }

  get log(): Logger {
    return (this.#log ??= runLogger(this.#parts.log, this.#turn));
  }
}

/**
 * The official models with our options as a second argument; they travel to the fetch as headers. Each prompt is converted by the models of its own
 * provider; what is no prompt goes to those of the chain.
 */
function createModels({ modelsOf, embeddingsOf }: Pick<ContextParts, "modelsOf" | "embeddingsOf">, turn: Turn): BatchModels {
  const ofDefinition = turn.definition.provider;
  const models = (options: CallOptions | undefined): Models => modelsOf(options?.provider ?? ofDefinition);
  const ask: Ask = async (params, options) => inTurn(turn, () => models(options).generateContent(withOptions(params, options)));
  const own: Pick<BatchModels, "generateContent" | "generateContentStream" | "embedContent"> & { __proto__: Models } = {
    __proto__: modelsOf(ofDefinition),
    generateContent: ((params: GenerateContentParameters, options?: CallOptions & Partial<TypedOptions<StandardSchemaV1>>) =>
      options?.schema === undefined
        ? ask(params, options)
        : askTyped(ask, params, { ...options, schema: options.schema })) as BatchModels["generateContent"],
    generateContentStream: async (params, options) =>
      inTurn(turn, () => models(options).generateContentStream(withOptions(params, options))),
    embedContent: async (params, options) =>
      inTurn(turn, () => embeddingsOf(options?.provider ?? ofDefinition).embedContent(withOptions(params, options))),
  };
  return own as unknown as BatchModels;
}

type Ask = (params: GenerateContentParameters, options?: CallOptions) => Promise<GenerateContentResponse>;

/** Asks until a reply fits the schema. Each try is an ordinary prompt of the run, so a replay finds it. */
async function askTyped(ask: Ask, params: GenerateContentParameters, options: CallOptions & TypedOptions<StandardSchemaV1>) {
  const { schema, repair, ...call } = options;
  const typed = parseTypedOutput({ schema, repair });
  const prompt = withResponseSchema(params, schema);
  const first = await ask(prompt, call);
  return completeOutput(first, typed, (turns, tries) => {
    const conversation = conversationOf(params, first);
    const key = repairKey(call.key, [params.model, conversation, turns[0]], tries);
    return ask(withConversation(prompt, [...conversation, ...turns]), { ...call, key });
  });
}

/**
 * Calls the SDK in the turn of this context, wherever the call comes from: an emitter or a pool may have lost the async context. Nothing awaits here: what waits for an answer stays in
 * memory, so every frame counts.
 */
function inTurn<T>(turn: Turn, call: () => Promise<T>): Promise<T> {
  return turnStorage.getStore()?.turn === turn ? call() : turnStorage.run({ turn, prefix: "", inStep: false }, call);
}

function withOptions<P extends { config?: { httpOptions?: { headers?: Record<string, string> } } }>(
  params: P,
  options: CallOptions | undefined,
): P {
  if (options === undefined) return params;
  const headers = { ...params.config?.httpOptions?.headers, ...toHeaders(options) };
  return { ...params, config: { ...params.config, httpOptions: { ...params.config?.httpOptions, headers } } };
}

function waitForChild(turn: Turn, registry: Registry, chain: Callable<never, unknown>, input: unknown) {
  const definition = registry.get(chain.name);
  if (!definition) {
    throw new GembatchError("unknown_chain", `No chain "${chain.name}" is registered here.`, {
      hint: "Define it with gembatch.chain() on the same instance.",
    });
  }
  const json = toJson(input, `The input of chain "${chain.name}"`);
  const fingerprint = digest(`${chain.name}\n${canonicalJson(JSON.parse(json))}`);
  return turn.wait("child", `c:${fingerprint}`, fingerprint, (key) => ({
    entry: {},
    start: {
      id: turn.childId(key),
      kind: "chain",
      chain: chain.name,
      version: definition.version,
      input: json,
      fingerprint,
      priority: turn.run.priority,
      parent: { run: turn.run.id, key },
    },
  }));
}

function runLogger(log: Logger, turn: Turn): Logger {
  const write = (level: keyof Logger) => (message: string, fields?: Record<string, unknown>) => {
    if (!turn.replaying) log[level](message, { run: turn.run.id, chain: turn.run.chain, ...fields });
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
