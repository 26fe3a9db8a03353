import type { Database } from "./database.ts";
import { tooMuch } from "./errors.ts";
import { MAX_COMMIT, TooMuch, type Unit } from "./unit.ts";

/** Documents that one transaction writes, as a rule. Firestore itself takes any number up to 10 MiB. */
export const WRITES = 400;

interface Work<I, R> {
  items: readonly I[];
  /** Documents that an item writes. */
  weight: (item: I) => number;
  work: (unit: Unit, part: readonly I[]) => Promise<R[]>;
  /** What is done about one item that is too much by itself. Without it, it is refused. */
  alone?: ((item: I) => Promise<R[]>) | undefined;
}

/** Items in as few transactions as carry them. Results in the order of the items. */
export async function inParts<I, R>(database: Database, { items, weight, work, alone }: Work<I, R>): Promise<R[]> {
  const parts: I[][] = [];
  let filled = Infinity;
  for (const item of items) {
    const more = weight(item);
    if (filled + more > WRITES) {
      parts.push([]);
      filled = 0;
    }
    parts.at(-1)?.push(item);
    filled += more;
  }
  const results: R[] = [];
  for (const part of parts) results.push(...(await doPart(database, part, work, alone)));
  return results;
}

/** One transaction, or its halves if it would carry too much. */
async function doPart<I, R>(database: Database, part: readonly I[], work: Work<I, R>["work"], alone: Work<I, R>["alone"]): Promise<R[]> {
  try {
    return await database.write(async (unit) => work(unit, part));
  } catch (thrown) {
    if (!(thrown instanceof TooMuch)) throw thrown;
    const [item] = part;
    if (part.length === 1 && item !== undefined && alone !== undefined) return alone(item);
    if (part.length < 2) throw tooMuch(thrown.bytes, MAX_COMMIT);
  }
  const middle = Math.ceil(part.length / 2);
  const first = await doPart(database, part.slice(0, middle), work, alone);
  return [...first, ...(await doPart(database, part.slice(middle), work, alone))];
}
