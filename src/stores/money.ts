/**
 * Money as it stands in the file: whole picodollars, so that sums are exact and a queue that runs empty comes back to 0. The port speaks of USD.
 */
import type { Cost } from "../core/pricing.ts";
import type { Spent } from "../core/store.ts";

const PICO = 1e12;

export const toPico = (usd: number): number => Math.round(usd * PICO);
export const toUsd = (pico: number): number => pico / PICO;

/** An estimate; NULL if the model's price is unknown. */
export const estimateOf = (usd: number | undefined): number | null => (usd === undefined ? null : toPico(usd));

/** What one answer cost, in picodollars; an answer without a price only counts. */
export interface Bill {
  usd: number;
  standardUsd: number;
  unpriced: number;
}

export const noBill: Readonly<Bill> = { usd: 0, standardUsd: 0, unpriced: 0 };

export function billOf(cost: Cost | undefined): Bill {
  return cost === undefined
    ? { usd: 0, standardUsd: 0, unpriced: 1 }
    : { usd: toPico(cost.usd), standardUsd: toPico(cost.standardUsd), unpriced: 0 };
}

/** Columns of a row that sums up bills. */
export interface SpentRow {
  usd: number;
  standard_usd: number;
  unpriced: number;
}

export function toSpent({ usd, standard_usd, unpriced }: SpentRow): Spent {
  return { usd: toUsd(usd), standardUsd: toUsd(standard_usd), unpriced };
}
