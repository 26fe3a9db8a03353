/**
 * The source of a functions codebase: which file exports its functions, in which language, and what would be added to it.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { defaults, functionNames, payloadFolder } from "./facts.ts";
import type { Settings } from "./settings.ts";

export interface Source {
  language: "TypeScript" | "JavaScript";
  modules: "ESM" | "CommonJS";
  /** The file that exports the functions, relative to the codebase; `undefined` if none was found. */
  index: string | undefined;
  /** Dependencies by name, as package.json has them. */
  dependencies: Readonly<Record<string, string>>;
  /** Something that would keep gembatch from working there, as a sentence. */
  warnings: readonly string[];
}

/** What our file is given. */
export type Snippet = Pick<Settings, "provider" | "database" | "prefix" | "bucket" | "hearsOutputs" | "serviceAccount">;

export interface SourceChange {
  /** Files relative to the codebase with their texts. Empty: it is so already, or not safely editable. */
  files: Readonly<Record<string, string>>;
  outcome: "already" | "added" | "by hand";
  /** Why it is by hand. */
  why?: string;
  /** What to add by hand. */
  show?: string;
}

/** Looks at package.json, tsconfig.json and the usual places of the index file. */
export function readSource(folder: string): Source {
  const manifest = readJson(join(folder, "package.json")) as {
    main?: string;
    type?: string;
    dependencies?: Record<string, string>;
    engines?: { node?: string };
  };
  const isTypeScript = existsSync(join(folder, "tsconfig.json")) || existsSync(join(folder, "src/index.ts"));
  const main = (manifest.main ?? "index.js").replace(/^\.\//, "");
  const candidates = isTypeScript ? sourcesOf(main) : [main, "index.js", "index.mjs", "src/index.js"];
  const index = candidates.find((path) => existsSync(join(folder, path)));
  const isModule = index?.endsWith(".mjs") || index?.endsWith(".mts") || (manifest.type === "module" && !/\.c[jt]s$/.test(index ?? ""));
  return {
    language: isTypeScript ? "TypeScript" : "JavaScript",
    modules: isModule ? "ESM" : "CommonJS",
    index,
    dependencies: manifest.dependencies ?? {},
    warnings: warningsOf(folder, manifest.engines?.node),
  };
}

/** Where the source of a compiled file may be: `lib/index.js` comes from `src/index.ts`. */
function sourcesOf(main: string): string[] {
  const name = main.replace(/^(?:lib|dist|build|out)\//, "").replace(/\.[cm]?js$/, "");
  return [`src/${name}.ts`, `src/${name}.mts`, `${name}.ts`, "src/index.ts", "src/main.ts", "index.ts"];
}

function warningsOf(folder: string, node: string | undefined): string[] {
  const warnings: string[] = [];
  const major = /^\D*(\d+)/.exec(node ?? "")?.[1];
  if (major !== undefined && Number(major) < 22)
    warnings.push(`package.json asks for Node ${node}: gembatch needs 22 or 24 ("engines": { "node": "22" }).`);
  const config = existsSync(join(folder, "tsconfig.json")) ? readFileSync(join(folder, "tsconfig.json"), "utf8") : "";
  const resolution = /"moduleResolution"\s*:\s*"(\w+)"/.exec(config)?.[1]?.toLowerCase();
  const module = /"module"\s*:\s*"(\w+)"/.exec(config)?.[1]?.toLowerCase();
  const isOld =
    resolution === "node" || resolution === "node10" || (resolution === undefined && module === "commonjs") || module === "node16";
  if (isOld)
    warnings.push(
      'tsconfig.json resolves modules in a way that does not find gembatch: set "module": "NodeNext" and "moduleResolution": "NodeNext".',
    );
  return warnings;
}

/** What is added so that the functions are exported; nothing of what is there is changed. */
export function addExports(folder: string, source: Source, snippet: Snippet): SourceChange {
  const { index } = source;
  const isTs = source.language === "TypeScript";
  const isEsm = isTs || source.modules === "ESM";
  const show = `${ownFile(snippet, isEsm)}\n// in the index file:\n${exportLine(snippet, isEsm, "./gembatch.js")}\n`;
  if (index === undefined) return { files: {}, outcome: "by hand", why: "the file that exports the functions was not found", show };
  const text = readFileSync(join(folder, index), "utf8");
  const code = withoutComments(text);
  if (
    functionNames.some((name) => new RegExp(`\\b${name}\\b`).test(code)) ||
    /from ["']\.\/gembatch\.js["']|require\(["']\.\/gembatch(?:\.[cm]?js)?["']\)/.test(code)
  )
    return { files: {}, outcome: "already" };
  const speaksEsm = /^\s*(?:import\s*[\w{*"']|export\s+(?:\*|\{|const|let|default|async|function|class|import))/m.test(code);
  const speaksCommonJs = /\bmodule\.exports\b|^\s*exports\.\w+\s*=|^\s*export\s*=/m.test(code);
  if ((isEsm && speaksCommonJs) || (!isEsm && speaksEsm))
    return { files: {}, outcome: "by hand", why: `${index} mixes import and require, or is built from something else`, show };
  const extension = /\.[cm]?[jt]s$/.exec(index)![0];
  const own = `${index.slice(0, index.length - /[^/]*$/.exec(index)![0].length)}gembatch${extension}`;
  const ownExists = existsSync(join(folder, own));
  if (ownExists && !/gembatchFunctions\s*\(/.test(readFileSync(join(folder, own), "utf8")))
    return { files: {}, outcome: "by hand", why: `${own} is there and is not ours`, show };
  const eol = text.includes("\r\n") ? "\r\n" : "\n";
  const specifier = `./gembatch${extension.replace("t", "j")}`;
  const ending = text === "" || text.endsWith("\n") ? "" : eol;
  return {
    files: {
      ...(ownExists ? {} : { [own]: ownFile(snippet, isEsm).replaceAll("\n", eol) }),
      [index]: `${text}${ending}${text.trim() === "" ? "" : eol}${exportLine(snippet, isEsm, specifier)}${eol}`,
    },
    outcome: "added",
  };
}

/** Whether the code that defines the functions is there, and stays as it is. */
export function keepsCode({ outcome, files }: SourceChange): boolean {
  return outcome === "already" || (outcome === "added" && Object.keys(files).length === 1);
}

/** The text of the file that exports the functions, without comments. */
export function readIndex(folder: string, { index }: Source): string {
  return index === undefined ? "" : withoutComments(readFileSync(join(folder, index), "utf8"));
}

/** The text of all code that lies where that file is, without comments. */
export function readCode(folder: string, { index }: Source): string {
  if (index === undefined) return "";
  const at = join(folder, dirname(index));
  const texts = (path: string): string[] =>
    readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
      if (entry.name.startsWith(".") || entry.name === "node_modules") return [];
      if (entry.isDirectory()) return texts(join(path, entry.name));
      return entry.isFile() && /\.[cm]?[jt]s$/.test(entry.name) ? [withoutComments(readFileSync(join(path, entry.name), "utf8"))] : [];
    });
  return texts(at).join("\n");
}

/** The names that are exported: the third hears of outputs in the bucket. */
function namesOf({ hearsOutputs }: Snippet): string {
  const [work, sweep, output] = functionNames;
  return [work, sweep, ...(hearsOutputs ? [output] : [])].join(", ");
}

function exportLine(snippet: Snippet, isEsm: boolean, specifier: string): string {
  return isEsm
    ? `export { ${namesOf(snippet)} } from "${specifier}";`
    : `Object.assign(module.exports, require("${specifier}").functions);`;
}

/** `true` stands for the parameter, which is a bare name for the trigger's sake; a folder of one's own cannot be in it. */
function triggerBucket({ name, folder }: NonNullable<Snippet["bucket"]>): string {
  return folder === defaults.folder ? "true" : JSON.stringify(`gs://${name}/${folder}`);
}

/** An object of options; empty without any. */
export function optionsText(...entries: (readonly [name: string, value: string | undefined])[]): string {
  const given = entries.filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}`);
  return given.length === 0 ? "" : `{ ${given.join(", ")} }`;
}

/** The file that holds the instance, where chains are registered. It is not the index: what that exports is taken for functions. */
function ownFile(snippet: Snippet, isEsm: boolean): string {
  const { provider, database, prefix, bucket, hearsOutputs, serviceAccount } = snippet;
  const store = optionsText(
    ["databaseId", database === defaults.database ? undefined : JSON.stringify(database)],
    ["prefix", prefix === defaults.prefix ? undefined : JSON.stringify(prefix)],
  );
  const payloads = bucket && optionsText(["bucket", JSON.stringify(bucket.name)], ["prefix", JSON.stringify(payloadFolder(bucket.folder))]);
  const options = optionsText(
    ["bucket", bucket && hearsOutputs ? triggerBucket(bucket) : undefined],
    ["secrets", provider === "gemini" ? JSON.stringify([defaults.secret]) : undefined],
    ["serviceAccount", serviceAccount === undefined ? undefined : JSON.stringify(serviceAccount)],
  );
  const imports = [
    ["Gembatch", "gembatch"],
    ["gembatchFunctions", "gembatch/firebase"],
    ["firestore", "gembatch/firestore"],
    ...(payloads === undefined ? [] : [["cloudStoragePayloads", "gembatch/payloads"]]),
  ].map(([name, from]) => (isEsm ? `import { ${name} } from "${from}";` : `const { ${name} } = require("${from}");`));
  const instance = [
    `${isEsm ? "export " : ""}const gembatch = new Gembatch({`,
    `  store: firestore(${store}),`,
    "  // Workers run by tasks, never by themselves in the background.",
    "  autoWorker: false,",
    '  polling: { minInterval: "30s", maxInterval: "10m" },',
    ...(payloads === undefined
      ? []
      : ["  // A document holds at most 1 MiB.", `  payloads: { store: cloudStoragePayloads(${payloads}), threshold: 262_144 },`]),
    "});",
  ];
  const call = `gembatchFunctions(gembatch${options === "" ? "" : `, ${options}`})`;
  const body = [
    ...(isEsm ? [] : ['"use strict";', ""]),
    ...imports,
    "",
    "// Chains and handlers are registered on it: here, or in modules that import it from here and are imported by the index file.",
    ...instance,
    "",
    ...(isEsm
      ? [`export const { ${namesOf(snippet)} } = ${call};`]
      : [`const { ${namesOf(snippet)} } = ${call};`, `module.exports = { gembatch, functions: { ${namesOf(snippet)} } };`]),
  ];
  return `${body.join("\n")}\n`;
}

const withoutComments = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|(?<![:"'`])\/\/[^\n]*/g, "");

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
}
