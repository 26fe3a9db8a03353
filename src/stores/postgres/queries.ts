import type {
  BatchFilter,
  BatchRecord,
  Page,
  PageOptions,
  RequestFilter,
  RequestRecord,
  RunFilter,
  RunRecord,
  StoreStats,
} from "../../core/store.ts";
import { countOf, liveRuns, parseCursor, REQUESTS, RUNS, toCursor, toStats } from "../counts.ts";
import { batchStates, entryNo, parseRequestId, requestStates, runCodes } from "../codes.ts";
import { type BatchRow, type RequestRow, type RunRow, toBatch, toRequest, toRun } from "../records.ts";
import { type SpendSums, spendSums } from "../spend.ts";
import { toBatches } from "./batches.ts";
import type { Sql } from "./session.ts";
import { isStorable, storable, type TransactionNames } from "./names.ts";

import { batchColumns } from "./unit.ts";

/** Rows that one look at a list walks at most: a filter that matches next to nothing gives short pages, not long waits. */
const WINDOW = 20_000;

const runColumns = `
  r.no, r.id, r.kind, r.chain, r.state, r.attempts, r.priority, r.deadline_at, r.usd, r.standard_usd, r.unpriced, r.created_at, r.ended_at,
  i.input, o.output, o.error, o.notes, (SELECT p.id FROM gb.runs p WHERE p.no = r.parent >> 20) AS parent_id,
  (SELECT s.id FROM gb.runs s WHERE s.no = r.starter) AS starter_id`;

const requestColumns = `
  e.no, r.id AS run_id, e.key, e.lane, e.state, e.attempt, e.bytes, e.tokens, e.created_at, e.due_at, e.deadline_at, e.tier_reason, e.usd,
  e.standard_usd, e.unpriced,
  (SELECT b.id FROM gb.batches b WHERE b.no = e.batch) AS batch_id, d.body, a.value, a.error`;

async function toRuns(names: TransactionNames, rows: readonly RunRow[]): Promise<RunRecord[]> {
  await names.loadChains(rows.map(({ chain }) => chain));
  return rows.map((row) => toRun(row, names.chainOf(row.chain)));
}

async function toRequests(names: TransactionNames, rows: readonly RequestRow[]): Promise<RequestRecord[]> {
  await names.loadLanes(rows.map(({ lane }) => lane));
  return rows.map((row) => toRequest(row, names.laneOf(row.lane)));
}

export async function getRuns(sql: Sql, names: TransactionNames, { ids }: { ids: string[] }): Promise<(RunRecord | undefined)[]> {
  const rows = await sql.query<RunRow>(
    `SELECT ${runColumns} FROM gb.run_inputs i JOIN gb.runs r ON r.no = i.no LEFT JOIN gb.run_outcomes o ON o.no = i.no WHERE i.id = ANY($1::text[])`,
    [storable(ids)],
  );
  const found = new Map((await toRuns(names, rows)).map((run) => [run.id, run]));
  return ids.map((id) => found.get(id));
}

export async function listRuns(sql: Sql, names: TransactionNames, filter: RunFilter & PageOptions): Promise<Page<RunRecord>> {
  const codes = filter.state === undefined ? undefined : runCodes(filter.state);
  if (codes !== undefined && countOf(await readTallies(sql), RUNS, codes) === 0) return none;
  const chains = filter.chain === undefined ? undefined : await chainNumbers(sql, filter.chain);
  if (chains?.length === 0) return none;
  const starter = filter.starter === undefined ? undefined : await names.runNo(filter.starter);
  if (filter.starter !== undefined && starter === undefined) return none;
  // Held and failed runs are what operators look for; they have an index, and so have those that one run started.
  const rare = filter.state === "held" || filter.state === "failed" ? [`queue IN (4, 6) AND queue = ${codes?.[0]}`] : [];
  const rows = await page<RunRow>(sql, filter, {
    columns: "no, chain, state, attempts, created_at",
    table: "gb.runs",
    range: starter === undefined ? rare : [["starter = ?", starter]],
    where: [
      ...(codes === undefined ? [] : [`w.state IN (${codes.join(", ")})`]),
      ...(chains === undefined ? [] : [`w.chain IN (${chains.join(", ")})`]),
      ...when("w.created_at < ?", filter.createdBefore),
      ...when("w.created_at > ?", filter.createdAfter),
      // As `toRun` shows it: the error of a turn that got through since is over.
      ...when("(w.state >= 3 OR w.attempts > 0) AND (SELECT o.code FROM gb.run_outcomes o WHERE o.no = w.no) = ?", filter.error),
    ],
    select: (from) => `
      SELECT ${runColumns} FROM (${from}) w
      JOIN gb.runs r ON r.no = w.no JOIN gb.run_inputs i ON i.no = r.no LEFT JOIN gb.run_outcomes o ON o.no = r.no ORDER BY r.no DESC`,
  });
  return { ...rows, items: await toRuns(names, rows.items) };
}

export async function getRequest(sql: Sql, names: TransactionNames, { id }: { id: string }): Promise<RequestRecord | undefined> {
  const no = parseRequestId(id);
  if (no === undefined) return undefined;
  const rows = await sql.query<RequestRow>(
    `SELECT ${requestColumns} FROM gb.entries e JOIN gb.runs r ON r.no = e.no >> 20
     JOIN gb.bodies d ON d.no = e.no LEFT JOIN gb.answers a ON a.no = e.answer WHERE e.no = $1 AND e.kind = 0`,
    [no],
  );
  return (await toRequests(names, rows))[0];
}

export async function listRequests(sql: Sql, names: TransactionNames, filter: RequestFilter & PageOptions): Promise<Page<RequestRecord>> {
  const codes = filter.state === undefined ? undefined : requestStates.flatMap((name, code) => (name === filter.state ? [code] : []));
  if (codes !== undefined && countOf(await readTallies(sql), REQUESTS, codes) === 0) return none;
  const run = filter.run === undefined ? undefined : await names.runNo(filter.run);
  if (filter.run !== undefined && run === undefined) return none;
  const batch = filter.batch === undefined ? undefined : await batchNumber(sql, filter.batch);
  if (filter.batch !== undefined && batch === undefined) return none;
  const rows = await page<RequestRow>(sql, filter, {
    columns: "no, kind, state",
    table: "gb.entries",
    range: [
      ...when("no >= ?", run === undefined ? undefined : entryNo(run, 0)),
      ...when("no < ?", run === undefined ? undefined : entryNo(run + 1, 0)),
      // A request that went back to its queue is no member any more.
      ...when("batch = ? AND state + 0 BETWEEN 4 AND 7", batch),
    ],
    where: ["w.kind = 0", ...(codes === undefined ? [] : [`w.state IN (${codes.join(", ")})`])],
    select: (from) => `
      SELECT ${requestColumns} FROM (${from}) w JOIN gb.entries e ON e.no = w.no JOIN gb.runs r ON r.no = e.no >> 20
      JOIN gb.bodies d ON d.no = e.no LEFT JOIN gb.answers a ON a.no = e.answer ORDER BY e.no DESC`,
  });
  return { ...rows, items: await toRequests(names, rows.items) };
}

async function batchNumber(sql: Sql, id: string): Promise<number | undefined> {
  if (!isStorable(id)) return undefined;
  return (await sql.rows<[number]>(`SELECT no FROM gb.batches WHERE id = $1`, [id]))[0]?.[0];
}

export async function getBatch(sql: Sql, names: TransactionNames, { id }: { id: string }): Promise<BatchRecord | undefined> {
  if (!isStorable(id)) return undefined;
  return (await toBatches(names, await sql.query<BatchRow>(`SELECT ${batchColumns} FROM gb.batches b WHERE b.id = $1`, [id])))[0];
}

export async function listBatches(sql: Sql, names: TransactionNames, filter: BatchFilter & PageOptions): Promise<Page<BatchRecord>> {
  const lane = filter.lane === undefined ? undefined : await names.findLane(filter.lane);
  if (filter.lane !== undefined && lane === undefined) return none;
  const rows = await page<BatchRow>(sql, filter, {
    columns: "no, state, lane, held",
    table: "gb.batches",
    range: filter.active === true ? ["state <= 4"] : [],
    where: [
      ...(filter.state === undefined ? [] : [`w.state = ${batchStates.indexOf(filter.state)}`]),
      ...(filter.active === undefined ? [] : [filter.active ? "w.state <= 4" : "w.state > 4"]),
      ...when("w.lane = ?", lane),
      ...(filter.held === undefined ? [] : [`w.held = ${filter.held ? 1 : 0}`]),
    ],
    select: (from) => `SELECT ${batchColumns} FROM (${from}) w JOIN gb.batches b ON b.no = w.no ORDER BY b.no DESC`,
  });
  await names.loadLanes(rows.items.map((row) => row.lane));
  return { ...rows, items: rows.items.map((row) => toBatch(row, names.laneOf(row.lane))) };
}

/** A condition, with the value of its `?` if it has one: values stay out of the text, or every one would be a statement of its own. */
type Condition = string | [text: string, value: number | string];

const when = (text: string, value: number | string | undefined): Condition[] => (value === undefined ? [] : [[text, value]]);

interface ListQuery {
  columns: string;
  table: string;
  /** What an index answers. */
  range: readonly Condition[];
  /** What is asked of each row of the range, called `w`. */
  where: readonly Condition[];
  /** The records for the numbers that `from` yields. */
  select: (from: string) => string;
}

const none: Page<never> = { items: [], nextCursor: undefined };

/**
 * One page, newest first: the numbers of up to `WINDOW` rows before the cursor, those of them that match, and only then their payloads.
 */
async function page<T>(sql: Sql, options: PageOptions, { columns, table, range, where, select }: ListQuery): Promise<Page<T>> {
  const limit = Math.min(1_000, Math.max(1, Math.floor(options.limit ?? 100)));
  const before = options.cursor === undefined ? Number.MAX_SAFE_INTEGER : parseCursor(options.cursor);
  const values: (number | string)[] = [];
  const text = (condition: Condition): string => {
    if (typeof condition === "string") return condition;
    values.push(condition[1]);
    return condition[0].replace("?", `$${values.length}`);
  };
  const conditions = [...range.map(text), text(["no < ?::int8", before])].join(" AND ");
  // OFFSET 0: the window is taken first, whatever the planner thinks of the filter.
  const source = `SELECT ${columns} FROM ${table} WHERE ${conditions} ORDER BY no DESC LIMIT ${WINDOW} OFFSET 0`;
  const sourceValues = [...values];
  const match = where.length === 0 ? "" : `WHERE ${where.map(text).join(" AND ")}`;
  values.push(limit + 1);
  const numbers = `SELECT no FROM (${source}) w ${match} ORDER BY no DESC LIMIT $${values.length}`;
  const rows = await sql.query<T & { no: number }>(select(numbers), values);
  const items = rows.slice(0, limit);
  if (rows.length > limit) return { items, nextCursor: toCursor(items.at(-1)?.no ?? 0) };
  // The window is walked to its end: the next page begins after it.
  const [walked] = await sql.query<{ count: number; no: number | null }>(
    `SELECT count(*) AS count, min(no) AS no FROM (${source}) w`,
    sourceValues,
  );
  return { items, nextCursor: walked === undefined || walked.count < WINDOW ? undefined : toCursor(walked.no ?? 0) };
}

async function chainNumbers(sql: Sql, chain: string): Promise<number[]> {
  if (!isStorable(chain)) return [];
  return (await sql.rows<[number]>(`SELECT no FROM gb.chains WHERE chain = $1`, [chain])).map(([no]) => no);
}

async function readTallies(sql: Sql): Promise<Map<number, number>> {
  return new Map(await sql.rows<[number, number]>(`SELECT no, sum(count) FROM gb.tallies GROUP BY no`));
}

export async function stats(sql: Sql, names: TransactionNames): Promise<StoreStats> {
  const counts = await readTallies(sql);
  const lanes = await sql.query<SpendSums>(`SELECT lane, ${spendSums} FROM gb.spend GROUP BY lane ORDER BY lane`);
  await names.loadLanes(lanes.map(({ lane }) => lane));
  return toStats(counts, lanes, (no) => names.laneOf(no));
}

/** Runnable, running, waiting and retrying runs, as the tallies have them. */
export async function hasLiveRuns(sql: Sql): Promise<boolean> {
  return liveRuns(await readTallies(sql)) > 0;
}
