/**
 * The rows of one table that a transaction has in hand: loaded under lock, changed in memory, written back together.
 */
import { type Column, toArray } from "./arrays.ts";
import type { Sql } from "./connection.ts";

export interface TableSpec<R extends { no: number }> {
  name: string;
  /** Every column, in the order in which rows are read. */
  columns: Readonly<Record<keyof R & string, Column>>;
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
    const arrays = names.map((name, i) => `$${i + 1}::${this.#spec.columns[name]}`).join(", ");
    await this.#sql.run(
      `INSERT INTO gb.${this.#spec.name} (${names.join(", ")}) SELECT * FROM unnest(${arrays})`,
      names.map((name) => this.#column(name, rows)),
    );
  }

  /** Writes what was changed, the columns that changed in any of the rows. */
  async update(): Promise<void> {
    if (this.#changed.size === 0) return;
    const rows = [...this.#changed];
    const names = this.#names.filter((name) => this.#columns.has(name));
    this.#changed.clear();
    this.#columns.clear();
    const sets = names.map((name) => `${name} = u.${name}`).join(", ");
    const arrays = names.map((name, i) => `$${i + 2}::${this.#spec.columns[name]}`).join(", ");
    await this.#sql.run(
      `UPDATE gb.${this.#spec.name} t SET ${sets} FROM unnest($1::${this.#spec.columns.no}, ${arrays}) AS u(no, ${names.join(", ")}) WHERE t.no = u.no`,
      [this.#column("no", rows), ...names.map((name) => this.#column(name, rows))],
    );
  }

  #column(name: keyof R & string, rows: readonly R[]): Buffer {
    return toArray(
      this.#spec.columns[name],
      rows.map((row) => row[name] as number | string | null),
    );
  }
}
