import { describe, expect, it } from "vitest";
import { parseFirestoreUrl } from "./url.ts";

describe("a store URL of Firestore", () => {
  it.each([
    ["firestore:", {}],
    ["firestore://", {}],
    ["firestore://my-project", { projectId: "my-project" }],
    ["firestore://my-project/", { projectId: "my-project" }],
    ["firestore://example.com:my-project/(default)", { projectId: "example.com:my-project", databaseId: "(default)" }],
    ["firestore://my-project/jobs?prefix=night&shards=4", { projectId: "my-project", databaseId: "jobs", prefix: "night", shards: 4 }],
    ["firestore:?prefix=night", { prefix: "night" }],
  ])("%s", (url, options) => {
    expect(parseFirestoreUrl(url)).toEqual(options);
  });

  it.each(["firestore://My_Project", "firestore://p/a/b", "firestore:p", "firestore://p?pool=3"])("refuses %s", (url) => {
    expect(() => parseFirestoreUrl(url)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});
