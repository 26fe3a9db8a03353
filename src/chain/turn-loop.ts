import type { Clock } from "../core/clock.ts";
import { GembatchError } from "../core/errors.ts";
import type { Turn } from "./turn.ts";

export interface TurnLoopOptions {
  clock: Clock;
  /** A turn that awaits I/O of its own, with nothing of ours to wait for, is given up after this long. */
  maxTurnMs: number;
  /** How long a quiet turn of this chain is given for I/O outside of steps; grows after a late call. */
  graceMs: (chain: string) => number;
}

/** What a turn that looks as if its code disagrees with its history is given before it is judged. */
const divergenceGraceMs = 250;

/**
 * Runs many turns at once, in rounds of one macrotask: in each round every turn releases one recorded result or is found to be over.
 * One `setImmediate` a round serves them all.
 */
export class TurnLoop {
  readonly #options: TurnLoopOptions;
  readonly #going = new Set<Turn>();
  readonly #idle = new Map<Turn, number>();
  #inGrace = 0;
  readonly #restListeners = new Set<() => void>();
  readonly #onOver = new Map<Turn, (error?: GembatchError) => void>();
  #scheduled = false;

  constructor(options: TurnLoopOptions) {
    this.#options = options;
  }

  /** Turns that are not over. */
  get size(): number {
    return this.#onOver.size;
  }

  /** Turns that execute steps, await I/O of their own, or are given time for it. */
  get restingCount(): number {
    return this.#idle.size + this.#inGrace;
  }

  /** Calls `listener` whenever one more turn rests. Returns how to stop. */
  onRest(listener: () => void): () => void {
    this.#restListeners.add(listener);
    return () => this.#restListeners.delete(listener);
  }

  /** Resolves when the turn is over, with an error if it was given up. */
  add(turn: Turn): Promise<GembatchError | undefined> {
    this.#going.add(turn);
    this.#schedule();
    return new Promise((resolve) => this.#onOver.set(turn, resolve));
  }

  /** Something happened in an idle turn. */
  touch(turn: Turn): void {
    if (!this.#idle.delete(turn)) return;
    this.#going.add(turn);
    this.#schedule();
  }

  /** Gives up turns that have awaited something of their own for too long. */
  expire(): void {
    const now = this.#options.clock.monotonic();
    for (const [turn, since] of this.#idle) {
      if (turn.stepsRunning > 0 || now - since < this.#options.maxTurnMs) continue;
      this.#end(
        turn,
        new GembatchError(
          "turn_timeout",
          `Run ${turn.run.id} (${turn.run.chain}) has awaited something that is not a step for ${this.#options.maxTurnMs} ms.`,
          {
            hint: "Wrap I/O in step(), and look for a promise that nothing settles.",
          },
        ),
      );
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      for (const turn of this.#going) this.#advance(turn);
      if (this.#going.size > 0) this.#schedule();
    });
  }

  #advance(turn: Turn): void {
    const verdict = turn.round();
    if (verdict === "going") return;
    this.#going.delete(turn);
    if (verdict === "idle") {
      this.#idle.set(turn, this.#options.clock.monotonic());
      this.#rested();
      return;
    }
    const grace = turn.settled ? 0 : this.#graceOf(turn);
    if (grace === 0) this.#end(turn);
    else void this.#endAfter(turn, grace);
  }

  #graceOf(turn: Turn): number {
    if (turn.divergence() && !turn.graceUsed) {
      turn.graceUsed = true;
      return Math.max(divergenceGraceMs, this.#options.graceMs(turn.run.chain));
    }
    return this.#options.graceMs(turn.run.chain);
  }

  async #endAfter(turn: Turn, graceMs: number): Promise<void> {
    const calls = turn.calls;
    this.#inGrace += 1;
    this.#rested();
    await this.#options.clock.sleep(graceMs);
    this.#inGrace -= 1;
    if (!this.#onOver.has(turn)) return;
    if (turn.calls === calls && !turn.settled) {
      this.#end(turn);
    } else {
      this.#going.add(turn);
      this.#schedule();
    }
  }

  #rested(): void {
    for (const listener of this.#restListeners) listener();
  }

  #end(turn: Turn, error?: GembatchError): void {
    this.#going.delete(turn);
    this.#idle.delete(turn);
    const resolve = this.#onOver.get(turn);
    this.#onOver.delete(turn);
    resolve?.(error);
  }
}
