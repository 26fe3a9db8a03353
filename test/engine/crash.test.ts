import { describe, expect, it } from "vitest";
import type { Gembatch } from "../../src/index.ts";
import { crashEverywhere } from "../../src/testing.ts";
import { everyNth, isThorough } from "../support/thorough.ts";

const model = "gemini-2.5-flash";
const ask = (contents: string) => ({ model, contents });
const request = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });

describe("a process that is killed at any call of a port is taken up by the next one", { timeout: 60_000 }, () => {
  it("in a chain of prompts one after another", async () => {
    const figures = await crashEverywhere(
      (gembatch) =>
        gembatch.chain("digest", async ({ models }, text: string) => {
          const summary = await models.generateContent(ask(`s:${text}`));
          return (await models.generateContent(ask(`t:${summary.text}`))).text;
        }),
      "doc",
      { restartAfter: "0s", every: everyNth(5) },
    );
    expect(figures).toMatchObject({ runs: 1, prompts: 2, jobs: 2, crashes: 2 * Math.ceil(figures.calls / everyNth(5)) });
    expect(figures.calls).toBeGreaterThan(50);
  });

  it("with prompts side by side", async () => {
    const figures = await crashEverywhere(
      (gembatch) =>
        gembatch.chain("branches", async ({ models }, text: string) => {
          const branch = async (name: string) => {
            const first = await models.generateContent(ask(`${name} 1 ${text}`));
            return (await models.generateContent(ask(`${name} 2 ${first.text}`))).text;
          };
          return Promise.all([branch("a"), branch("b")]);
        }),
      "doc",
      { worker: { parkedBytes: 0 }, every: everyNth(2) },
    );
    expect(figures).toMatchObject({ runs: 1, prompts: 4, jobs: 2 });
  });

  it("in callbacks: what a handler submits lands once", async () => {
    const figures = await crashEverywhere(
      (gembatch) => {
        const output = gembatch.handler("output", (response) => response.text);
        const second = gembatch.handler("second", async (response) => {
          await gembatch.submit(request(`2a ${response.text}`), model, output);
          await gembatch.submit(request(`2b ${response.text}`), model, output, undefined, { id: "named" });
        });
        return async (text: string) => gembatch.submit(request(`1 ${text}`), model, second, undefined, { id: "first" });
      },
      "doc",
      { every: everyNth(3) },
    );
    expect(figures).toMatchObject({ runs: 3, prompts: 3, jobs: 2 });
  });

  it("with steps, sleeps and a child: a step runs at least once, and what was recorded counts", async () => {
    let executed = 0;
    const figures = await crashEverywhere(
      (gembatch) => {
        const child = gembatch.chain("child", async ({ models }, word: string) => (await models.generateContent(ask(word))).text!);
        return gembatch.chain("parent", async ({ call, models, sleep, step, now }) => {
          const before = now();
          const count = await step("count", () => (executed += 1));
          const word = await call(child, "word");
          await sleep("10s");
          const { text } = await models.generateContent(ask(`count ${count}`));
          return { word, same: text === `<count ${count}>`, slept: now() - before >= 10_000 };
        });
      },
      undefined,
      { worker: { parkedBytes: 0 }, every: everyNth(3) },
    );
    expect(figures).toMatchObject({ runs: 2, prompts: 2, jobs: 2 });
    // Once in every course, and once more where the process died between the step and its commit.
    expect(executed).toBeGreaterThan(figures.crashes + (isThorough ? 1 : 0));
    expect(executed).toBeLessThan(1.5 * figures.crashes);
  });

  it("with a run per item", async () => {
    const figures = await crashEverywhere(
      (gembatch) => {
        const item = gembatch.chain("item", async ({ models }, n: number) => (await models.generateContent(ask(`item ${n}`))).text!);
        return gembatch.chain("all", async ({ map }, count: number) => map(item, [...Array.from({ length: count }).keys()]));
      },
      4,
      { every: everyNth(5) },
    );
    expect(figures).toMatchObject({ runs: 5, prompts: 4, jobs: 1 });
  });

  it("with answers that are errors or missing at first", async () => {
    const figures = await crashEverywhere(
      (gembatch) =>
        gembatch.chain("troubled", async ({ models }) => {
          const [good, bad] = await Promise.all([
            models.generateContent(ask("missing at first")),
            models.generateContent(ask("bad")).catch((error: unknown) => (error as { code: string }).code),
          ]);
          return [good.text, bad];
        }),
      undefined,
      {
        every: everyNth(5),
        answer: (prompt, { key }) => {
          if (prompt === "bad") return { error: { code: 3, message: "bad" } };
          return key.endsWith(".1") ? undefined : "here";
        },
      },
    );
    expect(figures).toMatchObject({ runs: 1, prompts: 3, jobs: 2 });
  });
});

describe("crashEverywhere says what is wrong, and how to see it again", () => {
  const single = (gembatch: Gembatch) =>
    gembatch.chain("single", async ({ models }, text: string) => (await models.generateContent(ask(text))).text);

  it("when a restarted program begins its work twice", async () => {
    const twice = crashEverywhere((gembatch) => {
      const chain = single(gembatch);
      return async (text: string) => chain.start(text);
    }, "doc");
    await expect(twice).rejects.toThrow(
      /^A process killed before call 1 of \d+, store\.open: there is another run, .* Give every start and submit an id.* only: \{ call: 1, mode: "before" \}\.$/,
    );
  });

  it("when an output depends on what the process remembers", async () => {
    const forgetful = async (options = {}) =>
      crashEverywhere(
        (gembatch) => {
          let asked = 0;
          return gembatch.chain("forgetful", async ({ models }) => {
            asked += 1;
            await models.generateContent(ask("a"));
            await models.generateContent(ask("b"));
            return { asked };
          });
        },
        undefined,
        { worker: { parkedBytes: 0 }, ...options },
      );
    const message = await forgetful().then(String, (error: unknown) => (error as Error).message);
    expect(message).toMatch(
      /the run ended as crashed \(forgetful\) completed with \{"asked":\d\}, without the crash as .* \{"asked":3\}\./,
    );
    const point = /only: \{ call: (\d+), mode: "(before|after)" \}/.exec(message)!;
    const only = { call: Number(point[1]), mode: point[2] };
    expect(await forgetful({ only }).then(String, (error: unknown) => (error as Error).message)).toBe(message);
    expect(await forgetful({ normalize: () => "whatever" })).toMatchObject({ runs: 1 });
  });

  it("when a run never ends", async () => {
    const stuck = crashEverywhere((gembatch) => gembatch.chain("long", async ({ sleep }) => sleep("2d")), undefined, { limit: "1d" });
    await expect(stuck).rejects.toThrow("after 1d of virtual time these runs are not done: crashed (long) waiting.");
  });

  it("when the program itself fails", async () => {
    const failing = crashEverywhere(
      () => async () => {
        throw new Error("no such file");
      },
      undefined,
    );
    await expect(failing).rejects.toThrow("no such file");
  });

  it("when a call does not exist", async () => {
    await expect(crashEverywhere(single, "doc", { only: { call: 10_000, mode: "after" } })).rejects.toThrow(/There is no call 10000/);
    await expect(crashEverywhere(single, "doc", { every: 0 })).rejects.toThrow(/every/);
  });

  it("in figures when all is well", async () => {
    const all = await crashEverywhere(single, "doc");
    const some = await crashEverywhere(single, "doc", { every: 10 });
    expect(some).toEqual({ ...all, crashes: 2 * Math.ceil(all.calls / 10) });
  });
});
