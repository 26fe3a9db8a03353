import type { GenerateContentParameters, GenerateContentResponse, Models } from "@google/genai";
import { parseDuration, type Duration } from "../core/duration.ts";
import { GembatchError, describe } from "../core/errors.ts";
import { canonicalJson, digest, toJson } from "../core/json.ts";
import type { Logger } from "../core/log.ts";
import { toHeaders } from "./call-options.ts";
import type { BatchModels, CallOptions, Callable, ChainContext, TypedOptions } from "./context.ts";
import type { Registry } from "./definition.ts";
import type { Answer } from "./stored-response.ts";
import { entryValue } from "./entry-value.ts";
import type { Turn } from "./turn.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import { turnStorage, type TurnScope } from "./turn-scope.ts";
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
  const { run } = turn;
  const call = async <Input, Output>(chain: Callable<Input, Output>, input: Input): Promise<Output> =>
    entryValue(await waitForChild(turn, parts.registry, chain, input)) as Output;
  let models: BatchModels | undefined;
  let fetch: typeof globalThis.fetch | undefined;
  let log: Logger | undefined;
  return {
    get models() {
      return (models ??= createModels(parts, turn));
    },
    get fetch() {
      return (fetch ??= parts.createFetch(turn));
    },
    step: async <T>(name: string, fn: () => T | Promise<T>) => {
      if (typeof name !== "string" || name === "")
        throw new GembatchError("invalid_argument", `A step needs a name, got ${describe(name)}.`);
      return (await turn.step(name, fn)) as T;
    },
    call,
    map: async <Input, Output>(chain: Callable<Input, Output>, inputs: readonly Input[]) =>
      Promise.all(inputs.map(async (input) => call(chain, input))),
    sleep: async (duration: Duration) => {
      const ms = parseDuration(duration, "sleep");
      await turn.wait("sleep", "z", "", () => ({ entry: { wakeAt: turn.now() + ms } }));
    },
    now: () => Number(turn.record("now", "n", "", () => ({ value: String(turn.now()) })) ?? turn.now()),
    random: () => turn.random(),
    scope: async <T>(name: string, fn: () => Promise<T>) => {
      const prefix = turnStorage.getStore()?.prefix ?? "";
      return turnStorage.run({ turn, prefix: `${prefix}${encodeURIComponent(name)}/`, inStep: false }, fn);
    },
    run: { id: run.id, chain: run.chain, attempt: run.attempts + 1 },
    get signal() {
      return turn.signal;
    },
    get log() {
      return (log ??= runLogger(parts.log, turn));
    },
  };
}

/**
 * The official models with our options as a second argument; they travel to the fetch as headers. Each prompt is converted by the models of its own
 * provider; what is no prompt goes to those of the chain.
 */
function createModels({ modelsOf, embeddingsOf }: Pick<ContextParts, "modelsOf" | "embeddingsOf">, turn: Turn): BatchModels {
  const ofDefinition = turn.definition.provider;
  const models = (options: CallOptions | undefined): Models => modelsOf(options?.provider ?? ofDefinition);
  const ask: Ask = (params, options) => callSdk(turn, () => models(options).generateContent(withOptions(params, options)));
  const generateContent = (params: GenerateContentParameters, options?: CallOptions & Partial<TypedOptions<StandardSchemaV1>>) =>
    options?.schema === undefined ? ask(params, options) : askTyped(ask, params, { ...options, schema: options.schema });
  const own: Pick<BatchModels, "generateContent" | "generateContentStream" | "embedContent"> & { __proto__: Models } = {
    __proto__: modelsOf(ofDefinition),
    generateContent: generateContent as BatchModels["generateContent"],
    generateContentStream: (params, options) => callSdk(turn, () => models(options).generateContentStream(withOptions(params, options))),
    embedContent: (params, options) =>
      callSdk(turn, () => embeddingsOf(options?.provider ?? ofDefinition).embedContent(withOptions(params, options))),
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
 * Calls the SDK in the turn of this context, wherever the call comes from: an emitter or a pool may have lost the async context. An answer that is recorded
 * goes straight through. For one that is not, the SDK's half-done call is dropped and made again with the answer, so that a waiting run keeps
 * its own code in memory and not the SDK's.
 */
async function callSdk<T>(turn: Turn, call: () => Promise<T>): Promise<T> {
  const current = turnStorage.getStore();
  const scope = current?.turn === turn ? current : { turn, prefix: "", inStep: false };
  const first = await firstPass(scope, call);
  if ("value" in first) return first.value;
  const answer = await first.answered;
  return turnStorage.run({ ...scope, slot: { answer } }, call);
}

function firstPass<T>(scope: TurnScope, call: () => Promise<T>): Promise<{ value: T } | { answered: Promise<Answer> }> {
  return new Promise((resolve, reject) => {
    const park = (answered: Promise<Answer>) => resolve({ answered });
    turnStorage.run({ ...scope, slot: { park } }, call).then((value) => resolve({ value }), reject);
  });
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
