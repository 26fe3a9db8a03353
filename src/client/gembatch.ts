import type { GenerateContentResponse } from "@google/genai";
import type { ChainContext, TypedOptions } from "../chain/context.ts";
import type { DefinitionOptions, HandlerOptions } from "../chain/definition.ts";
import type { StandardSchemaV1 } from "../chain/standard-schema.ts";
import type { TypedResponse } from "../chain/typed-output.ts";
import type { Clock, Random } from "../core/clock.ts";
import type { PayloadCodec } from "../core/codec.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { silentLogger, type Logger } from "../core/log.ts";
import { checkMethods, checkSignal, checkType, refuseUnknown } from "../core/options.ts";
import type { PayloadOptions } from "../core/payload-store.ts";
import type { Store } from "../core/store.ts";
import { resolveSettings, settingsOptions, type SettingsOptions } from "../worker/settings.ts";
import { Chain, checkRunId } from "./chain.ts";
import { connectProviders, connectStore, connectWebhook, describeStore, type ProviderOption, type WebhookOptions } from "./connect.ts";
import { readDueAt } from "./due.ts";
import { consoleLogger, isLogLevel, type LogLevel } from "./console-logger.ts";
import { readCosts, type CostLine, type CostOptions } from "./costs.ts";
import { Batches, Lanes, Requests } from "./lists.ts";
import { RunHandle } from "./run-handle.ts";
import { Runs } from "./runs.ts";
import { Session } from "./session.ts";
import { SharedClock } from "./shared-clock.ts";
import { readStats, type Stats } from "./stats.ts";
import { submit, type Handler, type HandlerFunction, type SubmitOptions, type SubmitRequest } from "./submit.ts";
import { systemClock, systemRandom } from "./system-clock.ts";
import { WorkerHandle, type WorkerStartOptions } from "./worker-handle.ts";

export interface GembatchOptions extends SettingsOptions {
  /** `sqlite:PATH`, `postgres://…`, or a store object. Default: `GEMBATCH_STORE`, else `sqlite:.gembatch/gembatch.db`. */
  store?: string | Store;
  /**
   * `gemini`, `vertex`, a provider object such as `gemini({ … })`, or a list of these: prompts go to the first one unless they, their chain or their URL say otherwise. Default:
   * `GEMBATCH_PROVIDER`, else `gemini` with `GEMINI_API_KEY`.
   */
  provider?: ProviderOption;
  /** Encodes prompts, answers, inputs and outputs before they reach the store, e.g. to encrypt them. Ids, keys, states and times stay in clear. */
  codec?: PayloadCodec;
  /** Where prompts, answers, inputs and outputs lie that are too large for rows, e.g. `{ store: filePayloads({ path }) }` of `gembatch/payloads`. Default: in the store. */
  payloads?: PayloadOptions;
  /** `false` is silent; a level writes lines from there up to stderr. Default: `GEMBATCH_LOG`, else `warn`. */
  logger?: false | LogLevel | Logger;
  /** Whether awaiting a result starts a worker in this process if there is none. Default true. */
  autoWorker?: boolean;
  /** Where time comes from; for tests. */
  clock?: Clock;
  /** Where chance comes from; for tests. */
  random?: Random;
}

const known = ["store", "provider", "codec", "payloads", "logger", "autoWorker", "clock", "random", ...settingsOptions];

/**
 * Prompt chains at batch prices. Describe the work with `chain()` and `handler()`, begin it with `start()`, `map()` and `submit()`; a worker groups
 * the prompts of all runs into batch jobs and brings every answer back.
 */
export class Gembatch implements AsyncDisposable {
  readonly runs: Runs;
  readonly requests: Requests;
  readonly batches: Batches;
  readonly lanes: Lanes;
  readonly #session: Session;
  readonly #storeText: string;

  constructor(options: GembatchOptions = {}) {
    if (typeof options !== "object" || options === null)
      throw new GembatchError("invalid_option", `Options must be an object, got ${describe(options)}.`);
    refuseUnknown(options, known, "");
    const log = resolveLogger(options.logger);
    const clock = checkMethods(options.clock, ["now", "monotonic", "sleep"], "clock") ?? new SharedClock(systemClock);
    const random = checkMethods(options.random, ["next"], "random") ?? systemRandom;
    this.#session = new Session({
      store: connectStore(options.store, process.env, options, { clock, random, log }),
      providers: connectProviders(options.provider, process.env),
      clock,
      random,
      log,
      settings: resolveSettings(options),
      autoWorker: checkType(options.autoWorker, "boolean", "autoWorker") ?? true,
    });
    this.#storeText = describeStore(options.store, process.env);
    this.runs = new Runs(this.#session);
    this.requests = new Requests(this.#session);
    this.batches = new Batches(this.#session);
    this.lanes = new Lanes(this.#session);
  }

  /** Registers a chain: sequential code whose prompts travel in batch jobs. The name is what stored runs refer to; keep it across deploys. */
  chain<Input, Output>(
    name: string,
    fn: (context: ChainContext, input: Input) => Promise<Output> | Output,
    options?: DefinitionOptions,
  ): Chain<Input, Output> {
    return new Chain(this.#session, this.#session.registry.add("chain", name, fn, options));
  }

  /**
   * Registers a handler: a function that `submit` sends a response to. It may submit further prompts; they land with it, once. With a schema, it is given
   * responses that fit, with their validated `output`; without one that does, its run fails with `output_invalid`.
   */
  handler<Params = unknown, S extends StandardSchemaV1 = StandardSchemaV1>(
    name: string,
    fn: HandlerFunction<Params, TypedResponse<S>>,
    options: DefinitionOptions & TypedOptions<S>,
  ): Handler<Params>;
  handler<Params = unknown, Response extends object = GenerateContentResponse>(
    name: string,
    fn: HandlerFunction<Params, Response>,
    options?: DefinitionOptions,
  ): Handler<Params>;
  handler<Params>(name: string, fn: HandlerFunction<Params, never>, options?: HandlerOptions): Handler<Params> {
    return { kind: "handler", name: this.#session.registry.add("handler", name, fn, options).name };
  }

  /**
   * Queues one prompt, in REST form, whose response goes to `handler` together with `params`. Returns the id of its run. Inside a handler or chain the submit is part
   * of the turn: it happens if the turn commits, once.
   */
  submit<Params>(
    request: SubmitRequest,
    model: string,
    handler: Handler<Params> | string,
    ...rest: undefined extends Params ? [params?: Params, options?: SubmitOptions] : [params: Params, options?: SubmitOptions]
  ): Promise<string> {
    return submit(this.#session, request, model, handler, rest[0], rest[1]);
  }

  /** The run with this id: of a chain, or of a submitted prompt (then its result is what the handler returned). */
  run(id: string): RunHandle<unknown> {
    return new RunHandle(this.#session, checkRunId(id));
  }

  /** A worker of this process, to start, stop or tick. A script that awaits results needs none. */
  worker(options: WorkerStartOptions = {}): WorkerHandle {
    return new WorkerHandle(this.#session, options);
  }

  /** What this gembatch works with, in words for people: its store without anything secret, and the names of its providers, chains and handlers. */
  get info(): { store: string; providers: string[]; chains: string[]; handlers: string[] } {
    const { registry, parts } = this.#session;
    return {
      store: this.#storeText,
      providers: parts.providers.names,
      chains: registry.names("chain"),
      handlers: registry.names("handler"),
    };
  }

  /** Works until nothing is left that can go on by itself. Held runs do not count. */
  async onIdle(options: { signal?: AbortSignal } = {}): Promise<void> {
    refuseUnknown(options, ["signal"], "onIdle options");
    checkSignal(options.signal);
    await this.#session.withWorker(async () => this.#session.waitIdle(options.signal));
  }

  /**
   * Calls `listener` whenever work was committed from outside of a turn: by `start`, `startMany`, `map`, `submit`, `retry`, `release`, `hasten`. These await it, and what it throws is logged and
   * nothing more. For programs whose workers run only when there is something to do. Returns how to stop it.
   */
  onWork(listener: () => unknown): () => void {
    checkType(listener, "function", "listener");
    return this.#session.onWork(listener);
  }

  /**
   * When a worker has something to do, in milliseconds since 1970: now or earlier, if at once; `undefined`, if nothing waits but for calls of others and operators. Whatever workers there are:
   * what one of them has in hand counts as due when it should be over.
   */
  async dueAt(): Promise<number | undefined> {
    return readDueAt(this.#session);
  }

  /** Somebody heard that jobs ended: every worker of the store looks at its jobs at once, as after a webhook. */
  async hasten(): Promise<void> {
    await this.#session.hasten();
  }

  /** How many runs, requests and batches are in which state, with tokens and money so far. */
  async stats(): Promise<Stats> {
    return readStats(await this.#session.store());
  }

  /** What answers cost, by day, chain, model and tier. */
  async costs(options: CostOptions = {}): Promise<CostLine[]> {
    return readCosts(await this.#session.store(), options);
  }

  /**
   * A `fetch` handler for the webhooks of the Gemini API: each one that is genuine makes the workers of this store look at their jobs at once. Nothing else of it
   * is believed. Jobs are looked at without webhooks as well, only later.
   */
  webhook(options: WebhookOptions): (request: Request) => Promise<Response> {
    const { clock, log } = this.#session.parts;
    return connectWebhook(options, { clock, log, onHint: async () => this.#session.hasten() });
  }

  /** Finishes the turns in hand and releases everything. Jobs at the provider go on; the next start takes their answers. */
  async close(): Promise<void> {
    await this.#session.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function resolveLogger(logger: GembatchOptions["logger"]): Logger {
  const given = logger ?? process.env["GEMBATCH_LOG"] ?? "warn";
  if (given === false || given === "silent") return silentLogger;
  if (typeof given === "object") return checkMethods(given, ["debug", "info", "warn", "error"], "logger");
  if (isLogLevel(given)) return consoleLogger(given);
  throw new GembatchError("invalid_option", `Option logger must be false, a level or a logger, got ${describe(given)}.`, {
    hint: "Levels: debug, info, warn, error, silent.",
  });
}
