import type { CommitResult, NewRun, StartOutcome, TurnCommit } from "../src/core/store.ts";
import { SqliteStore } from "../src/stores/sqlite/store.ts";

/** The SQLite store, noticing when the last run has ended: asking it would cost time, and answer late. */
export class CountingStore extends SqliteStore {
  started = 0;
  ended = 0;
  #until: { count: number; resolve: () => void } | undefined;

  override async startRuns(params: { now: number; runs: NewRun[] }): Promise<StartOutcome[]> {
    const outcomes = await super.startRuns(params);
    this.started += outcomes.length;
    return outcomes;
  }

  override async commitTurns(params: { worker: string; now: number; turns: TurnCommit[] }): Promise<CommitResult[]> {
    const results = await super.commitTurns(params);
    for (const { state } of results) if (state === "completed" || state === "failed" || state === "held") this.ended += 1;
    if (this.#until !== undefined && this.ended >= this.#until.count) this.#until.resolve();
    return results;
  }

  /** Resolves with the commit after which `count` runs have ended. */
  endOf(count: number): Promise<void> {
    return new Promise((resolve) => {
      this.#until = { count, resolve };
      if (this.ended >= count) resolve();
    });
  }
}
