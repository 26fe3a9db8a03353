import type { Duration } from "../core/duration.ts";
import { deserializeError, GembatchError } from "../core/errors.ts";
import { isTerminalRun } from "../core/states.ts";
import type { NewRun, RunRecord } from "../core/store.ts";
import { outputOf } from "./run-handle.ts";
import type { Session } from "./session.ts";
import { startMany } from "./start-many.ts";

/** One result of `map()`. */
export type MapItem<Output> =
  | { index: number; id: string; status: "completed"; output: Output; error?: undefined }
  | { index: number; id: string; status: "failed" | "cancelled" | "held"; error: Error; output?: undefined };

export interface MapProgress {
  /** Runs that exist, new or from before. */
  started: number;
  /** Items handed out. */
  done: number;
  failed: number;
  /** Every input was read. */
  complete: boolean;
}

export interface MapOptions<Input> {
  /** The id of an input's run. With ids of your own a second call goes on where the first stopped. Default: a new id each. */
  id?: (input: Input, index: number) => string;
  /** `input` (default): items in the order of the inputs. `completion`: as they end. */
  order?: "input" | "completion";
  priority?: number;
  deadline?: Duration | Date;
  onProgress?: (progress: MapProgress) => void;
  signal?: AbortSignal;
}

/** Runs fetched by one query when their results are handed out. */
const pageSize = 200;

/** Starts a run per input and hands out their results. Results are read from the store as they are taken, so none pile up in memory. */
export async function* mapRuns<Input, Output>(
  session: Session,
  inputs: Iterable<Input> | AsyncIterable<Input>,
  toRun: (input: Input, index: number) => NewRun,
  options: MapOptions<Input>,
): AsyncGenerator<MapItem<Output>, void, void> {
  const abort = new AbortController();
  const signal = options.signal ? AbortSignal.any([abort.signal, options.signal]) : abort.signal;
  const ids: string[] = [];
  const progress: MapProgress = { started: 0, done: 0, failed: 0, complete: false };
  const report = () => options.onProgress?.({ ...progress });
  let wakeConsumer: (() => void) | undefined;
  const changed = () => {
    wakeConsumer?.();
    wakeConsumer = undefined;
  };
  const more = async () =>
    new Promise<void>((resolve) => {
      wakeConsumer = resolve;
    });

  const ended = options.order === "completion" ? new Completions(session, signal, changed) : undefined;
  let startError: Error | undefined;
  const starting = startMany(
    session,
    inputs,
    toRun,
    (started) => {
      ended?.add(started, ids.length);
      for (const id of started) ids.push(id);
      progress.started = ids.length;
      report();
      changed();
    },
    signal,
  )
    .catch((error: unknown) => {
      startError = toError(error);
    })
    .finally(() => {
      progress.complete = true;
      changed();
    });

  const release = await holdWorker(session);
  try {
    let page = new Map<number, RunRecord>();
    for (let next = 0; ; next += 1) {
      let index: number | undefined;
      for (;;) {
        if (startError) throw startError;
        if (ended?.failure) throw ended.failure;
        index = ended ? ended.shift() : next < ids.length ? next : undefined;
        if (index !== undefined || (progress.complete && next >= ids.length)) break;
        await more();
      }
      if (index === undefined) return;
      const id = ids[index]!;
      let run = page.get(index);
      if (!run) {
        // Everything that is due next, as far as it has ended, in one query.
        const wanted = ended ? [index, ...ended.peek(pageSize - 1)] : range(index, Math.min(ids.length, index + pageSize));
        page = await endedRuns(session, ids, wanted);
        run = page.get(index) ?? (await session.waiters.wait(id, signal));
      }
      page.delete(index);
      const item = toItem<Output>(run, index);
      progress.done += 1;
      if (item.status !== "completed") progress.failed += 1;
      report();
      yield item;
    }
  } finally {
    abort.abort(new GembatchError("aborted", "The map was ended early; its runs go on."));
    release();
    await starting;
  }
}

/** Keeps a worker going until the returned function is called. */
async function holdWorker(session: Session): Promise<() => void> {
  let release!: () => void;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  await session.store();
  void session.withWorker(async () => released);
  return release;
}

/** Indexes of runs in the order in which they end. */
class Completions {
  readonly #session: Session;
  readonly #signal: AbortSignal;
  readonly #changed: () => void;
  #queue: number[] = [];
  #taken = 0;
  failure: Error | undefined;

  constructor(session: Session, signal: AbortSignal, changed: () => void) {
    this.#session = session;
    this.#signal = signal;
    this.#changed = changed;
  }

  add(ids: readonly string[], firstIndex: number): void {
    for (const [offset, id] of ids.entries()) {
      this.#session.waiters.wait(id, this.#signal).then(
        () => {
          this.#queue.push(firstIndex + offset);
          this.#changed();
        },
        (error: unknown) => {
          this.failure ??= toError(error);
          this.#changed();
        },
      );
    }
  }

  shift(): number | undefined {
    if (this.#taken >= this.#queue.length) return undefined;
    const index = this.#queue[this.#taken];
    this.#taken += 1;
    if (this.#taken > 10_000) {
      this.#queue = this.#queue.slice(this.#taken);
      this.#taken = 0;
    }
    return index;
  }

  peek(count: number): number[] {
    return this.#queue.slice(this.#taken, this.#taken + count);
  }
}

async function endedRuns(session: Session, ids: readonly string[], indexes: readonly number[]): Promise<Map<number, RunRecord>> {
  const store = await session.store();
  const runs = await store.getRuns({ ids: indexes.map((index) => ids[index]!) });
  const ended = new Map<number, RunRecord>();
  for (const [position, run] of runs.entries()) {
    if (run && (isTerminalRun(run.state) || run.state === "held")) ended.set(indexes[position]!, run);
  }
  return ended;
}

function toItem<Output>(run: RunRecord, index: number): MapItem<Output> {
  const { id } = run;
  if (run.state === "completed") return { index, id, status: "completed", output: run.output as Output };
  const status = run.state === "cancelled" ? "cancelled" : run.state === "held" ? "held" : "failed";
  try {
    outputOf(run);
  } catch (error) {
    return { index, id, status, error: toError(error) };
  }
  return { index, id, status, error: run.error ? deserializeError(run.error) : new Error("The run has no output.") };
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, offset) => from + offset);
}
