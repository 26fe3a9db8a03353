import type { Turn } from "../chain/turn.ts";
import type { Clock } from "../core/clock.ts";
import type { ClaimedRun } from "../core/store.ts";

/** A parked turn older than this makes room for another. */
const maxAgeMs = 15 * 60_000;

export interface ParkedTurn {
  turn: Turn;
  /** Monotonic. */
  since: number;
  bytes: number;
  /** Settlements of its run when it was parked. */
  seq: number;
  /** The request that alone it waits for. */
  request: string | undefined;
}

/** Waiting turns that are kept in memory so that their next turn need not replay. A cache: losing one costs time only. */
export class ParkedTurns {
  readonly #limit: number;
  readonly #clock: Clock;
  readonly #turns = new Map<string, ParkedTurn>();
  readonly #byRequest = new Map<string, ParkedTurn>();
  #bytes = 0;
  #dropAt = 0;

  /** @param limit bytes in all. */
  constructor(limit: number, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  /** Keeps the turn if there is room. `request`: the one that alone it waits for. */
  park(turn: Turn, { seq, request }: { seq: number; request?: string }): void {
    const now = this.#clock.monotonic();
    const bytes = turn.weight;
    if (this.#bytes + bytes > this.#limit) {
      this.#dropOld(now);
      if (this.#bytes + bytes > this.#limit) return;
    }
    turn.slim();
    const parked: ParkedTurn = { turn, since: now, bytes, seq, request };
    this.drop(turn.run.id);
    this.#turns.set(turn.run.id, parked);
    if (request !== undefined) this.#byRequest.set(request, parked);
    this.#bytes += bytes;
  }

  /** The claimed run's turn, if nobody else has had the run in between. It is not kept any more. */
  take(run: ClaimedRun): Turn | undefined {
    const turn = this.drop(run.id);
    return turn?.run.epoch === run.epoch - 1 && run.attempts === 0 ? turn : undefined;
  }

  /** The turn that waits for this request alone. It stays. */
  awaiting(request: string): ParkedTurn | undefined {
    return this.#byRequest.get(request);
  }

  drop(run: string): Turn | undefined {
    const parked = this.#turns.get(run);
    if (!parked) return undefined;
    this.#turns.delete(run);
    if (parked.request !== undefined) this.#byRequest.delete(parked.request);
    this.#bytes -= parked.bytes;
    return parked.turn;
  }

  clear(): void {
    this.#turns.clear();
    this.#byRequest.clear();
    this.#bytes = 0;
  }

  /**
   * Makes room by age only, now and then: all runs come round in turn, so dropping one for the newest would drop just the one that is needed
   * next. What is never needed again (another worker has the run) goes with time.
   */
  #dropOld(now: number): void {
    if (now < this.#dropAt) return;
    this.#dropAt = now + maxAgeMs / 10;
    for (const [run, { since }] of this.#turns) {
      if (now - since < maxAgeMs) return;
      this.drop(run);
    }
  }
}
