/**
 * Values that conform to a schema: the OpenAPI subset of `responseSchema` and the JSON Schema of `responseJsonSchema`.
 *
 * @module
 */
import type { Chance } from "./chance.ts";
import { pick } from "./chance.ts";
import { textFor } from "./schema-text.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** Below this depth, optional properties and items are left out, so that recursive schemas end. */
const deepEnough = 6;

interface Context {
  root: JsonObject;
  chance: Chance;
  /** Words of the prompt, to make texts recognisable. */
  topic: string;
}

/** A value for `schema` that follows from `chance`. Texts echo `topic`. */
export function valueFor(schema: unknown, chance: Chance, topic: string): unknown {
  const root = isObject(schema) ? schema : {};
  return make(root, { root, chance, topic }, "answer", 0);
}

function make(schema: unknown, context: Context, name: string, depth: number): unknown {
  if (!isObject(schema)) return textFor({}, context.chance, context.topic, name);
  const { chance } = context;
  if (typeof schema.$ref === "string") return make(resolve(schema.$ref, context.root), context, name, depth + 1);
  if ("const" in schema) return schema.const;
  if (Array.isArray(schema.enum) && schema.enum.length > 0) return enumValue(schema, chance);
  if (Array.isArray(schema.allOf)) {
    const { allOf, ...own } = schema;
    return make(
      (allOf as unknown[]).reduce<JsonObject>((all, part) => merge(all, deref(part, context.root)), own),
      context,
      name,
      depth,
    );
  }
  const options = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(options) && options.length > 0) {
    const { anyOf: _a, oneOf: _o, ...own } = schema;
    return make(merge(own, choose(options, context, depth)), context, name, depth + 1);
  }
  switch (typeOf(schema)) {
    case "object":
      return makeObject(schema, context, depth);
    case "array":
      return makeArray(schema, context, name, depth);
    case "boolean":
      return chance() < 0.5;
    case "integer":
      return makeNumber(schema, chance, true);
    case "number":
      return makeNumber(schema, chance, false);
    case "null":
      return null;
    default:
      return textFor(schema, chance, context.topic, name);
  }
}

/** The lower-case type; guessed from the other keywords when it is missing. A list of types gives its first that is not null. */
function typeOf(schema: JsonObject): string {
  const types = (Array.isArray(schema.type) ? schema.type : [schema.type]).filter((type): type is string => typeof type === "string");
  const lower = types.map((type) => type.toLowerCase());
  const first = lower.find((type) => type !== "null") ?? lower[0];
  if (first !== undefined && first !== "type_unspecified") return first;
  if (schema.properties !== undefined || schema.additionalProperties !== undefined || schema.required !== undefined) return "object";
  if (schema.items !== undefined || schema.prefixItems !== undefined) return "array";
  if (schema.minimum !== undefined || schema.maximum !== undefined) return "number";
  return "string";
}

function makeObject(schema: JsonObject, context: Context, depth: number): JsonObject {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const required = new Set(Array.isArray(schema.required) ? (schema.required as string[]) : []);
  const ordering = Array.isArray(schema.propertyOrdering) ? (schema.propertyOrdering as string[]) : [];
  const names = [...new Set([...ordering.filter((name) => name in properties), ...Object.keys(properties), ...required])];
  const result: JsonObject = {};
  for (const name of names) {
    if (depth >= deepEnough && !required.has(name)) continue;
    if (properties[name] === false) continue;
    Object.defineProperty(result, name, {
      value: make(properties[name] ?? additional(schema), context, name, depth + 1),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  const wanted = Math.max(
    numberOf(schema.minProperties) ?? 0,
    names.length === 0 && isObject(schema.additionalProperties) && depth < deepEnough ? 2 : 0,
  );
  const most = numberOf(schema.maxProperties) ?? Infinity;
  for (let i = 1; Object.keys(result).length < Math.min(wanted, most); i += 1) {
    if (!(`item${i}` in result)) result[`item${i}`] = make(additional(schema), context, `item ${i}`, depth + 1);
  }
  return result;
}

function additional(schema: JsonObject): unknown {
  return isObject(schema.additionalProperties) ? schema.additionalProperties : { type: "string" };
}

function makeArray(schema: JsonObject, context: Context, name: string, depth: number): unknown[] {
  const least = numberOf(schema.minItems) ?? 0;
  const most = numberOf(schema.maxItems) ?? Math.max(least, 3);
  const prefix = Array.isArray(schema.prefixItems) ? schema.prefixItems : [];
  let length = Math.min(most, Math.max(least, prefix.length, 1 + Math.floor(context.chance() * 3)));
  if (depth >= deepEnough) length = Math.max(least, Math.min(prefix.length, most));
  if (schema.items === false) length = Math.min(length, prefix.length);
  const items: unknown[] = [];
  const seen = new Set<string>();
  for (let attempt = 0; items.length < length && attempt < length * 20; attempt += 1) {
    const value = make(prefix[items.length] ?? schema.items, context, name, depth + 1);
    if (schema.uniqueItems === true) {
      const text = JSON.stringify(value);
      if (seen.has(text)) continue;
      seen.add(text);
    }
    items.push(value);
  }
  return items;
}

function makeNumber(schema: JsonObject, chance: Chance, whole: boolean): number {
  const step = numberOf(schema.multipleOf) ?? (whole ? 1 : 0.01);
  let least = numberOf(schema.minimum);
  let most = numberOf(schema.maximum);
  const above = numberOf(schema.exclusiveMinimum) ?? (schema.exclusiveMinimum === true ? least : undefined);
  const below = numberOf(schema.exclusiveMaximum) ?? (schema.exclusiveMaximum === true ? most : undefined);
  if (above !== undefined && (least === undefined || above >= least)) least = (Math.floor(above / step) + 1) * step;
  if (below !== undefined && (most === undefined || below <= most)) most = (Math.ceil(below / step) - 1) * step;
  least ??= most === undefined ? 0 : Math.min(0, most - 100 * step);
  most ??= Math.max(100, least + 100 * step);
  const first = Math.ceil(least / step - 1e-9);
  const last = Math.floor(most / step + 1e-9);
  // A range narrower than the step of our choice: its lower end is as good as any.
  if (last < first) return schema.multipleOf === undefined ? (whole ? Math.ceil(least) : (least + most) / 2) : first * step;
  const value = (first + Math.floor(chance() * (last - first + 1))) * step;
  return whole ? Math.round(value) : Number(value.toPrecision(12));
}

function enumValue(schema: JsonObject, chance: Chance): unknown {
  const value = pick(schema.enum as unknown[], chance);
  // The OpenAPI subset writes the values of a numeric enum as strings.
  const type = typeOf(schema);
  if (typeof value === "string" && (type === "integer" || type === "number") && Number.isFinite(Number(value))) return Number(value);
  return value;
}

/** One of several schemas: any at first, deep down one that ends. */
function choose(options: unknown[], context: Context, depth: number): JsonObject {
  const schemas = options.map((option) => deref(option, context.root));
  const solid = schemas.filter((schema) => typeOf(schema) !== "null");
  const simple = solid.find((schema) => !["object", "array"].includes(typeOf(schema)));
  if (depth >= deepEnough) return schemas.find((schema) => typeOf(schema) === "null") ?? simple ?? schemas[0] ?? {};
  return pick(solid.length > 0 ? solid : schemas, context.chance);
}

function deref(schema: unknown, root: JsonObject, depth = 0): JsonObject {
  if (!isObject(schema)) return {};
  if (typeof schema.$ref !== "string" || depth > 20) return schema;
  return deref(resolve(schema.$ref, root), root, depth + 1);
}

function resolve(ref: string, root: JsonObject): unknown {
  let place: unknown = root;
  for (const part of ref.replace(/^#\/?/, "").split("/")) {
    if (part === "") continue;
    place = isObject(place) ? place[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")] : undefined;
  }
  return place ?? {};
}

function merge(a: JsonObject, b: JsonObject): JsonObject {
  const result: JsonObject = { ...a, ...b };
  if (isObject(a.properties) && isObject(b.properties)) result.properties = { ...a.properties, ...b.properties };
  if (Array.isArray(a.required) && Array.isArray(b.required)) {
    result.required = [...new Set<unknown>([...(a.required as unknown[]), ...(b.required as unknown[])])];
  }
  return result;
}

/** Bounds may be int64, which JSON carries as strings. */
function numberOf(value: unknown): number | undefined {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : undefined;
}
