/**
 * What goes wrong under a seed. Every seed draws its own mix: some faults are off, so that each also meets the others alone.
 *
 * @module
 */
import type { Random } from "../../src/core/clock.ts";

/** Chances are per call, per job or per row; times are in milliseconds. */
export interface Plan {
  /** How many processes work at a time, and whether each ticks or runs its loops. */
  processes: readonly { loops: boolean; parkedBytes: number; concurrency: number }[];
  /** A store that grants its roles to everybody. */
  sharedRoles: boolean;
  /** Faults stop after this. */
  faultsMs: number;
  crash: number;
  freeze: number;
  freezeMs: number;
  /** Freezes between the durable intent to create a job and the request, for up to 640 s. */
  freezeSending: number;
  /** The store is locked or full: it did nothing. No seed draws it by itself. */
  storeFails: number;
  /** The store did it, and its answer was lost: as with a store over a network, not with a file. No seed draws it by itself. */
  storeAnswerLost: number;
  skewMs: number;
  jumpMs: number;
  batching: { maxRequests: number; maxJobs: number };
  provider: ProviderPlan;
  /** Runs that an operator cancels, of all. */
  cancelled: number;
}

export interface ProviderPlan {
  turnaroundMs: [number, number];
  latencyMs: number;
  /** Calls that fail with nothing done: connection lost, 429, 5xx. */
  failBefore: number;
  /** Creates that never arrive, whose answer is lost, and that are answered late. */
  createLost: number;
  createUnanswered: number;
  createLateMs: number;
  /** How long a job may be missing from the list. */
  listLagMs: number;
  /** Unanswered jobs that the list hides for longer than anybody waits, for up to 20 h. A second job of a batch is allowed then, but not a second answer. */
  createHidden: number;
  /** Uploads that are gone when the job is created. */
  inputGone: number;
  /** Jobs that come to nothing: failed, expired, cancelled from outside, removed. */
  jobFails: number;
  unknownState: number;
  lateOutput: number;
  outputGone: number;
  /** Downloads that break, and that end early as if complete. */
  downloadBreaks: number;
  downloadCut: number;
  /** Rows that are missing, null, garbage or errors at first. */
  badRow: number;
  /** Additional lines: duplicates with another text, rows of other requests and attempts, keys of nobody. */
  strangeRows: number;
  /** What a direct call takes. */
  callMs: [number, number];
  /** Direct calls that are shed or over a limit, that are never answered, and whose answer is lost. */
  callShed: number;
  callLost: number;
  callUnanswered: number;
}

const calm: Plan = {
  processes: [{ loops: false, parkedBytes: 100_000_000, concurrency: 2_048 }],
  sharedRoles: false,
  faultsMs: 0,
  crash: 0,
  freeze: 0,
  freezeMs: 0,
  freezeSending: 0,
  storeFails: 0,
  storeAnswerLost: 0,
  skewMs: 0,
  jumpMs: 0,
  batching: { maxRequests: 50, maxJobs: 100 },
  provider: {
    turnaroundMs: [20_000, 20_000],
    latencyMs: 0,
    failBefore: 0,
    createLost: 0,
    createUnanswered: 0,
    createLateMs: 0,
    listLagMs: 0,
    createHidden: 0,
    inputGone: 0,
    jobFails: 0,
    unknownState: 0,
    lateOutput: 0,
    outputGone: 0,
    downloadBreaks: 0,
    downloadCut: 0,
    badRow: 0,
    strangeRows: 0,
    callMs: [1_000, 1_000],
    callShed: 0,
    callLost: 0,
    callUnanswered: 0,
  },
  cancelled: 0,
};

/** A world where nothing goes wrong. */
export function calmPlan(): Plan {
  return structuredClone(calm);
}

export function drawPlan(random: Random): Plan {
  /** A chance up to `most`, or none at all in one of three seeds. */
  const chance = (most: number) => (random.next() < 1 / 3 ? 0 : most * (0.1 + 0.9 * random.next()));
  const upTo = (most: number) => Math.round(most * random.next());
  const one = <T>(...values: T[]): T => values[Math.floor(random.next() * values.length)]!;
  const shortest = one(2_000, 10_000, 30_000);
  return {
    processes: Array.from({ length: one(2, 2, 3) }, () => ({
      loops: random.next() < 0.4,
      parkedBytes: one(0, 20_000, 100_000_000, 100_000_000),
      concurrency: one(1, 4, 2_048),
    })),
    sharedRoles: random.next() < 0.6,
    faultsMs: 60_000 * (3 + upTo(6)),
    crash: chance(0.012),
    freeze: chance(0.004),
    freezeMs: one(5_000, 45_000, 200_000, 640_000),
    freezeSending: chance(0.1),
    storeFails: 0,
    storeAnswerLost: 0,
    skewMs: one(0, 2_000),
    jumpMs: one(0, 0, 3_000, 15_000),
    batching: { maxRequests: one(3, 10, 50), maxJobs: one(2, 5, 100) },
    provider: {
      turnaroundMs: [shortest, shortest * one(1, 4, 10)],
      latencyMs: one(0, 200, 3_000),
      failBefore: chance(0.15),
      createLost: chance(0.15),
      createUnanswered: chance(0.3),
      createLateMs: one(0, 0, 5_000, 30_000),
      listLagMs: one(0, 5_000, 90_000),
      createHidden: one(0, 0, 0, 0.5),
      inputGone: chance(0.1),
      jobFails: chance(0.15),
      unknownState: chance(0.1),
      lateOutput: chance(0.2),
      outputGone: chance(0.1),
      downloadBreaks: chance(0.2),
      downloadCut: chance(0.1),
      badRow: chance(0.1),
      strangeRows: chance(0.3),
      callMs: [500, one(500, 20_000, 200_000)],
      callShed: chance(0.3),
      callLost: chance(0.1),
      callUnanswered: chance(0.2),
    },
    cancelled: chance(0.2),
  };
}
