/** Checks of the files of a Firebase project. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { folderText, gembatchCommand, inFolder, installCommand, type Invocation } from "../init/commands.ts";
import { addExports } from "../init/functions-source.ts";
import { defaultEnv, wantedEnv } from "../init/file-steps.ts";
import { mergeIndexes, type DeclaredIndexes } from "../init/indexes-file.ts";
import { firestoreFiles, type Codebase, type FirebaseProject } from "../init/project.ts";
import { mergeRules } from "../init/rules-file.ts";
import { readProjectEnv, twoEnvFiles, wantedPackages, type EnvFile, type Settings } from "../init/settings.ts";
import { failed, ok, warning, type Check } from "./checks.ts";

export interface LocalContext {
  project: FirebaseProject;
  codebase: Codebase;
  envFile: EnvFile;
  settings: Settings;
  invocation: Invocation;
  indexes: DeclaredIndexes;
  /** All collections of the store. */
  collections: readonly string[];
}

export function localChecks(context: LocalContext): Check[] {
  return [packagesCheck(context), exportsCheck(context), envCheck(context), indexesFileCheck(context), rulesFileCheck(context)];
}

const mendByInit = ({ invocation }: LocalContext) => gembatchCommand(invocation, "init");

function packagesCheck({ codebase: { folder, source }, settings, invocation }: LocalContext): Check {
  return {
    id: "packages",
    title: `packages of ${folderText(folder)}`,
    look: async () => {
      const missing = wantedPackages(settings).filter((name) => !(name in source.dependencies));
      if (missing.length > 0) return failed(`package.json lacks ${missing.join(", ")}`, installCommand(invocation, missing));
      const [first] = source.warnings;
      return first === undefined ? ok("all there") : warning(first);
    },
  };
}

function exportsCheck(context: LocalContext): Check {
  const { project, codebase, settings } = context;
  return {
    id: "exports",
    title: `exports of ${codebase.source.index === undefined ? folderText(codebase.folder) : inFolder(codebase.folder, codebase.source.index)}`,
    look: async () => {
      const { outcome } = addExports(join(project.root, codebase.folder), codebase.source, settings);
      return outcome === "already" ? ok("exports the functions") : failed("does not export the functions", mendByInit(context));
    },
  };
}

function envCheck(context: LocalContext): Check {
  const { project, codebase, envFile, settings } = context;
  return {
    id: "env",
    title: envFile.path,
    look: async () => {
      const values = readProjectEnv(project, codebase, envFile);
      const names = [...wantedEnv(settings).keys(), ...defaultEnv().keys()];
      const missing = names.filter((name) => !values.has(name));
      if (missing.length > 0) return failed(`does not set ${missing.join(", ")}`, mendByInit(context));
      const two = twoEnvFiles(envFile);
      return two === undefined ? ok(names.join(", ")) : warning(two.note, two.mend);
    },
  };
}

function indexesFileCheck(context: LocalContext): Check {
  const { project, settings, indexes } = context;
  const { indexes: path, hasIndexes } = firestoreFiles(project, settings.database);
  return {
    id: "indexes-file",
    title: path,
    look: async () => {
      const text = read(project.root, path);
      if (!hasIndexes || text === undefined) return failed("is not there, or firebase.json does not name it", mendByInit(context));
      return mergeIndexes(text, indexes, path).text === text
        ? ok(`declares ${indexes.indexes.length} indexes of gembatch`)
        : failed("lacks indexes or field settings of gembatch", mendByInit(context));
    },
  };
}

function rulesFileCheck(context: LocalContext): Check {
  const { project, settings, collections } = context;
  const { rules: path, hasRules } = firestoreFiles(project, settings.database);
  return {
    id: "rules-file",
    title: path,
    look: async () => {
      const text = read(project.root, path);
      if (!hasRules || text === undefined) return warning("is not there, or firebase.json does not name it", mendByInit(context));
      const { outcome, opensAll } = mergeRules(text, collections);
      if (opensAll)
        return warning("an allow for every collection opens gembatch's documents as well", "name your collections in that match");
      return outcome === "already" || outcome === undefined
        ? ok("opens none of gembatch's collections")
        : warning("does not close gembatch's collections by name", mendByInit(context));
    },
  };
}

function read(root: string, path: string): string | undefined {
  const file = join(root, path);
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}
