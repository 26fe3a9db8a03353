import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, inject, it } from "vitest";
import { dropSchema } from "../support/postgres-store.ts";
import { runKills, runUndisturbed, type KillOptions } from "./kill-course.ts";
import { postgresStores, sqliteStores } from "./kill-stores.ts";
import { violationsOf, type Course } from "./kill-verdict.ts";

const schemas: string[] = [];
const calm = { seed: 1, runs: 1, turnaround: "100ms", faults: ["createAnswerSlow=rate:0.6,ms:200"] };

// The long form is `npm run test:kill`.
describe("programs that are killed at random", { timeout: 180_000 }, () => {
  it.each<[string, (folder: string) => Omit<KillOptions, keyof typeof calm | "folder">]>([
    ["one SQLite file", (folder) => ({ stores: sqliteStores(folder), programs: 2, kills: 2, killsPerWave: 4 })],
    ["one Postgres schema", () => ({ stores: postgresStores(inject("postgresUrl"), schemas), programs: 3, kills: 5, killsPerWave: 8 })],
  ])("end like those that were not, on %s", async (_name, given) => {
    const folder = mkdtempSync(join(tmpdir(), "gembatch-kill-"));
    const options = { ...calm, ...given(folder), folder };
    const course = await runKills(options);
    const violations = violationsOf(course, await runUndisturbed(options, course.waves));
    // What went wrong is kept to be looked at.
    expect(violations, `what the programs left is in ${folder} ${schemas.join(" ")}`).toEqual([]);
    expect(course.kills).toBeGreaterThanOrEqual(options.kills);
    for (const schema of schemas.splice(0)) await dropSchema(schema);
    rmSync(folder, { recursive: true });
  });
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
