import { describe, expect, it } from "vitest";
import { GembatchError } from "../../core/errors.ts";
import type { Lane } from "../../core/provider.ts";
import { vertex } from "./provider.ts";

const bucket = { bucket: "bucket" };
const dataset = { dataset: "bq://p.d" };
const lane: Lane = { provider: "vertex", model: "gemini-2.5-flash", method: "generateContent" };
const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const check = (options: object, body: Record<string, unknown>, call: Lane = lane) => vertex(options).checkRequest!(call, body);
const refusal = (options: object, body: Record<string, unknown>, call: Lane = lane): GembatchError => {
  try {
    check(options, body, call);
  } catch (thrown) {
    if (GembatchError.is(thrown)) return thrown;
    throw thrown;
  }
  throw new Error("not refused");
};

describe("checking a request", () => {
  const search = { contents, tools: [{ googleSearch: {} }] };
  const called = { contents: [{ role: "model", parts: [{ functionCall: { name: "f", args: { a: 1 } } }] }] };

  it.each([bucket, dataset, { ...bucket, ...dataset }])("refuses cached content with %j", (options) => {
    for (const name of ["cachedContent", "cached_content"]) {
      const error = refusal(options, { contents, [name]: "cachedContents/secret" });
      expect(error.code).toBe("request_refused");
      expect(error.message).toContain(`its ${name} cannot be used`);
      expect(error.message).not.toContain("secret");
    }
    expect(check(options, { contents, cachedContent: null })).toEqual({});
  });

  it("refuses with a bucket alone what the importer cannot take, by its path, and says what to do", () => {
    const error = refusal(bucket, search);
    expect(error.code).toBe("request_refused");
    expect(error.message).toContain("an empty object, at tools[0].googleSearch");
    expect(error.hint).toContain("vertex({ dataset })");
    expect(error.details).toEqual({ model: "gemini-2.5-flash", path: "tools[0].googleSearch" });
  });

  it.each<[object, Record<string, unknown>, RegExp | undefined]>([
    [bucket, { contents }, undefined],
    [bucket, { contents, generationConfig: {} }, undefined],
    [bucket, called, /^[a-f0-9]{8}$/],
    [dataset, search, undefined],
    [dataset, called, undefined],
    [{ ...bucket, ...dataset }, { contents }, undefined],
    [{ ...bucket, ...dataset }, search, /^json$/],
    [{ ...bucket, ...dataset }, called, /^json$/],
  ])("with %j gives %j the shape %s", (options, body, shape) => {
    const { shape: given } = check(options, body);
    if (shape) expect(given).toMatch(shape);
    else expect(given).toBeUndefined();
  });

  it("lets everything go at the standard tier", () => {
    expect(check(bucket, { ...search, cachedContent: "cachedContents/x" }, { ...lane, tier: "standard" })).toEqual({});
  });

  it("lets everything go at the flex tier, with the shape of the job that it goes into when it is shed", () => {
    const flex: Lane = { ...lane, tier: "flex" };
    expect(check(bucket, { contents }, flex)).toEqual({});
    expect(check(bucket, called, flex)).toEqual(check(bucket, called));
    expect(check(bucket, called, flex).shape).toMatch(/^[a-f0-9]{8}$/);
    expect(check({ ...bucket, ...dataset }, search, flex)).toEqual({ shape: "json" });
    // No job takes these: among others they would fail them all.
    for (const body of [search, { contents, cachedContent: "cachedContents/x" }])
      expect(check(bucket, body, flex)).toEqual({ shape: "refused" });
  });

  it("looks at requests whose tier is not decided yet", () => {
    expect(refusal(bucket, search, { ...lane, tier: "auto" }).code).toBe("request_refused");
  });

  it("takes embeddings with a bucket only", () => {
    const embedding: Lane = { ...lane, model: "gemini-embedding-001", method: "embedContent" };
    expect(check(bucket, { content: { parts: [{ text: "a" }] } }, embedding)).toEqual({});
    expect(check({ ...bucket, ...dataset }, { content: { parts: [{ text: "a" }] } }, embedding)).toEqual({});
    expect(refusal(dataset, { content: { parts: [{ text: "a" }] } }, embedding).message).toContain("Cloud Storage only");
  });

  it.each([
    [
      "publishers/anthropic/models/claude-sonnet-4-5",
      { messages: [{ role: "user", content: "hi" }], tools: [{ input_schema: {} }] },
      "Anthropic",
    ],
    ["publishers/meta/models/llama-4-maverick-maas", { messages: [{ role: "user", content: "hi" }], tools: [{}] }, "OpenAI"],
  ])("takes the bodies of %s as they are, and none of generateContent", (model, body, api) => {
    expect(vertex(bucket).methodOf!(model)).toBe("rawPredict");
    expect(check(bucket, body, { ...lane, model })).toEqual({});
    expect(refusal(bucket, { contents }, { ...lane, model }).message).toContain(api);
  });
});
