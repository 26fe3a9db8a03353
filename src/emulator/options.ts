/**
 * What an emulator can be told at its start.
 *
 * @module
 */
import type { EmulatorFaults } from "./faults.ts";
import type { JsonObject } from "./wire.ts";

/** Where the emulator's time comes from; a virtual clock makes 48 hours pass at once. */
export interface EmulatorClock {
  /** Milliseconds since 1970. */
  now(): number;
  sleep(ms: number): Promise<void>;
}

/** What is known of the prompt that an answer is wanted for. */
export interface AnswerInfo {
  /** Without `models/`. Of other publishers on Vertex: `anthropic/claude-…`. */
  model: string;
  /** The row's key (inline: `metadata.key`; Vertex: `key`, `custom_id` or the first label), or `""`. */
  key: string;
  /** 0-based row of the job; 0 for a direct call. */
  index: number;
  /** The job's name, such as `batches/…`, or `undefined` for a direct call. */
  job: string | undefined;
  displayName: string;
  method: "generateContent" | "embedContent";
  /** Stands for (model, request): equal prompts have equal hashes. */
  hash: string;
}

/**
 * What a script may answer: a text; a whole response (an object with `candidates` or `promptFeedback`); a row error
 * (`{ error: { code, message } }`, with a gRPC code such as 13, or a thrown `Error`, which becomes code 13); any other object,
 * which becomes the JSON text of the answer; an array of numbers for an embedding; `undefined` for the usual answer.
 */
export type Answer = string | JsonObject | readonly number[] | Error | undefined;

/** Answers prompts in place of the built-in texts. `request` is in camelCase whatever the client wrote, and in Gemini's form whatever the publisher. */
export type AnswerScript = (request: JsonObject, info: AnswerInfo) => Answer | Promise<Answer>;

/** The job that a turnaround is wanted for. */
export interface TurnaroundInfo {
  model: string;
  displayName: string;
  rows: number;
  method: "generateContent" | "embedContent";
  /** 0 for the first job since the start or the last reset. */
  ordinal: number;
}

/** Milliseconds from creation to the end: fixed, drawn from a range, or computed. */
export type Turnaround = number | { min: number; max: number } | ((job: TurnaroundInfo) => number);

/** A model server that speaks OpenAI chat completions, to answer prompts for real. */
export interface Upstream {
  /** Up to and without `/chat/completions`, e.g. `http://127.0.0.1:11434/v1`. */
  baseUrl: string;
  /** Default: the model that the client asked for. */
  model?: string;
  apiKey?: string;
  /** Requests at the same time. Default 4. */
  concurrency?: number;
}

export interface EmulatorLimits {
  /** PENDING and RUNNING jobs. Default 100; one more gets 429. */
  concurrentJobs?: number;
  /** Input tokens of all unfinished jobs of a model; one number for every model, or by model name. Default: none. */
  enqueuedTokens?: number | Readonly<Record<string, number>>;
  /** Default 2 GB. */
  fileBytes?: number;
  /** The whole body of a create with inline rows. Default 20,000,000. */
  inlineBytes?: number;
}

/** Webhooks that the emulator sends when jobs end; to this machine only. */
export interface EmulatorWebhooks {
  /** Where the webhook of the project goes: one for the end of every job. Default: there is none. */
  uri?: string;
  /** What it is signed with, `whsec_…`. Needed with `uri`. */
  secret?: string;
  /**
   * How the webhooks of a job (`webhookConfig.uris`) are signed, with a key of `/.well-known/jwks.json`: `"jwt"`, RS256 as documented, or `"ed25519"`, as users
   * received them in 2026-08. Default `"jwt"`.
   */
  jobSignature?: "jwt" | "ed25519";
}

export interface EmulatorOptions {
  /** Default 0: a free port. Always on 127.0.0.1. */
  port?: number;
  /** When set, any other key is refused. Default: any key, or none. */
  apiKey?: string;
  /** Default 200 to 600 ms. */
  turnaround?: Turnaround;
  /** Part of the turnaround that a job is PENDING, the rest it is RUNNING. Default 0.3. */
  pendingFraction?: number;
  answer?: AnswerScript;
  faults?: EmulatorFaults;
  /** The models that exist. Default: every name that looks like Gemini, Gemma or an embedding model. */
  models?: readonly string[] | RegExp | ((model: string) => boolean);
  /** Same seed, same answers, turnarounds and faults. Default `"emulator"`. */
  seed?: string | number;
  /**
   * Default: real time, and a job stays RUNNING until its rows are answered. With a clock of your own, a GET after the end of
   * the turnaround waits for the rows instead, so that the state depends on the clock alone.
   */
  clock?: EmulatorClock;
  /** Folder for uploads and outputs, made if missing. Default: a temporary one, removed on close. */
  dir?: string;
  /** Added to every HTTP call, in ms of clock time. Default 0. */
  latency?: number;
  /** What becomes of an input row that is malformed: refuse the job with 400, or give the row an error. Default `"refuse"`. */
  malformedRows?: "refuse" | "rowError";
  /** Whether a key that occurs twice in a job makes its row malformed. Default false. */
  uniqueKeys?: boolean;
  limits?: EmulatorLimits;
  /** The buckets of Cloud Storage that exist at the start. Default: every name does. */
  buckets?: readonly string[];
  /** The datasets of BigQuery that exist at the start, as `dataset` or `project.dataset`. Default: every name does. */
  datasets?: readonly string[];
  /** `"counts"` leaves out what grows with the number of rows. Default `"full"`. */
  ledger?: "full" | "counts";
  upstream?: Upstream;
  /**
   * With real time they are sent when a job ends; with a clock of your own, at the next call or look at the ledger. Once, or twice with `duplicateWebhooks`: what is not
   * received is not sent again.
   */
  webhooks?: EmulatorWebhooks;
  /** Receives one line for every call and job event. Never holds prompt text or keys. */
  log?: (line: string) => void;
}
