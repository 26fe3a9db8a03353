/** `gembatch init` on real project files and over an emulation of the Google APIs that it calls. */
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { apisFor } from "../../src/cli/init/facts.ts";
import type { InitReport } from "../../src/cli/init/text.ts";
import { commonJsProject, init, makeProject, readFiles, removeProjects, severalProject, typeScriptProject } from "./fixtures.ts";
import { startGoogle, type Google } from "./google.ts";
import { snapshot } from "./google-state.ts";

let google: Google;
beforeEach(async () => {
  google = await startGoogle();
});
afterEach(async () => {
  removeProjects();
  await google[Symbol.asyncDispose]();
});

const account = "1234567890-compute@developer.gserviceaccount.com";
const agent = "service-1234567890@gcp-sa-aiplatform.iam.gserviceaccount.com";

describe("gembatch init", () => {
  it.each([
    ["TypeScript, one codebase", typeScriptProject, []],
    ["CommonJS, no Firestore in firebase.json", commonJsProject, ["--dataset", "gembatch"]],
    ["several codebases, ES modules, a prefix", severalProject, ["--project", "staging"]],
    [
      "a codebase that is named, and a database of its own",
      severalProject,
      ["--project", "demo-project", "--codebase", "jobs", "--database", "batch-data", "--prefix", "gb"],
    ],
    ["the Gemini API", typeScriptProject, ["--provider", "gemini", "--bucket", "gs://large-texts/x"]],
  ])("done twice, the second time changes nothing: %s", async (_name, files, args) => {
    google.state.databases.set("batch-data", { locationId: "eur3", databaseEdition: "ENTERPRISE", type: "FIRESTORE_NATIVE" });
    const folder = makeProject(files);
    const first = await init(folder, google, [...args, "--yes"]);
    expect(first).toMatchObject({ code: 0, err: "" });
    const written = readFiles(folder);
    const made = snapshot(google.state);
    expect(google.changes.length).toBeGreaterThan(4);

    google.changes.length = 0;
    const second = await init(folder, google, [...args, "--yes"]);
    expect(second).toMatchObject({ code: 0, err: "" });
    expect(second.out).toContain("There is nothing to do.");
    expect(readFiles(folder)).toEqual(written);
    expect(google.changes).toEqual([]);
    expect(snapshot(google.state)).toBe(made);
  });

  it("adds to files and keeps what is there", async () => {
    const folder = makeProject(typeScriptProject);
    await init(folder, google, ["--yes"]);
    const files = readFiles(folder);
    const before = typeScriptProject["firestore.indexes.json"]!;
    const indexes = files["firestore.indexes.json"]!;
    expect(indexes.startsWith(before.slice(0, before.indexOf("\n    ],")))).toBe(true);
    expect(JSON.parse(indexes)).toMatchObject({
      indexes: [{ collectionGroup: "posts" }, { collectionGroup: "gembatch_runs" }, { collectionGroup: "gembatch_entries" }],
      fieldOverrides: [{ fieldPath: "expireAt", ttl: true, indexes: [] }, { fieldPath: "body" }],
    });
    expect(files["firebase.json"]).toBe(typeScriptProject["firebase.json"]);
    expect(files["firestore.rules"]).toContain("    // gembatch: begin");
    expect(files["firestore.rules"]).toContain("match /gembatch_runs/{document=**} {\n      allow read, write: if false;");
    expect(files["firestore.rules"]).toContain("match /gembatch_meta/{document=**} {");
    expect(files["firestore.rules"]).toContain("match /users/{user} {\n      allow read, write: if request.auth.uid == user;");
    expect(files["functions/.env.demo-project"]).toBe(
      "# gembatch\nGEMBATCH_PROVIDER=vertex\nGEMBATCH_REGION=us-central1\nGEMBATCH_VERTEX_BUCKET=demo-project-gembatch\nGOOGLE_CLOUD_LOCATION=global\nGEMBATCH_MEMORY_MB=1024\nGEMBATCH_MAX_INSTANCES=3\n",
    );
    expect(files["functions/src/index.ts"]).toBe(
      `${typeScriptProject["functions/src/index.ts"]}\nexport { gembatchWork, gembatchSweep, gembatchOutput } from "./gembatch.js";\n`,
    );
    expect(files["functions/src/gembatch.ts"]).toContain(`from "gembatch/firebase"`);
  });

  it("makes bucket, roles and access in the cloud, and keeps what others have there", async () => {
    const folder = makeProject(typeScriptProject);
    await init(folder, google, ["--yes", "--days", "10"]);
    const bucket = google.state.buckets.get("demo-project-gembatch");
    expect(bucket).toMatchObject({
      location: "US-CENTRAL1",
      iamConfiguration: { uniformBucketLevelAccess: { enabled: true }, publicAccessPrevention: "enforced" },
      lifecycle: { rule: [{ action: { type: "Delete" }, condition: { age: 10, matchesPrefix: ["gembatch/"] } }] },
    });
    expect(google.state.policies.get("buckets/demo-project-gembatch")?.bindings).toEqual([
      expect.anything(),
      { role: "roles/storage.objectAdmin", members: [`serviceAccount:${agent}`, `serviceAccount:${account}`] },
    ]);
    const project = google.state.policies.get("project");
    expect(project?.bindings.map(({ role, members }) => [role, members])).toEqual([
      ["roles/owner", ["user:owner@example.com"]],
      ["roles/datastore.user", ["user:temporary@example.com"]],
      ...[
        ...["roles/datastore.user", "roles/cloudtasks.enqueuer", "roles/run.invoker", "roles/aiplatform.user"],
        "roles/eventarc.eventReceiver",
      ].map((role) => [role, [`serviceAccount:${account}`]]),
    ]);
    expect(project?.bindings[1]?.condition).toMatchObject({ title: "until 2030" });
    expect(google.state.policies.get(`accounts/${account}`)?.bindings).toEqual([
      { role: "roles/iam.serviceAccountUser", members: [`serviceAccount:${account}`] },
    ]);
    expect([...google.state.enabled]).toEqual(expect.arrayContaining(["aiplatform.googleapis.com", "cloudtasks.googleapis.com"]));
    expect([...google.state.enabled]).not.toContain("bigquery.googleapis.com");
  });

  it("adds to a bucket and a dataset that are there", async () => {
    google.state.enabled.add("bigquery.googleapis.com");
    const rule = { action: { type: "Delete" }, condition: { age: 3, matchesPrefix: ["logs/"] } };
    google.state.buckets.set("mine", { name: "mine", location: "EU", metageneration: "7", lifecycle: { rule: [rule] } });
    google.state.policies.set("buckets/mine", { etag: "m", bindings: [{ role: "roles/storage.objectViewer", members: ["allUsers"] }] });
    google.state.datasets.set("numbers", {
      location: "europe-west1",
      etag: "n",
      access: [{ role: "READER", userByEmail: "me@example.com" }],
    });
    const folder = makeProject(typeScriptProject);
    const args = ["--yes", "--bucket", "mine/jobs", "--dataset", "numbers", "--location", "europe-west1"];
    expect(await init(folder, google, args)).toMatchObject({ code: 0 });
    expect(google.state.buckets.get("mine")?.["lifecycle"].rule).toEqual([
      rule,
      { action: { type: "Delete" }, condition: { age: 8, matchesPrefix: ["jobs/"] } },
    ]);
    expect(google.state.datasets.get("numbers")).toMatchObject({
      defaultTableExpirationMs: String(7 * 86_400_000),
      access: [
        { role: "READER", userByEmail: "me@example.com" },
        { role: "WRITER", userByEmail: agent },
        { role: "WRITER", userByEmail: account },
      ],
    });
    expect(readFiles(folder)["functions/.env.demo-project"]).toContain(
      "GEMBATCH_VERTEX_DATASET=numbers\nGOOGLE_CLOUD_LOCATION=europe-west1\n",
    );
  });

  it("leaves out the function that no bucket elsewhere could trigger", async () => {
    const folder = makeProject(typeScriptProject);
    const { out } = await init(folder, google, ["--yes", "--location", "europe-west4"]);
    expect(out).toContain("warning: functions in us-central1 cannot be triggered by a bucket in europe-west4");
    expect(readFiles(folder)["functions/src/index.ts"]).toContain(`export { gembatchWork, gembatchSweep } from`);
    expect(readFiles(folder)["functions/src/gembatch.ts"]).toContain("gembatchFunctions(gembatch);");
  });

  it("leaves it out for a bucket that is elsewhere already", async () => {
    google.state.buckets.set("mine", { name: "mine", location: "EU", metageneration: "7" });
    google.state.policies.set("buckets/mine", { etag: "m", bindings: [] });
    const folder = makeProject(typeScriptProject);
    const { out } = await init(folder, google, ["--yes", "--bucket", "mine"]);
    expect(out).toContain("warning: functions in us-central1 cannot be triggered by a bucket in eu: gembatchOutput is left out");
    expect(readFiles(folder)["functions/src/gembatch.ts"]).toContain("gembatchFunctions(gembatch);");
    expect(JSON.stringify(google.state.policies.get("project"))).not.toContain("eventarc.eventReceiver");
    const own = {
      ...typeScriptProject,
      "functions/src/index.ts": "export const { gembatchWork, gembatchOutput } = f({ bucket: true });\n",
    };
    const there = await init(makeProject(own), google, ["--dry-run", "--bucket", "mine"]);
    expect(there.out).toContain("bucket in eu: a deploy of gembatchOutput fails. Take it out of functions/src/index.ts");
  });

  it("has it for a bucket that is around its region already", async () => {
    google.state.buckets.set("mine", { name: "mine", location: "US", metageneration: "7" });
    google.state.policies.set("buckets/mine", { etag: "m", bindings: [] });
    const folder = makeProject(typeScriptProject);
    const { out } = await init(folder, google, ["--yes", "--bucket", "mine", "--location", "europe-west4"]);
    expect(out).not.toContain("cannot be triggered");
    expect(readFiles(folder)["functions/src/gembatch.ts"]).toContain("gembatchFunctions(gembatch, { bucket: true });");
  });

  it("warns of a rule of the bucket that deletes payloads", async () => {
    const rule = { action: { type: "Delete" }, condition: { age: 30 } };
    google.state.buckets.set("mine", { name: "mine", location: "US-CENTRAL1", metageneration: "7", lifecycle: { rule: [rule] } });
    google.state.policies.set("buckets/mine", { etag: "m", bindings: [] });
    const { out } = await init(makeProject(typeScriptProject), google, ["--dry-run", "--bucket", "mine/jobs"]);
    expect(out).toMatch(
      /warning: a lifecycle rule of gs:\/\/mine deletes jobs-payloads\/ after 30 days, .*: limit that rule to other folders/,
    );
  });

  it("keeps the parameters of the functions that are set", async () => {
    const folder = makeProject({
      ...typeScriptProject,
      "functions/.env": "GEMBATCH_MAX_INSTANCES=9\n",
      "functions/.env.demo-project": "GEMBATCH_MEMORY_MB=2048\n",
    });
    await init(folder, google, ["--yes"]);
    const { "functions/.env": common, "functions/.env.demo-project": own } = readFiles(folder);
    expect(common).toBe("GEMBATCH_MAX_INSTANCES=9\n");
    expect(own).toMatch(/^GEMBATCH_MEMORY_MB=2048\n/);
    expect(own!.match(/GEMBATCH_M\w+/g)).toEqual(["GEMBATCH_MEMORY_MB"]);
  });

  it("warns where setGlobalOptions comes too late for an ES module", async () => {
    const late = `import { setGlobalOptions } from "firebase-functions";\nsetGlobalOptions({ region: "europe-west1" });\n`;
    const folder = makeProject({ ...severalProject, "apps/jobs/index.js": late });
    const args = ["--yes", "--project", "staging", "--codebase", "jobs"];
    const warning = "warning: apps/jobs/index.js calls setGlobalOptions, which does not reach gembatch's functions";
    expect((await init(folder, google, args)).out).toContain(warning);
    expect((await init(folder, google, args)).out).toContain(warning);
    const common = { ...commonJsProject, "functions/index.js": `require("firebase-functions").setGlobalOptions({});\nexports.a = 1;\n` };
    expect((await init(makeProject(common), google, ["--yes"])).out).not.toContain("calls setGlobalOptions");
  });

  it("says what only code can say, where the functions are exported already", async () => {
    const own = `exports.x = 1;\nconst { gembatchWork } = gembatchFunctions(g, { bucket: true });\nexports.gembatchWork = gembatchWork;\n`;
    const folder = makeProject({ ...commonJsProject, "functions/index.js": own });
    const args = ["--yes", "--bucket", "gs://my-b/jobs", "--prefix", "gb"];
    const { out } = await init(folder, google, args);
    expect(out).toContain(`firestore({ prefix: "gb" }) and gembatchFunctions(gembatch, { bucket: "gs://my-b/jobs" })`);
    expect(readFiles(folder)["functions/.env.demo-project"]).toContain("GEMBATCH_VERTEX_BUCKET=my-b\n");
    writeFileSync(
      join(folder, "functions/index.js"),
      own.replace("true", `"gs://my-b/jobs"`).replace("g,", `firestore({ prefix: "gb" }),`),
    );
    const again = await init(folder, google, args);
    expect(again.out).not.toContain("stays as it is");
    expect(readFiles(folder)["functions/.env.demo-project"]).toContain("GEMBATCH_VERTEX_BUCKET=gs://my-b/jobs\n");
  });

  it("says nothing of that where it wrote the code itself", async () => {
    const folder = makeProject(typeScriptProject);
    const args = ["--yes", "--bucket", "gs://my-b/jobs", "--prefix", "gb", "--service-account", account];
    await init(folder, google, args);
    expect((await init(folder, google, args)).out).not.toContain("warning");
  });

  it("names files and commands of functions that lie beside firebase.json, and from within their folder", async () => {
    const folder = makeProject({
      ".firebaserc": commonJsProject[".firebaserc"]!,
      "firebase.json": `{ "functions": { "source": "." } }`,
      "package.json": `{ "main": "index.js" }`,
      "index.js": "exports.a = 1;\n",
    });
    const { out } = await init(folder, google, ["--yes"]);
    expect(out).toContain("will do index.js: exports the functions, from gembatch.js\n");
    expect(out).toContain("will do .env.demo-project: sets");
    expect(out).toContain("functions in ./ (JavaScript");
    expect(out).toContain("  npm install gembatch firebase-admin");
    expect(out).toContain("  npx gembatch doctor --project demo-project\n");
    const inside = await init(join(makeProject(typeScriptProject), "functions"), google, ["--yes"]);
    expect(inside.out).toContain("  npm install gembatch @google-cloud/storage\n");
    expect(inside.out).toContain("  npx gembatch doctor --project demo-project\n");
  });

  it("a dry run changes nothing and says what it would do", async () => {
    const folder = makeProject(commonJsProject);
    const before = readFiles(folder);
    const cloud = snapshot(google.state);
    const { code, out } = await init(folder, google, ["--dry-run"]);
    expect(code).toBe(0);
    expect(out).toMatch(/will do +bucket gs:\/\/demo-project-gembatch: makes it in us-central1/);
    expect(out).toContain(`will do roles of ${account} on demo-project: grants roles/datastore.user`);
    expect(readFiles(folder)).toEqual(before);
    expect(google.changes).toEqual([]);
    expect(snapshot(google.state)).toBe(cloud);
  });

  it("prints JSON and nothing else on stdout", async () => {
    const folder = makeProject(typeScriptProject);
    const plan = await init(folder, google, ["--json", "--dry-run"]);
    const report = JSON.parse(plan.out) as InitReport & { did: boolean; next: string[] };
    expect(report).toMatchObject({ project: "demo-project", did: false, provider: "vertex" });
    expect(report.steps.find(({ id }) => id === "bucket")).toMatchObject({ area: "cloud", state: "planned" });
    expect(plan.err).toContain("will do");
    const done = await init(folder, google, ["--json", "--yes"]);
    const outcome = JSON.parse(done.out) as InitReport & { next: string[] };
    expect(outcome.steps.every(({ state }) => state === "done" || state === "already")).toBe(true);
    expect(outcome.next).toEqual([
      "npm install --prefix functions gembatch @google-cloud/storage",
      "firebase deploy --only functions,firestore --project demo-project",
      "npx --prefix functions gembatch doctor --project demo-project",
    ]);
  });

  it("asks, and does nothing when declined", async () => {
    const folder = makeProject(typeScriptProject);
    const before = readFiles(folder);
    const asked: string[] = [];
    const declined = await init(folder, google, [], { ask: async (question) => asked.push(question) > 1 });
    expect(declined).toMatchObject({ code: 1 });
    expect(declined.err).toContain("declined, nothing was done");
    expect(asked).toEqual([expect.stringMatching(/^Do these \d+ steps\? \[y\/N\] $/)]);
    expect(readFiles(folder)).toEqual(before);
    expect(google.changes).toEqual([]);
    expect(await init(folder, google, [], { ask: async () => true })).toMatchObject({ code: 0 });
  });

  it("does not ask where there is no terminal", async () => {
    await expect(init(makeProject(typeScriptProject), google, [])).rejects.toMatchObject({
      code: "invalid_option",
      message: expect.stringContaining("--yes"),
    });
    expect(google.changes).toEqual([]);
  });
});

it("takes the example as it is", async () => {
  const folder = makeProject({});
  cpSync(join(import.meta.dirname, "../../examples/firebase"), folder, { recursive: true });
  const indexFile = readFiles(folder)["functions/src/index.ts"];
  const { code, out } = await init(folder, google, ["--yes", "--project", "demo-project"]);
  expect(code).toBe(0);
  expect(out).toMatch(/already functions\/src\/index\.ts: exports the functions/);
  expect(readFiles(folder)["functions/src/index.ts"]).toBe(indexFile);
  expect((await init(folder, google, ["--project", "demo-project"])).out).toContain("There is nothing to do.");
});

describe("the files of a project that firebase.json does not name", () => {
  it("begin with what is deployed, so that a deploy takes nothing away", async () => {
    google.state.rules.set("cloud.firestore", severalProject["main.rules"]!.replace("request.auth != null", "request.auth.token.admin"));
    const group = "projects/demo-project/databases/(default)/collectionGroups";
    const field = (fieldPath: string, order: string) => ({ fieldPath, order });
    google.state.indexes = ["a", "b", "c"].map((name) => ({
      name: `${group}/${name}/indexes/1`,
      queryScope: "COLLECTION",
      apiScope: "ANY_API",
      density: "SPARSE_ALL",
      state: "READY",
      fields: [field("x", "ASCENDING"), field("y", "DESCENDING"), field("__name__", "DESCENDING")],
    }));
    google.state.fields = [
      { name: `${group}/__default__/fields/*`, indexConfig: { indexes: [] } },
      { name: `${group}/a/fields/until`, indexConfig: { indexes: [] }, ttlConfig: { state: "ACTIVE" } },
    ];
    const folder = makeProject(commonJsProject);
    const { out } = await init(folder, google, ["--yes"]);
    const files = readFiles(folder);
    const indexes = JSON.parse(files["firestore.indexes.json"]!) as { indexes: any[]; fieldOverrides: any[] };
    expect(indexes.indexes.map(({ collectionGroup }) => collectionGroup)).toEqual(["a", "b", "c", "gembatch_runs", "gembatch_entries"]);
    expect(indexes.indexes[0]).not.toHaveProperty("state");
    expect(indexes.fieldOverrides[0]).toEqual({ collectionGroup: "a", fieldPath: "until", ttl: true, indexes: [] });
    expect(files["firestore.rules"]).toContain("request.auth.token.admin");
    expect(JSON.parse(files["firebase.json"]!)).toEqual({
      functions: { source: "functions" },
      hosting: { public: "public" },
      firestore: { indexes: "firestore.indexes.json", rules: "firestore.rules" },
    });
    expect(files["firebase.json"]).toContain(`\t"hosting": { "public": "public" },\n\t"firestore": {\n\t\t"indexes"`);
    expect(out).toContain("has an allow for every collection");
  });

  it("do so as well where firebase.json names files that are missing", async () => {
    google.state.rules.set("cloud.firestore", typeScriptProject["firestore.rules"]!);
    google.state.indexes = [
      {
        name: "projects/demo-project/databases/(default)/collectionGroups/a/indexes/1",
        queryScope: "COLLECTION",
        state: "READY",
        fields: [
          { fieldPath: "x", order: "ASCENDING" },
          { fieldPath: "y", order: "ASCENDING" },
        ],
      },
    ];
    const { "firestore.rules": _rules, "firestore.indexes.json": _indexes, ...rest } = typeScriptProject;
    const folder = makeProject(rest);
    google.state.faults.denied = [/firebaserules/];
    const blind = await init(folder, google, ["--dry-run"]);
    expect(blind.out).toMatch(/by hand firestore\.rules: is missing, and the deployed ones cannot be read now/);
    google.state.faults.denied = [];
    expect((await init(folder, google, ["--yes"])).out).toMatch(/firestore\.rules: .*, the rest as deployed/);
    const files = readFiles(folder);
    expect(files["firestore.rules"]).toContain("match /users/{user} {");
    expect(files["firestore.rules"]).toContain("match /gembatch_runs/{document=**} {");
    const { indexes } = JSON.parse(files["firestore.indexes.json"]!) as { indexes: any[] };
    expect(indexes.map(({ collectionGroup }) => collectionGroup)).toEqual(["a", "gembatch_runs", "gembatch_entries"]);
    expect(files["firebase.json"]).toBe(typeScriptProject["firebase.json"]);
  });

  it("close everything where no rules were ever deployed", async () => {
    const folder = makeProject(commonJsProject);
    await init(folder, google, ["--yes"]);
    expect(readFiles(folder)["firestore.rules"]).toMatch(/match \/\{document=\*\*\} \{\s+allow read, write: if false;/);
  });

  it("are left alone where what is deployed may not be read", async () => {
    google.state.faults.denied = [/firebaserules/];
    const folder = makeProject(commonJsProject);
    const { out } = await init(folder, google, ["--yes"]);
    expect(Object.keys(readFiles(folder))).not.toContain("firestore.rules");
    expect(out).toMatch(/by hand firestore\.rules: firebase\.json names no rules/);
  });

  it("get a database of their own beside the default one", async () => {
    google.state.databases.set("batch-data", { locationId: "eur3", type: "FIRESTORE_NATIVE" });
    google.state.functions = [{ name: "projects/demo-project/locations/europe-west1/functions/api-hello", state: "ACTIVE" }];
    google.state.enabled.add("cloudfunctions.googleapis.com");
    const folder = makeProject(severalProject);
    await init(folder, google, ["--yes", "--project", "staging", "--database", "batch-data", "--prefix", "gb"]);
    const files = readFiles(folder);
    expect(files["firebase.json"]).toContain("// Two of them.");
    expect(files["firebase.json"]).toContain(`"database": "batch-data"`);
    expect(files["firebase.json"]).toContain(`"database": "(default)"`);
    expect(files["main.rules"]).toBe(severalProject["main.rules"]);
    expect(files["firestore.batch-data.indexes.json"]).toContain("gb_runs");
    expect(files["apps/api/gembatch.js"]).toContain(`firestore({ databaseId: "batch-data", prefix: "gb" })`);
    expect(files["apps/api/.env.demo-project"]).toContain("GEMBATCH_REGION=europe-west1\n");
    expect(files["apps/jobs/index.js"]).toBe("export {};\n");
  });
});

describe("what cannot be edited safely", () => {
  it("is shown instead", async () => {
    const folder = makeProject({ ...commonJsProject, "functions/index.js": `import x from "y";\nexport const a = x;\n` });
    const { out, code } = await init(folder, google, ["--yes"]);
    expect(code).toBe(0);
    expect(out).toMatch(/by hand functions\/index\.js: .* add this yourself\n +"use strict";/);
    expect(readFiles(folder)["functions/index.js"]).toBe(`import x from "y";\nexport const a = x;\n`);
  });

  it("the dotenv file of an alias is used where there is one, since the Firebase CLI refuses two", async () => {
    const folder = makeProject({ ...severalProject, "apps/api/.env.staging": "A=1" });
    const { out } = await init(folder, google, ["--yes", "--project", "demo-project"]);
    const files = readFiles(folder);
    expect(out).toContain("  firebase deploy --only functions:api,firestore --project staging\n");
    expect(out).toContain("gembatch doctor --project staging\n");
    expect(files["apps/api/.env.staging"]).toMatch(/^A=1\n\n# gembatch\nGEMBATCH_PROVIDER=vertex\n/);
    expect(Object.keys(files)).not.toContain("apps/api/.env.demo-project");
  });
});

describe("when Google says no, or not yet", () => {
  it("waits for APIs that were just enabled, for operations and for the service agent", async () => {
    Object.assign(google.state.faults, { propagation: 3, polls: 3, unknownAgent: 2 });
    google.state.enabled = new Set(["serviceusage.googleapis.com"]);
    const ran = await init(makeProject(typeScriptProject), google, ["--yes"]);
    expect(ran).toMatchObject({ code: 0, err: "" });
    expect(ran.waited).toBeGreaterThan(20_000);
    expect(google.state.buckets.size).toBe(1);
  });

  it("waits for the service agent alone, where all APIs were enabled before", async () => {
    for (const name of apisFor("vertex", false)) google.state.enabled.add(name);
    google.state.faults.unknownAgent = 2;
    const ran = await init(makeProject(typeScriptProject), google, ["--yes"]);
    expect(ran).toMatchObject({ code: 0, waited: 10_000 });
  });

  it("reads policies, buckets and datasets again when somebody else was quicker", async () => {
    google.state.faults.conflicts = { policy: 2, bucket: 2, dataset: 2 };
    google.state.buckets.set("mine", { name: "mine", location: "EU", metageneration: "7" });
    google.state.policies.set("buckets/mine", { etag: "m", bindings: [] });
    const ran = await init(makeProject(typeScriptProject), google, ["--yes", "--bucket", "mine", "--dataset", "d"]);
    expect(ran).toMatchObject({ code: 0 });
    const all = JSON.stringify([...google.state.policies.values()]);
    expect(all.match(/quick\d+@example\.com/g)?.length).toBe(2);
    expect(google.state.faults.conflicts).toEqual({ policy: 0, bucket: 0, dataset: 0 });
  });

  it("tries again when a service is down, and gives up in words", async () => {
    google.state.faults.down = [503, 500, 429];
    expect(await init(makeProject(typeScriptProject), google, ["--dry-run"])).toMatchObject({ code: 0 });
    google.state.faults.down = [503, 503, 503, 503];
    await expect(init(makeProject(typeScriptProject), google, ["--dry-run"])).rejects.toMatchObject({
      code: "provider_error",
      message: expect.stringContaining("serviceusage.googleapis.com: The service is currently unavailable. (HTTP 503)"),
    });
  });

  it("goes on with what does not need what failed, says so, and completes it the next time", async () => {
    google.state.faults.denied = [/cloudresourcemanager.*setIamPolicy/, /POST storage.*\/b$/];
    const folder = makeProject(typeScriptProject);
    const { code, out, err } = await init(folder, google, ["--yes"]);
    expect(code).toBe(1);
    expect(out).toMatch(/FAILED +roles of .*\n +cloudresourcemanager\.googleapis\.com: The caller does not have permission/);
    expect(out).toMatch(/skipped +access to gs:\/\/demo-project-gembatch: needs bucket/);
    expect(out).toMatch(/done +role of .* on itself/);
    expect(google.changes.filter((call) => call.endsWith("demo-project:setIamPolicy"))).toHaveLength(1);
    expect(err).toContain("not everything was done");
    google.state.faults.denied = [];
    expect(await init(folder, google, ["--yes"])).toMatchObject({ code: 0, err: "" });
    expect(google.state.buckets.size).toBe(1);
  });

  it("leaves the database to a person: its place can never be changed", async () => {
    google.state.databases.clear();
    const { code, out } = await init(makeProject(typeScriptProject), google, ["--yes"]);
    expect(code).toBe(0);
    expect(
      out.match(/gcloud firestore databases create --project=demo-project --database="\(default\)" --location=us-central1/g),
    ).toHaveLength(2);
  });

  it("a bucket name that somebody else has is an error that says so", async () => {
    google.state.faults.denied = [/GET storage.*\/b\/demo-project-gembatch$/];
    google.state.buckets.set("demo-project-gembatch", {});
    const { code, out } = await init(makeProject(typeScriptProject), google, ["--yes"]);
    expect(code).toBe(1);
    expect(out).toMatch(/FAILED +bucket gs:\/\/demo-project-gembatch/);
  });
});

describe("without what it needs", () => {
  it("no firebase.json: says how to make one", async () => {
    const folder = makeProject({ "readme.txt": "nothing" });
    await expect(init(folder, google, [])).rejects.toMatchObject({
      code: "invalid_option",
      message: expect.stringContaining("firebase init functions"),
    });
  });

  it("finds the project from a folder in it", async () => {
    const folder = makeProject(typeScriptProject);
    expect(await init(join(folder, "functions/src"), google, ["--dry-run"])).toMatchObject({ code: 0 });
  });

  it("takes the project that `firebase use` chose for the folder, unless one is named", async () => {
    const folder = makeProject({
      ...typeScriptProject,
      ".firebaserc": `{ "projects": { "default": "other-project", "mine": "demo-project" } }`,
    });
    const home = makeProject({ "configstore/firebase-tools.json": JSON.stringify({ activeProjects: { [folder]: "mine" } }) });
    const env = { GEMBATCH_GOOGLE_ENDPOINT: google.url, XDG_CONFIG_HOME: home };
    expect((await init(folder, google, ["--dry-run"], { env })).out).toMatch(/^gembatch init: project demo-project,/);
    await expect(init(folder, google, ["--dry-run", "--project", "default"], { env })).rejects.toThrow(
      /The project "other-project" cannot be read/,
    );
    await expect(init(folder, google, ["--dry-run"])).rejects.toThrow(/The project "other-project" cannot be read/);
  });

  it("no functions, no project, several projects: says which option", async () => {
    const without = (name: string) => Object.fromEntries(Object.entries(typeScriptProject).filter(([path]) => path !== name));
    await expect(init(makeProject(without("functions/package.json")), google, [])).rejects.toThrow(/firebase init functions/);
    await expect(init(makeProject(without(".firebaserc")), google, [])).rejects.toThrow(/--project ID/);
    await expect(init(makeProject(severalProject), google, [])).rejects.toThrow(/staging \(demo-project\), live \(live-project\)/);
  });

  it("a project that these credentials may not read", async () => {
    await expect(init(makeProject(severalProject), google, ["--project", "live"])).rejects.toMatchObject({
      code: "provider_auth",
      message: expect.stringMatching(/The project "live-project" cannot be read: .*Check its id/),
    });
  });

  it("no credentials: says what to run", async () => {
    const findClient = async () => {
      throw new Error(
        "Could not load the default credentials. Browse to https://cloud.google.com/docs/authentication for more information.",
      );
    };
    await expect(init(makeProject(typeScriptProject), google, [], { findClient })).rejects.toMatchObject({
      code: "provider_auth",
      message: expect.stringContaining("gcloud auth application-default login"),
    });
  });

  it("credentials of a person are counted against the project", async () => {
    const client = { getRequestHeaders: async () => ({ authorization: "Bearer test" }) };
    expect(
      await init(makeProject(typeScriptProject), google, ["--dry-run"], { findClient: async () => ({ client, isPerson: true }) }),
    ).toMatchObject({ code: 0 });
    expect([...google.headers]).toEqual(["Bearer test demo-project"]);
    await init(makeProject(typeScriptProject), google, ["--dry-run"], { findClient: async () => ({ client, isPerson: false }) });
    expect([...google.headers]).toEqual(["Bearer test demo-project", "Bearer test undefined"]);
  });

  it("no network: says so, and --offline does the files alone", async () => {
    const folder = makeProject(typeScriptProject);
    const env = { GEMBATCH_GOOGLE_ENDPOINT: "http://127.0.0.1:1" };
    await expect(init(folder, google, ["--yes"], { env })).rejects.toMatchObject({
      code: "provider_error",
      message: expect.stringContaining("--offline"),
    });
    const ran = await init(folder, google, ["--yes", "--offline"], { env });
    expect(ran).toMatchObject({ code: 0, err: "" });
    expect(readFiles(folder)["firestore.indexes.json"]).toContain("gembatch_runs");
    expect(google.calls).toEqual([]);
    const unnamed = await init(makeProject(commonJsProject), google, ["--dry-run", "--offline"], { env });
    expect(unnamed.out).toContain("warning: firestore.indexes.json is new, and what is deployed could not be read");
  });

  it("refuses options and files that are wrong, before anything is done", async () => {
    const folder = makeProject(typeScriptProject);
    for (const args of [
      ["--days", "3"],
      ["--provider", "other"],
      ["--bucket", "gs://B"],
      ["--dataset", "other-project.d"],
      ["--dataset", "d", "--location", "global"],
      ["--region", "europe"],
      ["--codebase", "none"],
      ["--prefix", "a/b"],
    ])
      await expect(init(folder, google, [...args, "--yes"])).rejects.toMatchObject({ code: "invalid_option" });
    await expect(init(folder, google, ["--dance"])).rejects.toMatchObject({ code: "ERR_PARSE_ARGS_UNKNOWN_OPTION" });
    writeFileSync(join(folder, "firestore.indexes.json"), `{ "indexes": [,] }`);
    await expect(init(folder, google, ["--yes"])).rejects.toThrow(/firestore\.indexes\.json is not valid JSON \(line 1\)/);
    expect(google.changes).toEqual([]);
  });
});
