import { noUsage, type Usage } from "../../core/usage.ts";
import type { Bill } from "../money.ts";
import { column } from "./arrays.ts";
import type { Sql } from "./connection.ts";

/** What a request weighs in the counters of its lane. */
export interface Weight {
  bytes: number;
  tokens: number;
  /** Picodollars; null if the model's price is unknown. */
  estimate: number | null;
}

const queueColumns = ["queued", "bytes", "tokens", "usd", "unpriced", "delayed", "isolated"] as const;
type LaneChange = Record<(typeof queueColumns)[number], number>;

interface SpendChange extends Usage, Bill {
  day: number;
  chain: number;
  lane: number;
  answers: number;
}

/** What a transaction changes in the counters, added up in memory and written as its last statements, in the order of their keys: so their locks are short, and never cross. */
export class Tallies {
  readonly #counts = new Map<number, number>();
  readonly #lanes = new Map<number, LaneChange>();
  readonly #spend = new Map<string, SpendChange>();

  /** `count` rows of this machine moved from one state code (`undefined`: they are new) to another (`undefined`: they are gone). */
  move(base: number, from: number | undefined, to: number | undefined, count = 1): void {
    if (from === to) return;
    if (from !== undefined) this.add(base + from, -count);
    if (to !== undefined) this.add(base + to, count);
  }

  add(no: number, count: number): void {
    this.#counts.set(no, (this.#counts.get(no) ?? 0) + count);
  }

  /** Whether more rows are counted here than before. */
  grew(no: number): boolean {
    return (this.#counts.get(no) ?? 0) > 0;
  }

  /** `sign` +1: a request that may be sent joined its lane's queue; -1: it left. */
  queue(lane: number, sign: 1 | -1, { bytes, tokens, estimate }: Weight): void {
    const change = this.#lane(lane);
    change.queued += sign;
    change.bytes += sign * bytes;
    change.tokens += sign * tokens;
    if (estimate === null) change.unpriced += sign;
    else change.usd += sign * estimate;
  }

  delay(lane: number, sign: 1 | -1): void {
    this.#lane(lane).delayed += sign;
  }

  /** Adds to counters of a lane. */
  change(lane: number, changes: Partial<LaneChange>): void {
    const change = this.#lane(lane);
    for (const [name, by] of Object.entries(changes)) change[name as keyof LaneChange] += by;
  }

  /** An answer that came at `now`, for a run of this chain, by this lane. */
  answer(now: number, chain: number, lane: number, usage: Usage, bill: Bill): void {
    const day = Math.floor(now / 86_400_000);
    const key = `${day} ${chain} ${lane}`;
    let change = this.#spend.get(key);
    if (change === undefined) {
      change = { day, chain, lane, answers: 0, ...noUsage, usd: 0, standardUsd: 0, unpriced: 0 };
      this.#spend.set(key, change);
    }
    change.answers += 1;
    change.promptTokens += usage.promptTokens;
    change.cachedTokens += usage.cachedTokens;
    change.outputTokens += usage.outputTokens;
    change.thoughtTokens += usage.thoughtTokens;
    change.toolTokens += usage.toolTokens;
    change.audioTokens += usage.audioTokens;
    change.imageTokens += usage.imageTokens;
    change.usd += bill.usd;
    change.standardUsd += bill.standardUsd;
    change.unpriced += bill.unpriced;
  }

  async flush(sql: Sql, slot: number): Promise<void> {
    const counts = [...this.#counts].filter(([, by]) => by !== 0).toSorted(([a], [b]) => a - b);
    if (counts.length > 0) {
      await sql.run(
        `INSERT INTO gb.tallies (no, slot, count) SELECT u.no, $1, u.count FROM unnest($2::int2[], $3::int8[]) AS u(no, count)
         ON CONFLICT (no, slot) DO UPDATE SET count = tallies.count + excluded.count`,
        [slot, column("int2[]", counts, ([no]) => no), column("int8[]", counts, ([, by]) => by)],
      );
    }
    const lanes = [...this.#lanes].filter(([, change]) => queueColumns.some((name) => change[name] !== 0)).toSorted(([a], [b]) => a - b);
    if (lanes.length > 0) {
      await sql.run(flushLanes, [
        slot,
        column("int4[]", lanes, ([no]) => no),
        ...queueColumns.map((name) => column(name === "usd" ? "float8[]" : "int8[]", lanes, ([, change]) => change[name])),
      ]);
    }
    const spend = [...this.#spend.values()].toSorted((a, b) => a.day - b.day || a.chain - b.chain || a.lane - b.lane);
    if (spend.length > 0) {
      await sql.run(flushSpend, [slot, ...spendKeys.map((name) => column("float8[]", spend, (change) => change[name]))]);
    }
  }

  #lane(no: number): LaneChange {
    let change = this.#lanes.get(no);
    if (change === undefined) {
      change = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0, delayed: 0, isolated: 0 };
      this.#lanes.set(no, change);
    }
    return change;
  }
}

const adds = (table: string, columns: readonly string[]): string =>
  columns.map((name) => `${name} = ${table}.${name} + excluded.${name}`).join(", ");

const flushLanes = `
  INSERT INTO gb.queues (lane, slot, ${queueColumns.join(", ")})
  SELECT u.lane, $1, ${queueColumns.map((name) => `u.${name}`).join(", ")}
  FROM unnest($2::int4[], $3::int8[], $4::int8[], $5::int8[], $6::float8[], $7::int8[], $8::int8[], $9::int8[])
    AS u(lane, ${queueColumns.join(", ")})
  ON CONFLICT (lane, slot) DO UPDATE SET ${adds("queues", queueColumns)}`;

const spendKeys: readonly (keyof SpendChange)[] = [
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
