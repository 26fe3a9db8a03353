import { parseDuration, type Duration } from "../core/duration.ts";
import { parseCount, refuseUnknown } from "../core/options.ts";
import type { Worker } from "../worker/worker.ts";
import type { Session } from "./session.ts";

export interface WorkerStartOptions {
  /** Turns executed at once by this worker. Default: `worker.concurrency` of the instance. */
  concurrency?: number;
}

export interface WorkerStopOptions {
  /** How long turns and calls in hand may take to come to their end. Default `"10s"`. What takes longer is begun again by another worker. */
  grace?: Duration;
}

/** A worker to run in the background, or step by step. */
export class WorkerHandle implements AsyncDisposable {
  readonly #session: Session;
  readonly #concurrency: number | undefined;
  #worker: Worker | undefined;

  constructor(session: Session, options: WorkerStartOptions = {}) {
    refuseUnknown(options, ["concurrency"], "worker");
    this.#session = session;
    this.#concurrency = options.concurrency === undefined ? undefined : parseCount(options.concurrency, "worker.concurrency");
  }

  /** Works in the background until `stop()`; keeps the process alive. */
  async start(): Promise<this> {
    const worker = await this.#open();
    worker.start();
    worker.hold();
    return this;
  }

  /** Advances everything that is due by one step. `wakeAt`: when to come back, in milliseconds since 1970; now, if there may be more to do. */
  async tick(): Promise<{ worked: boolean; wakeAt: number }> {
    return (await this.#open()).tick();
  }

  /** Finishes the turns in hand and gives everything else back, for another worker to take up at once. */
  async stop(options: WorkerStopOptions = {}): Promise<void> {
    refuseUnknown(options, ["grace"], "stop options");
    const limitMs = options.grace === undefined ? undefined : parseDuration(options.grace, "grace");
    if (this.#worker) await this.#session.stopWorker(this.#worker, limitMs);
    this.#worker = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #open(): Promise<Worker> {
    await this.#session.store();
    this.#worker ??= this.#session.createWorker(this.#concurrency);
    return this.#worker;
  }
}
