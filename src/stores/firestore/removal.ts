import type { Removed, StoreParams } from "../../core/store.ts";
import { referencePrefix as anyReference } from "../../core/payload-store.ts";
import { BATCH, ENTRY, RUN } from "../codes.ts";
import { BATCHES, RUNS } from "../counts.ts";
import { batchOf } from "./batches.ts";
import type { Data, Database, Find } from "./database.ts";
import { forgetHistory } from "./history.ts";
import { runDocument, runOf } from "./keys.ts";
import { rangeOf } from "./requests.ts";
import { type EntryRow, type RunRow, specs } from "./rows.ts";
import type { Unit } from "./unit.ts";
import { expandRow, hasRow } from "./working-set.ts";

/** Documents of one index that one call looks at: what has ended but must stay does not make a call long. */
const WINDOW = 300;
/** Documents that one transaction deletes, as a rule. */
const DELETES = 400;
/** Runs that one transaction removes. */
const RUNS_AT_ONCE = 20;

/** Where the next look of this process begins, by index: time of the end, age. Only kept in memory, for what it saves is time. */
export type Places = Map<string, readonly [number, string]>;

interface Candidate<T> {
  name: string;
  row: T;
  endedAt: number;
  order: string;
}

interface Look<T> {
  name: string;
  next: readonly [number, string] | undefined;
  candidates: Candidate<T>[];
}

export async function removeEnded(database: Database, params: StoreParams<"removeEnded">, places: Places): Promise<Removed> {
  const work = new Removal(database, params, places);
  const runs = await work.runs(params.runs);
  const histories = await work.histories(params.histories);
  const batches = await work.batches(params.batches);
  await work.shared();
  return { runs, histories, batches, more: work.more, references: await work.references() };
}

/** One call's work: at most so much of everything together, old first. What a run has more than a transaction takes goes in several; from the first on its history counts as gone. */
class Removal {
  more = false;
  readonly #database: Database;
  readonly #now: number;
  readonly #places: Places;
  readonly #prefix: string | undefined;
  readonly #texts = new Set<string>();
  #left: number;

  constructor(database: Database, { now, limit, referencePrefix }: StoreParams<"removeEnded">, places: Places) {
    this.#database = database;
    this.#now = now;
    this.#left = limit;
    this.#places = places;
    this.#prefix = referencePrefix;
  }

  async runs({ completed = 0, failed = 0, cancelled = 0 }: StoreParams<"removeEnded">["runs"]): Promise<number> {
    const before = Math.max(completed, failed, cancelled);
    if (before === 0) return 0;
    const limits: Record<number, number> = { [RUN.completed]: completed, [RUN.failed]: failed, [RUN.cancelled]: cancelled };
    const isOld = (row: RunRow): boolean => (row.ended_at ?? Infinity) < (limits[row.state] ?? 0);
    const looks = [await this.#lookAtRuns("runs", "whole", before, isOld), await this.#lookAtRuns("runs", "bare", before, isOld)];
    for (const look of looks) look.candidates = await this.#withoutHeirs(look.candidates);
    return this.#remove(looks, async (part) => this.#removeRuns(part, isOld));
  }

  async histories(before: number | undefined): Promise<number> {
    if (before === undefined) return 0;
    const looks = [await this.#lookAtRuns("histories", "whole", before, () => true)];
    return this.#remove(looks, async (part) => this.#removeHistories(part));
  }

  async batches(before: number | undefined): Promise<number> {
    if (before === undefined) return 0;
    const look = await this.#look("batches", { from: "batches", where: [["ended_at", "<", before]] }, batchOf);
    const checked = await Promise.all(look.candidates.map(async (item) => ((await this.#isBatchFree(item.row.no)) ? [item] : [])));
    look.candidates = checked.flat().filter(({ row }) => row.sweep_at === null);
    return this.#remove([look], async (part) => {
      let removed = 0;
      for (const { row } of part) if (await this.#removeBatch(row.no)) removed += 1;
      return removed;
    });
  }

  async #isBatchFree(batch: string): Promise<boolean> {
    return (
      (await this.#database.find({ from: "entries", where: [["batch", "==", batch]], order: [["order", "desc"]], limit: 1 })).length === 0
    );
  }

  async #removeBatch(no: string): Promise<boolean> {
    for (;;) {
      const done = await this.#removeSomeOfBatch(no);
      if (done !== "some") return done === "all";
    }
  }

  /** The batch goes with the last of its departed rows. */
  async #removeSomeOfBatch(no: string): Promise<"all" | "some" | "nothing"> {
    return this.#database.write(async (unit) => {
      const row = await unit.batches.get(no);
      if (row === undefined || row.state < BATCH.completed || row.sweep_at !== null) return "nothing";
      const departed = await unit.departed.select(
        {
          where: [
            ["__name__", ">=", `${no}-`],
            ["__name__", "<=", `${no}~`],
          ],
          limit: DELETES,
        },
        () => true,
      );
      for (const item of departed) unit.departed.remove(item.no);
      if (departed.found >= DELETES) return "some";
      unit.batches.remove(no);
      unit.tallies.move(BATCHES, row.state, undefined);
      return "all";
    });
  }

  /** Shared answers past their time. */
  async shared(): Promise<void> {
    const find = (limit: number) =>
      this.#database.find({
        from: "shared",
        where: [["expires_at", "<=", this.#now]],
        order: [["expires_at", "asc"]],
        limit,
        fields: ["expires_at"],
      });
    if (this.#left > 0) {
      const found = await find(Math.min(DELETES, this.#left));
      if (found.length > 0) {
        const texts = await this.#database.write(async (unit) => {
          await unit.shared.load(
            found.map(({ id }) => id),
            this.#prefix === undefined ? [] : ["value"],
          );
          const gone: string[] = [];
          for (const { id } of found) {
            const row = unit.shared.peek(id);
            if (row === undefined || row.leader !== null || row.pending === 1 || (row.expires_at ?? Infinity) > this.#now) continue;
            gone.push(...unit.shared.textsOf(row));
            unit.shared.remove(id);
          }
          return gone;
        });
        this.#noteTexts(texts);
      }
      this.#left -= found.length;
    }
    if (this.#left <= 0 && (await find(1)).length > 0) this.more = true;
  }

  /** Texts that were removed, begin with the prefix and are in no document any more. */
  async references(): Promise<string[]> {
    const gone: string[] = [];
    for (const text of this.#texts) {
      // What begins otherwise is in no index; it was never copied either.
      const places = text.startsWith(anyReference) ? ["entries", "runs", "shared"] : [];
      const held = await Promise.all(
        places.map(async (from) => this.#database.find({ from, where: [["reference", "==", text]], limit: 1, fields: ["reference"] })),
      );
      if (held.every((found) => found.length === 0)) gone.push(text);
    }
    return gone;
  }

  #noteTexts(texts: readonly string[]): void {
    if (this.#prefix === undefined) return;
    for (const text of texts) if (text.startsWith(this.#prefix)) this.#texts.add(text);
  }

  // Looking ----------------------------------------------------------------------------------------------------------

  async #lookAtRuns(name: string, ended: string, before: number, condition: (row: RunRow) => boolean): Promise<Look<RunRow>> {
    const where = [
      ["ended", "==", ended],
      ["ended_at", "<", before],
    ] as const;
    const look = await this.#look(`${name} ${ended}`, { from: "runs", where }, ({ data }) => expandRow(specs.runs, data["d"] as Data));
    const old = look.candidates.filter(({ row }) => condition(row));
    const checked = await Promise.all(old.map(async (item) => ((await this.#isSettled(item.row)) ? [item] : [])));
    look.candidates = checked.flat();
    return look;
  }

  async #look<T>(name: string, find: Find, toRow: (found: { data: Data }) => T): Promise<Look<T>> {
    const after = this.#places.get(name);
    const order = [
      ["ended_at", "asc"],
      ["order", "asc"],
    ] as const;
    const found = await this.#database.find({
      ...find,
      order,
      limit: WINDOW,
      fields: ["d", "ended_at", "order"],
      ...(after !== undefined && { after }),
    });
    const last = found.at(-1);
    const next =
      found.length < WINDOW || last === undefined ? undefined : ([last.data["ended_at"] as number, last.data["order"] as string] as const);
    return {
      name,
      next,
      candidates: found.map((item) => ({
        name,
        row: toRow(item),
        endedAt: item.data["ended_at"] as number,
        order: item.data["order"] as string,
      })),
    };
  }

  /** No answer for it is under way. */
  async #isSettled(run: RunRow): Promise<boolean> {
    // Not everybody who waits for it has been told, or not everything that it asked for is withdrawn.
    if (run.waiters.length > 0 || run.dropping === 1) return false;
    if (run.open === 0) return true;
    const entries = await this.#database.find({ from: "entries", where: rangeOf(run.no) });
    return entries.filter(hasRow).every(({ data }) => (data["d"] as EntryRow).state !== ENTRY.batched);
  }

  /** Those whose starter and parent have ended, or are gone. */
  async #withoutHeirs(candidates: Candidate<RunRow>[]): Promise<Candidate<RunRow>[]> {
    const keys = candidates.flatMap(({ row }) => heirsOf(row));
    const documents = [...new Set(keys.map(runDocument))];
    const { found } = await this.#database.read(documents.map((id) => this.#database.document("runs", id)));
    const states = new Map(
      found
        .flatMap((item) => (item === undefined ? [] : [expandRow(specs.runs, item.data["d"] as Data)]))
        .map((row) => [row.no, row.state]),
    );
    return candidates.filter(({ row }) => heirsOf(row).every((key) => (states.get(key) ?? RUN.completed) >= RUN.completed));
  }

  // Removing ---------------------------------------------------------------------------------------------------------

  /** `remove` takes a few candidates and says how many are gone. */
  async #remove<T>(looks: Look<T>[], remove: (part: readonly Candidate<T>[]) => Promise<number>): Promise<number> {
    const found = looks.flatMap(({ candidates }) => candidates).toSorted((a, b) => a.endedAt - b.endedAt || (a.order < b.order ? -1 : 1));
    let seen = 0;
    let removed = 0;
    while (seen < found.length && this.#left > 0) {
      const part = found.slice(seen, seen + Math.min(this.#left, RUNS_AT_ONCE));
      const gone = await remove(part);
      seen += part.length;
      removed += gone;
      this.#left -= gone;
    }
    if (seen < found.length) this.more = true;
    const left = new Set(found.slice(seen).map(({ name }) => name));
    for (const { name, next } of looks) {
      if (next !== undefined) this.more = true;
      // What was not taken now must be found again.
      if (left.has(name)) continue;
      if (next === undefined) this.#places.delete(name);
      else this.#places.set(name, next);
    }
    return removed;
  }

  async #removeRuns(part: readonly Candidate<RunRow>[], isOld: (row: RunRow) => boolean): Promise<number> {
    return this.#inPortions(part, async (unit, run) => {
      if (!isOld(run)) return false;
      unit.tallies.move(RUNS, run.state, undefined);
      unit.runs.remove(run.no);
      return true;
    });
  }

  async #removeHistories(part: readonly Candidate<RunRow>[]): Promise<number> {
    return this.#inPortions(part, async (unit, run) => {
      unit.runs.change(run, { pruned: 1 });
      return true;
    });
  }

  /** Removes the histories of these runs, and then does `finish` for each. Whether a run has still ended is looked at within the transaction: an operator may have let it go on. */
  async #inPortions(part: readonly Candidate<RunRow>[], finish: (unit: Unit, run: RunRow) => Promise<boolean>): Promise<number> {
    let finished = 0;
    for (let rest = part.map(({ row }) => row); rest.length > 0;) {
      let documents = 0;
      const many = rest.findIndex((row) => (documents += row.entries + 1) > DELETES);
      const portion = many < 0 ? rest : rest.slice(0, Math.max(1, many));
      const result = await this.#database.write(async (unit) => this.#forget(unit, portion, finish));
      finished += result.finished;
      this.#noteTexts(result.texts);
      // One that has more than a transaction takes stays in front.
      if (result.whole) rest = rest.slice(portion.length);
    }
    return finished;
  }

  async #forget(
    unit: Unit,
    portion: readonly RunRow[],
    finish: (unit: Unit, run: RunRow) => Promise<boolean>,
  ): Promise<{ finished: number; whole: boolean; texts: string[] }> {
    const wanted = this.#prefix === undefined ? undefined : ([] as string[]);
    await unit.runs.load(
      portion.map(({ no }) => no),
      wanted === undefined ? [] : ["input", "output"],
    );
    let finished = 0;
    let whole = true;
    for (const { no } of portion) {
      const run = unit.runs.peek(no);
      if (run === undefined || run.ended_at === null || run.state < RUN.completed) continue;
      if (run.pruned !== 1) {
        const gone = await forgetHistory(unit, run, this.#now, { limit: DELETES, ...(wanted !== undefined && { texts: wanted }) });
        if (gone >= DELETES) {
          unit.runs.change(run, { pruned: 2 });
          whole = false;
          break;
        }
      }
      const texts = unit.runs.textsOf(run);
      if (!(await finish(unit, run))) continue;
      finished += 1;
      if (unit.runs.peek(no) === undefined) wanted?.push(...texts);
    }
    return { finished, whole, texts: wanted ?? [] };
  }
}

/** Runs that may still look for this one. */
const heirsOf = ({ starter, parent }: RunRow): string[] => [
  ...(starter === null ? [] : [starter]),
  ...(parent === null ? [] : [runOf(parent)]),
];
