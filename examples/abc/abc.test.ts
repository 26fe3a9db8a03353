import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { Gembatch } from "gembatch";
import { startEmulator, type Emulator } from "gembatch/emulator";
import { crashEverywhere, createTestKit } from "gembatch/testing";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { answer } from "./answers.ts";
import { facts, readFilms } from "./films.ts";
import { mostItCosts } from "./live.ts";
import { readOptions } from "./options.ts";
import { blockOf, lineOf, Progress } from "./progress.ts";
import { emulated } from "./provider.ts";
import { results, tableOf, writeResults, type Result } from "./results.ts";
import { cut, pad, textWidth } from "./screen.ts";
import { summaryOf } from "./summary.ts";
import { defineTaskA } from "./task-a.ts";
import { defineTaskB } from "./task-b.ts";
import { defineTaskC } from "./task-c.ts";
import { defineTasks } from "./tasks.ts";
import { everyNth } from "../../test/support/thorough.ts";

const apiKey = "secret";

describe("tasks A, B and C", () => {
  let folder: string;
  let emulator: Emulator;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "abc-"));
    emulator = await startEmulator({ turnaround: 30, answer, apiKey });
  });

  afterEach(async () => {
    await emulator.close();
    rmSync(folder, { recursive: true });
  });

  const connect = (asVertex = false) =>
    new Gembatch({
      store: `sqlite:${folder}/gembatch.db`,
      provider: emulated({ url: emulator.url, apiKey }, asVertex),
      polling: { minInterval: "10ms" },
      retry: { initialDelay: "10ms" },
      logger: false,
    });

  it("send every round's prompts in one job, and a second start asks nothing", async () => {
    const films = await readFilms(20);
    const file = join(folder, "results.jsonl");
    {
      await using gembatch = connect();
      const tasks = defineTasks(gembatch);
      for (const task of tasks) await task.start(films);
      await gembatch.onIdle();

      const { failed, first } = await writeResults(results(gembatch, tasks, films), file);
      expect(failed).toBe(0);
      expect(first).toHaveLength(10);
      const snapshot = await new Progress(gembatch, tasks, films, false).read({ exact: true });
      expect(snapshot.complete).toBe(true);
      expect(snapshot.tasks.map(({ done }) => done)).toEqual([20, 20, 20]);
      expect(snapshot.jobs.map(({ prompts }) => prompts).at(-1)).toBe("A 20 · B 20 · C 20");
      expect((await summaryOf(gembatch, snapshot, 80)).join("\n")).not.toContain("asked again");
    }

    const lines = readFileSync(file, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Result);
    expect(lines.map(({ title }) => title)).toEqual(films.map(({ title }) => title));
    for (const { outputs, errors } of lines) {
      expect(errors).toBeUndefined();
      expect(outputs).toEqual({
        A: expect.stringMatching(/, .+\.$/),
        B: expect.stringMatching(/^See it for .+, in spite of .+\.$/),
        C: { mood: expect.any(String), audience: expect.any(String), sure: expect.any(Boolean) },
      });
    }

    // As many jobs as the deepest task has steps; 2 + 4 prompts and 1 to 3 more for each film; none twice.
    expect(emulator.jobs()).toHaveLength(3);
    expect(emulator.jobs()[0]!.rows).toBe(60);
    expect(emulator.jobs()[1]!.rows).toBeGreaterThanOrEqual(60);
    expect(emulator.ledger.totals.sentRows).toBeGreaterThan(20 * 7);
    expect(emulator.ledger.totals.sentRows).toBeLessThanOrEqual(20 * 9);
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);

    const sent = emulator.ledger.totals.sentRows;
    await using again = connect();
    const tasks = defineTasks(again);
    expect((await new Progress(again, tasks, films, false).read()).complete).toBe(true);
    for (const task of tasks) await task.start(films);
    await again.onIdle();
    expect(emulator.ledger.totals.sentRows).toBe(sent);
  });

  it("come to the same on Vertex AI, in as many jobs", async () => {
    const films = await readFilms(8);
    const all: Result[][] = [];
    for (const asVertex of [false, true]) {
      rmSync(folder, { recursive: true });
      await emulator.reset();
      await using gembatch = connect(asVertex);
      const tasks = defineTasks(gembatch);
      for (const task of tasks) await task.start(films);
      await gembatch.onIdle();
      all.push(await Array.fromAsync(results(gembatch, tasks, films)));
      expect(emulator.jobs().map(({ kind }) => kind)).toEqual(Array(3).fill(asVertex ? "storage" : "file"));
      expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    }
    const [onGemini, onVertex] = all;
    expect(onVertex).toEqual(onGemini);
    expect(onVertex?.every(({ errors }) => errors === undefined)).toBe(true);
  });

  it("go on after an interruption, with more films too", async () => {
    const few = await readFilms(5);
    const more = await readFilms(8);
    {
      await using gembatch = connect();
      for (const task of defineTasks(gembatch)) await task.start(few);
      const worker = gembatch.worker();
      while (emulator.jobs().length === 0) await worker.tick();
    }
    await using gembatch = connect();
    const tasks = defineTasks(gembatch);
    for (const task of tasks) await task.start(more);
    await gembatch.onIdle();
    expect(emulator.ledger.duplicatePrompts()).toEqual([]);
    for await (const { errors } of results(gembatch, tasks, more)) expect(errors).toBeUndefined();
  });

  it("say what failed, and let the rest pass", async () => {
    emulator.faults = { invalidJson: { times: 1 } };
    const films = await readFilms(3);
    await using gembatch = connect();
    const tasks = defineTasks(gembatch);
    for (const task of tasks) await task.start(films);
    await gembatch.onIdle();
    expect((await new Progress(gembatch, tasks, films, false).read()).complete).toBe(true);
    const all = await Array.fromAsync(results(gembatch, tasks, films));
    expect(all.flatMap(({ errors }) => Object.entries(errors ?? {}))).toEqual([["C", expect.stringMatching(/JSON/)]]);
    expect(all.filter(({ outputs }) => "A" in outputs && "B" in outputs)).toHaveLength(3);
    expect(tableOf(all, 100).filter((line) => line.includes("failed: "))).toHaveLength(1);
  });

  it("are shown within the width of the terminal", async () => {
    const films = await readFilms(3);
    await using gembatch = connect();
    const tasks = defineTasks(gembatch);
    const progress = new Progress(gembatch, tasks, films, false);
    for (const task of tasks) await task.start(films);
    const before = await progress.read();
    // What is submitted is queued at once; a chain asks when its first turn runs.
    expect(before.stats.requests.queued).toBe(3);
    await gembatch.onIdle();
    const after = await progress.read({ exact: true });
    for (const columns of [60, 80, 120, 200]) {
      for (const snapshot of [before, after]) {
        for (const line of blockOf(snapshot, columns, "3 films, tasks A, B and C")) expect(textWidth(line)).toBeLessThan(columns);
      }
      for (const line of tableOf(await Array.fromAsync(results(gembatch, tasks, films)), columns))
        expect(textWidth(line)).toBeLessThan(columns);
    }
    const block = blockOf(after, 80, "3 films").map(stripVTControlCharacters);
    expect(block).toContainEqual(expect.stringMatching(/^ {2}A {2}2 prompts, callbacks .*█ {2}3 \/ 3$/));
    expect(block).toContainEqual(expect.stringMatching(/^ {2}job 1 .* 9 prompts {2}done in .* A 3 · B 3 · C 3$/));
    expect(lineOf(after).news).toMatch(/A 3\/3, B 3\/3, C 3\/3 .* 3 finished/);
  });
});

describe("tasks A, B and C in virtual time", () => {
  it("come to the same wherever their process is killed", { timeout: 60_000 }, async () => {
    const [film] = await readFilms(1);
    const every = everyNth(5);
    expect(await crashEverywhere(defineTaskA, film!, { every })).toMatchObject({ runs: 2, prompts: 2, jobs: 2 });
    expect(await crashEverywhere(defineTaskB, film!, { every })).toMatchObject({ runs: 1, prompts: 4, jobs: 3 });
    const unsure = (prompt: string) => JSON.stringify({ mood: "warm", audience: "adults", sure: prompt.includes("not sure") });
    expect(await crashEverywhere(defineTaskC, film!, { every, answer: unsure })).toMatchObject({ runs: 1, prompts: 2, jobs: 2 });
  });

  it("take as many days as they have rounds, when a job takes a day", async () => {
    await using kit = createTestKit({ turnaround: "23h" });
    const films = await readFilms(5);
    const task = defineTasks(kit.gembatch)[1]!;
    await task.start(films);
    for (const completed of [0, 0, 5]) {
      await kit.advance("24h");
      expect((await kit.gembatch.stats()).runs.completed).toBe(completed);
    }
    expect(kit.provider.jobs.map(({ rows }) => rows.length)).toEqual([5, 10, 5]);
    for await (const { outputs } of results(kit.gembatch, [task], films)) expect(outputs["B"]).toMatch(/^<Merge both/);
  });
});

describe("the films", () => {
  it("are all there, mended where the records are broken", async () => {
    const films = await readFilms();
    expect(films).toHaveLength(3_201);
    expect(films.every(({ title, year }) => typeof title === "string" && year >= 1900 && year <= 2011)).toBe(true);
    expect(films.map(({ title }) => title)).toEqual(expect.arrayContaining(["Léon", "Caché", "300", "1941", "Untitled", "Alien³"]));
    expect(films.find(({ title }) => title === "Wings")?.year).toBe(1927);
  });

  it("are told apart by their facts", async () => {
    const films = await readFilms();
    expect(new Set(films.map(facts)).size).toBe(films.length);
    expect(facts(films[0]!)).not.toMatch(/null|undefined/);
  });
});

describe("the options", () => {
  it("have defaults that cost nothing", () => {
    expect(readOptions([])).toEqual({ films: 3_201, live: false, vertex: false, fresh: false });
    expect(readOptions(["--live"])).toEqual({ films: 25, live: true, vertex: false, fresh: false });
    expect(readOptions(["--live", "--films", "7", "--fresh"])).toEqual({ films: 7, live: true, vertex: false, fresh: true });
    expect(readOptions(["--vertex"])).toEqual({ films: 3_201, live: false, vertex: true, fresh: false });
    expect(() => readOptions(["--vertex", "--live"])).toThrow("--vertex is for the local emulator");
    expect(readOptions(["--help"])).toBe("help");
    expect(mostItCosts(25)).toBeLessThan(0.1);
  });

  it.each([["--film"], ["film"], ["--films", "0"], ["--films", "x"], ["--films", "3202"], ["--films="], ["--films", "1.5"]])(
    "refuse %s %s",
    (...args) => {
      expect(() => readOptions(args)).toThrow(/--film|'film'/);
    },
  );
});

describe("texts on a terminal", () => {
  it("are cut and padded by columns", () => {
    expect(textWidth("七人の侍")).toBe(8);
    expect(textWidth("Amélie e\u0301 \x1b[1mbold\x1b[22m 🎬")).toBe(16);
    expect(cut("七人の侍", 5)).toBe("七人…");
    expect(cut("two\nlines", 20)).toBe("two lines");
    expect(pad(cut("七人の侍", 4), 6)).toBe("七…   ");
  });
});
