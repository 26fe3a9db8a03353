import type { CommitResult, Store, TurnCommit } from "../core/store.ts";

interface Waiting {
  turn: TurnCommit;
  resolve: (result: CommitResult) => void;
  reject: (error: unknown) => void;
}

/** Turns committed by one transaction. */
const groupSize = 256;

/**
 * Collects the commits of turns that end in the same macrotask and writes them together: one transaction for hundreds of turns is what makes
 * them cheap.
 */
export class CommitGroup {
  readonly #store: Store;
  readonly #worker: string;
  readonly #now: () => number;
  #waiting: Waiting[] = [];
  #scheduled = false;

  constructor(store: Store, worker: string, now: () => number) {
    this.#store = store;
    this.#worker = worker;
    this.#now = now;
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
    try {
      const results = await this.#store.commitTurns({ worker: this.#worker, now: this.#now(), turns: group.map(({ turn }) => turn) });
      for (const [index, { resolve }] of group.entries()) resolve(results[index] ?? { state: "lost" });
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }
}
