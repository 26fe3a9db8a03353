import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lane } from "./provider.ts";
import {
  atTier,
  decideAuto,
  decideDeadline,
  isDirect,
  laneTier,
  RateLimit,
  type AutoInput,
  type DeadlineInput,
  type LaneTier,
} from "./tiers.ts";

const minute = 60_000;
const hour = 60 * minute;

describe("lanes and tiers", () => {
  it("the batch tier is the one that is not written", () => {
    const lane: Lane = { provider: "gemini", model: "m", method: "generateContent" };
    expect(laneTier(lane)).toBe("batch");
    expect(atTier(lane, "flex")).toEqual({ ...lane, tier: "flex" });
    expect(atTier(atTier(lane, "flex"), "batch")).toEqual(lane);
    expect((["batch", "auto", "flex", "standard"] as const).map((tier) => isDirect(atTier(lane, tier)))).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });
});

describe("auto", () => {
  const narrow: AutoInput = {
    method: "generateContent",
    queued: 3,
    oldestAgeMs: 1_000,
    batchQueued: 0,
    maxRequests: 8,
    breakerOpen: false,
    quiet: true,
  };
  it.each<[string, Partial<AutoInput>, string, string]>([
    ["few requests and nothing to join them", {}, "flex", "auto: 3 requests and nothing to join them"],
    ["a single one", { queued: 1 }, "flex", "auto: 1 request and nothing to join them"],
    ["as many as still count as few", { queued: 8 }, "flex", "auto: 8 requests and nothing to join them"],
    ["a wide wave", { queued: 9 }, "batch", "auto: 9 requests, more than the 8 that go to flex"],
    ["no wave is narrow", { queued: 1, maxRequests: 0 }, "batch", "auto: 1 request, more than the 0 that go to flex"],
    ["others wait for a job already", { batchQueued: 40 }, "batch", "auto: 3 requests, which join 40 more in the batch queue"],
    ["runs may add more", { quiet: false }, "batch", "auto: 3 requests, and runs are still adding to them"],
    ["runs could have added more for a minute", { quiet: false, oldestAgeMs: minute }, "flex", "auto: 3 requests and nothing to join them"],
    [
      "what jobs take is told",
      { typicalBatchMs: 40 * minute },
      "flex",
      "auto: 3 requests and nothing to join them; a batch job usually takes 40m",
    ],
    ["batch has stopped", { breakerOpen: true, batchQueued: 40, quiet: false }, "flex", "auto: 3 requests and batch has stopped launching"],
    [
      "batch has stopped, but it is a wave",
      { breakerOpen: true, queued: 500 },
      "batch",
      "auto: 500 requests, more than the 8 that go to flex",
    ],
    ["embeddings", { method: "embedContent", breakerOpen: true }, "batch", "auto: 3 requests, and embeddings have no flex tier"],
    [
      "models of other publishers",
      { method: "rawPredict", breakerOpen: true },
      "batch",
      "auto: 3 requests, and models of other publishers have no flex tier",
    ],
  ])("%s", (_name, over, tier, reason) => {
    expect(decideAuto({ ...narrow, ...over })).toEqual({ tier, reason });
  });
});

describe("deadlines", () => {
  const now = 1_000 * hour;
  const waiting: DeadlineInput = {
    now,
    deadlineAt: now + 4 * hour,
    tier: "batch",
    batched: false,
    batchMs: hour,
    flexMs: 15 * minute,
    standardMs: 2 * minute,
  };
  const decide = (leftMs: number, over: Partial<DeadlineInput> = {}) => decideDeadline({ ...waiting, deadlineAt: now + leftMs, ...over });

  it.each<[string, number, Partial<DeadlineInput>, number | undefined]>([
    ["a job makes it", 4 * hour, {}, 2.5 * hour],
    ["a running job makes it", 4 * hour, { batched: true, batchMs: 10 * minute }, 4 * hour - 15 * minute],
    ["so does one of an auto queue", 4 * hour, { tier: "auto" }, 2.5 * hour],
    ["a job just makes it", 1.5 * hour + 1, {}, Math.ceil((1.5 * hour + 1) / 20)],
    ["flex makes it", 20 * minute, { tier: "flex" }, 5 * minute],
    ["a flex call in flight is left alone", 10 * minute, { tier: "flex", batched: true }, 7 * minute],
    ["standard stays", -hour, { tier: "standard" }, undefined],
    ["standard stays, in flight", hour, { tier: "standard", batched: true }, undefined],
    ["what only jobs answer stays", -hour, { method: "rawPredict", batchMs: Infinity }, undefined],
  ])("%s", (_name, leftMs, over, checkInMs) => {
    expect(decide(leftMs, over)).toEqual({ checkAt: checkInMs === undefined ? undefined : now + checkInMs });
  });

  it.each<[string, number, Partial<DeadlineInput>, string, string]>([
    ["a job would be late, flex is not", 80 * minute, {}, "flex", "deadline: 1h 20m are left, and a batch job is expected to take 1h"],
    ["an auto queue, likewise", 80 * minute, { tier: "auto" }, "flex", "deadline: 1h 20m are left, and a batch job is expected to take 1h"],
    [
      "a running job would be late",
      20 * minute,
      { batched: true },
      "flex",
      "deadline: 20m are left, and the rest of its batch job is expected to take 1h; the answer of its batch job is paid as well if it comes",
    ],
    ["flex just makes it", 15 * minute, {}, "flex", "deadline: 15m are left, and a batch job is expected to take 1h"],
    ["flex would be late, too", 15 * minute - 1, {}, "standard", "deadline: 15m are left, and a batch job is expected to take 1h"],
    ["no job is launched", 4 * hour, { batchMs: Infinity }, "flex", "deadline: 4h are left, and no batch job will be launched in time"],
    [
      "embeddings have no flex tier",
      80 * minute,
      { method: "embedContent" },
      "standard",
      "deadline: 1h 20m are left, and a batch job is expected to take 1h",
    ],
    ["it has passed", -5 * minute, {}, "standard", "deadline: it passed 5m ago, and a batch job is expected to take 1h"],
    ["now", 0, { flexMs: 0 }, "standard", "deadline: it passed 0ms ago, and a batch job is expected to take 1h"],
    [
      "a flex call still waits to be sent",
      15 * minute,
      { tier: "flex" },
      "standard",
      "deadline: 15m are left, and a flex call may take 15m",
    ],
    [
      "a flex call does not answer",
      3 * minute,
      { tier: "flex", batched: true },
      "standard",
      "deadline: 3m are left, and its flex call has not answered; the answer of the flex call is paid as well if it comes",
    ],
  ])("%s", (_name, leftMs, over, tier, reason) => {
    expect(decide(leftMs, over).move).toEqual({ tier, reason });
  });

  it("a request that moved to flex is looked at again when flex would be late", () => {
    expect(decide(80 * minute).checkAt).toBe(now + 65 * minute);
    expect(decide(5 * minute).checkAt).toBeUndefined();
  });

  it("whatever is expected, each request settles after at most two moves, and every look is later than the one before", () => {
    const input = fc.record({
      leftMs: fc.integer({ min: -hour, max: 48 * hour }),
      tier: fc.constantFrom<LaneTier>("batch", "auto", "flex", "standard"),
      method: fc.constantFrom("generateContent" as const, "embedContent" as const),
      flexMs: fc.integer({ min: 0, max: hour }),
      standardMs: fc.integer({ min: 0, max: hour }),
      /** At every look: whether it is in a batch by now, and what a job takes. */
      looks: fc.array(
        fc.record({ batched: fc.boolean(), batchMs: fc.oneof(fc.integer({ min: 0, max: 48 * hour }), fc.constant(Infinity)) }),
        {
          minLength: 1,
          maxLength: 8,
        },
      ),
    });
    fc.assert(
      fc.property(input, ({ leftMs, looks, ...given }) => {
        const deadlineAt = now + leftMs;
        let at = now;
        let { tier } = given;
        const moves: string[] = [];
        for (let look = 0; ; look += 1) {
          expect(look).toBeLessThan(500);
          const { checkAt, move } = decideDeadline({ ...given, ...looks[look % looks.length]!, tier, now: at, deadlineAt });
          if (move) {
            moves.push(move.tier);
            tier = move.tier;
          }
          if (checkAt === undefined) break;
          expect(checkAt).toBeGreaterThan(at);
          at = checkAt;
        }
        expect(tier).toBe("standard");
        expect([[], ["standard"], ["flex", "standard"]]).toContainEqual(moves);
        if (given.method === "embedContent") expect(moves).not.toContain("flex");
      }),
      { seed: 20_261_122, numRuns: 500 },
    );
  });
});

describe("rates", () => {
  it("a tenth of a minute's calls may go at once, the others evenly", () => {
    const limit = new RateLimit(60);
    expect(Array.from({ length: 6 }, () => limit.take(0))).toEqual([0, 0, 0, 0, 0, 0]);
    const wait = limit.take(0);
    expect(wait).toBe(Math.ceil(60_000 / 55));
    expect(limit.take(wait - 1)).toBe(1);
    expect(limit.take(wait)).toBe(0);
  });
  it("one call a minute", () => {
    const limit = new RateLimit(1);
    expect([limit.take(5), limit.take(5), limit.take(60_004), limit.take(60_005)]).toEqual([0, minute, 1, 0]);
  });
  it("none without a limit", () => {
    const limit = new RateLimit(Infinity);
    expect(Array.from({ length: 1_000 }, (_, n) => limit.take(n % 7)).every((wait) => wait === 0)).toBe(true);
  });
  it("a clock that is set back stands still, one that is set forward fills the bucket and no more", () => {
    const limit = new RateLimit(60);
    for (let n = 0; n < 6; n += 1) limit.take(hour);
    expect(limit.take(0)).toBeGreaterThan(0);
    expect(limit.take(minute)).toBe(0);
    const late = 100 * hour;
    expect(Array.from({ length: 7 }, () => limit.take(late)).filter((wait) => wait === 0)).toHaveLength(6);
  });
  it("are never exceeded in any minute, and are used up by whoever asks when told", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 200 }),
        (perMinute, pauses) => {
          const limit = new RateLimit(perMinute);
          const calls: number[] = [];
          let at = 0;
          for (const pause of [...pauses, ...Array.from({ length: 3 * perMinute }, () => 0)]) {
            at += pause;
            for (let wait = limit.take(at); wait > 0; wait = limit.take(at)) at += wait;
            calls.push(at);
          }
          for (const [index, call] of calls.entries()) {
            const next = calls[index + perMinute];
            if (next !== undefined) expect(next - call).toBeGreaterThanOrEqual(minute);
          }
          const asked = calls.slice(-3 * perMinute);
          expect(asked.at(-1)! - asked[0]!).toBeLessThan(4 * minute);
        },
      ),
      { seed: 20_261_122, numRuns: 50 },
    );
  });
});
