import type { Removed, StoreParams } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import { toArray } from "./arrays.ts";
import { releaseAnswer } from "./entries.ts";
import { forgetHistories } from "./history.ts";
import { forgetShares } from "./shared.ts";
import { BATCHES, RUNS } from "../counts.ts";
import type { RunRow, Unit } from "./unit.ts";

/** Entries that one call removes at most, but for the last run, which goes whole. */
const ENTRY_LIMIT = 20_000;
/** Rows of one index that one call looks at: what has ended but must stay does not make a call long. */
const WINDOW = 5_000;

/** The row of an index that a look begins behind. */
interface Place {
  endedAt: number;
  no: number;
}

/** Where the next look of this process begins, by index; only kept in memory, for what it saves is time. */
export type Places = Map<string, Place>;

interface Ended {
  no: number;
  ended_at: number;
  removable: boolean;
}

/** What may go of one index's next rows, and where the look after it begins; `undefined` for the start. */
interface Look {
  name: string;
  next: Place | undefined;
  found: Ended[];
}

/** No answer for it is under way. */
const isSettled = `NOT EXISTS (SELECT 1 FROM gb.entries e WHERE e.no >= r.no << 20 AND e.no < (r.no + 1) << 20 AND e.state + 0 = 4)`;
/** Runs that ended, with or without their history, before a time and behind a place. */
const endedRuns = `
  FROM gb.runs r WHERE r.ended_at IS NOT NULL AND r.pruned = $1 AND r.ended_at < $2 AND (r.ended_at, r.no) > ($3::int8, $4::int8)
  ORDER BY r.ended_at, r.no LIMIT ${WINDOW}`;

export async function removeEnded(unit: Unit, params: StoreParams<"removeEnded">, places: Places): Promise<Removed> {
  unit.referencePrefix = params.referencePrefix;
  const work = new Removal(unit, params, places);
  const runs = await work.runs(params.runs);
  const histories = await work.histories(params.histories);
  const batches = await work.batches(params.batches);
  await work.shared();
  return { runs, histories, batches, more: work.more, references: await unit.references() };
}

/** One call's work: at most so much of everything together, old first. */
class Removal {
  more = false;
  readonly #unit: Unit;
  readonly #now: number;
  readonly #places: Places;
  #left: number;
  #entries = ENTRY_LIMIT;

  constructor(unit: Unit, { now, limit }: StoreParams<"removeEnded">, places: Places) {
    this.#unit = unit;
    this.#now = now;
    this.#left = limit;
    this.#places = places;
  }

  async runs({ completed = 0, failed = 0, cancelled = 0 }: StoreParams<"removeEnded">["runs"]): Promise<number> {
    const before = Math.max(completed, failed, cancelled);
    if (before === 0) return 0;
    const text = `
      SELECT r.no, r.ended_at,
        r.ended_at < CASE r.state WHEN ${RUN.completed} THEN $5::int8 WHEN ${RUN.failed} THEN $6::int8 WHEN ${RUN.cancelled} THEN $7::int8 ELSE 0 END AND
        coalesce((SELECT s.state FROM gb.runs s WHERE s.no = r.starter), 5) >= 5 AND
        coalesce((SELECT p.state FROM gb.runs p WHERE p.no = r.parent >> 20), 5) >= 5 AND ${isSettled} AS removable
      FROM (SELECT * ${endedRuns}) r ORDER BY r.ended_at, r.no`;
    const looks = [
      await this.#look("runs 0", text, [0, before], [completed, failed, cancelled]),
      await this.#look("runs 1", text, [1, before], [completed, failed, cancelled]),
    ];
    return this.#remove(looks, async (numbers) => {
      const { seen, runs } = await this.#forget(numbers);
      await this.#removeRuns(runs);
      return { seen, removed: runs.length };
    });
  }

  async histories(before: number | undefined): Promise<number> {
    if (before === undefined) return 0;
    const text = `SELECT r.no, r.ended_at, ${isSettled} AS removable FROM (SELECT * ${endedRuns}) r ORDER BY r.ended_at, r.no`;
    return this.#remove([await this.#look("histories", text, [0, before], [])], async (numbers) => {
      const { seen, runs } = await this.#forget(numbers);
      for (const run of runs) this.#unit.runs.change(run, { pruned: 1 });
      return { seen, removed: runs.length };
    });
  }

  async batches(before: number | undefined): Promise<number> {
    if (before === undefined) return 0;
    const text = `
      SELECT b.no, b.ended_at, b.sweep_at IS NULL AND
        (SELECT e.no FROM gb.entries e WHERE e.batch >= b.no AND e.batch < b.no + 1 ORDER BY e.batch LIMIT 1) IS NULL AS removable
      FROM gb.batches b WHERE b.state >= 5 AND b.ended_at < $1 AND (b.ended_at, b.no) > ($2::int8, $3::int8) ORDER BY b.ended_at, b.no LIMIT ${WINDOW}`;
    return this.#remove([await this.#look("batches", text, [before], [])], async (numbers) => {
      const { sql, tallies } = this.#unit;
      const wanted = toArray("int4[]", numbers);
      const gone = await sql.rows<[number]>(`DELETE FROM gb.batches WHERE no = ANY($1::int4[]) RETURNING state`, [wanted]);
      await sql.run(`DELETE FROM gb.departed WHERE batch = ANY($1::int4[])`, [wanted]);
      for (const [state] of gone) tallies.move(BATCHES, state, undefined);
      return { seen: numbers.length, removed: gone.length };
    });
  }

  async shared(): Promise<void> {
    const { sql } = this.#unit;
    if (this.#left > 0) {
      await this.#unit.flush();
      const rows = await sql.rows<[number, number | null]>(
        `SELECT no, answer FROM gb.shared WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED`,
        [this.#now, this.#left],
      );
      for (const [, answer] of rows) await releaseAnswer(this.#unit, answer);
      const numbers = rows.map(([no]) => no);
      await sql.run(`UPDATE gb.shared SET answer = NULL, expires_at = NULL WHERE no = ANY($1::int4[])`, [toArray("int4[]", numbers)]);
      await forgetShares(this.#unit, numbers);
      this.#left -= rows.length;
    }
    if (
      this.#left <= 0 &&
      (await sql.rows(`SELECT 1 FROM gb.shared WHERE expires_at <= $1 ORDER BY expires_at LIMIT 1`, [this.#now])).length > 0
    )
      this.more = true;
  }

  async #look(name: string, text: string, first: readonly number[], last: readonly number[]): Promise<Look> {
    const from = this.#places.get(name);
    const rows = await this.#unit.sql.query<Ended>(text, [...first, from?.endedAt ?? 0, from?.no ?? 0, ...last]);
    const end = rows.at(-1);
    const next = rows.length < WINDOW || end === undefined ? undefined : { endedAt: end.ended_at, no: end.no };
    return { name, next, found: rows.filter(({ removable }) => removable) };
  }

  /** `remove` takes the first so many of these rows, as many as it may, and says how many it looked at and how many are gone. */
  async #remove(
    looks: readonly Look[],
    remove: (numbers: readonly number[]) => Promise<{ seen: number; removed: number }>,
  ): Promise<number> {
    const found = looks.flatMap((look) => look.found).toSorted((a, b) => a.ended_at - b.ended_at || a.no - b.no);
    let seen = 0;
    let removed = 0;
    while (seen < found.length && this.#left > 0 && this.#entries > 0) {
      const part = await remove(found.slice(seen, seen + this.#left).map(({ no }) => no));
      seen += part.seen;
      removed += part.removed;
      this.#left -= part.removed;
    }
    if (seen < found.length) this.more = true;
    const left = new Set(found.slice(seen).map(({ no }) => no));
    for (const look of looks) {
      if (look.next !== undefined) this.more = true;
      // What was not taken now must be found again.
      if (look.found.some(({ no }) => left.has(no))) continue;
      if (look.next === undefined) this.#places.delete(look.name);
      else this.#places.set(look.name, look.next);
    }
    return removed;
  }

  /**
   * Removes the histories of the first of these runs, as many as the limit of entries allows, but at least one. Whether a run has still ended is looked at under its lock: an operator may have let
   * it go on. Returns the runs whose history is gone.
   */
  async #forget(numbers: readonly number[]): Promise<{ seen: number; runs: RunRow[] }> {
    const unit = this.#unit;
    await unit.runs.lock(numbers);
    const runs: RunRow[] = [];
    let seen = 0;
    let entries = 0;
    for (const no of numbers) {
      if (seen > 0 && entries >= this.#entries) break;
      seen += 1;
      const run = unit.runs.peek(no);
      if (run === undefined || run.ended_at === null || run.state < RUN.completed) continue;
      runs.push(run);
      if (run.pruned === 0) entries += run.entries;
    }
    this.#entries -= entries;
    await forgetHistories(
      unit,
      runs.filter(({ pruned }) => pruned === 0).map(({ no }) => no),
      this.#now,
    );
    return { seen, runs };
  }

  async #removeRuns(runs: readonly RunRow[]): Promise<void> {
    const unit = this.#unit;
    if (runs.length === 0) return;
    const numbers = runs.map(({ no }) => no);
    for (const run of runs) {
      unit.tallies.move(RUNS, run.state, undefined);
      unit.names.dropRun(run.id, run.epoch);
      unit.runs.forget(run.no);
    }
    await unit.sql.run(`DELETE FROM gb.runs WHERE no = ANY($1::int8[])`, [toArray("int8[]", numbers)]);
    await unit.removeInputs(numbers);
    await unit.removeOutcomes(numbers);
  }
}
