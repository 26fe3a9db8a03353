import { randomInt } from "node:crypto";
import { type Random, randomText } from "../../core/clock.ts";
import type { SerializedError } from "../../core/errors.ts";
import type { Lane } from "../../core/provider.ts";
import type { BatchState } from "../../core/states.ts";
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
  RequestFilter,
  RequestRecord,
  RequestResult,
  RoleWish,
  RunFilter,
  RunRecord,
  SettleRow,
  SpendRow,
  StartOutcome,
  Store,
  StoreStats,
  SweepUpdate,
  TurnCommit,
  WorkerIdentity,
} from "../../core/store.ts";
import { activity, dueLanes, promoteDue } from "./activity.ts";
import { activeBatches, claimableBatches, claimBatches, readMembers, updateBatch } from "./batches.ts";
import { Connection } from "./connection.ts";
import { Database } from "./database.ts";
import { decideDeadlines, dueDeadlines } from "./deadlines.ts";
import { notOpen } from "./errors.ts";
import { formBatch, type FormParams, moveQueued } from "./forming.ts";
import { cancelRuns, holdRuns, retryRuns } from "./operate.ts";
import { getBatch, getRequest, getRuns, hasLiveRuns, listBatches, listRequests, listRuns, stats } from "./queries.ts";
import { checkOptions, type SqliteStoreOptions } from "./options.ts";
import { removeEnded, type RemoveParams } from "./removal.ts";
import { settleRemaining, settleRows } from "./routing.ts";
import { claimRuns, fireTimers, hasDueTimers, loadHistory, runnableChains, startRuns, wakeRuns } from "./runs.ts";
import { spend } from "./spend.ts";
import { dueSweeps, hastenBatches, releaseBatches, updateSweep } from "./sweeps.ts";
import { commitTurns } from "./turns.ts";
import { heartbeat, holdFlush, leave, processExists } from "./workers.ts";

export type { SqliteStoreOptions } from "./options.ts";

const secureRandom: Random = { next: () => randomInt(2 ** 32) / 2 ** 32 };

/**
 * The store in one SQLite file, for any number of processes of one machine. Every method is one short synchronous transaction, so
 * two methods never interleave in a process; between processes SQLite's write lock keeps them apart.
 */
export class SqliteStore implements Store {
  readonly name = "sqlite";
  readonly path: string;
  readonly #options: SqliteStoreOptions;
  #database: Database | undefined;
  #id: string | undefined;

  constructor(options: SqliteStoreOptions = {}) {
    checkOptions(options);
    this.path = options.path ?? ".gembatch/gembatch.db";
    this.#options = options;
  }

  get id(): string {
    if (this.#id === undefined) throw notOpen(this.path);
    return this.#id;
  }

  async open(): Promise<void> {
    if (this.#database !== undefined) return;
    const { synchronous = "full", busyTimeoutMs = 5_000, maxBytes, random = secureRandom } = this.#options;
    const connection = await Connection.open({ path: this.path, synchronous, busyTimeoutMs, maxBytes });
    const database = new Database(connection);
    try {
      const readId = (): string | undefined =>
        database.sql(`SELECT value FROM meta WHERE key = 'id'`).get()?.["value"] as string | undefined;
      this.#id =
        (await database.read(readId)) ??
        (await database.write(() => {
          database.sql(`INSERT INTO meta (key, value) VALUES ('id', ?) ON CONFLICT (key) DO NOTHING`).run(randomText(random, 12));
          return readId();
        }));
    } catch (thrown) {
      database.close();
      throw thrown;
    }
    this.#database = database;
  }

  async close(): Promise<void> {
    this.#database?.close();
    this.#database = undefined;
  }

  /** SQL texts in use, for checks of their query plans. */
  statements(): string[] {
    return this.#db.statements();
  }

  get #db(): Database {
    if (this.#database === undefined) throw notOpen(this.path);
    return this.#database;
  }

  // Calls that most often find nothing to do read first: an idle worker never takes the write lock.

  async #write<T>(work: (db: Database) => T): Promise<T> {
    const db = this.#db;
    return db.write(() => work(db));
  }

  async #writeSoon<T>(work: (db: Database) => T): Promise<T> {
    const db = this.#db;
    return db.writeSoon(() => work(db));
  }

  async #read<T>(work: (db: Database) => T): Promise<T> {
    const db = this.#db;
    return db.read(() => work(db));
  }

  // Workers

  heartbeat(params: { worker: WorkerIdentity; now: number; leaseMs: number; roles: RoleWish[]; maxAttempts: number }): Promise<{
    roles: string[];
  }> {
    return this.#writeSoon((db) => heartbeat(db, params, this.#options.isProcessAlive ?? processExists));
  }

  leave(params: { worker: string; now: number }): Promise<void> {
    return this.#write((db) => leave(db, params));
  }

  // Runs

  startRuns(params: { now: number; runs: NewRun[] }): Promise<StartOutcome[]> {
    return this.#write((db) => startRuns(db, params));
  }

  holdFlush(params: { producer: string; until: number }): Promise<void> {
    return this.#write((db) => holdFlush(db, params));
  }

  async claimRuns(params: { worker: string; now: number; limit: number; chains: ChainVersions[] }): Promise<ClaimedRun[]> {
    if (!(await this.#read((db) => runnableChains(db, params.chains).length > 0))) return [];
    return this.#writeSoon((db) => claimRuns(db, params));
  }

  loadHistory(params: { runs: { run: string; since: number }[] }): Promise<Entry[][]> {
    return this.#read((db) => loadHistory(db, params));
  }

  commitTurns(params: { worker: string; now: number; turns: TurnCommit[] }): Promise<CommitResult[]> {
    return this.#write((db) => commitTurns(db, params));
  }

  async fireTimers(params: { now: number; limit: number }): Promise<number> {
    if (!(await this.#read((db) => hasDueTimers(db, params.now)))) return 0;
    return this.#write((db) => fireTimers(db, params));
  }

  wakeRuns(params: { now: number; runs: { run: string; epoch: number }[] }): Promise<void> {
    return this.#write((db) => wakeRuns(db, params));
  }

  // Batches

  async activity(params: { now: number; chains: ChainVersions[] }): Promise<Activity> {
    const due = await this.#read((db) => dueLanes(db, params.now).length > 0);
    if (due) await this.#writeSoon((db) => promoteDue(db, params.now));
    return this.#read((db) => activity(db, params));
  }

  activeBatches(): Promise<BatchRecord[]> {
    return this.#read(activeBatches);
  }

  formBatch(params: FormParams): Promise<BatchRecord | undefined> {
    return this.#writeSoon((db) => formBatch(db, params));
  }

  moveQueued(params: { now: number; from: Lane; to: Lane; limit: number; reason: string }): Promise<number> {
    return this.#writeSoon((db) => moveQueued(db, params));
  }

  dueDeadlines(params: { now: number; limit: number }): Promise<DeadlineItem[]> {
    return this.#read((db) => dueDeadlines(db, params));
  }

  decideDeadlines(params: { now: number; decisions: DeadlineDecision[] }): Promise<number> {
    return this.#write((db) => decideDeadlines(db, params));
  }

  async claimBatches(params: {
    worker: string;
    now: number;
    providers: string[];
    states: BatchState[];
    limit: number;
  }): Promise<BatchRecord[]> {
    if (!(await this.#read((db) => claimableBatches(db, params).length > 0))) return [];
    return this.#write((db) => claimBatches(db, params));
  }

  updateBatch(params: { batch: string; epoch: number; now: number; update: BatchUpdate }): Promise<boolean> {
    return this.#write((db) => updateBatch(db, params));
  }

  dueSweeps(params: { now: number; providers: string[]; limit: number }): Promise<BatchRecord[]> {
    return this.#read((db) => dueSweeps(db, params));
  }

  updateSweep(params: { batch: string; update: SweepUpdate }): Promise<void> {
    return this.#write((db) => updateSweep(db, params));
  }

  hastenBatches(params: { now: number; providers: string[] }): Promise<number> {
    return this.#writeSoon((db) => hastenBatches(db, params));
  }

  readMembers(params: { batch: string; after: string | undefined; limit: number }): Promise<MemberRow[]> {
    return this.#read((db) => readMembers(db, params));
  }

  settleRows(params: {
    batch: string;
    epoch: number;
    now: number;
    rows: SettleRow[];
    unknown: number;
    cursor: number;
  }): Promise<{ settled: number; duplicate: number; unknown: number } | undefined> {
    return this.#write((db) => settleRows(db, params));
  }

  settleRemaining(params: {
    batch: string;
    epoch: number;
    now: number;
    limit: number;
    result: Exclude<RequestResult, { type: "succeeded" }> | { type: "release"; availableAt: number };
  }): Promise<number | undefined> {
    return this.#write((db) => settleRemaining(db, params));
  }

  // Looking and operating

  getRuns(params: { ids: string[] }): Promise<(RunRecord | undefined)[]> {
    return this.#read((db) => getRuns(db, params));
  }

  listRuns(params: RunFilter & PageOptions): Promise<Page<RunRecord>> {
    return this.#read((db) => listRuns(db, params));
  }

  getRequest(params: { id: string }): Promise<RequestRecord | undefined> {
    return this.#read((db) => getRequest(db, params));
  }

  listRequests(params: RequestFilter & PageOptions): Promise<Page<RequestRecord>> {
    return this.#read((db) => listRequests(db, params));
  }

  getBatch(params: { id: string }): Promise<BatchRecord | undefined> {
    return this.#read((db) => getBatch(db, params));
  }

  listBatches(params: BatchFilter & PageOptions): Promise<Page<BatchRecord>> {
    return this.#read((db) => listBatches(db, params));
  }

  stats(): Promise<StoreStats> {
    return this.#read(stats);
  }

  hasLiveRuns(): Promise<boolean> {
    return this.#read(hasLiveRuns);
  }

  spend(params: { since?: string; until?: string }): Promise<SpendRow[]> {
    return this.#read((db) => spend(db, params));
  }

  cancelRuns(params: { now: number; ids: string[]; tree?: boolean }): Promise<string[]> {
    return this.#write((db) => cancelRuns(db, params));
  }

  retryRuns(params: { now: number; ids: string[]; afresh?: boolean }): Promise<string[]> {
    return this.#write((db) => retryRuns(db, params));
  }

  holdRuns(params: { now: number; ids: string[]; error: SerializedError }): Promise<string[]> {
    return this.#write((db) => holdRuns(db, params));
  }

  releaseBatches(params: { now: number; ids: string[] }): Promise<string[]> {
    return this.#write((db) => releaseBatches(db, params));
  }

  removeEnded(params: RemoveParams): ReturnType<Store["removeEnded"]> {
    return this.#writeSoon((db) => removeEnded(db, params));
  }
}

/** A store in one file; nothing is touched before `open`. */
export function sqliteStore(options: SqliteStoreOptions | string = {}): SqliteStore {
  return new SqliteStore(typeof options === "string" ? { path: options } : options);
}
