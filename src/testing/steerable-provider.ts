import type { Clock } from "../core/clock.ts";
import {
  ProviderError,
  type BatchRow,
  type JobInput,
  type JobState,
  type Lane,
  type Provider,
  type ProviderFailure,
  type ProviderJob,
  type ProviderLimits,
  type ResultRow,
  type StagedInput,
} from "../core/provider.ts";
import { gemini } from "../providers/gemini/provider.ts";

/** What a row is answered with: a text, a whole REST response, an error, or nothing (the row is missing from the output). */
export type Answer = string | { response: unknown } | { error: { code: number; message: string } } | undefined;

export interface SteerableProviderOptions {
  clock: Clock;
  /** What a row of a job gets. Default: a text that repeats the last text of the prompt. */
  answer?: (prompt: string, row: BatchRow, lane: Lane) => Answer;
  /** Milliseconds from creation to end. Default one minute. */
  turnaroundMs?: number | ((job: SteerableJob) => number);
  limits?: Partial<ProviderLimits>;
}

/** A job as the steerable provider keeps it. */
export interface SteerableJob {
  name: string;
  token: string;
  lane: Lane;
  rows: BatchRow[];
  createdAt: number;
  endsAt: number;
  /** Set by a test to end the job otherwise than by success. */
  end?: Exclude<JobState, "pending" | "running" | "unknown">;
  cancelled: boolean;
  deleted: boolean;
}

/** A call that a test may let fail: before anything happened, or after it did and only the answer is lost. */
export type SteerableCall =
  | "stageInput"
  | "createJob"
  | "findJobs"
  | "getJobs"
  | "readResults"
  | "cancelJob"
  | "deleteJob"
  | "discardInput";

interface PlannedFailure {
  call: SteerableCall;
  when: "before" | "after";
  failure: ProviderFailure;
  message: string;
  row?: string | number;
  status?: number;
}

/**
 * A provider in memory, in the time of a clock, that does what a test tells it: answers, turnarounds, failures. Its list of jobs is the ledger: what was created was paid.
 */
export class SteerableProvider implements Provider {
  readonly name = "gemini";
  readonly limits: ProviderLimits;
  readonly jobs: SteerableJob[] = [];
  readonly calls: SteerableCall[] = [];
  /** How long a new job is missing from `findJobs`. */
  listLagMs = 0;
  readonly #options: SteerableProviderOptions;
  readonly #official = gemini({ apiKey: "test" });
  readonly #planned: PlannedFailure[] = [];
  readonly #staged = new Map<string, BatchRow[]>();

  constructor(options: SteerableProviderOptions) {
    this.#options = options;
    this.limits = { ...this.#official.limits, enqueuedTokens: () => undefined, ...options.limits };
  }

  /** The next calls of this kind fail, one per plan, in the order planned. */
  failNext(
    call: SteerableCall,
    failure: ProviderFailure,
    options: { when?: "before" | "after"; message?: string; row?: string | number; status?: number } = {},
  ): void {
    const { when = "before", message = `${call} failed on purpose`, row, status } = options;
    this.#planned.push({
      call,
      when,
      failure,
      message,
      ...(row === undefined ? {} : { row }),
      ...(status === undefined ? {} : { status }),
    });
  }

  createModels(fetch: typeof globalThis.fetch): ReturnType<Provider["createModels"]> {
    return this.#official.createModels(fetch);
  }

  normalizeModel(model: string): string {
    return this.#official.normalizeModel(model);
  }

  async stageInput(input: JobInput): Promise<StagedInput> {
    return this.#call("stageInput", async () => {
      const rows: BatchRow[] = [];
      for await (const row of input.rows()) rows.push(row);
      this.#staged.set(input.token, rows);
      return { ref: input.token };
    });
  }

  async createJob(input: JobInput, staged: StagedInput, options: { beforeSend: () => Promise<boolean> }): Promise<ProviderJob> {
    // A planned failure happens on the way or at the other end: after the last check of the sender.
    if (!(await options.beforeSend())) throw new ProviderError("unavailable", "The launch deadline has passed; nothing was sent.");
    return this.#call("createJob", async () => {
      const rows = this.#staged.get(staged.ref);
      if (!rows) throw new ProviderError("missing", "The staged input is gone.");
      const now = this.#options.clock.now();
      const job: SteerableJob = {
        name: `batches/${this.jobs.length + 1}`,
        token: input.token,
        lane: input.lane,
        rows,
        createdAt: now,
        endsAt: now,
        cancelled: false,
        deleted: false,
      };
      const { turnaroundMs = 60_000 } = this.#options;
      job.endsAt = now + (typeof turnaroundMs === "function" ? turnaroundMs(job) : turnaroundMs);
      this.jobs.push(job);
      return this.#view(job);
    });
  }

  async findJobs(token: string): Promise<ProviderJob[]> {
    const visible = this.#options.clock.now() - this.listLagMs;
    return this.#call("findJobs", async () =>
      this.jobs.filter((job) => job.token === token && !job.deleted && job.createdAt <= visible).map((job) => this.#view(job)),
    );
  }

  async getJobs(names: readonly string[]): Promise<ProviderJob[]> {
    return this.#call("getJobs", async () =>
      this.jobs.filter((job) => names.includes(job.name) && !job.deleted).map((job) => this.#view(job)),
    );
  }

  async *readResults(job: ProviderJob): AsyncIterable<ResultRow> {
    const found = this.jobs.find(({ name }) => name === job.name);
    if (!found || found.deleted) throw new ProviderError("missing", "The output is gone.");
    // A failure planned for after: the connection breaks halfway.
    const plan = this.#take("readResults");
    if (plan?.when === "before") throw toError(plan);
    for (const [index, row] of found.rows.entries()) {
      if (plan && index >= found.rows.length / 2) throw toError(plan);
      const answer = (this.#options.answer ?? repeat)(promptText(row.body), row, found.lane);
      if (answer === undefined) continue;
      if (typeof answer === "string") yield { key: row.key, response: textResponse(answer) };
      else if ("error" in answer) yield { key: row.key, error: answer.error };
      else yield { key: row.key, response: answer.response };
    }
  }

  async cancelJob(name: string): Promise<void> {
    await this.#call("cancelJob", async () => {
      for (const job of this.jobs) if (job.name === name && this.#options.clock.now() < job.endsAt) job.cancelled = true;
    });
  }

  async deleteJob(name: string): Promise<void> {
    await this.#call("deleteJob", async () => {
      for (const job of this.jobs) if (job.name === name) job.deleted = true;
    });
  }

  async discardInput(staged: StagedInput): Promise<void> {
    await this.#call("discardInput", async () => this.#staged.delete(staged.ref));
  }

  async close(): Promise<void> {}

  async #call<T>(call: SteerableCall, work: () => Promise<T>): Promise<T> {
    this.calls.push(call);
    const plan = this.#take(call);
    if (plan?.when === "before") throw toError(plan);
    const result = await work();
    if (plan) throw toError(plan);
    return result;
  }

  #take(call: SteerableCall): PlannedFailure | undefined {
    const index = this.#planned.findIndex((plan) => plan.call === call);
    return index < 0 ? undefined : this.#planned.splice(index, 1)[0];
  }

  #view(job: SteerableJob): ProviderJob {
    const ended = this.#options.clock.now() >= job.endsAt;
    const state: JobState = job.cancelled ? "cancelled" : ended ? (job.end ?? "succeeded") : "running";
    return {
      name: job.name,
      token: job.token,
      state,
      rawStatus: `STEERED_${state.toUpperCase()}`,
      createdAt: job.createdAt,
      ...(ended ? { endedAt: job.endsAt } : {}),
      ...(state === "succeeded" ? { output: job.name } : {}),
      ...(state === "failed" ? { error: { code: 13, message: "failed on purpose" } } : {}),
    };
  }
}

/** The last text part of a REST body. */
export function promptText(body: string): string {
  const { contents, content } = JSON.parse(body) as {
    contents?: { parts?: { text?: string }[] }[];
    content?: { parts?: { text?: string }[] };
  };
  const parts = (contents?.at(-1) ?? content)?.parts ?? [];
  return parts.map(({ text }) => text ?? "").join("");
}

/** A REST response with one candidate of this text. */
export function textResponse(text: string): unknown {
  return {
    candidates: [{ content: { role: "model", parts: [{ text }] }, finishReason: "STOP", index: 0 }],
    usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 15 },
    modelVersion: "test",
  };
}

function repeat(prompt: string, _row: BatchRow, lane: Lane): Answer {
  if (lane.method === "embedContent") return { response: { embedding: { values: [prompt.length, 1, 0] } } };
  return `<${prompt}>`;
}

function toError(plan: PlannedFailure): ProviderError {
  return new ProviderError(plan.failure, plan.message, {
    ...(plan.row === undefined ? {} : { row: plan.row }),
    ...(plan.status === undefined ? {} : { status: plan.status }),
  });
}
