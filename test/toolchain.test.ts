/**
 * What a fresh clone relies on: the pinned Node, a lock file that works everywhere, and entries that exist.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { filesUnder, root } from "../scripts/build.ts";
import { readManifest } from "../scripts/pack.ts";

const manifest = readManifest(root);
const read = (path: string) => readFileSync(join(root, path), "utf8");

interface LockedPackage {
  version: string;
  resolved?: string;
  integrity?: string;
  optional?: boolean;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  os?: string[];
  cpu?: string[];
  libc?: string[];
}

const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, LockedPackage> };
const locked = Object.entries(lock.packages).filter(([path]) => path.startsWith("node_modules/"));

/** The folders in which Node looks for what a package imports: "a/node_modules/b" gives itself, "a/" and "". */
function foldersUp(path: string): string[] {
  if (path === "") return [""];
  const parent = path.slice(0, Math.max(0, path.lastIndexOf("node_modules/") - 1));
  return [`${path}/`, ...foldersUp(parent)];
}

describe("node", () => {
  it("is the pinned one, not the machine's", () => {
    expect(Number(process.versions.node.split(".")[0])).toBeGreaterThanOrEqual(24);
    expect(`v${lock.packages["node_modules/node"]?.version}`).toBe(process.version);
  });

  it("is what child processes get by its name", () => {
    const { stdout } = spawnSync("node", ["--version"], { encoding: "utf8" });
    expect(stdout.trim()).toBe(process.version);
  });

  it("is named alike wherever it is named", () => {
    expect(read(".node-version").trim()).toBe(process.versions.node.split(".")[0]);
    expect(manifest.devDependencies["node"]).toMatch(/^\^24\./);
    expect(manifest.devDependencies["@types/node"]).toMatch(/^\^24\./);
    expect(manifest.engines.node).toBe(">=22.13");
  });
});

describe("package-lock.json", () => {
  it("names no host, so that every registry and mirror will do", () => {
    expect(locked.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path)).toEqual([]);
    expect(read("package-lock.json")).not.toMatch(/"(https?|git\+ssh):\/\/[^"]*\.tgz/);
  });

  it("has a checksum for everything", () => {
    const bundled = locked.filter(([, { integrity }]) => integrity === undefined).map(([path]) => path);
    expect(bundled).toEqual([]);
  });

  it("is complete for every platform, or `npm ci` refuses it", () => {
    const missing = Object.entries(lock.packages).flatMap(([path, { dependencies, devDependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })
        .filter((name) => !foldersUp(path).some((folder) => lock.packages[`${folder}node_modules/${name}`] !== undefined))
        .map((name) => `${path} needs ${name}`),
    );
    expect(missing).toEqual([]);
  });

  it("is in step with package.json", () => {
    const { name, version } = JSON.parse(read("package.json")) as Record<string, string>;
    const { dependencies, devDependencies } = manifest;
    expect(lock.packages[""]).toMatchObject({ name, version, dependencies, devDependencies });
  });

  it("is installed in full: npm on an old Node silently drops optional packages that ask for a newer one", () => {
    const fits = (wanted: string[] | undefined, is: string) =>
      wanted === undefined || (!wanted.includes(`!${is}`) && (wanted.some((name) => name.startsWith("!")) || wanted.includes(is)));
    const libc = existsSync("/etc/alpine-release") ? "musl" : "glibc";
    const present = (path: string) => existsSync(join(root, path, "package.json"));
    const wanted = new Set(
      locked
        .filter(([path]) => present(path))
        .flatMap(([, entry]) => Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })),
    );
    const missing = locked
      .filter(
        ([, { os, cpu, libc: only }]) =>
          fits(os, process.platform) && fits(cpu, process.arch) && (process.platform !== "linux" || fits(only, libc)),
      )
      .filter(([path, { optional }]) => !present(path) && (optional !== true || wanted.has(path.replace(/^.*node_modules\//, ""))))
      .map(([path]) => path);
    expect(missing).toEqual([]);
  });
});

describe("package.json", () => {
  const entries = Object.entries(manifest.exports).filter(([name]) => name !== "./package.json");

  it.each(entries)("has a source file for the entry %s", (_name, target) => {
    if (typeof target === "string") throw new Error("an entry has types and a default");
    const source = /^\.\/dist\/(.+)\.js$/.exec(target.default)?.[1];
    expect(target).toEqual({ types: `./dist/${source}.d.ts`, default: `./dist/${source}.js` });
    expect(existsSync(join(root, "src", `${source}.ts`)), `src/${source}.ts exists`).toBe(true);
  });

  it.each(Object.entries(manifest.bin))("has a source file for the command %s", (_name, target) => {
    const source = target.replace(/^dist\/(.+)\.js$/, "src/$1.ts");
    expect(existsSync(join(root, source)), `${source} exists`).toBe(true);
    expect(read(source)).toMatch(/^#!\/usr\/bin\/env node\n/);
  });

  it("has an entry for every source file directly in src", () => {
    const sources = filesUnder(join(root, "src")).filter((path) => !path.includes("/") && !path.endsWith(".test.ts"));
    const exported = entries.map(([name]) => (name === "." ? "index.ts" : `${name.slice(2)}.ts`));
    expect(exported).toEqual(expect.arrayContaining(sources));
  });

  it("runs the scripts of both first commands after the bootstrap", () => {
    expect(manifest.scripts).toMatchObject({
      prestart: expect.stringContaining("scripts/bootstrap.mjs") as string,
      pretest: expect.stringContaining("scripts/bootstrap.mjs") as string,
    });
  });
});

describe("the repository", () => {
  it("names no place of any machine", () => {
    const { status, stdout } = spawnSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z"], {
      cwd: root,
      encoding: "utf8",
    });
    const listed = status === 0 ? stdout.split("\0").filter((path) => path !== "") : [];
    const paths =
      listed.length > 0
        ? listed
        : [
            "package.json",
            ...["src", "test", "scripts"].flatMap((folder) => filesUnder(join(root, folder)).map((path) => `${folder}/${path}`)),
          ];
    const place = new RegExp(["(^|[^\\w.:/-])/(root", "work", "Users", "home/(?!user\\b)[a-z]+)/"].join("|"), "m");
    const text = /\.([cm]?[jt]sx?|json|md|ya?ml|html|css|sql|sh)$|^[^.]*$/;
    const found = paths.filter((path) => text.test(path) && existsSync(join(root, path)) && place.test(read(path)));
    expect(found).toEqual([]);
  });
});

describe("scripts/test-summary.mjs", () => {
  let folder = "";
  beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "gembatch-summary-"))));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const summary = (report: unknown) => {
    const path = join(folder, "report.json");
    if (report === undefined) rmSync(path, { force: true });
    else writeFileSync(path, JSON.stringify(report));
    const { status, stdout } = spawnSync(process.execPath, [join(root, "scripts", "test-summary.mjs"), path], { encoding: "utf8" });
    return { line: stdout.trim(), ok: status === 0 };
  };
  const file = (status: string, ...statuses: string[]) => ({ status, assertionResults: statuses.map((each) => ({ status: each })) });

  it("counts tests", () => {
    expect(summary({ testResults: [file("passed", "passed", "skipped"), file("passed", "passed", "todo", "pending")] })).toEqual({
      line: "2 passed, 0 failed, 3 skipped",
      ok: true,
    });
  });
  it("tells failures", () => {
    expect(summary({ testResults: [file("failed", "passed", "failed", "failed")] })).toEqual({
      line: "1 passed, 2 failed, 0 skipped",
      ok: false,
    });
  });
  it("counts a file that did not load as a failure", () => {
    expect(summary({ testResults: [file("failed"), file("passed", "passed")] })).toEqual({
      line: "1 passed, 1 failed, 0 skipped",
      ok: false,
    });
  });
  it("takes no report and no tests as a failure", () => {
    expect(summary(undefined)).toEqual({ line: "0 passed, 1 failed, 0 skipped", ok: false });
    expect(summary({ testResults: [] })).toEqual({ line: "0 passed, 1 failed, 0 skipped", ok: false });
  });
});
