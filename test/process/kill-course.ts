/**
 * The kill test: programs on one store die by `kill -9` at random moments, until everything they had to do is done all the same.
 *
 * @module
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../../src/testing.ts";
import { startProgram, startServer, type KillProgramArguments, type Program, type Server } from "./kill-processes.ts";
import { all, type KillStore, type KillStores } from "./kill-stores.ts";
import type { Course } from "./kill-verdict.ts";

export interface KillOptions {
  /** Where the programs keep their runs. */
  stores: KillStores;
  /** Programs that are alive at the same time, at most. */
  programs: number;
  kills: number;
  seed: number;
  /** Runs of each of the five forms in a wave of work. */
  runs: number;
  /** Kills for which a wave of work lasts: as many waves are started as keep the programs busy. */
  killsPerWave: number;
  /** From the creation of a job to its end, as `gembatch emulator --turnaround` takes it. */
  turnaround: string;
  /** Faults of the server, as `gembatch emulator --fault` takes them. */
  faults: readonly string[];
  /** A new folder for what the programs write. */
  folder: string;
  onProgress?: (line: string) => void;
}

export interface KillCourse extends Course {
  kills: number;
  /** Kills that hit a process which was not ready yet, any moment of its work, the moment after a job was asked for. */
  moments: Readonly<Record<Moment, number>>;
  waves: number;
  /** From the workers' logs: jobs of killed launches that were found again; launches without a job that were repeated. */
  adopted: number;
  repeated: number;
  /** Executions of steps whose result a kill took away. */
  repeatedSteps: number;
}

const moments = ["starting", "working", "launching"] as const;
type Moment = (typeof moments)[number];

/** The last program, which nobody kills, must be done by then. */
const limitMs = 180_000;

/** Kills programs until `kills` is reached, lets the work be done, and looks at what is left. */
export async function runKills(options: KillOptions): Promise<KillCourse> {
  const { folder, seed, kills } = options;
  const files = newFolder(join(folder, "killed"));
  const store = options.stores("killed");
  const count = { kills: 0, waves: 1, adopted: 0, repeated: 0, moments: { starting: 0, working: 0, launching: 0 } };
  const onLog = (line: string) => {
    if (/\badopted job\b/.test(line)) count.adopted += 1;
    if (/\bsending it again\b/.test(line)) count.repeated += 1;
    if (/\berror\b/i.test(line)) options.onProgress?.(line);
  };
  const server = await startServer([
    "--seed",
    String(seed),
    "--turnaround",
    options.turnaround,
    ...options.faults.flatMap((fault) => ["--fault", fault]),
  ]);
  const start = () => startProgram(store.url, server, { waves: count.waves, runs: options.runs, effects: files.effects }, onLog);

  /** One place for a program: starts one, kills it at a moment of its own, and so on. All places but the first are empty at times. */
  const occupy = async (place: number): Promise<void> => {
    const random = new SeededRandom(seed * options.programs + place);
    while (count.kills < kills) {
      if (place > 0) await sleep(random.next() * 3_000);
      const killed = await killAtSomeMoment(start(), server, random);
      if (killed === undefined) {
        // Everything was done before the kill came: more work.
        count.waves += 1;
        continue;
      }
      count.kills += 1;
      count.moments[killed] += 1;
      count.waves = Math.max(count.waves, 1 + Math.floor(count.kills / options.killsPerWave));
      if (count.kills % 20 === 0) options.onProgress?.(`${count.kills} kills, ${count.waves} waves, ${count.adopted} jobs adopted`);
    }
  };
  try {
    await Promise.all(Array.from({ length: options.programs }, async (_, place) => occupy(place)));
    const ended = await finish(start());
    const course = await lookAt(store, files, server, ended);
    const repeatedSteps = course.effects.length - new Set(course.effects.map((line) => line.split(" ")[0])).size;
    return { ...course, ...count, repeatedSteps };
  } finally {
    await server.stop();
  }
}

/** The same work, on a server without faults that gives the same answers, by one program that nobody kills. */
export async function runUndisturbed({ folder, seed, runs, stores }: KillOptions, waves: number): Promise<Course> {
  const files = newFolder(join(folder, "undisturbed"));
  const store = stores("undisturbed");
  const server = await startServer(["--seed", String(seed), "--turnaround", "50ms"]);
  try {
    const args: KillProgramArguments = { waves, runs, effects: files.effects };
    const ended = await finish(startProgram(store.url, server, args, () => {}));
    return await lookAt(store, files, server, ended);
  } finally {
    await server.stop();
  }
}

interface Files {
  effects: string;
}

function newFolder(path: string): Files {
  mkdirSync(path, { recursive: true });
  const files = { effects: join(path, "effects.txt") };
  writeFileSync(files.effects, "");
  return files;
}

/** When the program died; `undefined` if it was done before. Throws if it failed by itself. */
async function killAtSomeMoment(program: Program, server: Server, random: SeededRandom): Promise<Moment | undefined> {
  const draw = random.next();
  const moment: Moment = draw < 0.2 ? "starting" : draw < 0.6 ? "working" : "launching";
  const lifeMs = 50 + random.next() * 1_450;
  const abort = new AbortController();
  const over = program.ended.then(() => abort.abort());
  if (moment !== "starting") await program.started;
  if (moment === "launching") {
    // The request is at the server. Its answer takes long at times, so the job is there and nobody has written its name down.
    const timer = AbortSignal.any([abort.signal, AbortSignal.timeout(3_000)]);
    await server.nextCreate(timer);
    await sleep(random.next() * 100);
  } else {
    await sleep(lifeMs, undefined, { signal: abort.signal }).catch(() => {});
  }
  program.kill();
  await over;
  const ended = await program.ended;
  if (ended === "failed") throw new Error("A program ended with an error of its own; its log is above.");
  return ended === "killed" ? moment : undefined;
}

async function finish(program: Program): Promise<boolean> {
  const timer = setTimeout(() => program.kill(), limitMs);
  const ended = await program.ended;
  clearTimeout(timer);
  return ended === "done";
}

/** What is left when all programs have ended. */
async function lookAt({ open, check }: KillStore, { effects }: Files, server: Server, ended: boolean): Promise<Course> {
  const store = open();
  await store.open();
  try {
    const runs = await all(async (cursor) => store.listRuns({ limit: 500, ...cursor }));
    const batches = await all(async (cursor) => store.listBatches({ limit: 500, ...cursor }));
    return {
      runs: runs.map(({ id, state, output }) => ({ id, state, output })),
      batches: batches.map(({ id, state, job }) => ({ id, state, job })),
      effects: existsSync(effects) ? readFileSync(effects, "utf8").split("\n").filter(Boolean) : [],
      ledger: await server.ledger(),
      integrity: await check(store),
      ended,
    };
  } finally {
    await store.close();
  }
}
