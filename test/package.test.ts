/**
 * The package as users get it: built, packed, installed into an empty project, imported, required and type checked.
 * It needs no network: the tarball is unpacked where npm would put it, and its dependencies are links to ours.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { filesUnder, root } from "../scripts/build.ts";
import { pack, type Packed, readManifest } from "../scripts/pack.ts";

const manifest = readManifest(root);
const entries = Object.keys(manifest.exports).filter((name) => name !== "./package.json");
const specifier = (entry: string) => `gembatch${entry.slice(1)}`;

let folder = "";
let consumer = "";
let installed = "";
let packed: Packed;

/** Links a package of ours into the consumer, as if npm had installed it. */
function link(name: string): void {
  const to = join(consumer, "node_modules", name);
  mkdirSync(dirname(to), { recursive: true });
  symlinkSync(join(root, "node_modules", name), to, "junction");
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "gembatch-package-"));
  consumer = join(folder, "consumer");
  installed = join(consumer, "node_modules", "gembatch");
  packed = pack(folder);

  mkdirSync(installed, { recursive: true });
  writeFileSync(join(consumer, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }));
  const { status, stderr } = spawnSync("tar", ["-xzf", packed.tarball, "-C", installed, "--strip-components=1"], { encoding: "utf8" });
  if (status !== 0) throw new Error(`tar failed: ${stderr}`);
  // Only what the package declares: an undeclared import fails here as it would for users. Optional peers are missing, but for the one that `./firebase` declares its functions with.
  for (const name of [...Object.keys(manifest.dependencies), "firebase-functions", "@types/node"]) link(name);
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (file: string, source: string, ...args: string[]) => {
  writeFileSync(join(consumer, file), source);
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, file], { cwd: consumer, encoding: "utf8" });
  return { status, stdout: stdout.trim(), stderr: stderr.trim() };
};

describe("the tarball", () => {
  it("holds the build and nothing else", () => {
    const other = packed.files.filter((path) => !path.startsWith("dist/"));
    expect(other.filter((path) => !["LICENSE", "README.md", "package.json"].includes(path))).toEqual([]);
    expect(other).toContain("LICENSE");
    expect(packed.files.filter((path) => !/\.(js|js\.map|d\.ts|md|json)$|^LICENSE$|^dist\/dashboard\/./.test(path))).toEqual([]);
  });

  it("holds no tests", () => {
    expect(packed.files.filter((path) => /\.test\.|\.spec\.|__|fixtures/.test(path))).toEqual([]);
  });

  it("holds both files of every entry, and the command", () => {
    const wanted = Object.values(manifest.exports).flatMap((target) => (typeof target === "string" ? [target] : Object.values(target)));
    expect(packed.files).toEqual(
      expect.arrayContaining([...wanted, ...Object.values(manifest.bin)].map((path) => path.replace(/^\.\//, ""))),
    );
  });

  it("has source maps that carry their sources, since src is not in the package", () => {
    const wrong = packed.files
      .filter((path) => path.endsWith(".js.map"))
      .filter((path) => {
        const map = JSON.parse(readFileSync(join(packed.stage, path), "utf8")) as { sources: string[]; sourcesContent?: (string | null)[] };
        return map.sourcesContent?.length !== map.sources.length || map.sourcesContent.includes(null);
      });
    expect(wrong).toEqual([]);
    expect(packed.files.filter((path) => path.endsWith(".d.ts.map"))).toEqual([]);
  });

  it("runs no TypeScript source", () => {
    const wrong = packed.files
      .filter((path) => /^dist\/.*\.js$/.test(path) && !path.startsWith("dist/dashboard/ui/"))
      .filter((path) => /(from|import\()\s*["']\.[^"']*\.ts["']/.test(readFileSync(join(packed.stage, path), "utf8")));
    expect(wrong).toEqual([]);
  });
});

describe("installed", () => {
  it.each(entries)("%s is imported by plain Node, without a warning", (entry) => {
    const source = `const all = await import("${specifier(entry)}"); if (Object.keys(all).length === 0) throw new Error("exports nothing"); console.log("ok");`;
    expect(run("import.mjs", source)).toEqual({ status: 0, stdout: "ok", stderr: "" });
  });

  it.each(entries)("%s is required from CommonJS", (entry) => {
    const source = `const all = require("${specifier(entry)}"); if (Object.keys(all).length === 0) throw new Error("exports nothing"); console.log("ok");`;
    expect(run("require.cjs", source)).toEqual({ status: 0, stdout: "ok", stderr: "" });
  });

  it("the main entry exports Gembatch", () => {
    expect(run("main.mjs", `import { Gembatch } from "gembatch"; console.log(typeof Gembatch);`)).toMatchObject({
      stdout: "function",
      stderr: "",
    });
  });

  it("importing it starts nothing that keeps the process alive and writes nothing", () => {
    const before = filesUnder(consumer).filter((path) => !path.startsWith("node_modules/"));
    const imports = entries.map((entry) => `import "${specifier(entry)}";`).join(" ");
    expect(run("import.mjs", imports)).toEqual({ status: 0, stdout: "", stderr: "" });
    const after = filesUnder(consumer).filter((path) => !path.startsWith("node_modules/"));
    expect(after).toEqual([...new Set([...before, "import.mjs"])].toSorted());
  });

  it("its files stay its own: nothing inside can be imported", () => {
    expect(run("inside.mjs", `import "gembatch/dist/index.js";`).stderr).toContain("ERR_PACKAGE_PATH_NOT_EXPORTED");
    expect(run("manifest.mjs", `import it from "gembatch/package.json" with { type: "json" }; console.log(it.name);`).stdout).toBe(
      "gembatch",
    );
  });

  it("the command answers --help", () => {
    const [command] = Object.values(manifest.bin);
    const { status, stdout } = spawnSync(process.execPath, [join(installed, String(command)), "--help"], {
      cwd: consumer,
      encoding: "utf8",
    });
    expect({ status, named: stdout.includes("gembatch") }).toEqual({ status: 0, named: true });
    expect(readFileSync(join(installed, String(command)), "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
  });
});

describe("type checked by a consumer", () => {
  it.each([
    { module: "nodenext", moduleResolution: "nodenext" },
    { module: "esnext", moduleResolution: "bundler" },
    { module: "preserve", moduleResolution: "bundler" },
  ])("with $module and $moduleResolution", (resolution) => {
    const imports = entries.map((entry, index) => `import * as entry${index} from "${specifier(entry)}";`);
    const source = [
      `import { Gembatch } from "gembatch";`,
      ...imports,
      `export const all = [${entries.map((_, index) => `entry${index}`).join(", ")}];`,
      `export const gembatch = new Gembatch();`,
      `export const digest = gembatch.chain("digest", async ({ models }, doc: { text: string }) => {`,
      `  const answer = await models.generateContent({ model: "gemini-2.5-flash", contents: doc.text });`,
      `  return { summary: answer.text };`,
      `});`,
      `export const summary: Promise<{ summary: string | undefined }> = digest.start({ text: "a" }).then((run) => run.result());`,
      `// @ts-expect-error The input of a chain is typed.`,
      `void digest.start({ text: 1 });`,
    ];
    writeFileSync(join(consumer, "check.ts"), `${source.join("\n")}\n`);
    const compilerOptions = {
      ...resolution,
      target: "es2024",
      strict: true,
      noEmit: true,
      skipLibCheck: false,
      types: ["node"],
      lib: ["es2024", "esnext.disposable", "dom"],
    };
    writeFileSync(join(consumer, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["check.ts"] }));
    const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
    const { stdout } = spawnSync(process.execPath, [tsc, "-p", consumer], { cwd: consumer, encoding: "utf8" });
    // What our dependencies' own declarations get wrong under skipLibCheck: false is not ours to answer for.
    expect(stdout.split("\n").filter((line) => /^(check\.ts|.*gembatch\/dist\/)/.test(line))).toEqual([]);
  });
});
