/** References to payloads that lie elsewhere, in rows that are removed. */
import type { Database } from "./database.ts";

/** The column of each table that holds payloads. */
const columns = { bodies: "body", answers: "value", run_inputs: "input", run_outcomes: "output" } as const;

/** Texts that begin so are in an index; see the schema, which has the same words. */
const indexed = (column: string): string => `${column} >= '{"$gembatch.payload":"' AND ${column} < '{"$gembatch.payload":#'`;

/** Removes rows with payloads within one transaction, and collects what they referred to. Without a prefix nothing is read of them. */
export class References {
  readonly #db: Database;
  readonly #prefix: string | undefined;
  readonly #found = new Set<string>();

  constructor(db: Database, prefix: string | undefined) {
    this.#db = db;
    this.#prefix = prefix;
  }

  remove(table: keyof typeof columns, no: number): void {
    if (this.#prefix === undefined) {
      this.#db.sql(`DELETE FROM ${table} WHERE no = ?`).run(no);
      return;
    }
    const column = columns[table];
    const row = this.#db
      .sql(`DELETE FROM ${table} WHERE no = ?1 RETURNING CASE WHEN substr(${column}, 1, ?2) = ?3 THEN ${column} END AS text`)
      .get(no, this.#prefix.length, this.#prefix);
    const text = row?.["text"];
    if (typeof text === "string") this.#found.add(text);
  }

  /** What was found and no row holds any more. Inputs and bodies are never copied; outputs and answers are. */
  gone(): string[] {
    const copies = (["answers", "run_outcomes"] as const).map((table) =>
      this.#db.sql(`SELECT 1 FROM ${table} WHERE ${columns[table]} = ? AND ${indexed(columns[table])} LIMIT 1`),
    );
    return [...this.#found].filter((text) => copies.every((copy) => copy.get(text) === undefined));
  }
}
