/**
 * (g) WORKERS processes on one Postgres, against the emulator over HTTP: RUNS chains of STEPS prompts each, from the first start to the commit that ends the last run. Postgres
 * (`fsync` and `synchronous_commit` on), emulator, workers and the process that starts the runs share the machine.
 * `node bench/fleet.ts [runs] [steps] [workers] [largest batch]`
 *
 * @module
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { startPostgres } from "../test/support/postgres-server.ts";
import { Gembatch } from "../src/index.ts";
import { defineFleetChain, type FleetSetup } from "./fleet-setup.ts";
import { numbers, report, Stopwatch, type Figures } from "./measure.ts";

const [runs, steps, workers, maxRequests] = numbers(100_000, 3, 4, 20_000);
const server = await startPostgres({ volatile: false, settings: ["max_wal_size=4GB", "shared_buffers=512MB"] });
const store = `${server.url}?schema=fleet&max=6`;
const emulator = start("large-batch-emulator.ts");
const [url] = (await once(emulator, "message")) as [string];

await using gembatch = new Gembatch({ store, autoWorker: false });
const chain = defineFleetChain(gembatch, steps);
// The schema is there, and its counters begin, before anything is measured.
await gembatch.stats();
const client = new Client({ connectionString: server.url });
await client.connect();
const setup: FleetSetup = { store, emulator: url, steps, maxRequests };
let cpuBefore = 0;
const fleet = await Promise.all(
  Array.from({ length: workers }, async () => {
    const worker = start("fleet-worker.ts");
    worker.send(setup);
    await once(worker, "message");
    // Loading its modules, and those of TypeScript files at that, is no part of a step.
    cpuBefore += (await figuresOf(worker))["cpuMs"]!;
    return worker;
  }),
);

const walBefore = await wal();
const serverBefore = serverCpuMs();
const emulatorBefore = cpuMsOf(emulator.pid!);
let connections = 0;
const watch = new Stopwatch();
const counting = count();
await chain.startMany(inputs());
const startedMs = watch.ms;
while ((await completed()) < runs) await sleep(100);
const { ms } = watch;
const figures = await Promise.all(fleet.map(figuresOf));
const [rows] = await query<{ requests: string; bodies: string; answers: string }>(`
  SELECT (SELECT count(*) FROM fleet.entries) AS requests, (SELECT sum(length(body)) FROM fleet.bodies) AS bodies,
    (SELECT sum(length(value)) FROM fleet.answers) AS answers`);
if (Number(rows?.requests) !== runs * steps) throw new Error(`${rows?.requests} requests were asked for ${runs * steps} steps.`);
const [size] = await query<{ bytes: string }>(
  `SELECT sum(pg_total_relation_size(c.oid)) AS bytes FROM pg_class c WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'r'`,
);
const total = runs * steps;
const payload = Number(rows?.bodies) + Number(rows?.answers);
const walBytes = (await wal()) - walBefore;
await counting.stop();
const sum = (name: string): number => figures.reduce((all, each) => all + each[name]!, 0);
report({
  stepsPerSecond: total / (ms / 1_000),
  ms,
  startedMs,
  workerCpuUsPerStep: ((sum("cpuMs") - cpuBefore) / total) * 1_000,
  serverCpuUsPerStep: ((serverCpuMs() - serverBefore) / total) * 1_000,
  emulatorCpuUsPerStep: ((cpuMsOf(emulator.pid!) - emulatorBefore) / total) * 1_000,
  starterCpuUsPerStep: (watch.cpuMs / total) * 1_000,
  workerPeakMb: Math.max(...figures.map(({ peakMb }) => peakMb!)),
  connections,
  databaseMb: Number(size?.bytes) / 1e6,
  databaseBytesPerStep: Number(size?.bytes) / total,
  walBytesPerStep: walBytes / total,
  payloadBytesPerStep: payload / total,
  writeAmplification: walBytes / payload,
  jobs: Number((await query<{ jobs: string }>(`SELECT count(*) AS jobs FROM fleet.batches`))[0]?.jobs),
});
for (const worker of [...fleet, emulator]) worker.disconnect();
await client.end();
await gembatch.close();
await server.stop();

function* inputs(): Generator<{ n: number }> {
  for (let n = 0; n < runs; n += 1) yield { n };
}

function start(script: string): ChildProcess {
  return fork(join(import.meta.dirname, script), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
}

async function figuresOf(worker: ChildProcess): Promise<Figures> {
  worker.send("figures");
  const [figures] = (await once(worker, "message")) as [Figures];
  return figures;
}

async function query<T>(text: string): Promise<T[]> {
  return (await client.query(text)).rows as T[];
}

async function completed(): Promise<number> {
  return (await gembatch.stats()).runs.completed;
}

async function wal(): Promise<number> {
  const [row] = await query<{ bytes: string }>(`SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS bytes`);
  return Number(row?.bytes);
}

/** The most connections that were there at the same time, looked at twice a second. */
function count(): { stop: () => Promise<void> } {
  const abort = new AbortController();
  const counting = (async () => {
    const own = new Client({ connectionString: server.url });
    await own.connect();
    while (!abort.signal.aborted) {
      const { rows: found } = await own.query(`SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = 'gembatch'`);
      connections = Math.max(connections, Number((found[0] as { count: string }).count));
      await sleep(500, undefined, { signal: abort.signal }).catch(() => undefined);
    }
    await own.end();
  })();
  return {
    stop: async () => {
      abort.abort();
      await counting;
    },
  };
}

/** Processor time of a process, in steps of the kernel's clock (Linux); 0 where that is not to be had. */
function cpuMsOf(pid: number, withEnded = false): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]) + (withEnded ? Number(fields[13]) + Number(fields[14]) : 0);
    return ticks * 10;
  } catch {
    return 0;
  }
}

/** Of the server with all processes that it has and had. */
function serverCpuMs(): number {
  const parent = server.pid;
  if (parent === undefined) return 0;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .reduce((sum, name) => {
      const pid = Number(name);
      return sum + (pid === parent ? cpuMsOf(pid, true) : parentOf(pid) === parent ? cpuMsOf(pid) : 0);
    }, 0);
}

function parentOf(pid: number): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return undefined;
  }
}
