/**
 * What the planner knows of tables that were empty a moment ago. Until the server's own look at them (a minute by default) it takes them for empty, and a plan that was made then is
 * kept with its statement: so whoever fills them has them looked at.
 */
import type { Connection } from "./connection.ts";

/** Rows that this process adds before the first look, how much more before each further one, and when the server's own looks come often enough. */
const FIRST = 1_000;
const FACTOR = 8;
const LAST = 500_000;

/** Tables that have grown to four times what the planner knows of them: another process may have had them looked at. */
const grownTables = `
  SELECT relname::text FROM pg_class
  WHERE oid = ANY(ARRAY['gb.runs'::regclass, 'gb.run_inputs'::regclass, 'gb.entries'::regclass]::oid[])
    AND pg_relation_size(oid) >= 4 * greatest(relpages, 1) * current_setting('block_size')::int8`;

export class Statistics {
  readonly #connection: Connection;
  #added = 0;
  #next = FIRST;
  #looking: Promise<void> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** This process has added so many runs and requests. Nothing waits for what follows from it. */
  grew(rows: number): void {
    this.#added += rows;
    if (this.#added < this.#next || this.#next > LAST || this.#looking !== undefined) return;
    this.#next = this.#added * FACTOR;
    this.#looking = this.#look().finally(() => (this.#looking = undefined));
  }

  async close(): Promise<void> {
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      const grown = await this.#connection.read(async (sql) => sql.rows<[string]>(grownTables));
      // A small sample tells how large a table is; the usual one of 30,000 rows was 8 % of the server's work.
      for (const [table] of grown) {
        await this.#connection.write(async (sql) => {
          await sql.run(`SET LOCAL default_statistics_target = 10`);
          await sql.run(`ANALYZE gb.${table}`);
        });
      }
    } catch {
      // Not our tables, or no time: the server looks by itself.
    }
  }
}
