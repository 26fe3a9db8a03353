import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { onRequest } from "firebase-functions/https";
import type { Chain, Gembatch } from "../../src/index.ts";
import { SeededRandom } from "../../src/testing.ts";
import type { Delivery } from "./cloud-tasks.ts";
import { callFunction } from "./http.ts";
import { Project, type ProjectOptions } from "./project.ts";
import { storeKinds, type StoreKind } from "./stores.ts";
import { echo, model, outputFor, outputsOf, request, submitTasks, taskA } from "./task-a.ts";

const hourMs = 3_600_000;

describe.each(storeKinds)("a chain in functions over $name", { timeout: 60_000 }, ({ name, open }) => {
  let kind: StoreKind;
  beforeEach(() => void (kind = open()));
  afterEach(async () => kind.remove());

  const start = async (options: Partial<ProjectOptions> = {}) =>
    Project.start({ program: taskA, store: kind, ...options, emulator: { answer: echo, ...options.emulator } });

  /** Everything came out right, and nothing was asked twice. */
  const expectDone = async (project: Project, ids: readonly string[] = ["a"]) => {
    expect(await outputsOf(project, ids)).toEqual(ids.map(outputFor));
    expect(project.emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(project.emulator.ledger.promptCounts().size).toBe(2 * ids.length);
  };

  it("goes from an HTTP request to its output by tasks alone, and then nothing runs", async () => {
    await using project = await start({ sweeps: false });
    const instance = project.instance();
    const ask = onRequest(async (_, response) => {
      response.end(await instance.gembatch.submit(request("first of a"), model, "second", { id: "a" }, { id: "a" }));
    });
    expect(await callFunction(ask, { method: "POST" })).toMatchObject({ status: 200, body: "a" });
    expect(project.tasks.created).toHaveLength(1);
    expect(await project.runAll(hourMs)).toBe(true);
    await expectDone(project);
    expect(project.emulator.jobs()).toHaveLength(2);
    expect(project.tasks.waiting).toBe(0);
    expect(project.logs).toEqual([]);
    const worked = project.invoked.work;
    await project.run(() => false, 24 * hourMs);
    expect(project.invoked.work).toBe(worked);
  });

  it("asks for one task for all submits of a moment", async () => {
    await using project = await start({ sweeps: false });
    const ids = Array.from({ length: 20 }, (_, n) => `t${n}`);
    await submitTasks(project, ids);
    expect(project.tasks.requests).toBe(1);
    await submitTasks(project, ["other"]);
    expect(project.tasks.created).toHaveLength(1);
    expect(project.tasks.created[0]).toMatchObject({
      queue: "gembatchWork",
      region: "europe-west1",
      id: expect.stringMatching(/^[0-9a-f]{40}$/),
    });
    expect(await project.runAll(hourMs)).toBe(true);
    await expectDone(project, [...ids, "other"]);
    expect(project.emulator.jobs()).toHaveLength(2);
  });

  // Hundreds of invocations: over the store that takes no time.
  const isFast = name === "SQLite";

  it.runIf(isFast)("is looked at as often as the engine's polling says, not more", async () => {
    await using project = await start({
      sweeps: false,
      emulator: { turnaround: 20 * hourMs },
      gembatch: { polling: { minInterval: "1m", maxInterval: "30m" } },
    });
    await submitTasks(project);
    expect(await project.runAll(48 * hourMs)).toBe(true);
    await expectDone(project);
    // 2 jobs of 20 hours: an interval of a twentieth of their age, from a minute to half an hour.
    expect(project.invoked.work).toBeLessThan(2 * 150);
    for (const { createdAt, scheduledAt } of project.tasks.created)
      expect(scheduledAt - createdAt).toBeLessThanOrEqual(45 * 60_000 + 10_000);
  });

  it("hastens when an output or a webhook tells of it", async () => {
    await using project = await start({
      sweeps: false,
      functions: { bucket: "gs://my-bucket/gembatch" },
      emulator: { turnaround: hourMs },
      gembatch: { polling: { minInterval: "40m", maxInterval: "40m" } },
    });
    await submitTasks(project);
    await project.run(() => false, 61 * 60_000);
    expect(project.emulator.jobs()).toHaveLength(1);
    const { gembatchOutput } = project.instance().functions;
    const event = (name: string) => ({ data: { name, bucket: "gs://my-bucket/gembatch" } }) as never;
    await gembatchOutput!.run(event("gembatch/gb-1/input.jsonl"));
    await project.run(() => false, 60_000);
    expect(project.emulator.jobs()).toHaveLength(1);
    await gembatchOutput!.run(event("gembatch/gb-1/output-x1/prediction-1/predictions.jsonl"));
    await project.run(() => false, 60_000);
    expect(project.emulator.jobs()).toHaveLength(2);
  });

  it.runIf(isFast)("wakes a worker for a sleep that is days ahead, with few tasks in between", async () => {
    const chains = new Map<Gembatch, Chain<undefined, number>>();
    const program = (gembatch: Gembatch) =>
      void chains.set(
        gembatch,
        gembatch.chain("sleeper", async ({ sleep, now }) => {
          await sleep("3d");
          return now();
        }),
      );
    await using project = await start({ program });
    const { gembatch } = project.instance();
    const begun = project.clock.now();
    await chains.get(gembatch)!.start(undefined, { id: "sleeper" });
    expect(await project.runAll(4 * 24 * hourMs)).toBe(true);
    const late = ((await gembatch.runs.get("sleeper"))?.output as number) - begun - 3 * 24 * hourMs;
    // A bucket until its first turn, and one after the sleep.
    expect(late).toBeLessThanOrEqual(20_000);
    // One every 45 minutes, and not one more for each sweep.
    expect(project.invoked.work).toBeLessThan(110);
  });

  describe("whatever becomes of its tasks", () => {
    const ids = Array.from({ length: 5 }, (_, n) => `t${n}`);
    const at = (random: SeededRandom, task: Parameters<Delivery>[0], spreadMs: number) =>
      task.scheduledAt + Math.floor(random.next() * spreadMs);
    const deliveries: [string, (random: SeededRandom) => Delivery, ProjectOptions["sweeps"]][] = [
      ["dropped, every one: the sweep alone finishes it", () => () => [], true],
      ["dropped at random", (random) => (task) => (random.next() < 0.5 ? [] : [task.scheduledAt]), true],
      [
        "delivered twice or three times, at once and later",
        (random) => (task) => [task.scheduledAt, task.scheduledAt, at(random, task, 60_000)],
        false,
      ],
      ["late and in another order", (random) => (task) => [at(random, task, 20 * 60_000)], false],
      ["delivered at once, as emulators do", () => (task) => [task.createdAt], false],
      ["hours late", () => (task) => [task.scheduledAt + 5 * hourMs], true],
    ];
    it.each(deliveries)("%s", async (_, delivery, sweeps) => {
      await using project = await start({ sweeps: sweeps ?? true });
      project.tasks.delivery = delivery(new SeededRandom(7));
      await submitTasks(project, ids);
      expect(await project.runAll(24 * hourMs)).toBe(true);
      await expectDone(project, ids);
      expect(project.emulator.jobs()).toHaveLength(2);
      expect(project.invoked.failed).toBe(0);
      // No hot loop, whatever comes when.
      expect(project.invoked.work + project.invoked.sweep).toBeLessThan(100);
    });
  });

  describe("when tasks cannot be had", () => {
    it.each([
      [403, "PERMISSION_DENIED", /may not add tasks .*roles\/cloudtasks\.enqueuer/],
      [404, "NOT_FOUND", /no task queue "gembatchWork" in europe-west1.*GEMBATCH_TASK_QUEUE/],
      [500, "INTERNAL", /could not be added/],
    ])(
      "%i: a submit is committed all the same, it is said once, and the sweep works",
      async (status, word, message) => {
        await using project = await start();
        project.tasks.refuse = { status, word };
        await submitTasks(project);
        const { gembatch } = project.instance();
        await gembatch.submit(request("first of b"), model, "second", { id: "b" }, { id: "b" });
        await project.clock.advance(60_000);
        await gembatch.submit(request("first of c"), model, "second", { id: "c" }, { id: "c" });
        expect(project.logs.filter((line) => message.test(line))).toHaveLength(2);
        expect(project.logs).toHaveLength(2);
        expect(project.logs[0]).toMatch(/Nothing is lost/);
        expect(await project.runAll(2 * hourMs)).toBe(true);
        await expectDone(project, ["a", "b", "c"]);
      },
      60_000,
    );
  });
});
