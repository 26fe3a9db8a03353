import { describe, expect, it } from "vitest";
import { addUsage, noUsage, usageOf, type Usage } from "./usage.ts";

const usage = (over: Partial<Usage>): Usage => ({ ...noUsage, ...over });
const modality = (name: string, tokenCount: unknown) => ({ modality: name, tokenCount });

describe("usageOf", () => {
  it("reads counts leniently", () => {
    expect(
      usageOf({ usageMetadata: { promptTokenCount: "5", cachedContentTokenCount: 3, candidatesTokenCount: 238, thoughtsTokenCount: 41 } }),
    ).toEqual(usage({ promptTokens: 5, cachedTokens: 3, outputTokens: 238, thoughtTokens: 41 }));
    expect(usageOf({ embedding: {}, tokenCount: "7" })).toEqual(usage({ promptTokens: 7 }));
  });
  it.each<[string, object, Partial<Usage>]>([
    ["Anthropic's form", { input_tokens: 12, output_tokens: 34 }, { promptTokens: 12, outputTokens: 34 }],
    [
      "Anthropic's cache, which is beside the input",
      { input_tokens: 12, cache_read_input_tokens: 100, cache_creation_input_tokens: 50, output_tokens: "34" },
      { promptTokens: 162, cachedTokens: 100, outputTokens: 34 },
    ],
    ["no cache", { input_tokens: 12, cache_read_input_tokens: null, output_tokens: 0 }, { promptTokens: 12 }],
    ["OpenAI's form", { prompt_tokens: 12, completion_tokens: 34, total_tokens: 46 }, { promptTokens: 12, outputTokens: 34 }],
    [
      "OpenAI's cache and thinking, which are within",
      {
        ...{ prompt_tokens: 120, prompt_tokens_details: { cached_tokens: 100 } },
        ...{ completion_tokens: 34, completion_tokens_details: { reasoning_tokens: 30 } },
      },
      { promptTokens: 120, cachedTokens: 100, outputTokens: 4, thoughtTokens: 30 },
    ],
    [
      "more thinking than output",
      { completion_tokens: 3, completion_tokens_details: { reasoning_tokens: 30 }, prompt_tokens_details: null },
      { thoughtTokens: 3 },
    ],
    ["nothing", {}, {}],
  ])("reads %s", (_name, given, expected) => {
    expect(usageOf({ usage: given })).toEqual(usage(expected));
  });

  it("takes the usage of Google's models first", () => {
    expect(usageOf({ usageMetadata: { promptTokenCount: 1 }, usage: { input_tokens: 2 } })).toEqual(usage({ promptTokens: 1 }));
  });

  it.each([
    undefined,
    null,
    "text",
    1,
    [],
    {},
    { usageMetadata: null },
    { usageMetadata: "x" },
    { usage: "x" },
    { usage: [] },
    { usage: { prompt_tokens: -5, completion_tokens: {} } },
    { usageMetadata: { promptTokenCount: -5 } },
  ])("counts nothing in %j", (response) => {
    expect(usageOf(response)).toEqual(noUsage);
  });

  it.each<[string, object, Partial<Usage>]>([
    ["sound", { promptTokensDetails: [modality("TEXT", 10), modality("AUDIO", 90)] }, { audioTokens: 90 }],
    [
      "sound that is not cached",
      { promptTokensDetails: [modality("AUDIO", 90)], cacheTokensDetails: [modality("AUDIO", 60), modality("TEXT", 5)] },
      { audioTokens: 30 },
    ],
    [
      "more cached sound than sound",
      { promptTokensDetails: [modality("AUDIO", 5)], cacheTokensDetails: [modality("AUDIO", 60)] },
      { audioTokens: 0 },
    ],
    ["pictures", { candidatesTokensDetails: [modality("IMAGE", "1290"), modality("TEXT", 20)] }, { imageTokens: 1290 }],
    ["several of a kind", { candidatesTokensDetails: [modality("IMAGE", 100), modality("IMAGE", 200)] }, { imageTokens: 300 }],
    ["pictures that went in", { promptTokensDetails: [modality("IMAGE", 258)] }, { imageTokens: 0 }],
    ["no list", { promptTokensDetails: "AUDIO", candidatesTokensDetails: { modality: "IMAGE", tokenCount: 5 } }, {}],
    ["odd items", { promptTokensDetails: [null, "AUDIO", { modality: 1, tokenCount: 1 }, { modality: "AUDIO" }] }, {}],
  ])("%s, in either letter case", (_name, details, expected) => {
    expect(usageOf({ usageMetadata: details })).toEqual(usage(expected));
    expect(usageOf(snakeCase({ usageMetadata: details }))).toEqual(usage(expected));
  });

  it("adds up field by field", () => {
    const one: Usage = {
      promptTokens: 1,
      cachedTokens: 2,
      outputTokens: 3,
      thoughtTokens: 4,
      toolTokens: 5,
      audioTokens: 6,
      imageTokens: 7,
    };
    expect(addUsage(one, one)).toEqual({
      promptTokens: 2,
      cachedTokens: 4,
      outputTokens: 6,
      thoughtTokens: 8,
      toolTokens: 10,
      audioTokens: 12,
      imageTokens: 14,
    });
    expect(addUsage(one, noUsage)).toEqual(one);
  });
});

/** The same value with the names of all fields as some services write them. */
function snakeCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snakeCase);
  if (typeof value !== "object" || value === null) return value;
  const renamed = (name: string) => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [renamed(name), snakeCase(item)]));
}
