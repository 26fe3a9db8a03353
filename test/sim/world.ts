/**
 * Virtual time and the order of events: one thing happens after another, and the seed decides which is next.
 *
 * @module
 */
import type { Clock, Random } from "../../src/core/clock.ts";
import type { Trace } from "./trace.ts";
import { Violation } from "./violation.ts";

/** Macrotasks without any sign of life after which nobody is doing anything: a turn that replays releases one result in each. */
const idleRounds = 40;

/** Timers ring at multiples of this, so that whoever keeps asking "now?" does not stop time. */
const timerMs = 100;

/** Calls at one instant after which somebody goes round in circles. */
const maxCallsPerInstant = 20_000;

/** Whoever makes calls: they wait while it is frozen. */
export interface Caller {
  frozenUntil: number;
}

interface Event {
  at: number;
  order: number;
  fire: () => void;
}

interface Waiting {
  caller: Caller;
  go: () => void;
}

export class World {
  readonly random: Random;
  readonly trace: Trace;
  /** True time, in milliseconds since 1970. Wall clocks are off by `wallOffset` and by their own skew. */
  now = Date.UTC(2026, 0, 1);
  readonly startedAt = this.now;
  wallOffset = 0;
  /** Calls of ports that were let through. */
  calls = 0;
  readonly #events: Event[] = [];
  #waiting: Waiting[] = [];
  #order = 0;
  #signs = 0;
  #callsBefore = 0;
  #failure: Error | undefined;
  readonly #outside = new Set<Promise<unknown>>();

  constructor(random: Random, trace: Trace) {
    this.random = random;
    this.trace = trace;
  }

  // What happens when ---------------------------------------------------------------------------------------------------

  /** `fire` happens in `ms`. Returns how to call it off. */
  after(ms: number, fire: () => void): () => void {
    this.#signs += 1;
    const event: Event = { at: this.now + Math.max(0, Math.ceil(ms)), order: (this.#order += 1), fire };
    this.#events.push(event);
    return () => {
      const index = this.#events.indexOf(event);
      if (index >= 0) this.#events.splice(index, 1);
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Resolves when this call is the one thing that happens next. */
  turn(caller: Caller): Promise<void> {
    this.#signs += 1;
    return new Promise((go) => this.#waiting.push({ caller, go }));
  }

  /** Nothing of this caller happens for a while. */
  freeze(caller: Caller, ms: number): void {
    Object.assign(caller, { frozenUntil: this.now + ms });
    this.after(ms, () => {});
  }

  /** Resolves when the caller is not frozen. */
  async thaw(caller: Caller): Promise<void> {
    while (caller.frozenUntil > this.now) await this.sleep(caller.frozenUntil - this.now);
  }

  /** Work of the real world, a database's: time stands still and nothing else happens until it is done. */
  async outside<T>(work: Promise<T>): Promise<T> {
    this.#outside.add(work);
    try {
      return await work;
    } finally {
      this.#outside.delete(work);
      this.#signs += 1;
    }
  }

  /** Ends the simulation with this. */
  fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error));
  }

  /** Lets things happen, one after another, until `done`. `onTime` is told whenever time has moved. */
  async run(done: () => boolean, onTime: () => Promise<void>): Promise<void> {
    for (;;) {
      await this.#settle();
      if (this.#failure) throw this.#failure;
      if (done()) return;
      const ready = this.#ready();
      const next = ready[Math.floor(this.random.next() * ready.length)];
      if (next) {
        this.#waiting = this.#waiting.filter((waiting) => waiting !== next);
        this.calls += 1;
        if (this.calls - this.#callsBefore > maxCallsPerInstant)
          throw new Violation("termination", "calls go on and on without time passing");
        next.go();
        continue;
      }
      await this.#advance(onTime);
    }
  }

  #ready(): Waiting[] {
    return this.#waiting.filter(({ caller }) => caller.frozenUntil <= this.now);
  }

  async #advance(onTime: () => Promise<void>): Promise<void> {
    let next: Event | undefined;
    for (const event of this.#events) if (!next || event.at < next.at || (event.at === next.at && event.order < next.order)) next = event;
    if (!next) throw new Violation("termination", "nothing is left that could happen, but not all is done");
    this.#events.splice(this.#events.indexOf(next), 1);
    if (next.at > this.now) {
      this.now = next.at;
      this.#callsBefore = this.calls;
      await onTime();
    }
    next.fire();
  }

  /** Waits until everybody waits: for a turn or for time. With somebody's turn to come, one macrotask is enough. */
  async #settle(): Promise<void> {
    for (let quiet = 0; quiet < idleRounds; quiet += 1) {
      const before = this.#signs;
      await new Promise((resolve) => setImmediate(resolve));
      while (this.#outside.size > 0) await Promise.allSettled(this.#outside);
      if (this.#signs !== before) quiet = -1;
      else if (this.#ready().length > 0) return;
    }
  }
}

/** Time as one process sees it: its wall clock is a little off, and nothing rings while it is frozen. */
export class WorldClock implements Clock {
  readonly #world: World;
  readonly #caller: Caller;
  readonly #skewMs: number;

  constructor(world: World, caller: Caller, skewMs: number) {
    this.#world = world;
    this.#caller = caller;
    this.#skewMs = skewMs;
  }

  now(): number {
    return this.#world.now + this.#world.wallOffset + this.#skewMs;
  }

  monotonic(): number {
    return this.#world.now - this.#world.startedAt;
  }

  sleep(ms: number, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) {
        resolve();
        return;
      }
      const ring = () => {
        signal?.removeEventListener("abort", abort);
        void this.#world.thaw(this.#caller).then(resolve);
      };
      const { now } = this.#world;
      const callOff = this.#world.after(Math.ceil((now + ms) / timerMs) * timerMs - now, ring);
      const abort = () => {
        callOff();
        resolve();
      };
      signal?.addEventListener("abort", abort, { once: true });
    });
  }
}
