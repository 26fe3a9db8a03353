import { GembatchError } from "../../core/errors.ts";
import type {
  BatchFilter,
  BatchRecord,
  Page,
  PageOptions,
  RequestFilter,
  RequestRecord,
  RunFilter,
  RunRecord,
  SpendRow,
  StoreStats,
} from "../../core/store.ts";
import { BATCH, batchStates, isMember, requestStates, RUN, runCodes } from "../codes.ts";
import { liveRuns, toStats } from "../counts.ts";
import { toRequest, toRun } from "../records.ts";
import { dayNo, type SpendSums, toSpendRow } from "../spend.ts";
import { batchOf, byOrder, readActive, toRecord } from "./batches.ts";
import type { Data, Database, Find, Found } from "./database.ts";
import { digest, entryKey, entryNumber, isEntryKey, isOrder, laneKey, laneOf, orderOf, runDocument, runOf } from "./keys.ts";
import { batchKey, type BatchRow, type EntryRow, type RunRow, specs } from "./rows.ts";
import { type DaySpend, inOrder, readCounters, readSpend, type UsageSums } from "./tallies.ts";
import { expandRow, hasRow } from "./working-set.ts";

/** Documents that one look at a list walks at most: a filter that matches next to nothing gives short pages, not long waits. */
const WINDOW = 2_000;
const STEP = 300;

const runTexts = ["t.input", "t.output", "t.error", "t.notes"];
const entryTexts = ["t.body", "t.value", "t.error"];
const textsOf = (data: Data): Record<string, string | undefined> => (data["t"] ?? {}) as Record<string, string | undefined>;
const runOfDocument = ({ data }: { data: Data }): RunRow => expandRow(specs.runs, data["d"] as Data);
const entryOfDocument = ({ data }: { data: Data }): EntryRow => expandRow(specs.entries, data["d"] as Data);

// Records ------------------------------------------------------------------------------------------------------------

/** Ids of starters and parents are looked up: who is gone, or has forgotten the entry, is nobody's. */
async function toRuns(database: Database, found: readonly Found[]): Promise<RunRecord[]> {
  const rows = found.map((item) => ({ row: runOfDocument(item), texts: textsOf(item.data) }));
  const keys = rows.flatMap(({ row: { parent, starter } }) => [parent ?? [], starter ?? []].flat());
  const documents = [...new Set(keys.map(runDocument))];
  const { found: others } = await database.read(documents.map((id) => database.document("runs", id)));
  const known = new Map(others.flatMap((item) => (item === undefined ? [] : [runOfDocument(item)])).map((row) => [row.no, row]));
  return rows.map(({ row, texts }) => {
    const parent = row.parent === null ? undefined : known.get(runOf(row.parent));
    const sql = {
      ...{ id: row.id, kind: row.kind, state: row.state, attempts: row.attempts, priority: row.priority },
      ...{ created_at: row.created_at, ended_at: row.ended_at, deadline_at: row.deadline_at },
      ...{ usd: row.usd, standard_usd: row.standard_usd, unpriced: row.unpriced, no: 0, chain: 0 },
      input: texts["input"] ?? "null",
      output: texts["output"] ?? null,
      error: texts["error"] ?? null,
      notes: texts["notes"] ?? null,
      parent_id: parent === undefined || parent.round !== row.parent_round ? null : parent.id,
      starter_id: row.starter === null ? null : (known.get(row.starter)?.id ?? null),
    };
    return toRun(sql, { chain: row.chain, version: row.version });
  });
}

function toRequestRecord(found: Found): RequestRecord {
  const row = entryOfDocument(found);
  const texts = textsOf(found.data);
  const sql = {
    ...row,
    no: 0,
    lane: 0,
    attempt: row.attempt ?? 1,
    bytes: row.bytes ?? 0,
    tokens: row.tokens ?? 0,
    due_at: row.due_at ?? 0,
    body: texts["body"] ?? null,
    value: texts["value"] ?? null,
    error: texts["error"] ?? null,
  };
  return { ...toRequest(sql, laneOf(row.lane ?? "")), id: found.id };
}

export async function getRuns(database: Database, { ids }: { ids: string[] }): Promise<(RunRecord | undefined)[]> {
  const documents = [...new Set(ids.map(digest))];
  const { found } = await database.read(
    documents.map((id) => database.document("runs", id)),
    ["d", ...runTexts],
  );
  const runs = await toRuns(
    database,
    found.filter((item) => item !== undefined),
  );
  const known = new Map(runs.map((run) => [run.id, run]));
  return ids.map((id) => known.get(id));
}

export async function getRequest(database: Database, { id }: { id: string }): Promise<RequestRecord | undefined> {
  if (!isEntryKey(id)) return undefined;
  const { found } = await database.read([database.document("entries", id)], ["d", ...entryTexts]);
  return found[0] === undefined || entryOfDocument(found[0]).kind !== 0 ? undefined : toRequestRecord(found[0]);
}

export async function getBatch(database: Database, { id }: { id: string }): Promise<BatchRecord | undefined> {
  const { found } = await database.read([database.document("batches", batchKey(id))]);
  return found[0] === undefined ? undefined : toRecord(batchOf(found[0]));
}

// Lists --------------------------------------------------------------------------------------------------------------

const none: Page<never> = { items: [], nextCursor: undefined };

const limitOf = ({ limit = 100 }: PageOptions): number => Math.min(1_000, Math.max(1, Math.floor(limit)));

function cursorOf({ cursor }: PageOptions): string | undefined {
  if (cursor === undefined || isOrder(cursor)) return cursor;
  throw new GembatchError("invalid_argument", "The cursor is none that this store gave out.", {
    hint: "Pass nextCursor of the page before, unchanged.",
  });
}

interface Walk {
  from: "runs" | "entries";
  /** What an index answers. */
  where: NonNullable<Find["where"]>;
  /** What is asked of each document; `undefined`: nothing. */
  matches: ((found: Found) => boolean) | undefined;
  texts: readonly string[];
}

/** One page, newest first: documents before the cursor, step by step up to `WINDOW`, those of them that match, and only then their payloads. */
async function page(database: Database, options: PageOptions, { from, where, matches, texts }: Walk): Promise<Page<Found>> {
  const limit = limitOf(options);
  const matched: Found[] = [];
  let before = cursorOf(options);
  let walked = 0;
  let ended = false;
  while (matched.length <= limit && walked < WINDOW && !ended) {
    const step = matches === undefined ? limit + 1 : STEP;
    const found = await database.find({
      from,
      where: before === undefined ? where : [...where, ["order", "<", before]],
      order: [["order", "desc"]],
      limit: step,
      fields: matches === undefined ? ["d", "order", ...texts] : ["d", "order"],
    });
    walked += found.length;
    ended = found.length < step;
    before = (found.at(-1)?.data["order"] as string | undefined) ?? before;
    matched.push(...found.filter((item) => matches?.(item) ?? true));
  }
  const items = matched.slice(0, limit);
  const nextCursor = matched.length > limit ? (items.at(-1)?.data["order"] as string) : ended ? undefined : before;
  return { items: matches === undefined ? items : await withTexts(database, from, items, texts), nextCursor };
}

async function withTexts(database: Database, from: string, items: readonly Found[], texts: readonly string[]): Promise<Found[]> {
  const { found } = await database.read(
    items.map(({ id }) => database.document(from, id)),
    ["d", ...texts],
  );
  return found.filter((item) => item !== undefined);
}

const inShards = (database: Database) => ["shard", "in", Array.from({ length: database.settings.shards }, (_, shard) => shard)] as const;

export async function listRuns(database: Database, filter: RunFilter & PageOptions): Promise<Page<RunRecord>> {
  const codes = filter.state === undefined ? undefined : runCodes(filter.state);
  const starter = filter.starter === undefined ? undefined : await findRun(database, filter.starter);
  if (filter.starter !== undefined && starter === undefined) return none;
  const { chain, error, createdBefore = Infinity, createdAfter = -Infinity } = filter;
  const matches = (found: Found): boolean => {
    const row = runOfDocument(found);
    return (
      (codes === undefined || codes.includes(row.state)) &&
      (chain === undefined || row.chain === chain) &&
      // As `toRun` shows it: the error of a turn that got through since is over.
      (error === undefined || ((row.state >= RUN.retrying || row.attempts > 0) && row.error_code === error)) &&
      row.created_at < createdBefore &&
      row.created_at > createdAfter
    );
  };
  // Held and failed runs are what operators look for; they have an index, and so have those that one run started.
  const isTrouble = filter.state === "held" || filter.state === "failed";
  const where =
    starter !== undefined
      ? (["starter", "==", starter.no] as const)
      : isTrouble
        ? (["trouble", "==", codes?.[0]] as const)
        : inShards(database);
  const isFiltered = [codes, chain, error, filter.createdBefore, filter.createdAfter].some((value) => value !== undefined);
  const found = await page(database, filter, { from: "runs", where: [where], matches: isFiltered ? matches : undefined, texts: runTexts });
  return { ...found, items: await toRuns(database, found.items) };
}

async function findRun(database: Database, id: string): Promise<RunRow | undefined> {
  const { found } = await database.read([database.document("runs", digest(id))]);
  const row = found[0] === undefined ? undefined : runOfDocument(found[0]);
  return row?.id === id ? row : undefined;
}

export async function listRequests(database: Database, filter: RequestFilter & PageOptions): Promise<Page<RequestRecord>> {
  const { batch, state } = filter;
  const run = filter.run === undefined ? undefined : await findRun(database, filter.run);
  if (filter.run !== undefined && run === undefined) return none;
  const matches = (found: Found): boolean => {
    const row = entryOfDocument(found);
    return (
      row.kind === 0 &&
      (state === undefined || requestStates[row.state] === state) &&
      (run === undefined || row.no.startsWith(run.no)) &&
      // A request that went back to its queue is no member any more.
      (batch === undefined || (row.batch === batchKey(batch) && isMember(row.state)))
    );
  };
  if (run !== undefined && batch === undefined) return listOfRun(database, filter, run, matches);
  const where = batch === undefined ? inShards(database) : (["batch", "==", batchKey(batch)] as const);
  const isFiltered = batch !== undefined || state !== undefined;
  const found = await page(database, filter, {
    from: "entries",
    where: [where],
    matches: isFiltered ? matches : undefined,
    texts: entryTexts,
  });
  return { ...found, items: found.items.map(toRequestRecord) };
}

/** Requests of one run: its entries have numbers, so ranges of names are walked from the last one down. */
async function listOfRun(
  database: Database,
  options: PageOptions,
  run: RunRow,
  matches: (found: Found) => boolean,
): Promise<Page<RequestRecord>> {
  const limit = limitOf(options);
  const cursor = cursorOf(options);
  const matched: Found[] = [];
  let before = cursor === undefined ? run.entries : entryNumber(run.no.slice(0, 20) + cursor.slice(0, 16));
  if (Number.isNaN(before)) return none;
  while (matched.length <= limit && before > 0) {
    const from = Math.max(0, before - STEP);
    const found = await database.find({
      from: "entries",
      where: [
        ["__name__", ">=", entryKey(run.no, from)],
        ["__name__", "<=", entryKey(run.no, before - 1)],
      ],
      fields: ["d", ...entryTexts],
    });
    matched.push(...found.filter((item) => hasRow(item) && matches(item)).toReversed());
    before = from;
  }
  const items = matched.slice(0, limit);
  const last = items.at(-1);
  return { items: items.map(toRequestRecord), nextCursor: matched.length > limit && last !== undefined ? orderOf(last.id) : undefined };
}

export async function listBatches(database: Database, filter: BatchFilter & PageOptions): Promise<Page<BatchRecord>> {
  const limit = limitOf(filter);
  const lane = filter.lane === undefined ? undefined : laneKey(filter.lane);
  const matches = (row: BatchRow): boolean =>
    (filter.state === undefined || batchStates[row.state] === filter.state) &&
    (filter.active === undefined || row.state < BATCH.completed === filter.active) &&
    (lane === undefined || row.lane === lane) &&
    (filter.held === undefined || (row.held === 1) === filter.held);
  const matched: BatchRow[] = [];
  let before = filter.cursor;
  if (before !== undefined && !/^[0-9a-z]{17}$/.test(before)) cursorOf({ cursor: "" });
  let ended = filter.active === true;
  let walked = 0;
  if (filter.active === true) {
    const active = (await readActive(database)).toReversed();
    const from = before;
    matched.push(...active.filter((row) => matches(row) && (from === undefined || row.order < from)));
  }
  while (matched.length <= limit && walked < WINDOW && !ended) {
    const found: BatchRow[] = (
      await database.find({
        from: "batches",
        where: before === undefined ? [] : [["order", "<", before]],
        order: [["order", "desc"]],
        limit: STEP,
      })
    ).map(batchOf);
    walked += found.length;
    ended = found.length < STEP;
    before = found.at(-1)?.order ?? before;
    matched.push(...found.filter(matches));
  }
  const rows = matched.slice(0, limit);
  const nextCursor = matched.length > limit ? rows.at(-1)?.order : ended ? undefined : before;
  return { items: rows.toSorted(byOrder).toReversed().map(toRecord), nextCursor };
}

// Figures ------------------------------------------------------------------------------------------------------------

/** The sums under the names that the shared code has for them. */
function toSums(lane: number, sums: UsageSums & Partial<DaySpend["sums"]>): SpendSums {
  return {
    lane,
    answers: sums.answers,
    prompt_tokens: sums.promptTokens,
    cached_tokens: sums.cachedTokens,
    output_tokens: sums.outputTokens,
    thought_tokens: sums.thoughtTokens,
    tool_tokens: sums.toolTokens,
    audio_tokens: sums.audioTokens,
    image_tokens: sums.imageTokens,
    usd: sums.usd ?? 0,
    standard_usd: sums.standardUsd ?? 0,
    unpriced: sums.unpriced ?? 0,
  };
}

export async function stats(database: Database): Promise<StoreStats> {
  const { counts, usage } = await readCounters(database);
  const lanes = inOrder(database, usage.keys());
  return toStats(
    counts,
    lanes.flatMap((lane, i) => {
      const sums = usage.get(lane);
      return sums === undefined ? [] : [toSums(i, sums)];
    }),
    (i) => laneOf(lanes[i] ?? ""),
  );
}

/** Runnable, running, waiting and retrying runs, as the counters have them. */
export async function hasLiveRuns(database: Database): Promise<boolean> {
  return liveRuns((await readCounters(database)).counts) > 0;
}

const LAST_DAY = 999_998;

export async function spend(database: Database, { since, until }: { since?: string; until?: string }): Promise<SpendRow[]> {
  const rows = await readSpend(database, dayNo(since, 0), dayNo(until, LAST_DAY));
  return rows.map(({ day, chain, lane, sums }) => toSpendRow({ ...toSums(0, sums), day, chain }, laneOf(lane)));
}
