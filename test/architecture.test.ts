/**
 * The architecture as data: who may import whom, where each SDK lives, and where time and chance come from.
 * Every rule is a row with its reason. To allow something new, change a row and say why.
 */
import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, posix } from "node:path";
import { parseSync } from "oxc-parser";
import { describe, expect, it } from "vitest";
import { filesUnder, root } from "../scripts/build.ts";
import { readManifest } from "../scripts/pack.ts";

// ---------------------------------------------------------------------------------------------- the rules

interface Layer {
  /** A folder of src; "entries" are the files directly in src, one for each thing that users import. */
  folder: string;
  /** The folders whose files it may import, besides its own. */
  imports: readonly string[];
  reason: string;
}

const below = ["client", "worker", "pipeline", "chain", "core"];

const layers: readonly Layer[] = [
  { folder: "core", imports: [], reason: "core is the words and the ports that all others share" },
  { folder: "chain", imports: ["core"], reason: "a chain describes work; it does not know how work is done" },
  {
    folder: "pipeline",
    imports: ["chain", "core"],
    reason: "a stage sees ports and turns only, so that it runs over every store and provider",
  },
  { folder: "worker", imports: ["pipeline", "chain", "core"], reason: "the worker turns stages and turns into ticks" },
  {
    folder: "client",
    imports: ["worker", "pipeline", "chain", "core"],
    reason: "the client is what users hold; it may run a worker in process",
  },
  { folder: "stores", imports: ["core"], reason: "a store implements a port and is replaced by another one" },
  { folder: "providers", imports: ["core"], reason: "a provider implements a port and is replaced by another one" },
  { folder: "payloads", imports: ["core"], reason: "a payload store implements a port and is replaced by another one" },
  { folder: "integrations", imports: ["client", "chain", "core"], reason: "an integration is written against what users see" },
  { folder: "cli", imports: [...below, "entries"], reason: "the command line is a user of the package, from outside" },
  { folder: "dashboard", imports: below, reason: "the dashboard reads and commands through the client" },
  { folder: "firebase", imports: below, reason: "Firebase drives the same worker and client as a laptop does" },
  {
    folder: "emulator",
    imports: [],
    reason: "the emulator plays the other side: a word shared with the product would hide a misreading of the API",
  },
  {
    folder: "testing",
    imports: [...below, "stores", "providers"],
    reason: "the suites see ports only; the kit puts a whole gembatch together in virtual time",
  },
  {
    folder: "entries",
    imports: [...below, "stores", "providers", "payloads", "integrations", "dashboard", "firebase", "emulator", "testing"],
    reason: "an entry is the place where parts are put together",
  },
];

interface Exception {
  file: string;
  /** Folders that this one file may import besides those of its layer. */
  imports: readonly string[];
  reason: string;
}

const exceptions: readonly Exception[] = [
  {
    file: "src/client/connect.ts",
    imports: ["stores", "providers"],
    reason: "the one place that turns a URL or a name into a store or provider",
  },
];

interface Visitors {
  folder: string;
  /** The only files outside the folder that may import from it. */
  only: readonly string[];
  reason: string;
}

const guarded: readonly Visitors[] = [
  { folder: "emulator", only: ["src/emulator.ts"], reason: "whoever does not import gembatch/emulator must not load a web server" },
  { folder: "testing", only: ["src/testing.ts"], reason: "test kits do not belong into running programs" },
];

interface External {
  /** A module name; its subpaths are meant too. */
  modules: readonly string[];
  /** Path prefixes of the files that may import it. */
  in: readonly string[];
  /** Path prefixes of the files that may import types from it. */
  typesIn?: readonly string[];
  reason: string;
}

const clocks = ["src/worker/system-clock.ts", "src/client/system-clock.ts"];

const externals: readonly External[] = [
  {
    modules: ["@google/genai"],
    in: ["src/providers/"],
    typesIn: ["src/core/", "src/chain/", "src/client/"],
    reason: "each SDK is imported in one adapter folder; its types are the vocabulary of users and cost nothing",
  },
  { modules: ["hono", "@hono/node-server"], in: ["src/emulator/", "src/dashboard/"], reason: "the product itself serves no HTTP" },
  { modules: ["@aws-sdk/client-s3"], in: ["src/payloads/s3.ts"], reason: "each SDK is imported in one adapter, when it is used" },
  { modules: ["jose"], in: ["src/providers/"], reason: "tokens are checked where webhooks of a provider come in" },
  {
    modules: ["@google-cloud/storage"],
    in: ["src/providers/vertex/storage.ts", "src/payloads/cloud-storage.ts"],
    reason: "an optional package: one file of each user loads it, when it is needed",
  },
  {
    modules: ["@google-cloud/bigquery"],
    in: ["src/providers/vertex/bigquery.ts"],
    reason: "an optional package: one file loads it, when it is needed",
  },
  {
    modules: ["google-auth-library"],
    in: ["src/providers/vertex/auth.ts", "src/cli/google/credentials.ts"],
    reason: "credentials are looked for where they are used",
  },
  { modules: ["node:sqlite"], in: ["src/stores/sqlite/"], reason: "one store of several" },
  {
    modules: ["node:timers", "node:timers/promises"],
    in: [...clocks, "src/emulator/", "src/cli/", "src/stores/patience.ts"],
    reason: "timers belong to the clock; a driver waits for its server",
  },
  { modules: ["pg"], in: ["src/stores/postgres/"], reason: "one store of several, and an optional peer" },
  {
    modules: ["firebase-admin"],
    in: ["src/stores/firestore/client.ts", "src/firebase/queue.ts"],
    reason: "an optional peer, loaded when it is needed: a function must start fast",
  },
  {
    modules: ["@google-cloud/firestore"],
    in: ["src/stores/firestore/client.ts"],
    typesIn: ["src/stores/firestore/"],
    reason: "one store of several, and an optional peer",
  },
  { modules: ["firebase-functions"], in: ["src/firebase/"], reason: "functions are declared in one place" },
  { modules: ["gembatch"], in: [], reason: "inside the package files are imported by their path" },
];

/** What the core may use of Node: no files, no network, no processes. */
const pureBuiltins = new Set(["node:assert", "node:buffer", "node:crypto", "node:path", "node:string_decoder", "node:url", "node:util"]);

interface Use {
  /** Globals (`setTimeout`), members (`Date.now`) or argumentless constructions (`new Date()`). */
  names: readonly string[];
  /** Path prefixes of the files that the rule is about; all of src when left out. */
  of?: readonly string[];
  /** Path prefixes of the files that may use them all the same. */
  except: readonly string[];
  reason: string;
}

const uses: readonly Use[] = [
  {
    names: [
      "Date.now",
      "new Date()",
      "Date()",
      "performance.now",
      "process.hrtime",
      "setTimeout",
      "setInterval",
      "Math.random",
      "crypto.randomUUID",
      "crypto.getRandomValues",
    ],
    except: [...clocks, "src/emulator/", "src/cli/"],
    reason: "time and chance come in through the Clock and Random ports, or virtual time and seeds would not reach them",
  },
  {
    names: ["AbortSignal.timeout"],
    except: [...clocks, "src/providers/", "src/emulator/", "src/cli/"],
    reason: "only the patience with one call over the network is real time",
  },
  { names: ["fetch", "process", "console"], of: ["src/core/"], except: [], reason: "the core has no effects" },
];

// ---------------------------------------------------------------------------------------------- the checker

interface Import {
  module: string;
  typeOnly: boolean;
}

interface Parsed {
  imports: Import[];
  uses: string[];
}

type Node = { type: string } & Record<string, unknown>;
const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && typeof (value as Node)["type"] === "string";
const nameOf = (value: unknown) => (isNode(value) && value.type === "Identifier" ? String(value["name"]) : undefined);
const textOf = (value: unknown): string | undefined => {
  if (!isNode(value)) return undefined;
  if (value.type === "Literal") return String(value["value"]);
  if (value.type === "TSLiteralType") return textOf(value["literal"]);
  return value.type === "TemplateLiteral"
    ? (value["quasis"] as { value: { cooked: string } }[]).map((part) => part.value.cooked).join("*")
    : "?";
};

const globalObjects = new Set(["globalThis", "global", "window", "self"]);
const namedThings = new Set(["Property", "PropertyDefinition", "MethodDefinition", "TSPropertySignature", "TSMethodSignature"]);

/** All imports of a file, in whatever form, and the globals and members that it refers to. */
function parse(path: string, source: string): Parsed {
  const { program, errors } = parseSync(path, source);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
  const found: Parsed = { imports: [], uses: [] };

  const visit = (node: Node, parent: Node | undefined, role: string): void => {
    switch (node.type) {
      case "ImportDeclaration":
      case "ExportNamedDeclaration":
      case "ExportAllDeclaration": {
        const module = textOf(node["source"]);
        // `import { type A }` still loads the module: with verbatimModuleSyntax only `import type` goes away.
        if (module !== undefined) found.imports.push({ module, typeOnly: (node["importKind"] ?? node["exportKind"]) === "type" });
        if (module !== undefined || node["exportKind"] === "type") return;
        break;
      }
      case "ImportExpression":
        found.imports.push({ module: textOf(node["source"]) ?? "?", typeOnly: false });
        break;
      case "TSImportType":
        found.imports.push({ module: textOf(node["source"] ?? node["argument"]) ?? "?", typeOnly: true });
        break;
      case "TSExternalModuleReference":
        found.imports.push({ module: textOf(node["expression"]) ?? "?", typeOnly: false });
        break;
      case "CallExpression":
      case "NewExpression": {
        const callee = nameOf(node["callee"]);
        const args = node["arguments"] as unknown[];
        if (callee === "require") found.imports.push({ module: textOf(args[0]) ?? "?", typeOnly: false });
        if (callee === "Date" && node.type === "CallExpression") found.uses.push("Date()");
        if (callee === "Date" && node.type === "NewExpression" && args.length === 0) found.uses.push("new Date()");
        break;
      }
      case "MemberExpression": {
        const object = nameOf(node["object"]);
        const property = node["computed"] === true ? textOf(node["property"]) : nameOf(node["property"]);
        const outer = isNode(node["object"]) && node["object"].type === "MemberExpression" ? nameOf(node["object"]["property"]) : undefined;
        if (property === undefined) break;
        if (object !== undefined && globalObjects.has(object)) found.uses.push(property);
        else if (object !== undefined || outer !== undefined) found.uses.push(`${object ?? outer}.${property}`);
        break;
      }
      case "Identifier": {
        const isLabel =
          (parent?.type === "MemberExpression" && role === "property" && parent["computed"] !== true) ||
          (parent !== undefined && namedThings.has(parent.type) && role === "key" && parent["computed"] !== true) ||
          parent?.type === "TSTypeQuery" ||
          parent?.type === "TSTypeReference";
        if (!isLabel) found.uses.push(String(node["name"]));
        break;
      }
      default:
    }
    for (const [key, child] of Object.entries(node)) {
      for (const item of Array.isArray(child) ? (child as unknown[]) : [child]) if (isNode(item)) visit(item, node, key);
    }
  };
  visit(program as unknown as Node, undefined, "");
  return found;
}

const under = (path: string, prefixes: readonly string[]) => prefixes.some((prefix) => path.startsWith(prefix));
const matches = (module: string, names: readonly string[]) => names.some((name) => module === name || module.startsWith(`${name}/`));
const folderOf = (path: string) => (path.split("/").length === 2 ? "entries" : (path.split("/")[1] ?? "?"));
const isTest = (path: string) => path.endsWith(".test.ts");
const builtins = new Set(builtinModules.flatMap((name) => [name, `node:${name}`]));

const isComputed = (module: string) => module === "?" || module.includes("*");

function wrongWithFile(path: string, module: string, layer: Layer): string | undefined {
  if (isComputed(module)) return "a computed import cannot be checked; write the name out";
  const target = posix.join(dirname(path), module);
  if (!target.startsWith("src/")) return "what is outside src is not in the package";
  if (isTest(target)) return "a test is not in the package";
  const folder = folderOf(target);
  if (folder === layer.folder && folder !== "entries") return undefined;
  const excepted = exceptions.some((row) => row.file === path && row.imports.includes(folder));
  if (folder !== layer.folder && !layer.imports.includes(folder) && !excepted) return layer.reason;
  const guard = guarded.find((row) => row.folder === folder);
  return guard !== undefined && !guard.only.includes(path) ? guard.reason : undefined;
}

function wrongWithModule(path: string, written: string, typeOnly: boolean, packages: readonly string[]): string | undefined {
  // The CLI loads the user's own configuration file, whose name nobody knows beforehand.
  if (isComputed(written)) return folderOf(path) === "cli" ? undefined : "a computed import cannot be checked; write the name out";
  const module = builtins.has(written) && !written.startsWith("node:") ? `node:${written}` : written;
  const external = externals.find((row) => matches(module, row.modules));
  const allowed = external !== undefined && (under(path, external.in) || (typeOnly && under(path, external.typesIn ?? [])));
  if (external !== undefined && !allowed) return external.reason;
  if (module.startsWith("node:")) {
    return folderOf(path) === "core" && !pureBuiltins.has(module) ? "the core has no effects" : undefined;
  }
  if (folderOf(path) === "core" && !(typeOnly && allowed)) return "the core imports nothing but Node's own pure modules";
  return matches(module, packages) ? undefined : "neither a dependency nor a peer dependency in package.json";
}

/** What is wrong with one file of src. Test files may do anything. */
function violations(path: string, source: string, packages: readonly string[] = []): string[] {
  if (isTest(path)) return [];
  const folder = folderOf(path);
  const layer = layers.find((row) => row.folder === folder);
  if (layer === undefined) return [`${path}: src/${folder} has no row in the layers; add one with its reason`];
  const found: string[] = [];
  const parsed = parse(path, source);

  for (const { module, typeOnly } of parsed.imports) {
    const reason = module.startsWith(".") ? wrongWithFile(path, module, layer) : wrongWithModule(path, module, typeOnly, packages);
    if (reason !== undefined) found.push(`${path} imports ${typeOnly ? "types from " : ""}${module}: ${reason}`);
  }
  for (const { names, of, except, reason } of uses) {
    if ((of !== undefined && !under(path, of)) || under(path, except)) continue;
    for (const name of names) {
      const used = parsed.uses.some((use) => use === name || (!name.endsWith(")") && use.startsWith(`${name}.`)));
      if (used) found.push(`${path} uses ${name}: ${reason}`);
    }
  }
  return found;
}

// ---------------------------------------------------------------------------------------------- the tests

describe("the source follows the architecture", () => {
  const manifest = readManifest(root);
  const packages = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies, ...manifest.optionalDependencies });
  const files = filesUnder(join(root, "src"))
    .filter((path) => /\.[cm]?tsx?$/.test(path))
    .map((path) => `src/${path}`);

  it("finds the source", () => expect(files.length).toBeGreaterThan(5));

  const folders = [...new Set(files.map(folderOf))];
  it.each(folders)("src: %s", (folder) => {
    const found = files
      .filter((path) => folderOf(path) === folder)
      .flatMap((path) => violations(path, readFileSync(join(root, path), "utf8"), packages));
    expect(found).toEqual([]);
  });
});

describe("every rule can fail", () => {
  const packages = ["@google/genai", "hono", "@hono/node-server"];
  const wrong: readonly [rule: string, path: string, source: string][] = [
    ["core imports nothing", "src/core/a.ts", `import { x } from "../chain/x.ts";`],
    ["core imports nothing, deep", "src/core/deep/a.ts", `export * from "../../pipeline/x.ts";`],
    ["core imports no package", "src/core/a.ts", `import { Hono } from "hono";`],
    ["core imports no SDK at run time", "src/core/a.ts", `import { GoogleGenAI } from "@google/genai";`],
    ["an inline type import still loads the module", "src/core/a.ts", `import { type Models } from "@google/genai";`],
    ["core reads no files", "src/core/a.ts", `import { readFile } from "node:fs/promises";`],
    ["core opens no sockets, old spelling", "src/core/a.ts", `import net from "net";`],
    ["core fetches nothing", "src/core/a.ts", `await fetch("http://localhost");`],
    ["core prints nothing", "src/core/a.ts", `console.log(1);`],
    ["core reads no environment", "src/core/a.ts", `const key = process.env["KEY"];`],
    ["chain does not see the pipeline", "src/chain/a.ts", `import { x } from "../pipeline/x.ts";`],
    ["pipeline does not see the client", "src/pipeline/a.ts", `const x = await import("../client/x.ts");`],
    ["pipeline does not see a store", "src/pipeline/a.ts", `import type { X } from "../stores/sqlite/x.ts";`],
    ["worker does not see the client", "src/worker/a.ts", `type X = import("../client/x.ts").X;`],
    ["client does not see a provider", "src/client/a.ts", `import { x } from "../providers/gemini/x.ts";`],
    ["stores do not see the pipeline", "src/stores/sqlite/a.ts", `import "../../pipeline/x.ts";`],
    ["an exception is for its file only", "src/client/connect-more.ts", `import { x } from "../stores/sqlite/x.ts";`],
    ["providers do not see a store", "src/providers/gemini/a.ts", `import { x } from "../../stores/sqlite/x.ts";`],
    ["the emulator shares nothing", "src/emulator/routes/a.ts", `import { x } from "../../core/x.ts";`],
    ["nobody imports the emulator", "src/cli/a.ts", `import { x } from "../emulator/x.ts";`],
    ["no other entry imports the emulator", "src/index.ts", `export { x } from "./emulator/x.ts";`],
    ["no other entry imports the test kits", "src/index.ts", `export { x } from "./testing/x.ts";`],
    ["test kits do not see the emulator", "src/testing/a.ts", `import { x } from "../emulator/x.ts";`],
    ["nothing imports an entry but the CLI", "src/client/a.ts", `import { x } from "../index.ts";`],
    ["the SDK only in providers", "src/client/a.ts", `import { GoogleGenAI } from "@google/genai";`],
    ["a subpath of the SDK too", "src/worker/a.ts", `import { x } from "@google/genai/node";`],
    ["hono only in the emulator", "src/client/a.ts", `import { Hono } from "hono";`],
    ["payload stores do not see a store", "src/payloads/a.ts", `import { x } from "../stores/x.ts";`],
    ["a client of objects only in its adapter", "src/payloads/file.ts", `const { S3Client } = await import("@aws-sdk/client-s3");`],
    [
      "tables of BigQuery only in their adapter",
      "src/providers/vertex/upload.ts",
      `const { BigQuery } = await import("@google-cloud/bigquery");`,
    ],
    ["not even its types elsewhere", "src/providers/gemini/a.ts", `import type { Storage } from "@google-cloud/storage";`],
    ["credentials in one place", "src/providers/vertex/client.ts", `import { GoogleAuth } from "google-auth-library";`],
    ["the database only in its store", "src/worker/a.ts", `import { DatabaseSync } from "node:sqlite";`],
    ["the database by require", "src/worker/a.ts", `const sqlite = require("node:sqlite");`],
    ["no import of itself by name", "src/cli/a.ts", `import { x } from "gembatch/sqlite";`],
    ["no undeclared package", "src/testing/a.ts", `import { it } from "vitest";`],
    ["no test as a library", "src/worker/a.ts", `import { x } from "./x.test.ts";`],
    ["nothing from outside src", "src/worker/a.ts", `import { x } from "../../test/x.ts";`],
    ["no computed import", "src/worker/a.ts", "const x = await import(`./${name}.ts`);"],
    ["a folder without a row", "src/misc/a.ts", ``],
    ["no timers module", "src/worker/a.ts", `import { setTimeout as sleep } from "node:timers/promises";`],
    ["no Date.now", "src/pipeline/a.ts", `const now = Date.now();`],
    ["no Date.now by reference", "src/pipeline/a.ts", `const now = Date.now;`],
    ["no Date.now by computed name", "src/pipeline/a.ts", `const now = Date["now"]();`],
    ["no new Date()", "src/worker/a.ts", `const now = new Date();`],
    ["no new Date without brackets", "src/worker/a.ts", `const now = new Date;`],
    ["no Date()", "src/worker/a.ts", `const now = Date();`],
    ["no setTimeout", "src/chain/a.ts", `setTimeout(() => {}, 1);`],
    ["no setTimeout of globalThis", "src/chain/a.ts", `globalThis.setTimeout(() => {}, 1);`],
    ["no setTimeout by shorthand", "src/chain/a.ts", `const timers = { setTimeout };`],
    ["no setInterval", "src/chain/a.ts", `setInterval(() => {}, 1);`],
    ["no Math.random", "src/stores/sqlite/a.ts", `const x = Math.random();`],
    ["no performance.now", "src/stores/sqlite/a.ts", `const x = performance.now();`],
    ["no performance.now of globalThis", "src/stores/sqlite/a.ts", `const x = globalThis.performance.now();`],
    ["no process.hrtime", "src/worker/a.ts", `const x = process.hrtime.bigint();`],
    ["no AbortSignal.timeout", "src/worker/a.ts", `fetch("x", { signal: AbortSignal.timeout(1) });`],
    ["no crypto.randomUUID", "src/client/a.ts", `const id = crypto.randomUUID();`],
  ];
  it.each(wrong)("%s", (_rule, path, source) => expect(violations(path, source, packages)).toHaveLength(1));

  const right: readonly [rule: string, path: string, source: string][] = [
    ["core imports core and pure builtins", "src/core/a.ts", `import { x } from "./x.ts"; import { createHash } from "node:crypto";`],
    [
      "core and chain see the SDK's types",
      "src/chain/a.ts",
      `import type { Models } from "@google/genai"; type X = import("@google/genai").Part;`,
    ],
    ["types out again", "src/core/a.ts", `export type { Models } from "@google/genai";`],
    ["the worker sees both below", "src/worker/a.ts", `import { x } from "../pipeline/x.ts"; import { y } from "../chain/y.ts";`],
    ["a provider has its SDK", "src/providers/gemini/a.ts", `import { GoogleGenAI } from "@google/genai";`],
    ["providers share what is no provider's own", "src/providers/vertex/a.ts", `import { x } from "../shared/x.ts";`],
    [
      "the emulator has its server",
      "src/emulator/a.ts",
      `import { Hono } from "hono"; import { x } from "./routes/x.ts"; const t = Date.now();`,
    ],
    ["the emulator's entry", "src/emulator.ts", `export { x } from "./emulator/x.ts";`],
    ["the test kits' entry", "src/testing.ts", `export { x } from "./testing/x.ts";`],
    ["the store has its database", "src/stores/sqlite/a.ts", `import { DatabaseSync } from "node:sqlite";`],
    ["the clock has the time", "src/worker/system-clock.ts", `const now = Date.now(); setTimeout(() => {}, 1); Math.random();`],
    ["tests may do anything", "src/core/a.test.ts", `import { x } from "../emulator/x.ts"; setTimeout(() => {}, Date.now());`],
    ["the CLI uses entries", "src/cli/a.ts", `import { Gembatch } from "../index.ts"; console.log(Date.now());`],
    ["a given time is not the present", "src/pipeline/a.ts", `const at = new Date(now).toISOString(); const ms = Date.parse(at);`],
    [
      "own words are not globals",
      "src/pipeline/a.ts",
      `clock.setTimeout(1); const a = { setTimeout: 1 }; interface B { setTimeout: number }`,
    ],
    [
      "comments and strings do not count",
      "src/core/a.ts",
      `// Date.now()\nconst a = "setTimeout(" + \`import x from "hono"\`; const b = /Math.random()/;`,
    ],
    ["types of globals do not count", "src/worker/a.ts", `type Timer = ReturnType<typeof setTimeout>;`],
  ];
  it.each(right)("but not: %s", (_rule, path, source) => expect(violations(path, source, packages)).toEqual([]));

  it("and has a reason", () => {
    for (const { reason } of [...layers, ...guarded, ...externals, ...uses]) expect(reason.length).toBeGreaterThan(10);
  });
});
