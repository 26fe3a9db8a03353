/**
 * What the importer of JSON Lines on Vertex AI cannot take. Pure.
 *
 * It loads the rows of a job into typed columns, like a load job of BigQuery, before any of them runs, and what does not fit fails the whole job after it was created: code 3,
 * "Failed to import data" (gemini-batch.md 3.5, from reports of users). Some rows fail alone, whatever the others are: empty objects, nulls inside arrays, arrays inside
 * arrays, more than 15 levels, names such as `$defs`, two types in one place. Others fail in company only: a free-form part (arguments of a function, a JSON schema) that has
 * a text where another row has a number. Those get a shape, a digest of the types in their free-form parts; what has the same shape fits together.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { isObject, type JsonObject } from "../shared/json.ts";

/** What is wrong with a row, and where. */
export interface Finding {
  /** E.g. `tools[0].googleSearch`. Names only, never values. */
  path: string;
  what: string;
}

export interface Lint {
  /** Why the row fails alone. */
  finding?: Finding;
  /** Up to 8 letters and digits; absent for a row without free-form parts. */
  shape?: string;
}

/** Nested records that a table can have. */
const maxLevels = 15;

/** Looks at a request as it would be written, that is without what {@link withoutEmpty} takes out. */
export function lintRow(request: JsonObject): Lint {
  try {
    const types = typesOf(request, "", 1);
    const parts: string[] = [];
    collectFree(types, "", false, parts);
    if (parts.length === 0) return {};
    return { shape: createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 8) };
  } catch (thrown) {
    if (thrown instanceof Misfit) return { finding: thrown.finding };
    throw thrown;
  }
}

class Misfit extends Error {
  readonly finding: Finding;

  constructor(path: string, what: string) {
    super(what);
    this.finding = { path: shortPath(path), what };
  }
}

/** Deep paths are as long as the row; both ends say where it is. */
function shortPath(path: string): string {
  return path.length <= 120 ? path : `${path.slice(0, 60)}…${path.slice(-59)}`;
}

// Types --------------------------------------------------------------------------------------------------------------

/** What a column must be to hold a value. `undefined`: null, which fits any. */
type Types = "string" | "number" | "boolean" | { items: Types } | { fields: Map<string, Types> } | undefined;

/** Throws Misfit for what no column can hold. `level`: records around the value, itself included. */
function typesOf(value: unknown, path: string, level: number): Types {
  if (Array.isArray(value)) return { items: itemTypes(value, path, level) };
  if (isObject(value)) return { fields: fieldTypes(value, path, level) };
  const type = typeof value;
  return type === "string" || type === "number" || type === "boolean" ? type : undefined;
}

function itemTypes(items: readonly unknown[], path: string, level: number): Types {
  let merged: Types;
  for (const [index, item] of items.entries()) {
    const at = `${path}[${index}]`;
    if (item === null || item === undefined) throw new Misfit(at, "a null inside an array");
    if (Array.isArray(item)) throw new Misfit(at, "an array inside an array");
    merged = merge(merged, typesOf(item, at, level), at);
  }
  return merged;
}

function fieldTypes(object: JsonObject, path: string, level: number): Map<string, Types> {
  if (level > maxLevels) throw new Misfit(path, `more than ${maxLevels} levels of objects`);
  const entries = Object.entries(object);
  if (entries.length === 0) throw new Misfit(path, "an empty object");
  const fields = new Map<string, Types>();
  for (const [name, value] of entries) {
    const at = joined(path, name);
    if (!/^[\p{L}_][\p{L}\p{M}\p{N}_-]{0,299}$/u.test(name)) {
      throw new Misfit(at, "a name with something else in it than letters, digits, - and _, or that begins with a digit");
    }
    fields.set(name, typesOf(value, at, level + 1));
  }
  return fields;
}

function joined(path: string, name: string): string {
  const written = /^[\w$-]{1,40}$/.test(name) ? name : JSON.stringify(name.slice(0, 40));
  return path === "" ? written : `${path}.${written}`;
}

/** The type that holds both: elements of one array, and thereby all that rows have at one path, share a column. */
function merge(a: Types, b: Types, path: string): Types {
  if (a === undefined) return b;
  if (b === undefined || a === b) return a;
  if (typeof a === "object" && typeof b === "object") {
    if ("items" in a && "items" in b) return { items: merge(a.items, b.items, path) };
    if ("fields" in a && "fields" in b) {
      const fields = new Map(a.fields);
      for (const [name, type] of b.fields) fields.set(name, merge(fields.get(name), type, joined(path, name)));
      return { fields };
    }
  }
  throw new Misfit(path, `${wordOf(b)} where an element before it has ${wordOf(a)}`);
}

function wordOf(type: Types): string {
  if (typeof type === "object") return "items" in type ? "an array" : "an object";
  return type === "string" ? "a text" : `a ${type ?? "null"}`;
}

// Free-form parts ----------------------------------------------------------------------------------------------------

/** Members that hold any JSON, by the member around them (`*`: any). */
const freeIn: Readonly<Record<string, string>> = {
  args: "functionCall",
  response: "functionResponse",
  responseJsonSchema: "*",
  parametersJsonSchema: "*",
  partMetadata: "*",
};
/** Members that are schemas, in which these hold any JSON. */
const schemas: ReadonlySet<string> = new Set(["responseSchema", "parameters", "response"]);
const freeInSchema: ReadonlySet<string> = new Set(["default", "example", "enum", "const"]);

/** Writes down the types of every free-form part, one text each, with its path. */
function collectFree(types: Types, path: string, inSchema: boolean, parts: string[], parent = ""): void {
  if (typeof types !== "object") return;
  if ("items" in types) {
    collectFree(types.items, path, inSchema, parts, parent);
    return;
  }
  for (const [written, type] of types.fields) {
    const name = camelCase(written);
    const at = path === "" ? name : `${path}.${inSchema ? written : name}`;
    const holder = freeIn[name];
    const isFree = inSchema ? freeInSchema.has(written) : holder === "*" || (holder !== undefined && holder === parent);
    if (!isFree) {
      collectFree(type, at, inSchema || schemas.has(name), parts, name);
      continue;
    }
    const text = textOf(type);
    // Texts in an enum are what everybody has.
    if (text !== undefined && !(written === "enum" && text === "[s]")) parts.push(`${at} ${text}`);
  }
  parts.sort();
}

/** The same text for the same types, in whatever order; what is null or an empty array fits with everything, and is left out. */
function textOf(types: Types): string | undefined {
  if (types === undefined) return undefined;
  if (typeof types === "string") return types.charAt(0);
  if ("items" in types) {
    const items = textOf(types.items);
    return items === undefined ? undefined : `[${items}]`;
  }
  const fields = [...types.fields].map(([name, type]) => [name, textOf(type)] as const).filter(([, text]) => text !== undefined);
  return `{${fields
    .map(([name, text]) => `${JSON.stringify(name)}:${text}`)
    .toSorted()
    .join()}}`;
}

function camelCase(name: string): string {
  return name.includes("_") ? name.replaceAll(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase()) : name;
}

// Empty objects that mean nothing ------------------------------------------------------------------------------------

/** Messages of settings and maps: empty is the same as absent. The SDK writes `generationConfig: {}` for a config without any of its members. */
const prunable: ReadonlySet<string> = new Set([
  ...["generationConfig", "toolConfig", "functionCallingConfig", "retrievalConfig", "thinkingConfig", "speechConfig", "imageConfig"],
  ...["labels"],
]);

/** The request without empty objects that mean the same as nothing. Free-form parts stay as they are; so do empty tools, which mean something. */
export function withoutEmpty(request: JsonObject): JsonObject {
  return prune(request) as JsonObject;
}

function prune(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(prune);
  if (!isObject(value)) return value;
  const isSchema = typeof value["type"] === "string";
  const kept: [string, unknown][] = [];
  for (const [written, member] of Object.entries(value)) {
    const name = camelCase(written);
    const pruned = freeIn[name] === undefined && !freeInSchema.has(name) ? prune(member) : member;
    const mayGo = prunable.has(name) || (isSchema && name === "properties");
    if (!(mayGo && isObject(pruned) && Object.keys(pruned).length === 0)) kept.push([written, pruned]);
  }
  return Object.fromEntries(kept);
}
