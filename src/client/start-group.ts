import type { NewRun, StartOutcome, Store } from "../core/store.ts";

/** Runs written by one transaction. */
const groupSize = 500;

/** Collects starts of the same macrotask and writes them together: a thousand starts side by side cost a few commits, not a thousand. */
export class StartGroup {
  readonly #store: () => Promise<Store>;
  readonly #now: () => number;
  #waiting: { run: NewRun; resolve: (outcome: StartOutcome) => void; reject: (error: unknown) => void }[] = [];

  constructor(store: () => Promise<Store>, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  start(run: NewRun): Promise<StartOutcome> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ run, resolve, reject });
      if (this.#waiting.length === 1) setImmediate(() => void this.#flush());
    });
  }

  async #flush(): Promise<void> {
    const all = this.#waiting;
    this.#waiting = [];
    for (let i = 0; i < all.length; i += groupSize) {
      const group = all.slice(i, i + groupSize);
      try {
        const store = await this.#store();
        const outcomes = await store.startRuns({ now: this.#now(), runs: group.map(({ run }) => run) });
        for (const [index, { resolve }] of group.entries()) resolve(outcomes[index] ?? "existing");
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
  }
}
