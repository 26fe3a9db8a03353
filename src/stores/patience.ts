/**
 * The one place of the stores with real timers: waiting for a server that is elsewhere, and how long. Everything that is decided goes by times that are passed in.
 */
import { setTimeout as wait } from "node:timers/promises";

/** Resolves after `ms`, or at once when `signal` aborts. `background`: this wait alone must not keep the process alive. */
export async function pause(
  ms: number,
  { signal, background = false }: { signal?: AbortSignal; background?: boolean } = {},
): Promise<void> {
  await wait(ms, undefined, { ref: !background, ...(signal === undefined ? {} : { signal }) }).catch(() => undefined);
}

/** Runs out after `ms` of real time, however that time is spent. */
export class Patience {
  #over: boolean;
  readonly #stop = new AbortController();

  constructor(ms: number) {
    this.#over = ms <= 0;
    if (this.#over) return;
    void pause(ms, { signal: this.#stop.signal, background: true }).then(() => {
      this.#over = true;
    });
  }

  get over(): boolean {
    return this.#over;
  }

  /** No longer needed. */
  end(): void {
    this.#stop.abort();
  }
}
