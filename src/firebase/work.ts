import type { Gembatch } from "../client/gembatch.ts";
import type { WorkerHandle } from "../client/worker-handle.ts";
import type { Clock } from "../core/clock.ts";
import type { WorkQueue } from "./queue.ts";
import { followUp, horizonMs, type WorkTask } from "./task.ts";

/** How long a worker waits for something to become due before it leaves. Covers clocks that are apart, and the pauses between two looks at a queue or a young job. */
const patienceMs = 3_000;
/** How long a task that came too early waits for its time. */
const earlyMs = 30_000;
/** How long turns and calls in hand may take after SIGTERM: Cloud Run kills an instance ten seconds later. */
const lastMs = 5_000;
/** A worker that takes longer than this to finish what it has in hand is followed by another one at once. */
const promptMs = 1_000;

export interface WorkParts {
  /** The instance, made at first use. */
  instance: () => Promise<Gembatch>;
  queue: WorkQueue;
  clock: Clock;
  bucketMs: number;
  /** How long one invocation works. */
  budgetMs: number;
  /** How long turns and calls in hand may take after that. */
  graceMs: number;
}

/** An invocation that works. Others of the same process join it. */
interface Shift {
  /** Somebody came meanwhile: what brought them may have been committed after the last look. */
  again: boolean;
  moved: boolean;
}

/**
 * Work by invocations. A worker lives as long as one of them: it ticks, gives its lease up, and only then asks the store when the next thing is due, so that of several workers the last one sees whatever none
 * of them has in hand any more. Nothing goes on after an invocation has answered: there is no processor for it.
 */
export class Work {
  readonly #parts: WorkParts;
  #shift: Shift | undefined;

  constructor(parts: WorkParts) {
    this.#parts = parts;
  }

  /** A task of the queue. `queue`: the name of the queue that it came from. */
  async handleTask(task: WorkTask, queue: string | undefined): Promise<void> {
    const { clock } = this.#parts;
    const earlyBy = (task.notBefore ?? 0) - clock.now();
    if (earlyBy > 0) await clock.sleep(Math.min(earlyBy, earlyMs));
    if (earlyBy > earlyMs) await this.#parts.queue.postpone(task, queue);
    else await this.#work(async (shift) => this.#wakeNext(shift, task.misses ?? 0, queue));
  }

  /** The guarantee: everything moves by this alone, whatever became of tasks and hints. */
  async sweep(): Promise<void> {
    await this.#work(async (shift) => this.#wakeSoon(shift));
  }

  async #work(follow: (shift: Shift) => Promise<void>): Promise<void> {
    if (this.#shift) {
      this.#shift.again = true;
      return;
    }
    const shift: Shift = { again: false, moved: false };
    this.#shift = shift;
    const stop = new AbortController();
    const onTermination = () => stop.abort();
    process.once("SIGTERM", onTermination);
    try {
      await this.#tick(shift, stop.signal, follow);
      do {
        shift.again = false;
        await follow(shift);
      } while (shift.again);
    } finally {
      process.off("SIGTERM", onTermination);
      this.#shift = undefined;
    }
  }

  /** A worker from its first tick until it has left. */
  async #tick(shift: Shift, signal: AbortSignal, follow: (shift: Shift) => Promise<void>): Promise<void> {
    const { clock, graceMs } = this.#parts;
    const worker = (await this.#parts.instance()).worker();
    try {
      await this.#tickWhileDue(worker, shift, signal);
    } finally {
      const left = new AbortController();
      const stopping = worker.stop({ grace: signal.aborted ? Math.min(lastMs, graceMs) : graceMs }).finally(() => left.abort());
      await Promise.race([stopping, clock.sleep(promptMs, { signal: left.signal, background: true })]);
      // A turn that takes long: everything else goes on elsewhere meanwhile.
      if (!left.signal.aborted) await follow(shift);
      await stopping;
    }
  }

  async #tickWhileDue(worker: WorkerHandle, shift: Shift, signal: AbortSignal): Promise<void> {
    const { clock, budgetMs } = this.#parts;
    const endsAt = clock.monotonic() + budgetMs;
    let quietSince = clock.monotonic();
    while (!signal.aborted && clock.monotonic() < endsAt) {
      const { worked, wakeAt } = await worker.tick();
      const now = clock.monotonic();
      if (worked || shift.again) {
        shift.moved ||= worked;
        shift.again = false;
        quietSince = now;
        continue;
      }
      const waitMs = Math.max(1, wakeAt - clock.now());
      if (now - quietSince + waitMs > patienceMs) return;
      await clock.sleep(waitMs, { signal });
    }
  }

  /** Asks for the next worker, when the next thing is due; for none, if nothing is. */
  async #wakeNext(shift: Shift, misses: number, queue: string | undefined): Promise<void> {
    const dueAt = await (await this.#parts.instance()).dueAt();
    if (dueAt === undefined) return;
    const { clock, bucketMs } = this.#parts;
    const next = followUp({ now: clock.now(), dueAt, moved: shift.moved, misses, bucketMs });
    if (next) await this.#parts.queue.wake(next.at, { misses: next.misses, ...(queue === undefined ? {} : { queue }) });
  }

  /** The same, but what is far ahead or cannot be moved is left to the next sweep: otherwise each sweep would begin one more sequence of tasks for it. */
  async #wakeSoon(shift: Shift): Promise<void> {
    const dueAt = await (await this.#parts.instance()).dueAt();
    const now = this.#parts.clock.now();
    if (dueAt === undefined || dueAt > now + horizonMs || (dueAt <= now && !shift.moved)) return;
    await this.#parts.queue.wake(Math.max(now, dueAt));
  }
}
