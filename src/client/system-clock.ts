import type { Clock, Random } from "../core/clock.ts";

/** The real time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, options = {}) =>
    new Promise((resolve) => {
      const { signal, background } = options;
      if (signal?.aborted) {
        resolve();
        return;
      }
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      // Longer than a timer can hold; whoever sleeps looks again anyway.
      const timer = setTimeout(done, Math.min(ms, 2_147_483_647));
      if (background) timer.unref();
      signal?.addEventListener("abort", done, { once: true });
    }),
};

export const systemRandom: Random = { next: () => Math.random() };
