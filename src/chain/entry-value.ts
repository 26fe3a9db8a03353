import { deserializeError } from "../core/errors.ts";
import type { Entry } from "../core/store.ts";

/** A settled entry's value, or its error thrown. */
export function entryValue(entry: Entry): unknown {
  if (entry.error) throw deserializeError(entry.error);
  return entry.value === undefined ? undefined : (JSON.parse(entry.value) as unknown);
}

/** A promise that never settles: the code behind it is dropped with its turn. */
export function never(): Promise<never> {
  return new Promise<never>(() => {});
}
