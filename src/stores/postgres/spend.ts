import type { SpendRow } from "../../core/store.ts";
import { type DaySums, dayNo, spendSums, toSpendRow } from "../spend.ts";
import type { Sql } from "./session.ts";
import type { TransactionNames } from "./names.ts";

/** Versions of a chain count together. */
export async function spend(sql: Sql, names: TransactionNames, { since, until }: { since?: string; until?: string }): Promise<SpendRow[]> {
  const rows = await sql.query<DaySums>(
    `SELECT s.day, c.chain, s.lane, ${spendSums} FROM gb.spend s JOIN gb.chains c ON c.no = s.chain
     WHERE s.day BETWEEN $1 AND $2 GROUP BY s.day, c.chain, s.lane ORDER BY s.day, c.chain COLLATE "C", s.lane`,
    [dayNo(since, -1e9), dayNo(until, 1e9)],
  );
  await names.loadLanes(rows.map(({ lane }) => lane));
  return rows.map((row) => toSpendRow(row, names.laneOf(row.lane)));
}
