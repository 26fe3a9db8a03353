/**
 * Columns as array parameters, written as Postgres reads them. The driver's own way goes through every element three times.
 */
export type Column = "int2[]" | "int4[]" | "int8[]" | "float8[]" | "text[]";

export function toArray(type: Column, values: readonly (number | string | null | undefined)[]): string {
  if (type === "text[]") return textArray(values as readonly (string | null | undefined)[]);
  return numberArray(values, type !== "float8[]");
}

/** One value of each row. */
export function column<R>(type: Column, rows: readonly R[], pick: (row: R) => number | string | null | undefined): string {
  return toArray(type, rows.map(pick));
}

/** Instants may have fractions of a millisecond; nothing is ever due before its time. */
export const whole = <T>(value: T): T | number => (typeof value === "number" && !Number.isInteger(value) ? Math.ceil(value) : value);

function numberArray(values: readonly (number | string | null | undefined)[], isWhole: boolean): string {
  let text = "{";
  for (let i = 0; i < values.length; i += 1) {
    if (i > 0) text += ",";
    const value = values[i];
    text += value === null || value === undefined ? "NULL" : isWhole ? whole(value) : value;
  }
  return `${text}}`;
}

function textArray(values: readonly (string | null | undefined)[]): string {
  let text = "{";
  for (let i = 0; i < values.length; i += 1) {
    if (i > 0) text += ",";
    const value = values[i];
    text += value === null || value === undefined ? "NULL" : `"${escape(value)}"`;
  }
  return `${text}}`;
}

const special = /["\\]/g;
const escape = (value: string): string => (value.includes('"') || value.includes("\\") ? value.replace(special, "\\$&") : value);
