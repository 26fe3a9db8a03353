import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decideFlush } from "./batching.ts";
import { canonicalJson, toJson } from "./json.ts";
import { parseRowKey, rowKey } from "./keys.ts";
import { outcomeOf } from "./outcome.ts";
import { nextPollDelayMs } from "./polling.ts";
import { costOf, defaultPrices } from "./pricing.ts";
import type { Method, ResultRow } from "./provider.ts";
import { usageOf } from "./usage.ts";

const fixed = { seed: 20_261_122, numRuns: 300 };

/** The same value with the keys of every object in another order. */
function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, item]) => [key, shuffled(item)]),
  );
}

describe("for any input", () => {
  it("canonical JSON depends on the value only, and parses back to it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const plain = JSON.parse(JSON.stringify(value)) as unknown;
        expect(canonicalJson(shuffled(plain))).toBe(canonicalJson(plain));
        expect(JSON.parse(canonicalJson(plain))).toEqual(plain);
      }),
    );
  });

  it("what toJson takes comes back as it was", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(JSON.parse(toJson(value, "it"))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it("row keys are read back, and no other text is taken for one by accident of form", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9-]{1,20}$/), fc.integer({ min: 1, max: 1_000 }), (id, attempt) => {
        expect(parseRowKey(rowKey(id, attempt))).toEqual({ id, attempt });
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const parsed = parseRowKey(text);
        if (parsed) expect(rowKey(parsed.id, parsed.attempt).length).toBeLessThanOrEqual(text.length);
      }),
    );
  });

  it("rows of any shape have an outcome, and its message is one short line", () => {
    const error = fc.record({
      code: fc.oneof(fc.integer(), fc.double()),
      message: fc.string({ maxLength: 40 }).map((text) => `${text}\n`.repeat(20)),
    });
    const row = fc.oneof(
      fc.anything().map((response): ResultRow => ({ key: "r1.1", response })),
      error.map((given): ResultRow => ({ key: "r1.1", error: given })),
      fc.string().map((problem): ResultRow => ({ key: undefined, problem })),
    );
    fc.assert(
      fc.property(row, fc.constantFrom<Method>("generateContent", "embedContent", "rawPredict"), (given, method) => {
        const outcome = outcomeOf(given, method);
        if ("error" in outcome) {
          expect(outcome.error.message.length).toBeLessThan(500);
          expect(outcome.error.message).not.toMatch(/[\r\n]/);
        }
        if ("retries" in outcome) expect([1, 2, 3]).toContain(outcome.retries);
        else expect(["deliver", "fail"]).toContain(outcome.type);
      }),
      fixed,
    );
  });

  it("usage and cost of any response are numbers that are not negative, and no tier costs more than standard", () => {
    const details = fc.array(fc.record({ modality: fc.constantFrom("AUDIO", "IMAGE", "TEXT"), tokenCount: fc.integer({ max: 1e9 }) }));
    const meta = fc.record(
      {
        promptTokenCount: fc.anything(),
        cachedContentTokenCount: fc.integer({ min: 0, max: 1e9 }),
        candidatesTokenCount: fc.integer({ min: 0, max: 1e9 }),
        promptTokensDetails: fc.oneof(details, fc.anything()),
        cacheTokensDetails: details,
        candidatesTokensDetails: details,
      },
      { requiredKeys: [] },
    );
    const response = fc.oneof(
      fc.anything(),
      meta.map((usageMetadata) => ({ usageMetadata })),
    );
    fc.assert(
      fc.property(
        response,
        fc.constantFrom(...defaultPrices),
        fc.constantFrom("batch" as const, "flex" as const, "standard" as const),
        (given, { model }, tier) => {
          const usage = usageOf(given);
          for (const count of Object.values(usage) as number[]) expect(count >= 0 && count < Infinity).toBe(true);
          const cost = costOf(usage, model, tier, 0);
          expect(cost!.usd).toBeGreaterThanOrEqual(0);
          expect(cost!.standardUsd).toBeGreaterThanOrEqual(cost!.usd);
        },
      ),
      fixed,
    );
  });

  it("a flush never breaks a limit, and whoever does not flush is looked at again or blocked by a job", () => {
    const policy = { maxRequests: 100, maxBytes: 10_000, maxWaitMs: 60_000, maxJobs: 8, debounceMs: 250 };
    const count = fc.integer({ min: 0, max: 1_000 });
    const input = fc.record({
      queued: count,
      bytes: fc.integer({ min: 0, max: 100_000 }),
      tokens: count,
      oldestAgeMs: fc.integer({ min: 0, max: 100_000 }),
      quietMs: count,
      activeBatches: fc.integer({ min: 0, max: 12 }),
      sinceLastBatchMs: fc.integer({ min: 0, max: 1_000_000 }),
      turnaroundMs: fc.option(fc.integer({ min: 1, max: 1_000_000 }), { nil: undefined }),
      freeTokens: fc.integer({ min: -100, max: 1_000 }),
      tokensInUse: fc.boolean(),
    });
    fc.assert(
      fc.property(input, (at) => {
        const decision = decideFlush(policy, at);
        if (decision.flush) {
          expect(at.activeBatches).toBeLessThan(policy.maxJobs);
          expect(decision.limits.requests).toBeLessThanOrEqual(policy.maxRequests);
          expect(decision.limits.tokens).toBeGreaterThan(0);
        } else if (decision.waitMs === undefined) {
          expect(at.queued === 0 || at.activeBatches > 0 || at.tokensInUse).toBe(true);
        } else {
          expect(decision.waitMs).toBeGreaterThan(0);
        }
      }),
    );
  });

  it("polls stay within their bounds", () => {
    const policy = { minIntervalMs: 1_000, maxIntervalMs: 60_000 };
    fc.assert(
      fc.property(fc.nat(), fc.option(fc.nat(), { nil: undefined }), (age, fastest) => {
        const delay = nextPollDelayMs(policy, age, fastest);
        expect(delay).toBeGreaterThanOrEqual(policy.minIntervalMs);
        expect(delay).toBeLessThanOrEqual(policy.maxIntervalMs);
      }),
    );
  });
});
