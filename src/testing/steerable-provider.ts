import type { Clock } from "../core/clock.ts";
import {
  ProviderError,
  type BatchRow,
  type DirectCall,
  type JobInput,
  type JobState,
  type Lane,
  type Method,
  type Provider,
  type ProviderFailure,
  type ProviderJob,
  type ProviderLimits,
  type ResultRow,
  type StagedInput,
} from "../core/provider.ts";
import { gemini } from "../providers/gemini/provider.ts";
import { directFailures, foreignModel, promptText, repeat, responseOf, type Answer } from "./steerable-answers.ts";

export { promptText, textResponse, type Answer } from "./steerable-answers.ts";

export interface SteerableProviderOptions {
  clock: Clock;
  /** Its name in lanes. Default `"gemini"`. */
  name?: string;
  /**
   * What a row of a job or a direct call (its `row.key` is empty) gets. Default: a text that repeats the last text of the prompt. Models of other publishers answer in the form of their
   * API.
   */
  answer?: (prompt: string, row: BatchRow, lane: Lane) => Answer;
  /** Milliseconds from creation to end. Default one minute. */
  turnaroundMs?: number | ((job: SteerableJob) => number);
  /** Milliseconds of the clock that a direct call takes. Default 0. */
  callMs?: number | ((call: DirectCall) => number);
  /** What it says of a request before it is queued: may throw, or give its lane a shape. Default: everything goes, together. */
  checkRequest?: Provider["checkRequest"];
  /** Called when a job is made, before anybody sees it: sets the fields that decide how it goes. */
  onJob?: (job: SteerableJob) => void;
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
  /** Runs for ever, until it is cancelled. */
  stuck?: boolean;
  /** Cancelling it is answered, and does nothing. */
  ignoreCancel?: boolean;
  /** How many of its rows, from the first, have an output though it ends otherwise than by success. Default: there is no output then. */
  partialRows?: number;
  /** `findJobs` leaves it out before this instant, in milliseconds since 1970. */
  hiddenUntil?: number;
  /** What the output holds in place of the rows as they are: leaves some out, repeats some, adds others. */
  output?: (rows: readonly ResultRow[]) => Iterable<ResultRow>;
  cancelled: boolean;
  deleted: boolean;
}

/** A prompt that reached the service by a direct call, whether its answer was received or not. */
export interface SteerableDirectCall {
  lane: Lane;
  body: string;
  tier: DirectCall["tier"];
  /** Milliseconds since 1970. */
  at: number;
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
  | "discardInput"
  | "callNow";

interface PlannedFailure {
  call: SteerableCall;
  when: "before" | "after";
  failure: ProviderFailure;
  message: string;
  row?: string | number;
  status?: number;
}

/**
 * A provider in memory, in the time of a clock, that does what a test tells it: answers, turnarounds, failures. Its lists of jobs and direct calls are the ledger: what
 * was created or asked was paid. The fields of a job may be set at any time, or at its creation by `onJob`.
 */
export class SteerableProvider implements Provider {
  readonly name: string;
  readonly limits: ProviderLimits;
  readonly jobs: SteerableJob[] = [];
  readonly directCalls: SteerableDirectCall[] = [];
  readonly calls: SteerableCall[] = [];
  /** How long a new job is missing from `findJobs`. */
  listLagMs = 0;
  readonly #options: SteerableProviderOptions;
  readonly #official = gemini({ apiKey: "test" });
  readonly #planned: PlannedFailure[] = [];
  readonly #staged = new Map<string, BatchRow[]>();

  constructor(options: SteerableProviderOptions) {
    this.#options = options;
    this.name = options.name ?? "gemini";
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

  /** Every staged input is gone, as after its time. */
  expireInputs(): void {
    this.#staged.clear();
  }

  createModels(fetch: typeof globalThis.fetch): ReturnType<Provider["createModels"]> {
    return this.#official.createModels(fetch);
  }

  /** Models of other publishers are taken, as on Vertex AI. */
  normalizeModel(model: string): string {
    return foreignModel(model) ?? this.#official.normalizeModel(model);
  }

  methodOf(model: string): Method | undefined {
    return foreignModel(model) === undefined ? undefined : "rawPredict";
  }

  checkRequest(call: Lane, body: Readonly<Record<string, unknown>>): { shape?: string } {
    return this.#options.checkRequest?.(call, body) ?? {};
  }

  async stageInput(input: JobInput): Promise<StagedInput> {
    return this.#call("stageInput", async () => {
      const rows: BatchRow[] = [];
      for await (const row of input.rows()) rows.push(row);
      this.#staged.set(input.token, rows);
      return { ref: input.token };
    });
  }

  async createJob(
    input: JobInput,
    staged: StagedInput,
    { beforeSend, signal }: { beforeSend: () => Promise<boolean>; signal?: AbortSignal },
  ): Promise<ProviderJob> {
    // A planned failure happens on the way or at the other end: after the last check of the sender.
    if (signal?.aborted || !(await beforeSend()))
      throw new ProviderError("unavailable", "The launch deadline has passed; nothing was sent.");
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
      this.#options.onJob?.(job);
      this.jobs.push(job);
      return this.#view(job);
    });
  }

  async findJobs(token: string): Promise<ProviderJob[]> {
    const now = this.#options.clock.now();
    const isListed = (job: SteerableJob): boolean => !job.deleted && now >= (job.hiddenUntil ?? job.createdAt + this.listLagMs);
    return this.#call("findJobs", async () =>
      this.jobs.filter((job) => job.token === token && isListed(job)).map((job) => this.#view(job)),
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
    const rows = this.#rows(found);
    let left = plan ? Math.ceil(found.rows.length / 2) : Infinity;
    for (const row of found.output ? found.output([...rows]) : rows) {
      if (left <= 0) break;
      left -= 1;
      yield row;
    }
    if (plan) throw toError(plan);
  }

  *#rows(job: SteerableJob): Iterable<ResultRow> {
    const { state } = this.#view(job);
    for (const row of state === "succeeded" ? job.rows : job.rows.slice(0, job.partialRows ?? 0)) {
      const answer = this.#answer(row, job.lane);
      if (answer === undefined) continue;
      yield "error" in answer ? { key: row.key, error: answer.error } : { key: row.key, response: answer.response };
    }
  }

  #answer(row: BatchRow, lane: Lane): Exclude<Answer, string> {
    const answer = (this.#options.answer ?? repeat)(promptText(row.body), row, lane);
    return typeof answer === "string" ? { response: responseOf(answer, lane) } : answer;
  }

  async callNow(call: DirectCall): Promise<unknown> {
    const { clock, callMs = 0 } = this.#options;
    const { lane, body, tier, signal } = call;
    if (signal.aborted) throw new ProviderError("unavailable", "The call was aborted before it was sent.");
    return this.#call("callNow", async () => {
      this.directCalls.push({ lane, body, tier, at: clock.now() });
      const ms = typeof callMs === "function" ? callMs(call) : callMs;
      if (ms > 0) await clock.sleep(ms, { signal });
      if (signal.aborted) throw new ProviderError("ambiguous", "The call was aborted after it was sent.");
      const answer = this.#answer({ key: "", body }, lane);
      if (answer === undefined) throw new ProviderError("ambiguous", "The call was not answered.");
      if ("error" in answer) throw new ProviderError(directFailures[answer.error.code] ?? "refused", answer.error.message);
      return answer.response;
    });
  }

  async cancelJob(name: string): Promise<void> {
    await this.#call("cancelJob", async () => {
      const job = this.jobs.find((each) => each.name === name && !each.deleted);
      if (!job) throw new ProviderError("missing", "The job does not exist.");
      if (this.#isRunning(job) && !job.ignoreCancel) job.cancelled = true;
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

  #isRunning(job: SteerableJob): boolean {
    return !job.cancelled && (job.stuck === true || this.#options.clock.now() < job.endsAt);
  }

  #view(job: SteerableJob): ProviderJob {
    const running = this.#isRunning(job);
    const state: JobState = job.cancelled ? "cancelled" : running ? "running" : (job.end ?? "succeeded");
    const hasOutput = state === "succeeded" || (!running && (job.partialRows ?? 0) > 0);
    return {
      name: job.name,
      token: job.token,
      state,
      rawStatus: `STEERED_${state.toUpperCase()}`,
      createdAt: job.createdAt,
      ...(job.stuck !== true && this.#options.clock.now() >= job.endsAt ? { endedAt: job.endsAt } : {}),
      ...(hasOutput ? { output: job.name } : {}),
      ...(state === "failed" ? { error: { code: 13, message: "failed on purpose" } } : {}),
    };
  }
}

function toError(plan: PlannedFailure): ProviderError {
  return new ProviderError(plan.failure, plan.message, {
    ...(plan.row === undefined ? {} : { row: plan.row }),
    ...(plan.status === undefined ? {} : { status: plan.status }),
  });
}
