/**
 * A hand on a store for its conformance suite: short ways to say "start a run", "commit its turn", "bring a batch to its
 * answers". Time is a number that only the tests move.
 */
import type { SerializedError } from "../core/errors.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import type { RequestState, RunState } from "../core/states.ts";
import type {
  BatchRecord,
  BatchUpdate,
  ClaimedRun,
  CommitResult,
  Entry,
  LaneActivity,
  NewEntry,
  NewRun,
  RequestRecord,
  RequestResult,
  RunRecord,
  SettledRows,
  SettleRow,
  Store,
  Timers,
  TurnCommit,
  TurnOutcome,
} from "../core/store.ts";
import type { Usage } from "../core/usage.ts";

export const lane: Lane = { provider: "test", model: "model-1", method: "generateContent" };
export const flexLane: Lane = { ...lane, tier: "flex" };
export const standardLane: Lane = { ...lane, tier: "standard" };
export const autoLane: Lane = { ...lane, tier: "auto" };
export const otherLane: Lane = { provider: "test", model: "model-2", method: "generateContent" };
export const usage: Usage = {
  promptTokens: 7,
  cachedTokens: 2,
  outputTokens: 5,
  thoughtTokens: 3,
  toolTokens: 1,
  audioTokens: 4,
  imageTokens: 6,
};
export const leaseMs = 30_000;
export const digestRuns = [{ chain: "digest", versions: ["1"] }];
const noLimits = { requests: 1_000, bytes: 1_000_000, tokens: 1_000_000 };

export function failure(message: string): SerializedError {
  return { code: "request_failed", name: "GembatchError", message, retryable: false };
}

export const succeeded = (text: string): RequestResult => ({ type: "succeeded", value: JSON.stringify({ text }), usage });
/** An answer with its price. */
export function paid(text: string, usd: number): RequestResult {
  return { type: "succeeded", value: JSON.stringify({ text }), usage, cost: { usd, standardUsd: 2 * usd } };
}
export const failed = (message: string): RequestResult => ({ type: "failed", error: failure(message) });

export function newRun(id: string, over: Partial<NewRun> = {}): NewRun {
  return {
    id,
    kind: "chain",
    chain: "digest",
    version: "1",
    input: JSON.stringify({ of: id }),
    fingerprint: `fingerprint of ${id}`,
    priority: 0,
    ...over,
  };
}

export function request(key: string, over: Partial<NonNullable<NewEntry["request"]>> = {}): NewEntry {
  return {
    key,
    kind: "request",
    fingerprint: `asks ${key}`,
    request: { lane, body: JSON.stringify({ ask: key }), bytes: 100, tokens: 10, priority: 0, maxAttempts: 3, ...over },
  };
}

export const step = (key: string, value = '"done"'): NewEntry => ({ key, kind: "step", fingerprint: "", settled: { value } });
export const sleep = (key: string, wakeAt: number): NewEntry => ({ key, kind: "sleep", fingerprint: "", wakeAt });
export const child = (key: string): NewEntry => ({ key, kind: "child", fingerprint: `calls ${key}` });

/** What a test says of a turn; the rest follows from its run. */
export interface TurnParts extends Partial<Omit<TurnCommit, "run" | "epoch" | "outcome">> {
  outcome?: TurnOutcome;
}

export class StoreKit {
  now = 1_700_000_000_000;
  readonly store: Store;
  readonly #host: string;

  constructor(store: Store, host = "test-host") {
    this.store = store;
    this.#host = host;
  }

  /** Another store on the same data, at the same time. */
  on(store: Store): StoreKit {
    const kit = new StoreKit(store, this.#host);
    kit.now = this.now;
    return kit;
  }

  // Workers

  /** Processes of an unknown host: only their lease says whether they live. */
  async beat(
    worker = "w1",
    over: { roles?: string[]; shared?: string[]; maxAttempts?: number; host?: string; pid?: number } = {},
  ): Promise<string[]> {
    const { roles = [], shared = [], maxAttempts = 3, host = `${this.#host}-${worker}`, pid = 1 } = over;
    const identity = { id: worker, host, pid };
    const wishes = [...roles.map((name) => ({ name, exclusive: true })), ...shared.map((name) => ({ name, exclusive: false }))];
    return (await this.store.heartbeat({ worker: identity, now: this.now, leaseMs, roles: wishes, maxAttempts })).roles;
  }

  // Runs

  start(...runs: NewRun[]): Promise<string[]> {
    return this.store.startRuns({ now: this.now, runs });
  }

  claim(limit = 100, worker = "w1", chains = digestRuns): Promise<ClaimedRun[]> {
    return this.store.claimRuns({ worker, now: this.now, limit, chains });
  }

  async claimOne(worker = "w1"): Promise<ClaimedRun> {
    const [run] = await this.claim(1, worker);
    if (run === undefined) throw new Error("There is nothing to claim.");
    return run;
  }

  turn(run: ClaimedRun, { outcome = { type: "waiting" }, ...parts }: TurnParts = {}): TurnCommit {
    return {
      run: run.id,
      epoch: run.epoch,
      seen: run.seq,
      firstNo: 0,
      entries: [],
      starts: [],
      code: "code-1",
      notes: [],
      ...parts,
      outcome,
    };
  }

  async commit(run: ClaimedRun, parts: TurnParts = {}, worker = "w1"): Promise<CommitResult> {
    const [result] = await this.store.commitTurns({ worker, now: this.now, turns: [this.turn(run, parts)] });
    if (result === undefined) throw new Error("A turn came back without a result.");
    return result;
  }

  /** A run that waits for these entries. */
  async waiting(id: string, entries: NewEntry[], over: Partial<NewRun> = {}): Promise<ClaimedRun> {
    await this.start(newRun(id, over));
    const run = await this.claimOne();
    await this.commit(run, { entries });
    return run;
  }

  async run(id: string): Promise<RunRecord> {
    const [run] = await this.store.getRuns({ ids: [id] });
    if (run === undefined) throw new Error(`There is no run ${id}.`);
    return run;
  }

  async state(id: string): Promise<RunState> {
    return (await this.run(id)).state;
  }

  async states(...ids: string[]): Promise<(RunState | undefined)[]> {
    return (await this.store.getRuns({ ids })).map((run) => run?.state);
  }

  async history(run: string, since = 0): Promise<Entry[]> {
    return (await this.store.loadHistory({ runs: [{ run, since }] }))[0] ?? [];
  }

  // Requests and batches

  /** Requests of a run in the order of their entries. */
  async requests(run: string): Promise<RequestRecord[]> {
    return (await this.store.listRequests({ run, limit: 1_000 })).items.toReversed();
  }

  async requestStates(run: string): Promise<RequestState[]> {
    return (await this.requests(run)).map(({ state }) => state);
  }

  form(
    batch: string,
    over: {
      worker?: string;
      lane?: Lane;
      limits?: Partial<typeof noLimits> & { usd?: number };
      maxActive?: number;
      chunk?: number;
      isolated?: boolean;
    } = {},
  ): Promise<BatchRecord | undefined> {
    const { worker = "w1", maxActive = 100, chunk = 100, isolated = false } = over;
    const limits = { ...noLimits, ...over.limits };
    return this.store.formBatch({ worker, now: this.now, batch, lane: over.lane ?? lane, limits, maxActive, chunk, isolated });
  }

  claimBatches(states: BatchRecord["state"][], worker = "w1", limit = 100): Promise<BatchRecord[]> {
    return this.store.claimBatches({ worker, now: this.now, providers: ["test"], states, limit });
  }

  update(batch: BatchRecord, update: BatchUpdate): Promise<boolean> {
    return this.store.updateBatch({ batch: batch.id, epoch: batch.epoch, now: this.now, update });
  }

  /** Forms a batch of all that is queued and brings it to where its answers are routed; it stays in hand. */
  async routing(id: string, over: { worker?: string; lane?: Lane; isolated?: boolean } = {}): Promise<BatchRecord> {
    await this.form(id, over);
    const batch = (await this.claimBatches(["sealed"], over.worker)).find((item) => item.id === id);
    if (batch === undefined) throw new Error(`Batch ${id} could not be claimed.`);
    for (const state of ["launching", "in_progress", "routing"] as const) await this.update(batch, { state, release: false });
    return this.batch(id);
  }

  async batch(id: string): Promise<BatchRecord> {
    const batch = await this.store.getBatch({ id });
    if (batch === undefined) throw new Error(`There is no batch ${id}.`);
    return batch;
  }

  members(batch: string, after?: string, limit = 100): Promise<{ id: string; attempt: number; body: string }[]> {
    return this.store.readMembers({ batch, after, limit });
  }

  settle(
    batch: BatchRecord,
    rows: SettleRow[],
    over: { unknown?: number; cursor?: number; epoch?: number; worker?: string } = {},
  ): Promise<SettledRows | undefined> {
    const { unknown = 0, cursor = rows.length, epoch = batch.epoch, worker } = over;
    return this.store.settleRows({ batch: batch.id, epoch, now: this.now, rows, unknown, cursor, ...(worker !== undefined && { worker }) });
  }

  settleRest(batch: BatchRecord, result: Parameters<Store["settleRemaining"]>[0]["result"], limit = 100): Promise<number | undefined> {
    return this.store.settleRemaining({ batch: batch.id, epoch: batch.epoch, now: this.now, limit, result });
  }

  /** The same result for every open member. */
  async answer(batch: BatchRecord, result: RequestResult = succeeded("answer")): Promise<void> {
    const members = await this.members(batch.id);
    await this.settle(
      batch,
      members.map(({ id, attempt }) => ({ id, attempt, result })),
    );
  }

  /** When timers and deadlines are due next: what both ways to ask say. */
  async timers(): Promise<Timers> {
    const { nextTimerAt, nextDeadlineAt } = await this.store.activity({ now: this.now, chains: digestRuns });
    const timers = await this.store.nextTimers();
    if (timers.nextTimerAt !== nextTimerAt || timers.nextDeadlineAt !== nextDeadlineAt)
      throw new Error(`nextTimers says ${JSON.stringify(timers)}, activity ${JSON.stringify({ nextTimerAt, nextDeadlineAt })}.`);
    return timers;
  }

  /** What the store says of one lane; `undefined` if nothing is in its queue. */
  async lane(of: Lane = lane): Promise<LaneActivity | undefined> {
    const { lanes } = await this.store.activity({ now: this.now, chains: digestRuns });
    return lanes.find((item) => laneName(item.lane) === laneName(of));
  }

  /** Queued requests of the lane that may be sent now. */
  async queued(of: Lane = lane): Promise<number> {
    return (await this.lane(of))?.queued ?? 0;
  }
}
