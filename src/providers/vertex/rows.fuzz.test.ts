import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lane, ResultRow } from "../../core/provider.ts";
import { readRows } from "../shared/lines.ts";
import { decodeItem, decodeLine, decodeTableRow, encodeLine } from "./rows.ts";
import { decodeLabel, encodeLabel } from "./row-label.ts";
import { parseStatus } from "./row-status.ts";

const settings = { seed: 20_261_122, numRuns: 300 };
const lane: Lane = { provider: "vertex", model: "gemini-2.5-flash", method: "generateContent" };
const families = fc.constantFrom("google" as const, "anthropic" as const, "open" as const);
const json = fc.jsonValue({ maxDepth: 3, stringUnit: "binary" });
const status = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.constantFrom("", "OK", "Internal error occurred.", "Bad Request: {", "{}", "null"),
  fc.tuple(fc.string({ maxLength: 10 }), json).map(([words, value]) => `${words}: ${JSON.stringify({ error: value })}`),
);
const value = fc.oneof(
  { weight: 3, arbitrary: json },
  { weight: 1, arbitrary: fc.constantFrom(null, {}, [], "", 0, { error: {} }, { body: {} }, { candidates: [] }) },
);

/** Objects that come near to a row, in every variant of it that was seen. */
const item = fc.record(
  {
    key: fc.oneof(fc.constantFrom("r1.1", "r2.1", "", 7), value),
    custom_id: value,
    request: fc.oneof(
      value,
      fc.record({ labels: fc.oneof(value, fc.record({ gb_row: fc.oneof(value, fc.constantFrom("r1_01", "r2_01", "_")) })) }),
    ),
    response: value,
    status: fc.oneof(status, value),
    error: fc.oneof(status, value),
    embedding: value,
    predictions: value,
    processed_time: value,
  },
  { requiredKeys: [] },
);

function expectWellFormed(row: ResultRow): void {
  expect(row.key === undefined || (typeof row.key === "string" && row.key !== "")).toBe(true);
  const parts = [row.response !== undefined, row.error !== undefined, "problem" in row];
  expect(parts.filter(Boolean)).toHaveLength(1);
  // Whatever is delivered can be stored.
  if (row.response !== undefined) JSON.stringify(row.response);
  if (row.error) expect([Number.isInteger(row.error.code), typeof row.error.message]).toEqual([true, "string"]);
  if ("problem" in row) expect(row.problem.length).toBeLessThan(60);
}

describe("a row of an output, whatever it is", () => {
  it("is a row or a problem, in a line and in a table, and never throws", () => {
    fc.assert(
      fc.property(item, families, (given, family) => {
        const row = decodeItem(given, family);
        expectWellFormed(row);
        expect(decodeLine(Buffer.from(JSON.stringify(given)), family)).toEqual(decodeItem(JSON.parse(JSON.stringify(given)), family));
        expectWellFormed(decodeTableRow({ ...given, response: JSON.stringify(given.response) ?? null }, family));
      }),
      { ...settings, numRuns: 800 },
    );
    fc.assert(
      fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withMap: true }), families, (given, family) => {
        decodeItem(given, family);
      }),
      settings,
    );
  });

  it("never throws for damaged bytes, and never quotes them", () => {
    const good = Buffer.from('{"key":"r1.1","response":{"secret":"prompt text \u2028"},"status":"prompt {\\"error\\":{\\"code\\":1}}"}');
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 5 }), fc.nat(5), (hits, cut) => {
        const bytes = Buffer.from(good);
        for (const [at, byte] of hits) bytes[at] = byte;
        const row = decodeLine(bytes.subarray(cut));
        if (row && "problem" in row) expect(row.problem).not.toContain("prompt");
      }),
      { ...settings, numRuns: 800 },
    );
  });

  it("has a status that is understood or unknown, never a throw", () => {
    fc.assert(
      fc.property(status, (text) => {
        const error = parseStatus(text);
        if (error) expect(Number.isInteger(error.code)).toBe(true);
      }),
      settings,
    );
  });
});

describe("a row of an input", () => {
  const key = fc.stringMatching(/^r[A-Za-z0-9_-]{1,20}\.[1-9]$/);

  it("comes back under its key, by the key alone and by the label alone", () => {
    fc.assert(
      fc.property(
        key,
        fc.dictionary(fc.string({ unit: "binary" }), json, { maxKeys: 3, noNullPrototype: true }),
        fc.boolean(),
        (id, extra, typed) => {
          const body = JSON.stringify({ ...extra, contents: [{ role: "user", parts: [{ text: "a" }] }] });
          const sent = JSON.parse(encodeLine({ key: id, body }, lane, typed)) as { key: string; request: object };
          const response = { candidates: [] };
          expect(decodeItem({ key: sent.key, response })).toEqual({ key: id, response });
          expect(decodeItem({ request: sent.request, response })).toEqual({ key: id, response });
          expect(decodeItem({ ...sent, response })).toEqual({ key: id, response });
        },
      ),
      settings,
    );
  });

  it("has a label that is one, and is its key's alone", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const label = encodeLabel(text);
        if (label === undefined) return;
        expect(label).toMatch(/^[a-z0-9_-]{1,63}$/);
        expect(decodeLabel(label)).toBe(text);
      }),
      settings,
    );
  });
});

describe("a file, whatever the pieces it comes in", () => {
  it("gives the same rows, each line by itself", async () => {
    const line = fc.oneof(
      item.map((given) => JSON.stringify(given)),
      fc.constantFrom("", " ", "{", "not JSON", "üñ🧵", '{"key":"r1.1","response":{"a":"\u2028"}}'),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
        async (lines, sizes) => {
          const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(""));
          const chunks = async function* () {
            for (let at = 0, i = 0; at < bytes.length; i += 1) {
              const size = sizes[i % sizes.length] ?? 1;
              yield bytes.subarray(at, at + size);
              at += size;
            }
          };
          const thrown = (error: unknown) => error as Error;
          const groups = await Array.fromAsync(
            readRows({ chunks: chunks(), expected: bytes.length, maxLineBytes: 10_000, decode: (one) => decodeLine(one), thrown }),
          );
          expect(groups.flat()).toEqual(lines.map((text) => decodeLine(Buffer.from(text))).filter((row) => row !== undefined));
        },
      ),
      { ...settings, numRuns: 150 },
    );
  });
});
