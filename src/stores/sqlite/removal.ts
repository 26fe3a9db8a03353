import type { Removed, StoreParams } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import type { Database } from "./database.ts";
import { forgetHistory } from "./history.ts";
import { References } from "./references.ts";
import { hasExpired, removeExpired } from "./shared.ts";
import { BATCHES, RUNS } from "../counts.ts";

/** Entries that one call removes at most, but for the last run, which goes whole. */
const ENTRY_LIMIT = 20_000;
/** Rows of one index that one call looks at: what has ended but must stay does not make a call long. */
const WINDOW = 5_000;

export function removeEnded(db: Database, params: StoreParams<"removeEnded">): Removed {
  const work = new Removal(db, params);
  const runs = work.runs(params.runs);
  const histories = work.histories(params.histories);
  const batches = work.batches(params.batches);
  work.shared();
  return { runs, histories, batches, more: work.more, references: work.references.gone() };
}

interface Ended {
  no: number;
  ended_at: number;
  removable: number;
}

/** No answer for it is under way. */
const isSettled = `NOT EXISTS (SELECT 1 FROM entries e WHERE e.no >= r.no << 20 AND e.no < (r.no + 1) << 20 AND +e.state = 4)`;
/** Runs that ended, with or without their history, before a time and behind a place. */
const endedRuns = `
  WHERE r.ended_at IS NOT NULL AND r.pruned = ?1 AND r.ended_at < ?2 AND r.ended_at >= ?3 AND (r.ended_at > ?3 OR r.no > ?4)
  ORDER BY r.ended_at, r.no`;

/** The row of an index that a look begins behind. */
export interface Place {
  endedAt: number;
  no: number;
}

/** What may go of one index's next rows, and where the look after it begins; `undefined` for the start. */
interface Look {
  name: string;
  next: Place | undefined;
  found: Ended[];
}

/** One call's work: at most so much of everything together, old first. */
class Removal {
  more = false;
  readonly references: References;
  readonly #db: Database;
  readonly #now: number;
  #left: number;
  #entries = ENTRY_LIMIT;

  constructor(db: Database, { now, limit, referencePrefix }: StoreParams<"removeEnded">) {
    this.references = new References(db, referencePrefix);
    this.#db = db;
    this.#now = now;
    this.#left = limit;
  }

  runs({ completed = 0, failed = 0, cancelled = 0 }: StoreParams<"removeEnded">["runs"]): number {
    const text = `
      SELECT r.no, r.ended_at,
        r.ended_at < CASE r.state WHEN ?5 THEN ?6 WHEN ?7 THEN ?8 WHEN ?9 THEN ?10 ELSE 0 END AND
        NOT EXISTS (SELECT 1 FROM runs s WHERE s.no = r.starter AND s.state < 5) AND
        NOT EXISTS (SELECT 1 FROM runs p WHERE p.no = r.parent >> 20 AND p.state < 5) AND ${isSettled} AS removable
      FROM runs r ${endedRuns} LIMIT ?11`;
    const before = Math.max(completed, failed, cancelled);
    if (before === 0) return 0;
    const times = [RUN.completed, completed, RUN.failed, failed, RUN.cancelled, cancelled];
    const looks = [0, 1].map((pruned) => this.#look(`runs ${pruned}`, text, [pruned, before], times));
    return this.#remove(looks, (no) => this.#removeRun(no));
  }

  histories(before: number | undefined): number {
    if (before === undefined) return 0;
    const text = `SELECT r.no, r.ended_at, ${isSettled} AS removable FROM runs r ${endedRuns} LIMIT ?5`;
    return this.#remove([this.#look("histories", text, [0, before], [])], (no) => {
      this.#entries -= forgetHistory(this.#db, no, this.#now, undefined, this.references);
      this.#db.sql(`UPDATE runs SET pruned = 1 WHERE no = ?`).run(no);
    });
  }

  batches(before: number | undefined): number {
    if (before === undefined) return 0;
    const text = `
      SELECT b.no, b.ended_at, b.sweep_at IS NULL AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.batch = b.no) AS removable
      FROM batches b WHERE b.state >= 5 AND b.ended_at < ?1 AND b.ended_at >= ?2 AND (b.ended_at > ?2 OR b.no > ?3)
      ORDER BY b.ended_at, b.no LIMIT ?4`;
    return this.#remove([this.#look("batches", text, [before], [])], (no) => {
      const row = this.#db.sql(`DELETE FROM batches WHERE no = ? RETURNING state`).get(no);
      this.#db.sql(`DELETE FROM departed WHERE batch = ?`).run(no);
      this.#db.tallies.move(BATCHES, row?.["state"] as number, undefined);
    });
  }

  shared(): void {
    if (this.#left > 0) this.#left -= removeExpired(this.#db, this.#now, this.#left, this.references);
    if (this.#left <= 0 && hasExpired(this.#db, this.#now)) this.more = true;
  }

  /**
   * The next rows of an index. A look that reaches its window's end without the index's end goes on there next time: the place is only kept in memory,
   * for what it saves is time.
   */
  #look(name: string, text: string, first: readonly number[], last: readonly number[]): Look {
    const from = this.#db.removals.get(name);
    const rows = this.#db.sql(text).iterate(...first, from?.endedAt ?? 0, from?.no ?? 0, ...last, WINDOW) as Iterable<unknown>;
    const found: Ended[] = [];
    let seen = 0;
    let next: Place | undefined;
    for (const row of rows as Iterable<Ended>) {
      seen += 1;
      next = { endedAt: row.ended_at, no: row.no };
      if (row.removable === 1) found.push(row);
      // One more than there is room for says that there is more.
      if (found.length > this.#left) break;
    }
    return { name, next: seen < WINDOW ? undefined : next, found };
  }

  #remove(looks: readonly Look[], remove: (no: number) => void): number {
    const found = looks.flatMap((look) => look.found).toSorted((a, b) => a.ended_at - b.ended_at || a.no - b.no);
    const removed = new Set<number>();
    for (const { no } of found) {
      if (this.#left <= 0 || this.#entries <= 0) break;
      remove(no);
      this.#left -= 1;
      removed.add(no);
    }
    if (removed.size < found.length) this.more = true;
    for (const look of looks) {
      if (look.next !== undefined) this.more = true;
      // What was not taken now must be found again.
      if (!look.found.every(({ no }) => removed.has(no))) continue;
      if (look.next === undefined) this.#db.removals.delete(look.name);
      else this.#db.removals.set(look.name, look.next);
    }
    return removed.size;
  }

  #removeRun(no: number): void {
    const db = this.#db;
    this.#entries -= forgetHistory(db, no, this.#now, undefined, this.references);
    const row = db.sql(`DELETE FROM runs WHERE no = ? RETURNING id, state`).get(no);
    this.references.remove("run_inputs", no);
    this.references.remove("run_outcomes", no);
    db.tallies.move(RUNS, row?.["state"] as number, undefined);
    db.names.dropRun(row?.["id"] as string);
  }
}
