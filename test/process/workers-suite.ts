/**
 * `gembatch worker` as real processes on one store: what a fleet does when workers come, leave, die and are replaced by a newer version. For any store with a URL.
 *
 * @module
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { expectEveryPromptOnce, Fleet } from "./fleet.ts";

export interface WorkersSetup {
  /** Shown in the name of the suite. */
  name: string;
  /** A store that is empty, for the workers and for this process. */
  createStore(): Promise<{ url: string; dispose(): Promise<void> }>;
  /** Whether to test what signals do, which has little to do with the store. */
  signals: boolean;
}

export function testWorkers({ name, createStore, signals }: WorkersSetup): void {
  let fleet: Fleet;
  let folder: string;
  let store: Awaited<ReturnType<WorkersSetup["createStore"]>>;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "gembatch-workers-"));
    store = await createStore();
    fleet = await Fleet.start(store.url);
  });
  afterEach(async () => {
    await fleet.stop();
    await store.dispose();
    rmSync(folder, { recursive: true });
  });

  const startWorker = (version = "1", ...args: string[]) => fleet.worker({ version, args });

  describe(`gembatch worker in several processes on ${name}`, { timeout: 180_000 }, () => {
    it("share the work; one that is told to leaves, one is killed, and every run ends", async () => {
      const runs = 300;
      const workers = [startWorker(), startWorker(), startWorker()];
      await Promise.all(workers.map(async ({ started }) => started));
      const { results } = await fleet.begin(runs);
      const outputs = results();
      await fleet.rowsSent(runs);
      workers[0]!.signal("SIGTERM");
      expect(await workers[0]!.ended).toMatchObject({
        code: 0,
        output: expect.stringMatching(/\nThe worker has stopped: SIGTERM\.\n$/) as string,
      });
      await fleet.rowsSent(runs + 1);
      workers[1]!.signal("SIGKILL");
      expect((await workers[1]!.ended).code).toBe("SIGKILL");
      expect((await outputs).size).toBe(runs);
      await expectEveryPromptOnce(fleet, runs);
      workers[2]!.signal("SIGINT");
      expect(await workers[2]!.ended).toMatchObject({ code: 0 });
    });

    it.runIf(signals)("say what they run, without secrets, and end by themselves when told to and nothing is left", async () => {
      const { results } = await fleet.begin(5);
      const { code, output } = await startWorker("1", "--until-idle").ended;
      expect(code).toBe(0);
      expect(output).toMatch(
        /^The worker runs on \S+ with gemini\. Chains: sequence, slow, signed\. Handlers: none\.\nThe worker has stopped: nothing is left to do\.\n$/,
      );
      expect(output).not.toMatch(/\/\/[^/\s]*@/);
      expect((await results()).size).toBe(5);
    });

    it.runIf(signals)("finish the step in hand at the first signal", async () => {
      const file = join(folder, "steps");
      const { slow } = fleet.client();
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

    it.runIf(signals)("give back what takes longer than the grace, and what they had when a second signal came", async () => {
      const file = join(folder, "steps");
      const { slow } = fleet.client();
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
      const before = await fleet.begin(runs, "1");
      await fleet.rowsSent(runs);
      const next = startWorker("2");
      await next.started;
      const after = await fleet.begin(runs, "2", "s");
      old[0]!.signal("SIGTERM");
      expect((await old[0]!.ended).code).toBe(0);
      await fleet.rowsSent(3 * runs);
      old[1]!.signal("SIGTERM");
      expect((await old[1]!.ended).code).toBe(0);
      const [ofOld, ofNew] = [await before.results(), await after.results()];
      expect([ofOld.size, ofNew.size]).toEqual([runs, runs]);
      // Only code of their own version, or later, ran them.
      expect(new Set([...ofNew.values()].map(({ code }) => code))).toEqual(new Set(["2"]));
      await expectEveryPromptOnce(fleet, 2 * runs);
      next.signal("SIGTERM");
      expect((await next.ended).code).toBe(0);
    });

    it("leave runs of a version alone that they do not know", async () => {
      const { results } = await fleet.begin(20, "2", "s");
      const old = startWorker("1");
      await old.started;
      await delay(1_000);
      expect(fleet.emulator.ledger.totals.sentRows).toBe(0);
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
