import { GembatchError, deserializeError } from "../core/errors.ts";
import { checkSignal, refuseUnknown } from "../core/options.ts";
import type { RunRecord } from "../core/store.ts";
import { Runs } from "./runs.ts";
import type { Session } from "./session.ts";

/** One execution of a chain, or of a submitted prompt with its handler. */
export class RunHandle<Output> {
  readonly id: string;
  readonly #session: Session;

  constructor(session: Session, id: string) {
    this.#session = session;
    this.id = id;
  }

  /**
   * The output, however long it takes. Rejects with the run's failure, with `run_held` or `run_cancelled`, and with `provider_auth` if the
   * provider does not accept the key (the run itself is unharmed then).
   */
  async result(options: { signal?: AbortSignal } = {}): Promise<Output> {
    refuseUnknown(options, ["signal"], "result options");
    checkSignal(options.signal);
    const run = await this.#session.withWorker(async () => this.#session.waiters.wait(this.id, options.signal));
    return outputOf(run) as Output;
  }

  /** How the run stands now. */
  async get(): Promise<RunRecord> {
    const store = await this.#session.store();
    const [run] = await store.getRuns({ ids: [this.id] });
    if (!run) throw new GembatchError("run_not_found", `Run ${this.id} does not exist.`);
    return run;
  }

  /** Ends the run unless it has ended: queued requests are withdrawn, those in a job are paid and ignored. */
  async cancel(options: { tree?: boolean } = {}): Promise<boolean> {
    return (await new Runs(this.#session).cancel(this.id, options)).length > 0;
  }
}

/** What an ended run gave, or its failure thrown. */
export function outputOf(run: RunRecord): unknown {
  switch (run.state) {
    case "completed":
      return run.output;
    case "cancelled":
      throw new GembatchError("run_cancelled", `Run ${run.id} (${run.chain}) was cancelled.`);
    case "held":
      throw new GembatchError("run_held", run.error?.message ?? `Run ${run.id} (${run.chain}) is held.`, {
        hint: "When the reason is mended, gembatch.runs.retry() lets it go on.",
        ...(run.error ? { cause: deserializeError(run.error) } : {}),
      });
    default:
      if (run.error) throw deserializeError(run.error);
      throw new GembatchError("run_failed", `Run ${run.id} (${run.chain}) failed.`);
  }
}
