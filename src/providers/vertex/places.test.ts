import { describe, expect, it } from "vitest";
import {
  inputObject,
  inputTable,
  isOutputFolder,
  isOutputTable,
  loadJobId,
  objectUri,
  outputFolder,
  outputTable,
  parseObjectUri,
  parseTableUri,
  tableRowsObject,
  tableUri,
} from "./places.ts";

const bucket = { bucket: "b", folder: "some/folder" };
const token = "gb-0a1b2c3d-01JD";
const table = (name: string) => ({ project: "p", dataset: "d", table: name });

describe("places", () => {
  it("lie under the token of the batch", () => {
    expect(objectUri(inputObject(bucket, token))).toBe(`gs://b/some/folder/${token}/input.jsonl`);
    expect(objectUri(tableRowsObject(bucket, token))).toBe(`gs://b/some/folder/${token}/table-rows.jsonl`);
    expect(objectUri(outputFolder(bucket, token, "x1"))).toBe(`gs://b/some/folder/${token}/output-x1`);
    expect(inputTable(token)).toBe("gb_0a1b2c3d_01JD_input");
    expect(outputTable(token, "x1")).toBe("gb_0a1b2c3d_01JD_output_x1");
    expect([0, 1].map((n) => loadJobId(token, n))).toEqual(["gb_0a1b2c3d_01JD_load_0", "gb_0a1b2c3d_01JD_load_1"]);
  });

  it("are different for different tokens, and names of tables are names", () => {
    const tokens = ["a-b", "a_b", "a.b", "a b", "ü-b", "A-b"];
    expect(new Set(tokens.map(inputTable)).size).toBe(tokens.length);
    expect(tokens.map(inputTable).filter((name) => !/^\w+$/.test(name))).toEqual([]);
    for (const each of tokens) expect(isOutputTable(table(outputTable(each, "x1")), each)).toBe(true);
  });

  it.each([
    [`some/folder/${token}/output-x1`, true],
    [`${token}/output-x1`, true],
    [`some/folder/${token}`, false],
    [`some/folder/${token}/output-`, false],
    [`some/folder/${token}/output-x1/deeper`, false],
    [`some/folder/${token}-2/output-x1`, false],
    ["some/folder/output-x1", false],
    ["output-x1", false],
  ])("%s is an output of the batch: %s", (name, expected) => {
    expect(isOutputFolder({ bucket: "b", name }, token)).toBe(expected);
  });

  it.each([
    ["gb_0a1b2c3d_01JD_output_x1", true],
    ["gb_0a1b2c3d_01JD_output_", false],
    ["gb_0a1b2c3d_01JD_output_x1_y", false],
    ["gb_0a1b2c3d_01JD_input", false],
    ["other_output_x1", false],
  ])("%s is an output table of the batch: %s", (name, expected) => {
    expect(isOutputTable(table(name), token)).toBe(expected);
  });

  it("have no output without a token", () => {
    expect(isOutputFolder({ bucket: "b", name: "/output-x1" }, "")).toBe(false);
    expect(isOutputTable(table("_output_x1"), "")).toBe(false);
  });

  it("are read back from their URIs", () => {
    expect(parseObjectUri("gs://b/a/b.jsonl")).toEqual({ bucket: "b", name: "a/b.jsonl" });
    expect(parseObjectUri("gs://b/folder/")).toEqual({ bucket: "b", name: "folder" });
    expect(parseTableUri(tableUri(table("t")))).toEqual(table("t"));
    expect(parseTableUri("bq://example.com:p.d.t")).toEqual({ project: "example.com:p", dataset: "d", table: "t" });
    for (const uri of ["gs://b", "bq://p.d.t", "b/a", ""]) expect(parseObjectUri(uri)).toBeUndefined();
    for (const uri of ["bq://p.d", "gs://b/a", "p.d.t", ""]) expect(parseTableUri(uri)).toBeUndefined();
  });
});
