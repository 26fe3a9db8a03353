/** `gembatch doctor` over the same emulation: all is well after `init` and a deploy, and each thing that is broken is found and says how to mend it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CheckResult } from "../../src/cli/doctor/checks.ts";
import { startEmulator } from "../../src/emulator.ts";
import {
  commonJsProject,
  declared,
  doctor,
  init,
  makeProject,
  removeProjects,
  severalProject,
  typeScriptProject,
  type Files,
} from "./fixtures.ts";
import { startGoogle, type Google } from "./google.ts";

let google: Google;
beforeEach(async () => {
  google = await startGoogle();
});
afterEach(async () => {
  removeProjects();
  await google[Symbol.asyncDispose]();
});

const group = (name: string) => `projects/demo-project/databases/(default)/collectionGroups/${name}`;

/** What `firebase deploy --only functions,firestore` makes of it. */
function deploy({ state }: Google, { region = "us-central1", prefix = "" } = {}): void {
  const { indexes, fieldOverrides } = declared("gembatch", state.databases.get("(default)")?.databaseEdition);
  state.indexes = indexes.map(({ collectionGroup, queryScope, fields }, at) => ({
    name: `${group(collectionGroup)}/indexes/${at}`,
    queryScope,
    state: "READY",
    // Firestore adds the name in the direction of the last field.
    fields: [...fields, { fieldPath: "__name__", order: fields.at(-1)?.order }],
  }));
  state.fields = fieldOverrides.map(({ collectionGroup, fieldPath, ttl, indexes: own }) => ({
    name: `${group(collectionGroup)}/fields/${fieldPath}`,
    indexConfig: { indexes: own.map(({ order, queryScope }) => ({ queryScope, state: "READY", fields: [{ fieldPath, order }] })) },
    ...(ttl ? { ttlConfig: { state: "ACTIVE" } } : {}),
  }));
  state.functions = ["gembatchWork", "gembatchSweep", "gembatchOutput"].map((name) => ({
    name: `projects/demo-project/locations/${region}/functions/${prefix}${name}`,
    environment: "GEN_2",
    state: "ACTIVE",
    serviceConfig: { serviceAccountEmail: "1234567890-compute@developer.gserviceaccount.com" },
  }));
  state.queues.set(`${region}/${prefix}gembatchWork`, { state: "RUNNING" });
  state.jobs.set(`${region}/firebase-schedule-${prefix}gembatchSweep-${region}`, { state: "ENABLED", status: { code: 0 } });
}

const installed: Files = {
  ...typeScriptProject,
  "functions/package.json": typeScriptProject["functions/package.json"]!.replace(
    `"dependencies": {`,
    `"dependencies": { "gembatch": "^0.1.0", "@google-cloud/storage": "^8.0.0", "@google-cloud/bigquery": "^9.0.0",`,
  ),
};

/** A project that is ready: `init`, packages, a deploy. */
async function ready(args: string[] = [], files: Files = installed, deployment = {}): Promise<string> {
  const folder = makeProject(files);
  expect(await init(folder, google, ["--yes", ...args])).toMatchObject({ code: 0 });
  deploy(google, deployment);
  return folder;
}

const failing = (out: string): CheckResult[] => (JSON.parse(out) as { checks: CheckResult[] }).checks.filter(({ state }) => state !== "ok");

describe("gembatch doctor", () => {
  it.each([
    ["a bucket", [], [], installed, {}],
    ["a bucket and a dataset", ["--dataset", "batches"], [], installed, {}],
    [
      "a prefix of the codebase, in another region",
      ["--project", "staging", "--region", "europe-west1"],
      ["--project", "staging"],
      severalProject,
      { region: "europe-west1", prefix: "api-" },
    ],
  ])("finds nothing after init and a deploy: %s", async (_name, initArgs, args, files, deployment) => {
    const folder = await ready(initArgs, files, deployment);
    const { code, out } = await doctor(folder, google, ["--json", ...args]);
    const left = failing(out).filter(({ id }) => files === installed || !["packages", "rules-file"].includes(id));
    expect(left).toEqual([]);
    expect(code).toBe(files === installed ? 0 : 1);
    expect([...google.state.objects.keys()]).toEqual([]);
  });

  it("finds nothing on the Enterprise edition, and misses an index of one field there", async () => {
    google.state.databases.set("(default)", { locationId: "eur3", databaseEdition: "ENTERPRISE", type: "FIRESTORE_NATIVE" });
    const folder = await ready();
    expect(failing((await doctor(folder, google, ["--json"])).out)).toEqual([]);
    google.state.indexes = google.state.indexes.filter(({ fields }) => fields.length > 2);
    expect(failing((await doctor(folder, google, ["--json"])).out)).toMatchObject([
      { id: "indexes", note: expect.stringContaining("1 of 3") },
    ]);
  });

  it("prints a line for each check", async () => {
    const folder = await ready();
    const { out, code } = await doctor(folder, google);
    expect(code).toBe(0);
    expect(out).toMatch(/ok +an object in gs:\/\/demo-project-gembatch: written, read and deleted/);
    expect(out).toMatch(/ok +indexes of Firestore: all 2 are ready/);
    expect(out).toMatch(/All \d+ checks passed\./);
  });

  it("before a deploy: says what to deploy", async () => {
    const folder = makeProject(installed);
    await init(folder, google, ["--yes"]);
    const { code, out } = await doctor(folder, google, ["--json"]);
    expect(code).toBe(1);
    expect(failing(out).map(({ id, state }) => `${id} ${state}`)).toEqual([
      "indexes failed",
      "fields failed",
      "gembatchWork failed",
      "gembatchSweep failed",
      "queue skipped",
      "schedule skipped",
    ]);
    expect(failing(out)[2]?.mend).toBe("firebase deploy --only functions --project demo-project");
  });

  it("before init: says to run it", async () => {
    const { code, out } = await doctor(makeProject(commonJsProject), google, ["--json"]);
    expect(code).toBe(1);
    const mends = Object.fromEntries(failing(out).map(({ id, mend }) => [id, mend]));
    expect(mends).toMatchObject({
      packages: "npm install --prefix functions firebase-admin @google-cloud/storage",
      exports: "npx --prefix functions gembatch init --project demo-project",
      env: "npx --prefix functions gembatch init --project demo-project",
      "indexes-file": "npx --prefix functions gembatch init --project demo-project",
      apis: expect.stringMatching(/^gcloud services enable --project=demo-project iam\.googleapis\.com /),
      bucket: "npx --prefix functions gembatch init --project demo-project",
    });
  });

  it("asks for no right to be handed events where no function is", async () => {
    const folder = await ready();
    google.state.functions = google.state.functions.filter(({ name }) => !name.endsWith("gembatchOutput"));
    const policy = google.state.policies.get("project")!;
    policy.bindings = policy.bindings.filter(({ role }) => role !== "roles/eventarc.eventReceiver");
    expect(failing((await doctor(folder, google, ["--json"])).out)).toEqual([]);
  });

  it("mends with the options that it was given, for the folder in which it was run", async () => {
    const folder = makeProject(commonJsProject);
    const args = ["--json", "--prefix", "gb", "--database", "(default)", "--bucket", "gs://bucket-1/jobs"];
    const options = "--bucket gs://bucket-1/jobs --database '(default)' --prefix gb";
    const mendOf = async (at: string, id: string, more: string[] = []) =>
      failing((await doctor(at, google, [...args, ...more])).out).find((one) => one.id === id)?.mend;
    expect(await mendOf(folder, "bucket")).toBe(`npx --prefix functions gembatch init --project demo-project ${options}`);
    expect(await mendOf(join(folder, "functions"), "exports")).toBe(`npx gembatch init --project demo-project ${options}`);
    expect(await mendOf(join(folder, "functions"), "packages")).toBe("npm install firebase-admin @google-cloud/storage");
    google.state.databases.set("(default)", { locationId: "nam5", type: "DATASTORE_MODE" });
    expect(await mendOf(folder, "database")).toBe(
      "use another one: npx --prefix functions gembatch init --project demo-project --bucket gs://bucket-1/jobs --database NAME --prefix gb",
    );
  });

  it("misses the parameters that a deploy without a terminal does not take by default", async () => {
    const folder = await ready();
    const path = join(folder, "functions/.env.demo-project");
    writeFileSync(path, readFileSync(path, "utf8").replace(/^GEMBATCH_M.*\n/gm, ""));
    expect(failing((await doctor(folder, google, ["--json"])).out)).toMatchObject([
      {
        id: "env",
        state: "failed",
        note: "does not set GEMBATCH_MEMORY_MB, GEMBATCH_MAX_INSTANCES",
        mend: expect.stringContaining(" init "),
      },
    ]);
  });

  it("deploys by the alias whose dotenv file is used, and warns where there is a file of the id as well", async () => {
    const folder = await ready(["--project", "demo-project"], { ...installed, "functions/.env.default": "A=1\n" });
    google.state.functions.shift();
    const look = async () => failing((await doctor(folder, google, ["--json"])).out);
    expect((await look())[0]).toMatchObject({ id: "gembatchWork", mend: "firebase deploy --only functions --project default" });
    writeFileSync(join(folder, "functions/.env.demo-project"), readFileSync(join(folder, "functions/.env.default"), "utf8"));
    expect(await look()).toMatchObject([
      {
        id: "env",
        state: "warning",
        note: expect.stringContaining("functions/.env.default"),
        mend: expect.stringMatching(/^move the lines/),
      },
      { id: "gembatchWork", mend: "firebase deploy --only functions --project demo-project" },
      { id: "queue" },
    ]);
  });

  const broken: readonly [what: string, id: string, state: string, mend: RegExp | undefined, breakIt: (google: Google) => void][] = [
    [
      "an API is off",
      "apis",
      "failed",
      /^gcloud services enable --project=demo-project cloudtasks\.googleapis\.com$/,
      ({ state }) => state.enabled.delete("cloudtasks.googleapis.com"),
    ],
    ["no database", "database", "failed", /^gcloud firestore databases create/, ({ state }) => state.databases.clear()],
    [
      "a database in Datastore mode",
      "database",
      "failed",
      /--database NAME/,
      ({ state }) => state.databases.set("(default)", { locationId: "nam5", type: "DATASTORE_MODE" }),
    ],
    ["an index is missing", "indexes", "failed", /^firebase deploy --only firestore:indexes/, ({ state }) => state.indexes.pop()],
    [
      "an index has another order",
      "indexes",
      "failed",
      /^firebase deploy --only firestore:indexes/,
      ({ state }) => (state.indexes[0]!["fields"][1].order = "ASCENDING"),
    ],
    ["an index is being built", "indexes", "warning", undefined, ({ state }) => (state.indexes[0]!["state"] = "CREATING")],
    ["an index needs repair", "indexes", "failed", /./, ({ state }) => (state.indexes[0]!["state"] = "NEEDS_REPAIR")],
    ["documents do not expire", "fields", "failed", /^firebase deploy/, ({ state }) => delete state.fields[0]!["ttlConfig"]],
    ["a field is indexed", "fields", "failed", /^firebase deploy/, ({ state }) => state.fields.pop()],
    [
      "no bucket",
      "bucket",
      "failed",
      /^npx --prefix functions gembatch init --project demo-project$/,
      ({ state }) => state.buckets.clear(),
    ],
    [
      "no lifecycle rule",
      "bucket",
      "warning",
      /^npx --prefix functions gembatch init --project demo-project$/,
      ({ state }) => delete state.buckets.get("demo-project-gembatch")!["lifecycle"],
    ],
    [
      "a lifecycle rule that is too short",
      "bucket",
      "failed",
      /8 days/,
      ({ state }) =>
        (state.buckets.get("demo-project-gembatch")!["lifecycle"] = { rule: [{ action: { type: "Delete" }, condition: { age: 2 } }] }),
    ],
    [
      "a bucket that triggers no function",
      "bucket",
      "warning",
      undefined,
      ({ state }) => (state.buckets.get("demo-project-gembatch")!["location"] = "EU"),
    ],
    [
      "a rule that deletes payloads",
      "bucket-payloads",
      "warning",
      /^limit that rule to other folders \("matchesPrefix": \["gembatch\/"\]/,
      ({ state }) => {
        const { lifecycle } = state.buckets.get("demo-project-gembatch")!;
        lifecycle.rule.push({ action: { type: "Delete" }, condition: { age: 30, matchesPrefix: ["gembatch-"] } });
      },
    ],
    [
      "no right to be handed the bucket's events",
      "roles",
      "failed",
      /--role=roles\/eventarc\.eventReceiver$/,
      ({ state }) => {
        const policy = state.policies.get("project")!;
        policy.bindings = policy.bindings.filter(({ role }) => role !== "roles/eventarc.eventReceiver");
      },
    ],
    ["objects may not be written", "bucket-object", "warning", /storage\.objectAdmin/, ({ state }) => state.faults.denied.push(/upload/)],
    [
      "the service agent has lost its access",
      "bucket-access",
      "failed",
      /^gcloud storage buckets add-iam-policy-binding gs:\/\/demo-project-gembatch --member=serviceAccount:service-1234567890@gcp-sa-aiplatform/,
      ({ state }) => state.policies.get("buckets/demo-project-gembatch")!.bindings[1]!.members.splice(0, 1),
    ],
    [
      "no right to enqueue tasks",
      "roles",
      "failed",
      /add-iam-policy-binding demo-project --member=serviceAccount:1234567890-compute@developer\.gserviceaccount\.com --role=roles\/cloudtasks\.enqueuer$/,
      ({ state }) => {
        const policy = state.policies.get("project")!;
        policy.bindings = policy.bindings.filter(({ role }) => role !== "roles/cloudtasks.enqueuer");
      },
    ],
    [
      "a right under a condition only",
      "account",
      "failed",
      /^gcloud iam service-accounts/,
      ({ state }) =>
        (state.policies.get("accounts/1234567890-compute@developer.gserviceaccount.com")!.bindings[0]!.condition = { title: "t" }),
    ],
    [
      "a function has failed",
      "gembatchWork",
      "failed",
      /^firebase deploy --only functions/,
      ({ state }) => (state.functions[0]!["state"] = "FAILED"),
    ],
    [
      "a function is of the first generation",
      "gembatchSweep",
      "failed",
      /./,
      ({ state }) => (state.functions[1]!["environment"] = "GEN_1"),
    ],
    [
      "the queue is paused",
      "queue",
      "failed",
      /^gcloud tasks queues resume gembatchWork --location=us-central1/,
      ({ state }) => state.queues.set("us-central1/gembatchWork", { state: "PAUSED" }),
    ],
    ["the queue is gone", "queue", "failed", /^firebase deploy/, ({ state }) => state.queues.clear()],
    [
      "the schedule is paused",
      "schedule",
      "failed",
      /^gcloud scheduler jobs resume firebase-schedule-gembatchSweep-us-central1/,
      ({ state }) => state.jobs.set("us-central1/firebase-schedule-gembatchSweep-us-central1", { state: "PAUSED" }),
    ],
    [
      "the last sweep failed",
      "schedule",
      "warning",
      /functions:log/,
      ({ state }) => state.jobs.set("us-central1/firebase-schedule-gembatchSweep-us-central1", { state: "ENABLED", status: { code: 13 } }),
    ],
  ];
  it.each(broken)("finds it: %s", async (_what, id, state, mend, breakIt) => {
    const folder = await ready();
    breakIt(google);
    const { code, out } = await doctor(folder, google, ["--json"]);
    const found = failing(out);
    expect(found.find((one) => one.id === id)).toMatchObject({
      state,
      ...(mend === undefined ? {} : { mend: expect.stringMatching(mend) }),
    });
    expect(code).toBe(found.some((one) => one.state === "failed") ? 1 : 0);
    if (id !== "apis" && id !== "database" && id !== "bucket") expect(found.length).toBe(1);
  });

  it("finds a bucket that is elsewhere, and a dataset that is elsewhere, lets nobody write or keeps its tables for ever", async () => {
    const folder = await ready(["--dataset", "batches"]);
    const dataset = google.state.datasets.get("batches")!;
    const look = async () => failing((await doctor(folder, google, ["--json"])).out).map(({ id, state, note }) => [id, state, note]);
    const bucket = google.state.buckets.get("demo-project-gembatch")!;
    bucket["location"] = "EU";
    expect(await look()).toEqual([["bucket", "failed", "is in EU, jobs run in us-central1"]]);
    bucket["location"] = "US-CENTRAL1";
    delete dataset["defaultTableExpirationMs"];
    expect(await look()).toEqual([["dataset", "warning", "its tables never expire"]]);
    dataset["location"] = "EU";
    expect(await look()).toEqual([["dataset", "failed", "is in EU, jobs run in us-central1"]]);
    dataset["access"] = [];
    expect(await look()).toEqual([["dataset", "failed", expect.stringContaining("may not write there")]]);
  });

  it("finds a secret that is missing", async () => {
    const folder = await ready(["--provider", "gemini"]);
    const look = async () => failing((await doctor(folder, google, ["--json"])).out);
    expect(await look()).toMatchObject([
      { id: "secret", state: "failed", mend: "firebase functions:secrets:set GEMINI_API_KEY --project demo-project" },
    ]);
    google.state.secrets.set("GEMINI_API_KEY", "ENABLED");
    expect(await look()).toEqual([]);
  });

  it("an editor's role stands for all but calling the functions and being handed events", async () => {
    const folder = await ready();
    const member = "serviceAccount:1234567890-compute@developer.gserviceaccount.com";
    google.state.policies.get("project")!.bindings = [{ role: "roles/editor", members: [member] }];
    const { out } = await doctor(folder, google, ["--json"]);
    expect(failing(out)).toMatchObject([{ id: "roles", note: "missing: roles/run.invoker, roles/eventarc.eventReceiver" }]);
  });

  it("without credentials or network it checks the files, and says what is missing", async () => {
    const folder = await ready();
    const findClient = async () => {
      throw new Error("Could not load the default credentials.");
    };
    const none = await doctor(folder, google, ["--json"], { findClient });
    expect(none.code).toBe(1);
    expect(failing(none.out)).toMatchObject([{ id: "project", mend: expect.stringContaining("gcloud auth application-default login") }]);
    const offline = await doctor(folder, google, ["--json"], { env: { GEMBATCH_GOOGLE_ENDPOINT: "http://127.0.0.1:1" } });
    expect(failing(offline.out)).toMatchObject([{ id: "project", mend: "check the network" }]);
  });
});

describe("gembatch doctor without Firebase", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "gembatch-doctor-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const config = (path: string) =>
    `import { Gembatch } from ${JSON.stringify(new URL("../../src/index.ts", import.meta.url).href)};\nexport const gembatch = new Gembatch({ store: ${JSON.stringify(`sqlite:${path}`)}, provider: "gemini", autoWorker: false });\n`;

  it("asks the Gemini API whether it takes the key, and opens the store", async () => {
    await using emulator = await startEmulator({ apiKey: "right" });
    writeFileSync(join(folder, "gembatch.config.ts"), config(join(folder, "store.db")));
    const look = async (key: string | undefined) =>
      doctor(folder, google, ["--json"], {
        env: { GOOGLE_GEMINI_BASE_URL: emulator.url, ...(key === undefined ? {} : { GEMINI_API_KEY: key }) },
      });
    const good = await look("right");
    expect(good.code).toBe(0);
    expect(failing(good.out)).toMatchObject([{ id: "store", state: "warning" }]);
    const bad = await look("wrong");
    expect(bad.code).toBe(1);
    expect(failing(bad.out)).toMatchObject([{ id: "store" }, { id: "gemini", state: "failed", note: expect.stringContaining("HTTP 400") }]);
    expect(failing((await look(undefined)).out)).toMatchObject([{ id: "store" }, { id: "gemini", note: "GEMINI_API_KEY is not set" }]);
  });

  it("finds a store that is broken", async () => {
    writeFileSync(join(folder, "broken.db"), "this is not a database, whatever its name says".repeat(100));
    writeFileSync(join(folder, "other.config.ts"), config(join(folder, "broken.db")));
    const { code, out } = await doctor(folder, google, ["--json", "--config", join(folder, "other.config.ts")]);
    expect(code).toBe(1);
    expect(failing(out)[0]).toMatchObject({ id: "store", state: "failed" });
  });
});
