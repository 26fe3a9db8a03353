/**
 * How things stand, read from gembatch, and as lines for people.
 *
 * @module
 */
import { setImmediate as breathe } from "node:timers/promises";
import type { BatchRecord, Gembatch, Stats } from "gembatch";
import type { Film } from "./films.ts";
import { cut, paint, textWidth } from "./screen.ts";
import type { Task } from "./tasks.ts";

export interface Snapshot {
  /** Whether the money is real. */
  live: boolean;
  tasks: { name: string; about: string; done: number; total: number }[];
  /** Newest first, at most six. */
  jobs: { number: number; record: BatchRecord; prompts: string }[];
  stats: Stats;
  /** Films of all tasks have an output, or will never have one. */
  complete: boolean;
  elapsedMs: number;
}

const shownJobs = 6;
const recountMs = 1_000;

/** Reads what the display shows. Counts are asked of `stats()`; what it does not count (films per task, tasks per job) is looked up and kept. */
export class Progress {
  readonly #gembatch: Gembatch;
  readonly #live: boolean;
  readonly #startedAt = performance.now();
  readonly #tasks: { task: Task; open: string[]; total: number }[];
  readonly #prompts = new Map<string, { text: string; done: Promise<string> }>();
  #countedAt = -Infinity;
  #countedRuns = -1;

  constructor(gembatch: Gembatch, tasks: readonly Task[], films: readonly Film[], live: boolean) {
    this.#gembatch = gembatch;
    this.#live = live;
    this.#tasks = tasks.map((task) => ({ task, open: films.map((film) => task.runIds(film).at(-1)!), total: films.length }));
  }

  /** `exact`: with everything counted as of now, however long it takes. */
  async read({ exact = false } = {}): Promise<Snapshot> {
    const [stats, jobs] = [await this.#gembatch.stats(), await this.#gembatch.batches.list({ limit: shownJobs })];
    await this.#count(stats, exact);
    const jobCount = sum(stats.batches);
    return {
      live: this.#live,
      tasks: this.#tasks.map(({ task, open, total }) => ({ name: task.name, about: task.about, done: total - open.length, total })),
      jobs: await Promise.all(
        jobs.items.map(async (record, index) => ({ number: jobCount - index, record, prompts: await this.#promptsOf(record, exact) })),
      ),
      stats,
      complete: this.#tasks.every(({ open }) => open.length === 0),
      elapsedMs: performance.now() - this.#startedAt,
    };
  }

  /** Looks up the runs that were still open, when runs have ended since the last time. */
  async #count(stats: Stats, exact: boolean): Promise<void> {
    const ended = stats.runs.completed + stats.runs.failed + stats.runs.cancelled;
    const soon = performance.now() - this.#countedAt < recountMs;
    if (ended === this.#countedRuns || (soon && !exact)) return;
    this.#countedRuns = ended;
    this.#countedAt = performance.now();
    for (const counted of this.#tasks) {
      const open: string[] = [];
      for (const [index, id] of counted.open.entries()) {
        const run = await this.#gembatch.runs.get(id);
        if (run?.endedAt === undefined) open.push(id);
        if (index % 200 === 0) await breathe();
      }
      counted.open = open;
    }
  }

  /** How many prompts of a job are of which task; counted once, beside the display, unless `now` is given. */
  async #promptsOf({ id, launchedAt }: BatchRecord, now: boolean): Promise<string> {
    if (launchedAt === undefined) return "";
    let counted = this.#prompts.get(id);
    if (!counted) {
      counted = { text: "", done: this.#countPrompts(id) };
      this.#prompts.set(id, counted);
      counted.done = counted.done.then((text) => (counted!.text = text)).catch(() => "");
    }
    return now ? counted.done : counted.text;
  }

  /** A run's id begins with its task. */
  async #countPrompts(batch: string): Promise<string> {
    const counts = new Map<string, number>();
    let cursor: string | undefined;
    do {
      const page = await this.#gembatch.requests.list({ batch, limit: 250, cursor });
      for (const { run } of page.items) {
        const task = run.slice(0, 1).toUpperCase();
        counts.set(task, (counts.get(task) ?? 0) + 1);
      }
      cursor = page.nextCursor;
      await breathe();
    } while (cursor !== undefined);
    const sorted = [...counts].toSorted(([a], [b]) => a.localeCompare(b));
    return sorted.map(([task, count]) => `${task} ${number(count)}`).join(" · ");
  }
}

/** The block of the live display. */
export function blockOf(snapshot: Snapshot, columns: number, title: string): string[] {
  const { tasks, jobs, stats, elapsedMs } = snapshot;
  const width = Math.min(columns, 120) - 1;
  const { requests, usage } = stats;
  const answered = `${number(requests.succeeded)} answered${failuresOf(stats)}`;
  return [
    `${cut(title, width - 10)} ${paint("dim", `· ${seconds(elapsedMs)}`)}`,
    "",
    ...taskLines(tasks, width),
    "",
    field("prompts", `${number(requests.queued)} queued · ${number(requests.batched)} in jobs · ${answered}`, width),
    ...(jobs.length === 0 ? [field("job 1", "will hold prompt 1 of every task", width)] : jobLines(jobs, width)),
    field("tokens", `${number(usage.promptTokens)} in · ${number(usage.outputTokens + usage.thoughtTokens)} out`, width),
    field("money", moneyOf(snapshot, width), width),
  ];
}

function taskLines(tasks: Snapshot["tasks"], width: number): string[] {
  const aboutWidth = width < 74 ? 0 : Math.max(...tasks.map(({ about }) => about.length)) + 2;
  const totals = tasks.map(({ done, total }) => `${number(done)} / ${number(total)}`);
  const totalWidth = Math.max(...totals.map(({ length }) => length));
  const barWidth = Math.min(40, width - 4 - aboutWidth - totalWidth - 2);
  return tasks.map(({ name, about, done, total }, index) => {
    const label = `  ${paint("bold", name)}  ${paint("dim", about.slice(0, aboutWidth).padEnd(aboutWidth))}`;
    const full = Math.floor((done / total) * barWidth);
    const bar = paint("green", "█".repeat(full)) + paint("dim", "░".repeat(barWidth - full));
    return `${label}${bar}  ${totals[index]?.padStart(totalWidth)}`;
  });
}

/** The jobs, oldest first: number, size, state, and whose prompts they hold. */
export function jobLines(jobs: Snapshot["jobs"], width: number): string[] {
  const size = Math.max(...jobs.map(({ record }) => number(record.requestCount).length));
  return jobs.toReversed().map((job) => {
    const { requestCount } = job.record;
    const text = `${number(requestCount).padStart(size)} prompts  ${stateOf(job.record).padEnd(17)}`;
    const whose = textWidth(`${text} ${job.prompts}`) <= width - 11 ? job.prompts : "";
    return field(`job ${job.number}`, `${text} ${whose}`.trimEnd(), width);
  });
}

export function field(name: string, text: string, width: number): string {
  return `  ${paint("dim", name.padEnd(8))} ${cut(text, width - 11)}`;
}

/** One line, for what is not a terminal: what changes when something happens, and what changes all the time. */
export function lineOf(snapshot: Snapshot): { news: string; times: string } {
  const { tasks, jobs, stats, elapsedMs } = snapshot;
  const { requests } = stats;
  const done = tasks.map(({ name, done, total }) => `${name} ${number(done)}/${number(total)}`).join(", ");
  const prompts = `${number(requests.queued)} queued, ${number(requests.batched)} in jobs, ${number(requests.succeeded)} answered${failuresOf(stats)}`;
  const active = jobs.filter(({ record }) => record.endedAt === undefined);
  const times = active.map((job) => `job ${job.number}: ${number(job.record.requestCount)} prompts, ${stateOf(job.record)}`);
  return {
    news: `done: ${done} | prompts: ${prompts} | jobs: ${jobsOf(stats)} | ${moneyOf(snapshot)}`,
    times: [seconds(elapsedMs), ...times].join(" | "),
  };
}

function stateOf({ state, rawStatus, cursor, launchedAt, finishedAt, endedAt }: BatchRecord): string {
  const from = launchedAt ?? 0;
  switch (state) {
    case "forming":
    case "sealed":
    case "launching":
      return "being sent";
    case "in_progress":
      return `${/RUNNING/.test(rawStatus ?? "") ? "running" : "waiting"} ${seconds(Date.now() - from)}`;
    case "routing":
      return `${number(cursor)} answers in`;
    case "completed":
      return `done in ${seconds((finishedAt ?? endedAt ?? from) - from)}`;
    default:
      return `${state}, asked again`;
  }
}

function jobsOf({ batches }: Stats): string {
  const ended = batches.completed + batches.failed + batches.expired + batches.cancelled;
  return `${sum(batches) - ended} running, ${ended} finished`;
}

function failuresOf({ requests, runs }: Stats): string {
  const failed = requests.failed + runs.failed + runs.held;
  return failed === 0 ? "" : ` · ${number(failed)} failed`;
}

export function moneyOf({ stats: { cost }, live }: Snapshot, width = Infinity): string {
  const saved = `${dollars(cost.standardUsd - cost.usd)} saved${width < 78 ? "" : " against the standard tier"}`;
  return [`${dollars(cost.usd)} spent`, saved, ...(live ? [] : ["emulated"])].join(" · ");
}

export function number(value: number): string {
  return value.toLocaleString("en");
}

export function dollars(usd: number): string {
  return `$${usd.toFixed(usd > 0 && usd < 0.1 ? 4 : 2)}`;
}

export function seconds(ms: number): string {
  const total = Math.max(0, ms) / 1_000;
  if (total < 60) return `${total.toFixed(1)} s`;
  const minutes = Math.floor(total / 60);
  return minutes < 60 ? `${minutes} min ${Math.floor(total % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
