import { describe, expect, it } from "vitest";
import { maxAgeMs, nextPollDelayMs, Turnarounds } from "./polling.ts";

const hourMs = 3_600_000;

describe("polls", () => {
  it("look at a twentieth of the age, within bounds, and save looks on young jobs", () => {
    const policy = { minIntervalMs: 1_000, maxIntervalMs: 60_000 };
    expect(nextPollDelayMs(policy, 0, undefined)).toBe(1_000);
    expect(nextPollDelayMs(policy, 200_000, undefined)).toBe(10_000);
    expect(nextPollDelayMs(policy, 10_000_000, undefined)).toBe(60_000);
    expect(nextPollDelayMs(policy, 0, 50_000)).toBe(30_000);
    expect(nextPollDelayMs(policy, 40_000, 50_000)).toBe(2_000);
  });
});

describe("the age from which a job counts as stuck", () => {
  it.each<[string, number[], number, number]>([
    ["nothing is known", [], 36, 36],
    ["two jobs say nothing yet", [1_000, 1_000], 36, 36],
    ["fast jobs", [1_000, 2_000, 90_000], 36, 6],
    ["20 times the slowest", [0.1 * hourMs, 0.5 * hourMs, 0.2 * hourMs], 36, 10],
    ["never more than the limit", [5 * hourMs, 1, 1], 36, 36],
    ["a limit below six hours is kept", [1, 1, 1], 2, 2],
  ])("%s", (_name, history, limitHours, hours) => {
    expect(maxAgeMs({ maxAgeMs: limitHours * hourMs }, history)).toBe(hours * hourMs);
  });
});

describe("turnarounds", () => {
  it("learn from the last jobs of a lane", () => {
    const turnarounds = new Turnarounds();
    expect(turnarounds.typical("l")).toBeUndefined();
    expect(turnarounds.slowest("l")).toBeUndefined();
    expect(turnarounds.recent("l")).toEqual([]);
    for (const ms of [30, 10, 20]) turnarounds.record("l", ms);
    expect([turnarounds.typical("l"), turnarounds.fastest("l"), turnarounds.slowest("l"), turnarounds.fastest("other")]).toEqual([
      20,
      10,
      30,
      undefined,
    ]);
    expect(turnarounds.recent("l")).toEqual([30, 10, 20]);
  });
  it("forget all but twenty", () => {
    const turnarounds = new Turnarounds();
    for (let ms = 1; ms <= 25; ms += 1) turnarounds.record("l", ms);
    expect(turnarounds.recent("l")).toHaveLength(20);
    expect([turnarounds.fastest("l"), turnarounds.slowest("l")]).toEqual([6, 25]);
  });
});
