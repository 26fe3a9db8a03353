import { describe, expect, it } from "vitest";
import { timeOrderedId } from "./clock.ts";
import { formatDuration, parseDuration } from "./duration.ts";
import { GembatchError, deserializeError, serializeError } from "./errors.ts";
import { estimateTokens } from "./estimate.ts";
import { canonicalJson, digest, toJson } from "./json.ts";
import { jobToken, parseRowKey, rowKey } from "./keys.ts";
import { backoffMs, throttleDelayMs } from "./retry.ts";
import { batchTransitions, isTerminalBatch, isTerminalRequest, isTerminalRun, requestTransitions, runTransitions } from "./states.ts";

describe("durations", () => {
  it.each([
    ["50ms", 50],
    ["2s", 2_000],
    ["1.5m", 90_000],
    ["24h", 86_400_000],
    ["7d", 604_800_000],
    [0, 0],
    [250, 250],
  ] as const)("%s is %i ms", (value, ms) => {
    expect(parseDuration(value, "x")).toBe(ms);
  });
  it.each(["", "5", "5 weeks", "-1s", -1, Number.NaN, Infinity, null, {}])("refuses %s by the option's name", (value) => {
    expect(() => parseDuration(value as never, "batching.maxWait")).toThrow(/batching\.maxWait/);
  });
  it("is shown for people", () => {
    expect([0, 999, 1_500, 59_000, 60_000, 85_000, 3_600_000, 5_400_000].map(formatDuration)).toEqual([
      "0ms",
      "999ms",
      "1.5s",
      "59s",
      "1m",
      "1m 25s",
      "1h",
      "1h 30m",
    ]);
  });
});

describe("JSON", () => {
  it("equal values have equal canonical text", () => {
    expect(canonicalJson({ b: [1, { d: undefined, c: null }], a: "x" })).toBe('{"a":"x","b":[1,{"c":null}]}');
    expect(canonicalJson({ a: 1, b: 2 })).toBe(canonicalJson({ b: 2, a: 1 }));
  });
  it("digests are 22 characters and differ", () => {
    expect(digest("a")).toHaveLength(22);
    expect(digest("a")).not.toBe(digest("b"));
  });
  const cyclic: Record<string, unknown> = {};
  cyclic["self"] = cyclic;
  it.each([
    ["a function", { a: { b: () => 1 } }, "a.b is a function"],
    ["a symbol", [Symbol("x")], "0 is a symbol"],
    ["a bigint", 1n, "it is a bigint"],
    ["NaN", { n: Number.NaN }, "n is NaN"],
    ["a map", { m: new Map() }, "m is a Map"],
    ["bytes", { bytes: new Uint8Array(2) }, "bytes is a Uint8Array"],
    ["a cycle", cyclic, "self contains itself"],
  ])("refuses %s and says where", (_name, value, message) => {
    expect(() => toJson(value, "The input")).toThrow(`The input cannot be stored as JSON: ${message}`);
  });
  it("takes plain data, dates and class instances as JSON does", () => {
    const shared = { x: 1 };
    expect(toJson({ a: shared, b: shared, at: new Date(0), none: undefined }, "x")).toBe(
      '{"a":{"x":1},"b":{"x":1},"at":"1970-01-01T00:00:00.000Z"}',
    );
    expect(toJson(undefined, "x")).toBe("null");
  });
});

describe("keys", () => {
  it("row keys come back as they went", () => {
    expect(parseRowKey(rowKey("1a-0", 3))).toEqual({ id: "1a-0", attempt: 3 });
  });
  it.each(["", "r", "r.", "r.1", "x1.1", "r1a", "r1a.", "r1a.x", "r1a.0", "r1a.1.5x"])("%s is none of ours", (key) => {
    expect(parseRowKey(key)).toBeUndefined();
  });
  it("tokens carry store and batch", () => {
    expect(jobToken("abcdefghij", "b1")).toBe("gb-abcdefgh-b1");
  });
  it("ids sort by time", () => {
    const random = { next: () => 0.5 };
    expect(timeOrderedId(1, random) < timeOrderedId(2, random)).toBe(true);
    expect(timeOrderedId(Date.UTC(2026, 0, 1), random)).toHaveLength(20);
  });
});

describe("errors", () => {
  it("survive a round trip with code, hint, name and details", () => {
    const error = new GembatchError("request_failed", "It failed.", { hint: "Do this.", retryable: true, details: { n: 1 } });
    const back = deserializeError(JSON.parse(JSON.stringify(serializeError(error, "run_failed"))) as never);
    expect(back).toMatchObject({
      code: "request_failed",
      message: "It failed. Do this.",
      hint: "Do this.",
      retryable: true,
      details: { n: 1 },
    });
    expect(GembatchError.is(back)).toBe(true);
  });
  it("keep the name and stack of user errors", () => {
    const stored = serializeError(new TypeError("boom"), "run_failed");
    expect(stored).toMatchObject({ code: "run_failed", name: "TypeError", message: "boom" });
    expect(deserializeError(stored)).toMatchObject({ name: "TypeError", message: "boom", code: "run_failed" });
  });
  it("describe what was thrown instead of an error", () => {
    expect(serializeError("x".repeat(100), "run_failed").message).toContain("a string of 100 characters");
  });
});

describe("retries", () => {
  const random = { next: () => 1 };
  it("double up to the limit", () => {
    const policy = { initialDelayMs: 100, maxDelayMs: 1_000 };
    expect([1, 2, 3, 4, 5, 50].map((n) => backoffMs(policy, n, random))).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  });
  it("jitter over the upper half", () => {
    expect(backoffMs({ initialDelayMs: 100, maxDelayMs: 1_000 }, 1, { next: () => 0 })).toBe(50);
  });
  it.each([
    [0, 1, 2],
    [1, 1, 2],
    [2, 2, 4],
    [3, 4, 8],
    [4, 5, 15],
    [5, 5, 15],
    [1_000, 5, 15],
  ])("after %i refusals for a quota wait %i to %i minutes", (failures, least, most) => {
    expect(throttleDelayMs(failures, { next: () => 0 })).toBe(least * 60_000);
    expect(throttleDelayMs(failures, { next: () => 0.5 })).toBe(((least + most) / 2) * 60_000);
    expect(throttleDelayMs(failures, { next: () => 1 - Number.EPSILON })).toBe(most * 60_000);
  });
});

describe("estimates", () => {
  it("estimates four bytes a token, media by piece", () => {
    expect(estimateTokens("x".repeat(400))).toBe(100);
    expect(estimateTokens(`{"inlineData":{"data":"${"A".repeat(100_000)}"}}`)).toBeLessThan(300);
  });
});

describe("state tables", () => {
  it("every state that is reached exists, and terminal ones lead nowhere by themselves", () => {
    for (const table of [requestTransitions, runTransitions, batchTransitions]) {
      for (const targets of Object.values(table)) for (const target of targets) expect(Object.keys(table)).toContain(target);
    }
    // An operator may reopen a request that ended without an answer; it never moves by itself.
    const ended = Object.keys(requestTransitions).filter((state) => isTerminalRequest(state as never));
    expect(ended).toEqual(["succeeded", "failed", "cancelled"]);
    for (const [state, targets] of Object.entries(batchTransitions)) expect(isTerminalBatch(state as never)).toBe(targets.length === 0);
    expect(["completed", "failed", "cancelled"].every((state) => isTerminalRun(state as never))).toBe(true);
    expect(isTerminalRun("held")).toBe(false);
  });
});
