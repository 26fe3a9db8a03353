/**
 * The store port. Every method is one atomic transition over arrays: all its effects are durable when it resolves, or none is.
 * A failed precondition (a lost lease, a state that moved on) is a return value, not an error. Every method may be repeated
 * after a crash. A call that may have been done although it failed rejects with `store_unavailable` and `details: { inDoubt: true }`. Time is passed in (`now`, milliseconds since 1970).
 *
 * Ownership: a run or a batch in hand belongs to a worker and an `epoch` that grows with every claim. A claim is alive while its worker's
 * lease is: one row a worker is renewed, not one a run. Whoever holds an older epoch changes nothing.
 *
 * @module
 */
import type { SerializedError } from "./errors.ts";
import type { Lane } from "./provider.ts";
import type { BatchState } from "./states.ts";
import type {
  Activity,
  BatchFilter,
  BatchRecord,
  BatchUpdate,
  ChainVersions,
  ClaimedRun,
  CommitResult,
  DeadlineDecision,
  DeadlineItem,
  Entry,
  MemberRow,
  NewRun,
  Page,
  PageOptions,
  Removed,
  RequestFilter,
  RequestRecord,
  RequestResult,
  RoleWish,
  RunFilter,
  RunRecord,
  SettledRows,
  SettleRow,
  SpendRow,
  StartOutcome,
  StoreStats,
  SweepUpdate,
  Timers,
  TurnCommit,
  WorkerIdentity,
} from "./records.ts";

export type * from "./records.ts";

/** Whoever adds a method or a field that carries a payload adds it to `codec-store.ts` and `payload-texts.ts`, too: there payloads are encoded and offloaded. */
export interface Store {
  /** `sqlite`, `postgres`, … */
  readonly name: string;
  /** Random, made once with the store: part of every job's display name, so that two stores never adopt each other's jobs. */
  readonly id: string;

  /** Creates or migrates the schema. Refuses a store of a newer version and one that is not ours. */
  open(): Promise<void>;
  close(): Promise<void>;
  /**
   * Calls `listener` when another process may have added work. Only a hint, possibly late, twice or never: whoever listens also looks by itself. Absent: this store gives none.
   * Returns how to stop.
   */
  onHint?(listener: () => void): () => void;

  // Workers

  /**
   * Renews this worker's lease and says which of the wanted roles it holds. An exclusive role has one holder at a time; of the others, a store for one machine
   * gives each to one worker, too, and a store for many to everyone. `time`: the store's own clock, in milliseconds since 1970, where it has one that all
   * workers share. Claims of workers whose lease ran out, or whose process is gone from
   * this host, are given up here: runs become runnable with attempts + 1 (held when that reaches `maxAttempts`), batches become claimable.
   */
  heartbeat(params: {
    worker: WorkerIdentity;
    now: number;
    leaseMs: number;
    roles: RoleWish[];
    maxAttempts: number;
  }): Promise<{ roles: string[]; time?: number }>;
  /** Gives up the lease and every claim of this worker at once, attempts unchanged. */
  leave(params: { worker: string; now: number }): Promise<void>;

  // Runs

  /** Idempotent by id: present with the same fingerprint is `existing`, with another `conflict`. Outcomes in the order given. */
  startRuns(params: { now: number; runs: NewRun[] }): Promise<StartOutcome[]>;
  /** A bulk start is going on until `until`; renew or end it (`until: 0`). While one is, no lane counts as quiet. */
  holdFlush(params: { producer: string; until: number }): Promise<void>;
  /**
   * runnable → running for up to `limit` runs of these chains, highest priority first, oldest first within it. Epoch + 1. `own`: leaves runs to the live workers that
   * claimed them last, who may have their turns in memory; a store may take no notice of it.
   */
  claimRuns(params: { worker: string; now: number; limit: number; chains: ChainVersions[]; own?: boolean }): Promise<ClaimedRun[]>;
  /** The history of runs in hand, by number; only what settled after `since` (0 for everything, open entries included). */
  loadHistory(params: { runs: { run: string; since: number }[] }): Promise<Entry[][]>;
  /**
   * Each turn by itself: applied if the run is `running` under this epoch and worker, else `lost`. New entries, starts, state and output
   * land together; a run that ends settles the entry of the parent that waits for it, whatever state the parent is in, and withdraws its own
   * queued requests. A run that is to be cancelled ends so, at any commit, and nothing of its turn lands but its notes. Throws, and applies no turn of
   * the array, for what only a bug can ask: to wait without an open entry, or to go on after entries that do not exist.
   */
  commitTurns(params: { worker: string; now: number; turns: TurnCommit[] }): Promise<CommitResult[]>;
  /** Settles up to `limit` sleeps that are over and frees turns whose retry is due. Returns how many. */
  fireTimers(params: { now: number; limit: number }): Promise<number>;
  /** waiting → runnable, if the epoch is still this one: for a call that came after its turn was over. A turn's retry keeps its time. */
  wakeRuns(params: { now: number; runs: { run: string; epoch: number }[] }): Promise<void>;

  // Batches

  /** When timers and deadlines are due next. Costs less than `activity`, which tells it too. */
  nextTimers(): Promise<Timers>;
  /** What the flush decision looks at. */
  activity(params: { now: number; chains: ChainVersions[] }): Promise<Activity>;
  /** Every batch that has not ended: a few hundred at most. */
  activeBatches(): Promise<BatchRecord[]>;
  /**
   * Creates the batch `forming` under this worker's claim, or goes on with it, and moves up to `chunk` queued requests of the lane into it: highest
   * priority first, oldest first within it. Seals it when a limit is reached or nothing is left. One request always fits, unless its estimate alone is above
   * `usd`. `undefined`: nothing was queued, nothing fits, the quota is used up, or another worker forms this batch; then nothing was created.
   *
   * The quota counts what is in use now, over all workers, in the same transaction. A lane that is answered directly (`isDirect`) counts requests in unfinished batches
   * of its lane; any other counts batches of its provider outside of direct lanes whose job may be unfinished: those that are not `routing`, and not `sealed` with
   * `failures` (a throttled one has given its slot back).
   */
  formBatch(params: {
    worker: string;
    now: number;
    batch: string;
    lane: Lane;
    limits: { requests: number; bytes: number; tokens: number; usd?: number };
    /** Batches, or requests of a direct lane, that may be unfinished, this one included. */
    maxActive: number;
    chunk: number;
    /** Form from the requests that travel apart: those of one group size, at most that many. */
    isolated?: boolean;
  }): Promise<BatchRecord | undefined>;
  /** Moves up to `limit` queued requests of one lane into the queue of another, oldest first, order and attempts unchanged. Returns how many. */
  moveQueued(params: { now: number; from: Lane; to: Lane; limit: number; reason: string }): Promise<number>;
  /** Open requests whose deadline is to be looked at by now, earliest first. A new request with a deadline is at once. */
  dueDeadlines(params: { now: number; limit: number }): Promise<DeadlineItem[]>;
  /** Each decision by itself. Returns how many requests moved. */
  decideDeadlines(params: { now: number; decisions: DeadlineDecision[] }): Promise<number>;
  /** Claims batches in these states that are due and that no live worker holds, oldest first. Epoch + 1. */
  claimBatches(params: { worker: string; now: number; providers: string[]; states: BatchState[]; limit: number }): Promise<BatchRecord[]>;
  /**
   * Applies the update if the batch is still ours (in hand, under this epoch) and may go to the new state; `false` and no change otherwise.
   * Throws for an end while members have no result: settle the remaining ones first.
   */
  updateBatch(params: { batch: string; epoch: number; now: number; update: BatchUpdate }): Promise<boolean>;
  /** Batches of these providers, in any state, whose `sweepAt` has come, oldest first. */
  dueSweeps(params: { now: number; providers: string[]; limit: number }): Promise<BatchRecord[]>;
  updateSweep(params: { batch: string; update: SweepUpdate }): Promise<void>;
  /** Unclaimed batches with a job in progress become due now: somebody heard that a job ended. Returns how many. */
  hastenBatches(params: { now: number; providers: string[] }): Promise<number>;
  /** Members still `batched`, in a fixed order, after `after`. */
  readMembers(params: { batch: string; after: string | undefined; limit: number }): Promise<MemberRow[]>;
  /**
   * Settles members of a batch in hand and moves its cursor, in one transaction. A row counts only if its request is `batched` in this
   * very batch with this very attempt; any other is counted (`duplicate` if it was settled by this batch before, else `unknown`) and changes nothing.
   * A run that waits becomes runnable when its request settles. Answers for a completed or cancelled run are counted as `cancelled`, their usage
   * included; a failed run keeps them for its retry. The `unknown` that is returned includes the lines passed in. `undefined`: the batch is not ours any more.
   *
   * A row with `keptEpoch` whose run has waited since that epoch may make it `running` instead, under the claim of `worker` with epoch + 1: what a wake-up and a claim at once would do. A store may take no notice of that.
   */
  settleRows(params: {
    batch: string;
    epoch: number;
    now: number;
    rows: SettleRow[];
    /** Lines that named no member, to be counted. */
    unknown: number;
    cursor: number;
    /** Who keeps the turns of rows with `keptEpoch`. */
    worker?: string;
  }): Promise<SettledRows | undefined>;
  /**
   * The same result for up to `limit` members that are still `batched`: for rows that never came and jobs that ended without them. `release` puts them
   * back into the queue with the attempt unchanged. Returns how many are left; `undefined`: the batch is not ours any more.
   */
  settleRemaining(params: {
    batch: string;
    epoch: number;
    now: number;
    limit: number;
    result: Exclude<RequestResult, { type: "succeeded" }> | { type: "release"; availableAt: number };
  }): Promise<number | undefined>;

  // Looking and operating

  getRuns(params: { ids: string[] }): Promise<(RunRecord | undefined)[]>;
  listRuns(params: RunFilter & PageOptions): Promise<Page<RunRecord>>;
  getRequest(params: { id: string }): Promise<RequestRecord | undefined>;
  listRequests(params: RequestFilter & PageOptions): Promise<Page<RequestRecord>>;
  getBatch(params: { id: string }): Promise<BatchRecord | undefined>;
  listBatches(params: BatchFilter & PageOptions): Promise<Page<BatchRecord>>;
  stats(): Promise<StoreStats>;
  /** Rows of the days from `since` to `until` (both included, UTC, `YYYY-MM-DD`); all by default. */
  spend(params: { since?: string; until?: string }): Promise<SpendRow[]>;
  /** Runs that can still change by themselves (not held, not ended): is there any? */
  hasLiveRuns(): Promise<boolean>;
  /**
   * Ends runs that have not ended: queued requests are withdrawn, batched ones are ignored when they come back, waiting parents are told. A running one
   * ends with the next commit of its turn, or with its worker. `tree`: and every run that they started, and so on. Returns the ids that changed.
   */
  cancelRuns(params: { now: number; ids: string[]; tree?: boolean }): Promise<string[]>;
  /**
   * held or failed → runnable, attempts 0. Every failed or withdrawn request of a failed run is queued again from its first attempt and is open in
   * the history once more; its old number stays unused. What the parent was told stands. `afresh`: its history is forgotten, and cancelled runs can be
   * retried too: queued requests are withdrawn, batched ones ignored when they come back, notes and cost stay; a handler run asks its first request again.
   * Returns the ids that changed.
   */
  retryRuns(params: { now: number; ids: string[]; afresh?: boolean }): Promise<string[]>;
  /** runnable or waiting → held with this error; answers that come meanwhile are kept. Returns the ids that changed. */
  holdRuns(params: { now: number; ids: string[]; error: SerializedError }): Promise<string[]>;
  /** Held batches go on: their job is looked for once more, then created again. Returns the ids that changed. */
  releaseBatches(params: { now: number; ids: string[] }): Promise<string[]>;
  /**
   * Removes up to `limit` of what ended before these instants: runs by state with everything of theirs; histories (prompts and answers) of ended
   * runs, whose row, input and output stay; batches that ended, have no member left in a run that is there, and nothing to sweep; shared answers past their time.
   * Never anything of a run that has not ended, nor a run whose starter or parent has not. `more`: there is more to remove now. `references`: of the payload texts
   * that are gone with this call and that no row holds any more, those that begin with `referencePrefix` (none without it): what they refer to lies elsewhere and can be removed, too.
   */
  removeEnded(params: {
    now: number;
    limit: number;
    runs: { completed?: number; failed?: number; cancelled?: number };
    histories?: number;
    batches?: number;
    referencePrefix?: string;
  }): Promise<Removed>;
}

/** What a method of the port is given. */
export type StoreParams<Method extends keyof Store> = Store[Method] extends (params: infer P) => unknown ? P : never;
