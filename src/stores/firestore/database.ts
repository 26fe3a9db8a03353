/**
 * Transactions and queries on Firestore, tried again where that is safe. Every query of the store goes through `find`, which remembers its shape: each must have a declared index (`indexes.ts`).
 */
import { inDoubt } from "../store-errors.ts";
import type { DocumentReference, Query, QueryDocumentSnapshot, Transaction } from "@google-cloud/firestore";
import { Patience, pause } from "../patience.ts";
import type { Client } from "./client.ts";
import { Conflict, isClosed, isConflict, isRefused, isTransient, storeError, TimedOut } from "./errors.ts";
import { Births } from "./keys.ts";
import type { Settings } from "./options.ts";
import type { Operations, QueryShape } from "./shapes.ts";
import { Unit } from "./unit.ts";

export type Data = Record<string, unknown>;
export type Operator = "==" | "<" | "<=" | ">" | ">=" | "in";

/** A query. Names of fields are those of `rows.ts`; `__name__` is the document's. */
export interface Find {
  from: string;
  where?: readonly (readonly [field: string, operator: Operator, value: unknown])[];
  order?: readonly (readonly [field: string, direction: "asc" | "desc"])[];
  /** Values of `order` (a document's name for `__name__`) that the first one comes behind. */
  after?: readonly unknown[];
  limit?: number;
  /** Parts of the documents that are sent. Default: `d`. */
  fields?: readonly string[];
}

export interface Found {
  id: string;
  data: Data;
}

/** How long a transaction goes on trying that others are in the way of: one whose process died keeps its locks for 60 seconds (Firestore, "Transactions and batched writes", limits: idle expiration). */
const LOCK_PATIENCE_MS = 75_000;

export class Database {
  readonly settings: Settings;
  readonly client: Client;
  readonly births = new Births();
  /** Lanes that are known, and since when they are there. */
  readonly lanes = new Map<string, string>();
  readonly operations: Operations = { reads: 0, writes: 0, deletes: 0 };
  /** A transaction has left somebody untold, who is to be told right after it. */
  pending = false;
  readonly #shapes = new Map<string, QueryShape>();

  constructor(client: Client, settings: Settings) {
    this.client = client;
    this.settings = settings;
  }

  collection(name: string): string {
    return `${this.settings.prefix}_${name}`;
  }

  document(collection: string, id: string): DocumentReference {
    return this.client.firestore.collection(this.collection(collection)).doc(id);
  }

  /** The shapes of the queries so far. */
  shapes(): QueryShape[] {
    return [...this.#shapes.values()];
  }

  /** Documents that match, as they are now; with `transaction`, as they stay until it commits. */
  async find(find: Find, transaction?: Transaction): Promise<Found[]> {
    const query = this.#build(find);
    const { docs } = await (transaction === undefined ? this.#patiently(() => query.get()) : transaction.get(query));
    this.operations.reads += Math.max(1, docs.length);
    return docs.map((doc: QueryDocumentSnapshot) => ({ id: doc.id, data: doc.data() }));
  }

  /** Documents by name, as they are now; `undefined` for those that are not there. `time`: the server's. */
  async read(
    refs: readonly DocumentReference[],
    fields: readonly string[] = ["d"],
  ): Promise<{ found: (Found | undefined)[]; time: number | undefined }> {
    if (refs.length === 0) return { found: [], time: undefined };
    this.operations.reads += refs.length;
    const snapshots = await this.#patiently(() => this.client.firestore.getAll(...refs, { fieldMask: [...fields] }));
    const found = snapshots.map((snapshot) => (snapshot.exists ? { id: snapshot.id, data: snapshot.data() ?? {} } : undefined));
    return { found, time: snapshots[0]?.readTime.toMillis() };
  }

  /**
   * `work` in one transaction that is durable when this resolves. It is done again from its beginning when the server gives it up because of another one, and when the server is away before the commit was sent, so it changes
   * nothing but its unit. A commit whose answer is lost is left in doubt.
   */
  async write<T>(work: (unit: Unit) => Promise<T>): Promise<T> {
    const { patienceMs, place, random } = this.settings;
    const patience = new Patience(patienceMs);
    const lockPatience = new Patience(Math.max(patienceMs, LOCK_PATIENCE_MS));
    try {
      for (let tries = 1, conflicts = 0; ; tries += 1) {
        const attempt = { committing: false, abandoned: false };
        try {
          return await this.#try(work, attempt);
        } catch (thrown) {
          attempt.abandoned = true;
          if (attempt.committing && isClosed(thrown)) throw inDoubt(place, thrown);
          if (isConflict(thrown)) {
            conflicts += 1;
            if (lockPatience.over) throw storeError(thrown, place);
            await pause(Math.ceil(random.next() * 10 * 2 ** Math.min(conflicts, 7)));
          } else if (isTransient(thrown)) {
            if (attempt.committing && !isRefused(thrown)) throw inDoubt(place, thrown);
            if (patience.over) throw storeError(thrown, place);
            await pause(Math.min(pauseMs(tries), Math.max(1, patienceMs)));
          } else throw storeError(thrown, place);
        }
      }
    } finally {
      patience.end();
      lockPatience.end();
    }
  }

  async #try<T>(work: (unit: Unit) => Promise<T>, attempt: { committing: boolean; abandoned: boolean }): Promise<T> {
    let operations: Operations | undefined;
    let pending = false;
    const result = await this.#inTime(
      this.client.firestore.runTransaction(
        async (transaction) => {
          const unit = new Unit(this, transaction);
          const value = await work(unit);
          await unit.tallies.learn(this, unit.now);
          // Whoever waited for this has been told that it did not come to pass.
          if (attempt.abandoned) throw new Conflict("The transaction took too long.");
          operations = unit.write();
          ({ pending } = unit.told);
          attempt.committing = operations.writes + operations.deletes > 0;
          return value;
        },
        { maxAttempts: 1 },
      ),
    );
    if (pending) this.pending = true;
    this.operations.writes += operations?.writes ?? 0;
    this.operations.deletes += operations?.deletes ?? 0;
    return result;
  }

  /** For what changes nothing: tried again while the server is away. */
  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    const { patienceMs, place } = this.settings;
    const patience = new Patience(patienceMs);
    try {
      for (let tries = 1; ; tries += 1) {
        try {
          return await this.#inTime(work());
        } catch (thrown) {
          if (!(isTransient(thrown) || isConflict(thrown)) || patience.over) throw storeError(thrown, place);
          await pause(Math.min(pauseMs(tries), Math.max(1, patienceMs)));
        }
      }
    } finally {
      patience.end();
    }
  }

  /** The client itself goes on for minutes while nobody answers. */
  async #inTime<T>(work: Promise<T>): Promise<T> {
    const stop = new AbortController();
    const late = pause(Math.max(1_000, this.settings.patienceMs), { signal: stop.signal, background: true }).then(() => {
      if (!stop.signal.aborted) throw new TimedOut("no answer in time");
    });
    try {
      return (await Promise.race([work, late])) as T;
    } finally {
      stop.abort();
      work.catch(() => undefined);
    }
  }

  #build({ from, where = [], order = [], after, limit, fields = ["d"] }: Find): Query {
    const shape: QueryShape = {
      collection: from,
      equal: where.filter(([, operator]) => operator === "==" || operator === "in").map(([field]) => field),
      range: [...new Set(where.filter(([, operator]) => operator !== "==" && operator !== "in").map(([field]) => field))],
      order: [...order],
    };
    this.#shapes.set(JSON.stringify(shape), shape);
    const collection = this.client.firestore.collection(this.collection(from));
    let query: Query = collection;
    for (const [field, operator, value] of where) {
      query = query.where(field, operator, field === "__name__" ? collection.doc(value as string) : value);
    }
    for (const [field, direction] of order) query = query.orderBy(field, direction);
    if (after !== undefined) query = query.startAfter(...after);
    if (limit !== undefined) query = query.limit(limit);
    return query.select(...fields);
  }
}

const pauseMs = (tries: number): number => Math.min(1_000, 25 * 2 ** Math.min(tries, 10));
