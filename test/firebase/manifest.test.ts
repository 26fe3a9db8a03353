import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type * as functionsOptions from "firebase-functions/options";
import { Codebases, type Manifest } from "./codebase.ts";

let codebases: Codebases;
beforeAll(() => void (codebases = new Codebases()), 60_000);
afterAll(() => codebases.remove());

const commonJs = (options: string, before = "") => ({
  "package.json": JSON.stringify({ name: "functions", main: "index.js" }),
  "index.js": `
    "use strict";
    const { Gembatch } = require("gembatch");
    const { gembatchFunctions } = require("gembatch/firebase");
    const { setGlobalOptions } = require("firebase-functions");
    const { onRequest } = require("firebase-functions/https");
    ${before}
    const gembatch = new Gembatch({ store: "sqlite::memory:" });
    const { gembatchWork, gembatchSweep, gembatchOutput, gembatchWebhook } = gembatchFunctions(gembatch, ${options});
    Object.assign(exports, { gembatchWork, gembatchSweep, gembatchOutput, gembatchWebhook });
    exports.ask = onRequest(async (request, response) => response.send("hello"));
  `,
});
const discover = (name: string, files: Record<string, string>): Manifest => codebases.discover(codebases.write(name, files));
const apis = ({ requiredAPIs = [] }: Manifest) => requiredAPIs.map(({ api }) => api.replace(".googleapis.com", "")).toSorted();
const param = (name: string) => `{{ params.${name} }}`;

describe("a CommonJS codebase", () => {
  it("deploys the worker and the sweep, with what nobody said as parameters", () => {
    const manifest = discover("plain", commonJs("{}"));
    expect(Object.keys(manifest.endpoints).toSorted()).toEqual(["ask", "gembatchSweep", "gembatchWork"]);
    expect(manifest.endpoints["gembatchWork"]).toMatchObject({
      platform: "gcfv2",
      entryPoint: "gembatchWork",
      region: param("GEMBATCH_REGION"),
      availableMemoryMb: param("GEMBATCH_MEMORY_MB"),
      maxInstances: param("GEMBATCH_MAX_INSTANCES"),
      concurrency: 20,
      timeoutSeconds: 540,
      taskQueueTrigger: {
        retryConfig: { maxAttempts: 5, minBackoffSeconds: 15, maxBackoffSeconds: 300, maxDoublings: 4 },
        rateLimits: { maxConcurrentDispatches: 20 },
      },
    });
    expect(manifest.endpoints["gembatchSweep"]).toMatchObject({
      availableMemoryMb: param("GEMBATCH_MEMORY_MB"),
      maxInstances: 1,
      timeoutSeconds: 540,
      scheduleTrigger: { schedule: "every 10 minutes", retryConfig: { retryCount: 0 } },
    });
    expect(manifest.params).toMatchObject([
      { name: "GEMBATCH_REGION", type: "string", default: "us-central1" },
      { name: "GEMBATCH_MEMORY_MB", type: "int", default: 1_024 },
      { name: "GEMBATCH_MAX_INSTANCES", type: "int", default: 3 },
    ]);
    expect(apis(manifest)).toEqual(["cloudscheduler", "cloudtasks"]);
    expect(manifest.requiredRoles).toBeUndefined();
  });

  it("deploys hints, secrets and places as options say", () => {
    const options = `{
      region: "europe-west1", memory: "2GiB", maxInstances: 7, minInstances: 1, concurrency: 1, timeoutSeconds: 1800, schedule: "every 5 minutes", timeZone: "Europe/Oslo",
      bucket: "gs://my-bucket/folder", webhook: { secret: true }, secrets: ["GEMINI_API_KEY"], serviceAccount: "worker@demo.iam.gserviceaccount.com",
      vpcConnector: "connector", vpcConnectorEgressSettings: "PRIVATE_RANGES_ONLY", labels: { team: "a" },
      work: { rateLimits: { maxConcurrentDispatches: 2 } }, output: { memory: "1GiB" },
    }`;
    const manifest = discover("options", commonJs(options));
    const ours = ["gembatchOutput", "gembatchSweep", "gembatchWebhook", "gembatchWork"];
    expect(Object.keys(manifest.endpoints).toSorted()).toEqual(["ask", ...ours]);
    for (const name of ours) {
      expect(manifest.endpoints[name]).toMatchObject({
        region: ["europe-west1"],
        serviceAccountEmail: "worker@demo.iam.gserviceaccount.com",
        vpc: { connector: "connector", egressSettings: "PRIVATE_RANGES_ONLY" },
        labels: { team: "a" },
      });
    }
    const { gembatchWork, gembatchSweep, gembatchOutput, gembatchWebhook } = manifest.endpoints;
    expect(gembatchWork).toMatchObject({
      availableMemoryMb: 2_048,
      maxInstances: 7,
      minInstances: 1,
      concurrency: 1,
      timeoutSeconds: 1_800,
    });
    expect(gembatchWork).toMatchObject({ taskQueueTrigger: { rateLimits: { maxConcurrentDispatches: 2 } } });
    expect(gembatchSweep).toMatchObject({
      availableMemoryMb: 2_048,
      scheduleTrigger: { schedule: "every 5 minutes", timeZone: "Europe/Oslo" },
    });
    expect(gembatchOutput).toMatchObject({
      availableMemoryMb: 1_024,
      eventTrigger: { eventType: "google.cloud.storage.object.v1.finalized", eventFilters: { bucket: "my-bucket" } },
    });
    expect(gembatchWebhook).toMatchObject({ availableMemoryMb: 512, httpsTrigger: { invoker: ["public"] } });
    const secretsOf = (endpoint: Record<string, unknown> | undefined) =>
      ((endpoint?.["secretEnvironmentVariables"] ?? []) as { key: string }[]).map(({ key }) => key);
    expect([gembatchWork, gembatchSweep, gembatchOutput].map(secretsOf)).toEqual([
      ["GEMINI_API_KEY"],
      ["GEMINI_API_KEY"],
      ["GEMINI_API_KEY"],
    ]);
    expect(secretsOf(gembatchWebhook)).toEqual(["GEMINI_API_KEY", "GEMBATCH_WEBHOOK_SECRET"]);
    expect(manifest.params).toMatchObject([
      { name: "GEMINI_API_KEY", type: "secret" },
      { name: "GEMBATCH_WEBHOOK_SECRET", type: "secret" },
    ]);
    expect(apis(manifest)).toEqual(["aiplatform", "cloudscheduler", "cloudtasks", "eventarc", "storage"]);
    expect(manifest.requiredRoles).toBeUndefined();
  });

  it("takes global options, and the bucket that the environment names", () => {
    const before = `setGlobalOptions({ region: "asia-east1", memory: "4GiB", maxInstances: 2 });`;
    const manifest = discover("global", commonJs("{ bucket: true }", before));
    expect(manifest.endpoints["gembatchWork"]).toMatchObject({ region: ["asia-east1"], availableMemoryMb: 4_096, maxInstances: 2 });
    expect(manifest.endpoints["gembatchOutput"]).toMatchObject({
      eventTrigger: { eventFilters: { bucket: param("GEMBATCH_VERTEX_BUCKET") } },
    });
    expect(manifest.params).toMatchObject([{ name: "GEMBATCH_VERTEX_BUCKET", type: "string" }]);
  });

  it("declares roles when it is asked to, and only then", () => {
    const manifest = discover("roles", commonJs(`{ declareRoles: true, bucket: "my-bucket" }`));
    const roles = JSON.stringify(manifest.requiredRoles);
    for (const role of [
      "cloudtasks.enqueuer",
      "iam.serviceAccountUser",
      "run.invoker",
      "datastore.user",
      "aiplatform.user",
      "storage.objectUser",
    ])
      expect(roles).toContain(`roles/${role}`);
  });
});

it("an ES module codebase, with the instance made by a function, deploys the same", () => {
  const manifest = discover("esm", {
    "package.json": JSON.stringify({ name: "functions", main: "index.js", type: "module" }),
    "index.js": `
      import { gembatchFunctions } from "gembatch/firebase";
      export const { gembatch, gembatchWork, gembatchSweep } = gembatchFunctions(() => { throw new Error("not at deployment"); }, { region: "us-east1" });
    `,
  });
  expect(Object.keys(manifest.endpoints).toSorted()).toEqual(["gembatchSweep", "gembatchWork"]);
  expect(manifest.endpoints["gembatchWork"]).toMatchObject({ region: ["us-east1"] });
});

describe("an older firebase-functions, which cannot declare roles", () => {
  it("does everything else, and says what declareRoles needs", async () => {
    vi.doMock("firebase-functions/options", async (load) => {
      const { requiresRole: _since73, ...older } = await load<typeof functionsOptions>();
      return { ...older, requiresRole: undefined };
    });
    vi.resetModules();
    try {
      const { gembatchFunctions } = await import("../../src/firebase.ts");
      const { Gembatch } = await import("../../src/index.ts");
      const gembatch = new Gembatch({ store: "sqlite::memory:", autoWorker: false });
      expect(Object.keys(gembatchFunctions(gembatch, { bucket: true }))).toContain("gembatchOutput");
      expect(() => gembatchFunctions(gembatch, { declareRoles: true })).toThrow(/declareRoles needs firebase-functions 7\.3/);
    } finally {
      vi.doUnmock("firebase-functions/options");
      vi.resetModules();
    }
  });
});
