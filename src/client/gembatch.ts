import type { EmbedContentResponse, GenerateContentResponse } from "@google/genai";
import type { ChainContext } from "../chain/context.ts";
import type { DefinitionOptions } from "../chain/definition.ts";
import type { Clock, Random } from "../core/clock.ts";
import { describe, GembatchError } from "../core/errors.ts";
import { silentLogger, type Logger } from "../core/log.ts";
import { refuseUnknown } from "../core/options.ts";
import { defaultPrices, type Price } from "../core/pricing.ts";
import type { Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";
import { resolveSettings, type SettingsOptions } from "../worker/settings.ts";
import { Chain, checkRunId } from "./chain.ts";
import { connectProvider, connectStore } from "./connect.ts";
import { consoleLogger, isLogLevel, type LogLevel } from "./console-logger.ts";
import { Batches, Lanes, Requests, Runs } from "./lists.ts";
import { RunHandle } from "./run-handle.ts";
import { Session } from "./session.ts";
import { readStats, type Stats } from "./stats.ts";
import {
  submit,
  type EmbedContentRequest,
  type GenerateContentRequest,
  type Handler,
  type HandlerFunction,
  type SubmitOptions,
} from "./submit.ts";
import { systemClock, systemRandom } from "./system-clock.ts";
import { WorkerHandle } from "./worker-handle.ts";

export interface GembatchOptions extends SettingsOptions {
  /** `sqlite:PATH`, or a store object. Default: `GEMBATCH_STORE`, else `sqlite:.gembatch/gembatch.db`. */
  store?: string | Store;
  /** `gemini`, or a provider object such as `gemini({ … })`. Default: `GEMBATCH_PROVIDER`, else `gemini` with `GEMINI_API_KEY`. */
  provider?: string | Provider;
  /** `false` is silent; a level writes lines from there up to stderr. Default: `GEMBATCH_LOG`, else `warn`. */
  logger?: false | LogLevel | Logger;
  /** Whether awaiting a result starts a worker in this process if there is none. Default true. */
  autoWorker?: boolean;
  /** Prices that `stats()` counts with, instead of the built-in table. */
  prices?: readonly Price[];
  /** Where time comes from; for tests. */
  clock?: Clock;
  /** Where chance comes from; for tests. */
  random?: Random;
}

const known = [
  "store",
  "provider",
  "logger",
  "autoWorker",
  "prices",
  "clock",
  "random",
  "batching",
  "polling",
  "retry",
  "launch",
  "worker",
];

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
  readonly #prices: readonly Price[];

  constructor(options: GembatchOptions = {}) {
    if (typeof options !== "object" || options === null)
      throw new GembatchError("invalid_option", `Options must be an object, got ${describe(options)}.`);
    refuseUnknown(options, known, "");
    this.#session = new Session({
      store: connectStore(options.store, process.env),
      provider: connectProvider(options.provider, process.env),
      clock: options.clock ?? systemClock,
      random: options.random ?? systemRandom,
      log: resolveLogger(options.logger),
      settings: resolveSettings(options),
      autoWorker: options.autoWorker ?? true,
    });
    this.#prices = options.prices ?? defaultPrices;
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

  /** Registers a handler: a function that `submit` sends a response to. It may submit further prompts; they land with it, once. */
  handler<Params = unknown, Response extends GenerateContentResponse | EmbedContentResponse = GenerateContentResponse>(
    name: string,
    fn: HandlerFunction<Params, Response>,
    options?: DefinitionOptions,
  ): Handler<Params> {
    return { kind: "handler", name: this.#session.registry.add("handler", name, fn, options).name };
  }

  /**
   * Queues one prompt, in REST form, whose response goes to `handler` together with `params`. Returns the id of its run. Inside a handler or chain the submit is part
   * of the turn: it happens if the turn commits, once.
   */
  submit<Params>(
    request: GenerateContentRequest | EmbedContentRequest,
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
  worker(): WorkerHandle {
    return new WorkerHandle(this.#session);
  }

  /** Works until nothing is left that can go on by itself. Held runs do not count. */
  async onIdle(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#session.withWorker(async () => this.#session.waitIdle(options.signal));
  }

  /** How many runs, requests and batches are in which state, with tokens and money so far. */
  async stats(): Promise<Stats> {
    return readStats(await this.#session.store(), this.#prices, this.#session.parts.clock.now());
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
  if (typeof given === "object") return given;
  if (isLogLevel(given)) return consoleLogger(given);
  throw new GembatchError("invalid_option", `Option logger must be false, a level or a logger, got ${describe(given)}.`, {
    hint: "Levels: debug, info, warn, error, silent.",
  });
}
