/** Whether a query is served by the declared indexes, by the rules of the Standard edition: the emulator asks for none. */
import type { QueryShape } from "../../src/stores/firestore/store.ts";
import { declared } from "../../src/stores/firestore/indexes.ts";

type Sorted = readonly (readonly [string, "asc" | "desc"])[];

/** What sorts: said, or the field of a range. Names of documents come last by themselves. */
function orderOf({ range, order }: QueryShape): Sorted {
  const last = order.at(-1);
  const said = last?.[0] === "__name__" && last[1] === "asc" ? order.slice(0, -1) : order;
  if (said.length > 0) return said;
  return range.filter((field) => field !== "__name__").map((field) => [field, "asc"] as const);
}

/** Fields that are compared for equality come first, in any order and direction; then what sorts, exactly. */
export function serves(fields: Sorted, shape: QueryShape): boolean {
  const order = orderOf(shape);
  const equal = new Set(shape.equal);
  if (fields.length !== equal.size + order.length) return false;
  if (!fields.slice(0, equal.size).every(([field]) => equal.has(field))) return false;
  return order.every(([field, direction], i) => {
    const found = fields[equal.size + i];
    return found?.[0] === field && found[1] === direction;
  });
}

export function isServed(shape: QueryShape): boolean {
  // Ranges of names need no index.
  if (shape.equal.length === 0 && orderOf(shape).length === 0) return true;
  return (declared[shape.collection] ?? []).some((fields) => serves(fields, shape));
}
