import type { Store, StoreStats } from "../core/store.ts";
import { addUsage, noUsage, type Usage } from "../core/usage.ts";

/** How everything stands. */
export interface Stats extends Omit<StoreStats, "usage"> {
  /** Tokens of every answer so far. */
  usage: Usage;
  cost: {
    /** Spent so far, each answer at the price of its tier and day; those of models without a price are not in it. */
    usd: number;
    /** What the same answers would have cost at the standard tier. */
    standardUsd: number;
    /** Models whose price is unknown. */
    unknownModels: string[];
  };
}

export async function readStats(store: Store): Promise<Stats> {
  const { usage: perLane, ...counts } = await store.stats();
  const cost = { usd: 0, standardUsd: 0, unknownModels: new Set<string>() };
  for (const row of await store.spend({})) {
    cost.usd += row.usd;
    cost.standardUsd += row.standardUsd;
    if (row.unpriced > 0) cost.unknownModels.add(row.lane.model);
  }
  const usage = perLane.reduce((sum: Usage, lane) => addUsage(sum, lane.usage), { ...noUsage });
  return { ...counts, usage, cost: { ...cost, unknownModels: [...cost.unknownModels] } };
}
