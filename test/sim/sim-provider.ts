import {
  ProviderError,
  type DirectCall,
  type JobInput,
  type Provider,
  type ProviderJob,
  type ResultRow,
  type StagedInput,
} from "../../src/core/provider.ts";
import { gemini } from "../../src/providers/gemini/provider.ts";
import type { Monitor } from "./monitor.ts";
import type { ProviderPlan } from "./plan.ts";
import type { Service, ServiceJob } from "./service.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

const official = gemini({ apiKey: "test" });

/** The provider port over the service: takes time, fails and loses answers as the plan says. */
export class SimProvider implements Provider {
  readonly name = "gemini";
  readonly limits = { ...official.limits, enqueuedTokens: () => undefined };
  readonly #world: World;
  readonly #service: Service;
  readonly #monitor: Monitor;
  readonly #plan: () => ProviderPlan;
  /** The job of each batch whose output was read. */
  readonly #read = new Map<string, string>();

  constructor(world: World, service: Service, monitor: Monitor, plan: () => ProviderPlan) {
    this.#world = world;
    this.#service = service;
    this.#monitor = monitor;
    this.#plan = plan;
  }

  createModels(fetch: typeof globalThis.fetch): ReturnType<Provider["createModels"]> {
    return official.createModels(fetch);
  }

  normalizeModel(model: string): string {
    return official.normalizeModel(model);
  }

  async stageInput(input: JobInput): Promise<StagedInput> {
    await this.#onItsWay();
    const rows = await Array.fromAsync(input.rows());
    return { ref: this.#service.upload(rows) };
  }

  async createJob(
    input: JobInput,
    staged: StagedInput,
    { signal, beforeSend }: { signal: AbortSignal; beforeSend: () => Promise<boolean> },
  ): Promise<ProviderJob> {
    await this.#onItsWay();
    if (!(await beforeSend())) throw new ProviderError("unavailable", "Nothing was sent.");
    // From here on it happens, whoever lives to see it.
    return new Promise((resolve, reject) => {
      const unknown = () => reject(new ProviderError("ambiguous", "The connection was lost."));
      signal.addEventListener("abort", unknown, { once: true });
      const { createLost, createUnanswered, createHidden, createLateMs, inputGone } = this.#plan();
      if (this.#draws(createLost)) {
        this.#world.after(this.#latency(), unknown);
        return;
      }
      const unanswered = this.#draws(createUnanswered);
      const hidden = unanswered && this.#draws(createHidden);
      if (this.#draws(inputGone)) this.#service.uploads.delete(staged.ref);
      this.#world.after(this.#latency() + createLateMs * this.#world.random.next(), () => {
        const rows = this.#service.uploads.get(staged.ref);
        if (!rows) {
          this.#world.after(this.#latency(), () => reject(new ProviderError("missing", "The input is gone.")));
          return;
        }
        const job = this.#service.create(input.token, input.lane, rows, hidden);
        this.#world.after(this.#latency(), unanswered ? unknown : () => resolve(this.#view(job)));
      });
    });
  }

  async findJobs(token: string): Promise<ProviderJob[]> {
    await this.#onItsWay();
    const { now, random } = this.#world;
    // A job that is new to the list may show on one look and not on the next.
    const early = (job: ServiceJob) => !job.hidden && job.createdAt < now && random.next() < 0.1;
    const listed = (job: ServiceJob) => job.token === token && !job.deleted && (job.visibleAt <= now || early(job));
    const jobs = this.#service.jobs.filter(listed);
    for (const job of jobs) if (this.#service.stateOf(job) === "running") job.seenRunningAt ??= now;
    return jobs.map((job) => this.#view(job));
  }

  async getJobs(names: readonly string[]): Promise<ProviderJob[]> {
    await this.#onItsWay();
    const found = names.map((name) => this.#service.get(name)).filter((job) => job !== undefined);
    return found.map((job) => this.#view(job));
  }

  async *readResults(job: ProviderJob): AsyncIterable<ResultRow> {
    await this.#onItsWay();
    const found = this.#service.get(job.name);
    if (found) this.#readsOneJob(found);
    const { outputGone, downloadBreaks, downloadCut } = this.#plan();
    // An output that is gone is gone for good.
    if (found && this.#draws(outputGone) && found.rows.every(({ key }) => /\.[12]$/.test(key))) found.deleted = true;
    if (!found || found.deleted) throw new ProviderError("missing", "The output is gone.");
    const somewhere = Math.floor(this.#world.random.next() * (found.lines.length + 1));
    const breaksAt = this.#draws(downloadBreaks) ? somewhere : Infinity;
    const cutAt = this.#draws(downloadCut) ? somewhere : Infinity;
    for (const [index, line] of found.lines.entries()) {
      if (index >= breaksAt) throw new ProviderError("unavailable", "The connection broke.");
      if (index >= cutAt) return;
      yield line;
    }
  }

  async cancelJob(name: string): Promise<void> {
    const job = this.#service.jobs.find((job) => job.name === name);
    if (job) job.cancelAsked = true;
    await this.#onItsWay();
    if (job && this.#service.stateOf(job) === "running") job.cancelled = true;
  }

  async deleteJob(name: string): Promise<void> {
    await this.#onItsWay();
    for (const job of this.#service.jobs) if (job.name === name) job.deleted = true;
  }

  async discardInput(staged: StagedInput): Promise<void> {
    await this.#onItsWay();
    this.#service.uploads.delete(staged.ref);
  }

  async callNow(call: DirectCall): Promise<unknown> {
    const asked = await this.#monitor.called(call);
    try {
      return await this.#ask(call);
    } catch (error) {
      asked.failed = true;
      throw error;
    }
  }

  async close(): Promise<void> {}

  async #ask({ lane, body, signal }: DirectCall): Promise<unknown> {
    await this.#onItsWay();
    if (signal.aborted) throw new ProviderError("unavailable", "The call took too long before it was sent.");
    const { callMs, callShed, callLost, callUnanswered } = this.#plan();
    if (this.#draws(callShed)) throw new ProviderError("throttled", "The model is overloaded.");
    // From here on it is answered, and paid, whoever lives to see it.
    return new Promise((resolve, reject) => {
      const unknown = () => reject(new ProviderError("ambiguous", "The connection was lost."));
      signal.addEventListener("abort", unknown, { once: true });
      const lost = this.#draws(callLost) || this.#draws(callUnanswered);
      const [shortest, longest] = callMs;
      const ms = shortest + (longest - shortest) * this.#world.random.next();
      this.#world.after(ms, lost ? unknown : () => resolve(this.#service.answer(lane, body)));
    });
  }

  /** Whatever jobs a batch has: answers are taken from one. */
  #readsOneJob({ token, name }: ServiceJob): void {
    const other = this.#read.get(token);
    this.#read.set(token, name);
    if (other === undefined || other === name) return;
    this.#world.fail(new Violation("one job of a batch is read", `${other} and ${name} are both ${token}`));
  }

  #view(job: ServiceJob): ProviderJob {
    const { now } = this.#world;
    const real = this.#service.stateOf(job);
    const running = real === "running";
    const state = running && this.#draws(this.#plan().unknownState) ? "unknown" : real;
    return {
      name: job.name,
      token: job.token,
      state,
      rawStatus: `SIM_${state.toUpperCase()}`,
      createdAt: job.createdAt,
      ...(running ? {} : { endedAt: Math.min(now, job.endsAt) }),
      ...(real === "succeeded" && job.outputAt <= now ? { output: job.name } : {}),
      ...(real === "failed" ? { error: { code: 13, message: "the job failed" } } : {}),
    };
  }

  async #onItsWay(): Promise<void> {
    await this.#world.sleep(this.#latency());
    if (!this.#draws(this.#plan().failBefore)) return;
    const throttled = this.#draws(0.5);
    throw new ProviderError(throttled ? "throttled" : "unavailable", throttled ? "Too many requests." : "No connection.");
  }

  #latency(): number {
    return this.#plan().latencyMs * this.#world.random.next();
  }

  #draws(chance: number): boolean {
    return chance > 0 && this.#world.random.next() < chance;
  }
}
