import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { defineConfig, Gembatch } from "../index.ts";
import { loadConfig } from "./config.ts";
import { runCli } from "./run.ts";

const index = new URL("../index.ts", import.meta.url).href;
const folder = mkdtempSync(join(tmpdir(), "gembatch-config-"));
let files = 0;

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const head = `import { defineConfig, Gembatch } from ${JSON.stringify(index)};\n`;
const instance = (name: string) =>
  `new Gembatch({ store: ${JSON.stringify(`sqlite:${join(folder, `${name}.db`)}`)}, logger: false, autoWorker: false })`;

/** Writes a config into a folder of its own; resolves with the folder. */
function write(text: string, file = "gembatch.config.ts"): string {
  const own = join(folder, String((files += 1)));
  mkdirSync(own);
  writeFileSync(join(own, file), head + text);
  return own;
}

async function cli(...args: string[]): Promise<{ code: number; text: string }> {
  let text = "";
  const code = await runCli(args, (piece) => (text += piece));
  return { code, text };
}

describe("a config file", () => {
  it.each(["gembatch.config.ts", "gembatch.config.mts", "gembatch.config.js", "gembatch.config.mjs"])("is found as %s", async (file) => {
    const config = await loadConfig(undefined, write(`export default defineConfig({ gembatch: ${instance("a")} });`, file));
    expect(config?.gembatch.info).toMatchObject({ store: expect.stringMatching(/^sqlite:.*a\.db$/) as string, providers: ["gemini"] });
    await config?.gembatch.close();
  });

  it("need not be there", async () => {
    expect(await loadConfig(undefined, folder)).toBe(undefined);
    await expect(loadConfig("missing.ts", folder)).rejects.toMatchObject({ code: "invalid_option" });
  });

  it.each([
    ["an instance by default", `export default ${instance("b")};`],
    ["an instance by name", `export const gembatch = ${instance("b")};`],
    ["a plain config", `export default { gembatch: ${instance("b")}, worker: { grace: "1m" } };`],
  ])("may export %s", async (_name, text) => {
    const config = await loadConfig("gembatch.config.ts", write(text));
    expect(config?.gembatch.info.chains).toEqual([]);
    await config?.gembatch.close();
  });

  it.each([
    ["nothing", "export {};", /exports no gembatch/],
    ["something else", "export default 5;", /exports no gembatch/],
    ["a misspelt option", `export default defineConfig({ gembatch: ${instance("c")}, wroker: {} });`, /Unknown option config\.wroker/],
    ["a wrong grace", `export default { gembatch: ${instance("c")}, worker: { grace: "soon" } };`, /config\.worker\.grace/],
  ])("that exports %s is refused", async (_name, text, message) => {
    await expect(loadConfig(undefined, write(text))).rejects.toThrow(message);
  });

  it("in TypeScript says which Node it needs, where that cannot run it", async () => {
    const spy = vi.spyOn(process.features, "typescript", "get").mockReturnValue(false);
    await expect(loadConfig(undefined, write(`export default ${instance("d")};`))).rejects.toThrow(/gembatch\.config\.ts.*Node 22\.18/);
    spy.mockRestore();
  });

  it("is refused by name if it holds no gembatch", () => {
    expect(() => defineConfig({ gembatch: {} as Gembatch })).toThrow(/config\.gembatch must be a Gembatch/);
  });
});

describe("commands with a config", () => {
  /** A config whose chain only steps, on a store where one run waits to be taken up. */
  async function withRun(name: string): Promise<string> {
    const chain = `gembatch.chain("work", ({ step }) => step("once", () => "done"), { version: "1" });`;
    const own = write(`const gembatch = ${instance(name)};\n${chain}\nexport default defineConfig({ gembatch });`);
    await using gembatch = new Gembatch({ store: `sqlite:${join(folder, `${name}.db`)}`, logger: false, autoWorker: false });
    await gembatch.chain("work", () => "never here", { version: "1" }).start(undefined, { id: "r" });
    return join(own, "gembatch.config.ts");
  }

  it("look at its store", async () => {
    const file = await withRun("look");
    expect(await cli("runs", "--config", file)).toMatchObject({
      code: 0,
      text: expect.stringMatching(/^run .*\nr +work +runnable/) as string,
    });
    expect((await cli("runs", "--config", file, "--store", "sqlite:other.db")).code).toBe(2);
  });

  it("do not make a store by looking", async () => {
    const own = write(`export default ${instance("none")};`);
    expect((await cli("status", "--config", join(own, "gembatch.config.ts"))).code).toBe(1);
  });

  it("work until nothing is left, also where the instance starts no worker by itself", async () => {
    const file = await withRun("work");
    const { code, text } = await cli("worker", "--config", file, "--until-idle", "--concurrency", "5");
    expect(code).toBe(0);
    expect(text.replace(folder, "")).toBe(
      "The worker runs on sqlite:/work.db with gemini. Chains: work. Handlers: none.\nThe worker has stopped: nothing is left to do.\n",
    );
    expect((await cli("runs", "--store", `sqlite:${join(folder, "work.db")}`)).text).toMatch(/r +work +completed/);
  });

  it("say what is wrong with their options", async () => {
    expect((await cli("worker", "--config", await withRun("wrong"), "--concurrency", "many")).code).toBe(2);
    expect((await cli("worker", "--config", await withRun("soon"), "--until-idle", "--grace", "soon")).code).toBe(2);
    expect((await cli("worker", "--config", join(folder, "missing.ts"))).code).toBe(2);
    expect((await cli("worker", "all")).code).toBe(2);
    expect((await cli("worker", "--fast")).code).toBe(2);
    expect((await cli("worker", "--help")).text).toMatch(/SIGTERM/);
  });
});
