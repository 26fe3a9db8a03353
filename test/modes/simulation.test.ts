import { afterAll, describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { expectedRuns } from "../sim/oracle.ts";
import { isThorough } from "../support/thorough.ts";
import { runCourse, type Course } from "./course.ts";
import { drawAllFaults, drawCallFaults } from "./faults.ts";
import { modes, type Mode } from "./modes.ts";
import { judgeCourse } from "./verdict.ts";

/** More of them: `GEMBATCH_MODES_SEEDS=100 npx vitest run test/modes`, from another one on: `GEMBATCH_MODES_SEED=7`. */
const first = Number(process.env["GEMBATCH_MODES_SEED"] ?? 1);
const count = Number(process.env["GEMBATCH_MODES_SEEDS"] ?? (isThorough ? 4 : 1));
const seeds = Array.from({ length: count }, (_, n) => first + n);

const courses = new Map<Mode, Promise<Course>>();
/** A mode's course without trouble, run once. */
function undisturbed(mode: Mode): Promise<Course> {
  const known = courses.get(mode) ?? runCourse({ mode, seed: 0 });
  courses.set(mode, known);
  return known;
}
afterAll(async () => {
  for (const course of courses.values()) await (await course).close();
});

describe.each(modes)("the whole system on %s, in virtual time", { timeout: 30_000 + count * 30_000 }, (mode) => {
  it("comes to what the chains must come to", async () => {
    const { runs, jobsOfToken, emulator } = await undisturbed(mode);
    const expected = await expectedRuns(1);
    let compared = 0;
    for (const [id, run] of runs) {
      const wanted = expected.get(id);
      // The service has no jobs of embeddings on tables.
      if (id === "embedder-0" && mode === "vertex-bigquery") expect(run.error?.code).toBe("request_refused");
      else if (wanted) expect({ id, output: run.output }).toEqual({ id, ...wanted });
      else continue;
      compared += 1;
    }
    expect(compared).toBe(12);
    expect(new Set(jobsOfToken.values())).toEqual(new Set([1]));
    // "same" is asked twice on purpose.
    expect(emulator.ledger.duplicatePrompts().map(({ sent }) => sent)).toEqual([2]);
  });

  it.each(seeds)("asks nothing twice whatever call fails and wherever its processes die: seed %i", async (seed) => {
    const course = await runCourse({
      mode,
      seed,
      faults: drawCallFaults(new SeededRandom(seed)),
      crashes: { count: 25, calls: [20, 250] },
    });
    try {
      await judgeCourse(course, await undisturbed(mode));
      expect(course.crashes).toBe(25);
      expect(course.emulator.ledger.totals.sentRows).toBe((await undisturbed(mode)).emulator.ledger.totals.sentRows);
    } finally {
      await course.close();
    }
  });

  it("keeps what jobs have finished that end early, and asks the rest alone again", async () => {
    const course = await runCourse({
      mode,
      seed: 1,
      faults: { jobCancelledOutside: { times: 4 } },
      crashes: { count: 5, calls: [50, 500] },
    });
    try {
      await judgeCourse(course, await undisturbed(mode));
      const { jobs, faults } = course.emulator.ledger;
      expect(faults).toEqual({ jobCancelledOutside: 4 });
      const kept = jobs.filter(({ state }) => state === "CANCELLED").reduce((sum, { billedRows }) => sum + billedRows, 0);
      if (mode.startsWith("vertex")) expect(kept).toBeGreaterThan(3);
      else expect(kept).toBe(0);
    } finally {
      await course.close();
    }
  });

  it.each(seeds)("comes to the same whatever becomes of rows and jobs: seed %i", async (seed) => {
    const course = await runCourse({ mode, seed, faults: drawAllFaults(new SeededRandom(seed)), crashes: { count: 15, calls: [50, 500] } });
    try {
      await judgeCourse(course, await undisturbed(mode));
    } finally {
      await course.close();
    }
  });
});
