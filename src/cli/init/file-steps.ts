/**
 * The steps that change files of the project.
 *
 * @module
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { codeOnlyWarning, deafWarning, orderWarning, takesBareBucket, type ExistingCode } from "./code-warnings.ts";
import { folderText, inFolder } from "./commands.ts";
import { mergeEnv } from "./env-file.ts";
import { defaults } from "./facts.ts";
import { addExports, keepsCode, readCode, readIndex, type SourceChange } from "./functions-source.ts";
import { mergeIndexes, type DeclaredIndexes } from "./indexes-file.ts";
import { firestoreFiles, nameFirestoreFiles, needsDeployed, type Codebase, type FirebaseProject } from "./project.ts";
import { closedRules, mergeRules } from "./rules-file.ts";
import { readProjectEnv, twoEnvFiles, type EnvFile, type GivenSettings, type Settings } from "./settings.ts";
import type { Finding, Step } from "./steps.ts";

/** What is deployed and not yet in files of the project: a file that is new must hold it, or the next deploy would take it away. `undefined`: it could not be read. */
export interface Deployed {
  indexes: DeclaredIndexes | undefined;
  /** `null`: none were ever deployed. */
  rules: string | null | undefined;
}

export interface FileContext {
  project: FirebaseProject;
  codebase: Codebase;
  envFile: EnvFile;
  settings: Settings;
  /** Of the command line. */
  given: GivenSettings;
  indexes: DeclaredIndexes;
  /** All collections of the store. */
  collections: readonly string[];
  deployed: Deployed;
}

/** A file as it is and as it would be. */
interface Change {
  id: string;
  title: string;
  /** Texts by path, relative to the project's folder. */
  files: Readonly<Record<string, string>>;
  finding: Finding;
}

/** Steps and what is to be known besides. */
export function planFiles(context: FileContext): { steps: Step[]; warnings: string[] } {
  const { codebase, envFile, settings, given } = context;
  const folder = join(context.project.root, codebase.folder);
  const source = addExports(folder, codebase.source, settings);
  const name = inFolder(codebase.folder, codebase.source.index ?? "");
  const code: ExistingCode | undefined = keepsCode(source) ? { name, text: readCode(folder, codebase.source) } : undefined;
  const rules = changeRules(context);
  const names = firestoreFiles(context.project, context.settings.database);
  const changes = [
    changeIndexes(context),
    rules.change,
    changeFirebaseJson(context, { indexes: names.indexes, ...(rules.isManaged ? { rules: names.rules } : {}) }),
    changeEnv(context, code !== undefined && takesBareBucket(code.text)),
    changeIndexFile(codebase, source),
  ];
  const { root } = context.project;
  const steps = changes.map(({ id, title, files, finding }): Step => ({
    id,
    area: "files",
    title,
    look: async () => finding,
    apply: async () => {
      for (const [path, text] of Object.entries(files)) writeWhole(join(root, path), text);
    },
  }));
  const isDeaf = settings.provider === "vertex" && settings.bucket !== undefined && !settings.hearsOutputs;
  // CommonJS, also what TypeScript makes of it, runs in the order of its lines.
  const order = source.outcome === "by hand" || codebase.source.modules !== "ESM" ? undefined : source.outcome;
  const isBlind = needsDeployed(context.project, settings.database).indexes && context.deployed.indexes === undefined;
  const compare = `${names.indexes} is new, and what is deployed could not be read: before you deploy, compare it with: firebase firestore:indexes`;
  const two = twoEnvFiles(envFile);
  const warnings = [
    ...rules.warnings,
    isBlind ? compare : undefined,
    isDeaf ? deafWarning(code, settings) : undefined,
    code && codeOnlyWarning(code, settings, given),
    order && orderWarning({ name, text: readIndex(folder, codebase.source) }, order),
    two && `${two.note}: ${two.mend}`,
    ...codebase.source.warnings,
  ];
  return { steps, warnings: warnings.filter((warning) => warning !== undefined) };
}

function changeIndexes({ project, settings, indexes, deployed }: FileContext): Change {
  const { indexes: path } = firestoreFiles(project, settings.database);
  const before = read(project.root, path);
  const kept = needsDeployed(project, settings.database).indexes ? deployed.indexes : undefined;
  const base = kept === undefined ? (before ?? "") : mergeIndexes(before ?? "", kept, path).text;
  const { text, addedIndexes, addedFields, updatedFields } = mergeIndexes(base, indexes, path);
  const parts = [
    count(addedIndexes, "index", "indexes"),
    count(addedFields, "field setting"),
    updatedFields === 0 ? "" : `${count(updatedFields, "field setting")} brought up to date`,
    kept === undefined || (before !== undefined && base === before)
      ? ""
      : `with the ${count(kept.indexes.length, "index", "indexes") || "settings"} deployed before`,
  ].filter((part) => part !== "");
  const total = `${count(indexes.indexes.length, "index", "indexes")} and ${count(indexes.fieldOverrides.length, "field setting")} of gembatch`;
  const finding: Finding = text === before ? { state: "already", note: total } : { state: "planned", note: `adds ${parts.join(", ")}` };
  return { id: "indexes", title: path, files: { [path]: text }, finding };
}

function changeRules({ project, settings, collections, deployed }: FileContext): {
  change: Change;
  warnings: string[];
  isManaged: boolean;
} {
  const { rules: path, hasRules } = firestoreFiles(project, settings.database);
  const before = read(project.root, path);
  const isKept = !needsDeployed(project, settings.database).rules;
  const base = isKept ? before : deployed.rules === null ? closedRules : deployed.rules;
  const byHand = (note: string) => ({
    change: { id: "rules", title: path, files: {}, finding: { state: "by hand" as const, note } },
    warnings: [],
    isManaged: false,
  });
  if (base === undefined)
    return byHand(
      `${hasRules ? "is missing" : "firebase.json names no rules"}, and the deployed ones cannot be read now: run this again with a connection`,
    );
  if (!hasRules && before !== undefined)
    return byHand(`is there, but firebase.json does not name it: add "rules": "${path}" if it is what is deployed, then run this again`);
  const { text, outcome, opensAll } = mergeRules(base, collections);
  if (outcome === undefined)
    return {
      ...byHand("has no match /databases/{database}/documents, so nothing was added; rules deny what they do not allow"),
      isManaged: hasRules,
    };
  const notes = {
    already: "closes gembatch's collections",
    added: "closes gembatch's collections to all but the server",
    updated: "closes gembatch's collections as of now",
  };
  const how = isKept ? "" : base === closedRules ? ", and all others: none were deployed" : ", the rest as deployed";
  const finding: Finding = { state: text === before ? "already" : "planned", note: notes[outcome] + how };
  return {
    change: { id: "rules", title: path, files: { [path]: text }, finding },
    isManaged: true,
    warnings: opensAll
      ? [
          `${path} has an allow for every collection. Rules are joined by OR, so it opens gembatch's documents as well: match your collections by name, or add "&& !collection.matches('${settings.prefix}_.*')" to it.`,
        ]
      : [],
  };
}

function changeFirebaseJson({ project, settings }: FileContext, files: { indexes: string; rules?: string }): Change {
  const text = nameFirestoreFiles(project.text, settings.database, files);
  const names = Object.values(files).join(" and ");
  const finding: Finding =
    text === project.text ? { state: "already", note: `names ${names}` } : { state: "planned", note: `will name ${names}` };
  return { id: "firebase.json", title: "firebase.json", files: { "firebase.json": text }, finding };
}

/** What the functions find in their environment. `isBare`: the trigger in their code takes the name of the bucket from there, so no folder can be in it. */
export function wantedEnv({ provider, bucket, dataset, location, region }: Settings, isBare = false): Map<string, string> {
  const values = new Map<string, string>([
    ["GEMBATCH_PROVIDER", provider],
    ["GEMBATCH_REGION", region],
  ]);
  // A bare name where that says it all: the trigger of the bucket takes no other.
  if (bucket)
    values.set(
      "GEMBATCH_VERTEX_BUCKET",
      isBare || bucket.folder === defaults.folder ? bucket.name : `gs://${bucket.name}/${bucket.folder}`,
    );
  if (dataset !== undefined) values.set("GEMBATCH_VERTEX_DATASET", dataset);
  if (provider === "vertex") values.set("GOOGLE_CLOUD_LOCATION", location);
  return values;
}

/** Parameters of the functions that nothing else says: set where they are not, since a deploy without a terminal takes no defaults. */
export function defaultEnv(): Map<string, string> {
  return new Map([
    ["GEMBATCH_MEMORY_MB", String(defaults.memoryMb)],
    ["GEMBATCH_MAX_INSTANCES", String(defaults.maxInstances)],
  ]);
}

function changeEnv({ project, codebase, envFile, settings }: FileContext, isBare: boolean): Change {
  const { path } = envFile;
  const before = read(project.root, path);
  const present = readProjectEnv(project, codebase, envFile);
  const wanted = new Map([...wantedEnv(settings, isBare), ...[...defaultEnv()].filter(([name]) => !present.has(name))]);
  const text = mergeEnv(before ?? "", wanted);
  const names = [...new Set([...wanted.keys(), ...defaultEnv().keys()])].join(", ");
  const finding: Finding = text === before ? { state: "already", note: names } : { state: "planned", note: `sets ${names}` };
  return { id: "env", title: path, files: { [path]: text }, finding };
}

function changeIndexFile({ folder, source }: Codebase, { files, outcome, why, show }: SourceChange): Change {
  const title = source.index === undefined ? folderText(folder) : inFolder(folder, source.index);
  const made = Object.keys(files).filter((path) => path !== source.index);
  const findings: Record<typeof outcome, Finding> = {
    already: { state: "already", note: "exports the functions" },
    added: {
      state: "planned",
      note: `exports the functions${made.length === 0 ? "" : `, from ${made.map((path) => inFolder(folder, path)).join(", ")}`}`,
    },
    "by hand": { state: "by hand", note: `${why}: add this yourself`, ...(show === undefined ? {} : { show }) },
  };
  const placed = Object.fromEntries(Object.entries(files).map(([path, text]) => [inFolder(folder, path), text]));
  return { id: "exports", title, files: placed, finding: findings[outcome] };
}

function count(n: number, one: string, many = `${one}s`): string {
  return n === 0 ? "" : `${n} ${n === 1 ? one : many}`;
}

function read(root: string, path: string): string | undefined {
  const file = join(root, path);
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** The file appears whole or not at all. */
function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const beside = `${path}.gembatch-new`;
  writeFileSync(beside, text);
  renameSync(beside, path);
}
