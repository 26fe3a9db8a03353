/**
 * One seed: processes, a client and an operator in one virtual world, until all is done; then the verdict.
 *
 * @module
 */
import { Gembatch } from "../../src/index.ts";
import type { Store } from "../../src/core/store.ts";
import { interceptPort } from "../../src/testing/intercept.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { Monitor } from "./monitor.ts";
import { expectedRuns } from "./oracle.ts";
import { calmPlan, drawPlan, type Plan } from "./plan.ts";
import { maxWaitMs, Quiescence } from "./quiescence.ts";
import { Service } from "./service.ts";
import { SimProcess, type ProcessParts } from "./sim-process.ts";
import { SimProvider } from "./sim-provider.ts";
import { inMemory, type SimStore, type SimStores } from "./sim-stores.ts";
import { Trace } from "./trace.ts";
import { judge, judgeDuplicates, listAll } from "./verdict.ts";
import { Violation } from "./violation.ts";
import { defineTiers } from "./workload-tiers.ts";
import { defineWorkload } from "./workload.ts";
import { World } from "./world.ts";

/** Roots of each kind. */
const rounds = 2;
/** Runs are started within this. */
const startWithinMs = 4 * 60_000;
/** Everything is done this long after the faults stopped. */
const endWithinMs = 24 * 3_600_000;
const operatorMs = 20_000;
const longestFreezeMs = 640_000;
/** What a step takes at most. */
const workMs = 40_000;

export interface Outcome {
  digest: string;
  calls: number;
  crashes: number;
  freezes: number;
  jobs: number;
  duplicateJobs: number;
  directCalls: number;
  /** Prompts that a deadline took out of their job or call. */
  moved: number;
  turns: number;
  lostTurns: number;
  /** Turns that went on without a claim. */
  resumedTurns: number;
  steps: number;
  virtualMs: number;
}

/** A seed that failed: what was violated, and how it came about. */
export class SimulationError extends Error {
  readonly seed: number;
  readonly invariant: string;
  readonly trace: readonly string[];

  constructor(seed: number, cause: unknown, trace: readonly string[]) {
    super(`Seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "SimulationError";
    this.seed = seed;
    this.invariant = cause instanceof Violation ? cause.invariant : "no error";
    this.trace = trace;
  }
}

export interface SimulationOptions {
  /** Changes of the plan that the seed drew. */
  change?: (plan: Plan) => void;
  /** Default: one in memory. */
  stores?: SimStores;
}

/** Rejects with a `SimulationError` if any promise does not hold under this seed. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<Outcome> {
  const trace = new Trace();
  try {
    return await new Simulation(seed, trace, options).run();
  } catch (error) {
    throw new SimulationError(seed, error, trace.last());
  }
}

class Simulation {
  readonly #world: World;
  readonly #random: SeededRandom;
  readonly #plan: Plan;
  readonly #calmProvider: Plan["provider"];
  readonly #stores: SimStore;
  /** As the simulation itself looks at it. */
  readonly #store: Store;
  readonly #monitor: Monitor;
  readonly #service: Service;
  readonly #parts: Omit<ProcessParts, "store">;
  readonly #figures = { crashes: 0, freezes: 0, steps: 0 };
  readonly #living = new Set<SimProcess>();
  readonly #cancelled = new Set<string>();
  readonly #trace: Trace;
  #names = 0;
  #started = false;
  #idle = false;

  constructor(seed: number, trace: Trace, { change, stores = inMemory }: SimulationOptions) {
    this.#random = new SeededRandom(seed);
    this.#trace = trace;
    this.#plan = drawPlan(this.#random);
    change?.(this.#plan);
    trace.add(JSON.stringify(this.#plan));
    this.#world = new World(this.#random, trace);
    const { provider } = this.#plan;
    this.#calmProvider = { ...calmPlan().provider, turnaroundMs: provider.turnaroundMs, latencyMs: provider.latencyMs };
    this.#stores = stores(this.#world, seed);
    this.#store = this.#stores.peer();
    this.#monitor = new Monitor(this.#store, (violation) => this.#world.fail(violation));
    const providerPlan = () => (this.#faulty() ? provider : this.#calmProvider);
    this.#service = new Service(this.#world, providerPlan, (job) => {
      trace.add(
        `${this.#time()} service job ${job.name} ${job.token} ${job.rows.map(({ key }) => key).join(" ")} ${job.end} at ${job.endsAt}`,
      );
      this.#monitor.jobCreated(job, provider.createHidden > 0).catch((error: unknown) => this.#world.fail(error));
    });
    this.#parts = {
      world: this.#world,
      plan: this.#plan,
      faulty: () => this.#faulty(),
      provider: new SimProvider(this.#world, this.#service, this.#monitor, providerPlan),
      onCrash: (process) => this.#crashed(process),
      onFreeze: () => (this.#figures.freezes += 1),
    };
  }

  async run(): Promise<Outcome> {
    const world = this.#world;
    const expected = await expectedRuns(rounds);
    await this.#store.open();
    this.#plan.processes.forEach((_, slot) => this.#startWorker(slot));
    this.#startClient();
    if (this.#plan.jumpMs > 0) this.#jump();
    const endAt = world.startedAt + this.#plan.faultsMs + endWithinMs;
    const quiescence = new Quiescence(this.#store, world, this.#plan);
    await world.run(
      () => this.#idle,
      async () => {
        if (world.now > endAt)
          throw new Violation("termination", `runs are not done ${endWithinMs / 3_600_000} h after the faults stopped`);
        if (this.#faulty() || this.#disturbed()) quiescence.forget();
        else await quiescence.look();
      },
    );
    await this.#close();
    await judge(this.#store, expected, this.#cancelled);
    const virtualMs = world.now - world.startedAt;
    await this.#sweep();
    await judgeDuplicates(this.#store, this.#service, world.startedAt + this.#plan.faultsMs + longestFreezeMs);
    await this.#stores.end();
    return {
      digest: this.#trace.digest(),
      calls: world.calls,
      ...this.#figures,
      jobs: this.#service.jobs.length,
      duplicateJobs: this.#monitor.duplicateJobs,
      directCalls: this.#monitor.directCalls,
      moved: this.#monitor.moved,
      turns: this.#monitor.turns,
      lostTurns: this.#monitor.lost,
      resumedTurns: this.#monitor.resumed,
      virtualMs,
    };
  }

  // Processes ------------------------------------------------------------------------------------------------------------

  #spawn(name: string, settings: { parkedBytes: number; concurrency: number }): { process: SimProcess; gembatch: Gembatch } {
    this.#names += 1;
    const skewMs = Math.round((this.#random.next() * 2 - 1) * this.#plan.skewMs);
    const store = interceptPort<Store>(this.#stores.peer(), "store", this.#monitor);
    const process = new SimProcess(`${name}${this.#names}`, skewMs, { ...this.#parts, store });
    this.#living.add(process);
    const gembatch = new Gembatch({
      store: process.mortal.store,
      provider: process.mortal.provider,
      clock: process.mortal.clock,
      random: new SeededRandom(Math.floor(this.#random.next() * 2 ** 32)),
      logger: false,
      autoWorker: false,
      batching: { ...this.#plan.batching, maxWait: maxWaitMs },
      retry: { maxAttempts: 100, initialDelay: "1s", maxDelay: "1m" },
      worker: settings,
    });
    return { process, gembatch };
  }

  #define(gembatch: Gembatch, { mortal }: SimProcess) {
    const draw = () => this.#random.next();
    const work = async () => mortal.clock.sleep(workMs * draw());
    const roots = defineWorkload(gembatch, { draw, work, onStep: () => (this.#figures.steps += 1) }, rounds);
    return [...roots, ...defineTiers(gembatch, rounds)];
  }

  #startWorker(slot: number): void {
    const { loops, ...settings } = this.#plan.processes[slot]!;
    const { process, gembatch } = this.#spawn(`worker${slot}-`, settings);
    process.onDeath = () => this.#startWorker(slot);
    process.onClose = async () => gembatch.close();
    this.#define(gembatch, process);
    const worker = gembatch.worker();
    process.run(async () => {
      if (loops) {
        await worker.start();
        return;
      }
      for (;;) {
        const { worked, wakeAt } = await worker.tick();
        if (!worked) await process.mortal.clock.sleep(Math.min(15_000, Math.max(1, wakeAt - process.mortal.clock.now())));
      }
    });
  }

  /** Starts every run, at its time, and then operates: cancels some, retries what is held, sees when all is done. */
  #startClient(): void {
    const { process, gembatch } = this.#spawn("client", { parkedBytes: 0, concurrency: 1 });
    process.onDeath = () => this.#startClient();
    process.onClose = async () => gembatch.close();
    const clock = process.mortal.clock;
    const roots = this.#started ? [] : this.#define(gembatch, process);
    process.run(async () => {
      if (!this.#started) {
        const random = new SeededRandom(1);
        for (const root of roots) {
          await clock.sleep(random.next() < 0.5 ? 0 : (random.next() * startWithinMs) / 10);
          await root.begin({ priority: Math.floor(random.next() * 3) });
          if (random.next() < this.#plan.cancelled) this.#cancelled.add(root.id);
        }
        this.#started = true;
      }
      for (;;) {
        await clock.sleep(operatorMs * (0.5 + this.#random.next()));
        const held = await gembatch.runs.list({ state: "held" });
        const broken = held.items.find(({ error }) => error?.code === "non_determinism");
        if (broken) throw new Violation("replays are deterministic", `run ${broken.id} is held: ${broken.error?.message}`);
        if (held.items.length > 0) await gembatch.runs.retry(held.items.map(({ id }) => id));
        for (const id of this.#cancelled) if (this.#random.next() < 0.2) await gembatch.runs.cancel(id);
        const { runs, batches } = await gembatch.stats();
        const openBatches = batches.forming + batches.sealed + batches.launching + batches.in_progress + batches.routing;
        this.#idle = !this.#faulty() && runs.runnable + runs.running + runs.waiting + runs.held + openBatches === 0;
      }
    });
  }

  #crashed(process: SimProcess): void {
    this.#figures.crashes += 1;
    this.#living.delete(process);
    this.#world.after(this.#random.next() * 60_000, () => process.onDeath());
  }

  /** Finishes like a program that ends: everything in hand is given back. */
  async #close(): Promise<void> {
    let open = this.#living.size;
    for (const process of this.#living) {
      void process.onClose().then(
        () => (open -= 1),
        (error: unknown) => this.#world.fail(error),
      );
    }
    await this.#world.run(
      () => open === 0,
      async () => {},
    );
    for (const { mortal } of this.#living) mortal.kill();
  }

  /** One more process lives for the day in which duplicates are looked for, and wakes up for each look. */
  async #sweep(): Promise<void> {
    let swept = false;
    const { process, gembatch } = this.#spawn("sweeper", { parkedBytes: 0, concurrency: 1 });
    process.run(async () => {
      const { clock } = process.mortal;
      for (;;) {
        await gembatch.worker().tick();
        const batches = await listAll(async (cursor) => this.#store.listBatches({ limit: 1_000, ...cursor }));
        const looks = batches.flatMap(({ sweepAt }) => sweepAt ?? []);
        if (looks.length === 0) break;
        await clock.sleep(Math.max(15_000, Math.min(...looks) - clock.now()));
      }
      await gembatch.close();
      swept = true;
    });
    await this.#world.run(
      () => swept,
      async () => {},
    );
  }

  /** The wall clock of the machine is put right, or wrong. */
  #jump(): void {
    this.#world.after(60_000 + this.#random.next() * 300_000, () => {
      if (!this.#faulty()) return;
      const { jumpMs } = this.#plan;
      this.#world.wallOffset = Math.round((this.#random.next() * 2 - 1) * jumpMs);
      this.#trace.add(`${this.#time()} wall clocks jump to ${this.#world.wallOffset} ms`);
      this.#jump();
    });
  }

  /** Somebody is dead or frozen still. */
  #disturbed(): boolean {
    return this.#living.size <= this.#plan.processes.length || [...this.#living].some(({ frozenUntil }) => frozenUntil > this.#world.now);
  }

  #faulty(): boolean {
    return this.#world.now < this.#world.startedAt + this.#plan.faultsMs;
  }

  #time(): string {
    return ((this.#world.now - this.#world.startedAt) / 1_000).toFixed(3);
  }
}
