/**
 * The schema, as steps; `meta.version` counts them. A released step never changes. Tables are written `gb.name`: the connection puts the schema's name there.
 *
 * - Rows that change at every step (`runs`, `entries`) are narrow. Payloads lie in tables of their own that are only added to, so that a change of state rewrites no text; the id of a
 *   run lies there, too, because many updates of a hot row make a new item in each of its indexes.
 * - Indexes on hot rows are partial, each over one state, by way of `queue`: a run that waits is in none of them. Hot statements find rows by primary key alone and look at states afterwards in memory:
 *   no statistics, however stale, can lead the planner to walk a state's index for them.
 * - Counters are kept in `SLOTS` rows each, and a connection adds to those of its own slot: transactions that count the same thing do not wait for one another. Readers add them up.
 * - Money is in whole picodollars (USD × 10^12), as in SQLite.
 */
import { ENTRY, RUN } from "../codes.ts";

/** Rows that a counter is spread over. */
export const SLOTS = 16;

/** What texts begin with that refer to a payload elsewhere: those are in an index. */
export const referenceMark = '{"$gembatch.payload":"';

/**
 * The `queue` of a row: its state while a partial index is there for it, else NULL. A column of its own, because an update that leaves every column alone that an index mentions makes no new item in any of them: that is
 * how an answer comes to a request, and how a turn is given back.
 */
const queued = {
  runs: [RUN.runnable, RUN.retrying, RUN.held, RUN.failed],
  entries: [ENTRY.queued, ENTRY.delayed, ENTRY.sleeping, ENTRY.isolated, ENTRY.following],
} as const;

export const queueOf = (table: keyof typeof queued, state: number): number | null =>
  (queued[table] as readonly number[]).includes(state) ? state : null;

const agrees = (table: keyof typeof queued): string =>
  `CONSTRAINT ${table}_queue CHECK (queue IS NOT DISTINCT FROM CASE WHEN state IN (${queued[table].join(", ")}) THEN state END)`;

/** The version that all steps together lead to. */
export const schemaVersion = (): number => migrations.length;

/** Rows that are updated in place again and again, without an index on what changes. */
const counters = `WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)`;
/**
 * A queue table: dead rows at the head of its indexes are what slows it down. Room in its pages (runs: two further versions of each row), so that a new version lies beside the old one: that takes a lock record, a search
 * for a page and a page less, and only there can an index be left as it is.
 */
const hot = (fillfactor: number): string =>
  `WITH (fillfactor = ${fillfactor}, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_analyze_scale_factor = 0.5)`;
/** Payloads. No plan depends on a sample of them (see `connection.ts`), and reading one takes them all out of where they lie. */
const payloads = `WITH (autovacuum_analyze_scale_factor = 1)`;

export const migrations: readonly string[] = [
  `
  CREATE TABLE gb.chains (
    no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain text NOT NULL,
    version text NOT NULL,
    UNIQUE (chain, version)
  );

  CREATE TABLE gb.lanes (
    no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    model text NOT NULL,
    method text NOT NULL,
    tier text NOT NULL,
    shape text NOT NULL,
    UNIQUE (provider, model, method, tier, shape)
  );

  CREATE TABLE gb.queues (
    lane integer NOT NULL,
    slot smallint NOT NULL,
    queued bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    usd double precision NOT NULL DEFAULT 0,
    unpriced bigint NOT NULL DEFAULT 0,
    delayed bigint NOT NULL DEFAULT 0,
    isolated bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, slot)
  ) ${counters};

  CREATE TABLE gb.tallies (
    no smallint NOT NULL,
    slot smallint NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (no, slot)
  ) ${counters};

  -- What answers used and cost, by day since 1970 (UTC). Never removed: the sums of a lane and of the store come from here.
  CREATE TABLE gb.spend (
    day integer NOT NULL,
    chain integer NOT NULL,
    lane integer NOT NULL,
    slot smallint NOT NULL,
    answers bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    thought_tokens bigint NOT NULL,
    tool_tokens bigint NOT NULL,
    audio_tokens bigint NOT NULL,
    image_tokens bigint NOT NULL,
    usd double precision NOT NULL,
    standard_usd double precision NOT NULL,
    unpriced bigint NOT NULL,
    PRIMARY KEY (day, chain, lane, slot)
  ) ${counters};

  CREATE TABLE gb.workers (
    no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    host text NOT NULL,
    pid integer NOT NULL,
    lease_until bigint NOT NULL
  ) ${counters};
  -- Locked by whoever forms a batch of the provider.
  CREATE TABLE gb.formers (provider text PRIMARY KEY);
  CREATE TABLE gb.roles (role text PRIMARY KEY, worker integer NOT NULL);
  CREATE TABLE gb.producers (id text PRIMARY KEY, until bigint NOT NULL) ${counters};

  CREATE SEQUENCE gb.run_numbers;
  CREATE SEQUENCE gb.batch_numbers;
  -- A process takes a thousand numbers at a time.
  CREATE SEQUENCE gb.answer_numbers INCREMENT BY 1000;

  CREATE TABLE gb.runs (
    no bigint PRIMARY KEY,
    state smallint NOT NULL,
    queue smallint,
    kind smallint NOT NULL,
    cancel smallint NOT NULL DEFAULT 0,
    shared smallint NOT NULL DEFAULT 0,
    pruned smallint NOT NULL DEFAULT 0,
    chain integer NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    worker integer,
    -- Who claimed it last and may have its turn in memory; 0: nobody did.
    home integer NOT NULL DEFAULT 0,
    seq integer NOT NULL DEFAULT 0,
    open integer NOT NULL DEFAULT 0,
    entries integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    priority integer NOT NULL,
    usd double precision NOT NULL DEFAULT 0,
    standard_usd double precision NOT NULL DEFAULT 0,
    unpriced integer NOT NULL DEFAULT 0,
    reserved double precision NOT NULL DEFAULT 0,
    deadline_at bigint,
    created_at bigint NOT NULL,
    retry_at bigint,
    parent bigint,
    starter bigint,
    ended_at bigint,
    id text NOT NULL,
    code text NOT NULL DEFAULT '',
    ${agrees("runs")}
  ) ${hot(35)};
  CREATE INDEX runs_runnable ON gb.runs (chain, home, priority DESC, no) WHERE queue = 0;
  CREATE INDEX runs_retrying ON gb.runs (retry_at) WHERE queue = 3;
  CREATE INDEX runs_trouble ON gb.runs (queue, no) WHERE queue IN (4, 6);
  CREATE INDEX runs_ended ON gb.runs (pruned, ended_at, no) WHERE ended_at IS NOT NULL;
  CREATE INDEX runs_starter ON gb.runs (starter, no) WHERE starter IS NOT NULL;

  -- Runs that a worker claimed at once, whatever has become of them since: where to look for those that it has in hand. When all are given back, who claimed removes it with the next claim or heartbeat.
  CREATE TABLE gb.hands (
    worker integer NOT NULL,
    no bigint GENERATED ALWAYS AS IDENTITY,
    runs bigint[] NOT NULL,
    PRIMARY KEY (worker, no)
  );
  -- Numbers in a row would be compressed again and again.
  ALTER TABLE gb.hands ALTER COLUMN runs SET STORAGE EXTERNAL;

  CREATE TABLE gb.run_inputs (
    no bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    fingerprint text NOT NULL,
    input text NOT NULL
  ) ${payloads};
  -- code: that of the error, for filters. Postgres itself cannot read every JSON text that may stand there (\\u0000, half of a surrogate pair).
  CREATE TABLE gb.run_outcomes (no bigint PRIMARY KEY, output text, error text, code text, notes text) ${payloads};
  -- Further entries that wait for a run which has a parent already, or had none.
  CREATE TABLE gb.run_waiters (run bigint NOT NULL, entry bigint NOT NULL, PRIMARY KEY (run, entry));
  CREATE INDEX run_waiters_entry ON gb.run_waiters (entry);

  CREATE TABLE gb.entries (
    no bigint PRIMARY KEY,
    state smallint NOT NULL,
    queue smallint,
    kind smallint NOT NULL,
    attempt integer,
    batch integer,
    lane integer,
    seq integer,
    bytes integer,
    tokens integer,
    max_attempts integer,
    failed_jobs integer NOT NULL DEFAULT 0,
    group_size integer,
    shared integer,
    unpriced integer NOT NULL DEFAULT 0,
    estimate double precision,
    usd double precision NOT NULL DEFAULT 0,
    standard_usd double precision NOT NULL DEFAULT 0,
    priority integer,
    answer bigint,
    due_at bigint,
    created_at bigint NOT NULL,
    deadline_at bigint,
    check_at bigint,
    key text NOT NULL,
    fingerprint text NOT NULL,
    tier_reason text,
    ${agrees("entries")}
  ) ${hot(50)};
  CREATE INDEX entries_queue ON gb.entries (lane, priority DESC, due_at, no) WHERE queue = 1;
  CREATE INDEX entries_delayed ON gb.entries (lane, due_at) WHERE queue = 2;
  CREATE INDEX entries_sleeping ON gb.entries (due_at) WHERE queue = 3;
  CREATE INDEX entries_batch ON gb.entries (batch, no) WHERE batch IS NOT NULL;
  CREATE INDEX entries_isolated ON gb.entries (lane, group_size, due_at, no) WHERE queue = 8;
  CREATE INDEX entries_check ON gb.entries (check_at, no) WHERE check_at IS NOT NULL;
  CREATE INDEX entries_shared ON gb.entries (shared, queue, due_at, no) WHERE shared IS NOT NULL;

  -- The body of a request, by its entry.
  CREATE TABLE gb.bodies (no bigint PRIMARY KEY, body text NOT NULL) ${payloads};
  -- uses: rows that name this answer. More than one only if it is shared.
  CREATE TABLE gb.answers (no bigint PRIMARY KEY, uses integer NOT NULL DEFAULT 1, value text, error text) ${payloads};

  -- References to payloads that lie elsewhere (referencePrefix): the output of a run is the answer of whoever waited for it, too, so more than one row may hold the same. Hashed: a payload of a user that begins alike may be of any length.
  CREATE INDEX answers_references ON gb.answers USING hash (value) WHERE starts_with(value, '${referenceMark}');
  CREATE INDEX outputs_references ON gb.run_outcomes USING hash (output) WHERE starts_with(output, '${referenceMark}');

  -- An answer that equal requests share: the open entry that is asked for it, or the answer while it is kept.
  CREATE TABLE gb.shared (
    no integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,
    ttl_ms bigint NOT NULL,
    leader bigint,
    answer bigint,
    expires_at bigint
  );
  CREATE INDEX shared_expiring ON gb.shared (expires_at) WHERE expires_at IS NOT NULL;

  -- Rows of a batch whose request was taken out of it: when they come, they are billed once and delivered to nobody.
  CREATE TABLE gb.departed (
    batch integer NOT NULL,
    entry bigint NOT NULL,
    attempt integer NOT NULL,
    chain integer NOT NULL,
    state smallint NOT NULL,
    PRIMARY KEY (batch, entry, attempt)
  );

  CREATE TABLE gb.batches (
    no integer PRIMARY KEY,
    id text NOT NULL UNIQUE,
    lane integer NOT NULL,
    state smallint NOT NULL,
    held smallint NOT NULL DEFAULT 0,
    epoch integer NOT NULL,
    worker integer,
    request_count integer NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    estimate double precision NOT NULL DEFAULT 0,
    due_at bigint NOT NULL,
    created_at bigint NOT NULL,
    sealed_at bigint,
    staged text,
    launch_attempts integer NOT NULL DEFAULT 0,
    intent_at bigint,
    launch_deadline_at bigint,
    job text,
    job_state text,
    raw_status text,
    launched_at bigint,
    cancelled_at bigint,
    finished_at bigint,
    output text,
    cursor bigint NOT NULL DEFAULT 0,
    swept bigint NOT NULL DEFAULT 0,
    succeeded integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    requeued integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    duplicate integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    ended_at bigint,
    error text,
    sweep_at bigint,
    duplicate_jobs text,
    cleaned_at bigint,
    usd double precision NOT NULL DEFAULT 0,
    standard_usd double precision NOT NULL DEFAULT 0,
    unpriced integer NOT NULL DEFAULT 0
  ) ${counters};
  CREATE INDEX batches_active ON gb.batches (due_at) WHERE state <= 4;
  CREATE INDEX batches_ended ON gb.batches (ended_at, no) WHERE state >= 5;
  CREATE INDEX batches_sweep ON gb.batches (sweep_at) WHERE sweep_at IS NOT NULL;
  `,
];
