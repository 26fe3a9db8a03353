import { Gembatch, type GembatchOptions } from "../client/gembatch.ts";
import type { WorkerHandle } from "../client/worker-handle.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import type { Store } from "../core/store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { drive } from "./drive.ts";
import { ManualClock } from "./manual-clock.ts";
import { SeededRandom } from "./seeded-random.ts";
import { SteerableProvider, type SteerableProviderOptions } from "./steerable-provider.ts";

export interface TestKitOptions extends Omit<GembatchOptions, "clock" | "random" | "store" | "provider" | "autoWorker"> {
  /** Default: a new SQLite store in memory. */
  store?: Store;
  /** Default: a `SteerableProvider` on the kit's clock. Of several, the first is `provider` of the kit. */
  provider?: SteerableProvider | readonly [SteerableProvider, ...SteerableProvider[]];
  clock?: ManualClock;
  seed?: number;
  answer?: SteerableProviderOptions["answer"];
  turnaround?: Duration;
}

/** A gembatch in virtual time: a day of waiting takes about a second, and the same seed gives the same course of events. */
export interface TestKit extends AsyncDisposable {
  gembatch: Gembatch;
  clock: ManualClock;
  provider: SteerableProvider;
  worker: WorkerHandle;
  /** Ticks and moves time on until no run can go on by itself; at most `limit` of virtual time. Default 30 days. */
  run(limit?: Duration): Promise<void>;
  /** Ticks while this much virtual time passes. */
  advance(duration: Duration): Promise<void>;
}

export function createTestKit(options: TestKitOptions = {}): TestKit {
  const { seed = 1, answer, turnaround = "1m", clock = new ManualClock(), ...rest } = options;
  const providers = [
    options.provider ??
      new SteerableProvider({ clock, turnaroundMs: parseDuration(turnaround, "turnaround"), ...(answer ? { answer } : {}) }),
  ].flat() as [SteerableProvider, ...SteerableProvider[]];
  const store = options.store ?? new SqliteStore({ path: ":memory:" });
  // A lease that is renewed seldom: every renewal is a tick, and a day of virtual time would be thousands of them.
  const workerOptions = { lease: "10m" as const, ...rest.worker };
  const gembatch = new Gembatch({
    logger: false,
    ...rest,
    worker: workerOptions,
    store,
    provider: providers,
    clock,
    random: new SeededRandom(seed),
    autoWorker: false,
  });
  const worker = gembatch.worker();

  const runFor = async (duration: Duration, name: string, done: () => Promise<boolean>): Promise<boolean> =>
    (await drive({ tick: async () => worker.tick(), clock, end: clock.now() + parseDuration(duration, name), done })) === "done";

  return {
    gembatch,
    clock,
    provider: providers[0],
    worker,
    async run(limit = "30d") {
      const ended = await runFor(limit, "limit", async () => !(await store.hasLiveRuns()));
      if (!ended) throw new Error(`Some run is still not done after ${limit} of virtual time.`);
    },
    async advance(duration) {
      await runFor(duration, "duration", async () => false);
    },
    async [Symbol.asyncDispose]() {
      await gembatch.close();
    },
  };
}
