/**
 * The commands that `gembatch init` and `gembatch doctor` print: for the folder in which they were run, with the options that they were given.
 *
 * @module
 */
import { join, relative, resolve } from "node:path";
import type { GivenSettings } from "./settings.ts";

/** Of the command line, as it was typed. */
export interface GivenOptions extends GivenSettings {
  codebase?: string | undefined;
  dir?: string | undefined;
}

/** How the command was called, and on what. */
export interface Invocation {
  /** The folder in which it was run. */
  cwd: string;
  /** The folder of firebase.json. */
  root: string;
  /** The folder of the functions, relative to that. */
  folder: string;
  /** What `--project` must say: the alias whose dotenv file is used, else the id. */
  project: string;
  given: GivenOptions;
}

/** All that say what the commands are about, in the order of their help. */
const repeated = [
  "dir",
  "codebase",
  "provider",
  "bucket",
  "dataset",
  "location",
  "region",
  "database",
  "prefix",
  "service-account",
  "days",
] as const satisfies readonly (keyof GivenOptions)[];

/** `changed`: options instead of those that were given. */
export function gembatchCommand(invocation: Invocation, command: "init" | "doctor", changed: GivenOptions = {}): string {
  const { project, given } = invocation;
  const options = { ...given, ...changed };
  const words = repeated.flatMap((name) => (options[name] === undefined ? [] : [`--${name}`, quoted(options[name])]));
  return ["npx", ...inFunctions(invocation), "gembatch", command, "--project", quoted(project), ...words].join(" ");
}

export function installCommand(invocation: Invocation, packages: readonly string[]): string {
  return ["npm", "install", ...inFunctions(invocation), ...packages].join(" ");
}

/** `targets`: what the deploy is limited to. */
export function deployCommand({ cwd, root, project }: Invocation, targets: string): string {
  // The Firebase CLI looks for firebase.json from the current folder upwards.
  const path = pathFrom(cwd, root);
  const config = path === "" || /^\.\.(?:\/\.\.)*$/.test(path) ? [] : ["--config", quoted(`${path}/firebase.json`)];
  return ["firebase", "deploy", "--only", targets, "--project", quoted(project), ...config].join(" ");
}

/** What `firebase deploy --only` calls the functions of this codebase. */
export const deployTarget = (codebase: string): string => (codebase === "default" ? "functions" : `functions:${codebase}`);

/** The path of a file of the codebase, relative to the project's folder. */
export const inFolder = (folder: string, path: string): string => (folder === "" ? path : `${folder}/${path}`);

/** The name of the folder for people. */
export const folderText = (folder: string): string => `${folder || "."}/`;

/** As one word of a shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function inFunctions({ cwd, root, folder }: Invocation): string[] {
  const path = pathFrom(cwd, join(root, folder));
  return path === "" ? [] : ["--prefix", quoted(path)];
}

const pathFrom = (cwd: string, path: string): string => relative(resolve(cwd), path).replaceAll("\\", "/");
