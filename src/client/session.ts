import { hostname } from "node:os";
import { createBatchFetch, type BatchFetchOptions } from "../chain/batch-fetch.ts";
import { Registry } from "../chain/definition.ts";
import type { Providers } from "../chain/providers.ts";
import type { RequestDefaults } from "../chain/requests.ts";
import { randomText, type Clock, type Random } from "../core/clock.ts";
import { GembatchError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { ProviderError, type Provider } from "../core/provider.ts";
import type { Store } from "../core/store.ts";
import { messageOf } from "../pipeline/stage.ts";
import type { Settings } from "../worker/settings.ts";
import { Worker } from "../worker/worker.ts";
import { createEmbeddings } from "./connect.ts";
import { createResponder, modelsByProvider } from "./responder.ts";
import { SharedClock } from "./shared-clock.ts";
import { StartGroup } from "./start-group.ts";
import { Waiters } from "./waiters.ts";

/** How often "is anything left?" is asked. */
const idlePollMs = 100;

export interface SessionParts {
  store: Store;
  providers: Providers;
  clock: Clock;
  random: Random;
  log: Logger;
  settings: Settings;
  /** Whether a script that awaits results gets a worker by itself. */
  autoWorker: boolean;
}

/** What the faces of one gembatch share: its parts, opened once; its workers; who waits for what. */
export class Session {
  readonly parts: SessionParts;
  readonly registry: Registry;
  readonly waiters: Waiters;
  readonly starts: StartGroup;
  readonly #workers = new Set<Worker>();
  #opening: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #troubleListeners = new Set<(error: Error) => void>();
  readonly #workListeners = new Set<() => unknown>();

  constructor(parts: SessionParts) {
    this.parts = parts;
    this.registry = new Registry(parts.providers);
    this.waiters = new Waiters(parts.store, parts.clock);
    this.starts = new StartGroup(
      async () => this.store(),
      () => parts.clock.now(),
    );
  }

  /** The open store. Opens it at first use, so that a program can be loaded without touching the disk. */
  async store(): Promise<Store> {
    if (this.#closing) throw new GembatchError("closed", "This gembatch is closed.");
    this.#opening ??= this.parts.store.open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    await this.#opening;
    return this.parts.store;
  }

  /** What prompts are sent with that say nothing else. */
  get defaults(): RequestDefaults {
    const { retry, tier, money } = this.parts.settings;
    return { maxAttempts: retry.maxAttempts, tier, prices: money.prices };
  }

  /** There is new work: tell the workers of this process. */
  wake(): void {
    for (const worker of this.#workers) worker.wake();
  }

  /** Calls `listener` whenever work from outside of a turn was committed. Returns how to stop that. */
  onWork(listener: () => unknown): () => void {
    this.#workListeners.add(listener);
    return () => this.#workListeners.delete(listener);
  }

  /** There is new work, committed: tells the workers of this process, and whoever can wake those of others. Never rejects: what is committed is found in any case, only later. */
  async announce(): Promise<void> {
    this.wake();
    if (this.#workListeners.size === 0) return;
    const told = await Promise.allSettled([...this.#workListeners].map(async (listener) => listener()));
    for (const result of told)
      if (result.status === "rejected") this.parts.log.warn(`A listener for new work failed: ${messageOf(result.reason)}`);
  }

  /** Somebody heard that a job ended: every worker of the store looks at its jobs now. */
  async hasten(): Promise<void> {
    const store = await this.store();
    await store.hastenBatches({ now: this.parts.clock.now(), providers: this.parts.providers.names });
    await this.announce();
  }

  /** Keeps a worker going while `work` is awaited, unless this process has none on purpose. */
  async withWorker<T>(work: () => Promise<T>): Promise<T> {
    await this.store();
    const worker = this.#runningWorker();
    const release = worker?.hold();
    try {
      return await work();
    } finally {
      release?.();
    }
  }

  /** Resolves when no run is left that can go on by itself; rejects with trouble that only a person can mend. */
  async waitIdle(signal?: AbortSignal): Promise<void> {
    const store = await this.store();
    let trouble: Error | undefined;
    const stopListening = this.#onTrouble((error) => (trouble = error));
    try {
      while (await store.hasLiveRuns()) {
        signal?.throwIfAborted();
        if (trouble) throw trouble;
        await this.parts.clock.sleep(idlePollMs, signal ? { signal } : {});
      }
    } finally {
      stopListening();
    }
  }

  createWorker(concurrency = this.parts.settings.run.concurrency): Worker {
    const { store, providers, clock, random, log } = this.parts;
    const settings = { ...this.parts.settings, run: { ...this.parts.settings.run, concurrency } };
    const fetchTo = (fetch: Omit<BatchFetchOptions, "defaults" | "passThrough">) =>
      createBatchFetch({ ...fetch, defaults: this.defaults, passThrough: globalThis.fetch });
    const ofFacade = (provider: Provider) =>
      fetchTo({ providerFor: (call) => (call.provider === undefined ? provider : providers.get(call.provider)), failures: "throw" });
    const modelsOf = modelsByProvider((provider) => provider.createModels(ofFacade(provider)));
    const embeddingsOf = modelsByProvider((provider) => createEmbeddings(ofFacade(provider)));
    const named = (name: string | undefined) => (name === undefined ? providers.default : providers.get(name));
    const worker: Worker = new Worker({
      store,
      providers: providers.byName,
      clock,
      random,
      log,
      settings,
      run: {
        modelsOf: (name) => modelsOf(named(name)),
        embeddingsOf: (name) => embeddingsOf(named(name)),
        createFetch: (turn) =>
          fetchTo({
            turn,
            providerFor: (call, { definition }, api) => providers.choose({ named: call.provider, ofDefinition: definition.provider, api }),
            failures: "respond",
          }),
        registry: this.registry,
        log,
        toResponse: createResponder(providers, store),
      },
      host: { name: hostName(random), pid: process.pid },
      onEnd: (run) => this.waiters.notify(run),
      onTrouble: (error) => this.#trouble(error),
      ...(clock instanceof SharedClock ? { onStoreTime: (time, startedAt, endedAt) => clock.follow(time, startedAt, endedAt) } : {}),
    });
    this.#workers.add(worker);
    return worker;
  }

  async stopWorker(worker: Worker, limitMs?: number): Promise<void> {
    await worker.stop(limitMs);
    this.#workers.delete(worker);
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await Promise.all([...this.#workers].map(async (worker) => worker.stop()));
      this.waiters.fail(
        new GembatchError("closed", "This gembatch was closed while a result was awaited.", {
          hint: "The run goes on when a worker runs again.",
        }),
      );
      if (this.#opening) {
        await this.#opening.catch(() => {});
        await this.parts.store.close();
      }
      await Promise.all([...this.parts.providers.byName.values()].map(async (provider) => provider.close()));
    })();
    return this.#closing;
  }

  #runningWorker(): Worker | undefined {
    for (const worker of this.#workers) if (worker.running) return worker;
    if (!this.parts.autoWorker) return undefined;
    return this.createWorker().start();
  }

  #onTrouble(listener: (error: Error) => void): () => void {
    this.#troubleListeners.add(listener);
    return () => this.#troubleListeners.delete(listener);
  }

  /** What only a person can mend must not look like waiting: awaits end with the reason, the runs stay as they are. */
  #trouble(error: Error): void {
    const shown = asTrouble(error);
    if (!shown) return;
    this.waiters.fail(shown);
    for (const listener of this.#troubleListeners) listener(shown);
  }
}

/** Every instance of Cloud Run and Cloud Functions is called "localhost", and their process ids are alike: there no host is shared. */
function hostName(random: Random): string {
  const service = process.env["K_SERVICE"];
  return service ? `${service}-${randomText(random, 8)}` : hostname();
}

function asTrouble(error: Error): GembatchError | undefined {
  if (ProviderError.is(error) && error.failure === "denied") {
    return new GembatchError("provider_auth", `The provider does not accept the requests: ${error.message}`, {
      retryable: true,
      hint: "Nothing is lost: mend it and start again, every run goes on where it stopped.",
      cause: error,
    });
  }
  if (!GembatchError.is(error)) return undefined;
  if (error.code === "budget_exceeded" || error.code === "batch_held") return error;
  // A store that is busy for the moment is no news.
  return error.code.startsWith("store_") && error.code !== "store_locked" ? error : undefined;
}
