/**
 * A Firebase project in virtual time: instances of its functions, a store that they share, Cloud Tasks and a job service over HTTP, and the schedule. Instances come and go, and can be killed at any call.
 */
import { Gembatch, GembatchError, type GembatchOptions, type Store } from "../../src/index.ts";
import { gemini } from "../../src/gemini.ts";
import { gembatchFunctions, type FunctionsOptions, type GembatchFunctions, type WorkTask } from "../../src/firebase.ts";
import { startEmulator, type Emulator, type EmulatorOptions } from "../../src/emulator.ts";
import { ManualClock, SeededRandom } from "../../src/testing.ts";
import type { Clock } from "../../src/core/clock.ts";
import type { Logger } from "../../src/core/log.ts";
import type { Interceptor, PortCall } from "../../src/testing/intercept.ts";
import { never } from "../../src/testing/intercept.ts";
import { MortalProcess } from "../../src/testing/process.ts";
import { CloudTasks, type CloudTask } from "./cloud-tasks.ts";
import type { StoreKind } from "./stores.ts";

// Instances that were killed never take their listener back.
process.setMaxListeners(100);

/** Where an instance dies: at the `nth` of its calls of this method, before it or after it had its effect. `fails`: the call is refused, and the instance lives on. */
export interface Death {
  method: string;
  nth?: number;
  when: "before" | "after" | "fails";
}

class Fate implements Interceptor {
  readonly #death: Death | undefined;
  readonly #kill: () => void;
  readonly #onCall: ProjectOptions["onCall"];
  #count = 0;

  constructor(death: Death | undefined, kill: () => void, onCall: ProjectOptions["onCall"]) {
    this.#death = death;
    this.#kill = kill;
    this.#onCall = onCall;
  }

  async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    await this.#onCall?.(call.method);
    const when = this.#at(call);
    if (when === "before") this.#kill();
    if (when === undefined) return perform();
    if (when === "fails") throw new GembatchError("store_unavailable", "The store is away.", { retryable: true });
    if (when === "after") {
      await perform().catch(() => {});
      this.#kill();
    }
    return never();
  }

  async *stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
    const when = this.#at(call);
    if (when === "before") this.#kill();
    for await (const row of open()) yield row;
    if (when === "after") this.#kill();
  }

  #at({ method }: PortCall): Death["when"] | undefined {
    if (method !== this.#death?.method) return undefined;
    this.#count += 1;
    return this.#count === (this.#death.nth ?? 1) ? this.#death.when : undefined;
  }
}

/** A clock that knows who sleeps on it in the foreground: an invocation that does waits for time and for nothing else. */
class WatchedClock implements Clock {
  sleeping = 0;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now = (): number => this.#clock.now();
  monotonic = (): number => this.#clock.monotonic();

  async sleep(ms: number, options: { signal?: AbortSignal; background?: boolean } = {}): Promise<void> {
    if (options.background) return this.#clock.sleep(ms, options);
    this.sleeping += 1;
    await this.#clock.sleep(ms, options).finally(() => (this.sleeping -= 1));
  }
}

/** What is registered on each instance, as a program does at its start. */
export type Program = (gembatch: Gembatch) => void;

export interface ProjectOptions {
  program: Program;
  store: StoreKind;
  functions?: FunctionsOptions;
  gembatch?: Omit<GembatchOptions, "store" | "provider" | "clock" | "random">;
  emulator?: Omit<EmulatorOptions, "clock">;
  /** How instances that work die, one after another: the first that comes to this call does, then the next one is meant. */
  deaths?: Death[];
  /** Comes before each call that an instance makes of the store and the provider. */
  onCall?: (method: string) => Promise<void> | undefined;
  /** Whether the sweep runs, and how often in milliseconds. Default every ten minutes. */
  sweeps?: boolean | number;
}

/** One instance: a process of its own, as far as that matters. */
export interface Instance {
  gembatch: Gembatch;
  functions: GembatchFunctions;
  died: Promise<undefined>;
  readonly dead: boolean;
  /** Whether what it does waits for time alone. */
  readonly asleep: boolean;
  running: number;
}

export class Project implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly tasks = new CloudTasks(this.clock);
  readonly logs: string[] = [];
  /** Invocations of the functions so far, by name. */
  readonly invoked = { work: 0, sweep: 0, killed: 0, failed: 0 };
  emulator!: Emulator;
  readonly #options: ProjectOptions;
  readonly #instances: Instance[] = [];
  readonly #deaths: Death[];
  readonly #connected: Store[] = [];
  readonly #sweepMs: number;
  #sweepAt: number;
  #seed = 0;

  private constructor(options: ProjectOptions) {
    this.#options = options;
    this.#deaths = [...(options.deaths ?? [])];
    const { sweeps = true } = options;
    this.#sweepMs = sweeps === false ? Infinity : sweeps === true ? 600_000 : sweeps;
    this.#sweepAt = this.clock.now() + this.#sweepMs;
  }

  static async start(options: ProjectOptions): Promise<Project> {
    const project = new Project(options);
    const clock = { now: () => project.clock.now(), sleep: async (ms: number) => project.clock.sleep(ms) };
    project.emulator = await startEmulator({ turnaround: 60_000, ...options.emulator, clock });
    process.env["CLOUD_TASKS_EMULATOR_HOST"] = await project.tasks.listen();
    process.env["GCLOUD_PROJECT"] = "demo-gembatch";
    process.env["FUNCTION_TARGET"] = "onRequestExample";
    process.env["K_SERVICE"] = "onrequestexample";
    return project;
  }

  /** A new instance of the functions, as at a cold start. */
  instance(death?: Death): Instance {
    const logger = this.#logger();
    const store = this.#options.store.connect();
    this.#connected.push(store);
    const provider = gemini({ apiKey: "test", baseUrl: this.emulator.url });
    const mortal: MortalProcess = new MortalProcess(
      { clock: this.clock, store, provider },
      new Fate(death, () => mortal.kill(), this.#options.onCall),
    );
    const clock = new WatchedClock(mortal.clock);
    const gembatch = new Gembatch({
      logger,
      autoWorker: false,
      polling: { minInterval: "1m", maxInterval: "10m" },
      ...this.#options.gembatch,
      store: mortal.store,
      provider: [...mortal.providers],
      clock: mortal.clock,
      random: new SeededRandom((this.#seed += 1)),
    });
    this.#options.program(gembatch);
    const functions = gembatchFunctions(gembatch, { logger, clock, region: "europe-west1", ...this.#options.functions });
    const instance: Instance = {
      gembatch,
      functions,
      died: mortal.died,
      get dead() {
        return mortal.dead;
      },
      get asleep() {
        return clock.sleeping >= instance.running;
      },
      running: 0,
    };
    this.#instances.push(instance);
    return instance;
  }

  /** An invocation of some function of an instance; resolves when it has answered, or its instance died. */
  async invoke(instance: Instance, work: () => unknown): Promise<"done" | "failed" | "killed"> {
    instance.running += 1;
    const invocation = (async () => {
      try {
        await work();
        return "done" as const;
      } catch (error) {
        this.logs.push(`failed: ${String(error)}`);
        return "failed" as const;
      }
    })();
    const ended = await Promise.race([invocation, instance.died]);
    instance.running -= 1;
    const outcome = instance.dead ? "killed" : (ended ?? "failed");
    if (outcome !== "done") this.invoked[outcome] += 1;
    if (outcome !== "done") this.#deaths.shift();
    return outcome;
  }

  /** Lets time pass until `done`, at most `limit` of it, dispatching tasks and sweeps as they become due. Returns whether it was done. */
  async run(done: () => Promise<boolean> | boolean, limitMs = 86_400_000): Promise<boolean> {
    const end = this.clock.now() + limitMs;
    for (;;) {
      this.#dispatch();
      await this.#rest();
      if (this.#busy() === 0 && (await done())) return true;
      if (this.clock.now() >= end) return false;
      const next = Math.min(end, this.#sweepAt, this.tasks.nextAt ?? Infinity, this.#nextSleep());
      await this.clock.advance(Math.max(0, next - this.clock.now()));
    }
  }

  /** The same, until no run can go on by itself and no invocation is left. */
  async runAll(limitMs?: number): Promise<boolean> {
    const store = this.#options.store.connect();
    await store.open();
    try {
      return await this.run(async () => !(await store.hasLiveRuns()), limitMs);
    } finally {
      await store.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const instance of this.#instances) if (!instance.dead) await instance.gembatch.close();
    for (const store of this.#connected) await store.close();
    await Promise.all([this.emulator.close(), this.tasks.close()]);
    for (const name of ["CLOUD_TASKS_EMULATOR_HOST", "GCLOUD_PROJECT", "FUNCTION_TARGET", "K_SERVICE"]) delete process.env[name];
  }

  #dispatch(): void {
    for (const task of this.tasks.takeDue()) void this.#work(task);
    if (this.clock.now() < this.#sweepAt) return;
    this.#sweepAt += this.#sweepMs;
    this.invoked.sweep += 1;
    const instance = this.instance(this.#deaths[0]);
    void this.invoke(instance, async () =>
      instance.functions.gembatchSweep.run({ scheduleTime: new Date(this.clock.now()).toISOString() }),
    );
  }

  async #work(task: CloudTask): Promise<void> {
    this.invoked.work += 1;
    const instance = this.instance(this.#deaths[0]);
    const outcome = await this.invoke(instance, async () =>
      instance.functions.gembatchWork.run({ ...requestOf(task), data: task.data as WorkTask }),
    );
    if (outcome !== "done") this.tasks.retry(task);
  }

  #busy(): number {
    return this.#instances.reduce((sum, { running, dead }) => sum + (dead ? 0 : running), 0);
  }

  /** Resolves when every invocation has ended or waits for time. */
  async #rest(): Promise<void> {
    for (let quiet = 0; quiet < 3;) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      quiet = this.#instances.every(({ dead, asleep }) => dead || asleep) ? quiet + 1 : 0;
    }
  }

  #nextSleep(): number {
    return this.#busy() === 0 ? Infinity : (this.clock.nextAt ?? Infinity);
  }

  #logger(): Logger {
    const write = (level: string) => (message: string) => void this.logs.push(`${level}: ${message}`);
    return { debug() {}, info() {}, warn: write("warn"), error: write("error") };
  }
}

/** What the SDK makes of the headers of a dispatched task. */
export function requestOf({ id, queue, attempts }: CloudTask) {
  return { queueName: queue, id, retryCount: attempts, executionCount: attempts, scheduledTime: "0", headers: {} };
}
