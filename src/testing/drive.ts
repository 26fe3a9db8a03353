import type { ManualClock } from "./manual-clock.ts";

/** How often ticks may go round without time passing before that counts as an endless loop. */
const maxTicksPerInstant = 100_000;

/**
 * Ticks and moves time on until `done` says so after a tick that moved nothing, or until `end`. A tick that resolves with `undefined` has nobody
 * behind it any more.
 */
export async function drive(params: {
  tick: () => Promise<{ worked: boolean; wakeAt: number } | undefined>;
  clock: ManualClock;
  end: number;
  done: () => Promise<boolean>;
}): Promise<"done" | "late" | "gone"> {
  const { tick, clock, end, done } = params;
  for (let still = 0; still < maxTicksPerInstant; still += 1) {
    const ticked = await tick();
    if (!ticked) return "gone";
    if (ticked.worked) continue;
    if (await done()) return "done";
    if (clock.now() >= end) return "late";
    const next = Math.min(end, Math.max(clock.now() + 1, Math.min(ticked.wakeAt, clock.nextAt ?? Infinity)));
    await clock.advance(next - clock.now());
    still = 0;
  }
  throw new Error("The worker keeps finding work without time passing.");
}
