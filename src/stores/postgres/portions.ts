/** Characters that one statement carries at most, but for a single row that has more: a string, a message and an array have their limits. */
export const PORTION = 2 ** 24;

/** Cuts rows into portions, in their order: as many as fit each, but at least one. */
export function portions<T>(rows: readonly T[], size: (row: T) => number, limit = PORTION): (readonly T[])[] {
  const all: T[][] = [];
  let last: T[] = [];
  let filled = 0;
  for (const row of rows) {
    const more = size(row);
    if (last.length === 0 || filled + more > limit) {
      last = [];
      all.push(last);
      filled = 0;
    }
    last.push(row);
    filled += more;
  }
  return all;
}
