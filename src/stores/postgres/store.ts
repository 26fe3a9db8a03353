import { notOpen } from "../store-errors.ts";
import type {
  Activity,
  BatchRecord,
  ClaimedRun,
  CommitResult,
  DeadlineItem,
  Entry,
  MemberRow,
  Page,
  Removed,
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
import { RUN } from "../codes.ts";
import { processExists } from "../processes.ts";
import { activity, nextTimers, promoteDue } from "./activity.ts";
import { activeBatches, claimBatches, hasClaimable, readMembers, updateBatch } from "./batches.ts";
import { Connection } from "./connection.ts";
import type { Sql } from "./session.ts";
import { decideDeadlines, dueDeadlines } from "./deadlines.ts";
import { formBatch, moveQueued } from "./forming.ts";
import { Hints } from "./hints.ts";
import { SLOTS } from "./migrations.ts";
import { Names, TransactionNames } from "./names.ts";
import { cancelRuns, holdRuns, retryRuns } from "./operate.ts";
import { type PostgresStoreOptions, resolveOptions, type Settings } from "./options.ts";
import { makePool } from "./pool.ts";
import { getBatch, getRequest, getRuns, hasLiveRuns, listBatches, listRequests, listRuns, stats } from "./queries.ts";
import { type Places, removeEnded } from "./removal.ts";
import { settleRemaining, settleRows } from "./routing.ts";
import { claimRuns, fireTimers, hasDueTimers, loadHistory, runnableChains, startRuns, wakeRuns } from "./runs.ts";
import { openSchema } from "./schema.ts";
import { spend } from "./spend.ts";
import { Statistics } from "./statistics.ts";
import { dueSweeps, hastenBatches, releaseBatches, updateSweep } from "./sweeps.ts";
import { BATCHES, REQUESTS, RUNS } from "../counts.ts";
import { commitTurns } from "./turns.ts";
import { type AnswerNumbers, Unit } from "./unit.ts";
import { giveUp, holdFlush, leave, renew, takeRoles } from "./workers.ts";

export type { PgClient, PgPool, PgQuery, PgResult, PostgresStoreOptions } from "./options.ts";

/** What is open between `open` and `close`. */
interface Opened {
  connection: Connection;
  id: string;
  hints: Hints;
  statistics: Statistics;
  /** Ends the pool, if it is our own. */
  end: () => Promise<void>;
}

/** With more chains than this, a claim looks first which of them have something to do. */
const FEW_CHAINS = 20;

/**
 * The store in a schema of a Postgres database, for any number of workers on any number of machines. Every method is one transaction at READ COMMITTED: rows are locked by primary
 * key in a fixed order (batches, runs, entries), looked at, changed in memory and written back set by set; two that still get into each other's way are tried again.
 */
export class PostgresStore implements Store {
  readonly name = "postgres";
  /** For people: where it is, without a password. */
  readonly place: string;
  readonly #settings: Settings;
  readonly #names = new Names();
  readonly #numbers: AnswerNumbers = { next: 0, end: 0 };
  #places: Places = new Map();
  /** Whether the last claim found something: then the next one does not look before, for it will mostly find something, too. */
  #claims = false;
  #claimsBatches = false;
  #opened: Opened | undefined;
  #opening: Promise<void> | undefined;

  constructor(options: PostgresStoreOptions | string) {
    this.#settings = resolveOptions(options);
    this.place = this.#settings.place;
  }

  get id(): string {
    return this.#db.id;
  }

  async open(): Promise<void> {
    if (this.#opened !== undefined) return;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    await this.#opening;
  }

  async #open(): Promise<void> {
    const { pool, end } = await makePool(this.#settings);
    const connection = new Connection(pool, this.#settings);
    try {
      const id = await openSchema(connection);
      this.#opened = { connection, id, hints: new Hints(connection), statistics: new Statistics(connection), end };
    } catch (thrown) {
      await end();
      throw thrown;
    }
  }

  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    const opened = this.#opened;
    this.#opened = undefined;
    if (opened === undefined) return;
    await opened.hints.close();
    await opened.statistics.close();
    await opened.end();
  }

  onHint(listener: () => void): () => void {
    // A pool of one connection has none to listen on.
    if (!this.#settings.notify || this.#settings.pool?.options?.max === 1) return () => undefined;
    return this.#db.hints.listen(listener);
  }

  /** Whether hints come through; `undefined` as long as nobody has listened for them. */
  get hintsWork(): boolean | undefined {
    return this.#opened?.hints.works;
  }

  /** SQL texts in use, for checks of their query plans. */
  statements(): string[] {
    return this.#db.connection.statements();
  }

  get #db(): Opened {
    if (this.#opened === undefined) throw notOpen(this.place);
    return this.#opened;
  }

  /** One transaction; counters are written at its end, names are kept when it has committed. */
  async #write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    const { connection, hints, statistics } = this.#db;
    let done: Unit | undefined;
    const result = await connection.write(async (sql) => {
      const unit = new Unit(sql, this.#names, this.#numbers);
      const value = await work(unit);
      await unit.flush();
      await unit.tallies.flush(sql, Math.floor(this.#settings.random.next() * SLOTS));
      done = unit;
      return value;
    });
    if (done !== undefined) {
      done.names.commit();
      if (this.#settings.notify && isNews(done)) hints.send();
      statistics.grew(done.runs.count + done.entries.count);
    }
    return result;
  }

  /** Statements of which each is right by itself. */
  async #read<T>(work: (sql: Sql, names: TransactionNames) => Promise<T>): Promise<T> {
    return this.#db.connection.look(async (sql) => this.#named(sql, work));
  }

  /** Statements that belong together. */
  async #snapshot<T>(work: (sql: Sql, names: TransactionNames) => Promise<T>): Promise<T> {
    return this.#db.connection.read(async (sql) => this.#named(sql, work));
  }

  async #named<T>(sql: Sql, work: (sql: Sql, names: TransactionNames) => Promise<T>): Promise<T> {
    const names = new TransactionNames(this.#names, sql);
    const result = await work(sql, names);
    names.commit();
    return result;
  }

  /** What leases are compared with: the database's time, so that no worker's wrong clock ends the lease of another. */
  async #leaseNow(sql: Sql, now: number): Promise<number> {
    if (!this.#settings.databaseTime) return now;
    const [row] = await sql.rows<[number]>(`SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8`);
    return row?.[0] ?? now;
  }

  /** The same for statements that ask the database themselves. */
  #leaseParameter(now: number): number | null {
    return this.#settings.databaseTime ? null : now;
  }

  // Workers

  async heartbeat(params: StoreParams<"heartbeat">): Promise<{ roles: string[]; time?: number }> {
    const isAlive = this.#settings.isProcessAlive ?? processExists;
    const { dead, leaseNow } = await this.#write(async (unit) => {
      const time = await this.#leaseNow(unit.sql, params.now);
      return { dead: await renew(unit, params, time, isAlive), leaseNow: time };
    });
    // Each by itself: what one of them held may be much, and is locked.
    for (const { no, leaseUntil } of dead) {
      await this.#write(async (unit) => giveUp(unit, { no, leaseUntil }, params.now, params.maxAttempts));
    }
    const roles = await this.#write(async (unit) => takeRoles(unit, params.worker.id, params.roles));
    return { roles, ...(this.#settings.databaseTime ? { time: leaseNow } : {}) };
  }

  leave(params: StoreParams<"leave">): Promise<void> {
    return this.#write(async (unit) => leave(unit, params));
  }

  // Runs

  startRuns(params: StoreParams<"startRuns">): Promise<StartOutcome[]> {
    return this.#write(async (unit) => startRuns(unit, params));
  }

  holdFlush(params: StoreParams<"holdFlush">): Promise<void> {
    return this.#write(async (unit) => holdFlush(unit, params));
  }

  async claimRuns(params: StoreParams<"claimRuns">): Promise<ClaimedRun[]> {
    if (params.limit <= 0) return [];
    const { own = false } = params;
    if (!this.#claims || params.chains.length > FEW_CHAINS) {
      const chains = await this.#read(async (sql, names) => runnableChains(sql, await names.chainNos(params.chains)));
      this.#claims = chains.length > 0;
      if (!this.#claims) return [];
      return this.#write(async (unit) => claimRuns(unit, { ...params, chains, own }));
    }
    const runs = await this.#write(async (unit) => claimRuns(unit, { ...params, chains: await unit.names.chainNos(params.chains), own }));
    this.#claims = runs.length > 0;
    return runs;
  }

  loadHistory(params: StoreParams<"loadHistory">): Promise<Entry[][]> {
    return this.#snapshot(async (sql, names) => loadHistory(sql, names, params));
  }

  commitTurns(params: StoreParams<"commitTurns">): Promise<CommitResult[]> {
    return this.#write(async (unit) => commitTurns(unit, params));
  }

  async fireTimers(params: StoreParams<"fireTimers">): Promise<number> {
    if (!(await this.#read(async (sql) => hasDueTimers(sql, params.now)))) return 0;
    return this.#write(async (unit) => fireTimers(unit, params));
  }

  wakeRuns(params: StoreParams<"wakeRuns">): Promise<void> {
    return this.#write(async (unit) => wakeRuns(unit, params));
  }

  // Batches

  nextTimers(): Promise<Timers> {
    return this.#read(nextTimers);
  }

  async activity(params: StoreParams<"activity">): Promise<Activity> {
    const { now } = params;
    const look = async () =>
      this.#read(async (sql, names) => {
        const chains = params.chains.length === 0 ? undefined : await names.chainNos(params.chains);
        return activity(sql, names, { now, leaseNow: this.#leaseParameter(now), chains });
      });
    const found = await look();
    if (found.due.length === 0) return found.activity;
    await this.#write(async (unit) => promoteDue(unit, now, found.due));
    return (await look()).activity;
  }

  activeBatches(): Promise<BatchRecord[]> {
    return this.#read(activeBatches);
  }

  formBatch(params: StoreParams<"formBatch">): Promise<BatchRecord | undefined> {
    return this.#write(async (unit) => formBatch(unit, params, async (sql, now) => this.#leaseNow(sql, now)));
  }

  moveQueued(params: StoreParams<"moveQueued">): Promise<number> {
    return this.#write(async (unit) => moveQueued(unit, params));
  }

  dueDeadlines(params: StoreParams<"dueDeadlines">): Promise<DeadlineItem[]> {
    return this.#read(async (sql, names) => dueDeadlines(sql, names, params));
  }

  decideDeadlines(params: StoreParams<"decideDeadlines">): Promise<number> {
    return this.#write(async (unit) => decideDeadlines(unit, params));
  }

  async claimBatches(params: StoreParams<"claimBatches">): Promise<BatchRecord[]> {
    const leaseNow = this.#leaseParameter(params.now);
    if (!this.#claimsBatches && !(await this.#read(async (sql) => hasClaimable(sql, params, leaseNow)))) return [];
    const batches = await this.#write(async (unit) => claimBatches(unit, params, leaseNow));
    this.#claimsBatches = batches.length > 0;
    return batches;
  }

  updateBatch(params: StoreParams<"updateBatch">): Promise<boolean> {
    return this.#write(async (unit) => updateBatch(unit, params));
  }

  dueSweeps(params: StoreParams<"dueSweeps">): Promise<BatchRecord[]> {
    return this.#read(async (sql, names) => dueSweeps(sql, names, params));
  }

  updateSweep(params: StoreParams<"updateSweep">): Promise<void> {
    return this.#write(async (unit) => updateSweep(unit, params));
  }

  hastenBatches(params: StoreParams<"hastenBatches">): Promise<number> {
    return this.#write(async (unit) => hastenBatches(unit, params, await this.#leaseNow(unit.sql, params.now)));
  }

  readMembers(params: StoreParams<"readMembers">): Promise<MemberRow[]> {
    return this.#snapshot(async (sql) => readMembers(sql, params));
  }

  settleRows(params: StoreParams<"settleRows">): Promise<SettledRows | undefined> {
    return this.#write(async (unit) => settleRows(unit, params));
  }

  settleRemaining(params: StoreParams<"settleRemaining">): Promise<number | undefined> {
    return this.#write(async (unit) => settleRemaining(unit, params));
  }

  // Looking and operating

  getRuns(params: StoreParams<"getRuns">): Promise<(RunRecord | undefined)[]> {
    return this.#read(async (sql, names) => getRuns(sql, names, params));
  }

  listRuns(params: StoreParams<"listRuns">): Promise<Page<RunRecord>> {
    return this.#snapshot(async (sql, names) => listRuns(sql, names, params));
  }

  getRequest(params: StoreParams<"getRequest">): Promise<RequestRecord | undefined> {
    return this.#read(async (sql, names) => getRequest(sql, names, params));
  }

  listRequests(params: StoreParams<"listRequests">): Promise<Page<RequestRecord>> {
    return this.#snapshot(async (sql, names) => listRequests(sql, names, params));
  }

  getBatch(params: StoreParams<"getBatch">): Promise<BatchRecord | undefined> {
    return this.#read(async (sql, names) => getBatch(sql, names, params));
  }

  listBatches(params: StoreParams<"listBatches">): Promise<Page<BatchRecord>> {
    return this.#snapshot(async (sql, names) => listBatches(sql, names, params));
  }

  stats(): Promise<StoreStats> {
    return this.#snapshot(stats);
  }

  hasLiveRuns(): Promise<boolean> {
    return this.#read(hasLiveRuns);
  }

  spend(params: StoreParams<"spend">): Promise<SpendRow[]> {
    return this.#read(async (sql, names) => spend(sql, names, params));
  }

  cancelRuns(params: StoreParams<"cancelRuns">): Promise<string[]> {
    return this.#write(async (unit) => cancelRuns(unit, params));
  }

  retryRuns(params: StoreParams<"retryRuns">): Promise<string[]> {
    return this.#write(async (unit) => retryRuns(unit, params));
  }

  holdRuns(params: StoreParams<"holdRuns">): Promise<string[]> {
    return this.#write(async (unit) => holdRuns(unit, params));
  }

  releaseBatches(params: StoreParams<"releaseBatches">): Promise<string[]> {
    return this.#write(async (unit) => releaseBatches(unit, params));
  }

  async removeEnded(params: StoreParams<"removeEnded">): Promise<Removed> {
    // A copy for each try: what was undone has not moved on.
    const { removed, places } = await this.#write(async (unit) => {
      const places: Places = new Map(this.#places);
      return { removed: await removeEnded(unit, params, places), places };
    });
    this.#places = places;
    return removed;
  }
}

/** Whether a worker elsewhere could have something to do now that it had not before. */
function isNews({ tallies }: Unit): boolean {
  return tallies.grew(RUNS + RUN.runnable) || tallies.grew(REQUESTS + 1) || [1, 3, 4].some((state) => tallies.grew(BATCHES + state));
}

/** A store in a Postgres database; nothing is connected before `open`. */
export function postgresStore(options: PostgresStoreOptions | string): PostgresStore {
  return new PostgresStore(options);
}
