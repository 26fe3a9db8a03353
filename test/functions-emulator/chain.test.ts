/** `examples/firebase` under the official functions emulator: real HTTP, real processes, real task queues. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { startEmulator, type Emulator } from "../../src/emulator.ts";
import { Codebases, exampleFunctions } from "../firebase/codebase.ts";
import { echo } from "../firebase/task-a.ts";
import { neededFirestore, type FirestoreEmulator } from "../support/firestore-emulator.ts";
import { Firebase } from "./firebase.ts";

const bucket = "my-project-gembatch";
const scheduled = "google.cloud.scheduler.job.v1.executed";
const finalized = "google.cloud.storage.object.v1.finalized";

describe("the example, emulated", () => {
  let firestore: FirestoreEmulator;
  let emulator: Emulator;
  let codebases: Codebases;
  let firebase: Firebase;

  beforeAll(async () => {
    firestore = await neededFirestore();
    emulator = await startEmulator({ turnaround: 200, answer: echo });
    codebases = new Codebases();
    // As the guide of the example has it.
    codebases.writeExample({
      ".env.demo-gembatch": readFileSync(join(exampleFunctions, ".env.sample"), "utf8"),
      ".env.local": `GOOGLE_VERTEX_BASE_URL=${emulator.url}\nSTORAGE_EMULATOR_HOST=${emulator.url}\n`,
    });
    firebase = await Firebase.start({
      folder: codebases.folder,
      source: "functions",
      project: "demo-gembatch",
      region: "us-central1",
      env: { FIRESTORE_EMULATOR_HOST: firestore.host, METADATA_SERVER_DETECTION: "none" },
    });
  });

  afterAll(async () => {
    await firebase?.[Symbol.asyncDispose]();
    await Promise.all([emulator?.close(), firestore?.stop()]);
    codebases?.remove();
  });

  const get = async (name: string, query: Record<string, string>) =>
    (await firebase.call(name, { query })).json() as Promise<{ id: string; state: string; output?: unknown }>;
  const outputOf = (of: string) => `<<Name three surprising facts about ${of}.>Which of them would surprise a child most, and why?>`;
  const jobs = async (count: number) => firebase.until(`${count} jobs`, () => emulator.jobs().length === count);
  /**
   * The run when it has ended. Meanwhile each job's output is told of, as Cloud Storage does: that spares half a minute until the next look. What meets an instance that was killed is tried again, as the
   * services do that call functions.
   */
  const ended = async (id: string) => {
    let told = 0;
    const look = async () => {
      const done = emulator.jobs().filter(({ state }) => /SUCCEEDED/.test(state)).length;
      if (done > told)
        await firebase.fire("gembatchOutput", finalized, { bucket, name: "gembatch/gb-1/output-a/prediction/predictions.jsonl" });
      told = done;
      const run = await get("resultOf", { id });
      return (run.state === "completed" || run.state === "failed") && run;
    };
    return firebase.until(`the end of ${id}`, async () => look().catch(() => false as const));
  };

  it("loads every function", () => {
    const names = ["gembatchOutput", "gembatchSweep", "gembatchWork", "onRequestExample", "resultOf", "startTaskA"];
    expect(firebase.log).toContain(`Loaded functions definitions from source: ${names.join(", ")}`);
    expect(firebase.log).toContain("Created queue with key: queue:demo-gembatch-us-central1-gembatchWork");
  });

  it("goes from HTTP by tasks to a job, its output, the handler, the second prompt, and the end", async () => {
    const task = await get("startTaskA", { id: "moon", topic: "the moon" });
    expect(await get("startTaskA", { id: "moon", topic: "the moon" })).toEqual(task);
    expect(await ended(task.id)).toEqual({ state: "completed", output: outputOf("the moon") });
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(emulator.jobs()).toHaveLength(2);
  });

  it("takes requests to several instances at the same moment into common jobs", async () => {
    const before = emulator.jobs().length;
    const topics = Array.from({ length: 6 }, (_, n) => `planet ${n}`);
    const tasks = await Promise.all(topics.map(async (topic, n) => get("startTaskA", { id: `planet-${n}`, topic })));
    for (const [n, { id }] of tasks.entries()) expect(await ended(id)).toEqual({ state: "completed", output: outputOf(`planet ${n}`) });
    const made = emulator.jobs().slice(before);
    expect(made.reduce((sum, { rows }) => sum + rows, 0)).toBe(12);
    // Instances that start take seconds, so that some may miss the first job; never half of them.
    expect(made.length).toBeLessThanOrEqual(4);
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
  });

  it("goes on when every instance is killed between a job and the note of it", async () => {
    const before = emulator.jobs().length;
    const sweeps = setInterval(() => void firebase.fire("gembatchSweep", scheduled, {}).catch(() => {}), 5_000);
    onTestFinished(() => clearInterval(sweeps));
    emulator.faults.latency = { match: "vertex.create", times: 1, ms: 2_000 };
    const task = await get("startTaskA", { id: "comet", topic: "a comet" });
    await jobs(before + 1);
    expect(firebase.killInstances()).toBeGreaterThan(0);
    emulator.faults.latency = undefined;
    // The task is delivered again, or a sweep does it, once the dead worker's lease is over.
    expect(await ended(task.id)).toEqual({ state: "completed", output: outputOf("a comet") });
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    expect(emulator.jobs()).toHaveLength(before + 2);
  });

  it("answers to what is no task with an error of its protocol, and to an empty one with work", async () => {
    expect((await firebase.call("gembatchWork")).status).toBe(400);
    const post = async (body: string) =>
      firebase.call("gembatchWork", { method: "POST", headers: { "content-type": "application/json" }, body });
    expect((await post("{}")).status).toBe(400);
    expect((await post(`{"data":{}}`)).status).toBe(204);
  });

  it("sweeps when nothing is to be done, without a word", async () => {
    const said = firebase.log.length;
    await firebase.fire("gembatchSweep", scheduled, {});
    await firebase.until("the end of the sweep", () => /Finished "us-central1-gembatchSweep"/.test(firebase.log.slice(said)));
    expect(firebase.log.slice(said)).not.toMatch(/"severity":"(WARNING|ERROR)"/);
    expect((await get("resultOf", { id: "nobody" })).state).toBe("unknown");
  });
});
