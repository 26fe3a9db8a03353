import { noUsage, type Usage } from "../core/usage.ts";
import type { Bill } from "./money.ts";

/** What a request weighs in the counters of its lane. */
export interface Weight {
  bytes: number;
  tokens: number;
  /** Picodollars; null if the model's price is unknown. */
  estimate: number | null;
}

export const laneColumns = ["queued", "bytes", "tokens", "usd", "unpriced", "delayed", "isolated"] as const;
export type LaneSums = Record<(typeof laneColumns)[number], number>;

export interface SpendChange<Key> extends Usage, Bill {
  day: number;
  chain: Key;
  lane: Key;
  answers: number;
}

/**
 * What a transaction changes in the counters, added up in memory: a thousand settled rows cost one change of what they spent. How it is written at the transaction's end is
 * each store's own. `Key`: how the store names chains and lanes.
 */
export class Deltas<Key extends number | string> {
  protected readonly counts = new Map<number, number>();
  protected readonly lanes = new Map<Key, LaneSums>();
  protected readonly spend: SpendChange<Key>[] = [];

  /** `count` rows of this machine moved from one state code (`undefined`: they are new) to another (`undefined`: they are gone). */
  move(base: number, from: number | undefined, to: number | undefined, count = 1): void {
    if (from === to) return;
    if (from !== undefined) this.add(base + from, -count);
    if (to !== undefined) this.add(base + to, count);
  }

  add(no: number, count: number): void {
    this.counts.set(no, (this.counts.get(no) ?? 0) + count);
  }

  /** Whether more rows are counted here than before. */
  grew(no: number): boolean {
    return (this.counts.get(no) ?? 0) > 0;
  }

  /** `sign` +1: a request that may be sent joined its lane's queue; -1: it left. */
  queue(lane: Key, sign: 1 | -1, { bytes, tokens, estimate }: Weight): void {
    const sums = this.#lane(lane);
    sums.queued += sign;
    sums.bytes += sign * bytes;
    sums.tokens += sign * tokens;
    if (estimate === null) sums.unpriced += sign;
    else sums.usd += sign * estimate;
  }

  delay(lane: Key, sign: 1 | -1): void {
    this.#lane(lane).delayed += sign;
  }

  /** Adds to counters of a lane. */
  change(lane: Key, changes: Partial<LaneSums>): void {
    const sums = this.#lane(lane);
    for (const [name, by] of Object.entries(changes)) sums[name as keyof LaneSums] += by;
  }

  /** An answer that came at `now`, for a run of this chain, by this lane. */
  answer(now: number, chain: Key, lane: Key, usage: Usage, bill: Bill): void {
    const change = this.#spendOf(Math.floor(now / 86_400_000), chain, lane);
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

  clear(): void {
    this.counts.clear();
    this.lanes.clear();
    this.spend.length = 0;
  }

  #lane(lane: Key): LaneSums {
    let sums = this.lanes.get(lane);
    if (sums === undefined) {
      sums = { queued: 0, bytes: 0, tokens: 0, usd: 0, unpriced: 0, delayed: 0, isolated: 0 };
      this.lanes.set(lane, sums);
    }
    return sums;
  }

  /** Answers come in the order of their batch: nearly always the one before was of the same chain, lane and day. */
  #spendOf(day: number, chain: Key, lane: Key): SpendChange<Key> {
    const isIt = (change: SpendChange<Key> | undefined) => change?.chain === chain && change.lane === lane && change.day === day;
    const last = this.spend.at(-1);
    let change = isIt(last) ? last : this.spend.find(isIt);
    if (change === undefined) {
      change = { day, chain, lane, answers: 0, ...noUsage, usd: 0, standardUsd: 0, unpriced: 0 };
      this.spend.push(change);
    }
    return change;
  }
}
