/**
 * The schema, as steps. `PRAGMA user_version` counts them on from `lastUnreleased`: versions up to that one were never released and are not read. A released step never changes.
 *
 * - Rows that change at every step (`runs`, `entries`) are narrow; the columns that hot statements read come first, for SQLite walks a row up to the
 *   last one that it needs. Payloads lie in tables of their own that are only
 *   appended to: a body and an answer each cost a fraction of a page write instead of rewriting a page in the middle.
 * - Indexes on hot rows are partial, each over one state: a run that waits is in none of them. Where it can be, a condition names a column that
 *   rarely changes instead of the state: then most updates need not look at the index at all.
 * - `tallies`, `spend` and the counters in `lanes` are kept by every transaction, so that nothing is ever counted by scanning.
 * - Money is in whole picodollars (USD × 10^12): sums of it are exact, in any order. REAL, because sums may outgrow JavaScript's integers;
 *   SQLite still writes whole numbers of that size as integers.
 */
export const APPLICATION_ID = 0x67656d62;

/** Versions up to this one are refused by name. */
export const lastUnreleased = 2;

/** The version that all steps together lead to. */
export const schemaVersion = (): number => lastUnreleased + migrations.length;

export const migrations: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

  CREATE TABLE chains (
    no INTEGER PRIMARY KEY,
    chain TEXT NOT NULL,
    version TEXT NOT NULL,
    UNIQUE (chain, version)
  );

  CREATE TABLE lanes (
    no INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    method TEXT NOT NULL,
    tier TEXT NOT NULL DEFAULT 'batch',
    shape TEXT NOT NULL DEFAULT '',
    queued INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    usd REAL NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    delayed INTEGER NOT NULL DEFAULT 0,
    isolated INTEGER NOT NULL DEFAULT 0,
    UNIQUE (provider, model, method, tier, shape)
  );

  -- What answers used and cost, by day since 1970 (UTC). Never removed: the sums of a lane and of the store come from here.
  CREATE TABLE spend (
    day INTEGER NOT NULL,
    chain INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    thought_tokens INTEGER NOT NULL,
    tool_tokens INTEGER NOT NULL,
    audio_tokens INTEGER NOT NULL,
    image_tokens INTEGER NOT NULL,
    usd REAL NOT NULL,
    standard_usd REAL NOT NULL,
    unpriced INTEGER NOT NULL,
    PRIMARY KEY (day, chain, lane)
  ) WITHOUT ROWID;

  -- AUTOINCREMENT: the number of a worker that is gone must never come to mean another one.
  CREATE TABLE workers (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
  );
  CREATE TABLE roles (role TEXT PRIMARY KEY, worker INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE producers (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE tallies (no INTEGER PRIMARY KEY, count INTEGER NOT NULL);

  -- AUTOINCREMENT: the number of a run that was removed lives on in what it started, and must never come to mean another one.
  CREATE TABLE runs (
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,
    open INTEGER NOT NULL DEFAULT 0,
    chain INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    worker INTEGER,
    entries INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    priority INTEGER NOT NULL,
    code TEXT NOT NULL DEFAULT '',
    usd REAL NOT NULL DEFAULT 0,
    reserved REAL NOT NULL DEFAULT 0,
    deadline_at INTEGER,
    created_at INTEGER NOT NULL,
    standard_usd REAL NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    retry_at INTEGER,
    parent INTEGER,
    starter INTEGER,
    shared INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER,
    pruned INTEGER NOT NULL DEFAULT 0
  );
  CREATE UNIQUE INDEX runs_id ON runs (id);
  CREATE INDEX runs_runnable ON runs (chain, priority DESC) WHERE state = 0;
  CREATE INDEX runs_running ON runs (worker) WHERE state = 1;
  CREATE INDEX runs_retrying ON runs (retry_at) WHERE state = 3;
  CREATE INDEX runs_trouble ON runs (state) WHERE state IN (4, 6);
  CREATE INDEX runs_ended ON runs (pruned, ended_at) WHERE ended_at IS NOT NULL;
  CREATE INDEX runs_starter ON runs (starter) WHERE starter IS NOT NULL;

  CREATE TABLE run_inputs (no INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, input TEXT NOT NULL);
  CREATE TABLE run_outcomes (no INTEGER PRIMARY KEY, output TEXT, error TEXT, notes TEXT);
  -- Further entries that wait for a run which has a parent already, or had none.
  CREATE TABLE run_waiters (run INTEGER NOT NULL, entry INTEGER NOT NULL, PRIMARY KEY (run, entry)) WITHOUT ROWID;
  CREATE INDEX run_waiters_entry ON run_waiters (entry);

  CREATE TABLE entries (
    no INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    batch INTEGER,
    attempt INTEGER,
    estimate REAL,
    check_at INTEGER,
    shared INTEGER,
    kind INTEGER NOT NULL,
    seq INTEGER,
    lane INTEGER,
    bytes INTEGER,
    tokens INTEGER,
    body INTEGER,
    answer INTEGER,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    due_at INTEGER,
    priority INTEGER,
    created_at INTEGER NOT NULL,
    max_attempts INTEGER,
    usd REAL NOT NULL DEFAULT 0,
    standard_usd REAL NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    failed_jobs INTEGER NOT NULL DEFAULT 0,
    group_size INTEGER,
    deadline_at INTEGER,
    tier_reason TEXT
  );
  CREATE INDEX entries_queue ON entries (lane, priority DESC, due_at) WHERE state = 1;
  CREATE INDEX entries_delayed ON entries (lane, due_at) WHERE state = 2;
  CREATE INDEX entries_sleeping ON entries (due_at) WHERE state = 3;
  CREATE INDEX entries_batch ON entries (batch) WHERE batch IS NOT NULL;
  CREATE INDEX entries_isolated ON entries (lane, group_size, due_at) WHERE state = 8;
  CREATE INDEX entries_check ON entries (check_at) WHERE check_at IS NOT NULL;
  CREATE INDEX entries_shared ON entries (shared, state, due_at) WHERE shared IS NOT NULL;

  CREATE TABLE bodies (no INTEGER PRIMARY KEY, body TEXT NOT NULL);
  -- uses: rows that name this answer. More than one only if it is shared.
  CREATE TABLE answers (no INTEGER PRIMARY KEY, value TEXT, error TEXT, uses INTEGER NOT NULL DEFAULT 1);
  -- References to payloads that lie elsewhere (referencePrefix): the output of a run is the answer of whoever waited for it, too, so more than one row may hold the same.
  CREATE INDEX answers_references ON answers (value) WHERE value >= '{"$gembatch.payload":"' AND value < '{"$gembatch.payload":#';
  CREATE INDEX outputs_references ON run_outcomes (output) WHERE output >= '{"$gembatch.payload":"' AND output < '{"$gembatch.payload":#';

  -- An answer that equal requests share: the open entry that is asked for it, or the answer while it is kept.
  CREATE TABLE shared (
    no INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    ttl_ms INTEGER NOT NULL,
    leader INTEGER,
    answer INTEGER,
    expires_at INTEGER
  );
  CREATE INDEX shared_expiring ON shared (expires_at) WHERE expires_at IS NOT NULL;

  -- Rows of a batch whose request was taken out of it: when they come, they are billed once and delivered to nobody.
  CREATE TABLE departed (
    batch INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    chain INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (batch, entry, attempt)
  ) WITHOUT ROWID;

  CREATE TABLE batches (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    worker INTEGER,
    request_count INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    estimate REAL NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    sealed_at INTEGER,
    staged TEXT,
    launch_attempts INTEGER NOT NULL DEFAULT 0,
    intent_at INTEGER,
    launch_deadline_at INTEGER,
    held INTEGER NOT NULL DEFAULT 0,
    job TEXT,
    job_state TEXT,
    raw_status TEXT,
    launched_at INTEGER,
    cancelled_at INTEGER,
    finished_at INTEGER,
    output TEXT,
    cursor INTEGER NOT NULL DEFAULT 0,
    swept INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    requeued INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER,
    error TEXT,
    sweep_at INTEGER,
    duplicate_jobs TEXT,
    cleaned_at INTEGER,
    usd REAL NOT NULL DEFAULT 0,
    standard_usd REAL NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0
  );
  CREATE INDEX batches_active ON batches (due_at) WHERE state <= 4;
  CREATE INDEX batches_ended ON batches (ended_at) WHERE state >= 5;
  CREATE INDEX batches_sweep ON batches (sweep_at) WHERE sweep_at IS NOT NULL;
  `,
];
