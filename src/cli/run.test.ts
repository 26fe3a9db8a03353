import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SqliteStore } from "../stores/sqlite/store.ts";
import { createTestKit } from "../testing.ts";
import { runCli } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "gembatch-cli-"));
const path = join(folder, "store.db");

/** Runs a command on the store; resolves with its exit code and what it wrote. */
async function cli(...args: string[]): Promise<{ code: number; text: string }> {
  let text = "";
  const code = await runCli([...args, "--store", `sqlite:${path}`], (piece) => (text += piece));
  return { code, text };
}

describe("the command line", () => {
  beforeAll(async () => {
    const kit = createTestKit({ store: new SqliteStore({ path }) });
    const chain = kit.gembatch.chain("digest", async ({ models }, n: number) => {
      const { text } = await models.generateContent({ model: "gemini-2.5-flash", contents: `prompt ${n}` });
      if (n === 1) throw new Error("one is bad");
      return text;
    });
    for (const n of [0, 1, 2]) await chain.start(n, { id: `r${n}` });
    await kit.run();
    const sleeper = kit.gembatch.chain("sleeper", async ({ sleep }) => sleep("10d"));
    await sleeper.start(undefined, { id: "asleep" });
    await kit.worker.tick();
    await kit.gembatch.close();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("shows how things stand, with money", async () => {
    const { code, text } = await cli("status");
    expect(code).toBe(0);
    expect(text).toMatch(/2 completed, 1 failed/);
    expect(text).toMatch(/money +\$0\.0000 spent/);
  });

  it("shows runs, batches and lanes", async () => {
    expect((await cli("runs", "--state", "failed")).text).toMatch(/r1 +digest +failed .* one is bad/);
    expect((await cli("batches")).text).toMatch(/completed +3 +batches\/1/);
    expect((await cli("batches", "--held")).text).toBe("No batches.\n");
    expect((await cli("lanes")).text).toMatch(/gemini\/gemini-2\.5-flash:generateContent +0 +0 +3/);
  });

  it("shows costs by what one asks for", async () => {
    const { text } = await cli("costs", "--by", "day,chain");
    expect(text).toMatch(/^day +chain +answers .*\n2026-01-01 +digest +3 +30 +15 +\$0\.0000/);
    expect((await cli("costs", "--by", "weather")).code).toBe(2);
    expect((await cli("costs", "--since", "yesterday")).code).toBe(2);
    const { text: json } = await cli("costs", "--by", "tier", "--json");
    expect(JSON.parse(json)).toMatchObject([{ tier: "batch", answers: 3, unpriced: 0 }]);
  });

  it("operates runs by id and by filter, and says what changed", async () => {
    expect(await cli("hold", "asleep")).toEqual({ code: 0, text: "1 of 1 runs are held.\n" });
    expect(await cli("hold", "asleep")).toEqual({ code: 1, text: "0 of 1 runs are held.\n" });
    expect(await cli("retry", "--state", "held")).toEqual({ code: 0, text: "1 runs go on.\n" });
    expect(await cli("cancel", "--chain", "sleeper", "--tree")).toEqual({ code: 0, text: "1 runs are cancelled.\n" });
    expect(await cli("retry", "asleep")).toEqual({ code: 1, text: "0 of 1 runs go on.\n" });
    expect(await cli("retry", "asleep", "--afresh")).toEqual({ code: 0, text: "1 of 1 runs go on.\n" });
  });

  it("wants ids or a filter, not both and not neither", async () => {
    expect((await cli("cancel")).code).toBe(2);
    expect((await cli("cancel", "r1", "--chain", "digest")).code).toBe(2);
    expect((await cli("release")).code).toBe(2);
    expect((await cli("release", "no such batch")).code).toBe(1);
  });

  it("names what it does not know", async () => {
    expect((await cli("dance")).code).toBe(2);
    expect((await cli("runs", "--state", "dancing")).code).toBe(2);
    expect((await cli("status", "--dance")).code).toBe(2);
  });
});
