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
import type { Cost } from "./pricing.ts";
import type { JobState, Lane, StagedInput } from "./provider.ts";
import type { BatchState, RequestState, RunState } from "./states.ts";
import type { LaneTier } from "./tiers.ts";
import type { Usage } from "./usage.ts";

// Workers ------------------------------------------------------------------------------------------------------------

/** Something that a worker may be given to do for the others. `exclusive`: by one worker at a time, in every store. */
export interface RoleWish {
  name: string;
  exclusive: boolean;
}

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
  /** When its answers are wanted; a target, inherited by its requests and child runs. */
  deadlineAt?: number;
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
  deadlineAt: number | undefined;
  /** What its answers cost so far, and the estimates of its requests that are open. USD. */
  usd: number;
  reservedUsd: number;
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

export interface NewRequest {
  lane: Lane;
  /** REST JSON text. */
  body: string;
  bytes: number;
  /** Estimated input tokens. */
  tokens: number;
  /** Estimated cost at the batch tier; absent if the model's price is unknown. */
  usd?: number;
  priority: number;
  maxAttempts: number;
  /** When the answer is wanted. */
  deadlineAt?: number;
  /**
   * Requests of any run with this key share one answer: a fresh one that is stored settles the entry at once (which wakes the run: its turn did not know); an open one
   * is waited for; otherwise this request is asked, and its success is kept for `ttlMs` from then.
   */
  cache?: { key: string; ttlMs: number };
}

export interface NewEntry {
  key: string;
  kind: EntryKind;
  fingerprint: string;
  /** `request`: what to send. */
  request?: NewRequest;
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
  /** The run that started this one, waiting for it or not. */
  starter: string | undefined;
  attempts: number;
  priority: number;
  deadlineAt: number | undefined;
  /** What its answers cost so far. */
  cost: Spent;
  createdAt: number;
  endedAt: number | undefined;
}

/** Money of several answers. Those of models without a price are only counted: unknown is never 0. */
export interface Spent extends Cost {
  /** Answers whose price is unknown. */
  unpriced: number;
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
  deadlineAt: number | undefined;
  /** Why it is in this lane's tier, if somebody decided so: `auto`, a deadline, a shed call. */
  tierReason: string | undefined;
  /** All answers to it, those of earlier attempts included. A shared answer costs nothing. */
  cost: Spent;
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

/** Usage without `cost` is an answer of a model whose price is unknown. */
export type RequestResult =
  | { type: "succeeded"; value: string; usage: Usage; cost?: Cost }
  | { type: "failed"; error: SerializedError; usage?: Usage; cost?: Cost }
  /**
   * Back to the queue with attempt + 1. A request without an attempt left (`attempt >= maxAttempts`, the first attempt is 1) fails with this error
   * instead.
   */
  | {
      type: "retry";
      availableAt: number;
      error: SerializedError;
      /** Tries after the first that this class of trouble is worth: none is left either when `attempt > retries`. */
      retries?: number;
      usage?: Usage;
      cost?: Cost;
      /** Delivered instead of the error when no attempt is left. */
      value?: string;
      /** The job failed as a whole with this request in it: counted, and after two such jobs it travels apart (`isolationSize` of core). */
      jobFailed?: boolean;
    }
  /** Into the queue of the same lane at another tier, attempt + 1 whatever `maxAttempts` says. */
  | { type: "move"; tier: LaneTier; reason: string; availableAt: number };

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
  /** Estimated cost of its requests at the batch tier; unknown prices count as 0 here. */
  usd: number;
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
  /** Nothing is sent again before an operator says so (`onAmbiguous: "hold"`); its job is still looked for. */
  held: boolean;
  job: string | undefined;
  /** How the job ended, once it has. */
  jobState: JobState | undefined;
  rawStatus: string | undefined;
  launchedAt: number | undefined;
  /** When we asked for the job's end, because it was stuck. */
  cancelledAt: number | undefined;
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
  /** When what it left at the provider is looked after next: duplicates of its job, its job and its input. */
  sweepAt: number | undefined;
  /** Names of jobs with its token that are not its own: cancelled, never delivered. */
  duplicateJobs: string[];
  /** When its job and input were removed at the provider. */
  cleanedAt: number | undefined;
  cost: Spent;
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
  held?: boolean;
  job?: string;
  jobState?: JobState;
  rawStatus?: string;
  launchedAt?: number;
  cancelledAt?: number;
  finishedAt?: number;
  output?: string;
  failures?: number;
  endedAt?: number;
  error?: SerializedError;
  sweepAt?: number;
  release?: boolean;
}

/** What looking after a batch changes, whatever its state and whoever holds it. */
export interface SweepUpdate {
  /** `null`: nothing is left to look after. */
  sweepAt: number | null;
  /** Added to the names that are known. */
  duplicateJobs?: string[];
  cleanedAt?: number;
}

// What is going on ---------------------------------------------------------------------------------------------------

/** A lane with something in its queue. Figures cover requests that may be sent now; delayed retries only show in `nextAt`. */
export interface LaneActivity {
  lane: Lane;
  queued: number;
  bytes: number;
  tokens: number;
  /** Estimated cost at the batch tier. */
  usd: number;
  /** Requests among `queued` without an estimate: the model's price is unknown. */
  unpriced: number;
  /** Requests that travel apart after two failed jobs; not among `queued`. */
  isolated: number;
  /** The highest priority in the queue. */
  priority: number;
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
  /** When the next request with a deadline is to be looked at. */
  nextDeadlineAt: number | undefined;
}

/** An open request with a deadline, queued or in a batch. */
export interface DeadlineItem {
  id: string;
  lane: Lane;
  deadlineAt: number;
  /** Its batch and attempt, when it is in one. */
  batch: string | undefined;
  attempt: number;
}

/** What is done about it. */
export interface DeadlineDecision {
  id: string;
  /** The lane, batch and attempt that the decision was made for; if the request has moved on, nothing changes. */
  lane: Lane;
  batch: string | undefined;
  attempt: number;
  /** Look again then; `undefined`: never. */
  checkAt: number | undefined;
  /** Take it out of its queue, or give up on its row of the job (that row is ignored when it comes, but its cost is counted), and queue it at this tier with attempt + 1. */
  move?: { tier: LaneTier; reason: string };
}

export interface StoreStats {
  runs: Record<RunState, number>;
  requests: Record<RequestState, number>;
  /** Usage of every answer so far, by lane and tier. */
  usage: { lane: Lane; answers: number; usage: Usage }[];
  batches: Record<BatchState, number>;
  /** Jobs that turned out to be duplicates. */
  duplicateJobs: number;
}

/** What the answers of one day (UTC, `YYYY-MM-DD`), chain and lane used and cost. */
export interface SpendRow extends Spent {
  day: string;
  chain: string;
  lane: Lane;
  answers: number;
  usage: Usage;
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
  /** Code of its error. */
  error?: string;
  /** Runs that this run started, itself not included. */
  starter?: string;
  createdBefore?: number;
  createdAfter?: number;
}
export interface RequestFilter {
  run?: string;
  batch?: string;
  state?: RequestState;
}
export interface BatchFilter {
  state?: BatchState;
  active?: boolean;
  lane?: Lane;
  held?: boolean;
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
  }): Promise<{ runs: number; histories: number; batches: number; more: boolean; references: string[] }>;
}
