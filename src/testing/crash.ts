/**
 * `crashEverywhere`: a chain under `kill -9` at every instant at which it makes a difference.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { Gembatch } from "../client/gembatch.ts";
import { parseDuration, type Duration } from "../core/duration.ts";
import { describe, GembatchError } from "../core/errors.ts";
import type { RunRecord, Store } from "../core/store.ts";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { drive } from "./drive.ts";
import { never, type Interceptor, type PortCall } from "./intercept.ts";
import { ManualClock } from "./manual-clock.ts";
import { MortalProcess } from "./process.ts";
import { SeededRandom } from "./seeded-random.ts";
import { SteerableProvider, type SteerableJob } from "./steerable-provider.ts";
import type { TestKitOptions } from "./test-kit.ts";

/** `before`: the call has no effect. `after`: it has, and its answer is never seen. */
export type CrashMode = "before" | "after";

/** Where a process is killed: at its `call`-th call of a store or a provider, from 1. */
export interface CrashPoint {
  call: number;
  mode: CrashMode;
}

/** What `define` returns: a chain, or a function that begins the work with ids of its own. A restarted program calls it again. */
export type Beginning<Input> =
  | { start(input: Input, options: { id: string }): Promise<unknown> }
  | ((input: Input) => Promise<unknown> | undefined);

export interface CrashEverywhereOptions extends Omit<TestKitOptions, "store" | "provider" | "clock"> {
  /** Names of the providers, for work that goes to several. Default: one, `"gemini"`. */
  providers?: readonly string[];
  /** Id of the run that a chain is started as. Default `"crashed"`. */
  id?: string;
  /** Only this crash, to look into it. */
  only?: CrashPoint;
  /** Only every n-th call, for long courses. Default 1: all of them. */
  every?: number;
  /**
   * When the next process starts. Default `"30s"`, when the lease of the dead one has just run out. `"0s"`: at once, so that it has to wait for
   * that lease; takes four times as long.
   */
  restartAfter?: Duration;
  /** What is compared of a run's output. For outputs that tell the time of day. */
  normalize?: (output: unknown, run: RunRecord) => unknown;
  /** Virtual time that one course may take. Default `"30d"`. */
  limit?: Duration;
}

export interface CrashFigures {
  /** Calls of store and provider in the undisturbed course. */
  calls: number;
  /** Courses that were run with a crash. */
  crashes: number;
  runs: number;
  prompts: number;
  jobs: number;
}

/** What came of one course, from start to end. */
interface Course {
  runs: Map<string, RunRecord>;
  jobs: SteerableJob[];
  calls: PortCall[];
}

/**
 * Runs the work once undisturbed, in virtual time, and counts its calls of store and provider. Then runs it again for every call, twice: once killed
 * before the call, once after it, and each time taken up by a new process on the same store. Rejects if any of these courses does not come to the same: the
 * same runs with the same outputs, every job created once, every prompt paid once, nothing stuck.
 *
 * @param define registers the chains and handlers on a new instance, as a program does at its start, and returns what to begin.
 */
export async function crashEverywhere<Input>(
  define: (gembatch: Gembatch) => Beginning<Input>,
  input: Input,
  options: CrashEverywhereOptions = {},
): Promise<CrashFigures> {
  const undisturbed = await runCourse(define, input, options, undefined);
  const calls = undisturbed.calls.length;
  const points = options.only ? [options.only] : crashPoints(calls, options.every ?? 1);
  for (const point of points) await crashAt(define, input, options, point, undisturbed);
  const rows = undisturbed.jobs.flatMap((job) => job.rows);
  return {
    calls,
    crashes: points.length,
    runs: undisturbed.runs.size,
    prompts: rows.length,
    jobs: undisturbed.jobs.length,
  };
}

function crashPoints(calls: number, every: number): CrashPoint[] {
  if (!Number.isInteger(every) || every < 1)
    throw new GembatchError("invalid_option", `Option every must be a whole number from 1, got ${describe(every)}.`);
  const points: CrashPoint[] = [];
  for (let call = 1; call <= calls; call += every) points.push({ call, mode: "before" }, { call, mode: "after" });
  return points;
}

async function crashAt<Input>(
  define: (gembatch: Gembatch) => Beginning<Input>,
  input: Input,
  options: CrashEverywhereOptions,
  point: CrashPoint,
  undisturbed: Course,
): Promise<void> {
  const call = undisturbed.calls[point.call - 1];
  if (!call) throw new Error(`There is no call ${point.call}: the undisturbed course makes ${undisturbed.calls.length}.`);
  try {
    compare(await runCourse(define, input, options, point), undisturbed, options);
  } catch (error) {
    const where = `A process killed ${point.mode} call ${point.call} of ${undisturbed.calls.length}, ${call.port}.${call.method}`;
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`${where}: ${what} To repeat just this one: only: { call: ${point.call}, mode: "${point.mode}" }.`, { cause: error });
  }
}

// One course -----------------------------------------------------------------------------------------------------------

/** Counts the calls of a process and kills it at one of them. */
class Executioner implements Interceptor {
  readonly calls: PortCall[] = [];
  readonly #at: CrashPoint | undefined;
  readonly #kill: () => void;

  constructor(at: CrashPoint | undefined, kill: () => void) {
    this.#at = at;
    this.#kill = kill;
  }

  async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
    const mode = this.#count(call);
    if (mode === "before") return this.#die();
    if (mode === "after") return perform().then(this.#die, this.#die);
    return perform();
  }

  /** One call, however many rows: a row that is read changes nothing until it is settled. */
  async *stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
    const mode = this.#count(call);
    if (mode === "before") await this.#die();
    yield* open();
    if (mode === "after") await this.#die();
  }

  #count(call: PortCall): CrashMode | undefined {
    this.calls.push(call);
    return this.calls.length === this.#at?.call ? this.#at.mode : undefined;
  }

  readonly #die = (): Promise<never> => {
    this.#kill();
    return never();
  };
}

async function runCourse<Input>(
  define: (gembatch: Gembatch) => Beginning<Input>,
  input: Input,
  options: CrashEverywhereOptions,
  crash: CrashPoint | undefined,
): Promise<Course> {
  const {
    id = "crashed",
    seed = 1,
    answer,
    turnaround = "1s",
    limit = "30d",
    restartAfter = "30s",
    providers: names = [],
    ...settings
  } = options;
  const { only: _only, every: _every, normalize: _normalize, ...rest } = settings;
  const clock = new ManualClock();
  const turnaroundMs = parseDuration(turnaround, "turnaround");
  const steerable = (name?: string) =>
    new SteerableProvider({ clock, turnaroundMs, ...(name === undefined ? {} : { name }), ...(answer ? { answer } : {}) });
  const [provider = steerable(), ...others] = names.map(steerable);
  const store = new SqliteStore({ path: ":memory:", synchronous: "normal", random: new SeededRandom(seed) });
  await store.open();
  const end = clock.now() + parseDuration(limit, "limit");

  /** One process from its start; resolves with its calls when all is done, and when it dies. */
  const live = async (lifeNo: number, point: CrashPoint | undefined): Promise<{ ended: "done" | "late" | "gone"; calls: PortCall[] }> => {
    const executioner = new Executioner(point, () => mortal.kill());
    const mortal: MortalProcess = new MortalProcess({ clock, store, provider, others }, executioner);
    const random = new SeededRandom(seed * 1_000 + lifeNo);
    const parts = { store: mortal.store, provider: mortal.providers, clock: mortal.clock, random, autoWorker: false };
    const gembatch = new Gembatch({ logger: false, ...rest, ...parts });
    const worker = gembatch.worker();
    const unlessKilled = async <T>(work: () => Promise<T>): Promise<T | undefined> => Promise.race([work(), mortal.died]);

    const program = async () => {
      const beginning = define(gembatch);
      await (typeof beginning === "function" ? beginning(input) : beginning.start(input, { id }));
    };
    await unlessKilled(program);
    const ended = mortal.dead
      ? "gone"
      : await drive({
          tick: async () => unlessKilled(async () => worker.tick()),
          clock,
          end,
          done: async () => !(await store.hasLiveRuns()),
        });
    if (ended === "done") await unlessKilled(async () => gembatch.close());
    return { ended: mortal.dead ? "gone" : ended, calls: executioner.calls };
  };

  try {
    const first = await live(1, crash);
    if (crash !== undefined && first.ended !== "gone")
      throw new Error("the process did not come to this call: its course changes from time to time.");
    if (crash !== undefined) await clock.advance(parseDuration(restartAfter, "restartAfter"));
    const last = crash === undefined ? first : await live(2, undefined);
    const runs = await readRuns(store);
    if (last.ended === "late") {
      const stuck = [...runs.values()].filter(({ endedAt }) => endedAt === undefined);
      throw new Error(`after ${limit} of virtual time these runs are not done: ${stuck.map(describeRun).join(", ")}.`);
    }
    return { runs, jobs: [provider, ...others].flatMap(({ jobs }) => jobs), calls: first.calls };
  } finally {
    await store.close();
  }
}

async function readRuns(store: Store): Promise<Map<string, RunRecord>> {
  const runs = new Map<string, RunRecord>();
  let cursor: string | undefined;
  do {
    const page = await store.listRuns({ limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
    for (const run of page.items) runs.set(run.id, run);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return runs;
}

// Comparing ------------------------------------------------------------------------------------------------------------

function compare(disturbed: Course, undisturbed: Course, options: CrashEverywhereOptions): void {
  compareRuns(disturbed.runs, undisturbed.runs, options.normalize ?? ((output) => output));
  const { jobs } = disturbed;
  const token = firstRepeated(jobs.map((job) => job.token));
  if (token !== undefined) throw new Error(`the job ${token} was created more than once.`);
  const keys = jobs.flatMap(({ rows }) => rows.map(({ key }) => key));
  const key = firstRepeated(keys);
  if (key !== undefined) throw new Error(`the prompt ${key} was sent in more than one job.`);
  const expected = undisturbed.jobs.reduce((sum, { rows }) => sum + rows.length, 0);
  if (keys.length !== expected) throw new Error(`${keys.length} prompts were paid, ${expected} without the crash.`);
}

function compareRuns(
  disturbed: ReadonlyMap<string, RunRecord>,
  undisturbed: ReadonlyMap<string, RunRecord>,
  normalize: (output: unknown, run: RunRecord) => unknown,
): void {
  for (const [id, run] of disturbed) {
    if (undisturbed.has(id)) continue;
    throw new Error(
      `there is another run, ${describeRun(run)}. Give every start and submit an id, so that a restarted program begins nothing twice.`,
    );
  }
  for (const [id, expected] of undisturbed) {
    const run = disturbed.get(id);
    if (!run) throw new Error(`the run ${id} is missing.`);
    const same =
      run.state === expected.state &&
      run.error?.code === expected.error?.code &&
      run.error?.message === expected.error?.message &&
      isDeepStrictEqual(normalize(run.output, run), normalize(expected.output, expected));
    if (!same) throw new Error(`the run ended as ${describeRun(run)}, without the crash as ${describeRun(expected)}.`);
  }
}

function describeRun({ id, chain, state, output, error }: RunRecord): string {
  const what = error
    ? ` with ${error.code}: ${error.message}`
    : output === undefined
      ? ""
      : ` with ${JSON.stringify(output)?.slice(0, 500)}`;
  return `${id} (${chain}) ${state}${what}`;
}

function firstRepeated(values: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return values.find((value) => seen.size === seen.add(value).size);
}
