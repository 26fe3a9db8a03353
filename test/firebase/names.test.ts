import { assert, integer, nat, property } from "fast-check";
import { describe, expect, it } from "vitest";
import { queueName } from "../../src/firebase/names.ts";
import { dispatchAt, followUp, horizonMs, taskId } from "../../src/firebase/task.ts";

describe("the queue's name", () => {
  it.each([
    ["nothing is known", {}, "gembatchWork"],
    ["in a function of one's own", { FUNCTION_TARGET: "onRequestExample", K_SERVICE: "onrequestexample" }, "gembatchWork"],
    ["with an underscore", { FUNCTION_TARGET: "on_request_example", K_SERVICE: "on-request-example" }, "gembatchWork"],
    [
      "with a prefix of firebase.json",
      { FUNCTION_TARGET: "onRequestExample", K_SERVICE: "staging-onrequestexample" },
      "staging-gembatchWork",
    ],
    ["with a prefix that has a hyphen", { FUNCTION_TARGET: "gembatchSweep", K_SERVICE: "a-b-gembatchsweep" }, "a-b-gembatchWork"],
    ["in a kit", { FUNCTION_TARGET: "gembatchWork", K_SERVICE: "kit-one-gembatchwork" }, "kit-one-gembatchWork"],
    ["exported as a group", { FUNCTION_TARGET: "batch.gembatchSweep", K_SERVICE: "batch-gembatchsweep" }, "batch-gembatchWork"],
    ["both", { FUNCTION_TARGET: "batch.gembatchSweep", K_SERVICE: "x-batch-gembatchsweep" }, "x-batch-gembatchWork"],
    ["another group", { FUNCTION_TARGET: "web.ask", K_SERVICE: "web-ask" }, "gembatchWork"],
    ["a service that is not of functions", { K_SERVICE: "my-service" }, "gembatchWork"],
    ["given by the environment", { FUNCTION_TARGET: "ask", K_SERVICE: "x-ask", GEMBATCH_TASK_QUEUE: "mine" }, "mine"],
  ])("%s", (_, env, name) => {
    expect(queueName(env)).toBe(name);
  });

  it("given by an option comes first", () => {
    expect(queueName({ GEMBATCH_TASK_QUEUE: "theirs" }, "mine")).toBe("mine");
  });
});

describe("tasks in time", () => {
  it("stand for a bucket, and are dispatched when it is over", () => {
    expect([0, 1, 9_999, 10_000].map((at) => dispatchAt(at, 10_000))).toEqual([10_000, 10_000, 10_000, 20_000]);
    assert(
      property(nat(10_000_000), integer({ min: 1_000, max: 600_000 }), (at, bucketMs) => {
        const dispatched = dispatchAt(at, bucketMs);
        expect(dispatched).toBeGreaterThan(at);
        expect(dispatched).toBeLessThanOrEqual(at + bucketMs);
        expect(dispatchAt(dispatched - 1, bucketMs)).toBe(dispatched);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it("have names of their own, not in sequence", () => {
    const tasks = [{ notBefore: 10 }, { notBefore: 20 }, { notBefore: 20, round: 1 }];
    const ids = [...tasks.map((task) => taskId("q", task)), taskId("r", { notBefore: 10 })];
    expect(new Set(ids).size).toBe(4);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{40}$/);
    expect(taskId("q", { notBefore: 20, misses: 3 })).toBe(ids[1]);
  });

  it("follow what is due, no further ahead than the horizon", () => {
    const given = { now: 1_000_000, moved: true, misses: 4, bucketMs: 10_000 };
    expect(followUp({ ...given, dueAt: 1_060_000 })).toEqual({ at: 1_060_000, misses: 0 });
    expect(followUp({ ...given, dueAt: 5 })).toEqual({ at: 1_000_000, misses: 0 });
    expect(followUp({ ...given, dueAt: 1e12 })).toEqual({ at: 1_000_000 + horizonMs, misses: 0 });
  });

  it("wait longer each time for what cannot be moved, and leave it to the sweep at last", () => {
    const waits: number[] = [];
    for (let misses: number | undefined = 0; misses !== undefined;) {
      const next: { at: number; misses: number } | undefined = followUp({ now: 0, dueAt: 0, moved: false, misses, bucketMs: 10_000 });
      if (next) waits.push(next.at);
      misses = next?.misses;
    }
    expect(waits).toEqual([10, 20, 40, 80, 160, 320].map((s) => s * 1_000));
  });
});
