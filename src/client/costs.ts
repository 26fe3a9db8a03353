import { describe, GembatchError } from "../core/errors.ts";
import { refuseUnknown } from "../core/options.ts";
import type { SpendRow, Store } from "../core/store.ts";
import { laneTier } from "../core/tiers.ts";
import { addUsage, noUsage, type Usage } from "../core/usage.ts";

/** What costs can be told apart by. */
export type CostDimension = "day" | "chain" | "provider" | "model" | "tier";

const dimensions: readonly CostDimension[] = ["day", "chain", "provider", "model", "tier"];

export interface CostOptions {
  /** One line for each value, or combination of values. Default: one line for everything. */
  by?: CostDimension | readonly CostDimension[];
  /** First and last day (UTC, `YYYY-MM-DD`), both included. Default: all. */
  since?: string;
  until?: string;
}

/** What some answers used and cost. The properties of the dimensions asked for are set. */
export interface CostLine {
  day?: string;
  chain?: string;
  provider?: string;
  model?: string;
  tier?: string;
  answers: number;
  usage: Usage;
  /** Each answer at the price of its tier and day. */
  usd: number;
  /** What the same answers would have cost at the standard tier. */
  standardUsd: number;
  /** Answers whose price is unknown: they are in neither sum. */
  unpriced: number;
}

/** Costs, added up from the rows that the store keeps for each day, chain and lane. */
export async function readCosts(store: Store, options: CostOptions = {}): Promise<CostLine[]> {
  refuseUnknown(options, ["by", "since", "until"], "costs");
  const by = [options.by ?? []].flat();
  for (const dimension of by) {
    if (!dimensions.includes(dimension)) {
      throw new GembatchError("invalid_option", `Option costs.by must name ${dimensions.join(", ")}, got ${describe(dimension)}.`);
    }
  }
  const { by: _by, ...period } = options;
  checkDay("since", period.since);
  checkDay("until", period.until);
  const lines = new Map<string, CostLine>();
  for (const row of await store.spend(period)) {
    const values = Object.fromEntries(by.map((dimension) => [dimension, valueOf(row, dimension)]));
    const key = JSON.stringify(values);
    const line = lines.get(key) ?? { ...values, answers: 0, usage: { ...noUsage }, usd: 0, standardUsd: 0, unpriced: 0 };
    line.answers += row.answers;
    line.usage = addUsage(line.usage, row.usage);
    line.usd += row.usd;
    line.standardUsd += row.standardUsd;
    line.unpriced += row.unpriced;
    lines.set(key, line);
  }
  return [...lines].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, line]) => line);
}

function valueOf(row: SpendRow, dimension: CostDimension): string {
  switch (dimension) {
    case "day":
      return row.day;
    case "chain":
      return row.chain;
    case "provider":
      return row.lane.provider;
    case "model":
      return row.lane.model;
    case "tier":
      return laneTier(row.lane);
  }
}

function checkDay(name: "since" | "until", value: unknown): void {
  if (value === undefined || (typeof value === "string" && /^\d{4}-\d{2}-\d{2}$/.test(value))) return;
  throw new GembatchError("invalid_option", `Option costs.${name} must be a day such as "2026-12-31", got ${describe(value)}.`);
}
