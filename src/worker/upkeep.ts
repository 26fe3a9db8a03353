import { removalInstants, type RetentionPolicy } from "../core/retention.ts";
import { messageOf, type PipelineContext, type StageResult } from "../pipeline/stage.ts";
import { advanceSweep } from "../pipeline/sweep.ts";

/** How often a worker looks for what is old enough to be removed. */
const removalMs = 60_000;
/** Runs, histories or batches removed by one transaction. */
const removalChunk = 500;
/** How long a worker that stops takes to tidy up at the provider. */
const lastSweepMs = 3_000;

/** What nobody waits for: duplicates of jobs, jobs and inputs that are done with, runs that are old enough to go. */
export class Upkeep {
  readonly #context: PipelineContext;
  readonly #retention: RetentionPolicy | undefined;
  #removeAt = -Infinity;

  constructor(context: PipelineContext, retention: RetentionPolicy | undefined) {
    this.#context = context;
    this.#retention = retention;
  }

  async advance(): Promise<StageResult> {
    const swept = await advanceSweep(this.#context);
    const more = await this.#remove();
    return { worked: swept.worked || more };
  }

  /** Removes one chunk, if it is time; `true`: there is more to remove now. */
  async #remove(): Promise<boolean> {
    const now = this.#context.clock.now();
    if (!this.#retention || now < this.#removeAt) return false;
    const { more } = await this.#context.store.removeEnded({ now, limit: removalChunk, ...removalInstants(this.#retention, now) });
    if (!more) this.#removeAt = now + removalMs;
    return more;
  }

  /** The last job's input and output are removed even if this process is the last for long. */
  async finish(): Promise<void> {
    const { clock, log } = this.#context;
    const limit = new AbortController();
    const timer = clock.sleep(lastSweepMs, { signal: limit.signal, background: true }).then(() => limit.abort());
    try {
      // Of every provider: a worker that stops has given up its roles by now, and what is swept twice does no harm.
      const roles = () => [...this.#context.providers.keys()];
      await Promise.race([advanceSweep({ ...this.#context, roles, signal: limit.signal }), timer]);
    } catch (error) {
      log.debug(`What is left at the provider is removed at the next start: ${messageOf(error)}`);
    } finally {
      limit.abort();
      await timer;
    }
  }
}
