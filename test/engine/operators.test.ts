import { describe, expect, it } from "vitest";
import { createTestKit, type TestKit } from "../../src/testing.ts";
import { singleKit, sizes } from "./kit.ts";

describe("cancelling", () => {
  it("withdraws queued prompts of all runs of a chain", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    const other = kit.gembatch.chain(
      "other",
      async ({ models }) => (await models.generateContent({ model: "gemini-2.5-flash", contents: "o" })).text,
    );
    await start(700);
    await other.start(undefined, { id: "kept" });
    await kit.worker.tick();
    const changed = await kit.gembatch.runs.cancel({ chain: "single" });
    expect(changed).toHaveLength(700);
    await kit.run();
    expect(sizes(kit)).toEqual([1]);
    expect((await kit.gembatch.stats()).runs).toMatchObject({ cancelled: 700, completed: 1 });
  });

  it("takes everything along that a run started", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const leaf = kit.gembatch.chain(
      "leaf",
      async ({ models }, n: number) => (await models.generateContent({ model: "gemini-2.5-flash", contents: `${n}` })).text,
    );
    const middle = kit.gembatch.chain("middle", async ({ map }, n: number) => map(leaf, [n, n + 1]));
    const root = kit.gembatch.chain("root", async ({ call }) => {
      await leaf.start(100, { id: "started, not awaited" });
      return call(middle, 1);
    });
    const run = await root.start(undefined, { id: "root" });
    for (let n = 0; n < 5; n += 1) await kit.worker.tick();
    expect(await run.cancel({ tree: true })).toBe(true);
    await kit.run();
    expect((await kit.gembatch.stats()).runs).toMatchObject({ cancelled: 5, completed: 0 });
    expect(sizes(kit)).toEqual([]);
  });

  it("does not take a filter that names nothing for all runs", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    await start(1);
    await expect(kit.gembatch.runs.cancel({})).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(kit.gembatch.runs.cancel({ chian: "x" } as never)).rejects.toMatchObject({ code: "invalid_option" });
  });
});

describe("holding", () => {
  it("keeps answers that come meanwhile and goes on with them when retried", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const chain = kit.gembatch.chain("x", async ({ models }, n: number) => {
      const ask = async (text: string) => (await models.generateContent({ model: "gemini-2.5-flash", contents: text })).text;
      return [await ask(`a${n}`), await ask(`b${n}`)];
    });
    await chain.start(1, { id: "r" });
    await kit.advance("30s");
    expect(sizes(kit)).toEqual([1]);
    expect(await kit.gembatch.runs.hold("r", "Prices are being checked.")).toEqual(["r"]);
    await kit.advance("1h");
    expect(sizes(kit)).toEqual([1]);
    expect((await kit.gembatch.runs.get("r"))!).toMatchObject({
      state: "held",
      error: { message: expect.stringMatching(/Prices are being checked/) },
    });
    await kit.gembatch.runs.retry("r");
    await kit.run();
    expect((await kit.gembatch.runs.get("r"))!.output).toEqual(["<a1>", "<b1>"]);
    expect(sizes(kit)).toEqual([1, 1]);
  });
});

/** A kit whose run "r" failed after its only prompt was answered, and would not fail again. */
async function failedKit(): Promise<TestKit> {
  const kit = createTestKit();
  let broken = true;
  const chain = kit.gembatch.chain("x", async ({ models }) => {
    const { text } = await models.generateContent({ model: "gemini-2.5-flash", contents: "once" });
    if (broken) throw new Error("broken");
    return text;
  });
  await chain.start(undefined, { id: "r" });
  await kit.run();
  broken = false;
  return kit;
}

describe("retrying afresh", () => {
  it("forgets what a run asked and was told, and asks again", async () => {
    const kit = await failedKit();
    await using _ = kit;
    expect(await kit.gembatch.runs.retry("r", { afresh: true })).toEqual(["r"]);
    await kit.run();
    expect((await kit.gembatch.runs.get("r"))!).toMatchObject({ state: "completed", output: "<once>" });
    expect(sizes(kit)).toEqual([1, 1]);
  });

  it("goes on from where a run stopped otherwise, without asking again", async () => {
    const kit = await failedKit();
    await using _ = kit;
    await kit.gembatch.runs.retry({ chain: "x", state: "failed" });
    await kit.run();
    expect((await kit.gembatch.runs.get("r"))!.state).toBe("completed");
    expect(sizes(kit)).toEqual([1]);
  });

  it("asks the prompt of a submitted request again, and lets a cancelled run live", async () => {
    const kit = createTestKit();
    await using _ = kit;
    const seen: (string | undefined)[] = [];
    const handler = kit.gembatch.handler("h", (response) => void seen.push(response.text));
    const id = await kit.gembatch.submit({ contents: [{ role: "user", parts: [{ text: "x" }] }] }, "gemini-2.5-flash", handler, undefined);
    await kit.gembatch.runs.cancel(id);
    await kit.run();
    expect(seen).toEqual([]);
    expect(await kit.gembatch.runs.retry(id, { afresh: true })).toEqual([id]);
    await kit.run();
    expect(seen).toEqual(["<x>"]);
  });
});

describe("retention", () => {
  it("removes what ended long enough ago, in chunks, and nothing that lives", async () => {
    const { kit, start } = singleKit({ retention: { runs: { completed: "1d" }, batches: "1d" } });
    await using _ = kit;
    const sleeper = kit.gembatch.chain("sleeper", async ({ sleep }) => sleep("10d"));
    await start(1_200);
    await sleeper.start(undefined, { id: "alive" });
    await kit.advance("12h");
    expect((await kit.gembatch.stats()).runs.completed).toBe(1_200);
    await kit.advance("36h");
    expect((await kit.gembatch.stats()).runs).toMatchObject({ completed: 0, waiting: 1 });
    expect((await kit.gembatch.batches.list()).items).toEqual([]);
    await kit.run();
    expect((await kit.gembatch.runs.get("alive"))!.state).toBe("completed");
  });

  it("can forget prompts and answers and keep runs with their outputs", async () => {
    const { kit, start } = singleKit({ retention: { histories: "1h" } });
    await using _ = kit;
    await start(3);
    await kit.run();
    await kit.advance("3h");
    expect((await kit.gembatch.requests.list()).items).toEqual([]);
    expect((await kit.gembatch.runs.get("r1"))!.output).toBe("<p1>");
  });

  it("keeps everything by default", async () => {
    const { kit, start } = singleKit();
    await using _ = kit;
    await start(3);
    await kit.run();
    await kit.advance("3d");
    expect((await kit.gembatch.stats()).runs.completed).toBe(3);
  });
});
