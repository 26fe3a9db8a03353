/**
 * Looking at JSON that came from outside. Pure.
 *
 * @module
 */

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function asObject(value: unknown): JsonObject | undefined {
  return isObject(value) ? value : undefined;
}

/** RFC 3339 with any number of digits, as milliseconds since 1970. */
export function toTime(value: unknown): number | undefined {
  const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isNaN(time) ? undefined : time;
}

/** Whether there are more than so many objects and arrays inside one another. */
export function nestsDeeper(value: object, levels: number): boolean {
  if (levels === 0) return true;
  if (Array.isArray(value))
    return value.some((item: unknown) => typeof item === "object" && item !== null && nestsDeeper(item, levels - 1));
  // Cheaper than a list of the keys, and JSON has no inherited ones.
  for (const key in value) {
    const item = (value as JsonObject)[key];
    if (typeof item === "object" && item !== null && nestsDeeper(item, levels - 1)) return true;
  }
  return false;
}

/** Some thousand levels overflow the stack of whoever writes a response as JSON again; the service's own parsers stop at 100. */
export const maxResponseDepth = 500;
