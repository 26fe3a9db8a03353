/**
 * What the importer of Vertex makes of JSON Lines: it reads them as a table, so that every field has one type, in all rows.
 *
 * Facts: users' reports and captures of Vertex batch jobs; see docs/emulator.md.
 *
 * @module
 */
import { isObject, type JsonObject } from "./wire.ts";

/** RECORD columns can be nested so deep. */
const maxDepth = 15;

/** What is known of a field from the rows so far. */
export interface Shape {
  kind: "string" | "number" | "boolean" | "object" | "array" | undefined;
  /** Of an object. */
  fields: Map<string, Shape>;
  /** Of an array. */
  items: Shape | undefined;
  /** Every text so far looks like a number. */
  numeric: boolean;
}

export function emptyShape(): Shape {
  return { kind: undefined, fields: new Map(), items: undefined, numeric: true };
}

/** Adds a row's value. Answers why the import fails, if it does. */
export function widen(shape: Shape, value: unknown, path = "", depth = 0): string | undefined {
  if (value === null || value === undefined) return undefined;
  const kind = Array.isArray(value) ? "array" : (typeof value as Shape["kind"]);
  if (shape.kind !== undefined && shape.kind !== kind) return `field ${path} is ${shape.kind} in one place and ${kind} in another`;
  shape.kind = kind;
  if (typeof value === "string") {
    shape.numeric &&= looksNumeric(value);
    return undefined;
  }
  if (Array.isArray(value)) {
    shape.items ??= emptyShape();
    for (const item of value) {
      if (item === null) return `field ${path} is an array with a null in it`;
      const problem = widen(shape.items, item, `${path}[]`, depth);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }
  return isObject(value) ? widenObject(shape, value, path, depth) : undefined;
}

function widenObject(shape: Shape, value: JsonObject, path: string, depth: number): string | undefined {
  if (depth > maxDepth) return `field ${path} is nested deeper than ${maxDepth} levels`;
  const entries = Object.entries(value);
  if (entries.length === 0) return path === "" ? "a row is empty" : `field ${path} is an empty object`;
  for (const [key, item] of entries) {
    const name = path === "" ? key : `${path}.${key}`;
    if (key === "" || /[$\s]/.test(key)) return `field name ${JSON.stringify(key)} is not allowed`;
    let field = shape.fields.get(key);
    if (field === undefined) {
      field = emptyShape();
      shape.fields.set(key, field);
    }
    const problem = widen(field, item, name, depth + 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** A value as it comes back: keys sorted, and null where other rows have a field that this one has not. */
export function echoOf(shape: Shape | undefined, value: unknown): unknown {
  if (shape === undefined || value === null || value === undefined) return value ?? null;
  if (Array.isArray(value)) return value.map((item) => echoOf(shape.items, item));
  if (!isObject(value)) return value;
  // What a fault took away is there without a value.
  const names = [...shape.fields.keys()].filter((name) => !Object.hasOwn(value, name) || value[name] !== undefined).toSorted();
  return Object.fromEntries(names.map((name) => [name, echoOf(shape.fields.get(name), value[name])]));
}

/** An id as it comes back: a number, if every row has a text there that looks like one. */
export function idOfShape(shape: Shape | undefined, value: unknown): unknown {
  return typeof value === "string" && shape?.numeric === true ? Number(value) : value;
}

function looksNumeric(text: string): boolean {
  return /^[+-]?\d+(?:\.\d+)?$/.test(text);
}
