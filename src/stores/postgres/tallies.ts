import { Deltas, laneColumns, type SpendChange } from "../deltas.ts";
import { column } from "./arrays.ts";
import type { Sql } from "./session.ts";

/** Written as a transaction's last statements, in the order of their keys: so their locks are short, and never cross. */
export class Tallies extends Deltas<number> {
  async flush(sql: Sql, slot: number): Promise<void> {
    const counts = [...this.counts].filter(([, by]) => by !== 0).toSorted(([a], [b]) => a - b);
    if (counts.length > 0) {
      await sql.send(
        `INSERT INTO gb.tallies (no, slot, count) SELECT u.no, $1, u.count FROM unnest($2::int2[], $3::int8[]) AS u(no, count)
         ON CONFLICT (no, slot) DO UPDATE SET count = tallies.count + excluded.count`,
        [slot, column("int2[]", counts, ([no]) => no), column("int8[]", counts, ([, by]) => by)],
      );
    }
    const lanes = [...this.lanes].filter(([, change]) => laneColumns.some((name) => change[name] !== 0)).toSorted(([a], [b]) => a - b);
    if (lanes.length > 0) {
      await sql.send(flushLanes, [
        slot,
        column("int4[]", lanes, ([no]) => no),
        ...laneColumns.map((name) => column(name === "usd" ? "float8[]" : "int8[]", lanes, ([, change]) => change[name])),
      ]);
    }
    const spend = this.spend.toSorted((a, b) => a.day - b.day || a.chain - b.chain || a.lane - b.lane);
    if (spend.length > 0) {
      await sql.send(flushSpend, [slot, ...spendKeys.map((name) => column("float8[]", spend, (change) => change[name]))]);
    }
  }
}

const adds = (table: string, columns: readonly string[]): string =>
  columns.map((name) => `${name} = ${table}.${name} + excluded.${name}`).join(", ");

const flushLanes = `
  INSERT INTO gb.queues (lane, slot, ${laneColumns.join(", ")})
  SELECT u.lane, $1, ${laneColumns.map((name) => `u.${name}`).join(", ")}
  FROM unnest($2::int4[], $3::int8[], $4::int8[], $5::int8[], $6::float8[], $7::int8[], $8::int8[], $9::int8[])
    AS u(lane, ${laneColumns.join(", ")})
  ON CONFLICT (lane, slot) DO UPDATE SET ${adds("queues", laneColumns)}`;

const spendKeys: readonly (keyof SpendChange<number>)[] = [
  ...(["day", "chain", "lane", "answers", "promptTokens", "cachedTokens", "outputTokens", "thoughtTokens"] as const),
  ...(["toolTokens", "audioTokens", "imageTokens", "usd", "standardUsd", "unpriced"] as const),
];
const sums = [
  ...["answers", "prompt_tokens", "cached_tokens", "output_tokens", "thought_tokens", "tool_tokens", "audio_tokens", "image_tokens"],
  ...["usd", "standard_usd", "unpriced"],
];
const flushSpend = `
  INSERT INTO gb.spend (day, chain, lane, slot, ${sums.join(", ")})
  SELECT u.day::int4, u.chain::int4, u.lane::int4, $1, ${sums.map((name) => `u.${name}`).join(", ")}
  FROM unnest(${spendKeys.map((_, i) => `$${i + 2}::float8[]`).join(", ")}) AS u(day, chain, lane, ${sums.join(", ")})
  ON CONFLICT (day, chain, lane, slot) DO UPDATE SET ${adds("spend", sums)}`;
