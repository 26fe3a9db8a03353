/** Checks of the files of a Firebase project. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { addExports } from "../init/functions-source.ts";
import { wantedEnv } from "../init/file-steps.ts";
import { mergeIndexes, type DeclaredIndexes } from "../init/indexes-file.ts";
import { firestoreFiles, type Codebase, type FirebaseProject } from "../init/project.ts";
import { mergeRules } from "../init/rules-file.ts";
import { envFileOf, readProjectEnv, wantedPackages, type Settings } from "../init/settings.ts";
import { failed, ok, warning, type Check } from "./checks.ts";

export interface LocalContext {
  project: FirebaseProject;
  codebase: Codebase;
  settings: Settings;
  indexes: DeclaredIndexes;
  /** All collections of the store. */
  collections: readonly string[];
}

export function localChecks(context: LocalContext): Check[] {
  return [packagesCheck(context), exportsCheck(context), envCheck(context), indexesFileCheck(context), rulesFileCheck(context)];
}

const mendByInit = ({ settings }: LocalContext) => `npx gembatch init --project ${settings.project}`;

function packagesCheck({ codebase: { folder, source }, settings }: LocalContext): Check {
  return {
    id: "packages",
    title: `packages of ${folder}/`,
    look: async () => {
      const missing = wantedPackages(settings).filter((name) => !(name in source.dependencies));
      if (missing.length > 0)
        return failed(`package.json lacks ${missing.join(", ")}`, `npm install --prefix ${folder} ${missing.join(" ")}`);
      const [first] = source.warnings;
      return first === undefined ? ok("all there") : warning(first);
    },
  };
}

function exportsCheck(context: LocalContext): Check {
  const { project, codebase, settings } = context;
  return {
    id: "exports",
    title: `exports of ${codebase.folder}/${codebase.source.index ?? ""}`,
    look: async () => {
      const { outcome } = addExports(join(project.root, codebase.folder), codebase.source, settings);
      return outcome === "already" ? ok("exports the functions") : failed("does not export the functions", mendByInit(context));
    },
  };
}

function envCheck(context: LocalContext): Check {
  const { project, codebase, settings } = context;
  return {
    id: "env",
    title: envFileOf(project, codebase, settings.project),
    look: async () => {
      const values = readProjectEnv(project, codebase, settings.project);
      const missing = [...wantedEnv(settings).keys()].filter((name) => !values.has(name));
      return missing.length === 0
        ? ok([...wantedEnv(settings).keys()].join(", "))
        : failed(`does not set ${missing.join(", ")}`, mendByInit(context));
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
