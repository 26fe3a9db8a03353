import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, describe, it } from "vitest";
import { runKills, runUndisturbed, type KillOptions } from "./kill-course.ts";
import { violationsOf, type Course } from "./kill-verdict.ts";

// The long form is `npm run test:kill`.
describe("programs that are killed at random", () => {
  it("end like those that were not", async () => {
    const folder = mkdtempSync(join(tmpdir(), "gembatch-kill-"));
    const options: KillOptions = {
      ...{ kills: 2, seed: 1, runs: 1, killsPerWave: 4, turnaround: "100ms", folder },
      faults: ["createAnswerSlow=rate:0.6,ms:200"],
    };
    const course = await runKills(options);
    const violations = violationsOf(course, await runUndisturbed(options, course.waves));
    // What went wrong is kept to be looked at.
    expect(violations, `the stores are in ${folder}`).toEqual([]);
    expect(course.kills).toBeGreaterThanOrEqual(2);
    rmSync(folder, { recursive: true });
  }, 120_000);
});

describe("the verdict", () => {
  const job = (name: string, displayName: string) => ({
    ...{ name, displayName, model: "m", method: "generateContent" as const, kind: "file" as const },
    ...{ rows: 1, createdAt: 0, state: "SUCCEEDED", deleted: false, billedRows: 1 },
  });
  const totals = {
    ...{ jobs: 2, sentRows: 2, billedRows: 2, directCalls: 0, promptTokens: 0, outputTokens: 0 },
    ...{ peakConcurrentJobs: 1, peakRowsPerJob: 1 },
  };
  const good: Course = {
    runs: [
      { id: "a", state: "completed", output: "text" },
      { id: "b", state: "completed", output: { text: "t", token: "1" } },
    ],
    batches: [
      { id: "x", state: "completed", job: "batches/1" },
      { id: "y", state: "completed", job: "batches/2" },
    ],
    effects: ["b 1"],
    ledger: {
      ...{ totals, calls: {}, faults: {}, jobs: [job("batches/1", "gb-x"), job("batches/2", "gb-y")] },
      ...{ distinctPrompts: 2, duplicatePrompts: [], paidTwice: [] },
    },
    integrity: "ok",
    ended: true,
  };
  const ledger = (change: Partial<Course["ledger"]>): Partial<Course> => ({ ledger: { ...good.ledger, ...change } });

  it("finds nothing in what is right; tokens and second executions of a step may differ", () => {
    expect(violationsOf(good, good)).toEqual([]);
    const again = {
      ...good,
      runs: [good.runs[0]!, { id: "b", state: "completed", output: { text: "t", token: "2" } }],
      effects: ["b 1", "b 2"],
    };
    expect(violationsOf(again, good)).toEqual([]);
  });

  it.each<[string, Partial<Course>, RegExp]>([
    [
      "a job created twice",
      ledger({ jobs: [...good.ledger.jobs, job("batches/2", "gb-x")] }),
      /same batch token: 1\n\s+gb-x: batches\/1, batches\/2/,
    ],
    ["a prompt sent twice", ledger({ duplicatePrompts: [{ hash: "h", sent: 2, billed: 1 }] }), /sent more than once: 1\n\s+h × 2/],
    ["a prompt paid twice", ledger({ paidTwice: [{ hash: "h", sent: 2, billed: 2 }] }), /paid more than once: 1\n\s+h × 2/],
    ["a job of nobody", ledger({ jobs: [...good.ledger.jobs, job("batches/3", "gb-z")] }), /no batch of the store knows: 1\n\s+batches\/3/],
    ["too many rows", ledger({ totals: { ...totals, sentRows: 3 } }), /3 rows were sent/],
    ["too few paid rows", ledger({ totals: { ...totals, billedRows: 1 } }), /1 billed/],
    [
      "a stuck batch",
      { batches: [good.batches[0]!, { id: "y", state: "launching", job: "batches/2" }] },
      /did not end well: 1\n\s+y: launching/,
    ],
    ["a lost run", { runs: [good.runs[1]!] }, /a: not there, undisturbed completed "text"/],
    ["a run of nobody", { runs: [...good.runs, { id: "c", state: "completed", output: 1 }] }, /c: completed 1, undisturbed not there/],
    ["another output", { runs: [{ id: "a", state: "completed", output: "other" }, good.runs[1]!] }, /a: completed "other"/],
    ["a failed run", { runs: [{ id: "a", state: "failed", output: undefined }, good.runs[1]!] }, /a: failed undefined/],
    ["a token that no step wrote", { effects: ["b 2"] }, /b returned a token/],
    ["a damaged file", { integrity: "row 1 missing from index" }, /damaged: row 1 missing/],
    ["a program that hangs", { ended: false }, /did not come to its end/],
  ])("finds %s", (_name, change, message) => {
    expect(violationsOf({ ...good, ...change }, good).join("\n")).toMatch(message);
  });
});
