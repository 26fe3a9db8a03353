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
  /** `"storage"` and `"bigquery"` are Vertex jobs. */
  kind: "file" | "inline" | "storage" | "bigquery";
  rows: number;
  /** Milliseconds since 1970. */
  createdAt: number;
  /** `PENDING`, `RUNNING`, `SUCCEEDED`, … as of now. */
  state: string;
  deleted: boolean;
  /** Rows with a response; counted when the job succeeds. 0 for every other end, except of Vertex jobs, which keep what they had finished when they are cancelled. */
  billedRows: number;
}

/** The price class of an answer: `batch` and `flex` cost half of `standard`, `priority` more. */
export type LedgerTier = "batch" | "flex" | "standard" | "priority";

/** What was billed at one tier. */
export interface TierTotals {
  cost: "half" | "full" | "more";
  /** Prompts that were answered and billed. */
  billed: number;
  promptTokens: number;
  outputTokens: number;
}

/** A prompt that was asked outside of jobs and not shed. */
export interface LedgerDirectCall {
  model: string;
  method: "generateContent" | "embedContent";
  tier: Exclude<LedgerTier, "batch">;
  /** As in `PromptCount`. */
  hash: string;
  /** Milliseconds since 1970. */
  at: number;
  /** Whether it was answered, whoever received the answer. */
  billed: boolean;
  promptTokens: number;
  outputTokens: number;
}

/** A webhook that was sent. */
export interface LedgerWebhook {
  uri: string;
  /** `webhook-id`. */
  id: string;
  /** Such as `batch.succeeded`. */
  type: string;
  /** The job, `batches/…`. */
  job: string;
  /** What was answered; `undefined` while it is on its way, 0 if nothing was. */
  status: number | undefined;
}

export interface LedgerTotals {
  jobs: number;
  /** Rows of all jobs that were created. */
  sentRows: number;
  /** Rows that got a response in jobs that succeeded, or kept what they had finished. */
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
  /** What was billed, by tier. */
  readonly tiers: Readonly<Record<LedgerTier, TierTotals>>;
  /** Prompts that were asked outside of jobs, oldest first. Throws with `ledger: "counts"`. */
  readonly directCalls: readonly LedgerDirectCall[];
  readonly webhooks: readonly LedgerWebhook[];
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
  tiers: Record<LedgerTier, TierTotals>;
  webhooks: LedgerWebhook[];
  calls: Map<string, number>;
  full: boolean;
  called(endpoint: string): void;
  sent(hashes: readonly string[]): void;
  /** Prompts that were answered at a tier, and what their answers say they used. */
  billed(tier: LedgerTier, hashes: readonly string[], promptTokens: number, outputTokens: number): void;
  /** A direct call was not shed. */
  asked(call: Pick<LedgerDirectCall, "model" | "method" | "tier" | "hash" | "at">): LedgerDirectCall;
  directCalls(): readonly LedgerDirectCall[];
  counts(): Map<string, { sent: number; billed: number }>;
  reset(): void;
}

const noTiers = (): Record<LedgerTier, TierTotals> => {
  const zero = { billed: 0, promptTokens: 0, outputTokens: 0 };
  return {
    batch: { cost: "half", ...zero },
    flex: { cost: "half", ...zero },
    standard: { cost: "full", ...zero },
    priority: { cost: "more", ...zero },
  };
};

export function ledgerBook(full: boolean): LedgerBook {
  let prompts = new Map<string, { sent: number; billed: number }>();
  let direct: LedgerDirectCall[] = [];
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
  const refuseCounts = () => {
    if (full) return;
    throw new Error('Prompts are not counted one by one with the option ledger: "counts"; start the emulator with ledger: "full".');
  };
  const book: LedgerBook = {
    totals: zero(),
    tiers: noTiers(),
    webhooks: [],
    calls: new Map(),
    full,
    called: (endpoint) => void book.calls.set(endpoint, (book.calls.get(endpoint) ?? 0) + 1),
    sent: (hashes) => count(hashes, "sent"),
    billed(tier, hashes, promptTokens, outputTokens) {
      count(hashes, "billed");
      const totals = book.tiers[tier];
      totals.billed += hashes.length;
      for (const sums of [totals, book.totals]) {
        sums.promptTokens += promptTokens;
        sums.outputTokens += outputTokens;
      }
    },
    asked(given) {
      const call = { ...given, billed: false, promptTokens: 0, outputTokens: 0 };
      book.totals.directCalls += 1;
      book.sent([call.hash]);
      if (full) direct.push(call);
      return call;
    },
    directCalls() {
      refuseCounts();
      return direct;
    },
    counts() {
      refuseCounts();
      return prompts;
    },
    reset() {
      prompts = new Map();
      direct = [];
      book.tiers = noTiers();
      book.webhooks = [];
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
    get tiers() {
      jobs();
      return structuredClone(book.tiers);
    },
    get directCalls() {
      return book.directCalls();
    },
    get webhooks() {
      jobs();
      return book.webhooks;
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
      tiers: view.tiers,
      calls: view.calls,
      faults: view.faults,
      webhooks: view.webhooks,
      jobs: view.jobs,
      ...(book.full
        ? {
            directCalls: view.directCalls,
            distinctPrompts: book.counts().size,
            duplicatePrompts: view.duplicatePrompts(),
            paidTwice: view.paidTwice(),
          }
        : {}),
    }),
  };
  return view;
}
