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
import { chanceOf, idOf } from "./chance.ts";
import { faultBox, type FaultBox } from "./faults.ts";
import { fileStore, type FileStore } from "./files.ts";
import { answersDueAt, hasOutput, isEnded, revivalOf, stateOf, type Job } from "./jobs.ts";
import { ledgerBook, ledgerView, type Ledger, type LedgerBook, type LedgerJob } from "./ledger.ts";
import type { EmulatorClock, EmulatorLimits, EmulatorOptions } from "./options.ts";
import { modelCheck } from "./models.ts";
import { planJob } from "./plan.ts";
import type { BatchMethod } from "./rows.ts";
import { quotaError, WireError } from "./wire.ts";
import { settlement } from "./settlement.ts";
import { webhookSender, type WebhookSender } from "./webhooks.ts";
import { answerRows, inspect, malformedError, type RowSource } from "./work.ts";

/** With real time, how long a GET waits for rows that are nearly answered. */
const graceMs = 20;

/** What a create call asks for, after its body was read. */
export interface NewJob {
  model: string;
  method: BatchMethod;
  displayName: string;
  kind: "file" | "inline";
  inputFile: string | undefined;
  webhook: Job["webhook"];
  priority: string | undefined;
  source: RowSource;
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
  /** Takes over the source: its file handle is closed when the rows are answered, or when creation fails. */
  createJob(job: NewJob): Promise<Job>;
  /** A job that was not deleted; 404 otherwise. */
  job(id: string): Job;
  /** Newest first, without deleted and not yet listed ones. */
  listJobs(): Job[];
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
      log(`job batches/${job.id} ${state}`);
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
        name: `batches/${job.id}`,
        displayName: job.displayName,
        model: job.model,
        method: job.method,
        kind: job.kind,
        rows: job.rows,
        createdAt: job.createdAt,
        state,
        deleted: job.deleted,
        billedRows: state === "SUCCEEDED" ? (job.output?.succeeded ?? 0) : 0,
      };
    });
  };

  /** 429 when the project is full. Unfinished jobs count, deleted ones too. */
  const checkQuota = (model: string, tokens: number) => {
    ends.settle();
    if (ends.open.size >= limits.concurrentJobs) throw quotaError(`The project has ${ends.open.size} unfinished batch jobs.`);
    const quota = options.limits?.enqueuedTokens;
    const most = typeof quota === "number" ? quota : quota?.[model];
    if (most === undefined) return;
    let enqueued = 0;
    for (const job of ends.open) if (job.model === model) enqueued += job.inputTokens;
    if (enqueued + tokens > most) throw quotaError(`The batch enqueued tokens limit of ${most} for ${model} is reached.`);
  };

  const startWork = (job: Job, source: RowSource) => {
    const { signal } = job.halt;
    const path = join(dir, `output-${generation}-${job.ordinal}`);
    const work = async () => {
      try {
        if (job.plan.fate !== "SUCCEEDED" && job.plan.revivesAfterMs === undefined) return;
        const output = await answerRows({ job, source, path, seed, answering: service.answering, faults, now: () => clock.now(), signal });
        job.output = output;
        if (output === undefined || job.deleted) await rm(path, { force: true });
      } catch (error) {
        if (signal.aborted) return;
        job.plan = {
          ...job.plan,
          fate: "FAILED",
          error: { code: 13, message: `The emulator could not answer the rows: ${String(error)}` },
        };
      } finally {
        job.hashes = [];
        if ("handle" in source) await source.handle.close().catch(() => undefined);
      }
    };
    job.work = work();
  };

  const service: Service = {
    options,
    clock,
    realTime,
    seed,
    limits,
    faults,
    files,
    book,
    ledger: ledgerView(book, ledgerJobs, () => faults.struck()),
    webhooks,
    answering: answering({ seed, script: options.answer, upstream: options.upstream, faults }),
    hasModel: modelCheck(options.models),
    log,
    async createJob({ source, ...given }) {
      let started = false;
      try {
        const mine = generation;
        // Jobs that are over by the clock must not count against the limits.
        if (!realTime) await service.ready([...ends.open]);
        const refuse = options.malformedRows !== "rowError";
        checkQuota(given.model, 0);
        const input = await inspect(source, given.model, given.method, { stopAtProblem: refuse, uniqueKeys: options.uniqueKeys === true });
        if (refuse && input.problem) throw malformedError(input.problem);
        if (input.rows === 0) throw new WireError("INVALID_ARGUMENT", "The batch has no requests.");
        if (mine !== generation) throw new WireError("UNAVAILABLE", "The emulator was reset.");
        checkQuota(given.model, input.inputTokens);
        const number = ordinal;
        ordinal += 1;
        const createdAt = clock.now();
        const info = { model: given.model, displayName: given.displayName, rows: input.rows, method: given.method, ordinal: number };
        const job: Job = {
          id: idOf(`${era} job ${number}`, 36),
          ordinal: number,
          ...given,
          rows: input.rows,
          inputTokens: input.inputTokens,
          createdAt,
          plan: planJob(info, createdAt, options, faults, chanceOf(`${seed} job ${number}`)),
          settings: { ...faults.settings },
          cancelledAt: undefined,
          halt: new AbortController(),
          deleted: false,
          hashes: input.hashes,
          work: Promise.resolve(),
          output: undefined,
        };
        jobs.set(job.id, job);
        ends.add(job);
        const { totals } = book;
        totals.sentRows += job.rows;
        totals.peakConcurrentJobs = Math.max(totals.peakConcurrentJobs, ends.open.size);
        totals.peakRowsPerJob = Math.max(totals.peakRowsPerJob, job.rows);
        book.sent(input.hashes);
        started = true;
        startWork(job, source);
        void watch(job, job.plan.endsAt);
        log(`job batches/${job.id} created: ${job.rows} rows, ${job.model}, ${job.plan.endsAt - createdAt} ms`);
        return job;
      } finally {
        if (!started && "handle" in source) await source.handle.close().catch(() => undefined);
      }
    },
    job(id) {
      const job = jobs.get(id);
      if (job === undefined || job.deleted) throw new WireError("NOT_FOUND", "Requested entity was not found.");
      return job;
    },
    listJobs() {
      const now = clock.now();
      return [...jobs.values()].filter((job) => !job.deleted && now >= job.plan.listedAt).toReversed();
    },
    async cancelJob(job) {
      await service.ready([job]);
      if (!isEnded(stateOf(job, clock.now())) && !faults.hit("cancelIgnored", job.displayName)) {
        job.cancelledAt = clock.now();
        if (job.plan.revivesAfterMs === undefined) job.halt.abort();
        else void watch(job, revivalOf(job));
      }
      ends.settle();
    },
    async deleteJob(job) {
      job.deleted = true;
      if (job.output) await rm(job.output.path, { force: true });
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
      ordinal = 0;
      era = `${era}'`;
      faults.reset();
      book.reset();
      await files.reset();
      for (const job of old) job.halt.abort();
      await Promise.all(old.map((job) => job.work));
      for (const job of old) if (job.output) await rm(job.output.path, { force: true });
    },
    async close() {
      generation += 1;
      for (const job of jobs.values()) job.halt.abort();
      await Promise.all([...jobs.values()].map((job) => job.work));
      await webhooks.close();
      await files.reset();
      if (ownDir) await rm(dir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  return service;
}

/** Whether the results of a job can be read from its output file. */
export function canDownload(service: Service, job: Job): boolean {
  return hasOutput(job, service.clock.now(), service.realTime);
}
