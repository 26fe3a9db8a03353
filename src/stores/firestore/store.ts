import { inDoubt, notOpen } from "../store-errors.ts";
import type {
  Activity,
  BatchRecord,
  ClaimedRun,
  CommitResult,
  DeadlineItem,
  Entry,
  MemberRow,
  NewRun,
  Page,
  RequestRecord,
  ResumedRun,
  RunRecord,
  SettledRows,
  SpendRow,
  StartOutcome,
  Store,
  StoreParams,
  StoreStats,
  Timers,
  TurnCommit,
} from "../../core/store.ts";
import { processExists } from "../processes.ts";
import { activity, nextTimers } from "./activity.ts";
import { claimBatches, findDue, readActive, readLeases, readMembers, toRecord, updateBatch } from "./batches.ts";
import { makeClient } from "./client.ts";
import { Database } from "./database.ts";
import { decideDeadlines, dueDeadlines } from "./deadlines.ts";
import { stageTurn } from "./drafts.ts";
import { isInDoubt, tooMuch } from "./errors.ts";
import { formBatch, FORM_CHUNK, moveQueued } from "./forming.ts";
import { cancelRuns, holdRuns, retryRuns, withStarted } from "./operate.ts";
import { type FirestoreStoreOptions, resolveOptions, type Settings } from "./options.ts";
import { inParts, WRITES } from "./parts.ts";
import { getBatch, getRequest, getRuns, hasLiveRuns, listBatches, listRequests, listRuns, spend, stats } from "./queries.ts";
import { type Places, removeEnded } from "./removal.ts";
import { SETTLE_CHUNK, settleRemaining, settleRows } from "./routing.ts";
import { workerKey } from "./rows.ts";
import { claimRuns, findReady, findTimers, fireTimers, findTelling, loadHistory, startRuns, tellMore, wakeRuns } from "./runs.ts";
import { openSchema } from "./schema.ts";
import type { Operations, QueryShape } from "./shapes.ts";
import { findPending, handOut } from "./shared.ts";
import { dueSweeps, findWaiting, hastenBatches, releaseBatches, updateSweep } from "./sweeps.ts";
import { commitTurns, weightOfTurn } from "./turns.ts";
import { MAX_COMMIT, TooMuch, type Unit } from "./unit.ts";
import { findDead, giveUp, heldRoles, holdFlush, renew, takeRoles } from "./workers.ts";

export type { Operations, QueryShape } from "./shapes.ts";
export type { FirebaseApp, FirestoreClient, FirestoreStoreOptions } from "./options.ts";

/** Looks for something to claim, if others take it first. */
const CLAIM_TRIES = 3;

/** What is open between `open` and `close`. */
interface Opened {
  database: Database;
  id: string;
}

/**
 * The store in collections of a Firestore database, for any number of workers and functions. A method reads within one transaction, changes in memory and writes at its end; two that get into each other's way are tried again.
 *
 * Where the port says "each by itself" (`startRuns`, `commitTurns`, `claimRuns`, `decideDeadlines`, operating on runs, removal), many items are several transactions of some 400 documents, and one that fails leaves those before it
 * done: repeating the call finishes it. `settleRows` is cut likewise; the batch notes how many rows behind its cursor are done, so that a restart from the cursor passes over exactly those. One turn lands whole, whatever it asks: prompts
 * beyond 4 MB are written before it, unseen. What its rows, the inputs of the runs that it starts and its output have beyond 4 MB is refused.
 */
export class FirestoreStore implements Store {
  readonly name = "firestore";
  /** For people: where it is. */
  readonly place: string;
  readonly #settings: Settings;
  #places: Places = new Map();
  #opened: Opened | undefined;
  #opening: Promise<void> | undefined;

  constructor(options: FirestoreStoreOptions = {}) {
    this.#settings = resolveOptions(options);
    this.place = this.#settings.place;
  }

  get id(): string {
    return this.#open.id;
  }

  async open(): Promise<void> {
    if (this.#opened !== undefined) return;
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined;
    });
    await this.#opening;
  }

  async #connect(): Promise<void> {
    const database = new Database(await makeClient(this.#settings), this.#settings);
    try {
      this.#opened = { database, id: await openSchema(database) };
    } catch (thrown) {
      await database.client.end();
      throw thrown;
    }
  }

  /** A client that was given, or belongs to an app, stays. */
  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    const opened = this.#opened;
    this.#opened = undefined;
    await opened?.database.client.end();
  }

  /** Documents that this object has read, written and deleted so far, as they are billed. */
  operations(): Operations {
    return { ...this.#db.operations };
  }

  /** Shapes of the queries that this object has made, for checks of the declared indexes. */
  queryShapes(): QueryShape[] {
    return this.#db.shapes();
  }

  get isOpen(): boolean {
    return this.#opened !== undefined;
  }

  get #open(): Opened {
    if (this.#opened === undefined) throw notOpen(this.place);
    return this.#opened;
  }

  get #db(): Database {
    return this.#open.database;
  }

  async #write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    try {
      return await this.#db.write(work);
    } catch (thrown) {
      throw thrown instanceof TooMuch ? tooMuch(thrown.bytes, MAX_COMMIT) : thrown;
    }
  }

  #inParts<I, R>(
    items: readonly I[],
    weight: (item: I) => number,
    work: (unit: Unit, part: readonly I[]) => Promise<R[]>,
    alone?: (item: I) => Promise<R[]>,
  ): Promise<R[]> {
    return inParts(this.#db, { items, weight, work, alone });
  }

  // Workers

  async heartbeat(params: StoreParams<"heartbeat">): Promise<{ roles: string[]; time?: number }> {
    const { worker, now, maxAttempts } = params;
    const leaseNow = await this.#write(async (unit) => renew(unit, params));
    const dead = await findDead(this.#db, worker, leaseNow, this.#settings.isProcessAlive ?? processExists);
    // Each by itself: what one of them held may be much. What is more than a transaction takes is left to `fireTimers`: a lease must not wait for it.
    for (const { no, lease_until: leaseUntil } of dead) await giveUp(this.#db, no, now, { leaseUntil, maxAttempts });
    const held = await heldRoles(this.#db, workerKey(worker.id));
    const roles =
      held.length === 0 && params.roles.every(({ exclusive }) => !exclusive)
        ? params.roles.map(({ name }) => name)
        : await this.#write(async (unit) => takeRoles(unit, worker.id, params.roles, held));
    return { roles, ...(this.#settings.serverTime ? { time: leaseNow } : {}) };
  }

  async leave({ worker, now }: StoreParams<"leave">): Promise<void> {
    await giveUp(this.#db, workerKey(worker), now, undefined);
    await this.#told(undefined, now);
  }

  // Runs

  startRuns(params: StoreParams<"startRuns">): Promise<StartOutcome[]> {
    const weight = ({ request }: NewRun): number => (request === undefined ? 1 : 2);
    return this.#inParts(params.runs, weight, async (unit, runs) => startRuns(unit, { now: params.now, runs: [...runs] }));
  }

  holdFlush(params: StoreParams<"holdFlush">): Promise<void> {
    return this.#write(async (unit) => holdFlush(unit, params));
  }

  async claimRuns(params: StoreParams<"claimRuns">): Promise<ClaimedRun[]> {
    const limit = Math.min(params.limit, WRITES);
    const claimed: ClaimedRun[] = [];
    for (let tries = 0; tries < CLAIM_TRIES && claimed.length < limit; tries += 1) {
      const wanted = limit - claimed.length;
      const ready = await findReady(this.#db, params.chains, wanted);
      if (ready.length === 0) break;
      try {
        claimed.push(...(await this.#write(async (unit) => claimRuns(unit, params.worker, ready, params.chains))));
      } catch (thrown) {
        // What is claimed already is in hand; only claims that nobody knows of must be said.
        if (claimed.length === 0 || isInDoubt(thrown)) throw thrown;
        break;
      }
      // Nobody took one of these away, so there are no more.
      if (ready.length < wanted) break;
    }
    return claimed;
  }

  loadHistory(params: StoreParams<"loadHistory">): Promise<Entry[][]> {
    return loadHistory(this.#db, params);
  }

  async commitTurns({ worker, now, turns }: StoreParams<"commitTurns">): Promise<CommitResult[]> {
    const alone = async (turn: TurnCommit): Promise<CommitResult[]> => {
      const staged = await stageTurn(this.#db, worker, turn);
      return this.#write(async (unit) => {
        unit.entries.staged = staged;
        return commitTurns(unit, { worker, now, turns: [turn] });
      });
    };
    return this.#told(
      await this.#inParts(turns, weightOfTurn, async (unit, part) => commitTurns(unit, { worker, now, turns: part }), alone),
      now,
    );
  }

  async fireTimers({ now, limit }: StoreParams<"fireTimers">): Promise<number> {
    // What a process left to do that died, or that had a lease to renew.
    await this.#tellAll(now);
    const due = await findTimers(this.#db, now, Math.min(limit, WRITES / 2));
    if (due.sleeps.length + due.retries.length === 0) return 0;
    return this.#write(async (unit) => fireTimers(unit, now, due));
  }

  async wakeRuns(params: StoreParams<"wakeRuns">): Promise<void> {
    await this.#inParts(
      params.runs,
      () => 1,
      async (unit, runs) => {
        await wakeRuns(unit, { runs: [...runs] });
        return [];
      },
    );
  }

  // Batches

  nextTimers(): Promise<Timers> {
    return nextTimers(this.#db);
  }

  activity(params: StoreParams<"activity">): Promise<Activity> {
    return activity(this.#db, params);
  }

  async activeBatches(): Promise<BatchRecord[]> {
    return (await readActive(this.#db)).map(toRecord);
  }

  /** At most 400 requests a call; a batch that is still forming goes on with the next. */
  async formBatch(params: StoreParams<"formBatch">): Promise<BatchRecord | undefined> {
    return this.#write(async (unit) => formBatch(unit, params));
  }

  async moveQueued(params: StoreParams<"moveQueued">): Promise<number> {
    let moved = 0;
    while (moved < params.limit) {
      const limit = Math.min(FORM_CHUNK / 2, params.limit - moved);
      const some = await this.#write(async (unit) => moveQueued(unit, { ...params, limit }));
      moved += some;
      if (some < limit) break;
    }
    return moved;
  }

  dueDeadlines(params: StoreParams<"dueDeadlines">): Promise<DeadlineItem[]> {
    return dueDeadlines(this.#db, params);
  }

  async decideDeadlines({ now, decisions }: StoreParams<"decideDeadlines">): Promise<number> {
    const moved = await this.#inParts(
      decisions,
      () => 2,
      async (unit, part) => [await decideDeadlines(unit, { now, decisions: part })],
    );
    return moved.reduce((sum, some) => sum + some, 0);
  }

  async claimBatches(params: StoreParams<"claimBatches">): Promise<BatchRecord[]> {
    if (params.limit <= 0) return [];
    const due = await findDue(this.#db, params);
    if (due.length === 0) return [];
    const { leases, time } = await readLeases(
      this.#db,
      due.flatMap(({ worker }) => worker ?? []),
    );
    const leaseNow = this.#settings.serverTime ? (time ?? params.now) : params.now;
    const free = due.filter(({ worker }) => worker === null || (leases.get(worker) ?? 0) <= leaseNow);
    if (free.length === 0) return [];
    return this.#write(async (unit) => claimBatches(unit, params, free.slice(0, params.limit)));
  }

  updateBatch(params: StoreParams<"updateBatch">): Promise<boolean> {
    return this.#write(async (unit) => updateBatch(unit, params));
  }

  dueSweeps(params: StoreParams<"dueSweeps">): Promise<BatchRecord[]> {
    return dueSweeps(this.#db, params);
  }

  updateSweep(params: StoreParams<"updateSweep">): Promise<void> {
    return this.#write(async (unit) => updateSweep(unit, params));
  }

  async hastenBatches(params: StoreParams<"hastenBatches">): Promise<number> {
    const waiting = await findWaiting(this.#db, params);
    const hastened = await this.#inParts(
      waiting,
      () => 1,
      async (unit, part) => [await hastenBatches(unit, params.now, part)],
    );
    return hastened.reduce((sum, some) => sum + some, 0);
  }

  readMembers(params: StoreParams<"readMembers">): Promise<MemberRow[]> {
    return readMembers(this.#db, params);
  }

  async settleRows(params: StoreParams<"settleRows">): Promise<SettledRows | undefined> {
    const total = { settled: 0, duplicate: 0, unknown: 0 };
    const resumed: ResumedRun[] = [];
    let from: number | undefined;
    try {
      do {
        const part = await this.#write(async (unit) => settleRows(unit, params, SETTLE_CHUNK, from));
        if (part === undefined && resumed.length === 0) return undefined;
        if (part === undefined) throw new Error(`Batch ${params.batch} was taken over while its rows were settled.`);
        total.settled += part.before + part.settled;
        total.duplicate += part.duplicate;
        total.unknown += part.unknown;
        resumed.push(...part.resumed);
        from = part.done;
      } while (from < params.rows.length);
      const told = await this.#told(total, params.now);
      return resumed.length === 0 ? told : { ...told, resumed };
    } catch (thrown) {
      // The caller cannot be told of the runs that he has in hand since an earlier part.
      throw resumed.length === 0 || isInDoubt(thrown) ? thrown : inDoubt(this.place, thrown);
    }
  }

  /** Does what was too much for one transaction: tells of shared answers and of the ends of runs, and withdraws what these had open. */
  async #tellAll(now: number): Promise<void> {
    do {
      this.#db.pending = false;
      for (const share of await findPending(this.#db)) await this.#write(async (unit) => handOut(unit, share));
      for (const run of await findTelling(this.#db)) await this.#write(async (unit) => tellMore(unit, run, now));
    } while (this.#db.pending);
  }

  async #told<T>(result: T, now: number): Promise<T> {
    if (this.#db.pending) await this.#tellAll(now);
    return result;
  }

  async settleRemaining(params: StoreParams<"settleRemaining">): Promise<number | undefined> {
    let left: number | undefined;
    for (let rest = params.limit; rest > 0; rest -= SETTLE_CHUNK) {
      left = await this.#write(async (unit) => settleRemaining(unit, { ...params, limit: rest }));
      if (left === undefined || left === 0) break;
    }
    return left;
  }

  // Looking and operating

  getRuns(params: StoreParams<"getRuns">): Promise<(RunRecord | undefined)[]> {
    return getRuns(this.#db, params);
  }

  listRuns(params: StoreParams<"listRuns">): Promise<Page<RunRecord>> {
    return listRuns(this.#db, params);
  }

  getRequest(params: StoreParams<"getRequest">): Promise<RequestRecord | undefined> {
    return getRequest(this.#db, params);
  }

  listRequests(params: StoreParams<"listRequests">): Promise<Page<RequestRecord>> {
    return listRequests(this.#db, params);
  }

  getBatch(params: StoreParams<"getBatch">): Promise<BatchRecord | undefined> {
    return getBatch(this.#db, params);
  }

  listBatches(params: StoreParams<"listBatches">): Promise<Page<BatchRecord>> {
    return listBatches(this.#db, params);
  }

  stats(): Promise<StoreStats> {
    return stats(this.#db);
  }

  hasLiveRuns(): Promise<boolean> {
    return hasLiveRuns(this.#db);
  }

  spend(params: StoreParams<"spend">): Promise<SpendRow[]> {
    return spend(this.#db, params);
  }

  async cancelRuns({ now, ids, tree = false }: StoreParams<"cancelRuns">): Promise<string[]> {
    const looked = new Set<string>();
    const changed: string[] = [];
    // A turn that was committed meanwhile may have started more. A cancelled run lands no starts any more, so this comes to an end.
    for (let next = tree ? await withStarted(this.#db, ids) : ids; next.length > 0;) {
      const part = await this.#inParts(
        next,
        () => 10,
        async (unit, some) => cancelRuns(unit, { now, ids: some }),
      );
      changed.push(...part);
      for (const id of next) looked.add(id);
      next = tree ? (await withStarted(this.#db, ids)).filter((id) => !looked.has(id)) : [];
    }
    return this.#told(changed, now);
  }

  retryRuns({ now, ids, afresh = false }: StoreParams<"retryRuns">): Promise<string[]> {
    return this.#inParts(
      ids,
      () => 20,
      async (unit, part) => retryRuns(unit, { now, ids: part, afresh }),
    );
  }

  holdRuns({ ids, error }: StoreParams<"holdRuns">): Promise<string[]> {
    return this.#inParts(
      ids,
      () => 1,
      async (unit, part) => holdRuns(unit, { ids: part, error }),
    );
  }

  releaseBatches({ now, ids }: StoreParams<"releaseBatches">): Promise<string[]> {
    return this.#inParts(
      ids,
      () => 1,
      async (unit, part) => releaseBatches(unit, { now, ids: part }),
    );
  }

  async removeEnded(params: StoreParams<"removeEnded">): ReturnType<Store["removeEnded"]> {
    const places: Places = new Map(this.#places);
    const removed = await removeEnded(this.#db, params, places);
    this.#places = places;
    return removed;
  }
}

/** A store in a Firestore database; nothing is loaded or connected before `open`. */
export function firestore(options: FirestoreStoreOptions = {}): FirestoreStore {
  return new FirestoreStore(options);
}
