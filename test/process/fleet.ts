/**
 * `gembatch worker` as real processes on one store, with an emulator in this process that counts what they ask.
 *
 * @module
 */
import { spawn, type ChildProcess } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { startEmulator, type Emulator } from "../../src/emulator.ts";
import { gemini } from "../../src/gemini.ts";
import { Gembatch } from "../../src/index.ts";
import { defineChains } from "./worker-chains.ts";

const command = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const config = new URL("./worker-config.ts", import.meta.url).pathname;

export interface WorkerOptions {
  /** Version of the chains' code. Default `1`. */
  version?: string;
  /** Arguments of `gembatch worker`. */
  args?: readonly string[];
  /** Arguments of Node. */
  node?: readonly string[];
  /** For `worker-config.ts`. */
  env?: Readonly<Record<string, string>>;
}

export interface WorkerProcess {
  pid: number;
  /** Resolves when it has said that it runs. */
  started: Promise<void>;
  /** Exit code or signal, and all that it wrote. */
  ended: Promise<{ code: number | string; output: string }>;
  /** Whether it has ended. */
  readonly over: boolean;
  signal(signal: NodeJS.Signals): void;
}

export class Fleet {
  readonly emulator: Emulator;
  readonly #url: string;
  readonly #alive = new Set<ChildProcess>();
  readonly #clients: Gembatch[] = [];

  private constructor(emulator: Emulator, url: string) {
    this.emulator = emulator;
    this.#url = url;
  }

  /** A fleet without workers on the store of this URL. */
  static async start(url: string): Promise<Fleet> {
    return new Fleet(await startEmulator({ turnaround: 150, answer: (_request, { hash }) => `answer ${hash}` }), url);
  }

  /** Kills what is left. */
  async stop(): Promise<void> {
    for (const child of this.#alive) child.kill("SIGKILL");
    for (const client of this.#clients) await client.close();
    await this.emulator.close();
  }

  /** Starts one more worker. */
  worker({ version = "1", args = [], node = [], env = {} }: WorkerOptions = {}): WorkerProcess {
    return this.#spawn(
      [...node, command, "worker", "--config", config, ...args],
      { PROGRAM_VERSION: version, ...env },
      "The worker runs on ",
    );
  }

  /** Starts a program of a user. */
  program(file: string, env: Readonly<Record<string, string>>): WorkerProcess {
    return this.#spawn([file], env, "started\n");
  }

  #spawn(args: readonly string[], env: Readonly<Record<string, string>>, greeting: string): WorkerProcess {
    const child = spawn(process.execPath, args, {
      env: { ...process.env, GEMBATCH_STORE: this.#url, GOOGLE_GEMINI_BASE_URL: this.emulator.url, GEMINI_API_KEY: "test", ...env },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#alive.add(child);
    let output = "";
    let over = false;
    const started = Promise.withResolvers<void>();
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.startsWith(greeting)) started.resolve();
    });
    const ended = new Promise<{ code: number | string; output: string }>((resolve) => {
      child.once("close", (code, signal) => {
        this.#alive.delete(child);
        over = true;
        started.resolve();
        resolve({ code: code ?? signal ?? "", output });
      });
    });
    return {
      pid: child.pid ?? 0,
      started: started.promise,
      ended,
      get over() {
        return over;
      },
      signal: (signal) => void child.kill(signal),
    };
  }

  /** A program that starts runs and awaits them, and leaves the work to others. */
  client(version = "1") {
    const gembatch = new Gembatch({
      store: this.#url,
      provider: gemini({ apiKey: "test", baseUrl: this.emulator.url }),
      autoWorker: false,
      logger: false,
    });
    this.#clients.push(gembatch);
    return { gembatch, ...defineChains(gembatch, version) };
  }

  /** Starts this many sequences; `results` resolves with their outputs by id. Prefix `r`, or another for further ones. */
  async begin(count: number, version = "1", prefix = "r") {
    const { sequence } = this.client(version);
    const numbers = Array.from({ length: count }, (_, n) => (prefix === "r" ? n : 1_000 + n));
    const options = { id: (n: number) => `${prefix}-${n}` };
    await sequence.startMany(numbers, options);
    const results = async () => {
      const outputs = new Map<string, { text: string; code: string }>();
      for await (const item of sequence.map(numbers, options)) {
        if (item.status !== "completed") throw new Error(`Run ${item.id} ${item.status}.`);
        outputs.set(item.id, item.output);
      }
      return outputs;
    };
    return { results };
  }

  /** Waits until the emulator was sent this many rows. */
  async rowsSent(count: number): Promise<void> {
    while (this.emulator.ledger.totals.sentRows < count) await delay(20);
  }
}

/** Three prompts a sequence, each of them sent once. */
export async function expectEveryPromptOnce({ emulator }: Fleet, sequences: number): Promise<void> {
  await emulator.idle();
  expect(emulator.ledger.duplicatePrompts()).toEqual([]);
  expect(emulator.ledger.totals.sentRows).toBe(3 * sequences);
}

/** Ends workers by SIGTERM; each must have worked until now. */
export async function dismiss(workers: readonly WorkerProcess[]): Promise<void> {
  expect(workers.map(({ over }) => over)).toEqual(workers.map(() => false));
  for (const worker of workers) worker.signal("SIGTERM");
  const codes = await Promise.all(workers.map(async ({ ended }) => (await ended).code));
  expect(codes).toEqual(workers.map(() => 0));
}
