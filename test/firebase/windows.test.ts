/**
 * The seven windows in which the Python library, version 0.1.5, loses work or does it twice (blueworrybear/gembatch: gembatch/tasks.py, gemini.py, core.py), each as a test that it would fail.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Gembatch } from "../../src/index.ts";
import { Project, type Death, type ProjectOptions } from "./project.ts";
import { storeKinds, type StoreKind } from "./stores.ts";
import { echo, model, outputFor, outputsOf, request, submitTasks, taskA } from "./task-a.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

describe.each(storeKinds)("what Python gembatch would fail, over $name", { timeout: 60_000 }, ({ name, open }) => {
  let kind: StoreKind;
  beforeEach(() => void (kind = open()));
  afterEach(async () => kind.remove());

  const start = async (options: Partial<ProjectOptions> = {}) =>
    Project.start({ program: taskA, store: kind, ...options, emulator: { answer: echo, ...options.emulator } });
  const at = (method: string, when: Death["when"], nth = 1): Death => ({ method, when, nth });
  const both = (method: string) => [at(method, "before"), at(method, "after")] as const;

  /** All of them over the store that takes no time; over the other one the last that loses an answer, which is harder. */
  const deathsOf = (all: readonly Death[]) => (name === "SQLite" ? all : all.filter(({ when }) => when === "after").slice(-1));

  const ids = ["a", "b", "c"];
  const expectOnce = async (project: Project, of: readonly string[] = ids) => {
    expect(await outputsOf(project, of)).toEqual(of.map(outputFor));
    expect(project.emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(project.emulator.ledger.promptCounts().size).toBe(2 * of.length);
  };

  describe("1: a crash between the request for a job and the note that it runs submits the batch again (GeminiBatchJob.run)", () => {
    it.each(deathsOf([...both("stageInput"), ...both("createJob"), at("updateBatch", "after", 2), at("updateBatch", "before", 3)]))(
      "killed $when $method",
      async (death) => {
        await using project = await start({ sweeps: false, deaths: [death] });
        await submitTasks(project, ids);
        expect(await project.runAll(2 * hourMs)).toBe(true);
        await expectOnce(project);
        expect(project.invoked.killed).toBe(1);
        expect(project.emulator.jobs()).toHaveLength(2);
      },
    );

    it("the answer to the request is lost, and the instance dies too", async () => {
      await using project = await start({
        sweeps: false,
        deaths: [at("findJobs", "before")],
        emulator: { faults: { createAnswerLost: { times: 1 } } },
      });
      await submitTasks(project, ids);
      expect(await project.runAll(2 * hourMs)).toBe(true);
      await expectOnce(project);
      expect(project.emulator.jobs()).toHaveLength(2);
    });
  });

  describe("2: a crash between the results and their handlers loses handlers for ever, a retry runs them twice (runOnGemBatchJobSuccess)", () => {
    it.each(deathsOf([...both("readResults"), ...both("settleRows"), ...both("claimRuns"), ...both("commitTurns")]))(
      "killed $when $method",
      async (death) => {
        const calls: string[] = [];
        const program = (gembatch: Gembatch) => {
          gembatch.handler("output", (response) => response.text);
          gembatch.handler("second", async (response, params: { id: string }) => {
            calls.push(params.id);
            const prompt = request(`second of ${params.id} after ${response.text}`);
            await gembatch.submit(prompt, model, "output", undefined, { id: `${params.id}-output` });
          });
        };
        await using project = await start({ program, sweeps: false, deaths: [death] });
        await submitTasks(project, ids);
        expect(await project.runAll(2 * hourMs)).toBe(true);
        await expectOnce(project);
        expect(project.invoked.killed).toBe(1);
        expect(new Set(calls)).toEqual(new Set(ids));
      },
    );
  });

  describe("3: a handler whose invocation fails twice is dropped with its chain (handleGemBatchRequestComplete, max_attempts=2)", () => {
    it("three instances die in it, and it comes to its end", async () => {
      const death = at("commitTurns", "before");
      await using project = await start({ deaths: [death, death, death] });
      await submitTasks(project);
      expect(await project.runAll(4 * hourMs)).toBe(true);
      expect(project.invoked.killed).toBe(3);
      await expectOnce(project, ["a"]);
    });

    it("one that throws is kept with its answer, and goes on when it is retried, unpaid", async () => {
      let mended = false;
      const program = (gembatch: Gembatch) => {
        gembatch.handler("output", (response) => response.text);
        gembatch.handler("second", async (response, params: { id: string }) => {
          if (!mended) throw new Error("the database is away");
          const prompt = request(`second of ${params.id} after ${response.text}`);
          await gembatch.submit(prompt, model, "output", undefined, { id: `${params.id}-output` });
        });
      };
      await using project = await start({ program });
      await submitTasks(project);
      expect(await project.runAll(2 * hourMs)).toBe(true);
      const { gembatch } = project.instance();
      expect((await gembatch.runs.list({ state: "failed" })).items).toMatchObject([
        { id: "a", error: { message: "the database is away" } },
      ]);
      mended = true;
      // It wakes a worker as a submit does.
      await gembatch.runs.retry("a");
      expect(await project.runAll(2 * hourMs)).toBe(true);
      await expectOnce(project, ["a"]);
    });
  });

  describe("4: a handler that is run again submits its prompts twice, and one that dies between two submits leaves half a chain (submit, uuid4)", () => {
    it.each([at("commitTurns", "before"), at("commitTurns", "after")])("killed $when its commit", async (death) => {
      const program = (gembatch: Gembatch) => {
        gembatch.handler("output", (response) => response.text);
        gembatch.handler("fork", async (response) => {
          // Without ids of their own, as in the Python library.
          await gembatch.submit(request(`left of ${response.text}`), model, "output");
          await gembatch.submit(request(`right of ${response.text}`), model, "output");
        });
      };
      await using project = await start({ program, sweeps: false, deaths: [death] });
      await project.instance().gembatch.submit(request("root"), model, "fork", undefined, { id: "root" });
      expect(await project.runAll(2 * hourMs)).toBe(true);
      expect(project.invoked.killed).toBe(1);
      const runs = (await project.instance().gembatch.runs.list()).items;
      expect(new Set(runs.map(({ output }) => output))).toEqual(new Set([null, "<left of <root>>", "<right of <root>>"]));
      expect(runs).toHaveLength(3);
      expect(project.emulator.ledger.promptCounts().size).toBe(3);
      expect(project.emulator.ledger.duplicatePrompts()).toEqual([]);
    });
  });

  describe("5: a crash while prompts are assigned to a batch leaves them in one that does not exist (flush_gembatch_job_queue)", () => {
    it.each(deathsOf([...both("formBatch"), at("claimBatches", "after", 1)]))("killed $when $method", async (death) => {
      await using project = await start({ sweeps: false, deaths: [death] });
      await submitTasks(project, ids);
      expect(await project.runAll(2 * hourMs)).toBe(true);
      await expectOnce(project);
      expect(project.invoked.killed).toBe(1);
      expect(project.emulator.jobs()).toHaveLength(2);
    });

    it.runIf(name === "SQLite")("in the middle of one that takes several steps", async () => {
      const many = Array.from({ length: 2_100 }, (_, n) => `m${n}`);
      const program = (gembatch: Gembatch) => void gembatch.handler("second", (response) => response.text);
      await using project = await start({ program, sweeps: false, deaths: [at("formBatch", "after", 1)] });
      await submitTasks(project, many);
      expect(await project.runAll(2 * hourMs)).toBe(true);
      expect(project.invoked.killed).toBe(1);
      expect(project.emulator.ledger.promptCounts().size).toBe(many.length);
      expect(project.emulator.ledger.duplicatePrompts()).toEqual([]);
    });
  });

  describe("6: it lives by triggers, which come twice or never (functions#62, #315, #615)", () => {
    it("none comes: the sweep is the guarantee", async () => {
      await using project = await start();
      project.tasks.delivery = () => [];
      await submitTasks(project, ids);
      expect(await project.runAll(3 * hourMs)).toBe(true);
      expect(project.invoked.work).toBe(0);
      await expectOnce(project);
    });

    it("each comes three times at once: nothing is done twice", async () => {
      await using project = await start({ sweeps: false });
      project.tasks.delivery = ({ scheduledAt }) => [scheduledAt, scheduledAt, scheduledAt];
      await submitTasks(project, ids);
      expect(await project.runAll(3 * hourMs)).toBe(true);
      await expectOnce(project);
      expect(project.emulator.jobs()).toHaveLength(2);
    });

    it("none comes, and the sweep is killed at its work again and again", async () => {
      const deaths = ["createJob", "settleRows", "commitTurns", "formBatch"].flatMap((method) => both(method));
      await using project = await start({ deaths });
      project.tasks.delivery = () => [];
      await submitTasks(project, ids);
      expect(await project.runAll(dayMs)).toBe(true);
      expect(project.invoked.killed).toBe(deaths.length);
      await expectOnce(project);
    });
  });

  it("7: what is still alive is removed after three to five days, when a queue is held up (TTL of requests and batches)", async () => {
    await using project = await start({
      sweeps: 12 * hourMs,
      gembatch: { retention: { runs: "1h", histories: "1h", batches: "1h" } },
      emulator: { faults: { throttleCreate: true } },
    });
    project.tasks.delivery = () => [];
    await submitTasks(project, ids);
    expect(await project.runAll(6 * dayMs)).toBe(false);
    const { gembatch } = project.instance();
    expect((await gembatch.stats()).runs.waiting).toBe(3);
    project.emulator.faults = {};
    expect(await project.run(async () => project.emulator.jobs().length === 2, 3 * dayMs)).toBe(true);
    expect(project.emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(project.emulator.ledger.promptCounts().size).toBe(6);
  });
});
