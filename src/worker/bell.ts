/** A bell: waits that a ring ends early. A ring while nobody waits is kept for the next wait. */
export class Bell {
  #rung = false;
  #waiters = new Set<() => void>();

  ring(): void {
    this.#rung = true;
    for (const wake of this.#waiters) wake();
  }

  /** Resolves at the next ring, at once if it rang since the last wait. `sleep` bounds it. */
  async wait(sleep: (signal: AbortSignal) => Promise<void>): Promise<void> {
    if (!this.#rung) {
      const abort = new AbortController();
      const wake = () => abort.abort();
      this.#waiters.add(wake);
      await sleep(abort.signal);
      this.#waiters.delete(wake);
    }
    this.#rung = false;
  }
}
