/**
 * JSON Schema → `responseSchema`, the subset of OpenAPI 3.0 that Gemini answers in. One pure function.
 *
 * @module
 */
import type { Schema, Type } from "@google/genai";
import { readJsonSchema, refuse, type SchemaNode, type TypeName } from "./json-schema.ts";

/**
 * The `responseSchema` for a JSON Schema (draft 2020-12 or draft-07).
 *
 * Every value that fits the JSON Schema fits the result, but for what it allows without naming it: further properties of an object, further items after
 * a tuple. References are written out, `allOf` is merged, `oneOf` becomes `anyOf`, `null` becomes `nullable`, a tuple whose items are all alike becomes an
 * array of fixed length, properties keep their order (`propertyOrdering`).
 *
 * The result may be wider where the service takes less than the schema says; every reply is validated all the same. Left out for that reason:
 * - values of enums that are not strings (the service answers 400 "only allowed for STRING type") and enums with an empty string; bounds and the
 *   description say them instead
 * - formats of strings but `date-time` (400 "only 'enum' and 'date-time' are supported"), which the description names, and of numbers but `float` and
 *   `double`, `int32` and `int64`
 * - patterns beside a format, longer than 500 characters, or with look-around and back-references, which Google's regular expressions do not have
 * - that a bound of numbers is exclusive (of integers it is moved by one), `multipleOf`, `uniqueItems`, `propertyNames`, bounds beyond ±(2^53 − 1)
 * - `additionalProperties: false`, and keywords that only describe, but for `title`, `description`, `default` and `example`
 *
 * @throws `invalid_option` that names the JSON path, for what cannot be said or would be wrong without it: recursion, records (`additionalProperties` with a
 * schema, `patternProperties`), objects without properties, arrays without items, any value, tuples of different types, required properties without
 * a schema, `not`, `if`, `contains`, `dependentRequired` and their kin.
 */
export function toResponseSchema(jsonSchema: unknown): Schema {
  return convert(readJsonSchema(jsonSchema));
}

/** A schema as the alternatives that it consists of, and whether `null` is one of them. */
interface Alternatives {
  schemas: Schema[];
  nullable: boolean;
}

function convert(node: SchemaNode): Schema {
  const { schemas, nullable } = alternativesOf(node);
  const all = nullable ? schemas.map((schema) => ({ ...schema, nullable: true })) : schemas;
  const [first] = all;
  if (first === undefined) return { type: "NULL" as Type, ...annotationsOf(node) };
  // Some backends take nothing beside `anyOf`, so each alternative says for itself that it is nullable and what it is about.
  return all.length === 1 ? first : { anyOf: all };
}

function alternativesOf(node: SchemaNode): Alternatives {
  if (node.anyOf) {
    const all = node.anyOf.map(alternativesOf);
    const schemas = all.flatMap((alternatives) => alternatives.schemas).map((schema) => describeBesides(schema, node));
    return { schemas: unique(schemas), nullable: all.some(({ nullable }) => nullable) };
  }
  if (node.values) return valueAlternatives(node, node.values);
  const types = node.types ?? [guessType(node)];
  const solid = types.filter((type) => type !== "null");
  // One default and one example cannot be of several types.
  const shown = solid.length === 1 ? node : { ...node, default: undefined, example: undefined };
  return { schemas: solid.map((type) => schemaOfType(shown, type)), nullable: types.length > solid.length };
}

/** A type that is not said follows from the keywords that only it has. */
function guessType(node: SchemaNode): TypeName {
  const { bounds } = node;
  if (node.properties || node.required || bounds.minProperties !== undefined || bounds.maxProperties !== undefined) return "object";
  if (node.items || node.prefixItems || bounds.minItems !== undefined || bounds.maxItems !== undefined) return "array";
  if (node.pattern !== undefined || node.format !== undefined) return "string";
  if (bounds.minLength !== undefined || bounds.maxLength !== undefined) return "string";
  if (Object.keys(bounds).length > 0) return "number";
  return refuse(node.path, "any value");
}

function schemaOfType(node: SchemaNode, type: Exclude<TypeName, "null">): Schema {
  switch (type) {
    case "string":
      return stringSchema(node);
    case "number":
    case "integer":
      return numberSchema(node, type);
    case "boolean":
      return { type: "BOOLEAN" as Type, ...annotationsOf(node) };
    case "array":
      return arraySchema(node);
    case "object":
      return objectSchema(node);
  }
}

function stringSchema(node: SchemaNode): Schema {
  const { bounds, format, pattern } = node;
  const isKnown = format === undefined || format === "date-time";
  return compact({
    type: "STRING" as Type,
    format: isKnown ? format : undefined,
    ...annotationsOf(node, isKnown ? undefined : `Format: ${format}.`),
    minLength: countOf(bounds.minLength),
    maxLength: countOf(bounds.maxLength),
    pattern: pattern !== undefined && format === undefined && isPlainPattern(pattern) ? pattern : undefined,
  });
}

function isPlainPattern(pattern: string): boolean {
  return pattern.length <= 500 && !/\(\?[=!<]|\\[1-9k]/.test(pattern);
}

const numberFormats = { number: ["float", "double"], integer: ["int32", "int64"] };

function numberSchema(node: SchemaNode, type: "number" | "integer"): Schema {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = node.bounds;
  const above = type === "integer" && exclusiveMinimum !== undefined ? Math.floor(exclusiveMinimum) + 1 : exclusiveMinimum;
  const below = type === "integer" && exclusiveMaximum !== undefined ? Math.ceil(exclusiveMaximum) - 1 : exclusiveMaximum;
  return compact({
    type: type.toUpperCase() as Type,
    format: numberFormats[type].find((format) => format === node.format),
    ...annotationsOf(node),
    minimum: boundOf(Math.max(minimum ?? -Infinity, above ?? -Infinity)),
    maximum: boundOf(Math.min(maximum ?? Infinity, below ?? Infinity)),
  });
}

/** Bounds of all numbers that JSON carries exactly are what libraries write for "a whole number", and no bounds. */
function boundOf(bound: number): number | undefined {
  return Math.abs(bound) < Number.MAX_SAFE_INTEGER ? bound : undefined;
}

function arraySchema(node: SchemaNode): Schema {
  const { bounds, prefixItems = [] } = node;
  const kinds = unique([...prefixItems, ...(node.items ? [node.items] : [])].map(convert));
  const [items] = kinds;
  if (items === undefined) refuse(node.path, "an array without items");
  if (kinds.length > 1) refuse(`${node.path}/prefixItems`, "a tuple of different types");
  const isClosed = prefixItems.length > 0 && node.items === undefined;
  return compact({
    type: "ARRAY" as Type,
    ...annotationsOf(node),
    items,
    minItems: countOf(bounds.minItems),
    maxItems: countOf(isClosed ? Math.min(prefixItems.length, bounds.maxItems ?? Infinity) : bounds.maxItems),
  });
}

function objectSchema(node: SchemaNode): Schema {
  const { bounds, properties = new Map<string, SchemaNode>(), required = new Set<string>() } = node;
  if (properties.size === 0) refuse(node.path, "an object without properties");
  for (const name of required)
    if (!properties.has(name)) refuse(`${node.path}/required`, `the required property "${name}" without a schema`);
  const names = [...properties.keys()];
  return compact({
    type: "OBJECT" as Type,
    ...annotationsOf(node),
    properties: Object.fromEntries([...properties].map(([name, property]) => [name, convert(property)])),
    required: required.size === 0 ? undefined : names.filter((name) => required.has(name)),
    propertyOrdering: names,
    minProperties: countOf(bounds.minProperties),
    maxProperties: countOf(bounds.maxProperties),
  });
}

// Enums ------------------------------------------------------------------------------------------------------------------

function valueAlternatives(node: SchemaNode, all: readonly unknown[]): Alternatives {
  const values = all.filter((value) => node.types === undefined || node.types.some((type) => isOfType(value, type)));
  if (values.length === 0) refuse(node.path, "an enum without values");
  const schemas: Schema[] = [];
  const strings = values.filter((value) => typeof value === "string");
  const numbers = values.filter((value) => typeof value === "number");
  const booleans = values.filter((value) => typeof value === "boolean");
  if (strings.length > 0) schemas.push(stringEnum(node, strings));
  if (numbers.length > 0) schemas.push(numberEnum(node, numbers));
  if (booleans.length > 0) schemas.push(booleanEnum(node, booleans));
  if (values.some((value) => typeof value === "object" && value !== null)) refuse(node.path, "an enum of objects or arrays");
  return { schemas, nullable: values.includes(null) };
}

function isOfType(value: unknown, type: TypeName): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}

function stringEnum(node: SchemaNode, values: readonly string[]): Schema {
  const type = "STRING" as Type;
  if (values.includes("")) return compact({ type, ...annotationsOf(node, oneOf(values)) });
  return compact({ type, ...annotationsOf(node), enum: [...new Set(values)] });
}

/** Bounds say a single value, and whole numbers without a gap; the others are named in the description. */
function numberEnum(node: SchemaNode, values: readonly number[]): Schema {
  const minimum = Math.min(...values);
  const maximum = Math.max(...values);
  const isWhole = values.every(Number.isInteger);
  const isRange = minimum === maximum || (isWhole && new Set(values).size === maximum - minimum + 1);
  return compact({
    type: (isWhole ? "INTEGER" : "NUMBER") as Type,
    ...annotationsOf(node, isRange ? undefined : oneOf(values)),
    minimum,
    maximum,
  });
}

function booleanEnum(node: SchemaNode, values: readonly boolean[]): Schema {
  return compact({ type: "BOOLEAN" as Type, ...annotationsOf(node, new Set(values).size === 2 ? undefined : `Always ${values[0]}.`) });
}

function oneOf(values: readonly unknown[]): string {
  return `One of: ${values.map((value) => JSON.stringify(value)).join(", ")}.`;
}

// Texts ------------------------------------------------------------------------------------------------------------------

function annotationsOf(node: SchemaNode, more?: string): Pick<Schema, "title" | "description" | "default" | "example"> {
  const description = joined(node.description, more);
  return compact({ title: node.title, description, default: node.default, example: node.example });
}

/** An alternative of a choice that has a title and a description of its own. */
function describeBesides(schema: Schema, choice: SchemaNode): Schema {
  const description = joined(choice.description, schema.description);
  return compact({ ...schema, title: schema.title ?? choice.title, description });
}

function joined(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || b === undefined || a === b ? (a ?? b) : `${a}\n${b}`;
}

/** Counts are int64 there, which the API and the SDK's types write as strings. */
function countOf(count: number | undefined): string | undefined {
  return count !== undefined && Number.isSafeInteger(count) && count >= 0 ? String(count) : undefined;
}

function compact<T extends object>(schema: T): T {
  return Object.fromEntries(Object.entries(schema).filter(([, value]) => value !== undefined)) as T;
}

function unique(schemas: readonly Schema[]): Schema[] {
  return [...new Map(schemas.map((schema) => [JSON.stringify(schema), schema])).values()];
}
