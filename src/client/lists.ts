import { GembatchError } from "../core/errors.ts";
import type { BatchFilter, BatchRecord, Page, PageOptions, RequestFilter, RequestRecord, RunFilter, RunRecord } from "../core/store.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import { noUsage, type Usage } from "../core/usage.ts";
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

/** How a lane stands: its queue, its batches, its answers. */
export interface LaneRecord {
  lane: Lane;
  /** Requests that may be sent now; delayed retries only show in `nextAt`. */
  queued: number;
  oldestAt: number | undefined;
  nextAt: number | undefined;
  /** Requests in batches that have not ended. */
  inBatches: number;
  answers: number;
  usage: Usage;
}

/** Looking at lanes: the queues of requests that may share a job. */
export class Lanes {
  readonly #session: Session;
  constructor(session: Session) {
    this.#session = session;
  }

  /** Every lane that has or had requests. */
  async list(): Promise<LaneRecord[]> {
    const store = await this.#session.store();
    const { lanes: queues } = await store.activity({ now: this.#session.parts.clock.now(), chains: this.#session.registry.versions() });
    const batches = await store.activeBatches();
    const { usage } = await store.stats();
    const lanes = new Map([...usage, ...queues, ...batches].map(({ lane }) => [laneName(lane), lane]));
    return [...lanes].map(([name, lane]) => {
      const queue = queues.find((item) => laneName(item.lane) === name);
      const answered = usage.find((item) => laneName(item.lane) === name);
      const active = batches.filter((batch) => laneName(batch.lane) === name);
      return {
        lane,
        queued: queue?.queued ?? 0,
        oldestAt: queue && queue.queued > 0 ? queue.oldestAt : undefined,
        nextAt: queue?.nextAt,
        inBatches: active.reduce((sum, { requestCount }) => sum + requestCount, 0),
        answers: answered?.answers ?? 0,
        usage: answered?.usage ?? { ...noUsage },
      };
    });
  }
}

function checkPage<T extends PageOptions>(filter: T): T {
  if (filter.limit !== undefined && !(Number.isSafeInteger(filter.limit) && filter.limit >= 1 && filter.limit <= 1_000)) {
    throw new GembatchError("invalid_option", "Option limit must be a whole number from 1 to 1000.");
  }
  return filter;
}
