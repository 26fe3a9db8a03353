/**
 * The emulated service behind the HTTP routes: its files, its jobs, its books.
 *
 * @module
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { answering, type Answering } from "./answering.ts";
import type { LoadJob } from "./bigquery-jobs.ts";
import { idOf } from "./chance.ts";
import { faultBox, type FaultBox } from "./faults.ts";
import { fileStore, type FileStore } from "./files.ts";
import {
  answersDueAt,
  hasOutput,
  hasResults,
  isEnded,
  needsRows,
  revivalOf,
  rowsFinishedAt,
  stateOf,
  type Job,
  type JobPlan,
} from "./jobs.ts";
import { ledgerBook, ledgerView, type Ledger, type LedgerBook, type LedgerJob } from "./ledger.ts";
import type { EmulatorClock, EmulatorLimits, EmulatorOptions } from "./options.ts";
import { modelCheck } from "./models.ts";
import { objectStore, type ObjectStore } from "./objects.ts";
import { WireError } from "./wire.ts";
import { settlement } from "./settlement.ts";
import { webhookSender, type WebhookSender } from "./webhooks.ts";
import { tableStore, type TableStore } from "./tables.ts";
import { cutOutput, workOn, type JobForm } from "./work.ts";

/** With real time, how long a GET waits for rows that are nearly answered. */
const graceMs = 20;

/** What a create call asks for, after its body was read. */
export type NewJob = Pick<Job, "model" | "method" | "displayName" | "kind" | "inputFile" | "webhook" | "priority" | "vertex"> & {
  form: JobForm;
};

/** What reading the input once has shown, and how the job will go. */
export interface KnownJob extends NewJob {
  rows: number;
  inputTokens: number;
  hashes: string[];
  createdAt: number;
  /** Its names, and its plan from the number that it gets. */
  names: (number: number, seed: string) => Pick<Job, "id" | "name">;
  plan: (number: number, createdAt: number) => { plan: JobPlan; rowsKept: number };
}

export interface Service {
  readonly options: EmulatorOptions;
  readonly clock: EmulatorClock;
  readonly realTime: boolean;
  readonly seed: string;
  readonly limits: Required<Omit<EmulatorLimits, "enqueuedTokens">>;
  readonly faults: FaultBox;
  readonly files: FileStore;
  readonly book: LedgerBook;
  readonly ledger: Ledger;
  readonly answering: Answering;
  readonly webhooks: WebhookSender;
  hasModel(model: string): boolean;
  log(line: string): void;
  /** Objects of Cloud Storage, and tables of BigQuery. */
  readonly objects: ObjectStore;
  readonly tables: TableStore;
  /** Load jobs by project and name, and the files that came with them. */
  readonly loadJobs: Map<string, LoadJob>;
  readonly uploads: ObjectStore;
  /** Vertex jobs whose results have not become objects or tables yet. */
  readonly unpublished: Set<Job>;
  /** Changes at every reset. */
  generation(): number;
  /** PENDING and RUNNING jobs as of the last call. */
  openJobs(): ReadonlySet<Job>;
  /** Starts a job. Its form is closed when the rows are answered. */
  register(job: KnownJob): Job;
  /** A job of the Developer API that was not deleted; 404 otherwise. */
  job(id: string): Job;
  /** The same of Vertex; `undefined` if there is none. */
  vertexJob(id: string): Job | undefined;
  /** Newest first, without deleted and not yet listed ones. */
  listJobs(of: "gemini" | "vertex"): Job[];
  cancelJob(job: Job): Promise<void>;
  deleteJob(job: Job): Promise<void>;
  /** Resolves when the state of these jobs may be told: see `EmulatorOptions.clock`. */
  ready(jobs: readonly Job[]): Promise<void>;
  /** Resolves when no row is being answered and no webhook is on its way. */
  idle(): Promise<void>;
  reset(): Promise<void>;
  close(): Promise<void>;
}

const realClock: EmulatorClock = { now: () => Date.now(), sleep: (ms) => sleep(ms) };

export function createService(options: EmulatorOptions): Service {
  const clock = options.clock ?? realClock;
  const realTime = options.clock === undefined;
  const seed = String(options.seed ?? "emulator");
  const faults = faultBox(options.faults ?? {}, seed);
  const book = ledgerBook(options.ledger !== "counts");
  const log = options.log ?? (() => undefined);
  // Throws for wrong options, before anything is made on disk.
  const webhooks = webhookSender({ settings: options.webhooks, book, faults, now: () => clock.now(), log });
  const ownDir = options.dir === undefined;
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), "gembatch-emulator-"));
  mkdirSync(dir, { recursive: true });
  const limits = { concurrentJobs: 100, fileBytes: 2_000_000_000, inlineBytes: 20_000_000, ...options.limits };
  // Names must not come back after a restart, even with the same seed: clients remember them.
  let era = `${seed} ${clock.now()}`;
  const objects = objectStore({ dir, prefix: "object", now: () => clock.now(), buckets: options.buckets });
  const uploads = objectStore({ dir, prefix: "load", now: () => clock.now(), buckets: undefined });
  const tables = tableStore({ dir, now: () => clock.now(), datasets: options.datasets });
  const files = fileStore({
    dir,
    now: () => clock.now(),
    maxBytes: limits.fileBytes,
    newId: (ordinal) => idOf(`${era} file ${ordinal}`, 12),
  });
  let jobs = new Map<string, Job>();
  let ordinal = 0;
  let generation = 0;

  const ends = settlement(
    book,
    () => clock.now(),
    (job, state) => {
      log(`job ${job.name} ${state}`);
      webhooks.jobEnded(job, state);
    },
  );

  /** With real time nobody may be looking when a job ends that a webhook waits for. */
  const watch = async (job: Job, at: number): Promise<void> => {
    if (!realTime || (options.webhooks?.uri === undefined && job.webhook.uris.length === 0)) return;
    // Rejects when the job is cancelled or the emulator closed.
    const due = await sleep(Math.max(0, at - clock.now()), true, { ref: false, signal: job.halt.signal }).catch(() => false);
    await job.work;
    if (due) ends.settle();
  };

  const ledgerJobs = (): LedgerJob[] => {
    ends.settle();
    const now = clock.now();
    return [...jobs.values()].map((job) => {
      const state = stateOf(job, now);
      return {
        name: job.name,
        displayName: job.displayName,
        model: job.model,
        method: job.method,
        kind: job.kind,
        rows: job.rows,
        createdAt: job.createdAt,
        state,
        deleted: job.deleted,
        billedRows: hasResults(job, state) ? (job.output?.succeeded ?? 0) : 0,
      };
    });
  };

  const service: Service = {
    options,
    clock,
    realTime,
    seed,
    limits,
    faults,
    files,
    objects,
    tables,
    uploads,
    loadJobs: new Map(),
    unpublished: new Set(),
    book,
    ledger: ledgerView(book, ledgerJobs, () => faults.struck()),
    webhooks,
    answering: answering({ seed, script: options.answer, upstream: options.upstream, faults }),
    hasModel: modelCheck(options.models),
    log,
    generation: () => generation,
    openJobs() {
      ends.settle();
      return ends.open;
    },
    register({ form, names, plan, ...given }) {
      const number = ordinal;
      ordinal += 1;
      const { createdAt } = given;
      const job: Job = {
        ...names(number, era),
        ordinal: number,
        ...given,
        ...plan(number, createdAt),
        settings: { ...faults.settings },
        cancelledAt: undefined,
        halt: new AbortController(),
        deleted: false,
        work: Promise.resolve(),
        output: undefined,
      };
      jobs.set(job.id, job);
      ends.add(job);
      const { totals } = book;
      totals.sentRows += job.rows;
      totals.peakConcurrentJobs = Math.max(totals.peakConcurrentJobs, ends.open.size);
      totals.peakRowsPerJob = Math.max(totals.peakRowsPerJob, job.rows);
      book.sent(job.hashes);
      const path = join(dir, `output-${generation}-${job.ordinal}`);
      job.work = workOn({ job, form, path, seed, answering: service.answering, faults, now: () => clock.now(), signal: job.halt.signal });
      void watch(job, job.plan.endsAt);
      log(`job ${job.name} created: ${job.rows} rows, ${job.model}, ${job.plan.endsAt - createdAt} ms`);
      return job;
    },
    job(id) {
      const job = jobs.get(id);
      if (job === undefined || job.deleted || job.vertex !== undefined) throw new WireError("NOT_FOUND", "Requested entity was not found.");
      return job;
    },
    vertexJob(id) {
      const job = jobs.get(id);
      return job?.vertex === undefined || job.deleted ? undefined : job;
    },
    listJobs(of) {
      const now = clock.now();
      const isWanted = (job: Job) => (job.vertex !== undefined) === (of === "vertex") && !job.deleted && now >= job.plan.listedAt;
      return [...jobs.values()].filter(isWanted).toReversed();
    },
    async cancelJob(job) {
      await service.ready([job]);
      if (!isEnded(stateOf(job, clock.now())) && !faults.hit("cancelIgnored", job.displayName)) {
        job.cancelledAt = clock.now();
        if (job.plan.revivesAfterMs !== undefined) void watch(job, revivalOf(job));
        else {
          job.rowsKept = rowsFinishedAt(job, job.cancelledAt);
          // With real time nothing is finished but what is answered.
          if (realTime || !needsRows(job)) job.halt.abort();
          if (job.output) job.output = cutOutput(job.output, job.rowsKept);
        }
      }
      ends.settle();
    },
    async deleteJob(job) {
      job.deleted = true;
      // What a Vertex job has written belongs to the bucket or the table.
      if (job.output && job.vertex === undefined) await rm(job.output.path, { force: true });
    },
    async ready(wanted) {
      const now = clock.now();
      const late = wanted.filter((job) => job.output === undefined && now >= answersDueAt(job));
      if (late.length > 0) {
        const done = Promise.all(late.map((job) => job.work));
        await (realTime ? Promise.race([done, sleep(graceMs, undefined, { ref: false })]) : done);
      }
      ends.settle();
    },
    async idle() {
      for (let known = -1; known !== jobs.size;) {
        known = jobs.size;
        await Promise.all([...jobs.values()].map((job) => job.work));
      }
      ends.settle();
      await webhooks.idle();
    },
    async reset() {
      generation += 1;
      const old = [...jobs.values()];
      jobs = new Map();
      ends.reset();
      service.unpublished.clear();
      service.loadJobs.clear();
      ordinal = 0;
      era = `${era}'`;
      faults.reset();
      book.reset();
      await Promise.all([files.reset(), objects.reset(), uploads.reset(), tables.reset()]);
      for (const job of old) job.halt.abort();
      await Promise.all(old.map((job) => job.work));
      for (const job of old) if (job.output) await rm(job.output.path, { force: true });
    },
    async close() {
      generation += 1;
      for (const job of jobs.values()) job.halt.abort();
      await Promise.all([...jobs.values()].map((job) => job.work));
      await webhooks.close();
      await Promise.all([files.reset(), objects.reset(), uploads.reset(), tables.reset()]);
      if (ownDir) await rm(dir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  return service;
}

/** Whether the results of a job can be read from its output file. */
export function canDownload(service: Service, job: Job): boolean {
  return hasOutput(job, service.clock.now(), service.realTime);
}
