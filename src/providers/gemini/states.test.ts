import { describe, expect, it } from "vitest";
import { inlineItems, outputsOf, toJob, toJobState } from "./states.ts";

describe("states", () => {
  it.each([
    ["BATCH_STATE_PENDING", "pending"],
    ["BATCH_STATE_RUNNING", "running"],
    ["BATCH_STATE_SUCCEEDED", "succeeded"],
    ["BATCH_STATE_FAILED", "failed"],
    ["BATCH_STATE_CANCELLED", "cancelled"],
    ["BATCH_STATE_EXPIRED", "expired"],
    ["JOB_STATE_SUCCEEDED", "succeeded"],
    ["JOB_STATE_CANCELLING", "running"],
    ["BATCH_STATE_UNSPECIFIED", "unknown"],
    ["BATCH_STATE_PAUSED", "unknown"],
    ["toString", "unknown"],
    ["", "unknown"],
  ])("%s is %s", (raw, state) => {
    expect(toJobState(raw)).toBe(state);
  });
});

describe("operations", () => {
  const name = "batches/31u18uq6dr4ods3957z38i1mbfa581k01xcq";
  const metadata = { displayName: "gb-1", createTime: "2026-08-19T14:34:12.267870162Z", state: "BATCH_STATE_PENDING", name };

  it("are jobs in our words", () => {
    expect(toJob({ name, metadata })).toEqual({
      name,
      token: "gb-1",
      state: "pending",
      rawStatus: "BATCH_STATE_PENDING",
      createdAt: Date.UTC(2026, 7, 19, 14, 34, 12, 267),
    });
  });

  it.each([
    [{ metadata: { output: { responsesFile: "files/batch-x" } } }, "files/batch-x"],
    [{ metadata: {}, response: { responsesFile: "files/batch-x" } }, "files/batch-x"],
    [{ metadata: { output: { inlinedResponses: { inlinedResponses: [] } } } }, "inline"],
    [{ metadata: {}, response: { inlinedEmbedContentResponses: { inlinedResponses: [{}] } } }, "inline"],
    [{ metadata: { output: {} }, response: {} }, undefined],
    [{ metadata: {} }, undefined],
  ])("have their output in either place: %j", (rest, output) => {
    expect(toJob({ name, ...rest })?.output).toBe(output);
  });

  it("keep the error of the job, and trust the state over its code", () => {
    const job = toJob({ name, done: true, metadata: { state: "BATCH_STATE_CANCELLED" }, error: { code: 13, message: "x" } });
    expect(job).toMatchObject({ state: "cancelled", error: { code: 13, message: "x" } });
  });

  it.each([
    [{ done: true, error: { code: 3, message: "x" } }, "failed"],
    [{ done: true, error: { code: 1, message: "x" } }, "cancelled"],
    [{ done: true, response: {} }, "succeeded"],
    [{ done: true, metadata: { state: "BATCH_STATE_UNSPECIFIED" } }, "succeeded"],
    [{ done: true, metadata: { state: "BATCH_STATE_PAUSED" } }, "unknown"],
    [{}, "unknown"],
  ])("without a state: %j is %s", (rest, state) => {
    expect(toJob({ name, ...rest })?.state).toBe(state);
  });

  it.each([null, "x", [], {}, { name: "" }, { name: 1 }, { metadata }])("are not %j", (value) => {
    expect(toJob(value)).toBe(undefined);
  });

  it("hold inline items one level deep or two", () => {
    expect(inlineItems({ inlinedResponses: [1] })).toEqual([1]);
    expect(outputsOf({ response: { inlinedResponses: { inlinedResponses: [1] } } }).map(inlineItems)).toEqual([[1]]);
    expect(inlineItems({ inlinedResponses: {} })).toBe(undefined);
  });
});
