import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createHmac } from "node:crypto";
import { Gembatch } from "../../src/index.ts";
import { gembatchFunctions, type WorkTask } from "../../src/firebase.ts";
import { ManualClock, SeededRandom, SteerableProvider } from "../../src/testing.ts";
import { SqliteStore } from "../../src/stores/sqlite/store.ts";
import { callFunction } from "./http.ts";
import { Project, requestOf, type ProjectOptions } from "./project.ts";
import { storeKinds, type StoreKind } from "./stores.ts";
import { echo, model, request, submitTasks, taskA } from "./task-a.ts";

let kind: StoreKind;
beforeEach(() => void (kind = storeKinds[0]!.open()));
afterEach(async () => kind.remove());

const start = async (options: Partial<ProjectOptions> = {}) =>
  Project.start({ program: taskA, store: kind, sweeps: false, ...options, emulator: { answer: echo, ...options.emulator } });
const taskFor = (data: WorkTask) => ({ ...requestOf({ id: "x", queue: "gembatchWork", attempts: 0 } as never), data });

/** Whether a promise is settled, once everything that waits for no time has happened. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.finally(() => (done = true));
  for (let n = 0; n < 200 && !done; n += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  return done;
}

/** Lets time pass, some of it at a time, until something is so. */
async function until(project: Project, done: () => boolean): Promise<void> {
  for (let n = 0; n < 100; n += 1) {
    for (let m = 0; m < 20; m += 1) {
      if (done()) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await project.clock.advance(250);
  }
  throw new Error("It did not happen.");
}

/** Jobs are looked at every second, which keeps a worker from leaving. */
const eager: Partial<ProjectOptions> = {
  gembatch: { polling: { minInterval: "1s", maxInterval: "1s" } },
  emulator: { turnaround: 3_600_000 },
};

describe("a task that comes too early", () => {
  it("waits for its time", async () => {
    await using project = await start();
    const { functions } = project.instance();
    const run = Promise.resolve(functions.gembatchWork.run(taskFor({ notBefore: project.clock.now() + 8_000 })));
    expect(await settled(run)).toBe(false);
    await project.clock.advance(8_000);
    expect(await settled(run)).toBe(true);
  });

  it("much too early is asked for again after half a minute, by another name, and does nothing", async () => {
    await using project = await start();
    await submitTasks(project);
    const notBefore = project.clock.now() + 600_000;
    const { functions } = project.instance();
    const run = Promise.resolve(functions.gembatchWork.run(taskFor({ notBefore, misses: 2 })));
    expect(await settled(run)).toBe(false);
    await project.clock.advance(30_000);
    expect(await settled(run)).toBe(true);
    expect(project.emulator.jobs()).toHaveLength(0);
    expect(project.tasks.created[1]).toMatchObject({ data: { notBefore, misses: 2, round: 1 }, scheduledAt: notBefore });
  });

  it.each([undefined, null, "x", { notBefore: "soon", misses: -1 }, { notBefore: Number.NaN }])(
    "is no harm with %j in it",
    async (data) => {
      await using project = await start();
      const run = Promise.resolve(project.instance().functions.gembatchWork.run(taskFor(data as never)));
      await project.clock.advance(10_000);
      expect(await settled(run)).toBe(true);
    },
  );
});

describe("an invocation", () => {
  it("asks for no task when there is nothing to do", async () => {
    await using project = await start();
    const { functions } = project.instance();
    for (const run of [functions.gembatchWork.run(taskFor({})), functions.gembatchSweep.run({ scheduleTime: "" })]) {
      await project.clock.advance(5_000);
      expect(await settled(Promise.resolve(run))).toBe(true);
    }
    expect(project.tasks.requests).toBe(0);
  });

  it("leaves its lease: the next one works at once", async () => {
    await using project = await start();
    await submitTasks(project);
    const first = project.instance();
    const run = Promise.resolve(first.functions.gembatchWork.run(taskFor({})));
    await settled(run);
    for (let n = 0; n < 8 && !(await settled(run)); n += 1) await project.clock.advance(1_000);
    expect(await settled(run)).toBe(true);
    const store = kind.connect();
    await store.open();
    const roles = [{ name: "gemini:send", exclusive: true }];
    const held = await store.heartbeat({
      worker: { id: "next", host: "h", pid: 1 },
      now: project.clock.now(),
      leaseMs: 30_000,
      roles,
      maxAttempts: 5,
    });
    expect(held.roles).toEqual(["gemini:send"]);
    await store.close();
  });

  it("is joined by others of its process, and what they came for is done", async () => {
    await using project = await start(eager);
    await submitTasks(project);
    const instance = project.instance();
    const first = Promise.resolve(instance.functions.gembatchWork.run(taskFor({})));
    await until(project, () => project.emulator.jobs().length === 1);
    await instance.gembatch.submit(request("other"), "gemini-2.5-pro", "output");
    const second = Promise.resolve(instance.functions.gembatchWork.run(taskFor({})));
    expect(await settled(second)).toBe(true);
    await until(project, () => project.emulator.jobs().length === 2);
    expect(await settled(first)).toBe(false);
    process.emit("SIGTERM");
    expect(await settled(first)).toBe(true);
  });

  it("sees what is committed while it leaves, although nobody was woken for it", async () => {
    let submit: (() => Promise<unknown>) | undefined;
    const onCall = (called: string) => {
      if (called !== "leave" || !submit) return undefined;
      const now = submit;
      submit = undefined;
      return now().then(() => {});
    };
    await using project = await start({ onCall });
    const bystander = project.instance().gembatch;
    submit = async () => {
      project.tasks.refuse = { status: 403, word: "PERMISSION_DENIED" };
      await bystander.submit(request("late"), model, "output", undefined, { id: "late" });
      project.tasks.refuse = undefined;
    };
    const instance = project.instance();
    expect(await project.invoke(instance, () => instance.functions.gembatchWork.run(taskFor({})))).toBe("done");
    expect(project.tasks.created).toMatchObject([{ data: { misses: 1 } }]);
    expect(await project.runAll(600_000)).toBe(true);
    expect((await bystander.runs.get("late"))?.output).toBe("<late>");
  });

  it("sees what brought somebody who joined it at its very end", async () => {
    let step = "work";
    let join: (() => Promise<unknown>) | undefined;
    const onCall = (called: string) => {
      if (called === "leave") step = "leave";
      if (step !== "leave" || called !== "activeBatches" || !join) return undefined;
      const now = join;
      join = undefined;
      return now().then(() => {});
    };
    await using project = await start({ onCall });
    const instance = project.instance();
    const bystander = project.instance().gembatch;
    // The last look at the queues is over by then, that at the batches is not.
    join = async () => {
      project.tasks.refuse = { status: 403, word: "PERMISSION_DENIED" };
      await bystander.submit(request("late"), model, "output", undefined, { id: "late" });
      project.tasks.refuse = undefined;
      await instance.functions.gembatchWork.run(taskFor({}));
    };
    await instance.functions.gembatchWork.run(taskFor({}));
    expect(project.tasks.created).toMatchObject([{ data: { misses: 1 } }]);
  });

  it("ends when its budget does, and asks for the next one", async () => {
    await using project = await start({
      functions: { budget: "20s", timeoutSeconds: 60 },
      gembatch: { polling: { minInterval: "1s", maxInterval: "1s" } },
      emulator: { turnaround: 100_000 },
    });
    await submitTasks(project);
    const run = Promise.resolve(project.instance().functions.gembatchWork.run(taskFor({})));
    for (let n = 0; n < 18; n += 1) {
      await settled(Promise.race([run, new Promise((resolve) => setTimeout(resolve, 20))]));
      await project.clock.advance(1_000);
    }
    expect(await settled(run)).toBe(false);
    for (let n = 0; n < 4 && !(await settled(run)); n += 1) await project.clock.advance(1_000);
    expect(await settled(run)).toBe(true);
    expect(project.tasks.created).toHaveLength(2);
  });

  it("ends at SIGTERM, gives up its lease and asks for another one", async () => {
    await using project = await start(eager);
    await submitTasks(project);
    const listeners = process.listenerCount("SIGTERM");
    const run = Promise.resolve(project.instance().functions.gembatchWork.run(taskFor({})));
    await until(project, () => project.emulator.jobs().length === 1);
    expect(await settled(run)).toBe(false);
    expect(process.listenerCount("SIGTERM")).toBe(listeners + 1);
    await project.clock.advance(10_000);
    process.emit("SIGTERM");
    expect(await settled(run)).toBe(true);
    expect(process.listenerCount("SIGTERM")).toBe(listeners);
    expect(project.tasks.created).toHaveLength(2);
  });

  it("waits for a turn that takes long, while another one is asked to go on", async () => {
    let finish: (() => void) | undefined;
    const step = async () => new Promise<string>((resolve) => (finish = () => resolve("done")));
    const program = (gembatch: Gembatch) => void gembatch.handler("second", async (_, __, context) => context.step("long", step));
    await using project = await start({ ...eager, program, emulator: { turnaround: 0 } });
    await submitTasks(project);
    const run = Promise.resolve(project.instance().functions.gembatchWork.run(taskFor({})));
    await until(project, () => finish !== undefined);
    expect(project.tasks.created).toHaveLength(1);
    await until(project, () => project.tasks.created.length === 2);
    expect(await settled(run)).toBe(false);
    finish?.();
    expect(await settled(run)).toBe(true);
    expect((await project.instance().gembatch.runs.get("a"))?.output).toBe("done");
  });

  it("that fails is tried again by Cloud Tasks, and its worker has left", async () => {
    await using project = await start({ deaths: [{ method: "activity", when: "fails" }] });
    await submitTasks(project);
    expect(await project.runAll(3_600_000)).toBe(true);
    expect(project.invoked).toMatchObject({ failed: 1, killed: 0 });
    expect(project.logs.filter((line) => line.includes("The store is away."))).not.toEqual([]);
    expect(project.emulator.jobs()).toHaveLength(2);
  });
});

describe("an instance that is made by a function", () => {
  const parts = () => {
    const clock = new ManualClock();
    const provider = new SteerableProvider({ clock });
    return {
      clock,
      provider,
      store: new SqliteStore({ path: ":memory:" }),
      random: new SeededRandom(1),
      logger: false as const,
      autoWorker: false,
    };
  };

  it("is made at its first use, once, and again if that failed", async () => {
    let made = 0;
    const functions = gembatchFunctions(async () => {
      made += 1;
      if (made === 1) throw new Error("a secret has no value");
      return new Gembatch(parts());
    });
    expect(made).toBe(0);
    await expect(functions.gembatch()).rejects.toThrow("a secret has no value");
    const [first, second] = await Promise.all([functions.gembatch(), functions.gembatch()]);
    expect(made).toBe(2);
    expect(first).toBe(second);
    await first.close();
  });

  it("must be one", async () => {
    await expect(gembatchFunctions(() => ({}) as never).gembatch()).rejects.toThrow(/needs a Gembatch/);
    expect(() => gembatchFunctions({} as never)).toThrow(/needs a Gembatch/);
  });
});

describe("options that nobody knows or that cannot be are refused by name", () => {
  it.each([
    [{ regoin: "x" }, /Unknown option regoin/],
    [{ timeoutSeconds: 3_600 }, /timeoutSeconds/],
    [{ timeoutSeconds: 100, budget: "2m" }, /budget/],
    [{ wakeInterval: "0s" }, /wakeInterval/],
    [{ webhook: { sercet: true } }, /webhook\.sercet/],
    [{ declareRoles: "yes" }, /declareRoles/],
  ])("%j", (options, message) => {
    expect(() => gembatchFunctions(() => undefined as never, options as never)).toThrow(message);
  });
});

describe("a webhook", () => {
  const secret = `whsec_${Buffer.from("a secret of the project's webhook").toString("base64")}`;
  const signed = (now: number, by = secret): RequestInit => {
    const body = JSON.stringify({ type: "batch.succeeded" });
    const timestamp = String(Math.floor(now / 1_000));
    const signature = createHmac("sha256", Buffer.from(by.slice("whsec_".length), "base64"))
      .update(`m1.${timestamp}.${body}`)
      .digest("base64");
    return {
      method: "POST",
      body,
      headers: { "webhook-id": "m1", "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` },
    };
  };

  it("hastens and wakes a worker if it is genuine, and nothing else does", async () => {
    process.env["GEMBATCH_WEBHOOK_SECRET"] = secret;
    await using project = await start({
      functions: { webhook: { secret: true, jwks: false } },
      emulator: { turnaround: 3_600_000 },
      gembatch: { polling: { minInterval: "40m", maxInterval: "40m" } },
    });
    await submitTasks(project);
    await project.run(() => false, 61 * 60_000);
    const { functions } = project.instance();
    const hook = functions.gembatchWebhook!;
    const other = `whsec_${Buffer.from("the secret of somebody else").toString("base64")}`;
    expect((await callFunction(hook, signed(project.clock.now(), other))).status).toBe(401);
    expect((await callFunction(hook)).status).toBe(405);
    const before = project.tasks.created.length;
    const call = callFunction(hook, signed(project.clock.now()));
    expect(await settled(call)).toBe(false);
    await project.clock.advance(1_000);
    expect((await call).status).toBe(200);
    expect(project.tasks.created.length).toBe(before + 1);
    await project.run(() => false, 60_000);
    expect(project.emulator.jobs()).toHaveLength(2);
    delete process.env["GEMBATCH_WEBHOOK_SECRET"];
  });
});

describe("outside of functions", () => {
  it("a program that submits wakes nobody", async () => {
    await using project = await start();
    delete process.env["K_SERVICE"];
    delete process.env["FUNCTION_TARGET"];
    await project.instance().gembatch.submit(request("x"), model, "output");
    expect(project.tasks.requests).toBe(0);
  });
});
