/**
 * The whole engine with a real adapter against the emulator, both on one manual clock: processes that die at their calls, until all is done. HTTP is real, time is not: nothing moves the clock while a
 * tick waits for an answer.
 *
 * @module
 */
import { jobToken } from "../../src/core/keys.ts";
import type { JobInput, Provider } from "../../src/core/provider.ts";
import type { RunRecord, Store } from "../../src/core/store.ts";
import { startEmulator, type AnswerScript, type Emulator, type EmulatorFaults } from "../../src/emulator.ts";
import { Gembatch } from "../../src/index.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { drive } from "../../src/testing/drive.ts";
import { never, type Interceptor, type PortCall } from "../../src/testing/intercept.ts";
import { ManualClock } from "../../src/testing/manual-clock.ts";
import { MortalProcess } from "../../src/testing/process.ts";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { promptText } from "../../src/testing/steerable-provider.ts";
import { answerTo, refusedWord } from "../sim/service.ts";
import { listAll } from "../sim/verdict.ts";
import { defineWorkload } from "../sim/workload.ts";
import { openProvider, type Mode } from "./modes.ts";

/** A call of a provider is worth so many of the store: there are few, and most of what can go wrong lies around them. */
const providerCallCost = 20;
const leaseMs = 300_000;
const limitMs = 30 * 86_400_000;
/** Long enough for everything that is left at the provider to be removed. */
const tidyMs = 3 * 3_600_000;

export interface CourseOptions {
  mode: Mode;
  seed: number;
  /** Without: an undisturbed course. */
  faults?: EmulatorFaults;
  /** How many processes die, and after how many calls of the store each. */
  crashes?: { count: number; calls: [least: number, most: number] };
}

/** What came of a course. */
export interface Course {
  runs: ReadonlyMap<string, RunRecord>;
  store: Store;
  emulator: Emulator;
  /** The rows that were answered, by key: how often. */
  answered: ReadonlyMap<string, number>;
  /** Tokens of batches that have a job of their own in the books, and how many jobs of that token there were. */
  jobsOfToken: ReadonlyMap<string, number>;
  /** Versions of each object of the bucket that were seen when a process had died. */
  versions: ReadonlyMap<string, ReadonlySet<string>>;
  crashes: number;
  calls: number;
  close(): Promise<void>;
}

/** Throws if not all is done after 30 days of virtual time. */
export async function runCourse({ mode, seed, faults = {}, crashes = { count: 0, calls: [0, 0] } }: CourseOptions): Promise<Course> {
  const clock = new ManualClock();
  const random = new SeededRandom(seed);
  const answered = new Map<string, number>();
  const emulator = await startEmulator({
    ...{ clock, seed, faults, turnaround: { min: 10_000, max: 300_000 } },
    answer: (request, info) => {
      answered.set(info.key, (answered.get(info.key) ?? 0) + 1);
      return answerOf(JSON.stringify(request), info.method);
    },
  });
  const store = new SqliteStore({ path: ":memory:", random: new SeededRandom(seed) });
  await store.open();
  const close = async (): Promise<void> => {
    await store.close();
    await emulator.close();
  };
  const world = { mode, clock, store, emulator, seed };
  const figures = { crashes: 0, calls: 0 };
  const versions = new Map<string, Set<string>>();
  try {
    for (let life = 1; ; life += 1) {
      const [least, most] = crashes.calls;
      const doomed = figures.crashes < crashes.count;
      const fuel = doomed ? least + Math.floor(random.next() * (most - least)) : Infinity;
      const { ended, calls } = await live(world, life, fuel, random.next() < 0.5);
      figures.calls += calls;
      if (ended === "late") throw new Error(`After 30 days of virtual time not all is done: ${await whatIsLeft(store)}.`);
      if (ended === "done") break;
      figures.crashes += 1;
      // The look itself meets no faults.
      const { faults: still } = emulator;
      emulator.faults = {};
      for (const { name, generation } of await objectsOf(emulator)) versions.set(name, (versions.get(name) ?? new Set()).add(generation));
      emulator.faults = still;
      // At once, so that the next one has to wait for the lease of the dead one; or later.
      if (random.next() < 0.5) await clock.advance(leaseMs + 1_000);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const runs = new Map((await listAll(async (cursor) => store.listRuns({ limit: 1_000, ...cursor }))).map((run) => [run.id, run]));
  const batches = await listAll(async (cursor) => store.listBatches({ limit: 1_000, ...cursor }));
  const tokens = batches.map(({ id }) => jobToken(store.id, id));
  const jobs = emulator.jobs();
  const jobsOfToken = new Map(tokens.map((token) => [token, jobs.filter(({ displayName }) => displayName === token).length]));
  return { runs, store, emulator, answered, jobsOfToken, versions, ...figures, close };
}

interface World {
  mode: Mode;
  clock: ManualClock;
  store: Store;
  emulator: Emulator;
  seed: number;
}

/** One process from its start: until all is done and nothing of it is left at the provider, or until it dies. */
async function live(
  world: World,
  life: number,
  fuel: number,
  before: boolean,
): Promise<{ ended: "done" | "late" | "gone"; calls: number }> {
  const { clock, store, emulator } = world;
  const wire = new Wire(() => mortal.dead);
  const fate = new Fate(fuel, before, () => mortal.kill());
  const provider = withMortalRows(openProvider(world.mode, emulator.url, wire.fetch), () => mortal.died);
  const mortal: MortalProcess = new MortalProcess({ clock, store, provider }, fate);
  const gembatch = new Gembatch({
    ...{ store: mortal.store, provider: mortal.providers, clock: mortal.clock, random: new SeededRandom(world.seed * 1_000 + life) },
    ...{ autoWorker: false, logger: false, worker: { lease: "5m" }, retry: { maxAttempts: 100 } },
    ...{ polling: { minInterval: "5s" } },
  });
  const worker = gembatch.worker();
  const unlessKilled = async <T>(work: () => Promise<T>): Promise<T | undefined> => Promise.race([work(), mortal.died]);
  await unlessKilled(async () => {
    const roots = defineWorkload(gembatch, { draw: () => 0, work: async () => {}, onStep: () => {} }, 1);
    for (const root of roots) await root.begin({ priority: 0 });
  });
  const tick = async () => unlessKilled(async () => worker.tick());
  const driveUntil = async (end: number, done: () => Promise<boolean>) => (mortal.dead ? "gone" : drive({ tick, clock, end, done }));
  let ended = await driveUntil(clock.now() + limitMs, async () => !(await store.hasLiveRuns()));
  if (ended === "done") {
    // What is left is removed when nothing fails any more.
    emulator.faults = {};
    if ((await driveUntil(clock.now() + tidyMs, async () => false)) === "gone") ended = "gone";
  }
  if (ended === "done") await unlessKilled(async () => gembatch.close());
  // What the dead one had on the wire arrives, unread.
  await wire.quiet();
  return { ended: mortal.dead ? "gone" : ended, calls: fate.calls };
}

/** Whoever writes rows when its process dies lets go of its file. */
function withMortalRows(provider: Provider, died: () => Promise<unknown>): Provider {
  const rowsOf = async function* (input: JobInput) {
    const rows = input.rows()[Symbol.asyncIterator]();
    const death = died().then(() => Promise.reject(new Error("The process is dead.")));
    death.catch(() => {});
    for (;;) {
      const { done, value } = await Promise.race([rows.next(), death]);
      if (done) return;
      yield value;
    }
  };
  return { ...provider, stageInput: (input, signal) => provider.stageInput({ ...input, rows: () => rowsOf(input) }, signal) };
}

/** The transport of one process: a dead one sends nothing more. */
class Wire {
  readonly #pending = new Set<Promise<unknown>>();
  readonly #dead: () => boolean;

  constructor(dead: () => boolean) {
    this.#dead = dead;
  }

  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    if (this.#dead()) return never();
    const sent = globalThis.fetch(input, init);
    this.#pending.add(sent);
    try {
      return await sent;
    } finally {
      this.#pending.delete(sent);
    }
  };

  async quiet(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
  }
}

/** Kills a process when its fuel is spent, before or after the call that spent it. */
class Fate implements Interceptor {
  calls = 0;
  #fuel: number;
  readonly #before: boolean;
  readonly #kill: () => void;

  constructor(fuel: number, before: boolean, kill: () => void) {
    this.#fuel = fuel;
    this.#before = before;
    this.#kill = kill;
  }

  async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    if (!this.#isLast(call)) return perform();
    return this.#before ? this.#die() : perform().then(this.#die, this.#die);
  }

  async *stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
    const last = this.#isLast(call);
    if (last && this.#before) await this.#die();
    try {
      for await (const row of open()) {
        // After the first row: in the middle.
        if (last) await this.#die();
        yield row;
      }
    } finally {
      if (last) await this.#die();
    }
  }

  #isLast({ port }: PortCall): boolean {
    this.calls += 1;
    const had = this.#fuel;
    this.#fuel -= port === "provider" ? providerCallCost : 1;
    return had > 0 && this.#fuel <= 0;
  }

  readonly #die = (): Promise<never> => {
    this.#kill();
    return never();
  };
}

/** What lies in the bucket. */
export async function objectsOf({ url }: Emulator): Promise<{ name: string; generation: string }[]> {
  const answer = (await (await fetch(`${url}/storage/v1/b/bucket/o`)).json()) as { items?: { name: string; generation: string }[] };
  return answer.items ?? [];
}

/** What lies in the dataset. */
export async function tablesOf({ url }: Emulator): Promise<string[]> {
  const answer = (await (await fetch(`${url}/bigquery/v2/projects/p/datasets/batches/tables`)).json()) as { tables?: { id: string }[] };
  return (answer.tables ?? []).map(({ id }) => id);
}

/** The same as the workload's oracle knows. */
function answerOf(request: string, method: string): ReturnType<AnswerScript> {
  const prompt = promptText(request);
  if (method === "embedContent") return [prompt.length, 1, 0];
  return prompt.includes(refusedWord) ? { error: { code: 3, message: "refused" } } : answerTo(prompt);
}

async function whatIsLeft(store: Store): Promise<string> {
  const runs = (await listAll(async (cursor) => store.listRuns({ limit: 1_000, ...cursor }))).filter(
    ({ endedAt }) => endedAt === undefined,
  );
  const batches = (await store.activeBatches()).map(({ id, state, error }) => `batch ${id} ${state} ${error?.message ?? ""}`);
  return [...runs.map(({ id, state }) => `run ${id} ${state}`), ...batches].join(", ");
}
