/** Calls `work` with `from`, `from + 1`, …, `count` times, at most `concurrency` of them at once. */
export async function each(from: number, count: number, concurrency: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = from;
  const lane = async () => {
    while (next < from + count) {
      const n = next;
      next += 1;
      await work(n);
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, concurrency) }, lane));
}

/** The world outside: answers waits in the order in which they are announced, at most `concurrency` at once. An answer that fails ends the process. */
export class Outside<Wait> {
  answered = 0;
  readonly #waits: Wait[] = [];
  readonly #concurrency: number;
  readonly #answer: (wait: Wait) => Promise<unknown>;
  #busy = 0;
  #next = 0;

  constructor(concurrency: number, answer: (wait: Wait) => Promise<unknown>) {
    this.#concurrency = concurrency;
    this.#answer = answer;
  }

  announce(wait: Wait): void {
    this.#waits.push(wait);
    if (this.#busy < this.#concurrency) void this.#work();
  }

  async #work(): Promise<void> {
    this.#busy += 1;
    while (this.#next < this.#waits.length) {
      const wait = this.#waits[this.#next] as Wait;
      this.#next += 1;
      await this.#answer(wait);
      this.answered += 1;
    }
    this.#busy -= 1;
  }
}

/** Counts what has ended, and tells when enough has. */
export class Ended {
  count = 0;
  #wanted = Infinity;
  #resolve: () => void = () => {};

  one(): void {
    this.count += 1;
    if (this.count >= this.#wanted) this.#resolve();
  }

  /** Resolves when so many have ended since the beginning. */
  until(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wanted = count;
      this.#resolve = resolve;
      if (this.count >= count) resolve();
    });
  }
}
