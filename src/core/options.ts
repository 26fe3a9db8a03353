import { describe, GembatchError } from "./errors.ts";

/** Refuses what is not an object, and keys that nobody reads, by name: a misspelt option must not be a silent default. */
export function refuseUnknown(given: object, known: readonly string[], where: string): void {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new GembatchError("invalid_option", `${where === "" ? "Options" : `Option ${where}`} must be an object, got ${describe(given)}.`);
  }
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    throw new GembatchError("invalid_option", `Unknown option ${where === "" ? key : `${where}.${key}`}.`, {
      hint: `Known here: ${known.join(", ")}.`,
    });
  }
}

/** The value if it has this type; `undefined` stands for none. */
export function checkType<T>(value: T, type: "boolean" | "function" | "string", name: string): T {
  if (value === undefined || typeof value === type) return value;
  const wanted = { boolean: "true or false", function: "a function", string: "a text" }[type];
  throw new GembatchError("invalid_option", `Option ${name} must be ${wanted}, got ${describe(value)}.`);
}

/** The value if it has these methods; `undefined` stands for none. */
export function checkMethods<T>(value: T, methods: readonly string[], name: string): T {
  if (value === undefined) return value;
  if (
    typeof value === "object" &&
    value !== null &&
    methods.every((method) => typeof (value as Record<string, unknown>)[method] === "function")
  )
    return value;
  throw new GembatchError("invalid_option", `Option ${name} must be an object with ${methods.join(", ")}, got ${describe(value)}.`);
}

/** The signal; `undefined` stands for none. */
export function checkSignal(value: AbortSignal | undefined): AbortSignal | undefined {
  if (value === undefined || value instanceof AbortSignal) return value;
  throw new GembatchError("invalid_option", `Option signal must be an AbortSignal, got ${describe(value)}.`);
}

/** A whole number of at least `min`. */
export function parseCount(value: unknown, name: string, min = 1): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min) return value;
  throw new GembatchError("invalid_option", `Option ${name} must be a whole number of at least ${min}, got ${describe(value)}.`);
}
