/**
 * The switches. Every fault was met by users of the real service; each is off until it is set.
 *
 * A fault is set to `true` (always), a number (the probability, 0 to 1), or a {@link FaultRule}. An *opportunity* is one
 * row, one job or one HTTP call, as the fault's own line says. Draws follow from the emulator's seed.
 *
 * @module
 */
import { hash32 } from "./chance.ts";

/** When a fault strikes, and how. All fields are optional; `{}` means always. */
export interface FaultRule {
  /** Probability for each opportunity, 0 to 1. Default 1. */
  rate?: number;
  /** At most this many times. Default: no limit. Assigning a new rule starts the count again. */
  times?: number;
  /** Leave this many opportunities alone first. Default 0. */
  after?: number;
  /**
   * Only opportunities of this name: the row key for row faults, the display name for job faults, the file name for file
   * faults, the endpoint (such as `batches.get`) for faults of any call. A string must be equal, or be a part in the form
   * `"*part*"`; a RegExp must match.
   */
  match?: string | RegExp;
  /** Duration, for faults that have one: see each fault for its default. */
  ms?: number;
  /** Where to cut: below 1 a fraction of the body, from 1 on a number of bytes. Default 0.5. */
  at?: number;
  /** HTTP status (`serverErrorCreate`, `serverError`: 500 or 503; `flexShed`: 503 or 429) or gRPC code (`rowError`, `jobFails`: default 13). */
  code?: number;
  /** `downloadCut`: the body ends without a sign of trouble, instead of a broken connection. Default false. */
  clean?: boolean;
  /** The message to send instead of the usual one. */
  message?: string;
}

export type Fault = boolean | number | FaultRule;

/** All faults. Set them at the start, or at any time through `emulator.faults`; job and row faults bind when a job is created. */
export interface EmulatorFaults {
  // Rows of a finished job. Opportunity: a row, matched by key.
  /** A job's rows come back in another order (files: within windows of 1,024 rows). Opportunity: a job. */
  shuffledRows?: Fault;
  /** An inline item without its `metadata`, a file line without its `key`. */
  missingMetadata?: Fault;
  /** No answer for the row at all. */
  missingRows?: Fault;
  /** `"response": null`. */
  nullResponse?: Fault;
  /** The row twice. */
  duplicateRows?: Fault;
  /** An additional row whose key nobody sent. */
  unknownRows?: Fault;
  /** The row's answer carries the key of the next row, and the other way round. */
  swappedKeys?: Fault;
  /** `{"error":{"code":13,…}}` instead of a response. `code`, `message`. */
  rowError?: Fault;
  /** The same under `"status"` instead of `"error"`. */
  rowErrorInStatus?: Fault;
  /** A line that is cut off, so it is not JSON; files only. */
  badLine?: Fault;
  /** A line with bytes that are not UTF-8; files only. */
  nonUtf8Line?: Fault;
  /** An empty line before the row; files only. */
  blankLines?: Fault;
  /** A response text of more than a megabyte. */
  megabyteLine?: Fault;
  /** Vertex: the line or table row without its `key` or `custom_id`; labels stay. */
  missingKey?: Fault;
  /** Vertex: the echoed request without its labels; the key stays. */
  missingLabels?: Fault;

  // Responses, in batches and in direct calls. Opportunity: a prompt, matched by key.
  /** `finishReason: STOP` without parts. */
  emptyText?: Fault;
  /** Only `promptFeedback.blockReason`, no candidates. */
  blockedPrompt?: Fault;
  /** `finishReason: MAX_TOKENS`, half of the text. */
  truncated?: Fault;
  /** `finishReason: SAFETY` without parts. */
  blockedOutput?: Fault;
  /** A text that breaks off or is no JSON though a schema was asked for. */
  invalidJson?: Fault;

  // Jobs. Opportunity: a job, matched by display name.
  /** Ends FAILED. `code`, `message`. */
  jobFails?: Fault;
  /** Ends EXPIRED at the end of its turnaround, with nothing. */
  jobExpires?: Fault;
  /** Ends CANCELLED halfway though nobody here asked for it. */
  jobCancelledOutside?: Fault;
  /** Stays PENDING for ever, without expiring. */
  stuck?: Fault;
  /** SUCCEEDED is visible before the output is. `ms` (default 1,000) of clock time. */
  lateOutputFile?: Fault;
  /** The job is not in lists for `ms` (default 1,000) of clock time; GET finds it. */
  listLag?: Fault;
  /** If it is cancelled it says CANCELLED, but `ms` (default 1,000) of clock time later SUCCEEDED, with results that are billed. */
  cancelledLater?: Fault;
  /** Cancelling is answered with `{}`, and the job goes on. Opportunity: a cancel call. */
  cancelIgnored?: Fault;
  /** Vertex: FAILED with code 3 when it should begin to run: its input could not be imported. `message`. */
  importFails?: Fault;
  /** Vertex: PARTIALLY_SUCCEEDED with the part `at` (default 0.5) of its rows; below 1 a fraction, from 1 on a number. */
  partialSuccess?: Fault;
  /** Vertex: SUCCEEDED, but no object or table is written. */
  outputMissing?: Fault;
  /** Vertex, Cloud Storage: the output is split: `predictions-00000-of-00003.jsonl` and so on. */
  shards?: Fault;
  /** Vertex, Cloud Storage: `incremental_predictions.jsonl` with some rows, and a file that holds none, are left beside the output. */
  incrementalFiles?: Fault;

  // Files. Opportunity: a call, matched by file name.
  /** Download of a job's output answers 404. */
  outputFileGone?: Fault;
  /** A job is created from an expired or foreign file: 403. */
  inputFileGone?: Fault;
  /** A download breaks in the middle of a line. `at`, `clean`. */
  downloadCut?: Fault;
  /** The connection breaks during a chunk of an upload; what arrived is kept. `at` counts within the chunk. */
  uploadCut?: Fault;

  // Creating a job. Opportunity: a create call, matched by display name.
  /** 429 without `RetryInfo`; no job. */
  throttleCreate?: Fault;
  /** 400; no job. `message`. */
  refuseCreate?: Fault;
  /** 400 FAILED_PRECONDITION: the project has no billing; no job. */
  freeTier?: Fault;
  /** 500 (or `code: 503`) before a job is created. */
  serverErrorCreate?: Fault;
  /** The job is created, then the connection breaks without an answer. */
  createAnswerLost?: Fault;
  /** The job is created, then 500 (or `code: 503`) is answered all the same. */
  createAnswerError?: Fault;
  /** The job is created; the answer comes `ms` (default 1,000) of clock time later. */
  createAnswerSlow?: Fault;
  /** Two jobs are created by one call; the answer shows the first. */
  duplicateCreate?: Fault;

  // Direct calls. Opportunity: a call, matched by model.
  /** A flex call is shed: 503 (or `code: 429`). Nothing is answered, nothing billed. */
  flexShed?: Fault;
  /** A flex call is answered `ms` (default 1,000) of clock time later. */
  flexSlow?: Fault;
  /** The prompt is answered and billed, then the connection breaks. */
  directAnswerLost?: Fault;

  // Webhooks. Opportunity: a webhook, matched by the job's display name.
  /** It is sent twice. */
  duplicateWebhooks?: Fault;
  /** It is never sent. */
  webhookLost?: Fault;

  // Any call. Opportunity: an HTTP call, matched by endpoint.
  /** 429 with `RetryInfo`. */
  throttleAny?: Fault;
  /** 500 (or `code: 503`). */
  serverError?: Fault;
  /** 502 with an HTML page. */
  htmlError?: Fault;
  /** The connection breaks before anything was done. */
  connectionLost?: Fault;
  /** The answer comes `ms` (default 100) of clock time later. */
  latency?: Fault;
}

export type FaultName = keyof EmulatorFaults;

/** What a switch said: the rule that struck, with its parameters. */
export type Hit = FaultRule | undefined;

/** What happened to one setting of one fault. */
interface Counter {
  seen: number;
  hits: number;
}

/** Decides whether a fault strikes. Keeps count; everything else is in the settings. */
export interface FaultBox {
  /** The live settings; users change them at run time. */
  settings: EmulatorFaults;
  /** Whether `name` strikes at this opportunity. `subject` is matched; `settings` may be a frozen copy. */
  hit(name: FaultName, subject: string, settings?: EmulatorFaults): Hit;
  /** How often each fault struck so far. */
  struck(): Record<string, number>;
  /** Back to the settings of the start, with all counts at zero. */
  reset(): void;
}

export function faultBox(initial: EmulatorFaults, seed: string): FaultBox {
  // Counted per setting, so that jobs which froze an older rule do not disturb a newer one.
  let rules = new WeakMap<FaultRule, Map<FaultName, Counter>>();
  const simple = new Map<FaultName, Counter>();
  const counterOf = (name: FaultName, setting: Fault): Counter => {
    let counters = simple;
    if (typeof setting === "object") {
      counters = rules.get(setting) ?? new Map<FaultName, Counter>();
      rules.set(setting, counters);
    }
    const counter = counters.get(name) ?? { seen: 0, hits: 0 };
    counters.set(name, counter);
    return counter;
  };
  const totals = new Map<string, number>();
  const box: FaultBox = {
    settings: checkFaults({ ...initial }),
    hit(name, subject, settings = box.settings) {
      const setting = settings[name];
      if (setting === undefined || setting === false || setting === 0) return undefined;
      const rule: FaultRule = setting === true ? {} : typeof setting === "number" ? { rate: setting } : setting;
      if (rule.match !== undefined && !matches(rule.match, subject)) return undefined;
      const counter = counterOf(name, setting);
      counter.seen += 1;
      if (counter.seen <= (rule.after ?? 0)) return undefined;
      if (counter.hits >= (rule.times ?? Infinity)) return undefined;
      const rate = rule.rate ?? 1;
      if (rate < 1 && hash32(`${seed} ${name} ${subject} ${counter.seen}`) / 4_294_967_296 >= rate) return undefined;
      counter.hits += 1;
      totals.set(name, (totals.get(name) ?? 0) + 1);
      return rule;
    },
    struck: () => Object.fromEntries(totals),
    reset() {
      box.settings = checkFaults({ ...initial });
      rules = new WeakMap();
      simple.clear();
      totals.clear();
    },
  };
  return box;
}

function matches(match: string | RegExp, subject: string): boolean {
  if (match instanceof RegExp) return new RegExp(match.source, match.flags.replace(/[gy]/g, "")).test(subject);
  if (match.length > 1 && match.startsWith("*") && match.endsWith("*")) return subject.includes(match.slice(1, -1));
  return match === subject;
}

/** Every fault once; the type makes the compiler notice one that is forgotten. */
const known: Record<FaultName, true> = {
  shuffledRows: true,
  missingMetadata: true,
  missingRows: true,
  nullResponse: true,
  duplicateRows: true,
  unknownRows: true,
  swappedKeys: true,
  rowError: true,
  rowErrorInStatus: true,
  badLine: true,
  nonUtf8Line: true,
  blankLines: true,
  megabyteLine: true,
  missingKey: true,
  missingLabels: true,
  emptyText: true,
  blockedPrompt: true,
  truncated: true,
  blockedOutput: true,
  invalidJson: true,
  jobFails: true,
  jobExpires: true,
  jobCancelledOutside: true,
  stuck: true,
  lateOutputFile: true,
  listLag: true,
  cancelledLater: true,
  cancelIgnored: true,
  importFails: true,
  partialSuccess: true,
  outputMissing: true,
  shards: true,
  incrementalFiles: true,
  outputFileGone: true,
  inputFileGone: true,
  downloadCut: true,
  uploadCut: true,
  throttleCreate: true,
  refuseCreate: true,
  freeTier: true,
  serverErrorCreate: true,
  createAnswerLost: true,
  createAnswerError: true,
  createAnswerSlow: true,
  duplicateCreate: true,
  flexShed: true,
  flexSlow: true,
  directAnswerLost: true,
  duplicateWebhooks: true,
  webhookLost: true,
  throttleAny: true,
  serverError: true,
  htmlError: true,
  connectionLost: true,
  latency: true,
};

/** Every fault's name, in the order of the interface. */
export const faultNames = Object.keys(known) as readonly FaultName[];

/** The settings as given; throws a `TypeError` that names an unknown fault or a bad value. */
export function checkFaults(faults: EmulatorFaults): EmulatorFaults {
  for (const [name, setting] of Object.entries(faults as Record<string, unknown>)) {
    if (!faultNames.includes(name as FaultName)) {
      throw new TypeError(`Unknown fault ${JSON.stringify(name)}. Known faults: ${faultNames.join(", ")}.`);
    }
    const rate = typeof setting === "object" && setting !== null ? ((setting as FaultRule).rate ?? 1) : setting;
    const good = rate === undefined || typeof rate === "boolean" || (typeof rate === "number" && rate >= 0 && rate <= 1);
    if (!good) throw new TypeError(`Fault ${name} must be true, false, a probability from 0 to 1, or a rule such as { times: 2 }.`);
  }
  return faults;
}
