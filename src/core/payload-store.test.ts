import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../testing/seeded-random.ts";
import {
  checkPayloads,
  newPayloadKey,
  quotePayload,
  readParsed,
  readReference,
  referencePrefix,
  unquotePayload,
  writeReference,
} from "./payload-store.ts";

const settings = { seed: 20_261_122, numRuns: 300 };
const key = newPayloadKey("q6rj5c2v8f0z", Date.UTC(2026, 10, 22, 23, 59), new SeededRandom(1));
const store = { name: "none", put: async () => undefined, get: async () => "", delete: async () => undefined };

describe("keys of payloads", () => {
  it("are of a store and a day", () => {
    expect(key).toMatch(/^q6rj5c2v8f0z\/2026-11-22\/[0-9a-z]{26}$/);
  });

  it("hold no sign that means something elsewhere, whatever a store is called", () => {
    for (const id of ["../..", "a/b", "a b", "ä?*", "x"]) {
      const made = newPayloadKey(id, 0, new SeededRandom(2));
      expect(made).toMatch(/^[\w-]+\/1970-01-01\/[0-9a-z]{26}$/);
      expect(readReference(writeReference({ key: made, bytes: 1 }))).toEqual({ key: made, bytes: 1 });
    }
  });
});

describe("references", () => {
  it("are read as they were written, as text and parsed", () => {
    const written = writeReference({ key, bytes: 70_000 });
    expect(written.startsWith(referencePrefix)).toBe(true);
    expect(readReference(written)).toEqual({ key, bytes: 70_000 });
    expect(readParsed(JSON.parse(written))).toEqual({ reference: written });
  });

  it.each([
    '{"$gembatch.payload":"../../secret","bytes":1}',
    `{"$gembatch.payload":"${key}"}`,
    `{"$gembatch.payload":"${key}","bytes":-1}`,
    `{"$gembatch.payload":"${key}","bytes":1.5}`,
    `{"$gembatch.payload":"${key}","bytes":1,"more":1}`,
    `{"bytes":1,"$gembatch.payload":"${key}"}`,
    `{"$gembatch.payload":5,"bytes":1}`,
    "null",
    "[1]",
  ])("are nothing else: %s", (text) => {
    expect([readReference(text), readParsed(JSON.parse(text))]).toEqual([undefined, undefined]);
  });
});

describe("payloads beside references", () => {
  it("stay as they are unless they could be taken for one", () => {
    for (const text of [
      "",
      "1",
      '"x"',
      "[]",
      '{"a":1}',
      '{"$gembatch":"x"}',
      '{"a":{"$gembatch.payload":"x"}}',
      `{"${"k".repeat(1e6)}":1}`,
    ]) {
      expect(quotePayload(text)).toBe(text);
    }
  });

  it("come back, as text and parsed, in whatever way the name is spelled", () => {
    const signs = "$gembatch.payload".split("");
    const escaped = signs.map((sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const name = fc.tuple(...signs.map((sign, n) => fc.constantFrom(sign, escaped[n]!))).map((spelled) => spelled.join(""));
    const space = fc.constantFrom("", " ", "\n\t");
    const value = fc.oneof(fc.constant(JSON.stringify(key)), fc.constant("null"), fc.json());
    const rest = fc.constantFrom("", ',"bytes":5', ',"text":"5"', ',"text":"\\"x\\"","x":1');
    const text = fc.tuple(space, space, name, space, value, rest).map(([a, b, n, c, v, r]) => `${a}{${b}"${n}"${c}:${v}${r}}`);
    const property = fc.property(text, (given) => {
      const stored = quotePayload(given);
      expect(readReference(stored)).toBe(undefined);
      expect(unquotePayload(stored)).toBe(given);
      expect(readParsed(JSON.parse(stored))).toEqual({ text: given });
      expect(unquotePayload(quotePayload(stored))).toBe(stored);
    });
    fc.assert(property, settings);
  });

  it("any JSON comes back", () => {
    const property = fc.property(fc.json(), (given) => {
      expect(unquotePayload(quotePayload(given))).toBe(given);
    });
    fc.assert(property, settings);
  });
});

describe("the option payloads", () => {
  it("has a threshold of 64 KiB", () => {
    expect(checkPayloads({ store })).toEqual({ store, threshold: 65_536 });
    expect(checkPayloads({ store, threshold: 0 })?.threshold).toBe(0);
    expect(checkPayloads(undefined)).toBe(undefined);
  });

  it.each([
    [null, /Option payloads must be/],
    [[], /Option payloads must be/],
    [store, /Unknown option payloads\.(name|put)/],
    [{}, /Option payloads\.store is missing/],
    [{ store: "bucket" }, /Option payloads\.store must be an object with put, get, delete/],
    [{ store, threshold: -1 }, /payloads\.threshold must be a whole number/],
    [{ store, limit: 1 }, /Unknown option payloads\.limit/],
  ])("refuses %o", (value, message) => {
    expect(() => checkPayloads(value)).toThrow(message);
  });
});
