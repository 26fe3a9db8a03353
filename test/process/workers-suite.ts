/**
 * `gembatch worker` as real processes on one store: what a fleet does when workers come, leave, die and are replaced by a newer version. For any store with a URL.
 *
 * @module
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startEmulator, type Emulator } from "../../src/emulator.ts";
import { gemini } from "../../src/gemini.ts";
import { Gembatch } from "../../src/index.ts";
import { defineChains } from "./worker-chains.ts";

const command = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const config = new URL("./worker-config.ts", import.meta.url).pathname;

export interface WorkersSetup {
  /** Shown in the name of the suite. */
  name: string;
  /** A store that is empty, for the workers and for this process. */
  createStore(): Promise<{ url: string; dispose(): Promise<void> }>;
}

interface WorkerProcess {
  pid: number;
  /** Resolves when it has said that it runs. */
  started: Promise<void>;
  /** Exit code or signal, and all that it wrote. */
  ended: Promise<{ code: number | string; output: string }>;
  signal(signal: NodeJS.Signals): void;
}

export function testWorkers({ name, createStore }: WorkersSetup): void {
  let emulator: Emulator;
  let folder: string;
  let store: Awaited<ReturnType<WorkersSetup["createStore"]>>;
  const alive = new Set<ChildProcess>();
  const clients: Gembatch[] = [];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "gembatch-workers-"));
    store = await createStore();
    emulator = await startEmulator({ turnaround: 150, answer: (_request, { hash }) => `answer ${hash}` });
  });
  afterEach(async () => {
    for (const child of alive) child.kill("SIGKILL");
    for (const client of clients.splice(0)) await client.close();
    await emulator.close();
    await store.dispose();
    rmSync(folder, { recursive: true });
  });

  /** `gembatch worker` with code of this version. */
  function startWorker(version = "1", ...args: string[]): WorkerProcess {
    const child = spawn(process.execPath, [command, "worker", "--config", config, ...args], {
      env: {
        ...process.env,
        GEMBATCH_STORE: store.url,
        GOOGLE_GEMINI_BASE_URL: emulator.url,
        GEMINI_API_KEY: "test",
        PROGRAM_VERSION: version,
      },
      stdio: ["ignore", "pipe", "inherit"],
    });
    alive.add(child);
    let output = "";
    const started = Promise.withResolvers<void>();
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.startsWith("The worker runs on ")) started.resolve();
    });
    const ended = new Promise<{ code: number | string; output: string }>((resolve) => {
      child.once("close", (code, signal) => {
        alive.delete(child);
        started.resolve();
        resolve({ code: code ?? signal ?? "", output });
      });
    });
    return { pid: child.pid ?? 0, started: started.promise, ended, signal: (signal) => void child.kill(signal) };
  }

  /** A program that starts runs and awaits them, and leaves the work to others. */
  function client(version = "1") {
    const gembatch = new Gembatch({
      store: store.url,
      provider: gemini({ apiKey: "test", baseUrl: emulator.url }),
      autoWorker: false,
      logger: false,
    });
    clients.push(gembatch);
    return { gembatch, ...defineChains(gembatch, version) };
  }

  /** Starts this many sequences; `results` resolves with their outputs by id. */
  async function begin(count: number, version = "1", prefix = "r") {
    const { sequence } = client(version);
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

  const rowsSent = async (count: number) => {
    while (emulator.ledger.totals.sentRows < count) await delay(20);
  };

  async function expectEveryPromptOnce(runs: number): Promise<void> {
    await emulator.idle();
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(emulator.ledger.totals.sentRows).toBe(3 * runs);
  }

  describe(`gembatch worker in several processes on ${name}`, { timeout: 90_000 }, () => {
    it("share the work; one that is told to leaves, one is killed, and every run ends", async () => {
      const runs = 300;
      const workers = [startWorker(), startWorker(), startWorker()];
      await Promise.all(workers.map(async ({ started }) => started));
      const { results } = await begin(runs);
      const outputs = results();
      await rowsSent(runs);
      workers[0]!.signal("SIGTERM");
      expect(await workers[0]!.ended).toMatchObject({
        code: 0,
        output: expect.stringMatching(/\nThe worker has stopped: SIGTERM\.\n$/) as string,
      });
      await rowsSent(runs + 1);
      workers[1]!.signal("SIGKILL");
      expect((await workers[1]!.ended).code).toBe("SIGKILL");
      expect((await outputs).size).toBe(runs);
      await expectEveryPromptOnce(runs);
      workers[2]!.signal("SIGINT");
      expect(await workers[2]!.ended).toMatchObject({ code: 0 });
    });

    it("say what they run, without secrets, and end by themselves when told to and nothing is left", async () => {
      const { results } = await begin(5);
      const { code, output } = await startWorker("1", "--until-idle").ended;
      expect(code).toBe(0);
      expect(output).toMatch(
        /^The worker runs on \S+ with gemini\. Chains: sequence, slow\. Handlers: none\.\nThe worker has stopped: nothing is left to do\.\n$/,
      );
      expect(output).not.toMatch(/\/\/[^/\s]*@/);
      expect((await results()).size).toBe(5);
    });

    it("finish the step in hand at the first signal", async () => {
      const file = join(folder, "steps");
      const { slow } = client();
      const worker = startWorker();
      const run = await slow.start({ file, ms: 1_500 });
      await lines(file, 1);
      worker.signal("SIGTERM");
      expect((await worker.ended).code).toBe(0);
      expect(readFileSync(file, "utf8")).toBe("begun\nended\n");
      // What the step came to is recorded: whoever goes on does not run it again.
      expect((await startWorker("1", "--until-idle").ended).code).toBe(0);
      expect(await run.result()).toBe("worked");
      expect(readFileSync(file, "utf8")).toBe("begun\nended\n");
    });

    it("give back what takes longer than the grace, and what they had when a second signal came", async () => {
      const file = join(folder, "steps");
      const { slow } = client();
      const impatient = startWorker("1", "--grace", "200ms");
      const run = await slow.start({ file, ms: 4_000 });
      await lines(file, 1);
      impatient.signal("SIGTERM");
      expect((await impatient.ended).code).toBe(0);
      const twice = startWorker();
      await lines(file, 2);
      twice.signal("SIGINT");
      await delay(200);
      twice.signal("SIGTERM");
      expect((await twice.ended).code).toBe(143);
      expect(readFileSync(file, "utf8")).toBe("begun\nbegun\n");
      expect((await startWorker("1", "--until-idle").ended).code).toBe(0);
      expect(await run.result()).toBe("worked");
      expect(readFileSync(file, "utf8")).toBe("begun\nbegun\nbegun\nended\n");
    });

    it("roll out a version that takes up the runs of the one before", async () => {
      const runs = 150;
      const old = [startWorker("1"), startWorker("1")];
      await Promise.all(old.map(async ({ started }) => started));
      const before = await begin(runs, "1");
      await rowsSent(runs);
      const next = startWorker("2");
      await next.started;
      const after = await begin(runs, "2", "s");
      old[0]!.signal("SIGTERM");
      expect((await old[0]!.ended).code).toBe(0);
      await rowsSent(3 * runs);
      old[1]!.signal("SIGTERM");
      expect((await old[1]!.ended).code).toBe(0);
      const [ofOld, ofNew] = [await before.results(), await after.results()];
      expect([ofOld.size, ofNew.size]).toEqual([runs, runs]);
      // Only code of their own version, or later, ran them.
      expect(new Set([...ofNew.values()].map(({ code }) => code))).toEqual(new Set(["2"]));
      await expectEveryPromptOnce(2 * runs);
      next.signal("SIGTERM");
      expect((await next.ended).code).toBe(0);
    });

    it("leave runs of a version alone that they do not know", async () => {
      const { results } = await begin(20, "2", "s");
      const old = startWorker("1");
      await old.started;
      await delay(1_000);
      expect(emulator.ledger.totals.sentRows).toBe(0);
      const next = startWorker("2", "--until-idle");
      expect((await next.ended).code).toBe(0);
      expect((await results()).size).toBe(20);
      old.signal("SIGTERM");
      expect((await old.ended).code).toBe(0);
    });
  });

  /** Waits until a file has this many lines. */
  async function lines(file: string, count: number): Promise<void> {
    writeFileSync(file, "", { flag: "a" });
    while (readFileSync(file, "utf8").split("\n").length <= count) await delay(20);
  }
}
