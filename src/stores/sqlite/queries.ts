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
import { batchStates, entryNo, parseRequestId, requestStates, runCodes } from "../codes.ts";
import { findBatch } from "./batches.ts";
import type { Database } from "./database.ts";
import { type BatchRow, type RequestRow, type RunRow, toBatch, toRequest, toRun } from "../records.ts";
import { type SpendSums, spendSums } from "../spend.ts";
import { countOf, liveRuns, parseCursor, REQUESTS, RUNS, toCursor, toStats } from "../counts.ts";

/** Rows that one look at a list walks at most: a filter that matches next to nothing gives short pages, not long waits. */
const WINDOW = 20_000;

const runColumns = `
  r.no, r.id, r.kind, r.chain, r.state, r.attempts, r.priority, r.deadline_at, r.usd, r.standard_usd, r.unpriced, r.created_at, r.ended_at,
  i.input, o.output, o.error, o.notes, (SELECT p.id FROM runs p WHERE p.no = r.parent >> 20) AS parent_id,
  (SELECT s.id FROM runs s WHERE s.no = r.starter) AS starter_id`;

const requestColumns = `
  e.no, r.id AS run_id, e.key, e.lane, e.state, e.attempt, e.bytes, e.tokens, e.created_at, e.due_at, e.deadline_at, e.tier_reason, e.usd,
  e.standard_usd, e.unpriced,
  (SELECT b.id FROM batches b WHERE b.no = e.batch) AS batch_id, d.body, a.value, a.error`;

export function getRuns(db: Database, { ids }: { ids: string[] }): (RunRecord | undefined)[] {
  const select = db.sql(`
    SELECT ${runColumns} FROM runs r JOIN run_inputs i ON i.no = r.no LEFT JOIN run_outcomes o ON o.no = r.no WHERE r.id = ?`);
  return ids.map((id) => {
    const row = select.get(id) as unknown as RunRow | undefined;
    return row === undefined ? undefined : toRun(row, db.names.chain(row.chain));
  });
}

export function listRuns(db: Database, filter: RunFilter & PageOptions): Page<RunRecord> {
  const codes = filter.state === undefined ? undefined : runCodes(filter.state);
  if (codes !== undefined && countOf(readTallies(db), RUNS, codes) === 0) return none;
  const chains = filter.chain === undefined ? undefined : chainNumbers(db, filter.chain);
  if (chains?.length === 0) return none;
  const starter = filter.starter === undefined ? undefined : db.names.runNo(filter.starter);
  if (filter.starter !== undefined && starter === undefined) return none;
  // Held and failed runs are what operators look for; they have an index, and so have those that one run started.
  const rare = filter.state === "held" || filter.state === "failed" ? [`state IN (4, 6) AND state = ${codes?.[0]}`] : [];
  return page(db, filter, {
    columns: "no, chain, state, attempts, created_at",
    table: "runs",
    range: starter === undefined ? rare : [["starter = ?", starter]],
    where: [
      ...(codes === undefined ? [] : [`w.state IN (${codes.join(", ")})`]),
      ...(chains === undefined ? [] : [`w.chain IN (${chains.join(", ")})`]),
      ...when("w.created_at < ?", filter.createdBefore),
      ...when("w.created_at > ?", filter.createdAfter),
      // As `toRun` shows it: the error of a turn that got through since is over.
      ...when("(w.state >= 3 OR w.attempts > 0) AND (SELECT o.error ->> '$.code' FROM run_outcomes o WHERE o.no = w.no) = ?", filter.error),
    ],
    select: (from) => `
      SELECT ${runColumns} FROM (${from}) w
      JOIN runs r ON r.no = w.no JOIN run_inputs i ON i.no = r.no LEFT JOIN run_outcomes o ON o.no = r.no ORDER BY r.no DESC`,
    toItem: (row) => toRun(row as unknown as RunRow, db.names.chain(row["chain"] as number)),
  });
}

export function getRequest(db: Database, { id }: { id: string }): RequestRecord | undefined {
  const no = parseRequestId(id);
  const row =
    no === undefined
      ? undefined
      : db
          .sql(`
      SELECT ${requestColumns} FROM entries e JOIN runs r ON r.no = e.no >> 20
      JOIN bodies d ON d.no = e.body LEFT JOIN answers a ON a.no = e.answer WHERE e.no = ? AND e.kind = 0`)
          .get(no);
  return row === undefined ? undefined : toRequest(row as unknown as RequestRow, db.names.lane(row["lane"] as number));
}

export function listRequests(db: Database, filter: RequestFilter & PageOptions): Page<RequestRecord> {
  const codes = filter.state === undefined ? undefined : requestStates.flatMap((name, code) => (name === filter.state ? [code] : []));
  if (codes !== undefined && countOf(readTallies(db), REQUESTS, codes) === 0) return none;
  const run = filter.run === undefined ? undefined : db.names.runNo(filter.run);
  if (filter.run !== undefined && run === undefined) return none;
  const batch = filter.batch === undefined ? undefined : findBatch(db, filter.batch)?.no;
  if (filter.batch !== undefined && batch === undefined) return none;
  return page(db, filter, {
    columns: "no, kind, state",
    table: "entries",
    range: [
      ...when("no >= ?", run === undefined ? undefined : entryNo(run, 0)),
      ...when("no < ?", run === undefined ? undefined : entryNo(run + 1, 0)),
      // A request that went back to its queue is no member any more.
      ...when(`${run === undefined ? "batch" : "+batch"} = ? AND +state BETWEEN 4 AND 7`, batch),
    ],
    where: ["w.kind = 0", ...(codes === undefined ? [] : [`w.state IN (${codes.join(", ")})`])],
    select: (from) => `
      SELECT ${requestColumns} FROM (${from}) w JOIN entries e ON e.no = w.no JOIN runs r ON r.no = e.no >> 20
      JOIN bodies d ON d.no = e.body LEFT JOIN answers a ON a.no = e.answer ORDER BY e.no DESC`,
    toItem: (row) => toRequest(row as unknown as RequestRow, db.names.lane(row["lane"] as number)),
  });
}

export function getBatch(db: Database, { id }: { id: string }): BatchRecord | undefined {
  const row = findBatch(db, id);
  return row === undefined ? undefined : toBatch(row, db.names.lane(row.lane));
}

export function listBatches(db: Database, filter: BatchFilter & PageOptions): Page<BatchRecord> {
  const lane = filter.lane === undefined ? undefined : db.names.findLane(filter.lane);
  if (filter.lane !== undefined && lane === undefined) return none;
  return page(db, filter, {
    columns: "no, state, lane, held",
    table: "batches",
    range: filter.active === true ? ["state <= 4"] : [],
    where: [
      ...(filter.state === undefined ? [] : [`w.state = ${batchStates.indexOf(filter.state)}`]),
      ...(filter.active === undefined ? [] : [filter.active ? "w.state <= 4" : "w.state > 4"]),
      ...when("w.lane = ?", lane),
      ...(filter.held === undefined ? [] : [`w.held = ${filter.held ? 1 : 0}`]),
    ],
    select: (from) => `SELECT b.* FROM (${from}) w JOIN batches b ON b.no = w.no ORDER BY b.no DESC`,
    toItem: (row) => toBatch(row as unknown as BatchRow, db.names.lane(row["lane"] as number)),
  });
}

/** A condition, with the value of its `?` if it has one: values stay out of the text, or every one would be a statement of its own. */
type Condition = string | [text: string, value: number | string];

const when = (text: string, value: number | string | undefined): Condition[] => (value === undefined ? [] : [[text, value]]);
const textOf = (condition: Condition): string => (typeof condition === "string" ? condition : condition[0]);
const valuesOf = (conditions: readonly Condition[]): (number | string)[] =>
  conditions.flatMap((condition) => (typeof condition === "string" ? [] : [condition[1]]));

interface ListQuery<T> {
  columns: string;
  table: string;
  /** What an index answers. */
  range: readonly Condition[];
  /** What is asked of each row of the range, called `w`. */
  where: readonly Condition[];
  /** The records for the numbers that `from` yields. */
  select: (from: string) => string;
  toItem: (row: Record<string, unknown>) => T;
}

const none: Page<never> = { items: [], nextCursor: undefined };

/**
 * One page, newest first: the numbers of up to `WINDOW` rows before the cursor, those of them that match, and only then their payloads.
 */
function page<T>(db: Database, options: PageOptions, { columns, table, range, where, select, toItem }: ListQuery<T>): Page<T> {
  const limit = Math.min(1_000, Math.max(1, Math.floor(options.limit ?? 100)));
  const before = options.cursor === undefined ? Number.MAX_SAFE_INTEGER : parseCursor(options.cursor);
  const source = `SELECT ${columns} FROM ${table} WHERE ${[...range.map(textOf), "no < ?"].join(" AND ")} ORDER BY no DESC LIMIT ?`;
  const sourceValues = [...valuesOf(range), before, WINDOW];
  const match = where.length === 0 ? "" : `WHERE ${where.map(textOf).join(" AND ")}`;
  const numbers = `SELECT no FROM (${source}) w ${match} ORDER BY no DESC LIMIT ?`;
  const rows = db.sql(select(numbers)).all(...sourceValues, ...valuesOf(where), limit + 1);
  const shown = rows.slice(0, limit);
  const items = shown.map(toItem);
  if (rows.length > limit) return { items, nextCursor: toCursor(Number(shown.at(-1)?.["no"] ?? 0)) };
  // The window is walked to its end: the next page begins after it.
  const walked = db.sql(`SELECT count(*) AS count, min(no) AS no FROM (${source})`).get(...sourceValues);
  return { items, nextCursor: (walked?.["count"] as number) < WINDOW ? undefined : toCursor(Number(walked?.["no"] ?? 0)) };
}

function chainNumbers(db: Database, chain: string): number[] {
  return db
    .sql(`SELECT no FROM chains WHERE chain = ?`)
    .all(chain)
    .map((row) => row["no"] as number);
}

export function readTallies(db: Database): Map<number, number> {
  const rows = db.sql(`SELECT no, count FROM tallies`).all() as { no: number; count: number }[];
  return new Map(rows.map(({ no, count }) => [no, count]));
}

export function stats(db: Database): StoreStats {
  const lanes = db.sql(`SELECT lane, ${spendSums} FROM spend GROUP BY lane ORDER BY lane`).all() as unknown as SpendSums[];
  return toStats(readTallies(db), lanes, (no) => db.names.lane(no));
}

/** Runnable, running, waiting and retrying runs, as the tallies have them. */
export function hasLiveRuns(db: Database): boolean {
  return liveRuns(readTallies(db)) > 0;
}
