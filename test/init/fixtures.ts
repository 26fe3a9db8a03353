/**
 * Firebase projects in temporary folders, as the Firebase CLI makes them and as people change them, and the commands run on them in process.
 *
 * @module
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { filesUnder } from "../../scripts/build.ts";
import { runDoctorCommand } from "../../src/cli/doctor/command.ts";
import { runInitCommand } from "../../src/cli/init/command.ts";
import type { DeclaredIndexes } from "../../src/cli/init/indexes-file.ts";
import type { CommandIo } from "../../src/cli/init/io.ts";
import type { Google } from "./google.ts";

export type Files = Readonly<Record<string, string>>;

/** What the store would declare. */
const standard = (prefix: string): DeclaredIndexes => ({
  indexes: [
    {
      collectionGroup: `${prefix}_runs`,
      queryScope: "COLLECTION",
      fields: [
        { fieldPath: "state", order: "ASCENDING" },
        { fieldPath: "createdAt", order: "DESCENDING" },
      ],
    },
    {
      collectionGroup: `${prefix}_entries`,
      queryScope: "COLLECTION",
      fields: [
        { fieldPath: "lane", order: "ASCENDING" },
        { fieldPath: "priority", order: "DESCENDING" },
      ],
    },
  ],
  fieldOverrides: [
    { collectionGroup: `${prefix}_runs`, fieldPath: "expireAt", ttl: true, indexes: [] },
    { collectionGroup: `${prefix}_entries`, fieldPath: "body", indexes: [{ order: "ASCENDING", queryScope: "COLLECTION" }] },
  ],
});

/** What a store declares for its edition: Enterprise makes no index by itself, so that there is nothing to exempt, and one of a single field is declared like all others. */
export function declared(prefix: string, edition?: string): DeclaredIndexes {
  const { indexes, fieldOverrides } = standard(prefix);
  if (edition !== "ENTERPRISE") return { indexes, fieldOverrides };
  const single = fieldOverrides.flatMap(({ collectionGroup, fieldPath, indexes: own }) =>
    own.map(({ queryScope = "COLLECTION", ...kind }) => ({ collectionGroup, queryScope, fields: [{ fieldPath, ...kind }] })),
  );
  const expiring = fieldOverrides.filter(({ ttl }) => ttl === true);
  return { indexes: [...indexes, ...single], fieldOverrides: expiring.map((field) => ({ ...field, indexes: [] })) };
}

const firebaserc = `{\n  "projects": {\n    "default": "demo-project"\n  }\n}\n`;

/** As `firebase init functions firestore` makes it, with TypeScript and an index of the owner's own. */
export const typeScriptProject: Files = {
  ".firebaserc": firebaserc,
  "firebase.json": `{
  "firestore": {
    "rules": "firestore.rules",
    "indexes": "firestore.indexes.json"
  },
  "functions": [
    {
      "source": "functions",
      "codebase": "default",
      "predeploy": ["npm --prefix \\"$RESOURCE_DIR\\" run build"]
    }
  ]
}
`,
  "firestore.rules": `rules_version = '2';

service cloud.firestore {
  match /databases/{database}/documents {

    match /users/{user} {
      allow read, write: if request.auth.uid == user;
    }
  }
}
`,
  "firestore.indexes.json": `{
    "indexes": [
        { "collectionGroup": "posts", "queryScope": "COLLECTION", "fields": [
            { "fieldPath": "author", "order": "ASCENDING" },
            { "fieldPath": "at", "order": "DESCENDING" }
        ] }
    ],
    "fieldOverrides": []
}
`,
  "functions/package.json": `{ "name": "functions", "main": "lib/index.js", "engines": { "node": "24" }, "dependencies": { "firebase-admin": "^14.0.0", "firebase-functions": "^7.0.0" } }\n`,
  "functions/tsconfig.json": `{ "compilerOptions": { "module": "NodeNext", "moduleResolution": "nodenext", "outDir": "lib" } }\n`,
  "functions/src/index.ts": `import { onRequest } from "firebase-functions/https";\n\nexport const hello = onRequest((request, response) => {\n  response.send("hello");\n});\n`,
};

/** An older project: one codebase as an object, CommonJS, no Firestore in firebase.json, a dotenv file. */
export const commonJsProject: Files = {
  ".firebaserc": firebaserc,
  "firebase.json": `{\n\t"functions": { "source": "functions" },\n\t"hosting": { "public": "public" }\n}`,
  "functions/package.json": `{ "name": "functions", "main": "index.js", "dependencies": { "firebase-functions": "^7.0.0", "gembatch": "^0.1.0" } }\n`,
  "functions/index.js": `const { onRequest } = require("firebase-functions/https");\n\nexports.hello = onRequest((request, response) => response.send("hello"));`,
  "functions/.env.demo-project": `# mine\nGREETING="good morning" # of all\nGEMBATCH_PROVIDER=vertex\n`,
};

/** Two codebases with ES modules, one of them with a prefix; two databases; comments in firebase.json; aliases. */
export const severalProject: Files = {
  ".firebaserc": `{ "projects": { "staging": "demo-project", "live": "live-project" } }\n`,
  "firebase.json": `{
  // Two of them.
  "functions": [
    { "source": "apps/api", "codebase": "api", "prefix": "api" },
    { "source": "apps/jobs", "codebase": "jobs" },
    { "kit": "some-kit", "codebase": "kit-one" }
  ],
  "firestore": [{ "database": "(default)", "rules": "main.rules", "indexes": "main.indexes.json" }]
}
`,
  "main.rules": `service cloud.firestore {\n  match /databases/{database}/documents {\n    match /{document=**} {\n      allow read: if request.auth != null;\n    }\n  }\n}\n`,
  "main.indexes.json": `{"indexes": [], "fieldOverrides": []}`,
  "apps/api/package.json": `{ "type": "module", "main": "index.js", "dependencies": { "gembatch": "^0.1.0" } }\n`,
  "apps/api/index.js": `import { onRequest } from "firebase-functions/https";\nexport const api = onRequest(() => {});\n`,
  "apps/jobs/package.json": `{ "type": "module", "main": "index.js" }\n`,
  "apps/jobs/index.js": `export {};\n`,
};

const folders: string[] = [];

export function makeProject(files: Files): string {
  const folder = mkdtempSync(join(tmpdir(), "gembatch-init-"));
  folders.push(folder);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

export function removeProjects(): void {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

/** Every file of the project with its text. */
export function readFiles(folder: string): Record<string, string> {
  return Object.fromEntries(filesUnder(folder).map((path) => [path, readFileSync(join(folder, path), "utf8")]));
}

export interface Ran {
  code: number;
  out: string;
  err: string;
  /** How long it waited, in milliseconds of its clock. */
  waited: number;
}

async function run(
  command: (args: string[], io: CommandIo) => Promise<number>,
  { folder, google, args, io = {} }: { folder: string; google: Google; args: string[]; io?: Partial<CommandIo> },
): Promise<Ran> {
  let out = "";
  let err = "";
  let time = 0;
  const code = await command(args, {
    out: (text) => (out += text),
    err: (text) => (err += text),
    env: { GEMBATCH_GOOGLE_ENDPOINT: google.url },
    folder,
    clock: {
      now: () => 1_795_000_000_000 + time,
      monotonic: () => time,
      sleep: async (ms) => {
        time += ms;
      },
    },
    ask: undefined,
    indexes: declared,
    ...io,
  });
  return { code, out, err, waited: time };
}

export const init = (folder: string, google: Google, args: string[], io?: Partial<CommandIo>): Promise<Ran> =>
  run(runInitCommand, { folder, google, args, ...(io === undefined ? {} : { io }) });

export const doctor = (folder: string, google: Google, args: string[] = [], io?: Partial<CommandIo>): Promise<Ran> =>
  run(runDoctorCommand, { folder, google, args, ...(io === undefined ? {} : { io }) });
