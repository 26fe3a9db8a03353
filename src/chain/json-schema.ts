/**
 * Reads a JSON Schema (draft 2020-12 or draft-07) into a tree without references and without `allOf`, and refuses what has no place in Gemini's `responseSchema`.
 *
 * @module
 */
import { GembatchError } from "../core/errors.ts";
import { canonicalJson } from "../core/json.ts";

export const typeNames = ["string", "number", "integer", "boolean", "object", "array", "null"] as const;
export type TypeName = (typeof typeNames)[number];

/** Of two lower bounds the higher one holds, of two upper bounds the lower one. */
const lowerBounds = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"] as const;
const upperBounds = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"] as const;
type BoundName = (typeof lowerBounds)[number] | (typeof upperBounds)[number];

/** One place of a schema. A node with `anyOf` has nothing else but a title and a description. */
export interface SchemaNode {
  /** Where it stands in the schema, for errors: `#/properties/tags/items`. */
  path: string;
  title?: string | undefined;
  description?: string | undefined;
  default?: unknown;
  example?: unknown;
  /** Absent: any type. */
  types?: readonly TypeName[] | undefined;
  /** `enum` and `const`. */
  values?: readonly unknown[] | undefined;
  anyOf?: readonly SchemaNode[] | undefined;
  properties?: ReadonlyMap<string, SchemaNode> | undefined;
  required?: ReadonlySet<string> | undefined;
  /** Of an array; of a tuple, what may follow. */
  items?: SchemaNode | undefined;
  prefixItems?: readonly SchemaNode[] | undefined;
  bounds: Partial<Record<BoundName, number>>;
  format?: string | undefined;
  pattern?: string | undefined;
}

/** Stops schemas that explode when their references are written out and their choices combined. */
const maxParts = 5_000;
const maxBranches = 100;

/** Keywords that say what `responseSchema` cannot say in any form. */
const inexpressible = [
  "not",
  "if",
  "contains",
  "dependentSchemas",
  "dependentRequired",
  "dependencies",
  "$dynamicRef",
  "$recursiveRef",
] as const;

/** @throws `invalid_option` with the JSON path of what cannot be said. */
export function readJsonSchema(schema: unknown): SchemaNode {
  return new Reader(schema).read(schema, "#", ["#"]) ?? refuse("#", "a schema that no value fits");
}

export function refuse(path: string, what: string): never {
  throw new GembatchError("invalid_option", `The schema cannot be sent as responseSchema: ${what} at ${path} has no form there.`, {
    hint: "Write config.responseSchema (generationConfig.responseSchema of a submitted request) by hand; then `schema` only validates.",
    details: { path },
  });
}

class Reader {
  readonly #root: unknown;
  #parts = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  /** `undefined` if no value fits. `refs` are the references that led here. */
  read(schema: unknown, path: string, refs: readonly string[]): SchemaNode | undefined {
    this.#count(path);
    if (schema === true) return { path, bounds: {} };
    if (isNever(schema)) return undefined;
    if (!isObject(schema)) refuse(path, "something that is no JSON Schema");
    refuseInexpressible(schema, path);
    let node = this.#readOwn(schema, path, refs);
    if (typeof schema["$ref"] === "string") node = this.#merge(node, this.#readReference(schema["$ref"], path, refs));
    for (const [index, part] of listOf(schema["allOf"]).entries())
      node = this.#merge(node, this.read(part, `${path}/allOf/${index}`, refs));
    for (const keyword of ["anyOf", "oneOf"]) {
      if (!Array.isArray(schema[keyword])) continue;
      const branches = listOf(schema[keyword]).map((branch, index) => this.read(branch, `${path}/${keyword}/${index}`, refs));
      node = this.#merge(node, anyOf(path, branches));
    }
    return node;
  }

  #readReference(ref: string, path: string, refs: readonly string[]): SchemaNode | undefined {
    if (refs.includes(ref)) refuse(path, `a reference to itself (${ref})`);
    return this.read(this.#resolve(ref, path), path, [...refs, ref]);
  }

  #resolve(ref: string, path: string): unknown {
    if (ref !== "#" && !ref.startsWith("#/")) refuse(path, `a reference to something outside (${ref})`);
    let place: unknown = this.#root;
    for (const part of ref.split("/").slice(1)) {
      const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
      place = isObject(place) && Object.hasOwn(place, name) ? place[name] : undefined;
    }
    return place ?? refuse(path, `a reference to nothing (${ref})`);
  }

  /** Everything but what is combined with it. */
  #readOwn(schema: JsonObject, path: string, refs: readonly string[]): SchemaNode | undefined {
    const types = typesOf(schema, path);
    const node: SchemaNode = {
      path,
      title: textOf(schema["title"]),
      description: textOf(schema["description"]),
      default: schema["default"],
      example: schema["example"] ?? listOf(schema["examples"])[0],
      types,
      values: valuesOf(schema),
      format: textOf(schema["format"]),
      pattern: textOf(schema["pattern"]),
      bounds: {},
    };
    for (const name of [...lowerBounds, ...upperBounds]) {
      const bound = schema[name];
      if (typeof bound === "number" && Number.isFinite(bound)) node.bounds[name] = bound;
    }
    if (Array.isArray(schema["required"])) node.required = new Set(listOf(schema["required"]).filter((name) => typeof name === "string"));
    this.#readItems(schema, node, refs);
    return this.#readProperties(schema, node, refs);
  }

  #readItems(schema: JsonObject, node: SchemaNode, refs: readonly string[]): void {
    const { items } = schema;
    // Until draft-07 a list of `items` was what `prefixItems` is since.
    const prefix = Array.isArray(schema["prefixItems"]) ? "prefixItems" : Array.isArray(items) ? "items" : undefined;
    const rest = prefix === "items" ? "additionalItems" : "items";
    if (prefix !== undefined) {
      const places = listOf(schema[prefix]).map((item, index) => ({ item, path: `${node.path}/${prefix}/${index}` }));
      node.prefixItems = places.map(({ item, path }) => this.read(item, path, refs) ?? refuse(path, "an item that no value fits"));
    }
    // After a tuple, "anything" is what holds without it too.
    const isAny = schema[rest] === true || (isObject(schema[rest]) && Object.keys(schema[rest]).length === 0);
    if (prefix === undefined ? isAny || isObject(schema[rest]) : !isAny && isObject(schema[rest])) {
      node.items = this.read(schema[rest], `${node.path}/${rest}`, refs);
    }
  }

  #readProperties(schema: JsonObject, node: SchemaNode, refs: readonly string[]): SchemaNode | undefined {
    if (!isObject(schema["properties"])) return node;
    const properties = new Map<string, SchemaNode>();
    for (const [name, property] of Object.entries(schema["properties"])) {
      const read = this.read(property, `${node.path}/properties/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, refs);
      if (read) properties.set(name, read);
      else if (node.required?.has(name)) return undefined;
    }
    return { ...node, properties };
  }

  // Combining -------------------------------------------------------------------------------------------------------------

  /** What fits both; `undefined` if nothing can. Titles and descriptions of `a` come first. */
  #merge(a: SchemaNode | undefined, b: SchemaNode | undefined): SchemaNode | undefined {
    if (!a || !b) return undefined;
    this.#count(a.path);
    if (a.anyOf || b.anyOf) return this.#mergeChoice(a, b);
    if (a.items === undefined ? b.items && a.prefixItems : b.prefixItems) refuse(a.path, "a combination of tuples");
    if (a.prefixItems && b.prefixItems) refuse(a.path, "a combination of tuples");
    const types = mergeTypes(a.types, b.types);
    const values = a.values && b.values ? intersect(a.values, b.values) : (a.values ?? b.values);
    const items = a.items && b.items ? this.#merge(a.items, b.items) : (a.items ?? b.items);
    if (types?.length === 0 || values?.length === 0) return undefined;
    const merged: SchemaNode = {
      path: a.path,
      title: a.title ?? b.title,
      description: a.description ?? b.description,
      default: a.default ?? b.default,
      example: a.example ?? b.example,
      types,
      values,
      items,
      prefixItems: a.prefixItems ?? b.prefixItems,
      required: a.required && b.required ? new Set([...a.required, ...b.required]) : (a.required ?? b.required),
      bounds: mergeBounds(a.bounds, b.bounds),
      format: a.format ?? b.format,
      pattern: a.pattern ?? b.pattern,
    };
    return this.#mergeProperties(merged, a, b);
  }

  /** (a1 or a2) and b = (a1 and b) or (a2 and b). */
  #mergeChoice(a: SchemaNode, b: SchemaNode): SchemaNode | undefined {
    const [choice, other] = a.anyOf ? [a, b] : [b, a];
    const plain = { ...other, title: undefined, description: undefined };
    const branches = (choice.anyOf ?? []).map((branch) => {
      const both = choice === a ? this.#merge(branch, plain) : this.#merge(plain, branch);
      return both && { ...both, path: branch.path };
    });
    const merged = anyOf(a.path, branches);
    return merged && { ...merged, title: a.title ?? b.title, description: a.description ?? b.description };
  }

  #mergeProperties(merged: SchemaNode, a: SchemaNode, b: SchemaNode): SchemaNode | undefined {
    if (!a.properties || !b.properties) return { ...merged, properties: a.properties ?? b.properties };
    const properties = new Map(a.properties);
    for (const [name, theirs] of b.properties) {
      const mine = properties.get(name);
      const both = mine ? this.#merge(mine, theirs) : theirs;
      if (both) properties.set(name, both);
      else if (merged.required?.has(name)) return undefined;
      else properties.delete(name);
    }
    return { ...merged, properties };
  }

  #count(path: string): void {
    this.#parts += 1;
    if (this.#parts > maxParts) refuse(path, `a schema of more than ${maxParts} parts`);
  }
}

type JsonObject = Record<string, unknown>;

function refuseInexpressible(schema: JsonObject, path: string): void {
  for (const keyword of inexpressible) if (schema[keyword] !== undefined) refuse(`${path}/${keyword}`, `"${keyword}"`);
  const { patternProperties } = schema;
  if (isObject(patternProperties) && Object.keys(patternProperties).length > 0) refuse(`${path}/patternProperties`, '"patternProperties"');
  for (const keyword of ["additionalProperties", "unevaluatedProperties", "unevaluatedItems"]) {
    const rest = schema[keyword];
    // `{}` and `true` allow what is allowed without them too.
    if (isObject(rest) && Object.keys(rest).length > 0 && !isNever(rest)) {
      refuse(`${path}/${keyword}`, `"${keyword}" with a schema (a record: an object whose keys are not known beforehand)`);
    }
  }
}

function typesOf(schema: JsonObject, path: string): TypeName[] | undefined {
  if (schema["type"] === undefined) return undefined;
  const given = Array.isArray(schema["type"]) ? listOf(schema["type"]) : [schema["type"]];
  const types = new Set(given.map((type) => typeNames.find((name) => name === type) ?? refuse(`${path}/type`, "an unknown type")));
  if (schema["nullable"] === true) types.add("null");
  if (types.has("number")) types.delete("integer");
  return [...types];
}

function valuesOf(schema: JsonObject): unknown[] | undefined {
  const values = schema["const"] === undefined ? schema["enum"] : [schema["const"]];
  if (!Array.isArray(values)) return undefined;
  const list = listOf(values);
  return schema["nullable"] === true && !list.includes(null) ? [...list, null] : list;
}

function anyOf(path: string, branches: readonly (SchemaNode | undefined)[]): SchemaNode | undefined {
  const possible = branches.filter((branch) => branch !== undefined);
  if (possible.length > maxBranches) refuse(path, `a choice of more than ${maxBranches}`);
  return possible.length === 0 ? undefined : { path, bounds: {}, anyOf: possible };
}

function mergeTypes(a: SchemaNode["types"], b: SchemaNode["types"]): SchemaNode["types"] {
  if (!a || !b) return a ?? b;
  const has = (types: readonly TypeName[], type: TypeName) => types.includes(type) || (type === "integer" && types.includes("number"));
  return typeNames.filter(
    (type) => has(a, type) && has(b, type) && (type !== "integer" || !(a.includes("number") && b.includes("number"))),
  );
}

function mergeBounds(a: SchemaNode["bounds"], b: SchemaNode["bounds"]): SchemaNode["bounds"] {
  const merged = { ...a };
  for (const name of lowerBounds) if (b[name] !== undefined) merged[name] = Math.max(b[name], a[name] ?? -Infinity);
  for (const name of upperBounds) if (b[name] !== undefined) merged[name] = Math.min(b[name], a[name] ?? Infinity);
  return merged;
}

function intersect(a: readonly unknown[], b: readonly unknown[]): unknown[] {
  const theirs = new Set(b.map((value) => canonicalJson(value)));
  return a.filter((value) => theirs.has(canonicalJson(value)));
}

/** Schemas that no value fits, in the two ways to write them. */
function isNever(schema: unknown): boolean {
  if (schema === false) return true;
  if (!isObject(schema)) return false;
  const { not } = schema;
  return not === true || (isObject(not) && Object.keys(not).length === 0);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
