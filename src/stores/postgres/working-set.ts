/**
 * The rows of one table that a transaction has in hand: loaded under lock, changed in memory, written back together.
 */
import { type Column, toArray } from "./arrays.ts";
import type { Sql } from "./session.ts";

export interface TableSpec<R extends { no: number }> {
  name: string;
  /** Every column, in the order in which rows are read. */
  columns: Readonly<Record<keyof R & string, Column>>;
  /** The `queue` of a row in this state. It is a column that follows from another one, so rows in memory have none. */
  queueOf?: (state: number) => number | null;
  /** What the table itself puts into columns that are left out; NULL into the others. */
  defaults: Partial<R>;
}

/** Changes of rows of one table. Rows are found by number and kept, so that each is one object in a transaction. */
export class WorkingSet<R extends { no: number }> {
  readonly #sql: Sql;
  readonly #spec: TableSpec<R>;
  readonly #names: (keyof R & string)[];
  readonly #rows = new Map<number, R>();
  readonly #added = new Set<R>();
  readonly #changed = new Set<R>();
  readonly #columns = new Set<keyof R & string>();
  /** Rows written as new. */
  count = 0;

  constructor(sql: Sql, spec: TableSpec<R>) {
    this.#sql = sql;
    this.#spec = spec;
    this.#names = Object.keys(spec.columns) as (keyof R & string)[];
  }

  /** Rows by number, locked in that order, so that two transactions that want the same rows do not block each other for ever. Those that do not exist are left out. */
  async lock(numbers: Iterable<number>): Promise<void> {
    const wanted = [...new Set(numbers)].filter((no) => !this.#rows.has(no));
    if (wanted.length === 0) return;
    await this.#load(`SELECT ${this.#names.join(", ")} FROM gb.${this.#spec.name} WHERE no = ANY($1::int8[]) ORDER BY no FOR UPDATE`, [
      toArray("int8[]", wanted),
    ]);
  }

  /** One row, locked. */
  async get(no: number): Promise<R | undefined> {
    await this.lock([no]);
    return this.#rows.get(no);
  }

  /** Locks the rows of a condition; rows that were in hand before are given as they are now. */
  async select(condition: string, values: unknown[]): Promise<R[]> {
    return this.#load(`SELECT ${this.#names.join(", ")} FROM gb.${this.#spec.name} ${condition}`, values);
  }

  /** A row that is in hand. */
  peek(no: number): R | undefined {
    return this.#rows.get(no);
  }

  add(row: R): R {
    this.#rows.set(row.no, row);
    this.#added.add(row);
    return row;
  }

  change(row: R, changes: Partial<R>): void {
    Object.assign(row, changes);
    if (this.#added.has(row)) return;
    this.#changed.add(row);
    for (const name in changes) this.#columns.add(name);
  }

  /** The row is deleted, by a statement of the caller. */
  forget(no: number): void {
    const row = this.#rows.get(no);
    if (row === undefined) return;
    this.#rows.delete(no);
    this.#added.delete(row);
    this.#changed.delete(row);
  }

  async #load(text: string, values: unknown[]): Promise<R[]> {
    const found = await this.#sql.rows(text, values);
    return found.map((cells) => {
      const known = this.#rows.get(cells[0] as number);
      if (known !== undefined) return known;
      const row: Record<string, unknown> = {};
      for (let i = 0; i < this.#names.length; i += 1) row[this.#names[i]!] = cells[i];
      this.#rows.set(cells[0] as number, row as R);
      return row as R;
    });
  }

  /** Writes what is new. */
  async insert(): Promise<void> {
    if (this.#added.size === 0) return;
    const rows = [...this.#added];
    this.#added.clear();
    this.count += rows.length;
    // Columns that are as the table makes them in every row are left out: of a request, that is half of them.
    const names = this.#names.filter((name) => {
      const usual = this.#spec.defaults[name] ?? null;
      return rows.some((row) => row[name] !== usual);
    });
    await this.#send(
      rows,
      names,
      (all, arrays) => `INSERT INTO gb.${this.#spec.name} (${all.join(", ")}) SELECT * FROM unnest(${arrays.join(", ")})`,
    );
  }

  /** Writes what was changed, the columns that changed in any of the rows. */
  async update(): Promise<void> {
    if (this.#changed.size === 0) return;
    const rows = [...this.#changed];
    const names = this.#names.filter((name) => name === "no" || this.#columns.has(name));
    this.#changed.clear();
    this.#columns.clear();
    await this.#send(rows, names, (all, arrays) => {
      const sets = all.flatMap((name) => (name === "no" ? [] : [`${name} = u.${name}`]));
      return `UPDATE gb.${this.#spec.name} t SET ${sets.join(", ")} FROM unnest(${arrays.join(", ")}) AS u(${all.join(", ")}) WHERE t.no = u.no`;
    });
  }

  /** Sends these columns of the rows, an array each; with a state its queue. */
  async #send(
    rows: readonly R[],
    names: readonly (keyof R & string)[],
    text: (names: readonly string[], arrays: readonly string[]) => string,
  ): Promise<void> {
    const { columns, queueOf } = this.#spec;
    const sent: [name: string, type: Column, values: Buffer][] = names.map((name) => [name, columns[name], this.#column(name, rows)]);
    const state = "state" as keyof R & string;
    if (queueOf !== undefined && names.includes(state))
      sent.push([
        "queue",
        "int2[]",
        toArray(
          "int2[]",
          rows.map((row) => queueOf(row[state] as number)),
        ),
      ]);
    await this.#sql.send(
      text(
        sent.map(([name]) => name),
        sent.map(([, type], i) => `$${i + 1}::${type}`),
      ),
      sent.map(([, , values]) => values),
    );
  }

  #column(name: keyof R & string, rows: readonly R[]): Buffer {
    return toArray(
      this.#spec.columns[name],
      rows.map((row) => row[name] as number | string | null),
    );
  }
}
