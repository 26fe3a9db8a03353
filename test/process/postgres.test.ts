/** Many workers on one Postgres, as real processes: the database stops, networks swallow, processes freeze, clocks are wrong. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import { startPostgres, type PostgresServer } from "../support/postgres-server.ts";
import { dropSchema, newSchema, onServer } from "../support/postgres-store.ts";
import { dismiss, expectEveryPromptOnce, Fleet, type WorkerProcess } from "./fleet.ts";
import { startProxy } from "./tcp-proxy.ts";

const program = new URL("./program.ts", import.meta.url).pathname;
const skewedClock = new URL("./skewed-clock.ts", import.meta.url).pathname;

let folder: string;
let url: string;
let fleet: Fleet;

async function prepare(server: string): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), "gembatch-postgres-test-"));
  url = newSchema(server);
  fleet = await Fleet.start(url);
}

async function tidy(): Promise<void> {
  await fleet.stop();
  await dropSchema(url);
  rmSync(folder, { recursive: true });
}

const started = async (workers: readonly WorkerProcess[]) => Promise.all(workers.map(async (worker) => worker.started));

/** Lines that the steps of the chain `signed` have left: the run, and the process that executed it. */
function signatures(file: string): { run: string; pid: number }[] {
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => ({ run: line.split(" ")[0] ?? "", pid: Number(line.split(" ")[1]) }));
}

/** Starts runs whose step takes `ms`, one every `gapMs`. */
async function beginSigned(count: number, ms: number, gapMs = 0) {
  const file = join(folder, "signatures");
  writeFileSync(file, "");
  const { signed, gembatch } = fleet.client();
  const runs = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      await delay(n * gapMs);
      return signed.start({ file, ms }, { id: `signed-${n}` });
    }),
  );
  /** Resolves when every step has begun this often. */
  const begun = async (times = 1) => {
    while (signatures(file).length < times * count) await delay(20);
  };
  return { file, runs, begun, gembatch };
}

describe("a Postgres that stops and comes back", { timeout: 180_000 }, () => {
  let server: PostgresServer;

  beforeAll(async () => {
    // One of its processes is killed: what it said was committed must be there.
    server = await startPostgres({ own: true, volatile: false });
  }, 60_000);
  afterAll(async () => server.stop());
  beforeEach(async () => prepare(server.url));
  afterEach(tidy);

  it("is waited for: stopped once and killed once in the middle of the work; no worker ends and no prompt is asked twice", async () => {
    const runs = 300;
    const workers = [fleet.worker(), fleet.worker(), fleet.worker()];
    await started(workers);
    const { results } = await fleet.begin(runs);
    const outputs = results();
    await fleet.rowsSent(1);
    await server.restart?.();
    await fleet.rowsSent(runs + 1);
    // One process of it dies, so it ends them all and recovers from its log.
    const { rows } = await onServer(url, async (client) =>
      client.query<{ pid: number }>("SELECT pid FROM pg_stat_activity WHERE application_name = 'gembatch' ORDER BY state LIMIT 1"),
    );
    const backend = rows[0];
    if (backend === undefined) throw new Error("No worker is connected.");
    process.kill(backend.pid, "SIGKILL");
    expect((await outputs).size).toBe(runs);
    await expectEveryPromptOnce(fleet, runs);
    await dismiss(workers);
  });

  it("may stay away for longer than workers wait for it: what they hold is kept, and they go on", async () => {
    const runs = 100;
    const env = { PROGRAM_PATIENCE_MS: "300", PROGRAM_LEASE: "2s", PROGRAM_LOGGER: "none" };
    const workers = [fleet.worker({ env }), fleet.worker({ env })];
    await started(workers);
    const { runs: slow, begun, file } = await beginSigned(4, 3_000);
    const { results } = await fleet.begin(runs);
    const outputs = results();
    await begun();
    await fleet.rowsSent(1);
    // The steps end meanwhile, and every lease.
    await server.restart?.(4_000);
    expect((await outputs).size).toBe(runs);
    const pids = await Promise.all(slow.map(async (run) => run.result()));
    const executed = new Set(signatures(file).map(({ run, pid }) => `${run} ${pid}`));
    expect(pids.filter((pid, n) => !executed.has(`signed-${n} ${pid}`))).toEqual([]);
    await expectEveryPromptOnce(fleet, runs);
    await dismiss(workers);
  });
});

describe("workers on one Postgres schema", { timeout: 180_000 }, () => {
  beforeEach(async () => prepare(inject("postgresUrl")));
  afterEach(tidy);

  /**
   * Two workers; the first has steps and a job in hand when it is cut off for longer than its lease. It comes back, with everything that it was about to write, just when
   * the other has begun all of it again.
   */
  async function takeOver(first: WorkerProcess, env: Record<string, string>, cutOff: () => void, comeBack: () => void): Promise<void> {
    const runs = 60;
    await first.started;
    fleet.emulator.faults = { createAnswerSlow: { rate: 1, ms: 3_000 } };
    const { results } = await fleet.begin(runs);
    // The job is there, and the answer to its creation on its way.
    await fleet.rowsSent(runs);
    const { runs: slow, begun, file, gembatch } = await beginSigned(4, 3_000);
    await begun();
    cutOff();
    fleet.emulator.faults = {};
    const second = fleet.worker({ env });
    await begun(2);
    comeBack();
    const pids = await Promise.all(slow.map(async (run) => run.result()));
    // Whoever has taken a run over decides what its step came to.
    const last = new Map(signatures(file).map(({ run, pid }) => [run, pid]));
    expect(pids).toEqual(slow.map(({ id }) => last.get(id)));
    expect((await results()).size).toBe(runs);
    await dismiss([second]);
    // It goes on alone.
    const more = await fleet.begin(10, "1", "s");
    expect((await more.results()).size).toBe(10);
    const stats = await gembatch.stats();
    expect(stats.runs).toMatchObject({ completed: runs + slow.length + 10, failed: 0, held: 0 });
    expect(stats.batches.failed + stats.batches.cancelled + stats.duplicateJobs).toBe(0);
    await expectEveryPromptOnce(fleet, runs + 10);
    await dismiss([first]);
  }

  it("take over from one that stands still for longer than its lease; back again, it changes nothing and goes on", async () => {
    const env = { PROGRAM_LEASE: "2s" };
    const first = fleet.worker({ env });
    await takeOver(
      first,
      env,
      () => first.signal("SIGSTOP"),
      () => first.signal("SIGCONT"),
    );
  });

  it("take over from one whose network swallows everything; back again, it changes nothing and goes on", async () => {
    const env = { PROGRAM_LEASE: "2s" };
    const direct = new URL(url);
    const proxy = await startProxy({ host: direct.hostname, port: Number(direct.port || 5_432) });
    const detour = new URL(url);
    detour.host = `127.0.0.1:${proxy.port}`;
    try {
      const first = fleet.worker({ env: { ...env, GEMBATCH_STORE: detour.href } });
      await takeOver(
        first,
        env,
        () => proxy.swallow(),
        () => proxy.heal(),
      );
    } finally {
      await proxy.close();
    }
  });

  it("start ten at the same moment on an empty database, with clocks that are ten minutes apart, and claim nothing twice", async () => {
    const clocks = ["300000", "-300000", "0"];
    const workers = Array.from({ length: 10 }, (_, n) =>
      fleet.worker({ node: ["--import", skewedClock], env: { PROGRAM_LEASE: "20s", PROGRAM_SKEW_MS: clocks[n % 3] ?? "0" } }),
    );
    await started(workers);
    const { results } = await fleet.begin(100);
    // One after the other, so that not one of them gets them all. Each is in hand for longer than it takes until everybody's next heartbeat.
    const { runs: slow, file } = await beginSigned(20, 2_500, 150);
    expect((await results()).size).toBe(100);
    await Promise.all(slow.map(async (run) => run.result()));
    // A lease that seemed to be over by somebody's clock would have been taken over.
    expect(signatures(file)).toHaveLength(slow.length);
    await expectEveryPromptOnce(fleet, 100);
    await dismiss(workers);
  });

  it("are those of two programs, each with runs of its own, as well", async () => {
    const env = { PROGRAM_RUNS: "50" };
    const programs = ["sequence", "branching"].map((chain) => fleet.program(program, { ...env, PROGRAM_CHAINS: chain }));
    const ends = await Promise.all(programs.map(async ({ ended }) => ended));
    expect(ends.map(({ code }) => code)).toEqual([0, 0]);
    const outputs = ends.map(({ output }) => JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as Record<string, string>);
    expect(outputs.map((output) => Object.values(output).filter((text) => text.startsWith("answer ")).length)).toEqual([50, 50]);
    await expectEveryPromptOnce(fleet, 100);
  });
});
