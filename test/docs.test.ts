/** What the documents say exists, and what exists is in the documents. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { faultNames } from "../src/emulator.ts";
import { settingsOptions } from "../src/worker/settings.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const documents = [
  "README.md",
  "ARCHITECTURE.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`),
  "examples/abc/README.md",
  "examples/firebase/README.md",
  "deploy/terraform/README.md",
];

/** The anchor that a heading gets on the pages of GitHub. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");
}

const anchors = (text: string) => new Set([...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading!)));

/** Without what stands in code: there a bracket is no link. */
const prose = (text: string) => text.replaceAll(/```[\s\S]*?```/g, "").replaceAll(/`[^`\n]*`/g, "code");

describe("the documents", () => {
  it.each(documents)("%s links to what is there", (path) => {
    const text = read(path);
    const broken: string[] = [];
    for (const [, target] of prose(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const [file = "", anchor] = target!.split("#");
      const found = file === "" ? path : join(dirname(path), file);
      if (!existsSync(join(root, found))) broken.push(target!);
      else if (anchor !== undefined && found.endsWith(".md") && !anchors(read(found)).has(anchor)) broken.push(target!);
    }
    expect(broken).toEqual([]);
  });

  it("name every test that they rest on", () => {
    const missing: string[] = [];
    for (const path of ["ARCHITECTURE.md", "docs/failure-modes.md"]) {
      for (const [, name] of read(path).matchAll(/`((?:src|test|examples)\/[\w./-]+)`/g))
        if (!existsSync(join(root, name!))) missing.push(name!);
    }
    expect(missing).toEqual([]);
  });

  it("explain every error code", () => {
    const [, union = ""] = /export type GembatchErrorCode =([\s\S]*?);/.exec(read("src/core/errors.ts")) ?? [];
    const codes = [...union.matchAll(/\| "(\w+)"/g)].map(([, code]) => code!);
    expect(codes.length).toBeGreaterThan(20);
    const text = read("docs/errors.md");
    expect(codes.filter((code) => !text.includes(`| \`${code}\` |`))).toEqual([]);
  });

  it("list every option and every header", () => {
    const text = read("docs/options.md");
    expect(settingsOptions.filter((name) => !new RegExp(`\`${name}[.\`]`).test(text))).toEqual([]);
    const [, headers = ""] = /const known = \[(.*?)\]/.exec(read("src/chain/call-options.ts")) ?? [];
    const names = [...headers.matchAll(/"([\w-]+)"/g)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(4);
    expect(names.filter((name) => !text.includes(`x-gembatch-${name}`))).toEqual([]);
  });

  it("list every fault of the emulator", () => {
    const text = read("docs/emulator.md");
    expect(faultNames.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });

  it("list every command", () => {
    const help = read("src/cli/run.ts");
    const commands = [...help.matchAll(/^ {2}gembatch (\w+)/gm)].map(([, name]) => name!);
    expect(commands.length).toBeGreaterThan(8);
    const texts = documents.map(read).join("\n");
    expect(commands.filter((name) => !texts.includes(`gembatch ${name}`))).toEqual([]);
  });
});
