/** Counts of rows by state, as both SQL stores keep them, and what is read from them. */
import { GembatchError } from "../core/errors.ts";
import type { Lane } from "../core/provider.ts";
import { batchTransitions, requestTransitions, runTransitions } from "../core/states.ts";
import type { StoreStats } from "../core/store.ts";
import { batchStates, requestStates, runStates } from "./codes.ts";
import { type SpendSums, toUsage } from "./spend.ts";

/** Where each state machine's counts begin: number = base + state code. */
export const RUNS = 0;
export const REQUESTS = 10;
export const BATCHES = 20;
/** Jobs that turned out to be duplicates, ever. */
export const DUPLICATE_JOBS = 30;

export type Counts = ReadonlyMap<number, number>;

export function countOf(counts: Counts, base: number, codes: readonly number[]): number {
  return codes.reduce((sum, code) => sum + (counts.get(base + code) ?? 0), 0);
}

/** Runnable, running, waiting and retrying runs. */
export const liveRuns = (counts: Counts): number => countOf(counts, RUNS, [0, 1, 2, 3]);

export function toStats(counts: Counts, lanes: readonly SpendSums[], laneOf: (no: number) => Lane): StoreStats {
  return {
    runs: countStates(runTransitions, runStates, counts, RUNS),
    requests: countStates(requestTransitions, requestStates, counts, REQUESTS),
    batches: countStates(batchTransitions, batchStates, counts, BATCHES),
    usage: lanes.map((row) => ({ lane: laneOf(row.lane), answers: row.answers, usage: toUsage(row) })),
    duplicateJobs: counts.get(DUPLICATE_JOBS) ?? 0,
  };
}

function countStates<S extends string>(
  all: Readonly<Record<S, unknown>>,
  names: readonly S[],
  counts: Counts,
  base: number,
): Record<S, number> {
  const found = Object.fromEntries(Object.keys(all).map((state) => [state, 0])) as Record<S, number>;
  names.forEach((name, code) => {
    found[name] += counts.get(base + code) ?? 0;
  });
  return found;
}

/** The place behind a row of a list, for the next page. */
export const toCursor = (no: number): string => no.toString(36);

export function parseCursor(text: string): number {
  const no = /^[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text, 36) : Number.NaN;
  if (Number.isSafeInteger(no)) return no;
  throw new GembatchError("invalid_argument", "The cursor is none that this store gave out.", {
    hint: "Pass nextCursor of the page before, unchanged.",
  });
}
