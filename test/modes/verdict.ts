/**
 * What must be true of a course, whatever went wrong in it: by the store's books, and by those of the emulator, which knows what was really asked.
 *
 * @module
 */
import { jobToken } from "../../src/core/keys.ts";
import type { RunRecord } from "../../src/core/store.ts";
import type { Expected } from "../sim/oracle.ts";
import { judge, listAll } from "../sim/verdict.ts";
import { Violation } from "../sim/violation.ts";
import { objectsOf, tablesOf, type Course } from "./course.ts";
import { outputFaults, rowFaults } from "./faults.ts";

/** Throws the first violation. */
export async function judgeCourse(course: Course, undisturbed: Course): Promise<void> {
  const expected = new Map([...undisturbed.runs].map(([id, run]) => [id, endOf(run)]));
  await judge(course.store, expected, new Set());
  const others = [...course.runs.keys()].filter((id) => !expected.has(id));
  if (others.length > 0)
    throw new Violation("a program that is started again begins nothing twice", `there are other runs: ${others.join()}`);
  judgeJobs(course);
  await judgeAttempts(course, undisturbed);
  await judgeRemains(course);
}

function endOf({ state, output, error }: RunRecord): Expected {
  return state === "completed" ? { output } : { error: error?.message ?? state };
}

function judgeJobs({ emulator, jobsOfToken, answered, versions }: Course): void {
  for (const [token, count] of jobsOfToken) {
    if (count > 1) throw new Violation("one job for a batch", `${token} has ${count}`);
  }
  const stranger = emulator.jobs().find(({ displayName }) => !jobsOfToken.has(displayName));
  if (stranger) throw new Violation("one job for a batch", `${stranger.name} is of no batch`);
  for (const [key, count] of answered) {
    if (count > 1) throw new Violation("a row is answered once", `${key} was answered ${count} times`);
  }
  // A job may be reading it.
  for (const [name, seen] of versions) {
    if (seen.size > 1) throw new Violation("what was uploaded is not replaced", `${name} was written ${seen.size} times`);
  }
}

/** Every attempt at a request is a row of a job; there are as many requests as without trouble, and more attempts only where a fault took an answer away. */
async function judgeAttempts({ store, emulator }: Course, undisturbed: Course): Promise<void> {
  const requests = await listAll(async (cursor) => store.listRequests({ limit: 1_000, ...cursor }));
  const wanted = (await listAll(async (cursor) => undisturbed.store.listRequests({ limit: 1_000, ...cursor }))).length;
  if (requests.length !== wanted)
    throw new Violation("prompts are asked once", `there are ${requests.length} requests instead of ${wanted}`);
  const jobs = new Map(emulator.jobs().map((job) => [job.displayName, job]));
  const batches = await listAll(async (cursor) => store.listBatches({ limit: 1_000, ...cursor }));
  let sent = 0;
  let early = 0;
  for (const { id, requestCount } of batches) {
    const job = jobs.get(jobToken(store.id, id));
    if (!job) continue;
    sent += requestCount;
    // What it had finished is kept.
    if (job.state !== "SUCCEEDED") early += requestCount - job.billedRows;
    // A job whose input was not there has read none.
    if (job.rows !== requestCount && job.rows !== 0)
      throw new Violation("billed rows are sealed rows", `${job.name} has ${job.rows} rows, its batch ${requestCount}`);
  }
  const attempts = requests.reduce((sum, { attempt }) => sum + attempt, 0);
  // The loser of a race may be cancelled before it is sent again.
  const cancelled = requests.filter(({ state }) => state === "cancelled").length;
  if (sent > attempts || sent < attempts - cancelled)
    throw new Violation("every attempt is a row", `${sent} rows were sent in ${attempts} attempts`);
  const struck = (names: readonly string[]) => names.reduce((sum, name) => sum + (emulator.ledger.faults[name] ?? 0), 0);
  const forced = early + struck(rowFaults) + struck(outputFaults) * emulator.ledger.totals.peakRowsPerJob;
  const extra = sent - requests.length;
  if (extra > forced) throw new Violation("nothing is asked again without need", `${extra} rows were, of ${forced} that faults explain`);
}

/** Jobs, outputs and inputs are removed when they are done with. Files of the Gemini API may be left: they expire by themselves. */
async function judgeRemains({ emulator }: Course): Promise<void> {
  const left = emulator.jobs().filter(({ deleted }) => !deleted);
  if (left.length > 0) throw new Violation("nothing is left behind", left.map(({ name, state }) => `${name} ${state}`).join());
  const names = [...(await objectsOf(emulator)).map(({ name }) => name), ...(await tablesOf(emulator))];
  if (names.length > 0) throw new Violation("nothing is left behind", names.join());
}
