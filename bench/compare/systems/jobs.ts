import { Ended } from "../concurrency.ts";

/** A chain as job queues have it: each job's handler sends the next job. */
export interface Job {
  chain: number;
  step: number;
}

/** Does the step of each job; gives the jobs that come next. */
export class JobChains {
  readonly ended = new Ended();
  steps = 0;
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
  }

  next(jobs: readonly Job[]): Job[] {
    this.steps += jobs.length;
    return jobs.filter(({ step }) => step + 1 < this.#length).map(({ chain, step }) => ({ chain, step: step + 1 }));
  }

  /** After the next jobs have been sent. */
  count(jobs: readonly Job[]): void {
    for (const { step } of jobs) if (step + 1 === this.#length) this.ended.one();
  }

  firsts(from: number, count: number): Job[] {
    return Array.from({ length: count }, (_, i) => ({ chain: from + i, step: 0 }));
  }
}
