import { GembatchError } from "../core/errors.ts";
import type { BatchFilter, BatchRecord, Page, PageOptions, RequestFilter, RequestRecord, RunFilter, RunRecord } from "../core/store.ts";
import type { Session } from "./session.ts";

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
    return (await this.#session.store()).listRuns(checkPage(filter));
  }

  /** Ends runs that have not ended. Returns the ids that changed. */
  async cancel(ids: string | string[]): Promise<string[]> {
    const store = await this.#session.store();
    const changed = await store.cancelRuns({ now: this.#session.parts.clock.now(), ids: [ids].flat() });
    for (const id of changed) this.#session.waiters.notify(id);
    return changed;
  }

  /** Lets held and failed runs go on from where they stopped. Returns the ids that changed. */
  async retry(ids: string | string[]): Promise<string[]> {
    const store = await this.#session.store();
    const changed = await store.retryRuns({ now: this.#session.parts.clock.now(), ids: [ids].flat() });
    this.#session.wake();
    return changed;
  }
}

/** Looking at requests. */
export class Requests {
  readonly #session: Session;
  constructor(session: Session) {
    this.#session = session;
  }

  async get(id: string): Promise<RequestRecord | undefined> {
    return (await this.#session.store()).getRequest({ id });
  }

  /** Newest first. */
  async list(filter: RequestFilter & PageOptions = {}): Promise<Page<RequestRecord>> {
    return (await this.#session.store()).listRequests(checkPage(filter));
  }
}

/** Looking at batches and their jobs. */
export class Batches {
  readonly #session: Session;
  constructor(session: Session) {
    this.#session = session;
  }

  async get(id: string): Promise<BatchRecord | undefined> {
    return (await this.#session.store()).getBatch({ id });
  }

  /** Newest first. */
  async list(filter: BatchFilter & PageOptions = {}): Promise<Page<BatchRecord>> {
    return (await this.#session.store()).listBatches(checkPage(filter));
  }
}

function checkPage<T extends PageOptions>(filter: T): T {
  if (filter.limit !== undefined && !(Number.isSafeInteger(filter.limit) && filter.limit >= 1 && filter.limit <= 1_000)) {
    throw new GembatchError("invalid_option", "Option limit must be a whole number from 1 to 1000.");
  }
  return filter;
}
