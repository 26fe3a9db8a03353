import type { Clock } from "../core/clock.ts";
import { GembatchError } from "../core/errors.ts";
import { isTerminalRun } from "../core/states.ts";
import type { RunRecord, Store } from "../core/store.ts";

/** Runs looked up by one query. */
const pageSize = 500;
/** How often runs that another process works on are looked at. */
const pollMs = 250;

interface Waiter {
  resolve: (run: RunRecord) => void;
  reject: (error: Error) => void;
}

/** Everyone in this process who waits for a run to end. A worker of this process tells at once; the store is asked for the rest. */
export class Waiters {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #waiters = new Map<string, Set<Waiter>>();
  /** To look at now: newly awaited or reported as ended. */
  #urgent = new Set<string>();
  #abortSleep: AbortController | undefined;
  #looping = false;

  constructor(store: Store, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** Resolves when the run has ended or is held; rejects with whatever `fail` is called with, or when `signal` aborts. */
  wait(id: string, signal?: AbortSignal): Promise<RunRecord> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject };
      const list = this.#waiters.get(id);
      if (list) list.add(waiter);
      else this.#waiters.set(id, new Set([waiter]));
      if (signal) {
        const abort = () => {
          this.#waiters.get(id)?.delete(waiter);
          reject(signal.reason instanceof Error ? signal.reason : new Error("Aborted."));
        };
        if (signal.aborted) {
          abort();
          return;
        }
        signal.addEventListener("abort", abort, { once: true });
      }
      this.#hurry(id);
    });
  }

  /** The run has probably ended. */
  notify(id: string): void {
    if (this.#waiters.has(id)) this.#hurry(id);
  }

  /** Nobody gets an answer in the near future; the runs themselves are unharmed. */
  fail(error: Error): void {
    for (const list of this.#waiters.values()) for (const { reject } of list) reject(error);
    this.#waiters.clear();
    this.#abortSleep?.abort();
  }

  #hurry(id: string): void {
    this.#urgent.add(id);
    this.#abortSleep?.abort();
    if (!this.#looping) void this.#loop();
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    let rest: Iterator<string> | undefined;
    try {
      while (this.#waiters.size > 0) {
        // Let everything that ends in this macrotask be looked up together.
        await new Promise(setImmediate);
        const urgent = [...this.#urgent];
        this.#urgent = new Set();
        for (let i = 0; i < urgent.length; i += pageSize) await this.#look(urgent.slice(i, i + pageSize));
        if (urgent.length === 0) {
          rest ??= this.#waiters.keys();
          const page = take(rest, pageSize);
          if (page.length < pageSize) rest = undefined;
          await this.#look(page);
        }
        if (this.#urgent.size > 0 || this.#waiters.size === 0) continue;
        this.#abortSleep = new AbortController();
        await this.#clock.sleep(pollMs, { signal: this.#abortSleep.signal });
        this.#abortSleep = undefined;
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
    } finally {
      this.#looping = false;
    }
  }

  async #look(ids: string[]): Promise<void> {
    const wanted = ids.filter((id) => this.#waiters.has(id));
    if (wanted.length === 0) return;
    const runs = await this.#store.getRuns({ ids: wanted });
    for (const [index, id] of wanted.entries()) {
      const run = runs[index];
      if (run && !isTerminalRun(run.state) && run.state !== "held") continue;
      const list = this.#waiters.get(id) ?? [];
      this.#waiters.delete(id);
      for (const waiter of list) {
        if (run) waiter.resolve(run);
        else waiter.reject(new GembatchError("run_not_found", `Run ${id} does not exist.`));
      }
    }
  }
}

function take(iterator: Iterator<string>, count: number): string[] {
  const items: string[] = [];
  while (items.length < count) {
    const next = iterator.next();
    if (next.done === true) break;
    items.push(next.value);
  }
  return items;
}
