/**
 * What every system in the comparison must be able to do, in its own words behind one face.
 *
 * @module
 */

/** One measurement that a system is asked for. */
export interface Task {
  /** A Postgres database of its own, empty. */
  url: string;
  /** A folder of its own on the disk, empty. */
  folder: string;
  /** Steps, or waits, of one chain. */
  steps: number;
  /** Chains worked on at once, starts and outside answers under way at once, connections. */
  concurrency: number;
}

/** A system at work on one kind of chain. */
export interface Bench {
  /** Starts so many chains, and helps them on where the workload says so. Resolves when their functions have ended. */
  work(chains: number): Promise<void>;
  /** Chains that the system's own storage has as ended well. */
  completed(): Promise<number>;
  /** Steps done, or waits answered, so far. */
  readonly steps: number;
  /** The process that does the storing, when it is not Postgres. */
  readonly server?: number;
  close(): Promise<void>;
}

/** What an empty claim costs with so many suspended runs. */
export interface Claim {
  suspended: number;
  /** Milliseconds of each call. */
  calls: number[];
  fillMs: number;
}

export interface System {
  /** Chains of `steps` steps that do nothing, each step kept before the next begins. */
  chain(task: Task): Promise<Bench>;
  /** Chains that wait `steps` times, one after the other, for an answer from outside. */
  suspend(task: Task): Promise<Bench>;
  /** Finding nothing to do, with `sizes` suspended runs, in rising order. */
  emptyClaim?(task: Task, sizes: readonly number[]): AsyncIterable<Claim>;
}

/** How many calls an empty claim's figure is the median of. */
export const claimCalls = 20;

/** Milliseconds of each of `claimCalls` calls. `call`, made a few times before, says how many runs it claimed: anything but 0 is a broken measurement. */
export async function timeClaims(call: () => Promise<number>): Promise<number[]> {
  const calls: number[] = [];
  for (let i = 0; i < claimCalls / 4; i += 1) await call();
  for (let i = 0; i < claimCalls; i += 1) {
    const from = performance.now();
    const claimed = await call();
    calls.push(performance.now() - from);
    if (claimed !== 0) throw new Error(`A claim that should find nothing claimed ${claimed} runs.`);
  }
  return calls;
}
