import { describe, GembatchError, serializeError } from "../core/errors.ts";
import { checkType, refuseUnknown } from "../core/options.ts";
import type { Page, PageOptions, RunFilter, RunRecord } from "../core/store.ts";
import { checkList } from "./lists.ts";
import type { Session } from "./session.ts";

/** Some runs: by id, by ids, or all that a filter matches. */
export type RunSelection = string | readonly string[] | RunFilter;

const filterFields = {
  chain: "string",
  state: "string",
  error: "string",
  starter: "string",
  createdBefore: "number",
  createdAfter: "number",
} as const;
const filterNames = Object.keys(filterFields);
/** Runs that one call of the store takes. */
const chunkSize = 500;

/** Looking at runs and operating them. */
export class Runs {
  readonly #session: Session;
  constructor(session: Session) {
    this.#session = session;
  }

  async get(id: string): Promise<RunRecord | undefined> {
    const [run] = await (await this.#session.store()).getRuns({ ids: [id] });
    return run;
  }

  /** Newest first. */
  async list(filter: RunFilter & PageOptions = {}): Promise<Page<RunRecord>> {
    return (await this.#session.store()).listRuns(checkList(filter, filterFields, "runs.list"));
  }

  /**
   * Ends runs that have not ended: queued prompts are withdrawn, those in a job are paid and ignored. `tree`: and every run that they started. Returns the
   * ids that changed.
   */
  async cancel(selection: RunSelection, options: { tree?: boolean } = {}): Promise<string[]> {
    refuseUnknown(options, ["tree"], "cancel options");
    const store = await this.#session.store();
    const tree = checkType(options.tree, "boolean", "tree") ?? false;
    const changed = await this.#eachChunk(selection, async (ids, now) => store.cancelRuns({ now, ids, tree }));
    for (const id of changed) this.#session.waiters.notify(id);
    return changed;
  }

  /**
   * Lets held and failed runs go on from where they stopped; `afresh`: from their start, with everything forgotten that they asked and were told (then cancelled runs, too).
   * Returns the ids that changed.
   */
  async retry(selection: RunSelection, options: { afresh?: boolean } = {}): Promise<string[]> {
    refuseUnknown(options, ["afresh"], "retry options");
    const store = await this.#session.store();
    const afresh = checkType(options.afresh, "boolean", "afresh") ?? false;
    const changed = await this.#eachChunk(selection, async (ids, now) => store.retryRuns({ now, ids, afresh }));
    await this.#session.announce();
    return changed;
  }

  /** Stops runs until they are retried: nothing new of theirs is sent, answers that come are kept. A run that executes at this moment is not held. Returns the ids that changed. */
  async hold(selection: RunSelection, reason = "An operator holds it."): Promise<string[]> {
    const store = await this.#session.store();
    const error = serializeError(new GembatchError("run_held", reason, { retryable: true, hint: "retry() lets it go on." }), "run_held");
    const changed = await this.#eachChunk(selection, async (ids, now) => store.holdRuns({ now, ids, error }));
    for (const id of changed) this.#session.waiters.notify(id);
    return changed;
  }

  async #eachChunk(selection: RunSelection, change: (ids: string[], now: number) => Promise<string[]>): Promise<string[]> {
    const changed: string[] = [];
    for await (const ids of this.#chunks(selection)) changed.push(...(await change(ids, this.#session.parts.clock.now())));
    return changed;
  }

  async *#chunks(selection: RunSelection): AsyncGenerator<string[]> {
    if (typeof selection === "string" || Array.isArray(selection)) {
      const ids = [selection].flat() as string[];
      for (let i = 0; i < ids.length; i += chunkSize) yield ids.slice(i, i + chunkSize);
      return;
    }
    const filter = checkFilter(selection as RunFilter);
    const store = await this.#session.store();
    let cursor: string | undefined;
    do {
      const page: Page<RunRecord> = await store.listRuns({ ...filter, limit: chunkSize, ...(cursor === undefined ? {} : { cursor }) });
      if (page.items.length > 0) yield page.items.map(({ id }) => id);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
  }
}

/** A filter that names nothing would mean every run there is: that must be said. */
function checkFilter(filter: RunFilter): RunFilter {
  if (typeof filter !== "object" || filter === null) {
    throw new GembatchError("invalid_argument", `Runs are chosen by id, ids or a filter, got ${describe(filter)}.`);
  }
  refuseUnknown(filter, filterNames, "filter");
  if (Object.values(filter).every((value) => value === undefined)) {
    throw new GembatchError("invalid_argument", "A filter must name something.", { hint: `Known: ${filterNames.join(", ")}.` });
  }
  return filter;
}
