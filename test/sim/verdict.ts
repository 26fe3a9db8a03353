/**
 * What must be true at the end, when faults have stopped and all is done.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { jobToken } from "../../src/core/keys.ts";
import type { Page, Store } from "../../src/core/store.ts";
import type { Expected } from "./oracle.ts";
import type { Service } from "./service.ts";
import { Violation } from "./violation.ts";

export async function listAll<T>(list: (cursor: { cursor?: string }) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const page = await list(cursor === undefined ? {} : { cursor });
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return items;
}

/** Throws the first violation. `cancelled`: roots that an operator cancelled, or tried to. */
export async function judge(store: Store, expected: ReadonlyMap<string, Expected>, cancelled: ReadonlySet<string>): Promise<void> {
  const runs = new Map((await listAll(async (cursor) => store.listRuns({ limit: 1_000, ...cursor }))).map((run) => [run.id, run]));
  const tainted = (id: string) => [...cancelled].some((root) => id === root || id.startsWith(`${root}.`) || id.startsWith(`${root}-`));

  for (const run of runs.values()) {
    if (run.endedAt === undefined) throw new Violation("termination", `run ${run.id} is ${run.state} at the end`);
  }
  for (const [id, wanted] of expected) {
    const run = runs.get(id);
    if (tainted(id) && (!run || run.state === "cancelled")) continue;
    if (!run) throw new Violation("outputs equal the oracle's", `run ${id} does not exist`);
    const got: Expected = run.state === "completed" ? { output: run.output } : { error: run.error?.message ?? run.state };
    const same = isDeepStrictEqual(got, "output" in wanted ? { output: wanted.output } : wanted);
    if (!same) {
      throw new Violation(
        "outputs equal the oracle's",
        `run ${id} is ${run.state} with ${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`,
      );
    }
  }
  await judgeCounts(store, runs.size);
}

/** Nothing is counted that is not there, and nothing is there that is not counted. */
async function judgeCounts(store: Store, runCount: number): Promise<void> {
  const [stats, requests, batches] = await Promise.all([
    store.stats(),
    listAll(async (cursor) => store.listRequests({ limit: 1_000, ...cursor })),
    listAll(async (cursor) => store.listBatches({ limit: 1_000, ...cursor })),
  ]);
  const sum = (counts: Record<string, number>) => Object.values(counts).reduce((total, count) => total + count, 0);
  const check = (what: string, counted: number, there: number) => {
    if (counted !== there) throw new Violation("conservation", `${what}: ${counted} are counted, ${there} are there`);
  };
  check("runs", sum(stats.runs), runCount);
  check("requests", sum(stats.requests), requests.length);
  for (const [state, count] of Object.entries(stats.requests)) {
    check(`requests ${state}`, count, requests.filter((request) => request.state === state).length);
  }
  check("open requests", stats.requests.queued + stats.requests.batched, 0);
  check("batches", sum(stats.batches), batches.length);
  for (const batch of batches) {
    if (batch.endedAt === undefined) throw new Violation("termination", `batch ${batch.id} is ${batch.state} at the end`);
    const { succeeded, failed, requeued, cancelled } = batch.counts;
    check(`members of batch ${batch.id}`, succeeded + failed + requeued + cancelled, batch.requestCount);
  }
}

/** After the last look of the last batch: every job that is not its batch's own was found, counted and cancelled. `calmAt`: from then on every call succeeds. */
export async function judgeDuplicates(store: Store, service: Service, calmAt: number): Promise<void> {
  const batches = await listAll(async (cursor) => store.listBatches({ limit: 1_000, ...cursor }));
  let found = 0;
  for (const { id, job: own, duplicateJobs } of batches) {
    const token = jobToken(store.id, id);
    const others = service.jobs.filter((job) => job.token === token && job.name !== own);
    const names = others.map(({ name }) => name).toSorted();
    if (!isDeepStrictEqual(names, duplicateJobs.toSorted())) {
      throw new Violation(
        "every duplicate is found",
        `batch ${id} with ${own} has ${names.join() || "none"}, found are ${duplicateJobs.join() || "none"}`,
      );
    }
    found += names.length;
    for (const job of others) {
      const ignored = job.seenRunningAt !== undefined && job.seenRunningAt >= calmAt && !job.cancelAsked;
      if (ignored || service.stateOf(job) === "running")
        throw new Violation("every duplicate is cancelled", `${job.name} of batch ${id} ran on`);
    }
  }
  const { duplicateJobs } = await store.stats();
  if (duplicateJobs !== found) throw new Violation("conservation", `${duplicateJobs} duplicates are counted, ${found} are there`);
}
