import { Gembatch, type GembatchOptions } from "../client/gembatch.ts";
import type { WorkerHandle } from "../client/worker-handle.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import type { Store } from "../core/store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { ManualClock } from "./manual-clock.ts";
import { SeededRandom } from "./seeded-random.ts";
import { SteerableProvider, type SteerableProviderOptions } from "./steerable-provider.ts";

export interface TestKitOptions extends Omit<GembatchOptions, "clock" | "random" | "store" | "provider" | "autoWorker"> {
  /** Default: a new SQLite store in memory. */
  store?: Store;
  /** Default: a `SteerableProvider` on the kit's clock. */
  provider?: SteerableProvider;
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

/** How often ticks may go round without time passing before that counts as an endless loop. */
const maxTicksPerInstant = 100_000;

export function createTestKit(options: TestKitOptions = {}): TestKit {
  const { seed = 1, answer, turnaround = "1m", clock = new ManualClock(), ...rest } = options;
  const provider =
    options.provider ??
    new SteerableProvider({ clock, turnaroundMs: parseDuration(turnaround, "turnaround"), ...(answer ? { answer } : {}) });
  const store = options.store ?? new SqliteStore({ path: ":memory:" });
  const gembatch = new Gembatch({ logger: false, ...rest, store, provider, clock, random: new SeededRandom(seed), autoWorker: false });
  const worker = gembatch.worker();

  /** Ticks until `end`, or until `done` says so after a tick that moved nothing. */
  const runUntil = async (end: number, done: () => Promise<boolean>): Promise<boolean> => {
    for (let still = 0; still < maxTicksPerInstant; still += 1) {
      const { worked, wakeAt } = await worker.tick();
      if (worked) continue;
      if (await done()) return true;
      if (clock.now() >= end) return false;
      const next = Math.min(end, Math.max(clock.now() + 1, Math.min(wakeAt, clock.nextAt ?? Infinity)));
      await clock.advance(next - clock.now());
      still = 0;
    }
    throw new Error("The worker keeps finding work without time passing.");
  };

  return {
    gembatch,
    clock,
    provider,
    worker,
    async run(limit = "30d") {
      const ended = await runUntil(clock.now() + parseDuration(limit, "limit"), async () => !(await store.hasLiveRuns()));
      if (!ended) throw new Error(`Some run is still not done after ${limit} of virtual time.`);
    },
    async advance(duration) {
      await runUntil(clock.now() + parseDuration(duration, "duration"), async () => false);
    },
    async [Symbol.asyncDispose]() {
      await gembatch.close();
    },
  };
}
