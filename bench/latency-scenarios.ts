/** The scenarios of (f): who arrives when, how many steps a chain has, how long jobs take, how many may run. */
import { SeededRandom } from "../src/testing/seeded-random.ts";

export const minute = 60_000;

/** What a job takes, independent of its size and of every other job. */
export interface Turnaround {
  name: string;
  mean: number;
  /** E[T²] / E[T]², 1 when it is fixed. */
  secondMoment: number;
  /** Equally likely values that stand for the whole distribution. */
  values: readonly number[];
}

/** Turnarounds as from a shuffled deck of all values, again and again: every one is unknown in advance, and soon all have come equally often. */
export function deckOf({ values }: Turnaround, random: () => number): () => number {
  let deck: number[] = [];
  return () => {
    if (deck.length === 0) deck = [...values];
    return deck.splice(Math.floor(random() * deck.length), 1)[0]!;
  };
}

export const fixed: Turnaround = { name: "8 min", mean: 8 * minute, secondMoment: 1, values: [8 * minute] };

/** Lognormal, 90 % of it between 2 and 20 minutes, as 60 equally likely values: its mean is exactly known. */
export const lognormal: Turnaround = (() => {
  const count = 60;
  const mu = (Math.log(2 * minute) + Math.log(20 * minute)) / 2;
  const sigma = (Math.log(20) - Math.log(2)) / 2 / 1.6449;
  const values = Array.from({ length: count }, (_, i) => Math.round(Math.exp(mu + sigma * normalQuantile((i + 0.5) / count))));
  const average = values.reduce((sum, value) => sum + value, 0) / count;
  const square = values.reduce((sum, value) => sum + value ** 2, 0) / count;
  return { name: "2–20 min", mean: average, secondMoment: square / average ** 2, values };
})();

export interface Arrivals {
  name: string;
  /** Instants from 0, ascending. */
  draw: (random: () => number) => number[];
}

export function burst(count: number): Arrivals {
  return { name: `burst of ${count}`, draw: () => Array.from({ length: count }, () => 0) };
}

/** A Poisson stream. */
export function trickle(perHour: number, hours: number): Arrivals {
  const draw = (random: () => number): number[] => {
    const times: number[] = [];
    for (let at = 0; ;) {
      at += (-Math.log(1 - random()) / perHour) * 60 * minute;
      if (at > hours * 60 * minute) return times;
      times.push(Math.round(at));
    }
  };
  return { name: `${perHour} an hour`, draw };
}

export interface Scenario {
  arrivals: Arrivals;
  turnaround: Turnaround;
  steps: number;
  maxJobs: number;
}

export function scenarios(quick: boolean): Scenario[] {
  const all: Scenario[] = [];
  for (const turnaround of [fixed, lognormal]) {
    for (const steps of quick ? [1, 5] : [1, 3, 5]) {
      for (const maxJobs of [1, 8, 100]) {
        // Long enough for the deck of turnarounds to be dealt twice or more; many jobs at once need less time for that.
        const hours = quick ? 1 : maxJobs === 1 ? 16 : maxJobs === 8 ? 4 : 1.5;
        for (const arrivals of [burst(quick ? 50 : 500), trickle(12, 4 * hours), trickle(240, hours)])
          all.push({ arrivals, turnaround, steps, maxJobs });
      }
    }
  }
  return all;
}

export function randomOf(seed: number): () => number {
  const random = new SeededRandom(seed);
  return () => random.next();
}

/** Acklam's approximation of the inverse normal distribution function; good to nine digits. */
function normalQuantile(p: number): number {
  const a = [-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1];
  const c = [-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
  const polynomial = (factors: readonly number[], x: number) => factors.reduce((sum, factor) => sum * x + factor, 0);
  const tail = 0.02425;
  if (p > 1 - tail) return -normalQuantile(1 - p);
  if (p < tail) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(c, q) / polynomial(d, q);
  }
  const q = p - 0.5;
  return (polynomial(a, q * q) * q) / polynomial(b, q * q);
}
