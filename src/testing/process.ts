import type { Clock } from "../core/clock.ts";
import type { Provider } from "../core/provider.ts";
import type { CommitResult, Store, TurnCommit } from "../core/store.ts";
import { interceptPort, never, type Interceptor, type PortCall } from "./intercept.ts";

/** A clock that ends with its process: nobody wakes from its sleeps afterwards. */
class MortalClock implements Clock {
  readonly #clock: Clock;
  readonly #end: AbortSignal;

  constructor(clock: Clock, end: AbortSignal) {
    this.#clock = clock;
    this.#end = end;
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  async sleep(ms: number, options: { signal?: AbortSignal; background?: boolean } = {}): Promise<void> {
    const { signal } = options;
    await this.#clock.sleep(ms, { ...options, signal: signal ? AbortSignal.any([signal, this.#end]) : this.#end });
    if (this.#end.aborted) await never();
  }
}

/**
 * What one process holds of the world: its clock and ports. It can be killed at any of its calls. A dead process gets no answers any more and has no effects;
 * what it was about to do stays undone, as after `kill -9`.
 */
export class MortalProcess {
  readonly clock: Clock;
  readonly store: Store;
  /** The first of its providers. */
  readonly provider: Provider;
  readonly providers: readonly Provider[];
  readonly died: Promise<undefined>;
  readonly #end = new AbortController();

  /** `interceptor` sees the calls of the living only. */
  constructor(world: { clock: Clock; store: Store; provider: Provider; others?: readonly Provider[] }, interceptor: Interceptor) {
    const guard = this.#guard(interceptor);
    this.clock = new MortalClock(world.clock, this.#end.signal);
    this.store = interceptPort(world.store, "store", guard);
    this.provider = interceptPort(world.provider, "provider", guard);
    this.providers = [this.provider, ...(world.others ?? []).map((other) => interceptPort(other, "provider", guard))];
    this.died = new Promise((resolve) => this.#end.signal.addEventListener("abort", () => resolve(undefined), { once: true }));
  }

  get dead(): boolean {
    return this.#end.signal.aborted;
  }

  kill(): void {
    this.#end.abort();
  }

  #guard(interceptor: Interceptor): Interceptor {
    const alive = () => !this.dead;
    const died = this.#end.signal;
    return {
      async call<T>(call: PortCall, perform: () => Promise<T>): Promise<T> {
        if (!alive()) return lastWords(call) ?? never<T>();
        return new Promise<T>((resolve, reject) => {
          const words = lastWords<T>(call);
          if (words !== undefined) died.addEventListener("abort", () => resolve(words), { once: true });
          interceptor.call(call, perform).then(
            (value) => alive() && resolve(value),
            (error: unknown) => alive() && reject(error as Error),
          );
        });
      },
      async *stream<T>(call: PortCall, open: () => AsyncIterable<T>): AsyncIterable<T> {
        if (!alive()) await never();
        for await (const row of interceptor.stream(call, open)) {
          if (!alive()) await never();
          yield row;
        }
        if (!alive()) await never();
      },
    };
  }
}

/**
 * The one answer that the dead get: their turns are lost. The loop that waits for its turns to be committed looks again at every macrotask; without an
 * answer it would look for ever. A lost turn has no effects and its code does not go on, so nothing of the dead comes back to life.
 */
function lastWords<T>({ method, args }: PortCall): Promise<T> | undefined {
  if (method !== "commitTurns") return undefined;
  const [{ turns }] = args as [{ turns: TurnCommit[] }];
  return Promise.resolve(turns.map((): CommitResult => ({ state: "lost" })) as T);
}
