/**
 * What the scenarios share: a folder to work in, memory and time of this process, and how a scenario hands its figures to `run.ts`.
 *
 * @module
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Figures by name; what `run.ts` reads from the last line of a scenario's output. */
export type Figures = Record<string, number>;

/** Prints the figures as the last line of this process's output. */
export function report(figures: Figures): void {
  console.log(JSON.stringify(figures));
}

/** Positional numbers from the command line, each with a default. */
export function numbers<const Defaults extends readonly number[]>(...defaults: Defaults): { [K in keyof Defaults]: number } {
  const given = process.argv.slice(2);
  return defaults.map((value, index) => (given[index] === undefined ? value : Number(given[index]))) as { [K in keyof Defaults]: number };
}

/** A folder on the disk that temporary files go to (`TMPDIR`), removed at the end of the process. */
export function workFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "gembatch-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Wall-clock and processor time since it was made. */
export class Stopwatch {
  readonly #from = performance.now();
  readonly #cpu = process.cpuUsage();

  get ms(): number {
    return performance.now() - this.#from;
  }

  /** Processor time of all threads of this process: less disturbed by neighbours than wall-clock time. */
  get cpuMs(): number {
    const { user, system } = process.cpuUsage(this.#cpu);
    return (user + system) / 1_000;
  }
}

/** Live heap after a full collection, in MB. */
export function heapMb(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed / 1e6;
}

export function rssMb(): number {
  return process.memoryUsage().rss / 1e6;
}

/** The most memory that this process ever held since `resetPeak`, in MB, as the kernel counted it (Linux). */
export function peakMb(): number {
  if (!existsSync("/proc/self/status")) return process.resourceUsage().maxRSS / 1e3;
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return (Number(match?.[1] ?? 0) * 1_024) / 1e6;
}

/** Starts a new peak; where the kernel cannot, peaks are those of the whole life. */
export function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // No such file, or not ours to write.
  }
}

/** A SQLite file with its log, in MB. */
export function databaseMb(path: string): number {
  return ["", "-wal"].reduce((sum, suffix) => sum + (existsSync(path + suffix) ? statSync(path + suffix).size : 0), 0) / 1e6;
}

/** Milliseconds for one of `count` calls, after a tenth as many to warm up; the median of five rounds. */
export async function timeEach(count: number, call: () => Promise<unknown>): Promise<number> {
  const rounds: number[] = [];
  for (let i = 0; i < count / 10; i += 1) await call();
  for (let round = 0; round < 5; round += 1) {
    const watch = new Stopwatch();
    for (let i = 0; i < count; i += 1) await call();
    rounds.push(watch.ms / count);
  }
  return median(rounds);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
