/**
 * One transaction of the store. Documents are read within it, changed in memory and written once at its end, so that all reads come before all writes; it may be done again, so nothing else is changed.
 */
import type { DocumentReference, Transaction } from "@google-cloud/firestore";
import type { Database } from "./database.ts";
import { type RunRow, specs } from "./rows.ts";
import type { Operations } from "./shapes.ts";
import { Tallies } from "./tallies.ts";
import { WorkingSet } from "./working-set.ts";

/** What a commit carries at most. Firestore takes 10 MiB, entries of indexes included, its emulator 4. */
export const MAX_COMMIT = 4_000_000;

/** More than a transaction carries: the caller cuts it into smaller ones, or says so. */
export class TooMuch extends Error {
  readonly bytes: number;

  constructor(bytes: number) {
    super(`A transaction would carry ${bytes} bytes.`);
    this.bytes = bytes;
  }
}

/** Copies of one answer that a transaction makes, and bytes of them. */
export const COPIES = 100;
const COPIED_BYTES = 1_000_000;

/** Open requests that a transaction withdraws when runs end. */
const WITHDRAWN = 1_000;

/** What a transaction has done of what may be too much for one: the next ones go on. */
class Told {
  #answers = 0;
  #bytes = 0;
  #withdrawn = 0;
  /** Somebody still waits, or something is still open. */
  pending = false;

  /** How many of these requests may be withdrawn now. */
  withdraw(open: number): number {
    const taken = Math.min(open, WITHDRAWN - this.#withdrawn);
    this.#withdrawn += taken;
    if (taken < open) this.pending = true;
    return taken;
  }

  /** How many of these may be told now. The first one always may. */
  take(waiting: number, bytes: number): number {
    const room = Math.min(COPIES - this.#answers, Math.floor((COPIED_BYTES - this.#bytes) / Math.max(1, bytes)));
    const taken = Math.min(waiting, Math.max(this.#answers === 0 ? 1 : 0, room));
    this.#answers += taken;
    this.#bytes += taken * bytes;
    if (taken < waiting) this.pending = true;
    return taken;
  }
}

export class Unit {
  readonly database: Database;
  readonly transaction: Transaction;
  readonly tallies = new Tallies();
  readonly runs;
  readonly entries;
  readonly batches;
  readonly shared;
  readonly workers;
  readonly departed;
  readonly roles;
  readonly formers;
  readonly producers;
  readonly told = new Told();
  /** Payloads of entries that are written before their turn. */
  readonly drafts = new Map<string, Record<string, string>>();
  /** The time that was passed in, as far as requests are queued. */
  now = 0;
  /** The server's time as of the first look. */
  time: number | undefined;
  readonly #sets;

  constructor(database: Database, transaction: Transaction) {
    this.database = database;
    this.transaction = transaction;
    this.runs = new WorkingSet(database, transaction, specs.runs);
    this.entries = new WorkingSet(database, transaction, specs.entries);
    this.batches = new WorkingSet(database, transaction, specs.batches);
    this.shared = new WorkingSet(database, transaction, specs.shared);
    this.workers = new WorkingSet(database, transaction, specs.workers);
    this.departed = new WorkingSet(database, transaction, specs.departed);
    this.roles = new WorkingSet(database, transaction, specs.roles);
    this.formers = new WorkingSet(database, transaction, specs.formers);
    this.producers = new WorkingSet(database, transaction, specs.producers);
    this.#sets = {
      ...{ runs: this.runs, entries: this.entries, batches: this.batches, shared: this.shared, workers: this.workers },
      ...{ departed: this.departed, roles: this.roles, formers: this.formers, producers: this.producers },
    };
  }

  /** Reads documents of several collections at once. */
  async load(wanted: { [Name in keyof Unit["sets"]]?: Iterable<string> }): Promise<void> {
    const plan: { name: keyof Unit["sets"]; ref: DocumentReference }[] = [];
    for (const [name, numbers] of Object.entries(wanted)) {
      const set = name as keyof Unit["sets"];
      for (const ref of this.#sets[set].missing(numbers)) plan.push({ name: set, ref });
    }
    if (plan.length === 0) return;
    this.database.operations.reads += plan.length;
    const snapshots = await this.transaction.getAll(...plan.map(({ ref }) => ref), { fieldMask: ["d"] });
    for (const [i, snapshot] of snapshots.entries()) {
      const name = plan[i]?.name;
      if (name !== undefined) this.#sets[name].take(snapshot.id, snapshot.data());
      this.time ??= snapshot.readTime.toMillis();
    }
  }

  get sets() {
    return this.#sets;
  }

  /** What leases are compared with: the server's time, so that no worker's wrong clock ends the lease of another. */
  leaseNow(now: number): number {
    return this.database.settings.serverTime ? (this.time ?? now) : now;
  }

  /** The run that was read already. */
  run(key: string): RunRow {
    const run = this.runs.peek(key);
    if (run === undefined) throw new Error(`Run ${key} is not in hand.`);
    return run;
  }

  /** Hands all changes to the transaction. */
  write(): Operations {
    const total = { reads: 0, writes: 0, deletes: 0 };
    let bytes = 0;
    for (const set of Object.values(this.#sets)) {
      const written = set.write();
      total.writes += written.writes;
      total.deletes += written.deletes;
      bytes += written.bytes + 100 * written.deletes;
    }
    for (const [key, t] of this.drafts) {
      this.transaction.set(this.database.document("entries", key), { t });
      total.writes += 1;
    }
    if (bytes > MAX_COMMIT) throw new TooMuch(bytes);
    total.writes += this.tallies.write(this.database, this.transaction);
    return total;
  }
}
