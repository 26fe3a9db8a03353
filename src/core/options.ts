import { describe, GembatchError } from "./errors.ts";

/** Refuses keys that nobody reads, by name: a misspelt option must not be a silent default. */
export function refuseUnknown(given: object, known: readonly string[], where: string): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    throw new GembatchError("invalid_option", `Unknown option ${where === "" ? key : `${where}.${key}`}.`, {
      hint: `Known here: ${known.join(", ")}.`,
    });
  }
}

/** A whole number of at least `min`. */
export function parseCount(value: unknown, name: string, min = 1): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min) return value;
  throw new GembatchError("invalid_option", `Option ${name} must be a whole number of at least ${min}, got ${describe(value)}.`);
}
