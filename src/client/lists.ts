import { describe, GembatchError } from "../core/errors.ts";
import { refuseUnknown } from "../core/options.ts";
import type { BatchFilter, BatchRecord, Page, PageOptions, RequestFilter, RequestRecord } from "../core/store.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import { noUsage, type Usage } from "../core/usage.ts";
import { blockOf } from "../pipeline/block.ts";
import type { Session } from "./session.ts";

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
    return (await this.#session.store()).listRequests(
      checkList(filter, { run: "string", batch: "string", state: "string" }, "requests.list"),
    );
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
    return (await this.#session.store()).listBatches(
      checkList(filter, { state: "string", active: "boolean", held: "boolean", lane: "object" }, "batches.list"),
    );
  }

  /** Lets batches go on that are held because it is unknown whether their job was created: it is looked for once more, then created again. Returns the ids that changed. */
  async release(ids: string | readonly string[]): Promise<string[]> {
    const store = await this.#session.store();
    const changed = await store.releaseBatches({ now: this.#session.parts.clock.now(), ids: [ids].flat() });
    await this.#session.announce();
    return changed;
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
  /** Why nothing of it is sent although its queue is ready: its jobs keep failing, or a budget is used up. */
  blocked: { reason: string; until: number | undefined } | undefined;
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
    const { clock, settings } = this.#session.parts;
    const now = clock.now();
    const { lanes: queues } = await store.activity({ now, chains: this.#session.registry.versions() });
    const batches = await store.activeBatches();
    const { usage } = await store.stats();
    const lanes = new Map([...usage, ...queues, ...batches].map(({ lane }) => [laneName(lane), lane]));
    const records = [...lanes].map(async ([name, lane]): Promise<LaneRecord> => {
      const queue = queues.find((item) => laneName(item.lane) === name);
      const answered = usage.find((item) => laneName(item.lane) === name);
      const active = batches.filter((batch) => laneName(batch.lane) === name);
      const block = queue && (await blockOf({ store, ...settings }, queue, batches, now));
      return {
        lane,
        queued: queue?.queued ?? 0,
        oldestAt: queue && queue.queued > 0 ? queue.oldestAt : undefined,
        nextAt: queue?.nextAt,
        inBatches: active.reduce((sum, { requestCount }) => sum + requestCount, 0),
        answers: answered?.answers ?? 0,
        usage: answered?.usage ?? { ...noUsage },
        blocked: block?.kind === "blocked" ? { reason: block.reason, until: block.until } : undefined,
      };
    });
    return Promise.all(records);
  }
}

/** The filter, each field of its type. Throws `invalid_option`. */
export function checkList<T extends PageOptions>(
  filter: T,
  fields: Readonly<Record<string, "string" | "number" | "boolean" | "object">>,
  where: string,
): T {
  refuseUnknown(filter, [...Object.keys(fields), "limit", "cursor"], where);
  for (const [name, type] of Object.entries({ ...fields, cursor: "string" })) {
    const value = (filter as Record<string, unknown>)[name];
    if (value === undefined || (typeof value === type && value !== null && (type !== "number" || Number.isFinite(value)))) continue;
    throw new GembatchError("invalid_option", `Option ${where}.${name} must be a ${type}, got ${describe(value)}.`);
  }
  if (filter.limit !== undefined && !(Number.isSafeInteger(filter.limit) && filter.limit >= 1 && filter.limit <= 1_000)) {
    throw new GembatchError("invalid_option", "Option limit must be a whole number from 1 to 1000.");
  }
  return filter;
}
