import { describe, expect, it } from "vitest";
import { ManualClock } from "../testing.ts";
import { SharedClock } from "./shared-clock.ts";

/** A shared clock that has heard of a time, and how far it is from its base then. */
function offsetAfter(...news: { ahead: number; roundTrip: number }[]): number {
  const base = new ManualClock();
  const clock = new SharedClock(base);
  for (const { ahead, roundTrip } of news) {
    const now = base.now();
    // What the shared clock shows in the middle of a call that takes `roundTrip`.
    const startedAt = clock.now();
    clock.follow(now + roundTrip / 2 + ahead, startedAt, startedAt + roundTrip);
  }
  return clock.now() - base.now();
}

describe("a clock that follows the store's", () => {
  it("is its base until it hears of another time", () => {
    expect(offsetAfter()).toBe(0);
  });

  it("goes forward to the middle of the call", () => {
    expect(offsetAfter({ ahead: 5_000, roundTrip: 40 })).toBe(5_000);
  });

  it("goes back no further than the call proves", () => {
    expect(offsetAfter({ ahead: -5_000, roundTrip: 40 })).toBe(-4_980);
  });

  it("stays where it is when the other time lies within the call", () => {
    expect(offsetAfter({ ahead: 15, roundTrip: 40 })).toBe(0);
    expect(offsetAfter({ ahead: -15, roundTrip: 40 })).toBe(0);
  });

  it("is set again when the clocks drift apart, and settles", () => {
    expect(offsetAfter({ ahead: 5_000, roundTrip: 40 }, { ahead: 5_010, roundTrip: 40 })).toBe(5_000);
    expect(offsetAfter({ ahead: 5_000, roundTrip: 40 }, { ahead: 9_000, roundTrip: 10 })).toBe(9_000);
    expect(offsetAfter({ ahead: 5_000, roundTrip: 40 }, { ahead: 0, roundTrip: 10 }, { ahead: 0, roundTrip: 10 })).toBe(5);
  });

  it("sleeps and measures as its base", async () => {
    const base = new ManualClock();
    const clock = new SharedClock(base);
    clock.follow(clock.now() + 60_000, clock.now(), clock.now());
    const before = clock.monotonic();
    let woke = false;
    const sleeping = clock.sleep(1_000).then(() => (woke = true));
    await base.advance(999);
    expect([woke, clock.monotonic() - before]).toEqual([false, 999]);
    await base.advance(1);
    await sleeping;
    expect(clock.now() - base.now()).toBe(60_000);
  });
});
