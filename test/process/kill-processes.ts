/**
 * The processes of the kill test: one server that lives through everything, and programs that are killed.
 *
 * @module
 */
import { spawn, type ChildProcess } from "node:child_process";
import type { LedgerJob, LedgerTotals, PromptCount } from "../../src/emulator/ledger.ts";

const program = new URL("./kill-program.ts", import.meta.url).pathname;
const command = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** Every process that was started and has not ended: none may outlive the test. */
const alive = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

export interface KillProgramArguments {
  waves: number;
  /** Runs of every form in a wave. */
  runs: number;
  /** The file that side effects are appended to. */
  effects: string;
}

/** What `GET /__emulator/ledger` sends. */
export interface LedgerJson {
  totals: LedgerTotals;
  calls: Readonly<Record<string, number>>;
  faults: Readonly<Record<string, number>>;
  jobs: readonly LedgerJob[];
  distinctPrompts: number;
  duplicatePrompts: readonly PromptCount[];
  paidTwice: readonly PromptCount[];
}

export interface Server {
  url: string;
  ledger(): Promise<LedgerJson>;
  /** Resolves when the next call to create a job arrives, or `signal` aborts. */
  nextCreate(signal: AbortSignal): Promise<boolean>;
  stop(): Promise<void>;
}

/** `gembatch emulator` as a process of its own, on a free port. */
export async function startServer(args: readonly string[]): Promise<Server> {
  const child = spawn(process.execPath, [command, "emulator", "--port", "0", "--verbose", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  alive.add(child);
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => {
      alive.delete(child);
      resolve();
    });
  });
  let waiting: (() => void)[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    child.once("error", reject).once("close", (code) => reject(new Error(`The emulator ended with ${code}.`)));
    onLines(child, (line) => {
      const found = /^Gemini emulator on (\S+)/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
      if (!/^POST \S+:batchGenerateContent$/.test(line)) return;
      for (const wake of waiting.splice(0)) wake();
    });
  });
  return {
    url,
    ledger: async () => (await (await fetch(`${url}/__emulator/ledger`)).json()) as LedgerJson,
    nextCreate: async (signal) =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve(false);
        waiting.push(() => resolve(true));
        signal.addEventListener("abort", () => resolve(false), { once: true });
      }),
    async stop() {
      waiting = [];
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export interface Program {
  pid: number;
  /** Resolves when its runs are started, or it has ended. */
  started: Promise<void>;
  /** How it ended: by itself with everything done, killed, or otherwise. */
  ended: Promise<"done" | "killed" | "failed">;
  kill(): void;
}

/** The program on a store, given by its URL, and a server. `onLog` receives each line of its log. */
export function startProgram(store: string, server: Server, args: KillProgramArguments, onLog: (line: string) => void): Program {
  const child = spawn(process.execPath, [program, JSON.stringify(args)], {
    env: { ...process.env, GEMBATCH_STORE: store, GOOGLE_GEMINI_BASE_URL: server.url, GEMINI_API_KEY: "test" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  alive.add(child);
  const started = Promise.withResolvers<void>();
  onLines(child, (line) => {
    if (line === "started") started.resolve();
  });
  onLines(child, onLog, "stderr");
  const ended = new Promise<"done" | "killed" | "failed">((resolve) => {
    child
      .once("error", () => resolve("failed"))
      .once("close", (code, signal) => {
        alive.delete(child);
        started.resolve();
        resolve(code === 0 ? "done" : signal === "SIGKILL" ? "killed" : "failed");
      });
  });
  return { pid: child.pid ?? 0, started: started.promise, ended, kill: () => void child.kill("SIGKILL") };
}

function onLines(child: ChildProcess, take: (line: string) => void, from: "stdout" | "stderr" = "stdout"): void {
  let rest = "";
  child[from]?.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line);
  });
}
