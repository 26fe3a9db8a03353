import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { checkCodec, unwrapEncoded, unwrapParsed, wrapEncoded } from "./codec.ts";

describe("encoded payloads", () => {
  it("are told from plain ones, as text and parsed", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom("\0", "\ud800", "\u2028", '"}')), (encoded) => {
        const stored = wrapEncoded(encoded);
        expect(unwrapEncoded(stored)).toBe(encoded);
        expect(unwrapParsed(JSON.parse(stored))).toBe(encoded);
      }),
      { seed: 20_261_122, numRuns: 200 },
    );
    fc.assert(
      fc.property(fc.jsonValue(), (plain) => {
        expect(unwrapEncoded(JSON.stringify(plain))).toBeUndefined();
        expect(unwrapParsed(plain)).toBeUndefined();
      }),
      { seed: 20_261_122, numRuns: 200 },
    );
  });
  it.each([
    "",
    "null",
    '{"$gembatch":5}',
    '{"$gembatch":"a","b":"c"}',
    '{"$gembatch":"a"',
    '{"$gembatch":"a"} ',
    'x{"$gembatch":"a"}',
    "It failed.",
  ])("%j is none", (stored) => {
    expect(unwrapEncoded(stored)).toBeUndefined();
  });
});

describe("the option", () => {
  it("takes anything that encodes and decodes", () => {
    const codec = { encode: (text: string) => text, decode: (text: string) => text };
    expect(checkCodec(codec)).toBe(codec);
    expect(checkCodec(undefined)).toBeUndefined();
    class Kept {
      encode = codec.encode;
      decode(text: string): string {
        return text;
      }
    }
    expect(checkCodec(new Kept())).toBeInstanceOf(Kept);
  });
  it.each([null, "aes", {}, { encode: () => "" }, { encode: "x", decode: "y" }, () => ""])("refuses %o", (value) => {
    expect(() => checkCodec(value)).toThrow(/Option codec must be an object with encode and decode/);
  });
});
