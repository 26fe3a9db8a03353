/** `examples/firebase`, as it is deployed and as it runs. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { root } from "../../scripts/build.ts";
import { startEmulator, type Emulator } from "../../src/emulator.ts";
import { firestoreIndexes } from "../../src/firestore.ts";
import { ManualClock } from "../../src/testing.ts";
import type * as Example from "../../examples/firebase/functions/src/index.ts";
import { CloudTasks } from "./cloud-tasks.ts";
import { Codebases, exampleFunctions as functions } from "./codebase.ts";
import { echo } from "./task-a.ts";

describe("the example", () => {
  it("declares the indexes of the store", () => {
    const declared: unknown = JSON.parse(readFileSync(join(functions, "..", "firestore.indexes.json"), "utf8"));
    expect(declared).toEqual(JSON.parse(JSON.stringify(firestoreIndexes())));
  });

  it("compiles against the package, and deploys", { timeout: 60_000 }, () => {
    const codebases = new Codebases();
    try {
      const { endpoints, params = [] } = codebases.discover(codebases.writeExample());
      expect(Object.keys(endpoints).toSorted()).toEqual([
        "gembatchOutput",
        "gembatchSweep",
        "gembatchWork",
        "onRequestExample",
        "resultOf",
        "startTaskA",
      ]);
      for (const endpoint of Object.values(endpoints)) expect(endpoint).toMatchObject({ region: ["us-central1"] });
      expect(endpoints["gembatchOutput"]).toMatchObject({
        eventTrigger: { eventFilters: { bucket: "{{ params.GEMBATCH_VERTEX_BUCKET }}" } },
      });
      expect(params.map(({ name }) => name).toSorted()).toEqual(["GEMBATCH_MAX_INSTANCES", "GEMBATCH_MEMORY_MB", "GEMBATCH_VERTEX_BUCKET"]);
      const named = [...readFileSync(join(functions, ".env.sample"), "utf8").matchAll(/^(\w+)=/gm)].map(([, name]) => name);
      for (const { name } of params) expect(named).toContain(name);
    } finally {
      codebases.remove();
    }
  });

  describe("runs", () => {
    let folder = "";
    let emulator: Emulator;
    let server: Server;
    let url = "";
    const tasks = new CloudTasks(new ManualClock(Date.now()));
    let example: typeof Example;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), "gembatch-example-"));
      emulator = await startEmulator({ turnaround: 20, answer: echo });
      const env = {
        GEMBATCH_STORE: `sqlite:${join(folder, "store.db")}`,
        GEMBATCH_PROVIDER: "vertex",
        GEMBATCH_VERTEX_BUCKET: "my-project-gembatch",
        GOOGLE_CLOUD_LOCATION: "global",
        GOOGLE_CLOUD_PROJECT: "my-project",
        GCLOUD_PROJECT: "my-project",
        GOOGLE_VERTEX_BASE_URL: emulator.url,
        STORAGE_EMULATOR_HOST: emulator.url,
        CLOUD_TASKS_EMULATOR_HOST: await tasks.listen(),
        K_SERVICE: "onrequestexample",
        FUNCTION_TARGET: "onRequestExample",
      };
      for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
      example = await import("../../examples/firebase/functions/src/index.ts");
      // The server that functions run in, without its container.
      const express = createRequire(join(root, "node_modules", "firebase-functions", "package.json"))("express") as () => Routes;
      const app = express();
      for (const name of ["onRequestExample", "startTaskA", "resultOf"] as const) app.get(`/${name}`, example[name]);
      server = createServer(app as unknown as RequestListener).listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    interface Routes {
      get(path: string, handler: unknown): void;
    }

    afterAll(async () => {
      const { gembatch } = await import("../../examples/firebase/functions/src/gembatch.ts");
      await gembatch.close();
      server.close();
      server.closeAllConnections();
      await Promise.all([emulator.close(), tasks.close()]);
      vi.unstubAllEnvs();
      rmSync(folder, { recursive: true, force: true });
    });

    const get = async (path: string) => (await fetch(`${url}${path}`)).json() as Promise<{ id: string; state: string; output: unknown }>;
    const work = async () =>
      example.gembatchWork.run({
        data: {},
        queueName: "gembatchWork",
        id: "x",
        retryCount: 0,
        executionCount: 0,
        scheduledTime: "",
        headers: {},
      });
    const outputWritten = async () => {
      await emulator.idle();
      await example.gembatchOutput!.run({ data: { name: "gembatch/gb-1/output-a/prediction/predictions.jsonl" } } as never);
    };

    it("from HTTP requests to answers", async () => {
      const question = await get(`/onRequestExample?q=${encodeURIComponent("Why?")}`);
      const task = await get("/startTaskA?id=moon&topic=the%20moon");
      expect(await get("/startTaskA?id=moon&topic=the%20moon")).toEqual(task);
      expect(tasks.created).toMatchObject([{ queue: "gembatchWork", region: "us-central1" }]);
      expect(await get(`/resultOf?id=${question.id}`)).toMatchObject({ state: "waiting" });
      await work();
      expect(emulator.jobs()).toMatchObject([{ kind: "storage", rows: 2 }]);
      await new Promise((resolve) => setTimeout(resolve, 50));
      await outputWritten();
      await work();
      expect(await get(`/resultOf?id=${question.id}`)).toMatchObject({
        state: "completed",
        output: { text: "<Why?>", askedBy: "onRequestExample" },
      });
      await new Promise((resolve) => setTimeout(resolve, 50));
      await outputWritten();
      await work();
      const { state, output } = await get(`/resultOf?id=${task.id}`);
      expect(state).toBe("completed");
      expect(output).toMatch(/^<<Name three surprising facts about the moon\.>Which of them would surprise a child most, and why\?>$/);
      expect(emulator.ledger.duplicatePrompts()).toEqual([]);
      expect(await get("/resultOf?id=nobody")).toEqual({ state: "unknown" });
    });
  });
});
