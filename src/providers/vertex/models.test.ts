import { describe, expect, it } from "vitest";
import { familyOf, modelPath, normalizeModel } from "./models.ts";

const tuned = "projects/p/locations/us-central1/models/1234567890";
const endpoint = "projects/p/locations/us-central1/endpoints/1234567890";
const claude = "publishers/anthropic/models/claude-sonnet-4-5@20250929";
const llama = "publishers/meta/models/llama-4-maverick-17b-128e-instruct-maas";

describe("names of models", () => {
  it.each([
    ["gemini-2.5-flash", "gemini-2.5-flash"],
    [" gemini-2.5-flash ", "gemini-2.5-flash"],
    ["models/gemini-2.5-flash", "gemini-2.5-flash"],
    ["google/gemini-2.5-flash", "gemini-2.5-flash"],
    ["publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"],
    ["projects/p/publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"],
    ["projects/p/locations/global/publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"],
    ["gemini-2.0-flash@001", "gemini-2.0-flash@001"],
    [claude, claude],
    ["anthropic/claude-sonnet-4-5@20250929", claude],
    [`projects/p/locations/us-east5/${claude}`, claude],
    [llama, llama],
    ["meta/llama-4-maverick-17b-128e-instruct-maas", llama],
    [tuned, tuned],
    [endpoint, endpoint],
  ])("%s is %s", (written, short) => {
    expect(normalizeModel(written)).toBe(short);
    expect(normalizeModel(short)).toBe(short);
  });

  it.each([
    "",
    "  ",
    "a b",
    "a/b/c",
    "models/",
    "/x",
    "x/",
    "models/../x",
    "a..b",
    "publishers/google/x/y",
    "tunedModels/x",
    "projects/p",
    "projects/p/models/x",
    `${tuned}/more`,
    "models/x?y",
    "models/x#y",
  ])("refuses %j", (written) => {
    expect(() => normalizeModel(written)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });

  it.each([undefined, null, 5, {}])("refuses %j", (written) => {
    expect(() => normalizeModel(written as never)).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });

  it("are called by their path", () => {
    expect([modelPath("gemini-2.5-flash"), modelPath(claude), modelPath(tuned)]).toEqual([
      "publishers/google/models/gemini-2.5-flash",
      claude,
      tuned,
    ]);
  });

  it.each([
    ["gemini-2.5-flash", "google"],
    [tuned, "google"],
    [endpoint, "google"],
    [claude, "anthropic"],
    [llama, "open"],
    ["gpt-oss-120b-maas", "open"],
  ])("%s takes the call of %s", (model, family) => expect(familyOf(model)).toBe(family));
});
