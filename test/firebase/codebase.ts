/**
 * A functions codebase in a folder of its own, with this package as npm would have put it there, for the tools that Firebase runs on it. It needs no network: dependencies are links to ours.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { compile, filesUnder, root } from "../../scripts/build.ts";
import { readManifest } from "../../scripts/pack.ts";

export interface Manifest {
  specVersion: string;
  endpoints: Record<string, Record<string, unknown>>;
  params?: { name: string; type: string; default?: unknown }[];
  requiredAPIs?: { api: string }[];
  requiredRoles?: unknown;
}

/** The functions of `examples/firebase`. */
export const exampleFunctions = join(root, "examples", "firebase", "functions");

/** A folder with `node_modules`, in which codebases are made. */
export class Codebases {
  readonly folder: string = mkdtempSync(join(tmpdir(), "gembatch-codebases-"));

  constructor() {
    const manifest = readManifest(root);
    const installed = join(this.folder, "node_modules", "gembatch");
    mkdirSync(installed, { recursive: true });
    const complaints = compile(join(installed, "dist"));
    if (!existsSync(join(installed, "dist", "firebase.js"))) throw new Error(complaints);
    const exports = { ...manifest.exports, "./firebase": entry("firebase"), "./firestore": entry("firestore") };
    writeFileSync(join(installed, "package.json"), JSON.stringify({ name: "gembatch", version: "0.0.0", type: "module", exports }));
    const wanted = [
      ...Object.keys(manifest.dependencies),
      ...Object.keys(manifest.peerDependencies ?? {}),
      "firebase-functions",
      "firebase-admin",
    ];
    for (const name of new Set([...wanted, "@google-cloud/firestore", "@types/node"])) this.#link(name);
  }

  /** Writes a codebase; returns its folder. */
  write(name: string, files: Readonly<Record<string, string>>): string {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(this.folder, name, path)), { recursive: true });
      writeFileSync(join(this.folder, name, path), text);
    }
    return join(this.folder, name);
  }

  /** The example, compiled against the package, with more files. Returns its folder; throws what tsc says. */
  writeExample(more: Readonly<Record<string, string>> = {}): string {
    const paths = ["package.json", "tsconfig.json", ...filesUnder(join(exampleFunctions, "src")).map((path) => `src/${path}`)];
    const texts = Object.fromEntries(paths.map((path) => [path, readFileSync(join(exampleFunctions, path), "utf8")]));
    const folder = this.write("functions", { ...texts, ...more });
    const tsc = spawnSync(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc")], { cwd: folder, encoding: "utf8" });
    if (tsc.status !== 0) throw new Error(tsc.stdout);
    return folder;
  }

  /** What a deployment learns of a codebase, by the SDK's own discovery, as `firebase deploy` runs it. */
  discover(codebase: string): Manifest {
    const output = join(codebase, "manifest.json");
    const bin = join(root, "node_modules", "firebase-functions", "lib", "bin", "firebase-functions.js");
    const { status, stderr } = spawnSync(process.execPath, [bin, "."], {
      cwd: codebase,
      encoding: "utf8",
      env: { PATH: process.env["PATH"], GCLOUD_PROJECT: "demo", FUNCTIONS_CONTROL_API: "true", FUNCTIONS_MANIFEST_OUTPUT_PATH: output },
    });
    if (status !== 0) throw new Error(stderr);
    if (stderr !== "") throw new Error(`Discovery said: ${stderr}`);
    return JSON.parse(readFileSync(output, "utf8")) as Manifest;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #link(name: string): void {
    const to = join(this.folder, "node_modules", name);
    const from = join(root, "node_modules", name);
    if (!existsSync(from)) return;
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(from, to, "junction");
  }
}

const entry = (name: string) => ({ types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` });
