/**
 * What a chain's function is given, and the options of one call.
 *
 * @module
 */
import type {
  EmbedContentParameters,
  EmbedContentResponse,
  GenerateContentParameters,
  GenerateContentResponse,
  Models,
} from "@google/genai";
import type { Duration } from "../core/duration.ts";
import type { Logger } from "../core/log.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";
import type { TypedResponse } from "./typed-output.ts";
import type { TierChoice } from "../core/tiers.ts";

/** Options of one prompt: second argument of the `models` methods, last argument of `submit`, `x-gembatch-…` headers on the fetch. */
export interface CallOptions {
  /** Names this prompt within its run. Without it the prompt itself is the key, so an edited prompt is asked anew. */
  key?: string;
  /** What an edited prompt under the same `key` means for runs in flight: `reuse` the answer (default, with a note on the run), `redo`, `fail`. */
  onChange?: OnChange;
  /** Higher first within a lane. Default: the run's priority. */
  priority?: number;
  retry?: {
    /** Tries in all. Default: `retry.maxAttempts` of the instance. */
    maxAttempts?: number;
  };
  /** Whom it goes to: the name of a provider of this gembatch. Default: that of the chain, else what the URL of another SDK says, else the first one. */
  provider?: string;
  /** The price class that it travels at. Default: that of the SDK's own `serviceTier`, else of the chain, else of the instance. */
  tier?: TierChoice;
  /**
   * When the answer is wanted: a duration from the call on, or an instant. A target: what a job would not reach in time goes to a faster tier, and comes late rather
   * than never. Default: the run's.
   */
  deadline?: Duration | Date;
  /** Whether equal prompts share one answer. Default: each is asked. */
  cache?: CacheOptions;
}

/** Equal prompts (same model, same body) share one answer. */
export interface CacheOptions {
  /** `run`: within this run. `store`: with every run whose prompt has this option, also while the first is still on its way. */
  scope: "run" | "store";
  /** `store`: how long an answer is used after it came. Default `"1d"`. */
  ttl?: Duration;
}

export type OnChange = "reuse" | "redo" | "fail";

/** What makes the output of a prompt typed: options of `models.generateContent` and of a handler. */
export interface TypedOptions<S extends StandardSchemaV1> {
  /**
   * Any Standard Schema (zod, valibot, arktype, …). It is sent as `responseSchema`, unless the prompt brings its own, and validates every reply; `.output`
   * of the response is what it gives. It must validate the same at every replay.
   */
  schema: S;
  /** How often an invalid reply is asked for again, with what is wrong with it. Default 2. After that: `output_invalid`. */
  repair?: number;
}

/** The official SDK's `models`, whose prompts travel in batch jobs. Everything else (countTokens, images, …) goes to the live API. */
export type BatchModels = Omit<Models, "generateContent" | "generateContentStream" | "embedContent"> & {
  /** With a schema: the response has its validated value as `output`. Rejects with `output_invalid` if no reply fits. */
  generateContent<S extends StandardSchemaV1>(
    params: GenerateContentParameters,
    options: CallOptions & TypedOptions<S>,
  ): Promise<TypedResponse<S>>;
  generateContent(params: GenerateContentParameters, options?: CallOptions): Promise<GenerateContentResponse>;
  /** One chunk: the whole answer. */
  generateContentStream(params: GenerateContentParameters, options?: CallOptions): Promise<AsyncGenerator<GenerateContentResponse>>;
  embedContent(params: EmbedContentParameters, options?: CallOptions): Promise<EmbedContentResponse>;
};

/** A chain that can be called from another. */
export interface Callable<Input, Output> {
  readonly name: string;
  /** Never set: carries the types. */
  readonly types?: (input: Input) => Output;
}

/**
 * The hands of a chain. The function runs again from its start at every turn and gets recorded results, so whatever it does outside of these
 * methods must give the same at every turn. Take its members by their names or by destructuring; they are getters, so a spread copy (`{ ...context }`) has none of them.
 */
export interface ChainContext {
  /** The official `@google/genai` models on the batch fetch. */
  readonly models: BatchModels;
  /** A `fetch` for any other SDK: prompts of Gemini and Vertex become requests of this run, everything else passes through. */
  readonly fetch: typeof globalThis.fetch;
  /** Runs `fn` once and keeps its value: for every side effect. At least once if the process dies in between. */
  step<T>(name: string, fn: () => T | Promise<T>): Promise<T>;
  /** Runs another chain as a child and waits for its output. */
  call<Input, Output>(chain: Callable<Input, Output>, input: Input): Promise<Output>;
  /** One child per input; outputs in the order of the inputs. Rejects with the first failure. */
  map<Input, Output>(chain: Callable<Input, Output>, inputs: readonly Input[]): Promise<Output[]>;
  /** A wait that costs no memory and survives restarts. */
  sleep(duration: Duration): Promise<void>;
  /** Milliseconds since 1970, the same at every turn. */
  now(): number;
  /** In [0, 1), the same at every turn. */
  random(): number;
  /** Keeps what happens inside apart: equal prompts in two scopes are two requests, whichever comes first. */
  scope<T>(name: string, fn: () => Promise<T>): Promise<T>;
  readonly run: {
    readonly id: string;
    readonly chain: string;
    /** Tries of this turn, from 1. */
    readonly attempt: number;
  };
  /** Aborts when this turn's work is no longer wanted: the worker stops or lost its claim. */
  readonly signal: AbortSignal;
  /** Like the instance's logger, with the run's id; silent while recorded history is replayed. */
  readonly log: Logger;
}
