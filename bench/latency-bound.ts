/**
 * The lower bound of (f): a mean chain latency that no policy beats, with J job slots and turnarounds T that are independent of what is in a job.
 *
 * 1. A chain of n steps is in n jobs, one after the other, and nobody knows a turnaround before it is over, so the jobs of a chain take n·E[T]
 *    on average whatever the policy.
 * 2. Before its first job a chain waits for a launch. Launches need slots, and slots are what a policy cannot make. The wait for the first
 *    launch is bounded from below as if every slot served nothing but first steps:
 *    - several slots, all arrivals known in advance: within a horizon H a slot sees at most H/E[T] + E[T²]/E[T]² launches on average (Lorden's inequality for
 *      renewal processes; with a fixed T that is H/T + 1, for any policy). J slots see J times as many, m, and one more launch after the
 *      horizon can take all that are left. The least total wait of the arrivals with m launches at any instants at all, found by dynamic
 *      programming over the arrivals, is less than any policy can reach. It falls with m by ever smaller amounts, so the mean number of
 *      launches gives a bound for a random number of them (Jensen's inequality).
 *    - one slot, Poisson arrivals: from one launch to the next at least a turnaround passes. What is known at its end is how many wait, and the
 *      future does not depend on the past, so the best policy that cannot see the future launches when at least k wait, for some k. Its mean
 *      wait is the waits of one such cycle over its arrivals (renewal reward), in closed form; k is tried from 1 to 200.
 * 3. Waits before later steps, the time to notice that a job has ended, and requests per job are bounded by 0.
 *
 * A burst waits for nothing: it is there when all slots are free. So its bound is n·E[T].
 *
 * @module
 */
import type { Scenario, Turnaround } from "./latency-scenarios.ts";

/** Mean milliseconds from a chain's start to its end that no policy beats. */
export function lowerBound({ turnaround, steps, maxJobs }: Scenario, arrivals: readonly number[]): number {
  const [first, last] = [arrivals[0], arrivals.at(-1)];
  if (first === last) return steps * turnaround.mean;
  const wait = maxJobs === 1 ? oneSlotWait(arrivals, turnaround) : launchesWait(arrivals, turnaround, maxJobs) / arrivals.length;
  return steps * turnaround.mean + wait;
}

/** The least total wait if only the number of launches is limited. */
function launchesWait(arrivals: readonly number[], turnaround: Turnaround, maxJobs: number): number {
  const horizon = arrivals.at(-1)!;
  const launches = Math.floor(maxJobs * (horizon / turnaround.mean + turnaround.secondMoment)) + 1;
  return leastWait(arrivals, launches);
}

/** Arrivals in at most `launches` groups, each launched with its last arrival: the least sum of waits. */
function leastWait(arrivals: readonly number[], launches: number): number {
  const count = arrivals.length;
  if (launches >= count) return 0;
  const sums = [0];
  for (const at of arrivals) sums.push(sums.at(-1)! + at);
  /** Waits of arrivals from … to (exclusive) that go with the last of them. */
  const group = (from: number, to: number) => (to - from) * arrivals[to - 1]! - (sums[to]! - sums[from]!);
  let best = Array.from({ length: count + 1 }, (_, to) => (to === 0 ? 0 : group(0, to)));
  for (let k = 2; k <= launches; k += 1) {
    const next = [...best];
    // The best first member of the last group moves on with its end: divide and conquer over the ends.
    const fill = (low: number, high: number, from: number, to: number): void => {
      if (low > high) return;
      const middle = (low + high) >> 1;
      let choice = from;
      let least = Infinity;
      for (let start = from; start <= Math.min(middle, to); start += 1) {
        const cost = best[start]! + (start === middle ? 0 : group(start, middle));
        if (cost < least) [least, choice] = [cost, start];
      }
      next[middle] = least;
      fill(low, middle - 1, from, choice);
      fill(middle + 1, high, choice, to);
    };
    fill(1, count, 0, count);
    if (next[count] === best[count]) break;
    best = next;
  }
  return best[count]!;
}

/**
 * The mean wait with one slot and Poisson arrivals. From launch to launch a turnaround passes in which arrivals queue up (half of it each on average), then
 * the policy may wait for more: launch when at least `least` are queued. The waits of a cycle over its arrivals, for the best `least`.
 */
function oneSlotWait(arrivals: readonly number[], { values, mean: average, secondMoment }: Turnaround): number {
  const rate = arrivals.length / arrivals.at(-1)!;
  let best = Infinity;
  for (let least = 1; least <= 200; least += 1) {
    let waits = (rate * secondMoment * average ** 2) / 2;
    let length = average;
    for (const value of values) {
      // Probability that `queued` arrived within the turnaround; each further arrival takes 1 / rate, in which those queued wait.
      let probability = Math.exp(-rate * value);
      for (let queued = 0; queued < least; queued += 1) {
        length += (probability * (least - queued)) / rate / values.length;
        waits += (probability * ((least - queued) * (least + queued - 1))) / 2 / rate / values.length;
        probability *= (rate * value) / (queued + 1);
      }
    }
    best = Math.min(best, waits / (rate * length));
  }
  return best;
}
