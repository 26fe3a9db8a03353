import { describe, GembatchError } from "../core/errors.ts";

/** The options of a payload store: an object, every name known. */
export function checkNames(options: unknown, known: readonly string[], where: string): void {
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw new GembatchError("invalid_option", `${where} takes an object of options, got ${describe(options)}.`);
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new GembatchError("invalid_option", `${where} has no option ${JSON.stringify(name)}.`, { hint: `It knows ${known.join(", ")}.` });
  }
}

/** A text that is not empty. */
export function requireText(value: unknown, name: string): string {
  if (typeof value === "string" && value.trim() !== "") return value;
  throw new GembatchError("invalid_option", `Option ${name} must be a text that is not empty, got ${describe(value)}.`);
}

/** What object names begin with: nothing, or folders with a slash at their end. */
export function checkPrefix(value: unknown): string {
  if (value === undefined || value === "") return "";
  if (typeof value !== "string" || value.length > 500 || !/^[\w!().*'/=-]+$/.test(value) || value.startsWith("/"))
    throw new GembatchError("invalid_option", `Option prefix must be such as "gembatch/payloads", got ${describe(value)}.`);
  return value.endsWith("/") ? value : `${value}/`;
}
