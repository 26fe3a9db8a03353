/**
 * What was asked of the emulator, and what it would have cost: for tests that prove that nothing was paid twice.
 *
 * @module
 */

/** A job as the ledger remembers it, deleted ones included. */
export interface LedgerJob {
  name: string;
  displayName: string;
  model: string;
  method: "generateContent" | "embedContent";
  kind: "file" | "inline";
  rows: number;
  /** Milliseconds since 1970. */
  createdAt: number;
  /** `PENDING`, `RUNNING`, `SUCCEEDED`, … as of now. */
  state: string;
  deleted: boolean;
  /** Rows with a response; counted when the job succeeds, 0 for every other end. */
  billedRows: number;
}

export interface LedgerTotals {
  jobs: number;
  /** Rows of all jobs that were created. */
  sentRows: number;
  /** Rows that got a response in jobs that succeeded. */
  billedRows: number;
  /** generateContent and embedContent calls outside of jobs. */
  directCalls: number;
  /** Of succeeded jobs and direct calls. */
  promptTokens: number;
  /** Candidates and thoughts of the same. */
  outputTokens: number;
  /** Most jobs that were PENDING or RUNNING at the creation of one. */
  peakConcurrentJobs: number;
  peakRowsPerJob: number;
}

/** How often a prompt (a hash of model and request) was sent in jobs and direct calls, and how often it was billed. */
export interface PromptCount {
  hash: string;
  sent: number;
  billed: number;
}

/** The view that users and tests read. Always as of now. */
export interface Ledger {
  readonly jobs: readonly LedgerJob[];
  readonly totals: LedgerTotals;
  /** HTTP calls by endpoint, such as `batches.create`, `batches.get`, `files.download`. */
  readonly calls: Readonly<Record<string, number>>;
  /** How often each fault struck. */
  readonly faults: Readonly<Record<string, number>>;
  /** How often each prompt was sent. Throws with `ledger: "counts"`. */
  promptCounts(): Map<string, number>;
  /** Prompts that were sent more than once. Throws with `ledger: "counts"`. */
  duplicatePrompts(): PromptCount[];
  /** Prompts that were billed more than once. Throws with `ledger: "counts"`. */
  paidTwice(): PromptCount[];
  /** All of it as plain data, as `GET /__emulator/ledger` sends it. */
  toJSON(): Record<string, unknown>;
}

/** The writing side. */
export interface LedgerBook {
  totals: Omit<LedgerTotals, "jobs">;
  calls: Map<string, number>;
  full: boolean;
  called(endpoint: string): void;
  sent(hashes: readonly string[]): void;
  billed(hashes: readonly string[]): void;
  counts(): Map<string, { sent: number; billed: number }>;
  reset(): void;
}

export function ledgerBook(full: boolean): LedgerBook {
  let prompts = new Map<string, { sent: number; billed: number }>();
  const zero = () => ({
    sentRows: 0,
    billedRows: 0,
    directCalls: 0,
    promptTokens: 0,
    outputTokens: 0,
    peakConcurrentJobs: 0,
    peakRowsPerJob: 0,
  });
  const count = (hashes: readonly string[], field: "sent" | "billed") => {
    if (!full) return;
    for (const hash of hashes) {
      const known = prompts.get(hash);
      if (known) known[field] += 1;
      else prompts.set(hash, { sent: 0, billed: 0, [field]: 1 });
    }
  };
  const book: LedgerBook = {
    totals: zero(),
    calls: new Map(),
    full,
    called: (endpoint) => void book.calls.set(endpoint, (book.calls.get(endpoint) ?? 0) + 1),
    sent: (hashes) => count(hashes, "sent"),
    billed: (hashes) => count(hashes, "billed"),
    counts() {
      if (!full)
        throw new Error('Prompts are not counted one by one with the option ledger: "counts"; start the emulator with ledger: "full".');
      return prompts;
    },
    reset() {
      prompts = new Map();
      book.totals = zero();
      book.calls.clear();
    },
  };
  return book;
}

/** The reading side. `jobs` and `settle` bring job states up to now. */
export function ledgerView(book: LedgerBook, jobs: () => LedgerJob[], struck: () => Record<string, number>): Ledger {
  const counts = (wanted: (count: { sent: number; billed: number }) => boolean): PromptCount[] => {
    jobs();
    const result: PromptCount[] = [];
    for (const [hash, count] of book.counts()) if (wanted(count)) result.push({ hash, ...count });
    return result;
  };
  const view: Ledger = {
    get jobs() {
      return jobs();
    },
    get totals() {
      const list = jobs();
      return { jobs: list.length, ...book.totals };
    },
    get calls() {
      return Object.fromEntries(book.calls);
    },
    get faults() {
      return struck();
    },
    promptCounts: () => new Map(counts(() => true).map(({ hash, sent }) => [hash, sent])),
    duplicatePrompts: () => counts(({ sent }) => sent > 1),
    paidTwice: () => counts(({ billed }) => billed > 1),
    toJSON: () => ({
      totals: view.totals,
      calls: view.calls,
      faults: view.faults,
      jobs: view.jobs,
      ...(book.full ? { distinctPrompts: book.counts().size, duplicatePrompts: view.duplicatePrompts(), paidTwice: view.paidTwice() } : {}),
    }),
  };
  return view;
}
