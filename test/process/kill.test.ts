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
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "gembatch-kill-"));
  emulator = await startEmulator({ turnaround: 150, answer: (_request, { hash }) => `answer ${hash}` });
});
afterEach(async () => {
  child?.kill("SIGKILL");
  await emulator.close();
  rmSync(folder, { recursive: true });
});

/** Starts the program; kills it after `killAfterMs` if given. Resolves with its outputs, or undefined if it was killed. */
function start(killAfterMs?: number): Promise<Record<string, string> | undefined> {
  const started = spawn(process.execPath, [program], {
    env: {
      ...process.env,
      GEMBATCH_STORE: `sqlite:${join(folder, "store.db")}`,
      GOOGLE_GEMINI_BASE_URL: emulator.url,
      GEMINI_API_KEY: "test",
      PROGRAM_RUNS: String(runs),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  child = started;
  let output = "";
  started.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => started.kill("SIGKILL"), killAfterMs);
  return new Promise((resolve, reject) => {
    started.on("error", reject).on("close", (code) => {
      clearTimeout(timer);
      const line = output.trim().split("\n").at(-1);
      if (code === 0 && line?.startsWith("{")) resolve(JSON.parse(line) as Record<string, string>);
      else if (killAfterMs !== undefined) resolve(undefined);
      else reject(new Error(`The program ended with ${code}.`));
    });
  });
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
    await expectEverythingOnce(await start());
    expect(emulator.ledger.totals.jobs).toBeLessThanOrEqual(12);
  });

  it("gives the same after kill -9 at five moments", async () => {
    const undisturbed = await start();
    rmSync(join(folder, "store.db"));
    for (const extra of ["store.db-wal", "store.db-shm"]) rmSync(join(folder, extra), { force: true });
    await emulator.reset();
    for (const moment of [300, 450, 600, 750, 900]) await start(moment);
    const outputs = await start();
    expect(outputs).toEqual(undisturbed);
    await expectEverythingOnce(outputs);
  }, 60_000);
});
