/** The commands as processes: what is on which stream, exit codes, credentials as they are found for real. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/run.ts";
import { makeProject, readFiles, removeProjects, typeScriptProject } from "./fixtures.ts";
import { startGoogle, type Google } from "./google.ts";

const main = join(import.meta.dirname, "..", "..", "src", "cli", "main.ts");

let google: Google;
beforeEach(async () => {
  google = await startGoogle();
});
afterEach(async () => {
  removeProjects();
  await google[Symbol.asyncDispose]();
});

interface Ended {
  code: number;
  out: string;
  err: string;
}

/** Without a terminal: its input is empty. */
function gembatch(folder: string, args: string[], env: Record<string, string> = { GEMBATCH_GOOGLE_ENDPOINT: google.url }): Promise<Ended> {
  const { PATH = "", HOME = "" } = process.env;
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [main, ...args], { cwd: folder, env: { PATH, HOME, ...env } }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code), out, err });
    });
    child.stdin?.end();
  });
}

describe("the commands as processes", () => {
  it("plan, refuse to ask, do, and find nothing more to do", async () => {
    const folder = makeProject(typeScriptProject);
    const plan = await gembatch(folder, ["init", "--dry-run"]);
    expect(plan).toMatchObject({ code: 0, err: "" });
    expect(plan.out).toMatch(/^gembatch init: project demo-project, functions in functions\/ \(TypeScript, CommonJS\), provider vertex\n/);
    const unasked = await gembatch(folder, ["init"]);
    expect(unasked.code).toBe(2);
    expect(unasked.err).toContain("gembatch: There is no terminal to ask on. Pass --yes");
    const done = await gembatch(join(folder, "functions"), ["init", "--yes", "--json"]);
    expect(done.code).toBe(0);
    expect(JSON.parse(done.out)).toMatchObject({ did: true, dryRun: false });
    expect(done.err).toContain("will do");
    const files = readFiles(folder);
    expect(files["firestore.indexes.json"]).toContain("gembatch_");
    expect((await gembatch(folder, ["init", "--yes"])).out).toContain("There is nothing to do.");
    expect(readFiles(folder)).toEqual(files);
    const doctor = await gembatch(folder, ["doctor"]);
    expect(doctor.code).toBe(1);
    expect(doctor.out).toMatch(
      /FAILED +function gembatchWork: is not deployed\n +-> firebase deploy --only functions --project demo-project/,
    );
  });

  it("without credentials: exit code 1, and what to run", async () => {
    const folder = makeProject(typeScriptProject);
    const env = { GOOGLE_APPLICATION_CREDENTIALS: join(folder, "no-such-key.json") };
    const { code, out, err } = await gembatch(folder, ["init", "--yes"], env);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(/There are no credentials of Google Cloud that work: .*gcloud auth application-default login/);
    expect(readFiles(folder)).toEqual(typeScriptProject);
  });

  it("outside of a project, with a wrong option or a wrong endpoint: exit code 2", async () => {
    const empty = makeProject({ a: "" });
    expect(await gembatch(empty, ["init"])).toMatchObject({ code: 2, err: expect.stringContaining("There is no firebase.json") });
    expect(await gembatch(empty, ["init", "--dance"])).toMatchObject({ code: 2 });
    const project = makeProject(typeScriptProject);
    expect(await gembatch(project, ["init"], { GEMBATCH_GOOGLE_ENDPOINT: "https://example.com" })).toMatchObject({ code: 2 });
  });
});

describe("help", () => {
  const helpOf = async (...args: string[]): Promise<string> => {
    let text = "";
    expect(await runCli([...args, "--help"], (piece) => (text += piece))).toBe(0);
    return text;
  };

  it("names both commands, and every option of each", async () => {
    expect(await helpOf()).toMatch(/gembatch init .*\n +gembatch doctor /);
    for (const command of ["init", "doctor"]) {
      const text = await helpOf(command);
      for (const option of [
        "project",
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
        "json",
      ])
        expect(text).toContain(`--${option} `);
      expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThan(150);
    }
  });
});
