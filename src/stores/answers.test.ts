import { describe, expect, it } from "vitest";
import { fateOf, type MemberResult, type MemberTries } from "./answers.ts";
import { RUN } from "./codes.ts";

const error = { name: "GembatchError", code: "request_failed", message: "no" } as never;
const usage = { promptTokens: 1, outputTokens: 1 } as never;
const fresh: MemberTries = { attempt: 1, maxAttempts: 4, failedJobs: 0, groupSize: null, batchSize: 10_000 };
const fate = (result: MemberResult, tries: Partial<MemberTries> = {}, runState: number = RUN.waiting) =>
  fateOf(result, runState, () => ({ ...fresh, ...tries }));
const retry = { type: "retry", availableAt: 50, error } as const;

describe("what becomes of a member of a batch", () => {
  it("an answer or an error of its own settles it, without a look at its tries", () => {
    const never = (): MemberTries => {
      throw new Error("asked");
    };
    expect(fateOf({ type: "succeeded", value: "1", usage }, RUN.running, never)).toEqual({
      kind: "settle",
      answer: { value: "1", error: undefined },
    });
    expect(fateOf({ type: "failed", error }, RUN.held, never)).toEqual({ kind: "settle", answer: { value: undefined, error } });
  });

  it.each([RUN.completed, RUN.cancelled])("of a run that is over (%i) it is dropped; others may share its answer", (over) => {
    expect(fate({ type: "succeeded", value: "1", usage }, {}, over)).toEqual({ kind: "drop", value: "1" });
    expect(fate(retry, {}, over)).toEqual({ kind: "drop", value: undefined });
  });

  it("of a failed run it takes its answer, and is not asked again", () => {
    expect(fate({ type: "succeeded", value: "1", usage }, {}, RUN.failed).kind).toBe("settle");
    expect(fate({ ...retry }, { attempt: 4 }, RUN.failed).kind).toBe("settle");
    for (const result of [
      retry,
      { type: "release", availableAt: 5 },
      { type: "move", tier: "flex", reason: "late", availableAt: 5 },
    ] as const)
      expect(fate(result, {}, RUN.failed)).toEqual({ kind: "drop", value: undefined });
  });

  it("goes back with the next attempt, until none is left or this trouble is not worth one", () => {
    expect(fate(retry, { attempt: 3 })).toEqual({
      kind: "requeue",
      to: { attempt: 4, groupSize: null, dueAt: 50, failedJobs: 0 },
    });
    expect(fate(retry, { attempt: 4 })).toEqual({ kind: "settle", answer: { value: undefined, error } });
    expect(fate({ ...retry, retries: 1 }, { attempt: 1 }).kind).toBe("requeue");
    expect(fate({ ...retry, retries: 1 }, { attempt: 2 })).toEqual({ kind: "settle", answer: { value: undefined, error } });
    expect(fate({ ...retry, value: "half" }, { attempt: 4 })).toEqual({ kind: "settle", answer: { value: "half", error: undefined } });
  });

  it("goes back unspent when it is released, in its group", () => {
    expect(fate({ type: "release", availableAt: 7 }, { attempt: 4, groupSize: 9 })).toEqual({
      kind: "requeue",
      to: { attempt: 4, groupSize: 9, dueAt: 7, failedJobs: 0 },
    });
  });

  it("travels apart after its second failed job: by the square root, then alone", () => {
    const group = (failedJobs: number, batchSize = 10_000) => {
      const found = fate({ ...retry, jobFailed: true }, { failedJobs, batchSize });
      return found.kind === "requeue" ? [found.to.failedJobs, found.to.groupSize] : found;
    };
    expect([group(0), group(1), group(2), group(1, 32)]).toEqual([
      [1, null],
      [2, 100],
      [3, 1],
      [2, 1],
    ]);
  });

  it("moves to another tier whatever its attempts; apart only into jobs", () => {
    const move = (tier: "flex" | "batch", tries: Partial<MemberTries>) =>
      fate({ type: "move", tier, reason: "late", availableAt: 9 }, tries);
    const to = { attempt: 5, dueAt: 9, failedJobs: 2 };
    expect(move("flex", { attempt: 4, failedJobs: 2 })).toEqual({
      kind: "requeue",
      to: { ...to, groupSize: null, moved: { tier: "flex", reason: "late" } },
    });
    expect(move("batch", { attempt: 4, failedJobs: 2 })).toMatchObject({ to: { ...to, groupSize: 100 } });
  });
});
