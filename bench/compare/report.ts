/**
 * The figures as a plain table, on the terminal and in Markdown. Imports nothing that is installed.
 *
 * @module
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { median } from "../measure.ts";
import type { ClaimFigures, Speed, SystemName } from "./child.ts";
import { notes } from "./notes.ts";

export interface Measured {
  name: SystemName;
  version: string;
  chain: Speed[];
  suspend: Speed[];
  claims: ClaimFigures["calls"];
  /** What went wrong, one line each. */
  failures: string[];
  /** Why it was not measured at all. */
  skipped: string | undefined;
}

export interface Comparison {
  systems: Measured[];
  runs: number;
  chains: number;
  chainSteps: number;
  waits: number;
  warm: number;
  concurrency: number;
  /** Suspended runs of an empty claim. */
  sizes: number[];
  postgres: string;
}

type Table = string[][];

const begin = "<!-- compare: written by bench/compare/run.ts -->";
const end = "<!-- /compare -->";

/** For a terminal. */
export function printed(comparison: Comparison): string {
  const parts = [speeds(comparison), claims(comparison), targets(comparison)].filter((table) => table.length > 1);
  return [...parts.map(columns), ...troubles(comparison)].join("\n\n");
}

/** For `bench/RESULTS.md`, markers included. */
export function section(comparison: Comparison): string {
  const { runs, chains, chainSteps, waits, warm, concurrency } = comparison;
  const parts = [
    `${begin}\n## Side by side`,
    `\`node bench/compare/run.ts\`: all systems in turn on one machine, each measurement in a process and a database of its own, medians of ${runs} runs (lowest to highest in brackets). **Chain**: ${count(chains)} chains of ${chainSteps} steps that do nothing, each step stored before the next begins. **Suspend**: ${count(chains)} chains that each wait ${waits} times, one after the other, for an answer from outside. From the first start until the system's own storage has every chain as ended well, after ${warm} chains to warm up; a run whose counts do not match is no figure. Concurrency ${concurrency}, connection pools as large.`,
    machine(comparison.postgres),
    markdown(speeds(comparison)),
  ];
  if (claims(comparison).length > 1)
    parts.push(
      `**Empty claim**: milliseconds for a worker to find that nothing is to be done, median of 20 calls. openworkflow and absurd: a few runs suspended by the system itself, copied within its tables; gembatch on Postgres the same (1,000 made by the engine), on SQLite all made by the engine. Tables vacuumed and analysed.`,
      markdown(claims(comparison)),
    );
  if (targets(comparison).length > 1) parts.push(markdown(targets(comparison)));
  parts.push(notes(comparison), ...troubles(comparison));
  return `${parts.join("\n\n")}\n${end}`;
}

/** Replaces the section between the markers, or adds it at the end. */
export function writeSection(file: string, text: string): void {
  const old = existsSync(file) ? readFileSync(file, "utf8") : "# Benchmarks\n";
  const from = old.indexOf(begin);
  const to = old.indexOf(end);
  writeFileSync(file, from < 0 || to < 0 ? `${old.trimEnd()}\n\n${text}\n` : old.slice(0, from) + text + old.slice(to + end.length));
}

// Tables ---------------------------------------------------------------------------------------------------------------

function speeds({ systems }: Comparison): Table {
  const head = ["system", "chain, steps/s", "client + server, ms/step", "suspend, steps/s", "client + server, ms/step"];
  const rows = systems.map((system) => [
    `${titles[system.name]} ${system.version}`,
    ...[system.chain, system.suspend].flatMap((figures) => [speed(figures), processor(figures)]),
  ]);
  return rows.some((row) => row.slice(1).some((cell) => cell !== "")) ? [head, ...rows] : [];
}

function claims({ systems, sizes }: Comparison): Table {
  const rows = systems.filter((system) => Object.keys(system.claims).length > 0);
  return [
    ["suspended runs", ...rows.map(({ name }) => titles[name])],
    ...(rows.length === 0 ? [] : sizes.map((size) => [count(size), ...rows.map((system) => milliseconds(claimOf(system, size)))])),
  ];
}

/** What was asked for, as far as it was measured. */
function targets({ systems, sizes }: Comparison): Table {
  const table: Table = [["", "figure", "target", ""]];
  const gembatch = systems.find(({ name }) => name === "gembatch-postgres");
  const others = systems.filter(({ name }) => !name.startsWith("gembatch"));
  if (gembatch === undefined) return table;
  const suspend = best(others, "suspend");
  if (gembatch.suspend.length > 0 && suspend !== undefined) {
    const ratio = middle(gembatch.suspend) / suspend.stepsPerSecond;
    table.push([
      `suspend: gembatch on Postgres over the best of the others (${titles[suspend.name]})`,
      `${ratio.toFixed(1)} ×`,
      "≥ 8 ×",
      met(ratio >= 8),
    ]);
  }
  const chain = best(others, "chain");
  if (gembatch.suspend.length > 0 && chain !== undefined) {
    const ratio = middle(gembatch.suspend) / chain.stepsPerSecond;
    table.push([
      `suspend: gembatch on Postgres over the fastest *chain* of the others (${titles[chain.name]}), as if its answers came in chunks too`,
      `${ratio.toFixed(2)} ×`,
      "",
      "",
    ]);
  }
  if (gembatch.chain.length > 0 && chain !== undefined) {
    const ratio = middle(gembatch.chain) / chain.stepsPerSecond;
    table.push([`chain: gembatch on Postgres over the best of the others (${titles[chain.name]})`, `${ratio.toFixed(2)} ×`, "", ""]);
  }
  const size = sizes.at(-1) ?? 0;
  const own = claimOf(gembatch, size);
  for (const other of others) {
    const theirs = claimOf(other, size);
    if (own === undefined || theirs === undefined) continue;
    const ratio = theirs / own;
    table.push([
      `empty claim, ${count(size)} suspended: ${titles[other.name]} over gembatch on Postgres`,
      `${ratio.toFixed(0)} ×`,
      "≥ 100 ×",
      met(ratio >= 100),
    ]);
  }
  return table;
}

function troubles({ systems }: Comparison): string[] {
  return systems.flatMap(({ name, skipped, failures }) => [
    ...(skipped === undefined ? [] : [`Not measured: ${titles[name]}, ${skipped}.`]),
    ...failures.map((failure) => `Failed: ${titles[name]}, ${failure}`),
  ]);
}

export const titles: Record<SystemName, string> = {
  "gembatch-postgres": "gembatch on Postgres",
  "gembatch-sqlite": "gembatch on SQLite",
  dbos: "DBOS",
  openworkflow: "openworkflow",
  absurd: "absurd",
  restate: "Restate",
  "pg-boss": "pg-boss",
  "graphile-worker": "graphile-worker",
};

// Cells ----------------------------------------------------------------------------------------------------------------

function middle(figures: readonly Speed[]): number {
  return median(figures.map(({ stepsPerSecond }) => stepsPerSecond));
}

function best(systems: readonly Measured[], workload: "chain" | "suspend"): { name: SystemName; stepsPerSecond: number } | undefined {
  return systems
    .filter((system) => system[workload].length > 0)
    .map((system) => ({ name: system.name, stepsPerSecond: middle(system[workload]) }))
    .toSorted((a, b) => b.stepsPerSecond - a.stepsPerSecond)[0];
}

function speed(figures: readonly Speed[]): string {
  if (figures.length === 0) return "";
  const all = figures.map(({ stepsPerSecond }) => stepsPerSecond);
  const range = all.length > 1 ? ` (${count(Math.min(...all))}–${count(Math.max(...all))})` : "";
  return `${count(middle(figures))}${range}`;
}

/** Seconds for 1,000 steps are milliseconds for one. */
function processor(figures: readonly Speed[]): string {
  if (figures.length === 0) return "";
  const client = median(figures.map(({ clientSeconds }) => clientSeconds)).toFixed(2);
  const server = figures.flatMap(({ serverSeconds }) => (serverSeconds === undefined ? [] : [serverSeconds]));
  return server.length === 0 ? client : `${client} + ${median(server).toFixed(2)}`;
}

function claimOf(system: Measured, size: number): number | undefined {
  const calls = system.claims[size];
  return calls === undefined ? undefined : median(calls);
}

function milliseconds(value: number | undefined): string {
  if (value === undefined) return "";
  return value.toFixed(value < 1 ? 3 : value < 10 ? 2 : 0);
}

function met(reached: boolean): string {
  return reached ? "met" : "**missed**";
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function machine(postgres: string): string {
  const [first] = cpus();
  const date = new Date().toISOString().slice(0, 10);
  return `${date}: ${first?.model ?? "unknown processor"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}, Postgres ${postgres} (durable defaults) on the same machine; load average at the end ${(loadavg()[1] ?? 0).toFixed(1)}.`;
}

function markdown([head = [], ...rows]: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), `|${"---|".repeat(head.length)}`, ...rows.map(line)].join("\n");
}

function columns(table: Table): string {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  return table
    .map((row) =>
      row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join("  "),
    )
    .join("\n");
}
