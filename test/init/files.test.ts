/** Edits of the project's files, one by one: what is there stays byte for byte. */
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { codeOnlyWarning, orderWarning } from "../../src/cli/init/code-warnings.ts";
import { deployCommand, gembatchCommand, installCommand, type GivenOptions } from "../../src/cli/init/commands.ts";
import { mergeEnv, readEnv } from "../../src/cli/init/env-file.ts";
import { canListen } from "../../src/cli/init/facts.ts";
import { addExports, readSource } from "../../src/cli/init/functions-source.ts";
import { declareDeployed, indexKey, mergeIndexes, type DeclaredIndexes } from "../../src/cli/init/indexes-file.ts";
import { appendItem, memberOf, parseJsonText, setMember, valueOf, type JsonArray, type JsonObject } from "../../src/cli/init/json-edit.ts";
import { payloadsAtRisk } from "../../src/cli/init/payloads.ts";
import { chooseCodebase, firestoreFiles, nameFirestoreFiles, readProject } from "../../src/cli/init/project.ts";
import { closedRules, mergeRules } from "../../src/cli/init/rules-file.ts";
import { envFileOf, resolveSettings } from "../../src/cli/init/settings.ts";
import { declared, makeProject, removeProjects, type Files } from "./fixtures.ts";

afterAll(removeProjects);

const parse = (text: string) => parseJsonText(text, "file.json");

describe("edits of JSON", () => {
  const key = fc.string({ maxLength: 6 }).filter((name) => name !== "__proto__");
  const value = fc.jsonValue({ maxDepth: 3 }).filter((one) => !JSON.stringify(one).includes("__proto__"));
  const layout = fc.constantFrom<(value: unknown) => string>(
    (one) => JSON.stringify(one),
    (one) => JSON.stringify(one, null, 2),
    (one) => `${JSON.stringify(one, null, "\t")}\n`,
    (one) => JSON.stringify(one, null, 4).replaceAll("\n", "\r\n"),
    (one) => `// a comment\n${JSON.stringify(one, null, 2)} /* the end */\n`,
  );

  it("read what JSON.parse reads", () => {
    fc.assert(
      fc.property(value, layout, (one, write) => {
        expect(valueOf(parse(write(one)))).toEqual(JSON.parse(JSON.stringify(one)));
      }),
      { seed: 5, numRuns: 200 },
    );
  });

  it("set a member, keep all others, and do it once", () => {
    fc.assert(
      fc.property(fc.dictionary(key, value, { maxKeys: 4 }), key, value, layout, (object, name, one, write) => {
        const text = write(object);
        const after = setMember(text, parse(text) as JsonObject, name, one);
        expect(valueOf(parse(after))).toEqual(JSON.parse(JSON.stringify({ ...object, [name]: one })));
        expect(setMember(after, parse(after) as JsonObject, name, one)).toBe(after);
        if (!Object.hasOwn(object, name))
          expect(after.replaceAll(/\s/g, "")).toContain(text.slice(0, text.lastIndexOf("}")).trimEnd().replaceAll(/\s/g, ""));
      }),
      { seed: 5, numRuns: 200 },
    );
  });

  it("append to a list and keep its items", () => {
    fc.assert(
      fc.property(fc.array(value, { maxLength: 4 }), value, layout, (list, one, write) => {
        const text = write({ list });
        const after = appendItem(text, memberOf(parse(text), "list") as JsonArray, one);
        expect(valueOf(parse(after))).toEqual(JSON.parse(JSON.stringify({ list: [...list, one] })));
      }),
      { seed: 5, numRuns: 200 },
    );
  });

  it.each([`{`, `{"a": 1,}`, `[1 2]`, `{"a" 1}`, `{a: 1}`, `{"a": 01x}`, `{} {}`, `{"a": "\n"}`, ``])(
    "refuse what is not JSON: %s",
    (text) => {
      expect(() => parse(text)).toThrow(/file\.json is not valid JSON \(line \d+\)/);
    },
  );
});

describe("firestore.indexes.json", () => {
  const ours = declared("gembatch");

  it("gets ours, once, whatever it held", () => {
    for (const before of ["", "{}", `{"indexes":[]}`, `{\n  "fieldOverrides": [],\n  "indexes": []\n}\n`]) {
      const first = mergeIndexes(before, ours, "f");
      expect(first).toMatchObject({ addedIndexes: 2, addedFields: 2, updatedFields: 0 });
      expect(JSON.parse(first.text)).toEqual({ indexes: ours.indexes, fieldOverrides: ours.fieldOverrides });
      expect(mergeIndexes(first.text, ours, "f")).toEqual({ text: first.text, addedIndexes: 0, addedFields: 0, updatedFields: 0 });
    }
  });

  it("knows an index that the Firebase CLI wrote out of the database as the same", () => {
    const written: DeclaredIndexes = {
      indexes: ours.indexes.map(({ collectionGroup, fields }) => ({
        collectionGroup,
        fields: [...fields, { fieldPath: "__name__", order: fields.at(-1)?.order }],
        density: "SPARSE_ALL",
      })),
      fieldOverrides: [],
    };
    expect(mergeIndexes(JSON.stringify(written), { ...ours, fieldOverrides: [] }, "f").addedIndexes).toBe(0);
  });

  it("tells indexes apart by collection, scope, order and kind", () => {
    const base = {
      collectionGroup: "a",
      fields: [
        { fieldPath: "x", order: "ASCENDING" },
        { fieldPath: "y", order: "ASCENDING" },
      ],
    };
    const others = [
      { ...base, collectionGroup: "b" },
      { ...base, queryScope: "COLLECTION_GROUP" },
      { ...base, fields: base.fields.toReversed() },
      { ...base, fields: [base.fields[0]!, { fieldPath: "y", order: "DESCENDING" }] },
      { ...base, fields: [base.fields[0]!, { fieldPath: "y", arrayConfig: "CONTAINS" }] },
      { ...base, fields: [base.fields[0]!, { fieldPath: "y", vectorConfig: { dimension: 3 } }] },
      { ...base, fields: [...base.fields, { fieldPath: "__name__", order: "DESCENDING" }] },
    ];
    expect(new Set([base, ...others].map(indexKey)).size).toBe(others.length + 1);
    expect(indexKey({ ...base, queryScope: "COLLECTION", fields: [...base.fields, { fieldPath: "__name__", order: "ASCENDING" }] })).toBe(
      indexKey(base),
    );
  });

  it("brings a field setting of ours up to date where it stands", () => {
    const before = `{"indexes":[],"fieldOverrides":[{"collectionGroup":"gembatch_runs","fieldPath":"expireAt","indexes":[{"order":"ASCENDING","queryScope":"COLLECTION"}]},{"collectionGroup":"z","fieldPath":"z","indexes":[]}]}`;
    const { text, updatedFields, addedFields } = mergeIndexes(before, { indexes: [], fieldOverrides: ours.fieldOverrides }, "f");
    expect([updatedFields, addedFields]).toEqual([1, 1]);
    expect((JSON.parse(text) as DeclaredIndexes).fieldOverrides.map(({ collectionGroup }) => collectionGroup)).toEqual([
      "gembatch_runs",
      "z",
      "gembatch_entries",
    ]);
  });

  it.each([`[]`, `{"indexes":{}}`, `{"indexes":[],"fieldOverrides":1}`])("refuses %s", (text) => {
    expect(() => mergeIndexes(text, ours, "f.json")).toThrow(/f\.json does not hold the lists/);
  });

  it("is what a deployed database would be written as", () => {
    const name = "projects/p/databases/(default)/collectionGroups/posts";
    expect(
      declareDeployed(
        [
          {
            name: `${name}/indexes/x`,
            queryScope: "COLLECTION_GROUP",
            unique: true,
            state: "READY",
            fields: [{ fieldPath: "a", order: "ASCENDING" }],
          },
        ],
        [
          {
            name: `${name}/fields/a.b`,
            indexConfig: { indexes: [{ queryScope: "COLLECTION", fields: [{ fieldPath: "a.b", arrayConfig: "CONTAINS" }] }] },
          },
        ],
      ),
    ).toEqual({
      indexes: [
        { collectionGroup: "posts", queryScope: "COLLECTION_GROUP", fields: [{ fieldPath: "a", order: "ASCENDING" }], unique: true },
      ],
      fieldOverrides: [
        { collectionGroup: "posts", fieldPath: "a.b", ttl: false, indexes: [{ arrayConfig: "CONTAINS", queryScope: "COLLECTION" }] },
      ],
    });
  });
});

describe("firestore.rules", () => {
  const collections = ["gembatch_runs", "gembatch_entries"];
  const wrap = (inner: string) => `service cloud.firestore {\n  match /databases/{db}/documents {\n${inner}\n  }\n}\n`;

  it("get a block, once, and a new one when the collections change", () => {
    const first = mergeRules(closedRules, collections);
    expect(first).toMatchObject({ outcome: "added", opensAll: false });
    expect(mergeRules(first.text, collections)).toEqual({ text: first.text, outcome: "already", opensAll: false });
    const more = mergeRules(first.text, [...collections, "gembatch_batches"]);
    expect(more).toMatchObject({ outcome: "updated" });
    expect(more.text.match(/gembatch: begin/g)).toHaveLength(1);
    expect(mergeRules(more.text, collections).text).toBe(first.text);
  });

  it("keep line ends and indentation", () => {
    const windows = wrap("      match /a/{b} { allow read; }").replaceAll("\n", "\r\n");
    const { text } = mergeRules(windows, collections);
    expect(text.replaceAll("\r\n", "")).not.toContain("\n");
    expect(text).toContain("\r\n      // gembatch: begin");
  });

  it.each([
    ["a wildcard over everything", "match /{document=**} { allow read; }", true],
    ["any collection", "match /{collection}/{id} { allow write: if request.auth != null; }", true],
    ["any collection below", "match /{collection} { match /{id} { allow get: if true; } }", true],
    ["closed for all", "match /{document=**} { allow read, write: if false; }", false],
    ["one that speaks of ours", "match /{c}/{id=**} { allow read: if !c.matches('gembatch_.*'); }", false],
    ["a collection by name", "match /users/{id} { allow read, write; match /{sub=**} { allow read; } }", false],
    ["in a comment", "// match /{document=**} { allow read; }\n/* match /{d=**} { allow read; } */", false],
    ["beside a function", "function ok() { return true; }\nmatch /a/{b} { allow read: if ok(); }", false],
  ])("%s", (_name, inner, opensAll) => {
    expect(mergeRules(wrap(inner), collections)).toMatchObject({ outcome: "added", opensAll });
  });

  it("are left alone when they have no place for it", () => {
    const text = "service cloud.firestore {\n  match /databases/{db}/documents/{document=**} {\n    allow read;\n  }\n}\n";
    expect(mergeRules(text, collections)).toEqual({ text, outcome: undefined, opensAll: true });
  });
});

describe("firebase.json", () => {
  const files = { indexes: "i.json", rules: "r.rules" };

  it("names the files of the database where there is place for them", () => {
    const after = (text: string, database = "(default)") => JSON.parse(nameFirestoreFiles(text, database, files)) as unknown;
    expect(after("{}")).toEqual({ firestore: files });
    expect(after("{}", "b")).toEqual({ firestore: { database: "b", ...files } });
    expect(after(`{"firestore":{"rules":"mine"}}`)).toEqual({ firestore: { rules: "mine", indexes: "i.json" } });
    expect(after(`{"firestore":{"rules":"mine"}}`, "b")).toEqual({
      firestore: [
        { rules: "mine", database: "(default)" },
        { database: "b", ...files },
      ],
    });
    expect(after(`{"firestore":{"rules":"mine","database":"a"}}`, "b")).toEqual({
      firestore: [
        { rules: "mine", database: "a" },
        { database: "b", ...files },
      ],
    });
    expect(after(`{"firestore":[{"database":"a"}]}`, "b")).toEqual({ firestore: [{ database: "a" }, { database: "b", ...files }] });
    expect(after(`{"firestore":[{"database":"b","rules":"x"}]}`, "b")).toEqual({
      firestore: [{ database: "b", rules: "x", indexes: "i.json" }],
    });
    expect(after(`{"firestore":[{"database":"a"}]}`)).toEqual({ firestore: [{ database: "a" }, { database: "(default)", ...files }] });
  });

  it("is as it was when it names them", () => {
    const text = `{ "firestore": [ { "database": "b", "rules": "x", "indexes": "y" } ] }`;
    expect(nameFirestoreFiles(text, "b", files)).toBe(text);
    expect(firestoreFiles({ text }, "b")).toEqual({ indexes: "y", rules: "x", hasIndexes: true, hasRules: true });
    expect(firestoreFiles({ text }, "c")).toMatchObject({ indexes: "firestore.c.indexes.json", hasIndexes: false });
  });
});

describe("the dotenv file", () => {
  const wanted = new Map([
    ["A", "1"],
    ["B", "gs://b/f"],
  ]);

  it("gets what is missing, and what is different where it stands", () => {
    expect(mergeEnv("", wanted)).toBe("# gembatch\nA=1\nB=gs://b/f\n");
    expect(mergeEnv("X=y # mine\nA=2\n\nB='gs://b/f'\n", wanted)).toBe("X=y # mine\nA=1\n\nB='gs://b/f'\n");
    expect(mergeEnv("X=y", wanted)).toBe("X=y\n\n# gembatch\nA=1\nB=gs://b/f\n");
    expect(mergeEnv("X=y\r\nexport A=1\r\n", wanted)).toBe("X=y\r\nexport A=1\r\n\r\n# gembatch\r\nB=gs://b/f\r\n");
  });

  it("is as it was when all is in it", () => {
    for (const before of ["", "X=y", "A=0\nC=c\n"]) {
      const once = mergeEnv(before, wanted);
      expect(mergeEnv(once, wanted)).toBe(once);
      expect(Object.fromEntries(readEnv(once))).toMatchObject(Object.fromEntries(wanted));
    }
  });

  it("reads quotes, comments and spaces as the Firebase CLI does", () => {
    const text = `A = 1\n#B=2\nC="x # y" # z\nD='q'\nE=a b # c\nF=\n`;
    expect(Object.fromEntries(readEnv(text))).toEqual({ A: "1", C: "x # y", D: "q", E: "a b", F: "" });
  });
});

describe("the index file", () => {
  const snippet = {
    provider: "vertex",
    database: "(default)",
    prefix: "gembatch",
    bucket: { name: "b", folder: "jobs" },
    hearsOutputs: true,
    serviceAccount: undefined,
  } as const;
  const look = (files: Files) => {
    const folder = makeProject(files);
    return addExports(folder, readSource(folder), snippet);
  };
  const js = `{ "main": "index.js" }`;
  const esm = `{ "main": "index.js", "type": "module" }`;

  it("gets one line at its end, in the form of its modules", () => {
    expect(look({ "package.json": js, "index.js": "exports.a = 1;\n" }).files["index.js"]).toBe(
      `exports.a = 1;\n\nObject.assign(module.exports, require("./gembatch.js").functions);\n`,
    );
    expect(look({ "package.json": esm, "index.js": "export const a = 1;" }).files["index.js"]).toBe(
      `export const a = 1;\n\nexport { gembatchWork, gembatchSweep, gembatchOutput } from "./gembatch.js";\n`,
    );
    expect(Object.keys(look({ "package.json": `{ "main": "lib/main.js" }`, "tsconfig.json": "{}", "src/main.ts": "" }).files)).toEqual([
      "src/gembatch.ts",
      "src/main.ts",
    ]);
    expect(Object.keys(look({ "package.json": `{ "main": "index.mjs" }`, "index.mjs": "export {};" }).files)).toEqual([
      "gembatch.mjs",
      "index.mjs",
    ]);
  });

  it("keeps payloads out of the folder whose objects are deleted", () => {
    const own = look({ "package.json": esm, "index.js": "" }).files["gembatch.js"]!;
    expect(own).toContain(`cloudStoragePayloads({ bucket: "b", prefix: "jobs-payloads" })`);
    expect(own).toContain(`gembatchFunctions(gembatch, { bucket: "gs://b/jobs" })`);
  });

  it("is left alone when it exports them already, in whatever way", () => {
    for (const text of [
      `export { gembatchWork } from "./mine.js";`,
      `export * from "./gembatch.js";`,
      `export const { gembatchWork, gembatchSweep } = gembatchFunctions(gembatch);`,
    ])
      expect(look({ "package.json": esm, "index.js": text })).toEqual({ files: {}, outcome: "already" });
    expect(look({ "package.json": esm, "index.js": `// gembatchWork\nexport const url = "https://x/gembatch";` }).outcome).toBe("added");
  });

  it("is left to a person when it cannot be told what would happen", () => {
    const projects: Files[] = [
      { "package.json": js },
      { "package.json": js, "index.js": `import a from "a";\n` },
      { "package.json": esm, "index.js": "module.exports = {};\n" },
      { "package.json": js, "tsconfig.json": "{}", "src/index.ts": "export = {};\n" },
      { "package.json": js, "index.js": "", "gembatch.js": "exports.mine = 1;" },
    ];
    for (const files of projects) {
      const { outcome, why, show } = look(files);
      expect([outcome, typeof why]).toEqual(["by hand", "string"]);
      expect(show).toContain("gembatchFunctions(");
    }
  });

  it("is given to a file of ours that is there", () => {
    const files = { "package.json": esm, "index.js": "", "gembatch.js": "export const { gembatchWork } = gembatchFunctions(g);" };
    expect(Object.keys(look(files).files)).toEqual(["index.js"]);
  });

  it("comes with warnings where gembatch could not be loaded", () => {
    const warnings = (manifest: string, tsconfig: string) =>
      readSource(makeProject({ "package.json": manifest, "tsconfig.json": tsconfig })).warnings;
    expect(warnings(`{"engines":{"node":"20"}}`, `{}`)).toEqual([expect.stringContaining("gembatch needs 22 or 24")]);
    expect(warnings(`{"engines":{"node":">=22"}}`, `{"compilerOptions":{"module":"commonjs"}}`)).toEqual([
      expect.stringContaining("NodeNext"),
    ]);
    expect(warnings(`{}`, `{"compilerOptions":{"module":"NodeNext"}}`)).toEqual([]);
  });
});

describe("the dotenv file of a project", () => {
  const look = (files: string[], asked?: string) => {
    const folder = makeProject({
      ".firebaserc": `{ "projects": { "default": "p-1", "live": "p-1", "other": "p-2" } }`,
      "firebase.json": `{ "functions": { "source": "." } }`,
      "package.json": "{}",
      ...Object.fromEntries(files.map((name) => [name, ""])),
    });
    const project = readProject(folder);
    return envFileOf(project, chooseCodebase(project, undefined), { id: "p-1", alias: asked });
  };

  it("is that of the id where there is none, and of an alias where there is one, whatever its name", () => {
    expect(look([])).toEqual({ path: ".env.p-1", project: "p-1", refused: [] });
    expect(look([], "live")).toEqual({ path: ".env.p-1", project: "p-1", refused: [] });
    expect(look([".env.default"])).toEqual({ path: ".env.default", project: "default", refused: [] });
    expect(look([".env.live", ".env.other"])).toEqual({ path: ".env.live", project: "live", refused: [] });
    expect(look([".env.default", ".env.live"], "live")).toMatchObject({ path: ".env.live", project: "live" });
  });

  it("is that of the id where there are both, since the Firebase CLI refuses them by the alias", () => {
    expect(look([".env.p-1", ".env.default"], "default")).toEqual({ path: ".env.p-1", project: "p-1", refused: [".env.default"] });
  });
});

describe("commands", () => {
  const call = (cwd: string, folder: string, given: GivenOptions = {}) => ({ cwd, root: "/projects/app", folder, project: "live", given });

  it("are for the folder in which the command was run", () => {
    const packages = ["gembatch"];
    expect(installCommand(call("/projects/app", "functions"), packages)).toBe("npm install --prefix functions gembatch");
    expect(installCommand(call("/projects/app/functions", "functions"), packages)).toBe("npm install gembatch");
    expect(installCommand(call("/projects/app", ""), packages)).toBe("npm install gembatch");
    expect(installCommand(call("/projects/app/apps/web", "apps/my api"), packages)).toBe("npm install --prefix '../my api' gembatch");
    expect(deployCommand(call("/projects/app/functions/src", "functions"), "functions")).toBe(
      "firebase deploy --only functions --project live",
    );
    expect(deployCommand(call("/projects", "functions"), "functions")).toBe(
      "firebase deploy --only functions --project live --config app/firebase.json",
    );
  });

  it("repeat the options that were given, as words of a shell", () => {
    const given = { prefix: "gb", bucket: "gs://b/jobs", database: "(default)", "service-account": "a@p.iam.gserviceaccount.com" };
    expect(gembatchCommand(call("/projects/app/functions", "functions", given), "doctor")).toBe(
      "npx gembatch doctor --project live --bucket gs://b/jobs --database '(default)' --prefix gb --service-account a@p.iam.gserviceaccount.com",
    );
    expect(gembatchCommand(call("/projects", "functions", { dir: "app", region: "it's" }), "init", { bucket: "NEW-NAME" })).toBe(
      `npx --prefix app/functions gembatch init --project live --dir app --bucket NEW-NAME --region 'it'\\''s'`,
    );
  });
});

describe("code that is there already", () => {
  const look = (text: string, given: Record<string, string>) =>
    codeOnlyWarning({ name: "index.js", text }, resolveSettings(given, { project: "demo-project", env: new Map(), regions: [] }), given);
  const code = "gembatchFunctions(new Gembatch({ store: firestore() }), { bucket: true })";

  it("is told what only it can say", () => {
    expect(look(code, { bucket: "mine", days: "9" })).toBeUndefined();
    expect(look(code, { database: "jobs", prefix: "gb" })).toContain(`: firestore({ databaseId: "jobs", prefix: "gb" }).`);
    expect(look(code, { "service-account": "a@b.c", bucket: "gs://my-b/jobs" })).toMatch(
      /: gembatchFunctions\(gembatch, \{ bucket: "gs:\/\/my-b\/jobs", serviceAccount: "a@b\.c" \}\)\. Until then GEMBATCH_VERTEX_BUCKET is the bucket's name alone/,
    );
  });

  it("is not told what it says, nor what parameters and the environment say", () => {
    const own = `setGlobalOptions({ region: "europe-west1", serviceAccount: 'a@b.c' }); firestore({ databaseId: "jobs", prefix: \`gb\` }); f({ bucket: "my-b/jobs" })`;
    const given = { database: "jobs", prefix: "gb", "service-account": "a@b.c", bucket: "gs://my-b/jobs", region: "europe-west1" };
    expect(look(own, given)).toBeUndefined();
    expect(look(code, { region: "europe-west1" })).toBeUndefined();
    expect(look(`setGlobalOptions({ region: "us-east1" });`, { region: "europe-west1" })).toContain(
      `gembatchFunctions(gembatch, { region: "europe-west1" })`,
    );
    expect(look(code, { provider: "gemini", bucket: "gs://my-b/jobs" })).toBeUndefined();
  });

  it("is warned of options that come too late", () => {
    const text = "setGlobalOptions({ maxInstances: 2 });";
    const warn = (more: string, outcome: "already" | "added") => orderWarning({ name: "index.js", text: text + more }, outcome);
    expect(warn("", "added")).toContain("index.js calls setGlobalOptions");
    expect(warn(`export { gembatchWork } from "./gembatch.js";`, "already")).toContain("imported first");
    expect(warn("export const { gembatchWork } = gembatchFunctions(g);", "already")).toBeUndefined();
    expect(orderWarning({ name: "index.js", text: `import "./options.js";` }, "added")).toBeUndefined();
  });
});

describe("lifecycle rules of a bucket that was there", () => {
  const look = (condition: Record<string, unknown>, type = "Delete") =>
    payloadsAtRisk({ name: "b", lifecycle: { rule: [{ action: { type }, condition }] } }, { name: "b", folder: "jobs" })?.note;

  it("delete payloads where they reach them", () => {
    expect(look({ age: 30 })).toBe(
      "a lifecycle rule of gs://b deletes jobs-payloads/ after 30 days, where large payloads lie that runs still need",
    );
    for (const matchesPrefix of [["jobs"], ["logs/", "jobs-payloads/"], ["jobs-payloads/store/"], []])
      expect(look({ age: 30, matchesPrefix })).toContain("deletes jobs-payloads/");
    expect(look({ createdBefore: "2030-01-01" })).toContain("deletes jobs-payloads/,");
  });

  it("spare them elsewhere, and where they are about older versions", () => {
    for (const condition of [{ age: 8, matchesPrefix: ["jobs/"] }, { age: 1, isLive: false }, { numNewerVersions: 2 }])
      expect(look(condition)).toBeUndefined();
    expect(look({ age: 1 }, "SetStorageClass")).toBeUndefined();
  });
});

describe("settings", () => {
  const resolve = (given: object, env: Record<string, string> = {}, regions: string[] = []) =>
    resolveSettings(given, { project: "demo-project", env: new Map(Object.entries(env)), regions });

  it("say whether a function can hear of outputs in the bucket, as the Firebase CLI holds it", () => {
    const listens = (region: string, place: string) => canListen(region, place);
    expect([listens("us-central1", "NAM4"), listens("europe-west4", "eur4"), listens("asia-northeast1", "ASIA1")]).toEqual([
      true,
      true,
      true,
    ]);
    expect([listens("europe-west2", "EU"), listens("us-east5", "US"), listens("europe-west1", "eur4")]).toEqual([false, false, false]);
    const hears = (region: string, location: string) => resolve({ region, location }).hearsOutputs;
    expect([hears("europe-west1", "global"), hears("us-east1", "us"), hears("europe-west1", "eu"), hears("us-east1", "us-east1")]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([hears("us-east1", "eu"), hears("us-east1", "us-west1"), hears("asia-east1", "us")]).toEqual([false, false, false]);
    expect(resolve({ provider: "gemini", bucket: "bucket-1" }).hearsOutputs).toBe(false);
  });

  it("come from the command line, then the project's own file, then what is deployed, then by default", () => {
    expect(resolve({})).toMatchObject({
      provider: "vertex",
      region: "us-central1",
      location: "global",
      storageLocation: "us-central1",
      bucket: { name: "demo-project-gembatch", folder: "gembatch" },
    });
    expect(resolve({}, {}, ["us-east1", "europe-west1", "europe-west1"])).toMatchObject({ region: "europe-west1" });
    expect(resolve({}, { GEMBATCH_REGION: "asia-east1" }, ["us-east1"])).toMatchObject({ region: "asia-east1" });
    expect(resolve({ region: "us-west1" }, { GEMBATCH_REGION: "asia-east1" })).toMatchObject({ region: "us-west1" });
    expect(resolve({ bucket: "gs://bucket-1/x/y/" }, { GEMBATCH_VERTEX_BUCKET: "b2" })).toMatchObject({
      bucket: { name: "bucket-1", folder: "x/y" },
    });
    expect(resolve({ dataset: "demo-project.d" }, {}, ["europe-west4"])).toMatchObject({
      dataset: "d",
      location: "europe-west4",
      storageLocation: "europe-west4",
    });
    expect(resolve({ provider: "gemini" }, { GEMBATCH_VERTEX_DATASET: "d" })).toMatchObject({ bucket: undefined, dataset: undefined });
  });
});
