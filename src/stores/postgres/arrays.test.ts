import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type Column, toArray } from "./arrays.ts";

const client = new Client({ connectionString: inject("postgresUrl") });

beforeAll(async () => client.connect());
afterAll(async () => client.end());

/** What the server makes of the parameter, as text; `undefined`: NULL. */
async function elementsOf(type: Column, values: readonly (number | string | null | undefined)[]): Promise<(string | null)[]> {
  const { rows } = await client.query<{ value: string | null }>({
    text: `SELECT u.value::text AS value FROM unnest($1::${type}) WITH ORDINALITY AS u(value, no) ORDER BY no`,
    values: [toArray(type, values)],
  });
  return rows.map(({ value }) => value);
}

describe("columns as array parameters", () => {
  const whole: [Column, number[]][] = [
    ["int2[]", [0, 1, -1, 32_767, -32_768]],
    ["int4[]", [0, 1, -1, 2_147_483_647, -2_147_483_648]],
    ["int8[]", [0, 1, -1, 2 ** 31, 2 ** 32, -(2 ** 32), 2 ** 32 + 1, -(2 ** 32) - 1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER]],
  ];
  it.each(whole)("%s: every number of its range", async (type, values) => {
    expect(await elementsOf(type, values)).toEqual(values.map(String));
  });

  it("float8[]: fractions, zeros and what is no number", async () => {
    const values = [0.1, -1.5, 1e300, 5e-324, Infinity, -Infinity, NaN];
    expect((await elementsOf("float8[]", values)).map(Number)).toEqual(values);
  });

  it("instants with fractions are rounded up: nothing is due before its time", async () => {
    expect(await elementsOf("int8[]", [1.2, -1.2, 1_700_000_000_000.001])).toEqual(["2", "-1", "1700000000001"]);
  });

  it("text[]: whatever is in it, short and long", async () => {
    const values = [
      "",
      "a",
      'b"c\\d{e},NULL',
      "NULL",
      "ä",
      "日本",
      "😀",
      "a".repeat(48),
      "ä".repeat(48),
      `${"a".repeat(47)}ä`,
      "😀".repeat(5_000),
    ];
    expect(await elementsOf("text[]", values)).toEqual(values);
  });

  it("NULLs, and nothing at all", async () => {
    for (const type of ["int2[]", "int4[]", "int8[]", "float8[]", "text[]"] as const) {
      expect(await elementsOf(type, [null, undefined, null])).toEqual([null, null, null]);
      expect(await elementsOf(type, [])).toEqual([]);
    }
    expect(await elementsOf("int4[]", [null, 7, null])).toEqual([null, "7", null]);
    expect(await elementsOf("text[]", ["x", null, ""])).toEqual(["x", null, ""]);
  });

  it.each([
    ["int2[]", 32_768],
    ["int2[]", -32_769],
    ["int4[]", 2 ** 31],
    ["int4[]", Infinity],
    ["int8[]", 2 ** 53],
    ["int8[]", NaN],
  ] as const)("%s refuses %d", (type, value) => {
    expect(() => toArray(type, [value])).toThrow("larger than Postgres can store");
  });

  it.each(["a\0b", `${"a".repeat(60)}\0`, "\ud800", `${"a".repeat(60)}\udc00`])(
    "refuses a text that would come back as another one: %j",
    (text) => {
      expect(() => toArray("text[]", [text])).toThrow("cannot store");
    },
  );
});
