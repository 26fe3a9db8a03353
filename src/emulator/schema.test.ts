import { describe, expect, it } from "vitest";
import { chanceOf } from "./chance.ts";
import { matching } from "./schema-text.ts";
import { valueFor } from "./schema.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** A small, independent check of the keywords that the generator knows. Answers with the first violation. */
function violation(value: unknown, schema: unknown, root: JsonObject, at = "$"): string | undefined {
  if (!isObject(schema)) return undefined;
  const again = (item: unknown, part: unknown, place: string) => violation(item, part, root, place);
  if (typeof schema.$ref === "string") {
    const target = schema.$ref
      .split("/")
      .slice(1)
      .reduce<unknown>((place, key) => (place as JsonObject)[key], root);
    return again(value, target, at);
  }
  if ("const" in schema && value !== schema.const) return `${at} is not the constant`;
  if (value === null && (schema.nullable === true || [schema.type].flat().includes("null"))) return undefined;
  if (Array.isArray(schema.enum) && !schema.enum.map(String).includes(String(value))) return `${at} is not in the enum`;
  const options = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(options) && options.every((option) => again(value, option, at) !== undefined)) return `${at} fits no option`;
  for (const part of (schema.allOf as unknown[] | undefined) ?? []) {
    const wrong = again(value, part, at);
    if (wrong !== undefined) return wrong;
  }
  const types = [schema.type]
    .flat()
    .filter((type) => type !== undefined)
    .map((type) => String(type).toLowerCase());
  const actual = value === null ? "null" : Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  if (types.length > 0 && !types.includes(actual) && !(actual === "integer" && types.includes("number")))
    return `${at} is ${actual}, not ${types.join(" or ")}`;
  const bound = (name: string) => (schema[name] === undefined || typeof schema[name] === "boolean" ? undefined : Number(schema[name]));
  if (typeof value === "number") {
    if (value < (bound("minimum") ?? -Infinity) || value > (bound("maximum") ?? Infinity)) return `${at} = ${value} is out of bounds`;
    if (value <= (bound("exclusiveMinimum") ?? -Infinity) || value >= (bound("exclusiveMaximum") ?? Infinity))
      return `${at} = ${value} is on a bound`;
    const step = bound("multipleOf");
    if (step !== undefined && Math.abs(value / step - Math.round(value / step)) > 1e-9) return `${at} = ${value} is no multiple of ${step}`;
  }
  if (typeof value === "string") {
    if (value.length < (bound("minLength") ?? 0) || value.length > (bound("maxLength") ?? Infinity))
      return `${at} has ${value.length} characters`;
    if (typeof schema.pattern === "string" && !new RegExp(schema.pattern, "u").test(value)) return `${at} = ${value} does not match`;
    if (schema.format === "date-time" && Number.isNaN(Date.parse(value))) return `${at} is no time`;
    if (schema.format === "date" && !/^\d{4}-\d\d-\d\d$/.test(value)) return `${at} is no date`;
  }
  if (Array.isArray(value)) {
    if (value.length < (bound("minItems") ?? 0) || value.length > (bound("maxItems") ?? Infinity)) return `${at} has ${value.length} items`;
    if (schema.uniqueItems === true && new Set(value.map((item) => JSON.stringify(item))).size < value.length)
      return `${at} has equal items`;
    const prefix = (schema.prefixItems as unknown[] | undefined) ?? [];
    for (const [i, item] of value.entries()) {
      const wrong = again(item, prefix[i] ?? schema.items, `${at}[${i}]`);
      if (wrong !== undefined) return wrong;
    }
  }
  if (isObject(value)) {
    const properties = isObject(schema.properties) ? schema.properties : {};
    for (const name of (schema.required as string[] | undefined) ?? []) if (!(name in value)) return `${at}.${name} is missing`;
    for (const [name, item] of Object.entries(value)) {
      const wrong = again(item, properties[name] ?? schema.additionalProperties, `${at}.${name}`);
      if (wrong !== undefined) return wrong;
      if (schema.additionalProperties === false && !(name in properties)) return `${at}.${name} is not allowed`;
    }
    if (Object.keys(value).length < (bound("minProperties") ?? 0)) return `${at} has too few properties`;
  }
  return undefined;
}

const film = {
  type: "OBJECT",
  properties: {
    title: { type: "STRING" },
    year: { type: "INTEGER", minimum: 1900, maximum: 2030 },
    rating: { type: "NUMBER", format: "double", minimum: 0, maximum: 10 },
    genre: { type: "STRING", format: "enum", enum: ["DRAMA", "COMEDY", "CRIME"] },
    seen: { type: "BOOLEAN" },
    cast: {
      type: "ARRAY",
      items: { type: "OBJECT", properties: { name: { type: "STRING" } }, required: ["name"] },
      minItems: "2",
      maxItems: "4",
    },
    sequel: { type: "STRING", nullable: true },
  },
  required: ["title", "year", "genre", "cast"],
  propertyOrdering: ["year", "title"],
};

const schemas: [name: string, schema: JsonObject][] = [
  ["the OpenAPI subset, upper case", film],
  ["an array at the top", { type: "ARRAY", items: film, maxItems: 2 }],
  ["a string", { type: "string", minLength: 30, maxLength: 40 }],
  ["a short string", { type: "string", maxLength: 3 }],
  ["an integer in a narrow range", { type: "integer", minimum: 7, maximum: 7 }],
  ["a number in a narrow range", { type: "number", minimum: 0.001, maximum: 0.002 }],
  ["negative bounds", { type: "integer", maximum: -5 }],
  ["only a minimum", { type: "number", minimum: 1000 }],
  ["exclusive bounds", { type: "integer", exclusiveMinimum: 3, exclusiveMaximum: 5 }],
  ["exclusive bounds of numbers", { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 1 }],
  ["multiples", { type: "integer", multipleOf: 7, minimum: 1, maximum: 20 }],
  ["multiples of a fraction", { type: "number", multipleOf: 0.5, minimum: 0.1, maximum: 3 }],
  ["a list of types", { type: ["null", "string"] }],
  ["a constant", { type: "object", properties: { kind: { const: "a" } }, required: ["kind"] }],
  ["an enum of numbers", { type: "integer", enum: [1, 2, 3] }],
  ["an enum of numbers as strings", { type: "INTEGER", enum: ["1", "2"] }],
  ["anyOf", { anyOf: [{ type: "integer" }, { type: "object", properties: { a: { type: "string" } }, required: ["a"] }] }],
  ["anyOf with null", { type: "object", properties: { a: { anyOf: [{ type: "null" }, { type: "boolean" }] } }, required: ["a"] }],
  [
    "oneOf with a discriminator",
    {
      oneOf: [
        {
          type: "object",
          properties: { type: { const: "cat" }, lives: { type: "integer" } },
          required: ["type", "lives"],
          additionalProperties: false,
        },
        { type: "object", properties: { type: { const: "dog" } }, required: ["type"], additionalProperties: false },
      ],
    },
  ],
  [
    "allOf",
    {
      allOf: [
        { type: "object", properties: { a: { type: "string" } }, required: ["a"] },
        { properties: { b: { type: "integer" } }, required: ["b"] },
      ],
    },
  ],
  [
    "references",
    {
      type: "object",
      properties: { a: { $ref: "#/$defs/pair" } },
      required: ["a"],
      $defs: { pair: { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 2 } },
    },
  ],
  [
    "a recursive tree",
    {
      type: "object",
      properties: { name: { type: "string" }, children: { type: "array", items: { $ref: "#" } } },
      required: ["name", "children"],
    },
  ],
  [
    "a recursive list",
    {
      $ref: "#/$defs/node",
      $defs: {
        node: { type: "object", properties: { next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } }, required: ["next"] },
      },
    },
  ],
  ["a map", { type: "object", additionalProperties: { type: "integer" }, minProperties: 3 }],
  ["a tuple", { type: "array", prefixItems: [{ type: "string" }, { type: "integer" }], items: false, minItems: 2 }],
  ["unique items", { type: "array", items: { enum: ["a", "b", "c"] }, uniqueItems: true, minItems: 3, maxItems: 3 }],
  ["no items", { type: "array", items: { type: "string" }, maxItems: 0 }],
  [
    "times",
    {
      type: "object",
      properties: { at: { type: "string", format: "date-time" }, on: { type: "string", format: "date" } },
      required: ["at", "on"],
    },
  ],
  [
    "patterns",
    {
      type: "object",
      properties: { code: { type: "string", pattern: "^[A-Z]{3}-\\d{4}$" }, tag: { type: "string", pattern: "^(?:a|bc)+[^x]?\\.z$" } },
      required: ["code", "tag"],
    },
  ],
  ["no type, only properties", { properties: { a: { type: "string" } }, required: ["a", "b"] }],
];

describe("values for schemas", () => {
  it.each(schemas)("conform: %s", (_, schema) => {
    for (let i = 0; i < 50; i += 1) {
      const value = valueFor(schema, chanceOf(`seed ${i}`), "the topic");
      expect(JSON.parse(JSON.stringify(value) ?? "null")).toEqual(value);
      expect(violation(value, schema, schema)).toBeUndefined();
    }
  });

  it("follow the property ordering and echo the prompt", () => {
    const value = valueFor(film, chanceOf("a"), "Alien, 1979") as JsonObject;
    expect(Object.keys(value).slice(0, 2)).toEqual(["year", "title"]);
    expect(value.title).toContain("Alien, 1979");
    expect(valueFor(film, chanceOf("a"), "Alien, 1979")).toEqual(value);
    expect(valueFor(film, chanceOf("b"), "Alien, 1979")).not.toEqual(value);
  });

  it("take names that objects have already", () => {
    const value = valueFor(
      JSON.parse('{"type":"object","properties":{"__proto__":{"type":"integer"},"constructor":{"type":"string"}}}'),
      chanceOf("a"),
      "",
    );
    expect(Object.keys(value as object)).toEqual(["__proto__", "constructor"]);
  });

  it("give up on patterns that are too hard instead of being wrong", () => {
    expect(matching("^(?!q)z$", chanceOf("a"))).toBeUndefined();
    expect(matching("(", chanceOf("a"))).toBeUndefined();
  });
});
