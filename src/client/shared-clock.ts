import type { Clock } from "../core/clock.ts";

/**
 * The time of a clock that all workers share, the store's, as far as it is known: the base clock and an offset. Machines whose clocks are apart then agree on when a lease
 * ends, a retry is due, a deadline passes. Without news of that time it is the base clock.
 */
export class SharedClock implements Clock {
  readonly #base: Clock;
  #offsetMs = 0;

  constructor(base: Clock) {
    this.#base = base;
  }

  now(): number {
    return this.#base.now() + this.#offsetMs;
  }

  monotonic(): number {
    return this.#base.monotonic();
  }

  sleep(ms: number, options?: { signal?: AbortSignal; background?: boolean }): Promise<void> {
    return this.#base.sleep(ms, options);
  }

  /**
   * Learns that the shared clock showed `time` at some instant of a call that took from `startedAt` to `endedAt` by this one. What lies within the call is no news: the two
   * agree as well as can be told. Forward it goes to the middle of the call, back only as far as it must.
   */
  follow(time: number, startedAt: number, endedAt: number): void {
    if (time > endedAt) this.#offsetMs += Math.round(time - (startedAt + endedAt) / 2);
    else if (time < startedAt) this.#offsetMs -= Math.ceil(startedAt - time);
  }
}
