import { describe, expect, it } from "vitest";
import { decideFlush, lingerMs, type BatchingPolicy, type FlushInput } from "./batching.ts";

const policy: BatchingPolicy = { maxRequests: 100, maxBytes: 1_000_000, maxWaitMs: 60_000, maxJobs: 8, debounceMs: 250 };
const calm: FlushInput = {
  queued: 10,
  bytes: 1_000,
  tokens: 500,
  oldestAgeMs: 1_000,
  quietMs: 250,
  activeBatches: 0,
  sinceLastBatchMs: Infinity,
  turnaroundMs: undefined,
  freeTokens: Infinity,
  tokensInUse: false,
};
const decide = (change: Partial<FlushInput>) => decideFlush(policy, { ...calm, ...change });

describe("decideFlush", () => {
  it.each<[string, Partial<FlushInput>, object]>([
    ["nothing queued", { queued: 0 }, { flush: false, reason: "empty" }],
    ["quiet for the debounce", {}, { flush: true, reason: "quiet" }],
    ["quiet for less", { quietMs: 100 }, { flush: false, reason: "filling", waitMs: 150 }],
    ["a run could still add", { quietMs: 0 }, { flush: false, reason: "filling", waitMs: 250 }],
    ["full by requests, although runs could add", { queued: 100, quietMs: 0 }, { flush: true, reason: "full" }],
    ["full by bytes", { bytes: 1_000_000, quietMs: 0 }, { flush: true, reason: "full" }],
    ["over age, although runs could add", { oldestAgeMs: 60_000, quietMs: 0 }, { flush: true, reason: "max_wait" }],
    ["every job slot in use", { activeBatches: 8 }, { flush: false, reason: "no_job_slot", waitMs: undefined }],
    ["no tokens left of the quota", { freeTokens: 0, tokensInUse: true }, { flush: false, reason: "token_quota" }],
    ["over the whole quota but alone", { freeTokens: 100, tokens: 500 }, { flush: true, reason: "full" }],
    ["a sliver of the quota is free", { freeTokens: 100, tokens: 500, tokensInUse: true }, { flush: false, reason: "token_quota" }],
    ["a good part of the quota is free", { freeTokens: 200, tokens: 500, tokensInUse: true }, { flush: true, reason: "full" }],
  ])("%s", (_name, change, expected) => {
    expect(decide(change)).toMatchObject(expected);
  });

  it("limits a batch to the free part of the quota", () => {
    expect(decide({ freeTokens: 700 })).toMatchObject({ flush: true, limits: { tokens: 700, requests: 100 } });
  });

  it("wakes no later than the oldest request's limit", () => {
    expect(decide({ quietMs: 0, oldestAgeMs: 59_900 })).toMatchObject({ flush: false, waitMs: 100 });
  });

  it("spaces launches when many slots are in use, not when few are", () => {
    const busy = { activeBatches: 6, turnaroundMs: 80_000, sinceLastBatchMs: 0 };
    expect(decide(busy)).toMatchObject({ flush: false, reason: "filling" });
    expect(decide({ ...busy, sinceLastBatchMs: 10_000 })).toMatchObject({ flush: true });
    expect(lingerMs(policy, { activeBatches: 0, turnaroundMs: 80_000 })).toBe(0);
    expect(lingerMs(policy, { activeBatches: 4, turnaroundMs: undefined })).toBe(0);
    expect(lingerMs(policy, { activeBatches: 8, turnaroundMs: 80_000 })).toBe(10_000);
  });
});
