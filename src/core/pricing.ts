/**
 * What tokens cost. Prices are data with dates, in USD per million tokens at the standard tier; the `prices` option overrides them model by model.
 *
 * @module
 */
import { describe, GembatchError } from "./errors.ts";
import { refuseUnknown } from "./options.ts";
import type { Tier } from "./tiers.ts";
import type { Usage } from "./usage.ts";

/** The price of one model in USD per million tokens at the standard tier. */
export interface Price {
  /**
   * Model name, or a prefix of it that ends in `*`. A name stands for its versions too, if they have no entry of their own: `gemini-2.5-flash` is the price of
   * `gemini-2.5-flash-001` and `gemini-2.5-flash-preview-09-2025`, but not of `gemini-2.5-flash-lite`. Models of other publishers are named as in lanes:
   * `publishers/anthropic/models/claude-sonnet-4-5`, which is the price of `…@20250929` as well.
   */
  model: string;
  input: number;
  /** Input that is sound. Default: as `input`. */
  audio?: number;
  /** Input read from a cache; the same at every tier. */
  cached: number;
  /** Thinking tokens are charged as output. */
  output: number;
  /** Output that is pictures. Default: as `output`. */
  image?: number;
  /** First day (UTC, `YYYY-MM-DD`) that this price holds; absent for always. */
  from?: string;
  /** Prices of one request with more than 200,000 prompt tokens. */
  long?: LongPrice;
}

/** The price of long prompts, in USD per million tokens. */
export interface LongPrice {
  input: number;
  cached: number;
  output: number;
}

/** The day of the public price list that `defaultPrices` was transcribed from. */
export const priceListDate = "2026-10-07";

/** Built-in prices. Of entries for the same model the one with the latest `from` comes first. */
export const defaultPrices: readonly Price[] = [
  ...["gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash"].flatMap((model): Price[] => [
    { model, input: 1.5, cached: 0.15, output: 7.5, from: "2027-01-01" },
    { model, input: 0.75, cached: 0.075, output: 3.75 },
  ]),
  { model: "gemini-3.5-flash", input: 1.5, cached: 0.15, output: 9 },
  { model: "gemini-3.5-flash-lite", input: 0.3, cached: 0.03, output: 2.5 },
  { model: "gemini-3.1-pro-preview", input: 2, cached: 0.2, output: 12, long: { input: 4, cached: 0.4, output: 18 } },
  { model: "gemini-3.1-flash-lite", input: 0.25, audio: 0.5, cached: 0.025, output: 1.5 },
  { model: "gemini-3-flash-preview", input: 0.5, cached: 0.05, output: 3 },
  { model: "gemini-2.5-pro", input: 1.25, cached: 0.125, output: 10, long: { input: 2.5, cached: 0.25, output: 15 } },
  { model: "gemini-2.5-flash", input: 0.3, audio: 1, cached: 0.03, output: 2.5 },
  { model: "gemini-2.5-flash-lite", input: 0.1, cached: 0.01, output: 0.4 },
  // The list gives no cached price for these: cached input is charged as any other.
  { model: "gemini-3-pro-image", input: 2, cached: 2, output: 12, image: 120 },
  { model: "gemini-3.1-flash-image", input: 0.5, cached: 0.5, output: 3, image: 60 },
  { model: "gemini-2.5-flash-image", input: 0.3, cached: 0.3, output: 2.5, image: 30 },
  { model: "gemini-embedding-001", input: 0.15, cached: 0.15, output: 0 },
  { model: "gemini-embedding-2", input: 0.2, cached: 0.2, output: 0 },
];

/** USD of one or more answers. */
export interface Cost {
  usd: number;
  /** What the standard tier would have cost. */
  standardUsd: number;
}

const longPromptTokens = 200_000;
/** Output tokens of a request of which nothing is known. */
const defaultOutputTokens = 1_000;

/**
 * Cost of one answer's usage at `at` (milliseconds since 1970), by the first entry of `prices` that fits. Batch and flex cost half of input and output; cached input costs
 * the same everywhere. Pass the usage of a single answer: sums of several would count as one long prompt. `undefined` for a model without a price: unknown is never 0.
 */
export function costOf(usage: Usage, model: string, tier: Tier, at: number, prices: readonly Price[] = defaultPrices): Cost | undefined {
  const price = priceOf(model, at, prices);
  if (!price) return undefined;
  const rate = ratesOf(price, usage.promptTokens);
  const uncached = Math.max(0, usage.promptTokens - usage.cachedTokens);
  const audio = Math.min(uncached, usage.audioTokens);
  const image = Math.min(usage.outputTokens, usage.imageTokens);
  const input = (uncached - audio + usage.toolTokens) * rate.input + audio * rate.audio;
  const output = (usage.outputTokens - image + usage.thoughtTokens) * rate.output + image * rate.image;
  const cached = (usage.cachedTokens * rate.cached) / 1e6;
  const fresh = (input + output) / 1e6;
  return { usd: fresh * shareOf(tier) + cached, standardUsd: fresh + cached };
}

export function addCost(a: Cost, b: Cost): Cost {
  return { usd: a.usd + b.usd, standardUsd: a.standardUsd + b.standardUsd };
}

/** What is known of a request before it is sent. */
export interface EstimateInput {
  model: string;
  /** Estimated input tokens. */
  tokens: number;
  /** The REST body, for the limit that it sets on its output. */
  body?: Record<string, unknown>;
  /** The most that it may answer, thinking included; instead of what the body says. */
  maxOutputTokens?: number;
  /** What requests of this kind usually answer. */
  typicalOutputTokens?: number;
}

/**
 * What a request will cost at the batch tier, estimated on the high side, to reserve budget before it is sent: its input, and as output the limit that it sets itself, else what such
 * requests usually answer, else 1,000 tokens. Models that draw are counted at the price of pictures. `undefined` for a model without a price.
 */
export function estimateUsd(request: EstimateInput, at: number, prices: readonly Price[] = defaultPrices): number | undefined {
  const price = priceOf(request.model, at, prices);
  if (!price) return undefined;
  const rate = ratesOf(price, request.tokens);
  const limit = request.maxOutputTokens ?? (request.body === undefined ? undefined : outputLimitOf(request.body));
  const output = limit ?? request.typicalOutputTokens ?? defaultOutputTokens;
  return ((request.tokens * rate.input + output * Math.max(rate.output, rate.image)) / 1e6) * shareOf("batch");
}

/**
 * The most output tokens that a generateContent body allows, for all its candidates: `maxOutputTokens` plus the `thinkingBudget`, if one is set. `undefined` if the body sets no limit.
 * Whether thinking counts into `maxOutputTokens` differs between models; the sum is on the safe side. Of a body in another publisher's form: `max_tokens` or `max_completion_tokens`, for
 * all `n` choices; thinking counts into them.
 */
export function outputLimitOf(body: Record<string, unknown>): number | undefined {
  const ofPublisher = positive(body["max_tokens"] ?? body["max_completion_tokens"]);
  if (ofPublisher !== undefined) return ofPublisher * (positive(body["n"]) ?? 1);
  const config = objectAt(body, "generationConfig", "generation_config");
  const limit = positive(config["maxOutputTokens"] ?? config["max_output_tokens"]);
  if (limit === undefined) return undefined;
  const thinking = objectAt(config, "thinkingConfig", "thinking_config");
  // -1 leaves it to the model, 0 turns it off.
  const budget = positive(thinking["thinkingBudget"] ?? thinking["thinking_budget"]) ?? 0;
  const candidates = positive(config["candidateCount"] ?? config["candidate_count"]) ?? 1;
  return (limit + budget) * candidates;
}

/**
 * The `prices` option, checked and in the order in which entries are looked up: longer names before shorter ones, later days before earlier ones. Nothing given is no entry.
 * Throws `invalid_option` that names the entry and the field.
 */
export function checkPrices(prices: unknown): readonly Price[] {
  if (prices === undefined) return [];
  if (!Array.isArray(prices)) throw invalid("prices", "a list of prices", prices);
  const checked = prices.map((price: unknown, index) => checkPrice(price, `prices[${index}]`));
  const seen = new Map<string, number>();
  for (const [index, { model, from }] of checked.entries()) {
    const name = `${model}${from === undefined ? "" : ` from ${from}`}`;
    const before = seen.get(name);
    if (before !== undefined) throw new GembatchError("invalid_option", `Option prices[${index}] repeats prices[${before}]: ${name}.`);
    seen.set(name, index);
  }
  return checked.toSorted(
    (a, b) =>
      specificity(b) - specificity(a) ||
      Number(a.model.endsWith("*")) - Number(b.model.endsWith("*")) ||
      (b.from ?? "").localeCompare(a.from ?? ""),
  );
}

/**
 * The built-in prices with the user's entries among them (checked by `checkPrices`): before those of the same model, from their first day on; so one model is overridden
 * without a copy of the table. The longest name that fits a model wins, so `*` is the price of models that nothing else names.
 */
export function mergePrices(own: unknown): readonly Price[] {
  return [...checkPrices(own), ...defaultPrices].toSorted((a, b) => specificity(b) - specificity(a));
}

/** How many characters of a model's name an entry pins down. */
function specificity({ model }: Price): number {
  return model.endsWith("*") ? model.length - 1 : model.length;
}

/** A name or the start of one, of Google's models without anything before it. A `*` alone is any. */
const modelPattern = /^(?:publishers\/(?!google\/)[\w-]+\/models\/)?(?:[^*\s/]+\*?|\*)$/;

const fields = ["model", "input", "audio", "cached", "output", "image", "from", "long"];
const longFields = ["input", "cached", "output"];

function checkPrice(value: unknown, name: string): Price {
  if (!isObject(value)) throw invalid(name, "an object", value);
  refuseUnknown(value, fields, name);
  const { model, audio, image, from, long } = value;
  if (typeof model !== "string" || !modelPattern.test(model)) {
    const wanted = 'a model name such as "gemini-2.5-flash" or "publishers/anthropic/models/…", or the start of one with a * behind it';
    throw invalid(`${name}.model`, wanted, model);
  }
  if (from !== undefined && !isDay(from)) throw invalid(`${name}.from`, 'a day such as "2027-01-01"', from);
  if (long !== undefined && !isObject(long)) throw invalid(`${name}.long`, "an object", long);
  if (long !== undefined) refuseUnknown(long, longFields, `${name}.long`);
  return {
    model,
    ...ratesAt(value, name),
    ...(audio === undefined ? {} : { audio: usd(audio, `${name}.audio`) }),
    ...(image === undefined ? {} : { image: usd(image, `${name}.image`) }),
    ...(from === undefined ? {} : { from }),
    ...(long === undefined ? {} : { long: ratesAt(long, `${name}.long`) }),
  };
}

function ratesAt(value: Record<string, unknown>, name: string): LongPrice {
  return {
    input: usd(value["input"], `${name}.input`),
    cached: usd(value["cached"], `${name}.cached`),
    output: usd(value["output"], `${name}.output`),
  };
}

function usd(value: unknown, name: string): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw invalid(name, "USD per million tokens, a number of at least 0", value);
}

function invalid(name: string, wanted: string, got: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} must be ${wanted}, got ${describe(got)}.`);
}

function isDay(value: unknown): value is string {
  if (typeof value !== "string" || !/^\d{4}-\d{2}-\d{2}$/.test(value)) return false;
  const at = Date.parse(value);
  return !Number.isNaN(at) && new Date(at).toISOString().startsWith(value);
}

const dayMs = 86_400_000;
/** What was looked up on the last day asked for, by table and model: a lookup for every answer would cost more than the sum. Tables never change. */
const lookups = new WeakMap<readonly Price[], { day: number; byModel: Map<string, Price | undefined> }>();

/** The first entry that fits the model and holds on that day. */
function priceOf(model: string, at: number, prices: readonly Price[]): Price | undefined {
  const day = Math.floor(at / dayMs);
  let known = lookups.get(prices);
  if (known?.day !== day) lookups.set(prices, (known = { day, byModel: new Map() }));
  if (known.byModel.has(model)) return known.byModel.get(model);
  const date = new Date(at).toISOString().slice(0, 10);
  const price = prices.find((entry) => fits(entry.model, model) && (entry.from === undefined || entry.from <= date));
  known.byModel.set(model, price);
  return price;
}

function fits(name: string, model: string): boolean {
  return name.endsWith("*") ? model.startsWith(name.slice(0, -1)) : name === model || isVersionOf(name, model);
}

/** Whether the model is this one with `-preview`, `-001`, a date or `@version` behind it. Variants such as `-lite` and `-image` are other models. */
function isVersionOf(name: string, model: string): boolean {
  return model.startsWith(name) && /^(?:-preview)?(?:-\d{2}-(?:\d{2}|\d{4}))?(?:-\d{3})?(?:@[\w.-]+)?$/.test(model.slice(name.length));
}

function ratesOf(price: Price, promptTokens: number): LongPrice & { audio: number; image: number } {
  if (price.long && promptTokens > longPromptTokens) return { ...price.long, audio: price.long.input, image: price.long.output };
  return { ...price, audio: price.audio ?? price.input, image: price.image ?? price.output };
}

function shareOf(tier: Tier): number {
  return tier === "standard" ? 1 : 0.5;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectAt(value: Record<string, unknown>, camelCase: string, snakeCase: string): Record<string, unknown> {
  const found = value[camelCase] ?? value[snakeCase];
  return isObject(found) ? found : {};
}

function positive(value: unknown): number | undefined {
  const number = typeof value === "string" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) && number > 0 ? number : undefined;
}
