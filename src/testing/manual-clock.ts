import type { Clock } from "../core/clock.ts";

interface Sleeper {
  at: number;
  order: number;
  wake: () => void;
}

/** A clock that moves only when it is told to. Sleeps end in the order of their instants. */
export class ManualClock implements Clock {
  #now: number;
  #monotonic = 0;
  #order = 0;
  #sleepers: Sleeper[] = [];

  /** @param start milliseconds since 1970; default 2026-01-01. */
  constructor(start = Date.UTC(2026, 0, 1)) {
    this.#now = start;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  sleep(ms: number, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    return new Promise((resolve) => {
      if (signal?.aborted) {
        resolve();
        return;
      }
      const sleeper: Sleeper = { at: this.#monotonic + ms, order: (this.#order += 1), wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener(
        "abort",
        () => {
          this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
          resolve();
        },
        { once: true },
      );
    });
  }

  /** When the next sleep ends, in wall-clock milliseconds. */
  get nextAt(): number | undefined {
    if (this.#sleepers.length === 0) return undefined;
    return this.#now + Math.max(0, Math.min(...this.#sleepers.map(({ at }) => at)) - this.#monotonic);
  }

  /** Moves time on, ending every sleep on the way; after each one, whatever it set off may run. */
  async advance(ms: number): Promise<void> {
    const end = this.#monotonic + ms;
    for (;;) {
      const due = this.#sleepers.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== due);
      this.#moveTo(due.at);
      due.wake();
      await macrotask();
    }
    this.#moveTo(end);
    await macrotask();
  }

  /** The wall clock jumps, as after a suspend or a correction; nothing that sleeps notices. */
  jump(ms: number): void {
    this.#now += ms;
  }

  #moveTo(monotonic: number): void {
    const step = Math.max(0, monotonic - this.#monotonic);
    this.#now += step;
    this.#monotonic += step;
  }
}

function macrotask(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
