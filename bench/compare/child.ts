/**
 * One measurement of one system, in a process of its own: `node bench/compare/child.ts '{"system": …}'`. Its figures are the last line of its output.
 *
 * @module
 */
import { Database } from "./database.ts";
import { processorSeconds, serverOf } from "./processor.ts";
import type { Bench, System, Task } from "./system.ts";

/** What `run.ts` asks for. */
export interface Order extends Task {
  system: SystemName;
  workload: "chain" | "suspend" | "claim";
  /** Chains that are timed. */
  chains: number;
  /** Chains before them. */
  warm: number;
  /** Of an empty claim, in rising order. */
  sizes: number[];
}

export interface Speed {
  stepsPerSecond: number;
  ms: number;
  /** Processor seconds for 1,000 steps: of the process that works, and of the one that stores. */
  clientSeconds: number;
  serverSeconds?: number;
}

export interface ClaimFigures {
  /** Milliseconds of each call, by number of suspended runs. */
  calls: Record<string, number[]>;
}

const systems = {
  "gembatch-postgres": async () => (await import("./systems/gembatch.ts")).onPostgres,
  "gembatch-sqlite": async () => (await import("./systems/gembatch.ts")).onSqlite,
  dbos: async () => (await import("./systems/dbos.ts")).system,
  openworkflow: async () => (await import("./systems/openworkflow.ts")).system,
  absurd: async () => (await import("./systems/absurd.ts")).system,
  "pg-boss": async () => (await import("./systems/pg-boss.ts")).system,
  "graphile-worker": async () => (await import("./systems/graphile-worker.ts")).system,
  restate: async () => (await import("./systems/restate.ts")).system,
} satisfies Record<string, () => Promise<System>>;

export type SystemName = keyof typeof systems;

/** Nothing that is measured takes this long to be stored after its function has ended. */
const settleLimitMs = 60_000;

async function measure(order: Order): Promise<Speed | ClaimFigures> {
  const system: System = await systems[order.system]();
  return order.workload === "claim" ? claims(system, order) : speed(system, order);
}

async function speed(system: System, order: Order): Promise<Speed> {
  const { chains, warm, steps } = order;
  const bench = await (order.workload === "chain" ? system.chain(order) : system.suspend(order));
  const server = bench.server ?? (order.system === "gembatch-sqlite" ? undefined : await postgresOf(order.url));
  if (warm > 0) await workThrough(bench, warm, warm);

  const seconds = () => (server === undefined ? undefined : processorSeconds(server));
  const serverBefore = seconds();
  const clientBefore = process.cpuUsage();
  const from = performance.now();
  await workThrough(bench, chains, warm + chains);
  const ms = performance.now() - from;
  const { user, system: kernel } = process.cpuUsage(clientBefore);
  const serverAfter = seconds();

  const wanted = (warm + chains) * steps;
  if (bench.steps !== wanted) throw new Error(`${bench.steps} steps were done instead of ${wanted}.`);
  const thousands = (chains * steps) / 1_000;
  const figures: Speed = { stepsPerSecond: (chains * steps) / (ms / 1_000), ms, clientSeconds: (user + kernel) / 1e6 / thousands };
  if (serverBefore !== undefined && serverAfter !== undefined) figures.serverSeconds = (serverAfter - serverBefore) / thousands;
  const completed = await bench.completed();
  if (completed !== warm + chains) throw new Error(`${completed} of ${warm + chains} chains ended well.`);
  await bench.close();
  return figures;
}

/** Until the system's own storage says that all have ended, not only until their functions have. */
async function workThrough(bench: Bench, chains: number, total: number): Promise<void> {
  await bench.work(chains);
  const limit = performance.now() + settleLimitMs;
  while ((await bench.completed()) < total) {
    if (performance.now() > limit) throw new Error(`${await bench.completed()} of ${total} chains are stored as ended.`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function claims(system: System, order: Order): Promise<ClaimFigures> {
  if (system.emptyClaim === undefined) throw new Error(`An empty claim of ${order.system} is not measured.`);
  const figures: ClaimFigures = { calls: {} };
  for await (const { suspended, calls, fillMs } of system.emptyClaim(order, order.sizes)) {
    figures.calls[suspended] = calls;
    console.log(`${suspended} suspended, made in ${(fillMs / 1_000).toFixed(1)} s`);
  }
  return figures;
}

async function postgresOf(url: string): Promise<number | undefined> {
  const database = await Database.connect(url);
  const server = serverOf(await database.count("SELECT pg_backend_pid()"));
  await database.close();
  return server;
}

const figures = await measure(JSON.parse(process.argv[2] ?? "{}") as Order);
console.log(JSON.stringify(figures));
// Some clients keep timers or sockets: what was asked for is done.
process.exit(0);
