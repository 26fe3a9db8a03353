import type { Worker } from "../worker/worker.ts";
import type { Session } from "./session.ts";

/** A worker to run in the background, or step by step. */
export class WorkerHandle implements AsyncDisposable {
  readonly #session: Session;
  #worker: Worker | undefined;

  constructor(session: Session) {
    this.#session = session;
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
  async stop(): Promise<void> {
    if (this.#worker) await this.#session.stopWorker(this.#worker);
    this.#worker = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #open(): Promise<Worker> {
    await this.#session.store();
    this.#worker ??= this.#session.createWorker();
    return this.#worker;
  }
}
