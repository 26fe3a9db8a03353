import type { CommitResult, TurnCommit } from "../core/store.ts";
import { isStoreAway, type PipelineContext, waitForStore } from "./stage.ts";

interface Waiting {
  turn: TurnCommit;
  resolve: (result: CommitResult) => void;
  reject: (error: unknown) => void;
}

/** Turns committed by one transaction. */
const groupSize = 1_024;

/**
 * Collects the commits of turns that end in the same macrotask and writes them together: one transaction for hundreds of turns is what makes
 * them cheap.
 */
export class CommitGroup {
  readonly #context: PipelineContext;
  #waiting: Waiting[] = [];
  #scheduled = false;

  constructor(context: PipelineContext) {
    this.#context = context;
  }

  commit(turn: TurnCommit): Promise<CommitResult> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ turn, resolve, reject });
      if (this.#scheduled) return;
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        const all = this.#waiting;
        this.#waiting = [];
        for (let i = 0; i < all.length; i += groupSize) void this.#write(all.slice(i, i + groupSize));
      });
    });
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    const { store, worker, clock } = this.#context;
    for (;;) {
      try {
        const results = await store.commitTurns({ worker, now: clock.now(), turns: group.map(({ turn }) => turn) });
        for (const [index, { resolve }] of group.entries()) resolve(results[index] ?? { state: "lost" });
        return;
      } catch (error) {
        if (isStoreAway(error) && !this.#context.signal.aborted) {
          // The turns stay in hand until it takes them.
          await waitForStore(this.#context, `${group.length} turns could not be committed`, error);
        } else if (group.length > 1) {
          // One turn spoils the group; the others must not suffer for it.
          await Promise.all(group.map(async (one) => this.#write([one])));
          return;
        } else {
          group[0]?.reject(error);
          return;
        }
      }
    }
  }
}
