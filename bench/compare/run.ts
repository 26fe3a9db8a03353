/**
 * gembatch side by side with other durable execution systems and job queues, in one run on one Postgres:
 * `node bench/compare/run.ts [--systems a,b] [--workloads chain,suspend,claim] [--runs 3] [--chains 500] [--warm 200] [--waiting 1000000] [--out FILE]`.
 * Installs its own packages at first use. A full run is written into `bench/RESULTS.md`; a smaller one is printed, and written where `--out` says.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { installPrivate } from "../../scripts/private-package.ts";
import type { ClaimFigures, Order, Speed, SystemName } from "./child.ts";
import { missing } from "./prerequisites.ts";
import { printed, section, writeSection, type Comparison } from "./report.ts";

const here = import.meta.dirname;
const results = join(here, "..", "RESULTS.md");
/** A measurement that takes longer than this hangs. */
const limitMs = 60 * 60_000;
const concurrency = 50;
const chainSteps = 10;
const waits = 6;
const full = { runs: 3, chains: 500, warm: 200, waiting: 1_000_000 };

/** Every system, with the npm package whose version is shown. */
const systems: Record<SystemName, string | undefined> = {
  "gembatch-postgres": undefined,
  "gembatch-sqlite": undefined,
  dbos: "@dbos-inc/dbos-sdk",
  openworkflow: "openworkflow",
  absurd: "absurd-sdk",
  restate: "@restatedev/restate-server",
  "pg-boss": "pg-boss",
  "graphile-worker": "graphile-worker",
};
const workloads = ["chain", "suspend", "claim"] as const;
type Workload = (typeof workloads)[number];
/** The systems whose empty claim is measured. */
const claiming = new Set<SystemName>(["gembatch-postgres", "gembatch-sqlite", "openworkflow", "absurd"]);

const { values: options } = parseArgs({
  options: {
    systems: { type: "string", default: Object.keys(systems).join() },
    workloads: { type: "string", default: workloads.join() },
    runs: { type: "string", default: String(full.runs) },
    chains: { type: "string", default: String(full.chains) },
    warm: { type: "string", default: String(full.warm) },
    waiting: { type: "string", default: String(full.waiting) },
    out: { type: "string" },
  },
});
const chosen = chooseFrom(Object.keys(systems) as SystemName[], options.systems, "system");
const asked = chooseFrom(workloads, options.workloads, "workload");
const [runs, chains, warm, waiting] = [count("runs"), count("chains"), count("warm"), count("waiting")];

const work = mkdtempSync(join(tmpdir(), "gembatch-compare-"));
process.once("exit", () => rmSync(work, { recursive: true, force: true }));
installPrivate(here);
const { startPostgres } = await import("./postgres.ts");
const postgres = await startPostgres();
const comparison: Comparison = {
  systems: [],
  runs,
  chains,
  chainSteps,
  waits,
  warm,
  concurrency,
  sizes: sizesUpTo(waiting),
  postgres: postgres.version,
};
try {
  await measureAll();
} finally {
  await postgres.stop();
}

console.log(printed(comparison));
const isFull =
  chosen.length === Object.keys(systems).length &&
  asked.length === workloads.length &&
  runs >= full.runs &&
  chains === full.chains &&
  warm === full.warm &&
  waiting === full.waiting;
const text = section(comparison);
if (options.out !== undefined) writeFileSync(options.out, `${text}\n`);
else if (isFull) writeSection(results, text);
if (comparison.systems.some(({ failures }) => failures.length > 0)) process.exitCode = 1;

// Measuring ------------------------------------------------------------------------------------------------------------

async function measureAll(): Promise<void> {
  for (const name of chosen)
    comparison.systems.push({ name, version: versionOf(name), chain: [], suspend: [], claims: {}, failures: [], skipped: missing(name) });
  const present = comparison.systems.filter(({ skipped }) => skipped === undefined);
  const speeds = (["chain", "suspend"] as const).filter((workload) => asked.includes(workload));
  // In turn, so that a neighbour's noise meets all; another one first each time.
  for (let run = 0; run < runs; run += 1) {
    for (const workload of speeds) {
      for (let i = 0; i < present.length; i += 1) {
        const system = present[(i + run) % present.length];
        if (system === undefined) continue;
        await attempt(system, workload, async () => {
          const steps = workload === "chain" ? chainSteps : waits;
          const figures = (await measure({ system: system.name, workload, chains, warm, steps, sizes: [] })) as Speed;
          system[workload].push(figures);
          console.log(`  ${workload.padEnd(8)} ${system.name.padEnd(18)} ${figures.stepsPerSecond.toFixed(0).padStart(8)} steps/s`);
        });
      }
    }
  }
  if (!asked.includes("claim")) return;
  for (const system of present.filter(({ name }) => claiming.has(name))) {
    await attempt(system, "claim", async () => {
      const { calls } = (await measure({
        system: system.name,
        workload: "claim",
        chains: 0,
        warm: 0,
        steps: waits,
        sizes: comparison.sizes,
      })) as ClaimFigures;
      system.claims = calls;
      console.log(`  claim    ${system.name}`);
    });
  }
}

async function attempt(system: Comparison["systems"][number], workload: Workload, measureOnce: () => Promise<void>): Promise<void> {
  try {
    await measureOnce();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    system.failures.push(`${workload}: ${message}`);
    console.error(`  ${workload.padEnd(8)} ${system.name.padEnd(18)} failed: ${message}`);
  }
}

/** One measurement, in a process, a database and a folder of its own. The last line of its output. */
async function measure(order: Omit<Order, "url" | "folder" | "concurrency">): Promise<Speed | ClaimFigures> {
  const name = `compare_${order.system}_${order.workload}`.replaceAll("-", "_");
  const url = await postgres.create(name);
  const folder = mkdtempSync(join(work, `${name}-`));
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        "--disable-warning=DeprecationWarning",
        join(here, "child.ts"),
        JSON.stringify({ ...order, url, folder, concurrency } satisfies Order),
      ],
      { maxBuffer: 2 ** 26, timeout: limitMs, killSignal: "SIGTERM" },
    );
    return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Speed | ClaimFigures;
  } catch (error) {
    const output = (error as { stderr?: string }).stderr ?? "";
    const line = /^\w*Error.*$/m.exec(output)?.[0] ?? output.trim().split("\n").at(-1);
    throw new Error(line === undefined || line === "" ? (error as Error).message : line, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await postgres.drop(name);
  }
}

function sizesUpTo(most: number): number[] {
  return [1_000, 10_000, 100_000, 1_000_000].filter((size) => size < most).concat(most);
}

// Packages -------------------------------------------------------------------------------------------------------------

function versionOf(name: SystemName): string {
  const packageName = systems[name];
  const folder = packageName === undefined ? join(here, "..", "..") : join(here, "node_modules", packageName);
  return (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string }).version;
}

// What was asked for ---------------------------------------------------------------------------------------------------

function chooseFrom<T extends string>(known: readonly T[], given: string, what: string): T[] {
  const names = given.split(",").filter((name) => name !== "");
  const unknown = names.filter((name) => !(known as readonly string[]).includes(name));
  if (unknown.length > 0 || names.length === 0) {
    console.error(`There is no ${what} ${unknown.join(", ")}; there are ${known.join(", ")}.`);
    process.exit(2);
  }
  return known.filter((name) => names.includes(name));
}

function count(name: keyof typeof full): number {
  const value = Number(options[name]);
  // The suspended runs are copies of a few real ones, in steps from 1,000 on.
  const least = name === "waiting" ? 1_000 : name === "warm" ? 0 : 1;
  if (Number.isSafeInteger(value) && value >= least) return value;
  console.error(`--${name} must be a whole number of at least ${least}, got ${options[name]}.`);
  process.exit(2);
}
