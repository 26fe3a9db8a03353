/**
 * The benchmarks: `npm run bench`, or `node bench/run.ts [names…] [--quick]`. Every measurement runs in a process of its own, several times; medians are
 * printed and written to `bench/RESULTS.md`, each scenario between its own markers, so that one can be run again alone.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { LatencyRow } from "./latency.ts";
import { median, type Figures } from "./measure.ts";

const file = join(import.meta.dirname, "RESULTS.md");
/** A scenario that takes longer than this hangs. */
const limitMs = 30 * 60_000;

interface Line {
  what: string;
  figure: string;
  target?: string;
  met?: boolean;
}

interface Section {
  title: string;
  method: string;
  lines: Line[];
  /** Markdown below the table. */
  more?: string;
}

const all: Record<string, (quick: boolean) => Promise<Section>> = { steps, waiting, growth, "large-batch": largeBatch, latency, fleet };

// Scenarios ------------------------------------------------------------------------------------------------------------

async function steps(quick: boolean): Promise<Section> {
  const lines: Line[] = [];
  const sizes: [runs: number, steps: number, warm: number, repetitions: number][] = quick
    ? [[200, 3, 0, 1]]
    : [
        [500, 6, 0, 9],
        [500, 6, 2_000, 9],
        [20_000, 5, 0, 5],
      ];
  for (const [runs, steps, warm, repetitions] of sizes) {
    const engine: Figures[] = [];
    const floor: Figures[] = [];
    // In turn, so that a neighbour's noise meets both.
    for (let i = 0; i < repetitions; i += 1) {
      engine.push(await child("steps.ts", runs, steps, warm));
      floor.push(await child("floor.ts", runs, steps, warm));
    }
    const size = `${count(runs)} × ${steps}${warm > 0 ? `, after ${count(warm)} others` : ""}`;
    const speed = middle(engine, "stepsPerSecond");
    const times = engine.map(({ ms }, i) => ms! / floor[i]!["ms"]!);
    const cpu = engine.map(({ cpuMs }, i) => cpuMs! / floor[i]!["cpuMs"]!);
    lines.push(
      { what: `(a) ${size}: chain steps per second`, figure: count(speed), ...target(speed >= 8_000, "≥ 8,000") },
      { what: `    best of ${repetitions}`, figure: count(Math.max(...engine.map(({ stepsPerSecond }) => stepsPerSecond!))) },
      { what: `    processor time per step`, figure: `${round(middle(engine, "cpuMsPerStep") * 1_000)} µs` },
      { what: `    peak memory (RSS)`, figure: `${round(middle(engine, "peakMb"))} MB` },
      { what: `(b) ${size}: the floor, steps per second`, figure: count(middle(floor, "stepsPerSecond")) },
      { what: `    processor time per step`, figure: `${round(middle(floor, "cpuMsPerStep") * 1_000)} µs` },
      { what: `    engine's time over the floor's`, figure: round(median(times), 2), ...target(median(times) <= 2.5, "≤ 2.5") },
      { what: `    engine's processor time over the floor's`, figure: round(median(cpu), 2) },
    );
  }
  return {
    title: "Chain steps per second, and the floor",
    method:
      "Chains of sequential prompts through the whole engine (official SDK surface, replay, store, batches, routing) on a provider without turnaround, a SQLite file with `synchronous=FULL`, one process, from the first start to the commit that ends the last run; in a new process, or after other runs that warmed it up. The floor writes and reads the same rows in the same transactions and group sizes with bare prepared statements, and runs no code of a user. Both in turn, medians.",
    lines,
  };
}

async function waiting(quick: boolean): Promise<Section> {
  const runs = quick ? 2_000 : 1_000_000;
  const figures = await child("waiting.ts", runs);
  const { heapMb, emptyClaimMs } = figures as { heapMb: number; emptyClaimMs: number };
  return {
    title: "Runs that wait",
    method:
      "Each run waits for the answer to its first prompt, in jobs that do not end. Made by one process; a second one opens the file, ticks, and is measured: live heap after a collection, and the median of five rounds of thousands of calls.",
    lines: [
      {
        what: `(c) ${count(runs)} waiting runs: live heap of a worker`,
        figure: `${round(heapMb)} MB`,
        ...target(heapMb < 150, "< 150 MB"),
      },
      { what: "    its memory (RSS, with SQLite's page cache)", figure: `${round(figures["rssMb"]!)} MB` },
      {
        what: "    live heap of the worker that made them, waiting turns kept in memory",
        figure: `${round(figures["buildHeapMb"]!)} MB`,
        ...target(figures["buildHeapMb"]! < 150, "< 150 MB"),
      },
      { what: "    database", figure: `${round(figures["databaseMb"]!)} MB` },
      { what: "    database per run", figure: `${round(figures["bytesPerRun"]!)} bytes` },
      { what: "    empty claim", figure: `${round(emptyClaimMs, 4)} ms`, ...target(emptyClaimMs < 0.1, "< 0.1 ms") },
      { what: "    what a flush decision looks at", figure: `${round(figures["activityMs"]!, 4)} ms` },
      { what: "    empty tick of all stages", figure: `${round(figures["emptyTickMs"]!, 3)} ms` },
      { what: "    time to make them", figure: `${round(figures["buildMs"]! / 1_000)} s` },
    ],
  };
}

async function growth(quick: boolean): Promise<Section> {
  const sizes: [runs: number, repetitions: number][] = quick
    ? [
        [100, 1],
        [1_000, 1],
      ]
    : [
        [1_000, 5],
        [10_000, 5],
        [100_000, 3],
        [1_000_000, 1],
      ];
  const lines: Line[] = [];
  const perRun: number[] = [];
  for (const [runs, repetitions] of sizes) {
    const measured = await repeat(repetitions, "growth.ts", runs);
    perRun.push(middle(measured, "cpuUsPerRun"));
    lines.push(
      {
        what: `(d) ${count(runs)} runs: time per run, wall clock / processor`,
        figure: `${round(middle(measured, "usPerRun"))} / ${round(perRun.at(-1)!)} µs`,
      },
      {
        what: `    live heap after, peak memory`,
        figure: `${round(middle(measured, "heapMb"))} / ${round(middle(measured, "peakMb"))} MB`,
      },
      { what: `    database`, figure: `${round(middle(measured, "databaseMb"))} MB` },
    );
  }
  // The first thousand pays for starting and warming up; growth is what comes after.
  const [, ...warm] = perRun;
  const ratio = quick ? 1 : warm.at(-1)! / warm[0]!;
  lines.push({
    what: `(d) time per run, ${count(sizes.at(-1)![0])} over ${count(sizes[1]![0])}`,
    figure: round(ratio, 2),
    ...target(ratio <= 1.3, "≤ 1.3"),
  });
  return {
    title: "Growth",
    method:
      "Chains of one prompt, started from a stream while the worker works on them, SQLite file, default batching. The ratio is of processor time per run, which neighbours on the machine disturb less.",
    lines,
  };
}

async function largeBatch(quick: boolean): Promise<Section> {
  const rows = quick ? 2_000 : 200_000;
  const lines: Line[] = [];
  for (const [capped, words] of [
    [0, "default heap"],
    [1, "heap capped at 64 MB"],
  ] as const) {
    const measured = await repeat(quick ? 1 : 3, "large-batch.ts", rows, capped);
    const upload = middle(measured, "uploadPeakMb");
    const routing = middle(measured, "routingPeakMb");
    lines.push(
      {
        what: `(e) ${count(rows)} rows, ${words}: peak (RSS), forming and upload`,
        figure: `${round(upload)} MB`,
        ...target(upload < 200, "< 200 MB"),
      },
      { what: "    largest heap seen", figure: `${round(middle(measured, "uploadHeapMb"))} MB` },
      { what: "    time", figure: `${round(middle(measured, "uploadMs") / 1_000, 1)} s` },
      { what: "(e) peak (RSS), routing", figure: `${round(routing)} MB`, ...target(routing < 200, "< 200 MB") },
      { what: "    largest heap seen", figure: `${round(middle(measured, "routingHeapMb"))} MB` },
      { what: "    time, the emulator's answering included", figure: `${round(middle(measured, "routingMs") / 1_000, 1)} s` },
      { what: "    peak (RSS) of the turns that follow", figure: `${round(middle(measured, "turnsPeakMb"))} MB` },
      { what: "    before the first tick", figure: `${round(middle(measured, "baseMb"))} MB` },
    );
    if (capped === 0) lines.push({ what: "    database", figure: `${round(middle(measured, "databaseMb"))} MB` });
  }
  return {
    title: "One large batch",
    method:
      "One batch of rows of 1.8 KB as one job through the emulator (another process, over HTTP) with the Gemini adapter. The kernel's peak (VmHWM) of the engine's process, Node with all modules and SQLite's cache included. Once with V8's default heap, which grows while the machine has memory, and once with a cap: what is held then is what is needed.",
    lines,
  };
}

async function latency(quick: boolean): Promise<Section> {
  const parts = 2;
  // Virtual time: two at once disturb nothing.
  const outputs = await Promise.all(
    Array.from({ length: parts }, async (_, part) => execute("latency.ts", [quick ? 1 : 2, quick ? 1 : 0, part, parts])),
  );
  const rows = outputs.flatMap((output) => JSON.parse(output) as LatencyRow[]).toSorted((a, b) => a.index - b.index);
  const worst = rows.reduce((a, b) => (b.ratio > a.ratio ? b : a));
  const python = rows.map(({ pythonRatio }) => pythonRatio);
  const table = rows.map(
    (row) =>
      `| ${row.arrivals} | ${row.turnaround} | ${row.steps} | ${row.maxJobs} | ${round(row.bound, 1)} | ${round(row.engine, 1)} | **${round(row.ratio, 2)}** | ${round(row.python, 1)} | ${round(row.pythonRatio, 2)} | ${row.atOnce} |`,
  );
  return {
    title: "Chain latency against the lower bound",
    method:
      "The real engine with its default options in virtual time, on a provider whose jobs take 8 minutes, or 2 to 20 (lognormal). Chains of 1 to 5 prompts arrive in one burst or as a Poisson stream. Means over all chains, in minutes. Python: a simulation of its policy with its defaults (200 a batch, 1,800 s between batches, doubled below 20 queued, one job at a time, ended jobs noticed every 15 minutes).",
    lines: [
      {
        what: `(f) worst of ${rows.length} scenarios: mean latency over the bound`,
        figure: round(worst.ratio, 3),
        ...target(worst.ratio <= 1.15, "≤ 1.15"),
      },
      { what: "    median scenario", figure: round(median(rows.map(({ ratio }) => ratio)), 3) },
      {
        what: "    Python gembatch, best and worst scenario",
        figure: `${round(Math.min(...python), 1)} / ${round(Math.max(...python), 1)}`,
      },
      {
        what: "    most jobs at once over the limit",
        figure: `${Math.max(...rows.map(({ atOnce, maxJobs }) => atOnce - maxJobs))}`,
        ...target(
          rows.every(({ atOnce, maxJobs }) => atOnce <= maxJobs),
          "≤ 0",
        ),
      },
    ],
    more: `${derivation}

| arrivals | turnaround | steps | job limit | bound | gembatch | ratio | Python | ratio | most jobs at once |
|---|---|---|---|---|---|---|---|---|---|
${table.join("\n")}`,
  };
}

async function fleet(quick: boolean): Promise<Section> {
  const workers = 4;
  const runs = quick ? 2_000 : 100_000;
  const measured = await repeat(quick ? 1 : 3, "fleet.ts", runs, 3, workers);
  const speed = middle(measured, "stepsPerSecond");
  const cpu = (name: string): number => middle(measured, `${name}CpuUsPerStep`);
  return {
    title: "A fleet on one Postgres",
    method:
      "Worker processes on one Postgres 18 (fsync and synchronous_commit on, on the same machine), against the emulator over HTTP with the Gemini adapter: chains of 3 prompts, started by a further process, from the first start to the commit that ends the last run. Everything shares the two cores.",
    lines: [
      {
        what: `(g) ${workers} workers, ${count(runs)} × 3: chain steps per second`,
        figure: count(speed),
        ...target(speed >= 4_000, "≥ 4,000"),
      },
      { what: `    best of ${measured.length}`, figure: count(Math.max(...measured.map(({ stepsPerSecond }) => stepsPerSecond!))) },
      {
        what: "    processor time per step: workers / Postgres / emulator / starter",
        figure: `${[cpu("worker"), cpu("server"), cpu("emulator"), cpu("starter")].map((each) => round(each)).join(" / ")} µs`,
      },
      { what: "    connections at once", figure: round(middle(measured, "connections")) },
      { what: "    memory of the largest worker (peak RSS)", figure: `${round(middle(measured, "workerPeakMb"))} MB` },
      {
        what: "    database after: in all / per step",
        figure: `${round(middle(measured, "databaseMb"))} MB / ${count(middle(measured, "databaseBytesPerStep"))} bytes`,
      },
      {
        what: "    written to the log (WAL) per step / over the bytes of prompts and answers",
        figure: `${count(middle(measured, "walBytesPerStep"))} bytes / ${round(middle(measured, "writeAmplification"), 1)} ×`,
      },
      { what: "    jobs", figure: count(middle(measured, "jobs")) },
    ],
  };
}

/** The same as at the head of `latency-bound.ts`, which holds the formulas. */
const derivation = `The bound, for J job slots and turnarounds T that do not depend on what is in a job: (1) a chain of n steps is in n jobs one after the other, and nobody knows
a turnaround in advance, so its jobs take n·E[T] on average under any policy; (2) its first job waits for a launch, and launches need slots. With one slot and Poisson arrivals the least mean wait
of any policy that does not see the future follows from one cycle between launches (launch when at least k wait, best k). With more slots a horizon H has at most J·(H/E[T] + E[T²]/E[T]²) launches on average
(Lorden's inequality), and the best instants for so many launches, all arrivals known in advance, are found by dynamic programming. (3) Later waits, and the time to notice that a job has ended, count as 0.
A burst finds every slot free: n·E[T]. (\`bench/latency-bound.ts\`)

What the one-slot bound leaves out: a policy that knew every arrival in advance would wait less still. Measured against such a bound (once, one seed, six hours), single prompts at 12 an hour
with one slot were at 1.27 (8 min) and 1.28 (2–20 min); by the formula above no policy without that knowledge gets below about 1.2 there, so it is not used.`;

// Processes ------------------------------------------------------------------------------------------------------------

/** Runs a measurement in a new process and returns its figures. */
async function child(script: string, ...args: number[]): Promise<Figures> {
  return JSON.parse(await execute(script, args)) as Figures;
}

async function repeat(times: number, script: string, ...args: number[]): Promise<Figures[]> {
  const figures: Figures[] = [];
  for (let i = 0; i < times; i += 1) figures.push(await child(script, ...args));
  return figures;
}

/** The last line of its output. */
async function execute(script: string, args: readonly number[]): Promise<string> {
  const path = join(import.meta.dirname, script);
  const { stdout } = await promisify(execFile)(process.execPath, [path, ...args.map(String)], {
    maxBuffer: 2 ** 26,
    timeout: limitMs,
    killSignal: "SIGKILL",
  });
  return stdout.trimEnd().split("\n").at(-1)!;
}

// Results --------------------------------------------------------------------------------------------------------------

function write(name: string, { title, method, lines, more }: Section): void {
  const begin = `<!-- ${name}: written by bench/run.ts -->`;
  const end = `<!-- /${name} -->`;
  const rows = lines.map(
    ({ what, figure, target, met }) =>
      `| ${what.trim()} | ${figure} | ${target ?? ""} | ${met === undefined ? "" : met ? "met" : "**missed**"} |`,
  );
  const body = `${begin}
## ${title}

${method}

${machine()}

| | figure | target | |
|---|---|---|---|
${rows.join("\n")}
${more === undefined ? "" : `\n${more}\n`}${end}`;
  const text = existsSync(file) ? readFileSync(file, "utf8") : head;
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  writeFileSync(file, from < 0 || to < 0 ? `${text.trimEnd()}\n\n${body}\n` : text.slice(0, from) + body + text.slice(to + end.length));
}

const head = `# Benchmarks

Written by \`npm run bench\` (\`node bench/run.ts [steps|waiting|growth|large-batch|latency|fleet] [--quick]\`). Each section says how, where and when it was measured.
`;

function machine(): string {
  const [first] = cpus();
  const date = new Date().toISOString().slice(0, 10);
  return `${date}: ${first?.model ?? "unknown processor"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, ${process.platform}; load average at the end ${loadavg()[1]!.toFixed(1)}.`;
}

function target(met: boolean, text: string): { target: string; met: boolean } {
  return { target: text, met };
}

function middle(figures: readonly Figures[], name: string): number {
  return median(figures.map((each) => each[name]!));
}

function round(value: number, digits = 0): string {
  return value.toFixed(digits);
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

// What was asked for -------------------------------------------------------------------------------------------------

const args = process.argv.slice(2);
const quick = args.includes("--quick");
const names = args.filter((name) => name !== "--quick");
const unknown = names.filter((name) => !(name in all));
if (unknown.length > 0) {
  console.error(`There is no benchmark ${unknown.join(", ")}; there are ${Object.keys(all).join(", ")}.`);
  process.exit(2);
}
for (const name of names.length > 0 ? names : Object.keys(all)) {
  console.log(`\n${name} …`);
  const section = await all[name]!(quick);
  for (const { what, figure, target, met } of section.lines) {
    console.log(
      `  ${what.padEnd(58)} ${figure.padStart(16)}  ${target === undefined ? "" : `${met === true ? "met   " : "MISSED"} ${target}`}`,
    );
  }
  // Small sizes say whether everything works, not how fast it is.
  if (!quick) write(name, section);
}
