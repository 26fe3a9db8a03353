/**
 * Packs the package as `npm publish` would, from a staging folder: the tree's own `dist` stays as it is.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { compile, root } from "./build.ts";

export interface Packed {
  tarball: string;
  /** Where the packed files lie unpacked (with a few more that were not packed). */
  stage: string;
  /** Paths inside the package, as npm lists them. */
  files: string[];
}

export interface Manifest {
  name: string;
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
  files: string[];
  engines: { node: string };
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  peerDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

export const readManifest = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

/** Runs npm with the running Node and gives its standard output; throws with everything it said when it fails. */
export function npm(args: string[], cwd: string): string {
  const { npm_execpath: cli, ...env } = process.env;
  const known = cli !== undefined && /npm-cli\.[cm]?js$/.test(cli);
  const [command, first] = known ? [process.execPath, [cli]] : ["npm", []];
  const { status, stdout, stderr, error } = spawnSync(command, [...first, ...args], { cwd, env, encoding: "utf8" });
  if (status !== 0) throw new Error(`npm ${args.join(" ")} failed: ${error?.message ?? ""}\n${stdout}${stderr}`);
  return stdout;
}

/** Builds and packs into `folder`. Type errors are thrown: a package that does not compile is not packed. */
export function pack(folder: string): Packed {
  const stage = join(folder, "stage");
  mkdirSync(stage, { recursive: true });
  const complaints = compile(join(stage, "dist"));
  if (complaints !== undefined) throw new Error(`the build failed:\n${complaints}`);
  for (const name of ["package.json", "README.md", "LICENSE"])
    if (existsSync(join(root, name))) cpSync(join(root, name), join(stage, name));
  const listing: unknown = JSON.parse(npm(["pack", "--json", "--ignore-scripts", "--pack-destination", folder], stage));
  // npm 12 and later answer with an object by package name, earlier ones with a list.
  const [entry] = Object.values(listing as Record<string, { filename: string; files: { path: string }[] }>);
  if (entry === undefined) throw new Error("npm pack listed nothing");
  return { tarball: join(folder, entry.filename), stage, files: entry.files.map((file) => file.path).toSorted() };
}
