/**
 * Columns as array parameters, in Postgres's binary format (`array_send` of its source): neither side reads or escapes a character. The driver's own way, a text, goes through every
 * element three times, and the server once more.
 */
import { outOfRange, unstorable } from "./errors.ts";
import { isStorable } from "./names.ts";

export type Column = "int2[]" | "int4[]" | "int8[]" | "float8[]" | "text[]";

/** Of the elements: their type in the server's catalog, and their size in bytes where all have the same. */
const elements = {
  "int2[]": { oid: 21, size: 2 },
  "int4[]": { oid: 23, size: 4 },
  "int8[]": { oid: 20, size: 8 },
  "float8[]": { oid: 701, size: 8 },
  "text[]": { oid: 25, size: undefined },
} as const;

type Value = number | string | null | undefined;

/** Dimensions, whether there are NULLs, the type of the elements, their number, the first index: 4 bytes each. An empty array has only the first three. */
const headerBytes = 20;

/** Throws for a number that the type does not hold, and for a text that would come back as another one. */
export function toArray(type: Column, values: readonly Value[]): Buffer {
  const { oid, size } = elements[type];
  const length = size === undefined ? textBytes(values as readonly (string | null | undefined)[]) : values.length * size;
  const buffer = Buffer.allocUnsafe(headerBytes + 4 * values.length + length);
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  let at = headerBytes;
  let nulls = 0;
  for (const value of values) {
    if (value === null || value === undefined) {
      view.setInt32(at, -1);
      at += 4;
      nulls = 1;
    } else if (typeof value === "string") {
      const bytes = write(buffer, at + 4, value);
      view.setInt32(at, bytes);
      at += 4 + bytes;
    } else {
      view.setInt32(at, size!);
      writeNumber(view, at + 4, type, value);
      at += 4 + size!;
    }
  }
  view.setInt32(0, values.length === 0 ? 0 : 1);
  view.setInt32(4, nulls);
  view.setInt32(8, oid);
  if (values.length === 0) return buffer.subarray(0, 12);
  view.setInt32(12, values.length);
  view.setInt32(16, 1);
  return buffer.subarray(0, at);
}

/** One value of each row. */
export function column<R>(type: Column, rows: readonly R[], pick: (row: R) => Value): Buffer {
  return toArray(type, rows.map(pick));
}

/** Instants may have fractions of a millisecond; nothing is ever due before its time. */
export const whole = <T>(value: T): T | number => (typeof value === "number" && !Number.isInteger(value) ? Math.ceil(value) : value);

function writeNumber(view: DataView, at: number, type: Column, value: number): void {
  if (type === "float8[]") {
    view.setFloat64(at, value);
    return;
  }
  const number = whole(value);
  if (type === "int8[]" && Number.isSafeInteger(number)) {
    view.setInt32(at, Math.floor(number / 2 ** 32));
    view.setUint32(at + 4, number % 2 ** 32);
  } else if (type === "int4[]" && number === (number | 0)) view.setInt32(at, number);
  else if (type === "int2[]" && number === (number << 16) >> 16) view.setInt16(at, number);
  else throw outOfRange({ type: type.slice(0, -2), value });
}

/** Texts of up to this length are measured and written here: a call out of JavaScript costs more. */
const shortText = 48;

/** Room that is enough for them. */
function textBytes(values: readonly (string | null | undefined)[]): number {
  let bytes = 0;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    bytes += value.length <= shortText ? 3 * value.length : Buffer.byteLength(value);
  }
  return bytes;
}

/** How many bytes were written. */
function write(buffer: Buffer, at: number, text: string): number {
  if (text.length <= shortText) {
    let i = 0;
    for (; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code === 0 || code > 127) break;
      buffer[at + i] = code;
    }
    if (i === text.length) return i;
  }
  if (!isStorable(text)) throw unstorable();
  return buffer.write(text, at);
}
