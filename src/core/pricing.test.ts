import { describe, expect, it } from "vitest";
import {
  addCost,
  checkPrices,
  costOf,
  defaultPrices,
  estimateUsd,
  mergePrices,
  outputLimitOf,
  priceListDate,
  type Price,
} from "./pricing.ts";
import { tierChoices } from "./tiers.ts";
import { noUsage, type Usage } from "./usage.ts";

const million = 1_000_000;
const usage = (over: Partial<Usage>): Usage => ({ ...noUsage, ...over });
const input = usage({ promptTokens: 100_000 });
const at = Date.UTC(2026, 10, 22);

/** USD per million input and output tokens at the standard tier, as costOf sees them in small answers. */
function rates(model: string, when = at, prices?: readonly Price[]): [number, number] | undefined {
  const paid = costOf(usage({ promptTokens: 100_000 }), model, "standard", when, prices);
  const answered = costOf(usage({ outputTokens: 100_000 }), model, "standard", when, prices);
  return paid && answered && [round(paid.usd * 10), round(answered.usd * 10)];
}
const round = (value: number) => Math.round(value * 1e9) / 1e9;

describe("the price list", () => {
  it.each<[string, number, number]>([
    ["gemini-3.8-flash", 0.75, 3.75],
    ["gemini-3.7-flash", 0.75, 3.75],
    ["gemini-3.6-flash", 0.75, 3.75],
    ["gemini-3.5-flash", 1.5, 9],
    ["gemini-3.5-flash-lite", 0.3, 2.5],
    ["gemini-3.1-pro-preview", 2, 12],
    ["gemini-3.1-flash-lite", 0.25, 1.5],
    ["gemini-3-flash-preview", 0.5, 3],
    ["gemini-2.5-pro", 1.25, 10],
    ["gemini-2.5-flash", 0.3, 2.5],
    ["gemini-2.5-flash-lite", 0.1, 0.4],
    ["gemini-3-pro-image", 2, 12],
    ["gemini-3.1-flash-image", 0.5, 3],
    ["gemini-2.5-flash-image", 0.3, 2.5],
    ["gemini-embedding-001", 0.15, 0],
    ["gemini-embedding-2", 0.2, 0],
  ])("%s costs %d in and %d out", (model, paid, answered) => {
    expect(rates(model)).toEqual([paid, answered]);
  });
  it("has a date and passes its own check", () => {
    expect(priceListDate).toMatch(/^\d{4}-\d{2}-\d{2}$/);
    expect(checkPrices(defaultPrices)).toHaveLength(defaultPrices.length);
  });
  it("knows the price of the day", () => {
    expect(rates("gemini-3.8-flash", Date.UTC(2026, 11, 31, 23, 59, 59, 999))).toEqual([0.75, 3.75]);
    expect(rates("gemini-3.8-flash", Date.UTC(2027, 0, 1))).toEqual([1.5, 7.5]);
    expect(costOf(usage({ promptTokens: million, cachedTokens: million }), "gemini-3.6-flash", "batch", Date.UTC(2027, 0, 1))?.usd).toBe(
      0.15,
    );
  });
});

describe("costOf", () => {
  it("halves input and output in jobs and at the flex tier, never what was cached", () => {
    const both = usage({ promptTokens: million, outputTokens: million });
    for (const tier of tierChoices) {
      if (tier === "auto") continue;
      expect(costOf(both, "gemini-2.5-flash", tier, at)).toEqual({ usd: tier === "standard" ? 2.8 : 1.4, standardUsd: 2.8 });
      const cached = costOf(usage({ promptTokens: 100, cachedTokens: 100 }), "gemini-2.5-flash", tier, at);
      expect(cached?.usd).toBeCloseTo(0.000003, 12);
      expect(cached?.standardUsd).toBeCloseTo(0.000003, 12);
    }
  });
  it.each<[string, string, Partial<Usage>, number]>([
    ["thoughts as output", "gemini-2.5-flash", { thoughtTokens: million }, 2.5],
    ["what tools added as input", "gemini-2.5-flash", { toolTokens: million }, 0.3],
    [
      "the real example: 5 in (3 of them cached), 238 out, 41 thought",
      "gemini-2.5-flash",
      { promptTokens: 5, cachedTokens: 3, outputTokens: 238, thoughtTokens: 41 },
      (2 * 0.3 + 3 * 0.03 + 279 * 2.5) / million,
    ],
    ["sound", "gemini-2.5-flash", { promptTokens: million, audioTokens: million }, 1],
    ["sound beside text", "gemini-3.1-flash-lite", { promptTokens: 100_000, audioTokens: 40_000 }, 0.06 * 0.25 + 0.04 * 0.5],
    ["sound of a model without a price for it", "gemini-2.5-flash-lite", { promptTokens: million, audioTokens: million }, 0.1],
    [
      "sound that is partly cached",
      "gemini-2.5-flash",
      { promptTokens: 100, cachedTokens: 60, audioTokens: 40 },
      (40 * 1 + 60 * 0.03) / million,
    ],
    ["more sound than input", "gemini-2.5-flash", { promptTokens: 10, audioTokens: 1_000 }, (10 * 1) / million],
    ["pictures", "gemini-3-pro-image", { outputTokens: million, imageTokens: million }, 120],
    ["pictures beside text", "gemini-3.1-flash-image", { outputTokens: 1_500, imageTokens: 1_000 }, (500 * 3 + 1_000 * 60) / million],
    ["more pictures than output", "gemini-2.5-flash-image", { outputTokens: 10, imageTokens: 1_000 }, (10 * 30) / million],
    ["more cached than there was", "gemini-2.5-flash", { promptTokens: 10, cachedTokens: 20 }, (20 * 0.03) / million],
    ["a prompt of 200,000 tokens", "gemini-2.5-pro", { promptTokens: 200_000, outputTokens: 10 }, 0.2 * 1.25 + (10 * 10) / million],
    ["a longer prompt", "gemini-2.5-pro", { promptTokens: 200_001, outputTokens: 10 }, 0.200001 * 2.5 + (10 * 15) / million],
    ["a longer prompt, cached", "gemini-3.1-pro-preview", { promptTokens: 300_000, cachedTokens: 300_000 }, 0.3 * 0.4],
    ["nothing", "gemini-2.5-pro", {}, 0],
  ])("charges %s", (_name, model, over, usd) => {
    expect(costOf(usage(over), model, "standard", at)?.usd).toBeCloseTo(usd, 12);
  });
  it("adds up", () => {
    expect(addCost({ usd: 1, standardUsd: 2 }, { usd: 0.5, standardUsd: 0.5 })).toEqual({ usd: 1.5, standardUsd: 2.5 });
  });
});

describe("models by name", () => {
  it.each([
    ["gemini-2.5-flash-001", 0.3],
    ["gemini-2.5-flash-preview-09-2025", 0.3],
    ["gemini-2.5-flash-preview-05-20", 0.3],
    ["gemini-2.5-flash-lite-preview-06-17", 0.1],
    ["gemini-3-pro-image-preview", 2],
    ["gemini-embedding-2-preview", 0.2],
  ])("%s is a version of a known one", (model, paid) => {
    expect(rates(model)?.[0]).toBe(paid);
  });
  it.each([
    "some-model",
    "gemini-2.5-flash-preview-tts",
    "gemini-2.5-flash-native-audio",
    "gemini-2.5-flashy",
    "gemini-2.5",
    "gemini-3.1-pro",
    "gemini-3.1-pro-preview-customtools",
    "gemini-flash-latest",
    "GEMINI-2.5-FLASH",
    "publishers/anthropic/models/claude-sonnet-4-5",
    "publishers/meta/models/gemini-2.5-flash",
    "",
  ])("%s stays unknown, which is not 0", (model) => {
    expect(costOf(input, model, "batch", at)).toBeUndefined();
    expect(estimateUsd({ model, tokens: 10 }, at)).toBeUndefined();
  });
});

describe("own prices", () => {
  const claude = "publishers/anthropic/models/claude-sonnet-4-5";
  const own = (model: string, paid: number, over: Partial<Price> = {}): Price => ({ model, input: paid, cached: 0, output: 0, ...over });

  it.each<[string, Price[], string, number | undefined]>([
    ["override one model", [own("gemini-2.5-flash", 9)], "gemini-2.5-flash", 9],
    ["and its versions", [own("gemini-2.5-flash", 9)], "gemini-2.5-flash-001", 9],
    ["leave the others", [own("gemini-2.5-flash", 9)], "gemini-2.5-flash-lite", 0.1],
    ["win over a built-in change of price", [own("gemini-3.8-flash", 9)], "gemini-3.8-flash", 9],
    ["begin on their day", [own("gemini-2.5-flash", 9, { from: "2027-03-01" })], "gemini-2.5-flash", 0.3],
    ["add a model", [own("own-model", 7)], "own-model", 7],
    ["may name a prefix", [own("own-*", 7)], "own-model-8", 7],
    ["of another publisher's model", [own(claude, 3)], claude, 3],
    ["and of its versions", [own(claude, 3)], `${claude}@20250929`, 3],
    ["but of no other", [own(claude, 3)], `${claude}-1`, undefined],
    ["of a version before the model", [own(claude, 3), own(`${claude}@20250929`, 4)], `${claude}@20250929`, 4],
    ["of all models of a publisher", [own("publishers/anthropic/models/*", 3)], claude, 3],
    ["of anything that is left, other publishers' among it", [own("*", 3)], claude, 3],
    ["longest name first", [own("own-*", 7), own("own-model-*", 8)], "own-model-8", 8],
    ["a name before a prefix as long", [own("own-model*", 7), own("own-model", 8)], "own-model", 8],
    ["a prefix as long as the built-in name", [own("gemini-2.5-flash*", 9)], "gemini-2.5-flash", 9],
    ["a shorter prefix leaves what is known", [own("gemini-*", 9)], "gemini-2.5-flash", 0.3],
    ["a shorter prefix covers what is not", [own("gemini-*", 9)], "gemini-9-flash", 9],
    ["any model at all", [own("*", 9)], "other", 9],
    ["an entry for a version", [own("gemini-2.5-flash-001", 9)], "gemini-2.5-flash-001", 9],
    ["a name does not take a longer one's version away", [own("gemini-3-flash", 9)], "gemini-3-flash-preview", 0.5],
    ["none", [], "gemini-2.5-flash", 0.3],
  ])("%s", (_name, prices, model, expected) => {
    expect(rates(model, Date.UTC(2027, 1, 28), mergePrices(prices))?.[0]).toBe(expected);
  });
  it("change with the days, whatever their order", () => {
    const prices = mergePrices([own("m", 1), own("m", 3, { from: "2027-02-01" }), own("m", 2, { from: "2027-01-01" })]);
    expect([Date.UTC(2026, 11, 31), Date.UTC(2027, 0, 1), Date.UTC(2027, 1, 1)].map((when) => rates("m", when, prices)?.[0])).toEqual([
      1, 2, 3,
    ]);
  });
  it("are all that is known if the table is not merged in", () => {
    expect(costOf(input, "gemini-2.5-flash", "batch", at, checkPrices([own("m", 1)]))).toBeUndefined();
    expect(checkPrices(undefined)).toEqual([]);
  });
  it.each<[unknown, RegExp]>([
    [{}, /Option prices must be a list of prices/],
    [[null], /prices\[0\] must be an object/],
    [[[]], /prices\[0\] must be an object/],
    [[own("m", 1), { ...own("n", 1), prise: 1 }], /Unknown option prices\[1\]\.prise/],
    [[{ ...own("m", 1), input: "1" }], /prices\[0\]\.input must be USD per million tokens.*"1"/],
    [[{ ...own("m", 1), output: Number.NaN }], /prices\[0\]\.output/],
    [[{ ...own("m", 1), cached: -1 }], /prices\[0\]\.cached/],
    [[{ model: "m", input: 1, output: 1 }], /prices\[0\]\.cached .* got undefined/],
    [[{ ...own("m", 1), audio: Infinity }], /prices\[0\]\.audio/],
    [[{ ...own("m", 1), image: null }], /prices\[0\]\.image/],
    [[own("", 1)], /prices\[0\]\.model/],
    [[own("a*b", 1)], /prices\[0\]\.model/],
    [[own("models/gemini-2.5-flash", 1)], /prices\[0\]\.model/],
    [[own("publishers/google/models/gemini-2.5-flash", 1)], /prices\[0\]\.model/],
    [[own("anthropic/claude-sonnet-4-5", 1)], /prices\[0\]\.model .*publishers\/anthropic\/models/],
    [[own("publishers/anthropic/*", 1)], /prices\[0\]\.model/],
    [[{ ...own("m", 1), model: 5 }], /prices\[0\]\.model/],
    [[own("m", 1, { from: "1.1.2027" })], /prices\[0\]\.from must be a day/],
    [[own("m", 1, { from: "2027-02-30" })], /prices\[0\]\.from/],
    [[{ ...own("m", 1), long: 5 }], /prices\[0\]\.long must be an object/],
    [[{ ...own("m", 1), long: { input: 1, cached: 1 } }], /prices\[0\]\.long\.output/],
    [[{ ...own("m", 1), long: { input: 1, cached: 1, output: 1, image: 1 } }], /prices\[0\]\.long\.image/],
    [[own("m", 1), own("n", 1), own("m", 2)], /prices\[2\] repeats prices\[0\]: m\./],
    [[own("m", 1, { from: "2027-01-01" }), own("m", 2, { from: "2027-01-01" })], /prices\[1\] repeats prices\[0\]: m from 2027-01-01\./],
  ])("%j is refused by name", (prices, message) => {
    expect(() => mergePrices(prices)).toThrow(message);
    expect(() => mergePrices(prices)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});

describe("estimateUsd", () => {
  const prices = checkPrices([
    { model: "m", input: 2, cached: 0, output: 10, long: { input: 4, cached: 0, output: 20 } },
    { model: "draws", input: 0, cached: 0, output: 2, image: 40 },
  ]);
  const body = { generationConfig: { maxOutputTokens: 300_000 } };
  it.each<[string, Parameters<typeof estimateUsd>[0], number]>([
    ["the input and 1,000 tokens of output, at half the price", { model: "m", tokens: 100_000 }, 0.1 + 0.005],
    ["what such requests usually answer", { model: "m", tokens: 0, typicalOutputTokens: 100_000 }, 0.5],
    ["the limit that it sets itself", { model: "m", tokens: 0, typicalOutputTokens: 100_000, maxOutputTokens: 200_000 }, 1],
    ["the limit of its body", { model: "m", tokens: 0, typicalOutputTokens: 100_000, body }, 1.5],
    ["the given limit before that of the body", { model: "m", tokens: 0, maxOutputTokens: 200_000, body }, 1],
    ["a body without a limit", { model: "m", tokens: 0, typicalOutputTokens: 100_000, body: {} }, 0.5],
    ["long prompts", { model: "m", tokens: 300_000, maxOutputTokens: 100_000 }, 0.6 + 1],
    ["pictures", { model: "draws", tokens: 10, maxOutputTokens: 100_000 }, 2],
  ])("counts %s", (_name, request, usd) => {
    expect(estimateUsd(request, at, prices)).toBeCloseTo(usd, 12);
  });
  it("costs nothing to answer with an embedding", () => {
    expect(estimateUsd({ model: "gemini-embedding-001", tokens: million }, at)).toBe(0.075);
  });
});

describe("outputLimitOf", () => {
  it.each<[Record<string, unknown>, number | undefined]>([
    [{}, undefined],
    [{ generationConfig: {} }, undefined],
    [{ generationConfig: { maxOutputTokens: 100 } }, 100],
    [{ generation_config: { max_output_tokens: "100" } }, 100],
    [{ generationConfig: { maxOutputTokens: 100, thinkingConfig: { thinkingBudget: 50 } } }, 150],
    [{ generationConfig: { maxOutputTokens: 100, thinkingConfig: { thinkingBudget: -1 } } }, 100],
    [{ generationConfig: { maxOutputTokens: 100, thinkingConfig: { thinkingBudget: 0 } } }, 100],
    [{ generationConfig: { maxOutputTokens: 100, candidateCount: 3 } }, 300],
    [{ generation_config: { max_output_tokens: 100, thinking_config: { thinking_budget: 50 }, candidate_count: 2 } }, 300],
    [{ generationConfig: { thinkingConfig: { thinkingBudget: 50 } } }, undefined],
    [{ generationConfig: { maxOutputTokens: 0 } }, undefined],
    [{ generationConfig: { maxOutputTokens: "many" } }, undefined],
    [{ generationConfig: null }, undefined],
    [{ generationConfig: [] }, undefined],
    [{ maxOutputTokens: 100 }, undefined],
    [{ messages: [], max_tokens: 100 }, 100],
    [{ messages: [], max_tokens: 100, n: 3 }, 300],
    [{ messages: [], max_completion_tokens: "100", n: 0 }, 100],
    [{ messages: [], max_tokens: 0 }, undefined],
  ])("%j allows %s", (body, limit) => {
    expect(outputLimitOf(body)).toBe(limit);
  });
});
