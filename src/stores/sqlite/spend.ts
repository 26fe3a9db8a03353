import type { SpendRow } from "../../core/store.ts";
import { type DaySums, dayNo, spendSums, toSpendRow } from "../spend.ts";
import type { Database } from "./database.ts";

/** Versions of a chain count together. */
export function spend(db: Database, { since, until }: { since?: string; until?: string }): SpendRow[] {
  const rows = db
    .sql(`
      SELECT s.day, c.chain, s.lane, ${spendSums} FROM spend s JOIN chains c ON c.no = s.chain
      WHERE s.day BETWEEN ? AND ? GROUP BY s.day, c.chain, s.lane ORDER BY s.day, c.chain, s.lane`)
    .all(dayNo(since, -1e9), dayNo(until, 1e9)) as unknown as DaySums[];
  return rows.map((row) => toSpendRow(row, db.names.lane(row.lane)));
}
