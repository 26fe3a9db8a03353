/**
 * The store port. Every method is one atomic transition over arrays: all its effects are durable when it resolves, or none is.
 * A failed precondition (a lost lease, a state that moved on) is a return value, not an error. Every method may be repeated
 * after a crash. Time is passed in (`now`, milliseconds since 1970).
 *
 * Ownership: a run or a batch in hand belongs to a worker and an `epoch` that grows with every claim. A claim is alive while its worker's
 * lease is: one row a worker is renewed, not one a run. Whoever holds an older epoch changes nothing.
 *
 * @module
 */
import type { SerializedError } from "./errors.ts";
import type { Lane, StagedInput } from "./provider.ts";
import type { BatchState, RequestState, RunState } from "./states.ts";
import type { Usage } from "./usage.ts";

// Workers ------------------------------------------------------------------------------------------------------------

export interface WorkerIdentity {
  id: string;
  /** Where it runs, so that a worker of the same host can tell at once that a process is gone. */
  host: string;
  pid: number;
}

// Runs ---------------------------------------------------------------------------------------------------------------

/** `chain`: the function is replayed from its start. `handler`: the function is called once with the answer of request 0. */
export type RunKind = "chain" | "handler";

export interface NewRun {
  /** The user's id or a generated one; unique in the store. */
  id: string;
  kind: RunKind;
  chain: string;
  version: string;
  /** JSON text: a chain's input, a handler's params. */
  input: string;
  /** Digest of what was started; the same id with another digest is a conflict. */
  fingerprint: string;
  /** Higher first. Default 0. */
  priority: number;
  /** Handler runs start out waiting for this request, entry number 0. */
  request?: NewEntry;
  /** The entry of another run that waits for this run's output. */
  parent?: { run: string; key: string };
}

export type StartOutcome = "started" | "existing" | "conflict";

export interface ClaimedRun {
  id: string;
  kind: RunKind;
  chain: string;
  version: string;
  /** Digest of the code that last committed a turn; empty before the first. */
  code: string;
  /** JSON text. */
  input: string;
  epoch: number;
  /** How many entries of this run have settled so far. */
  seq: number;
  /** Claims in a row that came to nothing, this one not counted: the worker died, or the turn ended in `retry`. */
  attempts: number;
  priority: number;
  createdAt: number;
}

/** What a run waits for or did. `code`: from here on other code recorded; what is before it may go unused. */
export type EntryKind = "request" | "step" | "sleep" | "child" | "start" | "now" | "code";

/** One line of a run's history. */
export interface Entry {
  /** 0, 1, 2, … in the order of registration. */
  no: number;
  key: string;
  kind: EntryKind;
  /** Digest of what was asked (canonical body, child input); tells an edited prompt under an explicit key. */
  fingerprint: string;
  /** Position among the settled entries of the run, from 1; `undefined` while it is open. */
  seq: number | undefined;
  /** JSON text: the REST response, a step's value, a child's output. */
  value: string | undefined;
  error: SerializedError | undefined;
}

export interface NewEntry {
  key: string;
  kind: EntryKind;
  fingerprint: string;
  /** `request`: what to send. */
  request?: { lane: Lane; body: string; bytes: number; tokens: number; priority: number; maxAttempts: number };
  /** `sleep`: when it is over. */
  wakeAt?: number;
  /** `step`, `now`, `start`, `code`: settled at once. */
  settled?: { value?: string; error?: SerializedError };
}

export type TurnOutcome =
  /** Keep the claim; an incremental commit of step results. */
  | { type: "running" }
  | { type: "waiting" }
  /** Go on at once or at `at`: a retry of the turn, with attempts + 1. Until `at` the run counts as `waiting`, and no answer wakes it. */
  | { type: "retry"; at: number; error: SerializedError }
  | { type: "completed"; output: string }
  | { type: "failed"; error: SerializedError }
  | { type: "held"; error: SerializedError };

export interface TurnCommit {
  run: string;
  epoch: number;
  /**
   * How many settlements this turn knows of, those of its own earlier commits included. `waiting` becomes `runnable` when the run has another
   * number of them before this commit, or when a start of this commit settles one: no wake-up is lost. Entries with `settled` take the next
   * numbers, in their order, and are no news.
   */
  seen: number;
  /** Number of the first new entry; entries are numbered on from it. Those that are there already (a repeated commit) are skipped. */
  firstNo: number;
  entries: NewEntry[];
  /**
   * Child runs and submitted runs that begin with this commit. Runs that exist already are left as they are; a `parent` entry then waits for
   * that run too: it settles at once if the run has ended, and with `run_conflict` if its fingerprint is another.
   */
  starts: NewRun[];
  /** Digest of the code that ran. */
  code: string;
  /** Sentences for whoever looks at the run later; appended. */
  notes: string[];
  outcome: TurnOutcome;
}

/** `lost`: the claim was no longer ours, nothing changed. Otherwise the state that the run is in now and its `seq`. */
export type CommitResult = { state: "lost" } | { state: RunState; seq: number };

export interface RunRecord {
  id: string;
  kind: RunKind;
  chain: string;
  version: string;
  state: RunState;
  input: unknown;
  output: unknown;
  error: SerializedError | undefined;
  notes: string[];
  parent: string | undefined;
  attempts: number;
  priority: number;
  createdAt: number;
  endedAt: number | undefined;
}

// Requests -----------------------------------------------------------------------------------------------------------

export interface RequestRecord {
  id: string;
  run: string;
  key: string;
  lane: Lane;
  state: RequestState;
  attempt: number;
  batch: string | undefined;
  bytes: number;
  tokens: number;
  createdAt: number;
  availableAt: number;
  body: unknown;
  response: unknown;
  error: SerializedError | undefined;
}

/** One request of a batch, as it is sent: `id` and `attempt` come back in the row key. */
export interface MemberRow {
  id: string;
  attempt: number;
  body: string;
}

export type RequestResult =
  | { type: "succeeded"; value: string; usage: Usage }
  | { type: "failed"; error: SerializedError; usage?: Usage }
  /** Back to the queue with attempt + 1. A request without an attempt left (`attempt >= maxAttempts`, the first attempt is 1) fails with this error instead. */
  | {
      type: "retry";
      availableAt: number;
      error: SerializedError;
      usage?: Usage;
      /** Delivered instead of the error when no attempt is left. */ value?: string;
    };

export interface SettleRow {
  id: string;
  attempt: number;
  result: RequestResult;
}

// Batches ------------------------------------------------------------------------------------------------------------

export interface BatchRecord {
  id: string;
  lane: Lane;
  state: BatchState;
  epoch: number;
  requestCount: number;
  bytes: number;
  tokens: number;
  /** When somebody should look at it next. */
  dueAt: number;
  createdAt: number;
  sealedAt: number | undefined;
  staged: StagedInput | undefined;
  /** Creates of the job that may have been sent. */
  launchAttempts: number;
  /** The last durable intent to send; until `launchDeadlineAt` that request may still leave. */
  intentAt: number | undefined;
  launchDeadlineAt: number | undefined;
  job: string | undefined;
  rawStatus: string | undefined;
  launchedAt: number | undefined;
  /** When the provider said that the job ended. */
  finishedAt: number | undefined;
  output: string | undefined;
  /** Output rows already settled, so that a restart can skip them. */
  cursor: number;
  counts: BatchCounts;
  /** Refusals, throttles and failed looks in a row; drives the backoff. */
  failures: number;
  endedAt: number | undefined;
  error: SerializedError | undefined;
}

/** Every member ends in one of the first four; the last two count lines that were nobody's. */
export interface BatchCounts {
  succeeded: number;
  failed: number;
  requeued: number;
  cancelled: number;
  duplicate: number;
  unknown: number;
}

/** Changes of a batch in hand. Fields that are left out stay. `release` gives the claim back (default true). */
export interface BatchUpdate {
  state?: BatchState;
  dueAt?: number;
  staged?: StagedInput | null;
  launchAttempts?: number;
  intentAt?: number;
  launchDeadlineAt?: number;
  job?: string;
  rawStatus?: string;
  launchedAt?: number;
  finishedAt?: number;
  output?: string;
  failures?: number;
  endedAt?: number;
  error?: SerializedError;
  release?: boolean;
}

// What is going on ---------------------------------------------------------------------------------------------------

/** A lane with something in its queue. Figures cover requests that may be sent now; delayed retries only show in `nextAt`. */
export interface LaneActivity {
  lane: Lane;
  queued: number;
  bytes: number;
  tokens: number;
  /** When the oldest of them was enqueued. */
  oldestAt: number;
  /** When the next delayed retry may be sent. */
  nextAt: number | undefined;
}

/** What the flush decision needs; its cost does not depend on how many runs wait. */
export interface Activity {
  lanes: LaneActivity[];
  /** Runs that a registered chain could take up now (any chain, if nothing is registered here, counts too). */
  runnable: boolean;
  /** Runs whose claim is alive. */
  running: boolean;
  /** Batches whose answers are being routed, or wait to be. */
  routing: boolean;
  /** Bulk starts in progress. */
  producers: boolean;
  /** When the next sleep ends or the next turn is retried. */
  nextTimerAt: number | undefined;
}

export interface StoreStats {
  runs: Record<RunState, number>;
  requests: Record<RequestState, number>;
  /** Usage of every answer so far, by lane and tier. */
  usage: { lane: Lane; answers: number; usage: Usage }[];
  batches: Record<BatchState, number>;
}

// Lists --------------------------------------------------------------------------------------------------------------

export interface Page<T> {
  /** Up to `limit`. Fewer, or none, do not mean the end: a filter that matches little gives short pages, so that none takes long. */
  items: T[];
  /** Pass it back for the next page; absent on the last. */
  nextCursor: string | undefined;
}

export interface RunFilter {
  chain?: string;
  state?: RunState;
}
export interface RequestFilter {
  run?: string;
  batch?: string;
  state?: RequestState;
}
export interface BatchFilter {
  state?: BatchState;
  active?: boolean;
}
export interface PageOptions {
  /** Default 100, at most 1000. */
  limit?: number;
  cursor?: string;
}

export interface ChainVersions {
  chain: string;
  /** Versions that the registered code takes up. */
  versions: string[];
}

// The port -----------------------------------------------------------------------------------------------------------

export interface Store {
  /** `sqlite`, `postgres`, … */
  readonly name: string;
  /** Random, made once with the store: part of every job's display name, so that two stores never adopt each other's jobs. */
  readonly id: string;

  /** Creates or migrates the schema. Refuses a store of a newer version and one that is not ours. */
  open(): Promise<void>;
  close(): Promise<void>;

  // Workers

  /**
   * Renews this worker's lease and says which of the wanted roles it holds. A store for one machine gives a role to one worker at a
   * time; a store for many grants every one. Claims of workers whose lease ran out, or whose process is gone from
   * this host, are given up here: runs become runnable with attempts + 1 (held when that reaches `maxAttempts`), batches become claimable.
   */
  heartbeat(params: {
    worker: WorkerIdentity;
    now: number;
    leaseMs: number;
    roles: string[];
    maxAttempts: number;
  }): Promise<{ roles: string[] }>;
  /** Gives up the lease and every claim of this worker at once, attempts unchanged. */
  leave(params: { worker: string; now: number }): Promise<void>;

  // Runs

  /** Idempotent by id: present with the same fingerprint is `existing`, with another `conflict`. Outcomes in the order given. */
  startRuns(params: { now: number; runs: NewRun[] }): Promise<StartOutcome[]>;
  /** A bulk start is going on until `until`; renew or end it (`until: 0`). While one is, no lane counts as quiet. */
  holdFlush(params: { producer: string; until: number }): Promise<void>;
  /** runnable → running for up to `limit` runs of these chains, highest priority first, oldest first within it. Epoch + 1. */
  claimRuns(params: { worker: string; now: number; limit: number; chains: ChainVersions[] }): Promise<ClaimedRun[]>;
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

  /** What the flush decision looks at. */
  activity(params: { now: number; chains: ChainVersions[] }): Promise<Activity>;
  /** Every batch that has not ended: a few hundred at most. */
  activeBatches(): Promise<BatchRecord[]>;
  /**
   * Creates the batch `forming` under this worker's claim, or goes on with it, and moves up to `chunk` queued requests of the lane into it: highest
   * priority first, oldest first within it. Seals it when a limit is reached or nothing is left. One request always fits. `undefined`: nothing was queued, or
   * `maxActive` batches of the provider are active already, or another worker forms this batch; then nothing was created.
   */
  formBatch(params: {
    worker: string;
    now: number;
    batch: string;
    lane: Lane;
    limits: { requests: number; bytes: number; tokens: number };
    maxActive: number;
    chunk: number;
  }): Promise<BatchRecord | undefined>;
  /** Claims batches in these states that are due and that no live worker holds, oldest first. Epoch + 1. */
  claimBatches(params: { worker: string; now: number; providers: string[]; states: BatchState[]; limit: number }): Promise<BatchRecord[]>;
  /**
   * Applies the update if the batch is still ours (in hand, under this epoch) and may go to the new state; `false` and no change otherwise.
   * Throws for an end while members have no result: settle the remaining ones first.
   */
  updateBatch(params: { batch: string; epoch: number; now: number; update: BatchUpdate }): Promise<boolean>;
  /** Members still `batched`, in a fixed order, after `after`. */
  readMembers(params: { batch: string; after: string | undefined; limit: number }): Promise<MemberRow[]>;
  /**
   * Settles members of a batch in hand and moves its cursor, in one transaction. A row counts only if its request is `batched` in this
   * very batch with this very attempt; any other is counted (`duplicate` if it was settled by this batch before, else `unknown`) and changes nothing.
   * A run that waits becomes runnable when its request settles. Answers for a completed or cancelled run are counted as `cancelled`, their usage
   * included; a failed run keeps them for its retry. The `unknown` that is returned includes the lines passed in. `undefined`: the batch is not ours any more.
   */
  settleRows(params: {
    batch: string;
    epoch: number;
    now: number;
    rows: SettleRow[];
    /** Lines that named no member, to be counted. */
    unknown: number;
    cursor: number;
  }): Promise<{ settled: number; duplicate: number; unknown: number } | undefined>;
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
  /** Runs that can still change by themselves (not held, not ended): is there any? */
  hasLiveRuns(): Promise<boolean>;
  /**
   * Ends runs that have not ended: queued requests are withdrawn, batched ones are ignored when they come back, waiting parents are told. A running one
   * ends with the next commit of its turn, or with its worker. Returns the ids that changed.
   */
  cancelRuns(params: { now: number; ids: string[] }): Promise<string[]>;
  /**
   * held or failed → runnable, attempts 0. Every failed or withdrawn request of a failed run is queued again from its first attempt and is open in
   * the history once more; its old number stays unused. What the parent was told stands. Returns the ids that changed.
   */
  retryRuns(params: { now: number; ids: string[] }): Promise<string[]>;
}
