/**
 * The documents. Each has its row in the map `d` and its payloads in the map `t`, neither of them indexed; beside them stand the few fields that queries look for, and only while a query should find the document: a run
 * that waits is in no queue's index. `indexes.ts` declares the indexes.
 */
import type { BatchRow as SqlBatchRow } from "../records.ts";
import { BATCH, ENTRY, RUN } from "../codes.ts";
import { chainKey, digest, orderOf, runDocument, shardOf } from "./keys.ts";

export interface RunRow {
  /** Its key: `keys.ts`. */
  no: string;
  id: string;
  fingerprint: string;
  state: number;
  kind: number;
  cancel: number;
  /** 1: its history was removed; 2: it is being removed. */
  pruned: number;
  chain: string;
  version: string;
  epoch: number;
  /** Histories that were forgotten: what waited for an entry of an earlier one is told nothing. */
  round: number;
  /** Key of the worker that has it in hand. */
  worker: string | null;
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
  /** The entry that waits for its output, and the round of that entry's run. */
  parent: string | null;
  parent_round: number;
  /** Key of the run that started it. */
  starter: string | null;
  /** Further entries that wait for it, each as `<entry> <round>`. */
  waiters: string[];
  /** 1: it has ended, and some of its open requests are not withdrawn yet. */
  dropping: number;
  ended_at: number | null;
  error_code: string | null;
  /** A reference to a payload elsewhere, if that is its output. */
  reference: string | null;
  sizes: Record<string, number>;
}

export interface EntryRow {
  no: string;
  run_id: string;
  state: number;
  kind: number;
  attempt: number | null;
  /** Document of its batch, the last one if it is queued again. */
  batch: string | null;
  batch_id: string | null;
  lane: string | null;
  seq: number | null;
  bytes: number | null;
  tokens: number | null;
  max_attempts: number | null;
  failed_jobs: number;
  group_size: number | null;
  /** Document of the answer that it shares, and how long that is kept. */
  shared: string | null;
  ttl_ms: number;
  unpriced: number;
  estimate: number | null;
  usd: number;
  standard_usd: number;
  priority: number | null;
  due_at: number | null;
  created_at: number;
  deadline_at: number | null;
  check_at: number | null;
  key: string;
  fingerprint: string;
  tier_reason: string | null;
  /** A reference to a payload elsewhere, if that is its value. */
  reference: string | null;
  sizes: Record<string, number>;
}

export interface BatchRow extends Omit<SqlBatchRow, "no" | "lane" | "worker" | "swept"> {
  /** Document: digest of its id. */
  no: string;
  order: string;
  lane: string;
  worker: string | null;
  /** Rows behind `cursor` that are settled already: their call was cut into several transactions. */
  ahead: number;
}

/** An answer that equal requests share: the open entry that is asked for it, or the answer while it is kept. */
export interface SharedRow {
  no: string;
  leader: string | null;
  ttl_ms: number;
  answered: number;
  /** 1: the answer is there, and some of those that wait for it have not got it yet. */
  pending: number;
  expires_at: number | null;
  reference: string | null;
  sizes: Record<string, number>;
}

export interface WorkerRow {
  no: string;
  id: string;
  host: string;
  pid: number;
  lease_until: number;
}

/** A row of a batch whose request was taken out of it: when it comes, it is billed once and delivered to nobody. */
export interface DepartedRow {
  no: string;
  chain: string;
  state: number;
}

/** Who holds a role. */
export interface RoleRow {
  no: string;
  role: string;
  worker: string;
}

/** Written by whoever forms a batch of the provider: its slots are counted, and taken, by one at a time. */
export interface FormerRow {
  no: string;
  formed: number;
}

export interface ProducerRow {
  no: string;
  until: number;
}

export type Cell = string | number | boolean | Date | undefined;

export interface Spec<R extends { no: string }> {
  collection: string;
  /** What is left out of the map `d`. */
  blank: Partial<R>;
  document: (no: string) => string;
  /** What queries look for; absent while no query should find it. */
  fields: (row: R, shards: number) => Record<string, Cell>;
}

const PRODUCER_KEPT_MS = 86_400_000;

const orAbsent = <T>(value: T | null): T | undefined => value ?? undefined;
const itself = (no: string): string => no;

export const queueOf = (shard: number, name: string): string => `${shard}:${name}`;

export const specs = {
  runs: {
    collection: "runs",
    blank: {
      ...{
        cancel: 0,
        dropping: 0,
        pruned: 0,
        epoch: 0,
        round: 0,
        worker: null,
        seq: 0,
        open: 0,
        entries: 0,
        attempts: 0,
        priority: 0,
        code: "",
      },
      ...{ usd: 0, standard_usd: 0, unpriced: 0, reserved: 0, deadline_at: null, retry_at: null, parent: null, parent_round: 0 },
      ...{ starter: null, ended_at: null, error_code: null, reference: null },
    },
    document: runDocument,
    fields: (row, shards) => ({
      shard: shardOf(row.no, shards),
      order: orderOf(row.no),
      priority: row.priority,
      ready: row.state === RUN.runnable ? queueOf(shardOf(row.no, shards), chainKey(row.chain, row.version)) : undefined,
      worker: orAbsent(row.worker),
      retry_at: row.state === RUN.retrying ? orAbsent(row.retry_at) : undefined,
      starter: orAbsent(row.starter),
      telling: row.ended_at !== null && (row.waiters.length > 0 || row.dropping === 1) ? true : undefined,
      trouble: row.state === RUN.held || row.state === RUN.failed ? row.state : undefined,
      ended: row.ended_at === null ? undefined : row.pruned === 1 ? "bare" : "whole",
      ended_at: orAbsent(row.ended_at),
      reference: orAbsent(row.reference),
    }),
  } satisfies Spec<RunRow> as Spec<RunRow>,
  entries: {
    collection: "entries",
    blank: {
      ...{ attempt: null, batch: null, batch_id: null, lane: null, seq: null, bytes: null, tokens: null, max_attempts: null },
      ...{
        failed_jobs: 0,
        group_size: null,
        shared: null,
        ttl_ms: 0,
        unpriced: 0,
        estimate: null,
        usd: 0,
        standard_usd: 0,
        priority: null,
      },
      ...{ due_at: null, deadline_at: null, check_at: null, tier_reason: null, reference: null },
    },
    document: itself,
    fields: (row, shards) => ({
      order: orderOf(row.no),
      shard: row.kind === 0 ? shardOf(row.no, shards) : undefined,
      priority: orAbsent(row.priority),
      due_at: orAbsent(row.due_at),
      group_size: row.state === ENTRY.isolated ? orAbsent(row.group_size) : undefined,
      queue: row.state === ENTRY.queued ? queueOf(shardOf(row.no, shards), row.lane ?? "") : undefined,
      delayed: row.state === ENTRY.delayed ? orAbsent(row.lane) : undefined,
      apart: row.state === ENTRY.isolated ? orAbsent(row.lane) : undefined,
      wake_at: row.state === ENTRY.sleeping ? orAbsent(row.due_at) : undefined,
      check_at: orAbsent(row.check_at),
      batch: orAbsent(row.batch),
      member: row.state === ENTRY.batched ? orAbsent(row.batch) : undefined,
      follows: row.state === ENTRY.following ? orAbsent(row.shared) : undefined,
      run: row.seq === null ? undefined : row.no.slice(0, row.no.indexOf("-")),
      seq: orAbsent(row.seq),
      reference: orAbsent(row.reference),
    }),
  } satisfies Spec<EntryRow> as Spec<EntryRow>,
  batches: {
    collection: "batches",
    blank: {
      ...{ held: 0, worker: null, request_count: 0, bytes: 0, tokens: 0, estimate: 0, sealed_at: null, staged: null, launch_attempts: 0 },
      ...{ intent_at: null, launch_deadline_at: null, job: null, job_state: null, raw_status: null, launched_at: null, cancelled_at: null },
      ...{ finished_at: null, output: null, cursor: 0, ahead: 0, succeeded: 0, failed: 0, requeued: 0, cancelled: 0, duplicate: 0 },
      ...{ unknown: 0, failures: 0, ended_at: null, error: null, sweep_at: null, duplicate_jobs: null, cleaned_at: null },
      ...{ usd: 0, standard_usd: 0, unpriced: 0 },
    },
    document: itself,
    fields: (row) => ({
      order: row.order,
      active: row.state < BATCH.completed ? true : undefined,
      due_at: row.state < BATCH.completed ? row.due_at : undefined,
      worker: orAbsent(row.worker),
      sweep_at: orAbsent(row.sweep_at),
      ended_at: row.state < BATCH.completed ? undefined : orAbsent(row.ended_at),
    }),
  } satisfies Spec<BatchRow> as Spec<BatchRow>,
  shared: {
    collection: "shared",
    blank: { leader: null, answered: 0, pending: 0, expires_at: null, reference: null },
    document: itself,
    fields: (row) => ({
      expires_at: orAbsent(row.expires_at),
      pending: row.pending === 1 ? true : undefined,
      reference: orAbsent(row.reference),
    }),
  } satisfies Spec<SharedRow> as Spec<SharedRow>,
  workers: {
    collection: "workers",
    blank: {},
    document: itself,
    fields: (row) => ({ lease_until: row.lease_until, host: row.host }),
  } satisfies Spec<WorkerRow> as Spec<WorkerRow>,
  departed: { collection: "departed", blank: {}, document: itself, fields: () => ({}) } satisfies Spec<DepartedRow> as Spec<DepartedRow>,
  roles: {
    collection: "roles",
    blank: {},
    document: itself,
    fields: (row) => ({ worker: row.worker }),
  } satisfies Spec<RoleRow> as Spec<RoleRow>,
  formers: { collection: "formers", blank: {}, document: itself, fields: () => ({}) } satisfies Spec<FormerRow> as Spec<FormerRow>,
  producers: {
    collection: "producers",
    blank: {},
    document: itself,
    // A bulk start that was killed leaves its document behind: Firestore itself removes it by this (TTL).
    fields: (row) => ({ until: row.until, gone_at: new Date(row.until + PRODUCER_KEPT_MS) }),
  } satisfies Spec<ProducerRow> as Spec<ProducerRow>,
};

export const workerKey = (id: string): string => digest(id);
export const batchKey = (id: string): string => digest(id);
export const departedKey = (batch: string, entry: string, attempt: number): string => `${batch}-${entry}-${attempt}`;
