import { costOf, type Price } from "../core/pricing.ts";
import type { Store, StoreStats } from "../core/store.ts";
import { addUsage, noUsage, type Usage } from "../core/usage.ts";

/** How everything stands. */
export interface Stats extends Omit<StoreStats, "usage"> {
  /** Tokens of every answer so far. */
  usage: Usage;
  cost: {
    /** Spent so far, at batch prices; the answers of models without a price are not in it. */
    usd: number;
    /** What the same answers would have cost at the standard tier. */
    standardUsd: number;
    /** Models whose price is unknown. */
    unknownModels: string[];
  };
}

export async function readStats(store: Store, prices: readonly Price[], now: number): Promise<Stats> {
  const { usage: perLane, ...counts } = await store.stats();
  const cost = { usd: 0, standardUsd: 0, unknownModels: new Set<string>() };
  let usage: Usage = { ...noUsage };
  for (const { lane, usage: tokens } of perLane) {
    usage = addUsage(usage, tokens);
    // The lane's sum is no single long prompt, so the price of long ones does not apply to it.
    const laneCost = costOf(
      tokens,
      lane.model,
      "batch",
      now,
      prices.map(({ long: _long, ...price }) => price),
    );
    if (!laneCost) cost.unknownModels.add(lane.model);
    cost.usd += laneCost?.usd ?? 0;
    cost.standardUsd += laneCost?.standardUsd ?? 0;
  }
  return { ...counts, usage, cost: { ...cost, unknownModels: [...cost.unknownModels] } };
}
