import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { type } from "arktype";
import * as fc from "fast-check";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { GembatchError } from "../core/errors.ts";
import { chanceOf } from "../emulator/chance.ts";
import { valueFor } from "../emulator/schema.ts";
import { toResponseSchema } from "./response-schema.ts";
import { jsonSchemaOf } from "./standard-schema.ts";
import { responseSchemaOf } from "./typed-output.ts";

const string = { type: "string" };
const object = (properties: object, more: object = {}) => ({ type: "object", properties, ...more });
const objectOf = (properties: Record<string, object>, required?: string[]) => ({
  type: "OBJECT",
  properties,
  ...(required ? { required } : {}),
  propertyOrdering: Object.keys(properties),
});

describe("a JSON Schema becomes a responseSchema", () => {
  it.each<[string, unknown, unknown]>([
    [
      "a string",
      { ...string, minLength: 1, maxLength: 9, pattern: "^a+$" },
      { type: "STRING", minLength: "1", maxLength: "9", pattern: "^a+$" },
    ],
    ["a moment", { ...string, format: "date-time", pattern: "^.*Z$" }, { type: "STRING", format: "date-time" }],
    ["a format that is not taken", { ...string, format: "email", pattern: "@" }, { type: "STRING", description: "Format: email." }],
    ["a pattern that RE2 does not have", { ...string, pattern: "^(?!x)" }, { type: "STRING" }],
    ["a pattern with a named group", { ...string, pattern: "(?<a>x)\\k<a>" }, { type: "STRING" }],
    [
      "a number",
      { type: "number", minimum: 0, maximum: 1.5, format: "float" },
      { type: "NUMBER", format: "float", minimum: 0, maximum: 1.5 },
    ],
    ["exclusive bounds", { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 2 }, { type: "NUMBER", minimum: 0, maximum: 2 }],
    [
      "exclusive bounds of whole numbers",
      { type: "integer", exclusiveMinimum: 0, exclusiveMaximum: 5 },
      { type: "INTEGER", minimum: 1, maximum: 4 },
    ],
    ["the tighter of two bounds", { type: "number", minimum: 3, exclusiveMinimum: 1 }, { type: "NUMBER", minimum: 3 }],
    ["bounds of safe integers", { type: "integer", minimum: -(2 ** 53) + 1, maximum: 2 ** 53 - 1 }, { type: "INTEGER" }],
    ["facets that only narrow", { type: "integer", multipleOf: 5, $comment: "x", readOnly: true }, { type: "INTEGER" }],
    [
      "a boolean",
      { type: "boolean", title: "T", description: "D", default: true },
      { type: "BOOLEAN", title: "T", description: "D", default: true },
    ],
    [
      "an array",
      { type: "array", items: string, minItems: 1, maxItems: 3, uniqueItems: true },
      { type: "ARRAY", items: { type: "STRING" }, minItems: "1", maxItems: "3" },
    ],
    [
      "an object",
      object({ b: string, a: string }, { required: ["a"], additionalProperties: false }),
      objectOf({ b: { type: "STRING" }, a: { type: "STRING" } }, ["a"]),
    ],
    [
      "an open object",
      object({ a: string }, { additionalProperties: {}, minProperties: 1 }),
      { ...objectOf({ a: { type: "STRING" } }), minProperties: "1" },
    ],
    ["a property that must be absent", object({ a: string, b: false, c: { not: {} } }), objectOf({ a: { type: "STRING" } })],
    ["an example", { ...string, examples: ["x", "y"] }, { type: "STRING", example: "x" }],
    [
      "a type left out",
      { properties: { a: { minimum: 1 }, b: { items: string }, c: { maxLength: 3 } } },
      objectOf({
        a: { type: "NUMBER", minimum: 1 },
        b: { type: "ARRAY", items: { type: "STRING" } },
        c: { type: "STRING", maxLength: "3" },
      }),
    ],
    // null
    ["a type or null", { type: ["string", "null"] }, { type: "STRING", nullable: true }],
    [
      "a choice with null",
      { anyOf: [object({ a: string }), { type: "null" }], description: "D" },
      { ...objectOf({ a: { type: "STRING" } }), description: "D", nullable: true },
    ],
    ["null alone", { type: "null" }, { type: "NULL" }],
    ["OpenAPI's null", { ...string, nullable: true }, { type: "STRING", nullable: true }],
    // choices
    [
      "several types",
      { type: ["string", "integer", "null"], description: "D" },
      {
        anyOf: [
          { type: "STRING", description: "D", nullable: true },
          { type: "INTEGER", description: "D", nullable: true },
        ],
      },
    ],
    [
      "oneOf",
      { oneOf: [string, { type: "boolean", description: "yes or no" }], description: "D" },
      {
        anyOf: [
          { type: "STRING", description: "D" },
          { type: "BOOLEAN", description: "D\nyes or no" },
        ],
      },
    ],
    [
      "a choice within a choice",
      { anyOf: [string, { anyOf: [string, { type: "boolean" }] }] },
      { anyOf: [{ type: "STRING" }, { type: "BOOLEAN" }] },
    ],
    ["a choice of one", { anyOf: [string] }, { type: "STRING" }],
    ["a choice with the impossible", { anyOf: [false, string] }, { type: "STRING" }],
    // values
    ["an enum", { enum: ["a", "b", null] }, { type: "STRING", enum: ["a", "b"], nullable: true }],
    ["a constant", { const: "a" }, { type: "STRING", enum: ["a"] }],
    ["a number as constant", { type: "number", const: 1.5 }, { type: "NUMBER", minimum: 1.5, maximum: 1.5 }],
    ["whole numbers without a gap", { enum: [3, 1, 2] }, { type: "INTEGER", minimum: 1, maximum: 3 }],
    ["other numbers", { enum: [1, 5], description: "D" }, { type: "INTEGER", description: "D\nOne of: 1, 5.", minimum: 1, maximum: 5 }],
    ["one boolean", { const: true }, { type: "BOOLEAN", description: "Always true." }],
    ["both booleans", { enum: [true, false] }, { type: "BOOLEAN" }],
    ["an empty string", { enum: ["", "a"] }, { type: "STRING", description: 'One of: "", "a".' }],
    [
      "mixed values",
      { enum: ["a", 1] },
      {
        anyOf: [
          { type: "STRING", enum: ["a"] },
          { type: "INTEGER", minimum: 1, maximum: 1 },
        ],
      },
    ],
    ["values of the type only", { type: "string", enum: ["a", 1] }, { type: "STRING", enum: ["a"] }],
    // references and combinations
    [
      "references",
      { $ref: "#/$defs/a~1b", $defs: { "a/b": object({ x: { $ref: "#/$defs/c" } }), c: string } },
      objectOf({ x: { type: "STRING" } }),
    ],
    [
      "definitions of draft-07, described",
      { ...object({ x: { $ref: "#/definitions/c", description: "mine" } }), definitions: { c: { ...string, description: "its" } } },
      objectOf({ x: { type: "STRING", description: "mine" } }),
    ],
    [
      "one definition twice, nested",
      { ...object({ x: { $ref: "#/$defs/a" }, y: { $ref: "#/$defs/b" } }), $defs: { a: object({ b: { $ref: "#/$defs/b" } }), b: string } },
      objectOf({ x: objectOf({ b: { type: "STRING" } }), y: { type: "STRING" } }),
    ],
    ["a reference in data", { ...string, default: { $ref: "#/nowhere" } }, { type: "STRING", default: { $ref: "#/nowhere" } }],
    [
      "allOf",
      { allOf: [object({ a: string }, { required: ["a"] }), object({ b: string, a: { minLength: 2 } }, { required: ["b"] })] },
      objectOf({ a: { type: "STRING", minLength: "2" }, b: { type: "STRING" } }, ["a", "b"]),
    ],
    [
      "allOf with a choice",
      { ...object({ a: string }), anyOf: [{ required: ["a"] }, object({ b: string })] },
      { anyOf: [objectOf({ a: { type: "STRING" } }, ["a"]), objectOf({ a: { type: "STRING" }, b: { type: "STRING" } })] },
    ],
    [
      "allOf of two choices",
      { allOf: [{ type: ["string", "number", "null"] }, { anyOf: [{ type: "integer" }, { type: "boolean" }, { type: "null" }] }] },
      { type: "INTEGER", nullable: true },
    ],
    [
      "bounds of allOf",
      {
        allOf: [
          { type: "number", minimum: 1, maximum: 9 },
          { minimum: 2, maximum: 10 },
        ],
      },
      { type: "NUMBER", minimum: 2, maximum: 9 },
    ],
    ["values of allOf", { allOf: [{ enum: ["a", "b"] }, { enum: ["b", "c"] }] }, { type: "STRING", enum: ["b"] }],
    // tuples
    [
      "a tuple of one type",
      { type: "array", prefixItems: [string, string], items: false, minItems: 2 },
      { type: "ARRAY", items: { type: "STRING" }, minItems: "2", maxItems: "2" },
    ],
    [
      "a tuple of draft-07",
      { type: "array", items: [string, string], additionalItems: false },
      { type: "ARRAY", items: { type: "STRING" }, maxItems: "2" },
    ],
    [
      "a tuple that goes on alike",
      { type: "array", prefixItems: [string], items: string, minItems: 1 },
      { type: "ARRAY", items: { type: "STRING" }, minItems: "1" },
    ],
    ["an open tuple", { type: "array", prefixItems: [string], items: {} }, { type: "ARRAY", items: { type: "STRING" }, maxItems: "1" }],
  ])("%s", (_name, schema, expected) => {
    expect(toResponseSchema(schema)).toEqual(expected);
  });

  it("keeps the order of properties, in the text too", () => {
    const schema = toResponseSchema(object({ z: string, a: string, m: string }, { required: ["m", "z"] }));
    expect(JSON.stringify(schema)).toMatch(/"properties":\{"z".*"a".*"m".*"required":\["z","m"\],"propertyOrdering":\["z","a","m"\]/);
  });
});

describe("what it cannot say is refused with its place", () => {
  const tree = { type: "object", properties: { value: string, children: { type: "array", items: { $ref: "#" } } } };
  it.each<[string, unknown, string, RegExp]>([
    ["recursion", tree, "#/properties/children/items", /reference to itself/],
    [
      "recursion in a circle",
      { $ref: "#/$defs/a", $defs: { a: object({ b: { $ref: "#/$defs/b" } }), b: object({ a: { $ref: "#/$defs/a" } }) } },
      "#/properties/b/properties/a",
      /reference to itself/,
    ],
    ["a reference to nothing", object({ a: { $ref: "#/$defs/x" } }), "#/properties/a", /reference to nothing/],
    ["a reference to outside", { $ref: "https://example.org/schema" }, "#", /something outside/],
    ["a record", object({ tags: { type: "object", additionalProperties: string } }), "#/properties/tags/additionalProperties", /record/],
    ["a catch-all beside properties", object({ a: string }, { additionalProperties: string }), "#/additionalProperties", /record/],
    ["patterns of names", object({ a: string }, { patternProperties: { "^x": string } }), "#/patternProperties", /patternProperties/],
    ["not", object({ a: { ...string, not: { const: "x" } } }), "#/properties/a/not", /"not"/],
    ["if", { ...string, if: { minLength: 2 }, else: false }, "#/if", /"if"/],
    ["contains", { type: "array", items: string, contains: { const: "x" } }, "#/contains", /"contains"/],
    ["dependencies", object({ a: string }, { dependentRequired: { a: ["b"] } }), "#/dependentRequired", /dependentRequired/],
    ["any value", object({ a: {} }), "#/properties/a", /any value/],
    ["any value as true", object({ a: true }), "#/properties/a", /any value/],
    ["no value", false, "#", /no value fits/],
    ["a contradiction", { allOf: [string, { type: "number" }] }, "#", /no value fits/],
    ["a required property that must be absent", object({ a: false }, { required: ["a"] }), "#", /no value fits/],
    ["an object without properties", object({ a: object({}) }), "#/properties/a", /without properties/],
    ["a required property without a schema", object({ a: string }, { required: ["b"] }), "#/required", /"b" without a schema/],
    ["an array without items", { anyOf: [string, { type: "array" }] }, "#/anyOf/1", /without items/],
    [
      "a tuple of different types",
      object({ a: { type: "array", prefixItems: [string, { type: "number" }] } }),
      "#/properties/a/prefixItems",
      /tuple/,
    ],
    ["a tuple that goes on differently", { type: "array", prefixItems: [string], items: { type: "number" } }, "#/prefixItems", /tuple/],
    ["an object as constant", object({ a: { const: { b: 1 } } }), "#/properties/a", /objects or arrays/],
    ["an unknown type", object({ a: { type: "date" } }), "#/properties/a/type", /unknown type/],
    ["an enum without values of the type", { type: "string", enum: [1] }, "#", /without values/],
    ["what is no schema", object({ a: "string" }), "#/properties/a", /no JSON Schema/],
    ["names with a slash", object({ "a/b": {} }), "#/properties/a~1b", /any value/],
  ])("%s", (_name, schema, path, message) => {
    const error = thrownBy(() => toResponseSchema(schema));
    expect(error).toMatchObject({ code: "invalid_option", retryable: false, details: { path } });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(`at ${path} `);
    expect(error.hint).toContain("config.responseSchema");
  });

  it("a schema that explodes when it is written out", () => {
    const level = (n: number) => object(Object.fromEntries(["a", "b", "c", "d"].map((name) => [name, { $ref: `#/$defs/l${n + 1}` }])));
    const $defs = Object.fromEntries([...Array.from({ length: 8 }, (_, n) => [`l${n}`, level(n)] as const), ["l8", string]]);
    expect(thrownBy(() => toResponseSchema({ $ref: "#/$defs/l0", $defs })).message).toMatch(/more than 5000 parts/);
    const wide = object(Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`p${n}`, string])));
    const often = object(Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`p${n}`, { $ref: "#/$defs/wide" }])));
    expect(thrownBy(() => toResponseSchema({ ...often, $defs: { wide } })).message).toMatch(/more than 5000 parts/);
  });
});

describe("schemas of libraries", () => {
  const expected = {
    ...objectOf(
      {
        title: { type: "STRING", minLength: "1" },
        count: { type: "INTEGER" },
        kind: { type: "STRING", enum: ["a", "b"] },
        note: { type: "STRING", nullable: true },
        tags: { type: "ARRAY", items: { type: "STRING" } },
        more: { type: "STRING" },
      },
      ["title", "count", "kind", "note", "tags"],
    ),
  };
  const byName = (schema: unknown) =>
    JSON.parse(JSON.stringify(schema, (_key, value: unknown) => value)) as { propertyOrdering: string[]; required: string[] };

  it.each([
    [
      "zod",
      z.object({
        title: z.string().min(1),
        count: z.int(),
        kind: z.enum(["a", "b"]),
        note: z.string().nullable(),
        tags: z.array(z.string()),
        more: z.string().optional(),
      }),
    ],
    [
      "valibot",
      toStandardJsonSchema(
        v.object({
          title: v.pipe(v.string(), v.minLength(1)),
          count: v.pipe(v.number(), v.integer()),
          kind: v.picklist(["a", "b"]),
          note: v.nullable(v.string()),
          tags: v.array(v.string()),
          more: v.optional(v.string()),
        }),
      ),
    ],
    [
      "arktype",
      type({ title: "string > 0", count: "number.integer", kind: "'a' | 'b'", note: "string | null", tags: "string[]", "more?": "string" }),
    ],
  ])("%s", (vendor, schema) => {
    const sent = byName(responseSchemaOf(schema));
    // arktype sorts the properties.
    if (vendor === "arktype") Object.assign(sent, { propertyOrdering: expected.propertyOrdering, required: expected.required });
    expect(sent).toEqual(expected);
    expect(responseSchemaOf(schema)).toBe(responseSchemaOf(schema));
  });

  it("send what they take, before defaults and transforms", () => {
    const schema = z.object({ n: z.string().transform(Number), word: z.string().default("x"), at: z.preprocess((x) => x, z.iso.date()) });
    expect(responseSchemaOf(schema)).toMatchObject({
      properties: { n: { type: "STRING" }, word: { default: "x" }, at: { type: "STRING", description: "Format: date." } },
      required: ["n", "at"],
    });
  });

  it("of older versions have a method", () => {
    const standard = { version: 1, vendor: "old", validate: (value: unknown) => ({ value }) } as const;
    expect(responseSchemaOf({ "~standard": standard, toJSONSchema: () => string } as never)).toEqual({ type: "STRING" });
    expect(responseSchemaOf({ "~standard": standard, toJsonSchema: () => string } as never)).toEqual({ type: "STRING" });
  });

  it("that know one dialect only are asked in that", () => {
    const input = ({ target }: { target: string }) => {
      if (target !== "draft-07") throw new Error("only draft-07");
      return string;
    };
    const schema = {
      "~standard": { version: 1, vendor: "one", validate: (value: unknown) => ({ value }), jsonSchema: { input } },
    } as const;
    expect(responseSchemaOf(schema)).toEqual({ type: "STRING" });
  });

  it("that give no JSON Schema are refused, with both ways out", () => {
    const plain = thrownBy(() => responseSchemaOf(v.object({ a: v.string() })));
    expect(plain.message).toMatch(/\(of valibot\) gives no JSON Schema.*toStandardJsonSchema\(\).*config\.responseSchema/);
    const date = thrownBy(() => responseSchemaOf(z.object({ at: z.date() })));
    expect(date.message).toMatch(/Date cannot be represented.*config\.responseSchema/);
    expect([plain.code, date.code]).toEqual(["invalid_option", "invalid_option"]);
  });
});

// Any schema ---------------------------------------------------------------------------------------------------------------

const parameters = { seed: 20_261_122, numRuns: 150 };

/** Schemas of zod whose every facet `responseSchema` can say. */
const exactLeaf = fc.constantFrom<() => z.ZodType>(
  () => z.string().min(2).max(30),
  () => z.int().min(-3).max(3),
  () => z.int().gt(0).lt(9),
  () => z.number().min(0).max(1),
  () => z.boolean(),
  () => z.enum(["red", "green"]),
  () => z.literal(3),
  () => z.literal([1, 2, 3]),
  () => z.iso.datetime(),
  () => z.tuple([z.boolean(), z.boolean()]),
);

/** And those that it can say in part only. */
const looseLeaf = fc.constantFrom<() => z.ZodType>(
  () => z.literal([1, 5]),
  () => z.literal(true),
  () => z.literal(["a", 1, null]),
  () => z.enum(["", "a"]),
  () => z.number().gt(0).multipleOf(0.5),
  () => z.uuid(),
  () => z.string().regex(/^[a-c]{2,3}$/),
);

function schemas(leaf: fc.Arbitrary<() => z.ZodType>): fc.Arbitrary<z.ZodType> {
  return fc.letrec<{ any: z.ZodType; object: z.ZodType }>((tie) => ({
    any: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      leaf.map((make) => make()),
      tie("any").map((schema) => schema.nullable()),
      fc.tuple(tie("any"), fc.integer({ min: 0, max: 2 })).map(([schema, min]) => z.array(schema).min(min).max(3)),
      tie("object"),
      fc.tuple(tie("object"), tie("object")).map((both) => z.union(both)),
      fc.tuple(tie("object"), tie("object")).map(([a, b]) => z.discriminatedUnion("kind", [withKind(a, "a"), withKind(b, "b")])),
      tie("any").map((schema) => schema.describe("about")),
    ),
    object: fc
      .dictionary(fc.stringMatching(/^[a-z~/]{1,4}$/), fc.tuple(tie("any"), fc.boolean()), { minKeys: 1, maxKeys: 4 })
      .map((shape) =>
        z.object(
          Object.fromEntries(Object.entries(shape).map(([key, [schema, optional]]) => [key, optional ? schema.optional() : schema])),
        ),
      ),
  })).any;
}

function withKind(schema: z.ZodType, kind: string) {
  return z.object({ kind: z.literal(kind), inner: schema });
}

describe("for any schema", () => {
  it("what fits the sent schema is valid", () => {
    fc.assert(
      fc.property(schemas(exactLeaf), fc.string(), (schema, seed) => {
        const value = valueFor(responseSchemaOf(schema), chanceOf(seed), "");
        expect(schema.safeParse(value).error?.issues).toBeUndefined();
      }),
      parameters,
    );
  });

  it("what is valid fits the sent schema", () => {
    fc.assert(
      fc.property(schemas(fc.oneof(exactLeaf, looseLeaf)), fc.string(), (schema, seed) => {
        const value = valueFor(jsonSchemaOf(schema), chanceOf(seed), "");
        fc.pre(schema.safeParse(value).success);
        expect(misfit(responseSchemaOf(schema) as Gemini, value, "$")).toBeUndefined();
      }),
      parameters,
    );
  });

  it("the sent schema is well-formed, and the same each time", () => {
    fc.assert(
      fc.property(schemas(fc.oneof(exactLeaf, looseLeaf)), (schema) => {
        const jsonSchema = jsonSchemaOf(schema);
        const sent = toResponseSchema(jsonSchema);
        checkForm(sent);
        expect(JSON.stringify(toResponseSchema(structuredClone(jsonSchema)))).toBe(JSON.stringify(sent));
      }),
      parameters,
    );
  });

  it("a JSON Schema of any form is converted or refused, and never half of either", () => {
    const name = fc.constantFrom("a", "b", "__proto__", "0");
    const noise = fc.record(
      {
        type: fc.jsonValue(),
        enum: fc.jsonValue(),
        items: fc.jsonValue(),
        properties: fc.jsonValue(),
        minimum: fc.jsonValue(),
        anyOf: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    const { any } = fc.letrec<{ any: object; shape: object }>((tie) => ({
      any: fc
        .tuple(tie("shape"), fc.oneof({ weight: 30, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: noise }))
        .map(([shape, more]) => ({ ...shape, ...more })),
      shape: fc.oneof(
        { maxDepth: 3, depthSize: "small" },
        fc.record({ type: fc.constantFrom("string", "number", "integer", "boolean", ["string", "null"], ["integer", "boolean"]) }),
        fc.record({ enum: fc.array(fc.constantFrom("", "a", 1, 2.5, true, null), { minLength: 1, maxLength: 3 }) }),
        fc.record({ $ref: fc.constantFrom("#/$defs/a", "#/$defs/b", "#/$defs/a", "#") }),
        fc.record(
          {
            type: fc.constant("object"),
            properties: fc.dictionary(name, tie("any"), { minKeys: 1, maxKeys: 3 }),
            required: fc.subarray(["a"]),
          },
          { requiredKeys: ["properties"] },
        ),
        fc.record({ items: tie("any"), minItems: fc.nat(), maxItems: fc.integer() }, { requiredKeys: ["items"] }),
        fc.record({ type: fc.constant("array"), prefixItems: fc.array(tie("any"), { maxLength: 2 }) }),
        fc.record({
          anyOf: fc.array(fc.oneof(tie("any"), fc.constant({ type: "null" })), { minLength: 1, maxLength: 3 }),
          nullable: fc.boolean(),
        }),
        fc.record(
          { allOf: fc.array(tie("any"), { minLength: 1, maxLength: 2 }), oneOf: fc.array(tie("any"), { maxLength: 2 }) },
          { requiredKeys: ["allOf"] },
        ),
      ),
    }));
    const defs = { a: { type: "string" }, b: { properties: { a: { $ref: "#/$defs/a" } } } };
    const document = fc.oneof(
      { weight: 19, arbitrary: any.map((schema) => ({ ...schema, $defs: defs })) },
      { weight: 1, arbitrary: fc.jsonValue() },
    );
    let converted = 0;
    fc.assert(
      fc.property(document, (schema) => {
        try {
          checkForm(toResponseSchema(schema));
          converted += 1;
        } catch (error) {
          if (!GembatchError.is(error)) throw error;
          expect(error).toMatchObject({ code: "invalid_option", details: { path: expect.stringMatching(/^#/) as string } });
        }
      }),
      { ...parameters, numRuns: 1_000 },
    );
    expect(converted).toBeGreaterThan(200);
  });
});

interface Gemini {
  type?: string;
  anyOf?: Gemini[];
  items?: Gemini;
  properties?: Record<string, Gemini>;
  required?: string[];
  propertyOrdering?: string[];
  enum?: unknown[];
  nullable?: boolean;
  format?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  minItems?: string;
  maxItems?: string;
  minLength?: string;
  maxLength?: string;
}

const annotations = ["title", "description", "default", "example", "nullable"];
const keywordsOf: Record<string, string[]> = {
  STRING: ["format", "enum", "minLength", "maxLength", "pattern"],
  NUMBER: ["format", "minimum", "maximum"],
  INTEGER: ["format", "minimum", "maximum"],
  BOOLEAN: [],
  NULL: [],
  ARRAY: ["items", "minItems", "maxItems"],
  OBJECT: ["properties", "required", "propertyOrdering", "minProperties", "maxProperties"],
};

/** What the service answers 400 to must not be in it. */
function checkForm(schema: Gemini): void {
  if (schema.anyOf) {
    expect(Object.keys(schema)).toEqual(["anyOf"]);
    expect(schema.anyOf.length).toBeGreaterThan(1);
    schema.anyOf.forEach(checkForm);
    return;
  }
  const allowed = new Set(["type", ...annotations, ...(keywordsOf[schema.type ?? ""] ?? [])]);
  expect(Object.keys(schema).filter((key) => !allowed.has(key))).toEqual([]);
  if (schema.enum) expect(schema.enum.every((value) => typeof value === "string" && value !== "")).toBe(true);
  for (const key of ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"] as const) {
    expect((schema as Record<string, unknown>)[key] ?? "0").toMatch(/^\d+$/);
  }
  if (schema.type === "ARRAY") checkForm(schema.items!);
  if (schema.type !== "OBJECT") return;
  const names = Object.keys(schema.properties!);
  expect(names.length).toBeGreaterThan(0);
  expect(schema.propertyOrdering).toEqual(names);
  expect(names).toEqual(expect.arrayContaining(schema.required ?? []));
  Object.values(schema.properties!).forEach(checkForm);
}

/** Where a value does not fit a `responseSchema`. */
function misfit(schema: Gemini, value: unknown, at: string): string | undefined {
  if (schema.anyOf) return schema.anyOf.some((option) => misfit(option, value, at) === undefined) ? undefined : at;
  if (value === null) return schema.nullable === true || schema.type === "NULL" ? undefined : at;
  switch (schema.type) {
    case "STRING": {
      if (typeof value !== "string" || (schema.enum && !schema.enum.includes(value))) return at;
      const fits = value.length >= Number(schema.minLength ?? 0) && value.length <= Number(schema.maxLength ?? Infinity);
      return fits && (schema.pattern === undefined || new RegExp(schema.pattern).test(value)) ? undefined : at;
    }
    case "INTEGER":
    case "NUMBER": {
      if (typeof value !== "number" || (schema.type === "INTEGER" && !Number.isInteger(value))) return at;
      return value >= (schema.minimum ?? -Infinity) && value <= (schema.maximum ?? Infinity) ? undefined : at;
    }
    case "BOOLEAN":
      return typeof value === "boolean" ? undefined : at;
    case "ARRAY": {
      if (!Array.isArray(value) || value.length < Number(schema.minItems ?? 0) || value.length > Number(schema.maxItems ?? Infinity))
        return at;
      return value.map((item, index) => misfit(schema.items!, item, `${at}[${index}]`)).find((found) => found !== undefined);
    }
    case "OBJECT": {
      if (typeof value !== "object" || (schema.required ?? []).some((name) => !Object.hasOwn(value, name))) return at;
      const entries = Object.entries(value).filter(([name]) => Object.hasOwn(schema.properties!, name));
      return entries.map(([name, item]) => misfit(schema.properties![name]!, item, `${at}.${name}`)).find((found) => found !== undefined);
    }
    default:
      return at;
  }
}

function thrownBy(act: () => unknown): GembatchError {
  try {
    act();
  } catch (error) {
    if (GembatchError.is(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
