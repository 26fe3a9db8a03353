/**
 * The documents of one collection that a transaction has in hand: read, changed in memory, written back once at its end.
 */
import type { DocumentReference, Transaction } from "@google-cloud/firestore";
import { referencePrefix } from "../../core/payload-store.ts";
import type { Data, Database, Find } from "./database.ts";
import { tooLarge } from "./errors.ts";
import type { Cell, Spec } from "./rows.ts";

type Texts = Record<string, string | null>;

interface Item<R> {
  row: R;
  /** Its fields for queries as they are stored; `undefined`: it is new. */
  stored: Record<string, Cell> | undefined;
  /** Payloads that were read, and those that change. */
  texts: Texts;
  newTexts: Texts;
  changed: boolean;
}

/** What the payloads of one document may have together, so that it stays under 1 MiB with its row and the names of its fields. */
export const MAX_TEXT = 1_000_000;
/** One run that waits for the end of another, in that one's document. */
const WAITER_BYTES = 48;

/** What a document without its payloads adds to a commit, entries of indexes included. */
const ROW_BYTES = 1_000;

/** Rows with a reference to a payload elsewhere say so, if the payload is one that others may have, too. */
const copied = new Set(["value", "output"]);

export class WorkingSet<R extends { no: string }> {
  readonly #database: Database;
  readonly #transaction: Transaction;
  readonly #spec: Spec<R>;
  /** By document; `undefined`: it is not there. */
  readonly #items = new Map<string, Item<R> | undefined>();
  readonly #removed = new Set<string>();
  /** New rows with the names of payloads that lie in their documents already (`drafts.ts`). */
  staged: ReadonlyMap<string, ReadonlySet<string>> = new Map();
  /** Documents with payloads only: drafts of a turn that was never committed, or not yet. */
  readonly #drafts = new Set<string>();

  constructor(database: Database, transaction: Transaction, spec: Spec<R>) {
    this.#database = database;
    this.#transaction = transaction;
    this.#spec = spec;
  }

  /** Documents of these rows that were not read yet. */
  missing(numbers: Iterable<string>): DocumentReference[] {
    const ids = new Set([...numbers].map((no) => this.#spec.document(no)).filter((id) => !this.#items.has(id)));
    return [...ids].map((id) => this.#database.document(this.#spec.collection, id));
  }

  /** Takes in what was read. */
  take(id: string, data: Data | undefined): void {
    if (this.#items.has(id)) return;
    if (data !== undefined && !hasRow({ data })) this.#drafts.add(id);
    this.#items.set(id, data === undefined || !hasRow({ data }) ? undefined : this.#item(data));
  }

  /** Deletes the drafts that were come across. */
  removeDrafts(): void {
    for (const id of this.#drafts) if (this.#items.get(id) === undefined) this.#removed.add(id);
  }

  async load(numbers: Iterable<string>, texts: readonly string[] = []): Promise<void> {
    const refs = this.missing(numbers);
    if (refs.length === 0) return;
    this.#database.operations.reads += refs.length;
    const fieldMask = ["d", ...texts.map((name) => `t.${name}`)];
    const snapshots = await this.#transaction.getAll(...refs, { fieldMask });
    for (const snapshot of snapshots) this.take(snapshot.id, snapshot.data());
  }

  async get(no: string): Promise<R | undefined> {
    await this.load([no]);
    return this.peek(no);
  }

  /** A row that was read. */
  peek(no: string): R | undefined {
    const row = this.#items.get(this.#spec.document(no))?.row;
    return row?.no === no ? row : undefined;
  }

  /** The row of a document that was read, whatever its key. */
  at(document: string): R | undefined {
    return this.#items.get(document)?.row;
  }

  /**
   * Rows that fulfil the condition: of those that the query finds within this transaction, as they are in hand, and those in hand already. `loose`: the query itself is made outside, so that it locks no more than the documents
   * that it finds; `found` says how many those were.
   */
  async select(find: Omit<Find, "from">, condition: (row: R) => boolean, loose = false): Promise<R[] & { found: number }> {
    const query: Find = { ...find, from: this.#spec.collection };
    const found = await this.#database.find(loose ? { ...query, fields: ["order"] } : query, loose ? undefined : this.#transaction);
    if (loose) await this.#loadDocuments(found.map(({ id }) => id));
    else for (const { id, data } of found) this.take(id, data);
    const rows = [...this.#items.values()].flatMap((item) => (item !== undefined && condition(item.row) ? [item.row] : []));
    return Object.assign(rows, { found: found.length });
  }

  async #loadDocuments(ids: readonly string[]): Promise<void> {
    const refs = ids.filter((id) => !this.#items.has(id)).map((id) => this.#database.document(this.#spec.collection, id));
    if (refs.length === 0) return;
    this.#database.operations.reads += refs.length;
    for (const snapshot of await this.#transaction.getAll(...refs, { fieldMask: ["d"] })) this.take(snapshot.id, snapshot.data());
  }

  add(row: R, texts: Texts = {}): R {
    const item: Item<R> = { row, stored: undefined, texts: {}, newTexts: {}, changed: true };
    const id = this.#spec.document(row.no);
    this.#removed.delete(id);
    this.#items.set(id, item);
    this.setTexts(row, texts);
    return row;
  }

  change(row: R, changes: Partial<R>): void {
    Object.assign(row, changes);
    this.#of(row).changed = true;
  }

  /** Payloads of a row, `null` for none. Their sizes are kept in the row. */
  setTexts(row: R, texts: Texts): void {
    const item = this.#of(row);
    item.changed = true;
    const holder = row as { sizes?: Record<string, number>; reference?: string | null };
    for (const [name, text] of Object.entries(texts)) {
      item.newTexts[name] = text;
      if (holder.sizes === undefined) continue;
      const { [name]: _before, ...others } = holder.sizes;
      holder.sizes = text === null ? others : { ...others, [name]: Buffer.byteLength(text) };
      if (copied.has(name) && holder.reference !== undefined) holder.reference = text?.startsWith(referencePrefix) === true ? text : null;
    }
  }

  /** Reads payloads of a row that is in hand. */
  async loadTexts(row: R, names: readonly string[]): Promise<void> {
    const item = this.#of(row);
    if (item.stored === undefined) return;
    const ref = this.#database.document(this.#spec.collection, this.#spec.document(row.no));
    this.#database.operations.reads += 1;
    const [snapshot] = await this.#transaction.getAll(ref, { fieldMask: names.map((name) => `t.${name}`) });
    item.texts = { ...item.texts, ...(snapshot?.data()?.["t"] as Texts | undefined) };
  }

  /** A payload that was read or set. */
  text(row: R, name: string): string | undefined {
    const item = this.#of(row);
    return (name in item.newTexts ? item.newTexts[name] : item.texts[name]) ?? undefined;
  }

  /** All payloads of a row that were read or set. */
  textsOf(row: R): string[] {
    const item = this.#of(row);
    return Object.values({ ...item.texts, ...item.newTexts }).filter((text) => text !== null);
  }

  remove(no: string): void {
    const id = this.#spec.document(no);
    const item = this.#items.get(id);
    if (item === undefined) return;
    if (item.stored !== undefined) this.#removed.add(id);
    this.#items.set(id, undefined);
  }

  /** Hands all changes to the transaction. */
  write(): { writes: number; deletes: number; bytes: number } {
    const { values } = this.#database.client;
    let writes = 0;
    let bytes = 0;
    for (const id of this.#removed) this.#transaction.delete(this.#database.document(this.#spec.collection, id));
    for (const [id, item] of this.#items) {
      if (item === undefined || !item.changed) continue;
      const ref = this.#database.document(this.#spec.collection, id);
      const fields = this.#spec.fields(item.row, this.#database.settings.shards);
      const d = this.#compact(item.row);
      this.#checkSize(item.row);
      writes += 1;
      bytes += ROW_BYTES;
      const draft = item.stored === undefined ? this.staged.get(item.row.no) : undefined;
      const texts = Object.entries(item.newTexts).filter(([name]) => draft?.has(name) !== true);
      bytes += texts.reduce((sum, [, text]) => sum + (text === null ? 0 : Buffer.byteLength(text)), 0);
      if (item.stored === undefined) {
        const t = Object.fromEntries(texts.filter(([, text]) => text !== null));
        this.#transaction.set(ref, { ...present(fields), d, ...(Object.keys(t).length > 0 && { t }) }, { merge: draft !== undefined });
      } else {
        const changes: Data = { d };
        for (const [name, value] of Object.entries(fields)) {
          if (item.stored[name] !== value) changes[name] = value ?? values.delete();
        }
        for (const [name, text] of texts) changes[`t.${name}`] = text ?? values.delete();
        this.#transaction.update(ref, changes);
      }
    }
    return { writes, deletes: this.#removed.size, bytes };
  }

  #checkSize(row: R): void {
    const { sizes, waiters = [] } = row as { sizes?: Record<string, number>; waiters?: readonly string[] };
    if (sizes === undefined) return;
    const bytes = textBytes(sizes) + WAITER_BYTES * waiters.length;
    if (bytes <= MAX_TEXT) return;
    const parts = [...Object.keys(sizes), ...(waiters.length > 0 ? [`${waiters.length} that wait for it`] : [])];
    throw tooLarge(`The ${parts.join(" and ")} of one of the ${this.#spec.collection}`, bytes, MAX_TEXT);
  }

  #of(row: R): Item<R> {
    const item = this.#items.get(this.#spec.document(row.no));
    if (item === undefined || item.row !== row) throw new Error(`Document ${row.no} is not in hand.`);
    return item;
  }

  #item(data: Data): Item<R> {
    const row = this.#expand(data["d"] as Data);
    return {
      row,
      stored: this.#spec.fields(row, this.#database.settings.shards),
      texts: (data["t"] as Texts) ?? {},
      newTexts: {},
      changed: false,
    };
  }

  #expand(d: Data): R {
    return expandRow(this.#spec, d);
  }

  /** What is as in most rows is left out. */
  #compact(row: R): Data {
    const { blank } = this.#spec;
    return Object.fromEntries(
      Object.entries(row).filter(([name, value]) => !(name in blank && blank[name as keyof R] === value) && !isEmpty(value)),
    );
  }
}

/** Bytes of payloads; errors, which are short, have the room that a document leaves beside `MAX_TEXT`. */
export function textBytes({ error: _small, ...sizes }: Readonly<Record<string, number>>): number {
  return Object.values(sizes).reduce((sum, size) => sum + size, 0);
}

/** The row of a document. */
export function expandRow<R extends { no: string }>(spec: Spec<R>, d: Data): R {
  const empty = spec.collection === "runs" ? { waiters: [], sizes: {} } : { sizes: {} };
  return { ...empty, ...spec.blank, ...d } as unknown as R;
}

/** Whether a document has more than drafts of payloads. */
export const hasRow = ({ data }: { data: Data }): boolean => data["d"] !== undefined;

const isEmpty = (value: unknown): boolean => typeof value === "object" && value !== null && Object.keys(value).length === 0;

const present = (fields: Record<string, Cell>): Data =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
