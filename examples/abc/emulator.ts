import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface RunningEmulator {
  url: string;
  apiKey: string;
  pid: number;
}

/** The emulator that an earlier start left running, else a new one. It outlives this process, so that Ctrl-C loses no job, and ends after 10 idle minutes. */
export async function connectEmulator(folder: string): Promise<RunningEmulator> {
  const infoFile = join(folder, "emulator.json");
  const running = await findEmulator(folder);
  if (running) return running;

  mkdirSync(folder, { recursive: true });
  rmSync(infoFile, { force: true });
  const logFile = join(folder, "emulator.log");
  const log = openSync(logFile, "w");
  const child = spawn(process.execPath, [join(import.meta.dirname, "emulator-server.ts"), infoFile], {
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  child.unref();
  let failure: string | undefined;
  child.once("error", (error) => (failure = error.message));
  child.once("exit", () => (failure ??= readFileSync(logFile, "utf8").trim() || "it ended at once"));
  for (const deadline = Date.now() + 15_000; Date.now() < deadline && failure === undefined;) {
    const emulator = await findEmulator(folder);
    if (emulator) return emulator;
    await sleep(20);
  }
  throw new Error(`The emulator did not start (${failure?.split("\n")[0] ?? "no answer within 15 seconds"}); see ${logFile}.`);
}

/** Ends it. From here on nobody finds it any more, even if it takes a moment. */
export function stopEmulator(folder: string, { pid }: RunningEmulator): void {
  rmSync(join(folder, "emulator.json"), { force: true });
  try {
    process.kill(pid, "SIGTERM");
  } catch {
    // It has ended by itself.
  }
}

/** The emulator of this folder, if it runs and knows the key that it wrote down: another program may have its port by now. */
export async function findEmulator(folder: string): Promise<RunningEmulator | undefined> {
  try {
    const emulator = JSON.parse(readFileSync(join(folder, "emulator.json"), "utf8")) as RunningEmulator;
    const url = `${emulator.url}/v1beta/batches?pageSize=1`;
    const right = await fetch(url, { headers: { "x-goog-api-key": emulator.apiKey }, signal: AbortSignal.timeout(2_000) });
    return right.ok && Array.isArray(((await right.json()) as { operations?: unknown }).operations ?? []) ? emulator : undefined;
  } catch {
    return undefined;
  }
}
