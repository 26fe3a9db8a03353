/**
 * Builds `dist` from `src` with tsc, and only when something changed. Files go over one by one and only where
 * they differ, so that a build does not disturb a process that is running from `dist`.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export const root = join(import.meta.dirname, "..");

/** The files under `folder`, relative to it, sorted, with forward slashes. */
export function filesUnder(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    )
    .toSorted();
}

/** Compiles into `outDir`; returns tsc's complaints, or undefined when there are none. */
export function compile(outDir: string): string | undefined {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const args = [tsc, "-p", join(root, "tsconfig.build.json"), "--outDir", outDir, "--pretty", process.stderr.isTTY ? "true" : "false"];
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  const main = join(outDir, "cli", "main.js");
  if (existsSync(main)) chmodSync(main, 0o755);
  if (status === 0) return undefined;
  return error?.message ?? (stdout + stderr).trim();
}

function sourceHash(): string {
  const hash = createHash("sha256");
  const add = (path: string) =>
    hash
      .update(path)
      .update("\0")
      .update(readFileSync(join(root, path)))
      .update("\0");
  for (const path of ["tsconfig.json", "tsconfig.build.json", "package-lock.json"]) add(path);
  for (const path of filesUnder(join(root, "src"))) if (!path.endsWith(".test.ts")) add(`src/${path}`);
  return hash.digest("hex");
}

/** What is in `dist`, so that a deleted or edited output is noticed too. */
function outputHash(): string {
  const hash = createHash("sha256");
  for (const path of filesUnder(dist))
    hash
      .update(path)
      .update("\0")
      .update(readFileSync(join(dist, path)))
      .update("\0");
  return hash.digest("hex");
}

const dist = join(root, "dist");
const stampFile = join(root, "out", "build-stamp");

function replaceDist(built: string): void {
  const files = filesUnder(built);
  for (const path of files) {
    const from = join(built, path);
    const to = join(dist, path);
    if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) continue;
    mkdirSync(dirname(to), { recursive: true });
    renameSync(from, to);
  }
  const kept = new Set(files);
  for (const path of filesUnder(dist)) if (!kept.has(path)) rmSync(join(dist, path), { force: true });
}

function build(): boolean {
  const before = sourceHash();
  if (existsSync(stampFile) && readFileSync(stampFile, "utf8") === `${before} ${outputHash()}`) return true;
  mkdirSync(join(root, "out"), { recursive: true });
  const built = mkdtempSync(join(root, "out", "build-"));
  try {
    const complaints = compile(built);
    replaceDist(built);
    if (complaints === undefined) writeFileSync(stampFile, `${before} ${outputHash()}`);
    else process.stderr.write(`${complaints}\n`);
    return complaints === undefined;
  } finally {
    rmSync(built, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = build() ? 0 : 1;
