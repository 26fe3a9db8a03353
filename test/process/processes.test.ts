import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startEmulator, type Emulator } from "../../src/emulator.ts";

const program = new URL("./program.ts", import.meta.url).pathname;
const runs = 200;

let emulator: Emulator;
let folder: string;
const children = new Set<ChildProcess>();

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "gembatch-kill-"));
  emulator = await startEmulator({ turnaround: 150, answer: (_request, { hash }) => `answer ${hash}` });
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await emulator.close();
  rmSync(folder, { recursive: true });
});

interface Program {
  child: ChildProcess;
  /** Its outputs; undefined if it was killed. */
  outputs: Promise<Record<string, string> | undefined>;
}

/** Starts the program, or some of its chains. */
function start(chains = "sequence,branching"): Program {
  const child = spawn(process.execPath, [program], {
    env: {
      ...process.env,
      GEMBATCH_STORE: `sqlite:${join(folder, "store.db")}`,
      GOOGLE_GEMINI_BASE_URL: emulator.url,
      GEMINI_API_KEY: "test",
      PROGRAM_RUNS: String(runs),
      PROGRAM_CHAINS: chains,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.add(child);
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  const outputs = new Promise<Record<string, string> | undefined>((resolve, reject) => {
    child.on("error", reject).on("close", (code, signal) => {
      children.delete(child);
      const line = output.trim().split("\n").at(-1);
      if (code === 0 && line?.startsWith("{")) resolve(JSON.parse(line) as Record<string, string>);
      else if (signal === "SIGKILL") resolve(undefined);
      else reject(new Error(`The program ended with ${code}.`));
    });
  });
  return { child, outputs };
}

async function startAndKill(afterMs: number): Promise<void> {
  const { child, outputs } = start();
  const timer = setTimeout(() => child.kill("SIGKILL"), afterMs);
  await outputs;
  clearTimeout(timer);
}

async function expectEverythingOnce(outputs: Record<string, string> | undefined): Promise<void> {
  expect(Object.keys(outputs!)).toHaveLength(2 * runs);
  expect(Object.values(outputs!).every((text) => text.startsWith("answer "))).toBe(true);
  await emulator.idle();
  // Three prompts a run, each paid once.
  expect(emulator.ledger.totals.sentRows).toBe(2 * runs * 3);
  expect(emulator.ledger.duplicatePrompts()).toEqual([]);
}

describe("a program of 200 sequential and 200 branching chains", () => {
  it("takes one job a step, asks no prompt twice", async () => {
    await expectEverythingOnce(await start().outputs);
    expect(emulator.ledger.totals.jobs).toBeLessThanOrEqual(12);
  });

  it("gives the same after kill -9 at five moments", async () => {
    const undisturbed = await start().outputs;
    rmSync(join(folder, "store.db"));
    for (const extra of ["store.db-wal", "store.db-shm"]) rmSync(join(folder, extra), { force: true });
    await emulator.reset();
    for (const moment of [300, 450, 600, 750, 900]) await startAndKill(moment);
    const outputs = await start().outputs;
    expect(outputs).toEqual(undisturbed);
    await expectEverythingOnce(outputs);
  }, 60_000);
});

describe("two processes on one file", () => {
  it("share the work: each runs its chains, one sends the jobs", async () => {
    const [one, two] = [start("sequence"), start("branching")];
    await expectEverythingOnce({ ...(await one.outputs), ...(await two.outputs) });
  }, 60_000);

  it("go on when the one that sends the jobs is killed", async () => {
    const first = start("sequence");
    await new Promise((resolve) => setTimeout(resolve, 500));
    const second = start("branching");
    await new Promise((resolve) => setTimeout(resolve, 400));
    first.child.kill("SIGKILL");
    await first.outputs;
    const branching = await second.outputs;
    expect(Object.keys(branching!)).toHaveLength(runs);
    const sequence = await start("sequence").outputs;
    await expectEverythingOnce({ ...sequence, ...branching });
  }, 60_000);
});
