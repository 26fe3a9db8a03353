/**
 * BigQuery's columns: what a value becomes in one, and how the API shows it.
 *
 * @module
 */
import { isObject, type JsonObject } from "./wire.ts";

/** A column: `{ name, type, mode }`, as the client gave it. */
export type Field = JsonObject;

/** A cell as `tabledata.list` shows it: text, or nested `{"f":[{"v":…}]}` and `[{"v":…}]`. */
export type Cell = string | null | JsonObject | JsonObject[];

export function typeOf(field: Field): string {
  const type = wordOf(field.type, "STRING");
  const short: Record<string, string> = { INT64: "INTEGER", FLOAT64: "FLOAT", BOOL: "BOOLEAN", STRUCT: "RECORD" };
  return short[type] ?? type;
}

function wordOf(value: unknown, usual = ""): string {
  return (typeof value === "string" ? value : usual).toUpperCase();
}

export function isRepeated(field: Field): boolean {
  return wordOf(field.mode) === "REPEATED";
}

/** One row of cells. `from`: insertAll brings JSON columns as text, a load job as JSON. Throws an error for people for a value that does not fit. */
export function cellsOf(fields: readonly Field[], row: JsonObject, from: "insert" | "load"): Cell[] {
  const known = new Set(fields.map((field) => String(field.name).toLowerCase()));
  const given = new Map(Object.entries(row).map(([name, value]) => [name.toLowerCase(), value]));
  for (const name of given.keys()) if (!known.has(name)) throw new TypeError(`no such field: ${name}.`);
  return fields.map((field) => cellOf(field, given.get(String(field.name).toLowerCase()), from));
}

function cellOf(field: Field, value: unknown, from: "insert" | "load"): Cell {
  const name = String(field.name);
  if (value === undefined || value === null) {
    if (wordOf(field.mode) === "REQUIRED") throw new TypeError(`Missing required field: ${name}.`);
    return isRepeated(field) ? [] : null;
  }
  if (isRepeated(field)) {
    if (!Array.isArray(value)) throw new TypeError(`Field ${name} must be an array.`);
    return value.map((item) => ({ v: scalarOf(field, item, from) }));
  }
  return scalarOf(field, value, from);
}

function scalarOf(field: Field, value: unknown, from: "insert" | "load"): Cell {
  const name = String(field.name);
  const wrong = (wanted: string) => new TypeError(`Could not convert the value of field ${name} to ${wanted}.`);
  switch (typeOf(field)) {
    case "RECORD": {
      if (!isObject(value)) throw wrong("RECORD");
      const fields = Array.isArray(field.fields) ? field.fields.filter(isObject) : [];
      return { f: cellsOf(fields, value, from).map((v) => ({ v })) };
    }
    case "JSON":
      if (from === "load") return JSON.stringify(value);
      if (typeof value !== "string") throw wrong("JSON: insertAll takes JSON as text");
      return JSON.stringify(parsed(value, () => wrong("JSON")));
    case "TIMESTAMP":
      return microseconds(value, wrong);
    default:
      if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") throw wrong(typeOf(field));
      return plainText(typeOf(field), String(value), wrong);
  }
}

function plainText(type: string, text: string, wrong: (wanted: string) => TypeError): string {
  switch (type) {
    case "INTEGER":
      if (!/^-?\d+$/.test(text)) throw wrong(type);
      return BigInt(text).toString();
    case "FLOAT":
    case "NUMERIC":
    case "BIGNUMERIC":
      if (text === "" || !Number.isFinite(Number(text))) throw wrong(type);
      return text;
    case "BOOLEAN":
      if (!/^(?:true|false)$/i.test(text)) throw wrong(type);
      return text.toLowerCase();
    default:
      return text;
  }
}

function parsed(text: string, failure: () => TypeError): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw failure();
  }
}

/** Microseconds since 1970 as text, from RFC 3339 or seconds. */
function microseconds(value: unknown, wrong: (wanted: string) => TypeError): string {
  if (typeof value === "number") return String(Math.round(value * 1_000_000));
  const ms = typeof value === "string" ? Date.parse(value.includes("T") ? value : value.replace(" ", "T")) : NaN;
  if (!Number.isFinite(ms)) throw wrong("TIMESTAMP");
  const digits = /\.\d{3}(\d{1,3})/.exec(value as string)?.[1] ?? "";
  return `${ms}${digits.padEnd(3, "0")}`;
}
