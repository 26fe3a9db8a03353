/**
 * A Firebase project on disk: `firebase.json`, `.firebaserc`, codebases of functions, where Firestore's files are.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { GembatchError } from "../../core/errors.ts";
import { memberOf, parseJsonText, setMember, appendItem, valueOf, wrapInArray, type JsonNode, type JsonObject } from "./json-edit.ts";
import { readSource, type Source } from "./functions-source.ts";

export interface Codebase {
  name: string;
  /** Relative to the project's folder, with forward slashes. */
  folder: string;
  /** Put before the name of every function, with a hyphen. */
  prefix: string | undefined;
  source: Source;
}

export interface FirebaseProject {
  /** The folder of firebase.json. */
  root: string;
  /** The text of firebase.json. */
  text: string;
  /** Project ids by alias. */
  aliases: Readonly<Record<string, string>>;
  codebases: readonly Codebase[];
}

/** The nearest folder from here upwards with a firebase.json. */
export function findRoot(folder: string): string | undefined {
  for (let at = resolve(folder); ; at = dirname(at)) {
    if (existsSync(join(at, "firebase.json"))) return at;
    if (dirname(at) === at) return undefined;
  }
}

/** Reads the project that this folder is in. Throws `invalid_option` if there is none, or if its files cannot be read. */
export function readProject(folder: string): FirebaseProject {
  const root = findRoot(folder);
  if (root === undefined) {
    throw new GembatchError("invalid_option", `There is no firebase.json in ${resolve(folder)} or above.`, {
      hint: "Make a project with: firebase init functions firestore. Or name its folder with --dir.",
    });
  }
  const text = readFileSync(join(root, "firebase.json"), "utf8");
  const config = parseJsonText(text, "firebase.json");
  return { root, text, aliases: readAliases(root), codebases: readCodebases(root, memberOf(config, "functions")) };
}

function readAliases(root: string): Record<string, string> {
  const path = join(root, ".firebaserc");
  if (!existsSync(path)) return {};
  const { projects = {} } = valueOf(parseJsonText(readFileSync(path, "utf8"), ".firebaserc")) as { projects?: Record<string, string> };
  return projects;
}

function readCodebases(root: string, node: JsonNode | undefined): Codebase[] {
  const entries = (node === undefined ? [] : [valueOf(node)].flat()) as { source?: string; codebase?: string; prefix?: string }[];
  return (
    entries
      // In a list, an entry without a folder is a kit, or comes from elsewhere.
      .filter(({ source }) => source !== undefined || node?.kind === "object")
      .map(({ source = "functions", codebase = "default", prefix }) => ({
        name: codebase,
        folder: relative(root, resolve(root, source)).replaceAll("\\", "/"),
        prefix: prefix || undefined,
        source: readSource(resolve(root, source)),
      }))
      .filter(({ folder }) => existsSync(join(root, folder, "package.json")))
  );
}

export interface ChosenProject {
  id: string;
  /** The alias by which it was named, if it was. */
  alias: string | undefined;
}

/** The project that was asked for: by id, by alias, what `firebase use` chose for this folder, the default of .firebaserc, or that of the environment. */
export function chooseProject({ root, aliases }: FirebaseProject, asked: string | undefined, env: NodeJS.ProcessEnv): ChosenProject {
  const byName = (name: string): ChosenProject => {
    const id = aliases[name];
    return { id: id ?? name, alias: id === undefined ? undefined : name };
  };
  const chosen = asked ?? activeProject(root, env);
  if (chosen !== undefined) return byName(chosen);
  if (aliases["default"] !== undefined) return byName("default");
  const found = env["GCLOUD_PROJECT"] ?? env["GOOGLE_CLOUD_PROJECT"];
  if (found !== undefined && found !== "") return { id: found, alias: undefined };
  const names = Object.entries(aliases).map(([alias, id]) => `${alias} (${id})`);
  if (names.length === 1) return byName(Object.keys(aliases)[0]!);
  throw new GembatchError(
    "invalid_option",
    names.length === 0 ? "There is no project in .firebaserc." : "There is no default project in .firebaserc.",
    {
      hint: names.length === 0 ? "Name it: --project ID. Or run: firebase use --add" : `Choose one with --project: ${names.join(", ")}.`,
    },
  );
}

/** Where the Firebase CLI keeps what `firebase use` chose, by folder. */
function activeProject(root: string, env: NodeJS.ProcessEnv): string | undefined {
  const folder = env["XDG_CONFIG_HOME"] ?? (env["HOME"] === undefined ? undefined : join(env["HOME"], ".config"));
  if (folder === undefined) return undefined;
  try {
    const store = JSON.parse(readFileSync(join(folder, "configstore", "firebase-tools.json"), "utf8")) as {
      activeProjects?: Record<string, string>;
    };
    return store.activeProjects?.[root];
  } catch {
    // It is not there, or not ours to judge.
    return undefined;
  }
}

/** The codebase that was asked for, else the only one, the one that uses gembatch, or the default one. Throws `invalid_option`. */
export function chooseCodebase({ codebases }: FirebaseProject, asked: string | undefined): Codebase {
  const names = codebases.map(({ name }) => name).join(", ");
  if (codebases.length === 0) {
    throw new GembatchError("invalid_option", "firebase.json names no functions whose folder has a package.json.", {
      hint: "Make them with: firebase init functions",
    });
  }
  if (asked !== undefined) {
    const found = codebases.find(({ name }) => name === asked);
    if (found) return found;
    throw new GembatchError("invalid_option", `There is no codebase "${asked}" in firebase.json.`, { hint: `Known: ${names}.` });
  }
  const users = codebases.filter(({ source }) => "gembatch" in source.dependencies);
  const chosen = codebases.length === 1 ? codebases[0] : users.length === 1 ? users[0] : codebases.find(({ name }) => name === "default");
  if (chosen) return chosen;
  throw new GembatchError("invalid_option", "firebase.json has several codebases of functions.", {
    hint: `Choose one with --codebase: ${names}.`,
  });
}

export interface FirestoreFiles {
  /** Relative to the project's folder. */
  indexes: string;
  rules: string;
  /** Whether firebase.json names them already. */
  hasIndexes: boolean;
  hasRules: boolean;
}

/** Whether what is deployed is to go into a file: it is not there, or is not what a deploy takes. */
export function needsDeployed(project: Pick<FirebaseProject, "root" | "text">, database: string): { indexes: boolean; rules: boolean } {
  const { indexes, rules, hasIndexes, hasRules } = firestoreFiles(project, database);
  const isThere = (path: string): boolean => existsSync(join(project.root, path));
  return { indexes: !hasIndexes || !isThere(indexes), rules: !hasRules || !isThere(rules) };
}

/** The files of this database, as firebase.json names them or as it would. */
export function firestoreFiles(project: Pick<FirebaseProject, "text">, database: string): FirestoreFiles {
  const entry = firestoreEntry(parseJsonText(project.text, "firebase.json"), database);
  const given = (entry === undefined ? {} : valueOf(entry)) as { rules?: string; indexes?: string };
  const stem = database === "(default)" ? "firestore" : `firestore.${database}`;
  return {
    indexes: given.indexes ?? `${stem}.indexes.json`,
    rules: given.rules ?? `${stem}.rules`,
    hasIndexes: given.indexes !== undefined,
    hasRules: given.rules !== undefined,
  };
}

const databaseOf = (entry: JsonNode): unknown => {
  const node = memberOf(entry, "database");
  return node === undefined ? "(default)" : valueOf(node);
};

function firestoreEntry(config: JsonNode, database: string): JsonObject | undefined {
  const node = memberOf(config, "firestore");
  const entries = node?.kind === "array" ? node.items : node === undefined ? [] : [node];
  return entries.find((entry): entry is JsonObject => entry.kind === "object" && databaseOf(entry) === database);
}

/** firebase.json with these files named for this database. */
export function nameFirestoreFiles(text: string, database: string, files: { indexes?: string; rules?: string }): string {
  const config = parseJsonText(text, "firebase.json") as JsonObject;
  const node = memberOf(config, "firestore");
  const entry = firestoreEntry(config, database);
  if (entry !== undefined) {
    let changed = text;
    for (const [key, path] of Object.entries(files)) {
      const again = firestoreEntry(parseJsonText(changed, "firebase.json"), database);
      if (again !== undefined && memberOf(again, key) === undefined) changed = setMember(changed, again, key, path);
    }
    return changed;
  }
  const ours = { ...(database === "(default)" && node === undefined ? {} : { database }), ...files };
  if (node === undefined) return setMember(text, config, "firestore", ours);
  if (node.kind === "array") return appendItem(text, node, ours);
  // Alone it may leave its database out, in a list the Firebase CLI refuses that.
  const named = node.kind === "object" && memberOf(node, "database") === undefined ? setMember(text, node, "database", "(default)") : text;
  return wrapInArray(named, memberOf(parseJsonText(named, "firebase.json"), "firestore")!, ours);
}
