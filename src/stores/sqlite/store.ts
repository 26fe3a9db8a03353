import { notOpen } from "../store-errors.ts";
import { randomInt } from "node:crypto";
import { type Random, randomText } from "../../core/clock.ts";
import type {
  Activity,
  BatchRecord,
  ClaimedRun,
  CommitResult,
  DeadlineItem,
  Entry,
  MemberRow,
  Page,
  RequestRecord,
  RunRecord,
  SettledRows,
  SpendRow,
  StartOutcome,
  Store,
  StoreParams,
  StoreStats,
  Timers,
} from "../../core/store.ts";
import { processExists } from "../processes.ts";
import { activity, dueLanes, nextTimers, promoteDue } from "./activity.ts";
import { activeBatches, claimableBatches, claimBatches, readMembers, updateBatch } from "./batches.ts";
import { Connection } from "./connection.ts";
import { Database } from "./database.ts";
import { decideDeadlines, dueDeadlines } from "./deadlines.ts";
import { formBatch, moveQueued } from "./forming.ts";
import { cancelRuns, holdRuns, retryRuns } from "./operate.ts";
import { getBatch, getRequest, getRuns, hasLiveRuns, listBatches, listRequests, listRuns, stats } from "./queries.ts";
import { checkOptions, type SqliteStoreOptions } from "./options.ts";
import { removeEnded } from "./removal.ts";
import { settleRemaining, settleRows } from "./routing.ts";
import { claimRuns, fireTimers, hasDueTimers, loadHistory, runnableChains, startRuns, wakeRuns } from "./runs.ts";
import { spend } from "./spend.ts";
import { dueSweeps, hastenBatches, releaseBatches, updateSweep } from "./sweeps.ts";
import { commitTurns } from "./turns.ts";
import { heartbeat, holdFlush, leave } from "./workers.ts";

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

  heartbeat(params: StoreParams<"heartbeat">): Promise<{
    roles: string[];
  }> {
    return this.#writeSoon((db) => heartbeat(db, params, this.#options.isProcessAlive ?? processExists));
  }

  leave(params: StoreParams<"leave">): Promise<void> {
    return this.#write((db) => leave(db, params));
  }

  // Runs

  startRuns(params: StoreParams<"startRuns">): Promise<StartOutcome[]> {
    return this.#write((db) => startRuns(db, params));
  }

  holdFlush(params: StoreParams<"holdFlush">): Promise<void> {
    return this.#write((db) => holdFlush(db, params));
  }

  async claimRuns(params: StoreParams<"claimRuns">): Promise<ClaimedRun[]> {
    if (!(await this.#read((db) => runnableChains(db, params.chains).length > 0))) return [];
    return this.#writeSoon((db) => claimRuns(db, params));
  }

  loadHistory(params: StoreParams<"loadHistory">): Promise<Entry[][]> {
    return this.#read((db) => loadHistory(db, params));
  }

  commitTurns(params: StoreParams<"commitTurns">): Promise<CommitResult[]> {
    return this.#write((db) => commitTurns(db, params));
  }

  async fireTimers(params: StoreParams<"fireTimers">): Promise<number> {
    if (!(await this.#read((db) => hasDueTimers(db, params.now)))) return 0;
    return this.#write((db) => fireTimers(db, params));
  }

  wakeRuns(params: StoreParams<"wakeRuns">): Promise<void> {
    return this.#write((db) => wakeRuns(db, params));
  }

  // Batches

  nextTimers(): Promise<Timers> {
    return this.#read(nextTimers);
  }

  async activity(params: StoreParams<"activity">): Promise<Activity> {
    const due = await this.#read((db) => dueLanes(db, params.now).length > 0);
    if (due) await this.#writeSoon((db) => promoteDue(db, params.now));
    return this.#read((db) => activity(db, params));
  }

  activeBatches(): Promise<BatchRecord[]> {
    return this.#read(activeBatches);
  }

  formBatch(params: StoreParams<"formBatch">): Promise<BatchRecord | undefined> {
    return this.#writeSoon((db) => formBatch(db, params));
  }

  moveQueued(params: StoreParams<"moveQueued">): Promise<number> {
    return this.#writeSoon((db) => moveQueued(db, params));
  }

  dueDeadlines(params: StoreParams<"dueDeadlines">): Promise<DeadlineItem[]> {
    return this.#read((db) => dueDeadlines(db, params));
  }

  decideDeadlines(params: StoreParams<"decideDeadlines">): Promise<number> {
    return this.#write((db) => decideDeadlines(db, params));
  }

  async claimBatches(params: StoreParams<"claimBatches">): Promise<BatchRecord[]> {
    if (!(await this.#read((db) => claimableBatches(db, params).length > 0))) return [];
    return this.#write((db) => claimBatches(db, params));
  }

  updateBatch(params: StoreParams<"updateBatch">): Promise<boolean> {
    return this.#write((db) => updateBatch(db, params));
  }

  dueSweeps(params: StoreParams<"dueSweeps">): Promise<BatchRecord[]> {
    return this.#read((db) => dueSweeps(db, params));
  }

  updateSweep(params: StoreParams<"updateSweep">): Promise<void> {
    return this.#write((db) => updateSweep(db, params));
  }

  hastenBatches(params: StoreParams<"hastenBatches">): Promise<number> {
    return this.#writeSoon((db) => hastenBatches(db, params));
  }

  readMembers(params: StoreParams<"readMembers">): Promise<MemberRow[]> {
    return this.#read((db) => readMembers(db, params));
  }

  settleRows(params: StoreParams<"settleRows">): Promise<SettledRows | undefined> {
    return this.#write((db) => settleRows(db, params));
  }

  settleRemaining(params: StoreParams<"settleRemaining">): Promise<number | undefined> {
    return this.#write((db) => settleRemaining(db, params));
  }

  // Looking and operating

  getRuns(params: StoreParams<"getRuns">): Promise<(RunRecord | undefined)[]> {
    return this.#read((db) => getRuns(db, params));
  }

  listRuns(params: StoreParams<"listRuns">): Promise<Page<RunRecord>> {
    return this.#read((db) => listRuns(db, params));
  }

  getRequest(params: StoreParams<"getRequest">): Promise<RequestRecord | undefined> {
    return this.#read((db) => getRequest(db, params));
  }

  listRequests(params: StoreParams<"listRequests">): Promise<Page<RequestRecord>> {
    return this.#read((db) => listRequests(db, params));
  }

  getBatch(params: StoreParams<"getBatch">): Promise<BatchRecord | undefined> {
    return this.#read((db) => getBatch(db, params));
  }

  listBatches(params: StoreParams<"listBatches">): Promise<Page<BatchRecord>> {
    return this.#read((db) => listBatches(db, params));
  }

  stats(): Promise<StoreStats> {
    return this.#read(stats);
  }

  hasLiveRuns(): Promise<boolean> {
    return this.#read(hasLiveRuns);
  }

  spend(params: StoreParams<"spend">): Promise<SpendRow[]> {
    return this.#read((db) => spend(db, params));
  }

  cancelRuns(params: StoreParams<"cancelRuns">): Promise<string[]> {
    return this.#write((db) => cancelRuns(db, params));
  }

  retryRuns(params: StoreParams<"retryRuns">): Promise<string[]> {
    return this.#write((db) => retryRuns(db, params));
  }

  holdRuns(params: StoreParams<"holdRuns">): Promise<string[]> {
    return this.#write((db) => holdRuns(db, params));
  }

  releaseBatches(params: StoreParams<"releaseBatches">): Promise<string[]> {
    return this.#write((db) => releaseBatches(db, params));
  }

  removeEnded(params: StoreParams<"removeEnded">): ReturnType<Store["removeEnded"]> {
    return this.#writeSoon((db) => removeEnded(db, params));
  }
}

/** A store in one file; nothing is touched before `open`. */
export function sqliteStore(options: SqliteStoreOptions | string = {}): SqliteStore {
  return new SqliteStore(typeof options === "string" ? { path: options } : options);
}
