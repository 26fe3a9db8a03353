import { describe, expect, it } from "vitest";
import { toJob, toJobState } from "./states.ts";

const name = "projects/123/locations/global/batchPredictionJobs/456";
const gcs = { gcsOutputDirectory: "gs://b/out/prediction-model-2026" };
const target = { gcsDestination: { outputUriPrefix: "gs://b/out" } };

describe("states", () => {
  it.each([
    ["QUEUED", "pending"],
    ["PENDING", "pending"],
    ["PAUSED", "pending"],
    ["RUNNING", "running"],
    ["UPDATING", "running"],
    ["CANCELLING", "running"],
    ["SUCCEEDED", "succeeded"],
    ["PARTIALLY_SUCCEEDED", "succeeded"],
    ["FAILED", "failed"],
    ["CANCELLED", "cancelled"],
    ["EXPIRED", "expired"],
    ["UNSPECIFIED", "unknown"],
    ["SOMETHING_NEW", "unknown"],
    ["constructor", "unknown"],
  ])("JOB_STATE_%s is %s", (word, state) => {
    expect(toJobState(`JOB_STATE_${word}`)).toBe(state);
    expect(toJob({ name, state: `JOB_STATE_${word}` })).toMatchObject({ state, rawStatus: `JOB_STATE_${word}` });
  });

  it("reads a job", () => {
    expect(
      toJob({
        name,
        displayName: "gb-1",
        state: "JOB_STATE_FAILED",
        createTime: "2026-11-22T10:00:00.123456Z",
        endTime: "2026-11-22T11:00:00Z",
        error: { code: 3, message: "Failed to import data." },
      }),
    ).toEqual({
      name,
      token: "gb-1",
      state: "failed",
      rawStatus: "JOB_STATE_FAILED",
      createdAt: Date.UTC(2026, 10, 22, 10, 0, 0, 123),
      endedAt: Date.UTC(2026, 10, 22, 11),
      error: { code: 3, message: "Failed to import data." },
    });
  });

  it.each<[string, object, string | undefined]>([
    ["objects of a job that succeeded", { state: "JOB_STATE_SUCCEEDED", outputInfo: gcs }, gcs.gcsOutputDirectory],
    ["rows that a cancelled job finished", { state: "JOB_STATE_CANCELLED", outputInfo: gcs, outputConfig: target }, gcs.gcsOutputDirectory],
    ["rows that were finished within 24 hours", { state: "JOB_STATE_EXPIRED", outputInfo: gcs }, gcs.gcsOutputDirectory],
    ["a failed job with rows", { state: "JOB_STATE_FAILED", outputInfo: gcs }, gcs.gcsOutputDirectory],
    [
      "a table",
      { state: "JOB_STATE_SUCCEEDED", outputInfo: { bigqueryOutputDataset: "bq://p.d", bigqueryOutputTable: "t" } },
      "bq://p.d.t",
    ],
    [
      "a dataset without a scheme",
      { state: "JOB_STATE_SUCCEEDED", outputInfo: { bigqueryOutputDataset: "p.d", bigqueryOutputTable: "t" } },
      "bq://p.d.t",
    ],
    ["a table in full", { state: "JOB_STATE_SUCCEEDED", outputInfo: { bigqueryOutputTable: "bq://p.d.t" } }, "bq://p.d.t"],
    ["no word of the output", { state: "JOB_STATE_SUCCEEDED", outputConfig: target }, "gs://b/out"],
    [
      "no word of the table",
      { state: "JOB_STATE_PARTIALLY_SUCCEEDED", outputConfig: { bigqueryDestination: { outputUri: "bq://p.d.t" } } },
      "bq://p.d.t",
    ],
    ["a running job that has written already", { state: "JOB_STATE_RUNNING", outputInfo: gcs, outputConfig: target }, undefined],
    ["a failed job without rows", { state: "JOB_STATE_FAILED", outputConfig: target }, undefined],
    ["a cancelled job without rows", { state: "JOB_STATE_CANCELLED", outputConfig: target, outputInfo: {} }, undefined],
    ["nothing at all", { state: "JOB_STATE_SUCCEEDED" }, undefined],
  ])("finds the output: %s", (_name, job, output) => {
    expect(toJob({ name, ...job })?.output).toBe(output);
  });

  it.each([undefined, null, 5, "x", [], {}, { name: "" }, { name: 5 }])("sees no job in %j", (value) =>
    expect(toJob(value)).toBeUndefined(),
  );
});
