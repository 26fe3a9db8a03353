import { describe, expect, it } from "vitest";
import { breakerOf, type ActiveBatch, type BreakerPolicy, type EndedBatch } from "./breaker.ts";

const minute = 60_000;
const hour = 60 * minute;
const now = 1_000 * hour;
const policy: BreakerPolicy = { failures: 3, stuck: 3, stuckMs: 12 * hour };

/** Batches that ended so many minutes ago. */
const completed = (ago: number): EndedBatch => ({ state: "completed", jobState: "succeeded", endedAt: now - ago * minute });
const expired = (ago: number): EndedBatch => ({ state: "expired", jobState: "expired", endedAt: now - ago * minute });
const failed = (ago: number): EndedBatch => ({ state: "failed", jobState: "failed", endedAt: now - ago * minute });
const stuck = (ago: number): EndedBatch => ({
  state: "cancelled",
  jobState: "cancelled",
  endedAt: now - ago * minute,
  cancelledAt: now - (ago + 1) * minute,
});
const cancelled = (ago: number): EndedBatch => ({ state: "cancelled", jobState: "cancelled", endedAt: now - ago * minute });
const refused = (ago: number): EndedBatch => ({ state: "failed", jobState: undefined, endedAt: now - ago * minute });
const launched = (ago: number): ActiveBatch => ({ launchedAt: now - ago * minute, cancelledAt: undefined });
const open = (until: number, probe: boolean, reason: RegExp) => ({ open: true, until, probe, reason: expect.stringMatching(reason) });

describe("batches in a row", () => {
  it.each<[string, EndedBatch[], object]>([
    ["none", [], { open: false }],
    ["two that expired", [expired(1), expired(2)], { open: false }],
    [
      "three that expired",
      [expired(1), expired(2), expired(3)],
      open(now + 14 * minute, false, /last 3 jobs expired.*the model may be retired; the next try is in 14m/),
    ],
    ["three that failed as a whole", [failed(1), failed(2), failed(3)], open(now + 14 * minute, false, /failed as a whole/)],
    ["three that were stuck", [stuck(1), stuck(2), stuck(3)], open(now + 14 * minute, false, /stuck and had to be cancelled/)],
    ["three of different trouble", [stuck(1), failed(2), expired(3)], open(now + 14 * minute, false, /failed, expired or were stuck/)],
    [
      "older trouble does not name it",
      [expired(1), expired(2), expired(3), failed(4)],
      open(now + 29 * minute, false, /last 4 jobs.*retired/),
    ],
    ["a good one closes it", [completed(1), expired(2), expired(3), expired(4)], { open: false }],
    ["a good one between", [expired(1), expired(2), completed(3), expired(4), expired(5)], { open: false }],
    ["somebody else's cancel says nothing", [expired(1), cancelled(2), expired(3), cancelled(4)], { open: false }],
    ["nor does it close anything", [expired(1), cancelled(2), expired(3), expired(4)], open(now + 14 * minute, false, /retired/)],
    ["refused input says nothing", [refused(1), refused(2), refused(3)], { open: false }],
    [
      "states without their job's",
      [{ state: "expired", endedAt: now }, { state: "expired" }, { state: "expired" }],
      open(now + 15 * minute, false, /retired/),
    ],
    [
      "answers that could not be had",
      [1, 2, 3].map((ago) => ({ ...failed(ago), jobState: "succeeded" as const })),
      open(now + 14 * minute, false, /failed as a whole/),
    ],
    [
      "expired jobs that left some answers",
      [1, 2, 3].map((ago) => ({ ...completed(ago), jobState: "expired" as const })),
      open(now + 14 * minute, false, /retired/),
    ],
    [
      "a stuck job that succeeded after all",
      [{ ...completed(1), cancelledAt: now - 2 * minute }, expired(2), expired(3), expired(4)],
      { open: false },
    ],
    [
      "stuck jobs that could not be cancelled",
      [1, 2, 3].map((ago) => ({ ...expired(ago), cancelledAt: now - hour })),
      open(now + 14 * minute, false, /stuck/),
    ],
  ])("%s", (_name, ended, expected) => {
    expect(breakerOf(ended, [], now, policy)).toEqual(expected);
  });
});

describe("the rest", () => {
  const failures = (count: number) => Array.from({ length: count }, (_, n) => failed(n));
  it.each([
    [3, 15],
    [4, 30],
    [5, 60],
    [6, 120],
    [7, 240],
    [8, 360],
    [9, 360],
    [60, 360],
  ])("after %i failures takes %i minutes", (count, minutes) => {
    expect(breakerOf(failures(count), [], now, policy)).toMatchObject({ open: true, until: now + minutes * minute, probe: false });
  });
  it("counts from the last end, in whatever order they came", () => {
    expect(breakerOf([failed(9), failed(5), failed(7)], [], now, policy)).toMatchObject({ until: now + 10 * minute });
  });
  it("can be set", () => {
    const short = { ...policy, failures: 1, coolDownMs: 1_000, maxCoolDownMs: 3_000 };
    expect([1, 2, 3].map((count) => breakerOf(failures(count), [], now, short))).toMatchObject([
      { until: now + 1_000 },
      { until: now + 2_000 },
      { until: now + 3_000 },
    ]);
  });
});

describe("the probe", () => {
  const ended = [failed(15), failed(16), failed(17)];
  it("is one batch after the rest", () => {
    expect(breakerOf(ended, [], now - 1, policy)).toMatchObject({ open: true, probe: false });
    expect(breakerOf(ended, [], now, policy)).toEqual(open(now, true, /one batch is launched to try again/));
  });
  it.each<[string, ActiveBatch, boolean]>([
    ["launched after the rest", launched(0), false],
    ["on its way", {}, false],
    ["launched before", launched(20), true],
  ])("while one is active that was %s: %s", (_name, active, probe) => {
    expect(breakerOf(ended, [active], now, policy)).toMatchObject({ open: true, probe });
  });
  it("is waited for until it would count as stuck itself", () => {
    expect(breakerOf([failed(60), failed(60), failed(60)], [launched(30)], now, policy)).toEqual(
      open(now + 11.5 * hour, false, /waiting for the one batch/),
    );
  });
  it("opens the breaker for longer when it fails, and closes it when it completes", () => {
    expect(breakerOf([failed(0), ...ended], [], now, policy)).toMatchObject({ open: true, until: now + 30 * minute });
    expect(breakerOf([completed(0), ...ended], [], now, policy)).toEqual({ open: false });
  });
});

describe("stuck jobs", () => {
  const old = launched(12 * 60);
  const told: ActiveBatch = { launchedAt: now - hour, cancelledAt: now - minute };
  it.each<[string, EndedBatch[], ActiveBatch[], object]>([
    ["two", [], [old, told], { open: false }],
    [
      "three, over age or cancelled",
      [],
      [old, told, old],
      open(now + 15 * minute, false, /^3 of its jobs are stuck at the provider: stopped launching/),
    ],
    ["almost over age", [], [launched(12 * 60 - 1), told, old], { open: false }],
    ["not launched yet", [], [{}, told, old], { open: false }],
    ["since when nothing completed", [completed(20)], [told, told, told], open(now + 15 * minute, false, /stuck/)],
    ["while others complete", [completed(0)], [told, told, told, old], { open: false }],
    [
      "some of them before and some after the last good one",
      [completed(0.5)],
      [told, told, { ...told, cancelledAt: now }],
      { open: false },
    ],
  ])("%s", (_name, ended, active, expected) => {
    expect(breakerOf(ended, active, now, policy)).toEqual(expected);
  });
});
