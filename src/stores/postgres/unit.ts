/**
 * One transaction of the store: rows under lock, changed in memory and written back together, set by set, at its end.
 */
import type { SerializedError } from "../../core/errors.ts";
import { type BatchRow } from "../records.ts";
import { column, toArray } from "./arrays.ts";
import type { Sql } from "./session.ts";
import { queueOf, referenceMark } from "./migrations.ts";
import type { Names } from "./names.ts";
import { TransactionNames } from "./names.ts";
import { portions } from "./portions.ts";
import { type TableSpec, WorkingSet } from "./working-set.ts";
import { Tallies } from "./tallies.ts";

export interface RunRow {
  no: number;
  id: string;
  state: number;
  kind: number;
  cancel: number;
  shared: number;
  pruned: number;
  chain: number;
  epoch: number;
  worker: number | null;
  seq: number;
  open: number;
  entries: number;
  attempts: number;
  priority: number;
  code: string;
  usd: number;
  standard_usd: number;
  unpriced: number;
  reserved: number;
  deadline_at: number | null;
  created_at: number;
  retry_at: number | null;
  parent: number | null;
  starter: number | null;
  ended_at: number | null;
}

export interface EntryRow {
  no: number;
  state: number;
  kind: number;
  attempt: number | null;
  batch: number | null;
  lane: number | null;
  seq: number | null;
  bytes: number | null;
  tokens: number | null;
  max_attempts: number | null;
  failed_jobs: number;
  group_size: number | null;
  shared: number | null;
  unpriced: number;
  estimate: number | null;
  usd: number;
  standard_usd: number;
  priority: number | null;
  answer: number | null;
  due_at: number | null;
  created_at: number;
  deadline_at: number | null;
  check_at: number | null;
  key: string;
  fingerprint: string;
  tier_reason: string | null;
}

const runs: TableSpec<RunRow> = {
  name: "runs",
  queueOf: (state) => queueOf("runs", state),
  defaults: {
    ...{ cancel: 0, shared: 0, pruned: 0, epoch: 0, seq: 0, open: 0, entries: 0, attempts: 0, code: "" },
    ...{ usd: 0, standard_usd: 0, unpriced: 0, reserved: 0 },
  },
  columns: {
    no: "int8[]",
    id: "text[]",
    state: "int2[]",
    kind: "int2[]",
    cancel: "int2[]",
    shared: "int2[]",
    pruned: "int2[]",
    chain: "int4[]",
    epoch: "int4[]",
    worker: "int4[]",
    seq: "int4[]",
    open: "int4[]",
    entries: "int4[]",
    attempts: "int4[]",
    priority: "int4[]",
    code: "text[]",
    usd: "float8[]",
    standard_usd: "float8[]",
    unpriced: "int4[]",
    reserved: "float8[]",
    deadline_at: "int8[]",
    created_at: "int8[]",
    retry_at: "int8[]",
    parent: "int8[]",
    starter: "int8[]",
    ended_at: "int8[]",
  },
};

const entries: TableSpec<EntryRow> = {
  name: "entries",
  queueOf: (state) => queueOf("entries", state),
  defaults: { failed_jobs: 0, unpriced: 0, usd: 0, standard_usd: 0 },
  columns: {
    no: "int8[]",
    state: "int2[]",
    kind: "int2[]",
    attempt: "int4[]",
    batch: "int4[]",
    lane: "int4[]",
    seq: "int4[]",
    bytes: "int4[]",
    tokens: "int4[]",
    max_attempts: "int4[]",
    failed_jobs: "int4[]",
    group_size: "int4[]",
    shared: "int4[]",
    unpriced: "int4[]",
    estimate: "float8[]",
    usd: "float8[]",
    standard_usd: "float8[]",
    priority: "int4[]",
    answer: "int8[]",
    due_at: "int8[]",
    created_at: "int8[]",
    deadline_at: "int8[]",
    check_at: "int8[]",
    key: "text[]",
    fingerprint: "text[]",
    tier_reason: "text[]",
  },
};

const batches: TableSpec<BatchRow> = {
  name: "batches",
  defaults: {},
  columns: {
    no: "int4[]",
    id: "text[]",
    lane: "int4[]",
    state: "int2[]",
    held: "int2[]",
    epoch: "int4[]",
    worker: "int4[]",
    request_count: "int4[]",
    bytes: "int8[]",
    tokens: "int8[]",
    estimate: "float8[]",
    due_at: "int8[]",
    created_at: "int8[]",
    sealed_at: "int8[]",
    staged: "text[]",
    launch_attempts: "int4[]",
    intent_at: "int8[]",
    launch_deadline_at: "int8[]",
    job: "text[]",
    job_state: "text[]",
    raw_status: "text[]",
    launched_at: "int8[]",
    cancelled_at: "int8[]",
    finished_at: "int8[]",
    output: "text[]",
    cursor: "int8[]",
    swept: "int8[]",
    succeeded: "int4[]",
    failed: "int4[]",
    requeued: "int4[]",
    cancelled: "int4[]",
    duplicate: "int4[]",
    unknown: "int4[]",
    failures: "int4[]",
    ended_at: "int8[]",
    error: "text[]",
    sweep_at: "int8[]",
    duplicate_jobs: "text[]",
    cleaned_at: "int8[]",
    usd: "float8[]",
    standard_usd: "float8[]",
    unpriced: "int4[]",
  },
};

/** Of batches `b`, by name: a plan with all columns breaks when a newer version adds one. */
export const batchColumns: string = Object.keys(batches.columns)
  .map((name) => `b.${name}`)
  .join(", ");

/** What became of a run, to be written. Fields that are left out stay as they are. */
interface Outcome {
  output?: string | null;
  error?: string | null;
}

/** Numbers of answers, a thousand at a time. */
export interface AnswerNumbers {
  next: number;
  end: number;
}

export class Unit {
  readonly sql: Sql;
  readonly names: TransactionNames;
  readonly tallies = new Tallies();
  readonly runs: WorkingSet<RunRow>;
  readonly entries: WorkingSet<EntryRow>;
  readonly batches: WorkingSet<BatchRow>;
  /** Numbers of the keys of shared answers that this transaction has locked. */
  readonly sharedNos = new Map<string, number>();
  /** Bodies of new requests, by entry. */
  readonly #bodies: { no: number; body: string }[] = [];
  readonly #answers = new Map<number, { value: string | null; error: string | null }>();
  readonly #outcomes = new Map<number, Outcome>();
  readonly #numbers: AnswerNumbers;

  constructor(sql: Sql, names: Names, numbers: AnswerNumbers) {
    this.sql = sql;
    this.names = new TransactionNames(names, sql);
    this.runs = new WorkingSet(sql, runs);
    this.entries = new WorkingSet(sql, entries);
    this.batches = new WorkingSet(sql, batches);
    this.#numbers = numbers;
  }

  /** The run that is locked already. */
  run(no: number): RunRow {
    const run = this.runs.peek(no);
    if (run === undefined) throw new Error(`Run number ${no} is not in hand.`);
    return run;
  }

  addBody(no: number, body: string): void {
    this.#bodies.push({ no, body });
  }

  async addAnswer(value: string | null, error: string | null): Promise<number> {
    const numbers = this.#numbers;
    if (numbers.next >= numbers.end) {
      const [row] = await this.sql.rows<[number]>(`SELECT nextval('gb.answer_numbers')`);
      // Another transaction of this process may have come first; what it took is used up before this.
      if (numbers.next >= numbers.end) {
        numbers.next = row?.[0] ?? 0;
        numbers.end = numbers.next + 1_000;
      }
    }
    const no = numbers.next;
    numbers.next += 1;
    this.#answers.set(no, { value, error });
    return no;
  }

  /** An answer of this transaction, before it is written. */
  hasNewAnswer(no: number): boolean {
    return this.#answers.has(no);
  }

  /** Removed texts that begin with `referencePrefix`. */
  readonly #references = new Set<string>();
  /** What such texts begin with. */
  referencePrefix: string | undefined;

  async removeAnswers(numbers: readonly number[]): Promise<void> {
    await this.#remove("answers", "value", numbers);
  }

  async removeBodies(numbers: readonly number[]): Promise<void> {
    await this.#remove("bodies", "body", numbers);
  }

  async removeInputs(numbers: readonly number[]): Promise<void> {
    await this.#remove("run_inputs", "input", numbers);
  }

  async removeOutcomes(numbers: readonly number[]): Promise<void> {
    await this.#remove("run_outcomes", "output", numbers);
  }

  async #remove(table: string, column: string, numbers: readonly number[]): Promise<void> {
    if (numbers.length === 0) return;
    const wanted = toArray("int8[]", numbers);
    if (this.referencePrefix === undefined) {
      await this.sql.run(`DELETE FROM gb.${table} WHERE no = ANY($1::int8[])`, [wanted]);
      return;
    }
    const gone = await this.sql.rows<[string | null]>(
      `WITH gone AS (DELETE FROM gb.${table} WHERE no = ANY($1::int8[]) RETURNING ${column} AS text) SELECT text FROM gone WHERE starts_with(text, $2)`,
      [wanted, this.referencePrefix],
    );
    for (const [text] of gone) if (text !== null) this.#references.add(text);
  }

  /** Texts that were removed, begin with `referencePrefix` and are in no row any more. Inputs and bodies are never copied; outputs and answers are. */
  async references(): Promise<string[]> {
    if (this.#references.size === 0) return [];
    await this.flush();
    const rows = await this.sql.rows<[string]>(
      `SELECT u.text FROM unnest($1::text[]) AS u(text)
       WHERE NOT EXISTS (SELECT 1 FROM gb.answers a WHERE a.value = u.text AND starts_with(a.value, '${referenceMark}'))
         AND NOT EXISTS (SELECT 1 FROM gb.run_outcomes o WHERE o.output = u.text AND starts_with(o.output, '${referenceMark}'))`,
      [[...this.#references]],
    );
    return rows.map(([text]) => text);
  }

  setOutcome(no: number, outcome: Outcome): void {
    this.#outcomes.set(no, { ...this.#outcomes.get(no), ...outcome });
  }

  /** One statement a portion. A further one waits until the one before it is done: large payloads are not all on their way at once. */
  async #insert<T>(text: string, parts: readonly (readonly T[])[], values: (rows: readonly T[]) => unknown[]): Promise<void> {
    for (const [i, rows] of parts.entries()) {
      if (i < parts.length - 1) await this.sql.run(text, values(rows));
      else await this.sql.send(text, values(rows));
    }
  }

  /** Writes everything but the counters, so that statements which follow see it. */
  async flush(): Promise<void> {
    await this.runs.insert();
    await this.#insert(
      `INSERT INTO gb.bodies (no, body) SELECT * FROM unnest($1::int8[], $2::text[])`,
      portions(this.#bodies.splice(0), ({ body }) => body.length),
      (rows) => [column("int8[]", rows, (row) => row.no), column("text[]", rows, (row) => row.body)],
    );
    const answers = [...this.#answers];
    this.#answers.clear();
    await this.#insert(
      `INSERT INTO gb.answers (no, value, error) SELECT * FROM unnest($1::int8[], $2::text[], $3::text[])`,
      portions(answers, ([, { value, error }]) => (value?.length ?? 0) + (error?.length ?? 0)),
      (rows) => [
        column("int8[]", rows, ([no]) => no),
        column("text[]", rows, ([, row]) => row.value),
        column("text[]", rows, ([, row]) => row.error),
      ],
    );
    await this.entries.insert();
    await this.entries.update();
    await this.runs.update();
    const outcomes = [...this.#outcomes];
    this.#outcomes.clear();
    await this.#insert(
      `INSERT INTO gb.run_outcomes (no, output, error, code) SELECT * FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[])
       ON CONFLICT (no) DO UPDATE SET output = excluded.output, error = excluded.error, code = excluded.code`,
      portions(outcomes, ([, { output, error }]) => (output?.length ?? 0) + (error?.length ?? 0)),
      (rows) => [
        column("int8[]", rows, ([no]) => no),
        column("text[]", rows, ([, row]) => row.output ?? null),
        column("text[]", rows, ([, row]) => row.error ?? null),
        column("text[]", rows, ([, row]) => codeOf(row.error)),
      ],
    );
    await this.batches.insert();
    await this.batches.update();
  }
}

const codeOf = (error: string | null | undefined): string | null =>
  error === null || error === undefined ? null : (JSON.parse(error) as SerializedError).code;
