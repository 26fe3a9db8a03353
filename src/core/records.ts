/**
 * What the store port keeps, is told and says: workers, runs, history entries, requests, batches, and the pages and figures of them.
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
  /** Key of the new request that this turn, kept in memory, waits for alone: the worker wants to know its id. */
  awaits?: string;
}

/**
 * `lost`: the claim was no longer ours, nothing changed. Otherwise the state that the run is in now and its `seq`. `request`: the id of the request that the turn `awaits`, for a run that is `waiting`; a store that
 * resumes nothing (`settleRows`) need not tell.
 */
export type CommitResult = { state: "lost" } | { state: RunState; seq: number; request?: string };

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
  /** The worker that settles it keeps the turn of this epoch in memory, which waits for this request alone. */
  keptEpoch?: number;
}

/** A run that went from its answer straight into the hand of the worker that keeps its turn. */
export interface ResumedRun {
  /** Index of the row that settled its request: an output may name one more than once. */
  row: number;
  epoch: number;
  seq: number;
  usd: number;
  reservedUsd: number;
}

/** `resumed`: absent if there is none. */
export interface SettledRows {
  settled: number;
  duplicate: number;
  unknown: number;
  resumed?: ResumedRun[];
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

/** When the next thing is due that no batch carries. */
export interface Timers {
  /** When the next sleep ends or the next turn is retried. */
  nextTimerAt: number | undefined;
  /** When the next request with a deadline is to be looked at. */
  nextDeadlineAt: number | undefined;
}

/** What the flush decision needs; its cost does not depend on how many runs wait. */
export interface Activity extends Timers {
  lanes: LaneActivity[];
  /** Runs that a registered chain could take up now (any chain, if nothing is registered here, counts too). */
  runnable: boolean;
  /** Runs whose claim is alive. */
  running: boolean;
  /** Batches whose answers are being routed, or wait to be. */
  routing: boolean;
  /** Bulk starts in progress. */
  producers: boolean;
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

/** What one call of `removeEnded` removed: counts, and references as they were stored. */
export interface Removed {
  runs: number;
  histories: number;
  batches: number;
  more: boolean;
  references: string[];
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
