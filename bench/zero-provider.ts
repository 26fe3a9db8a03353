import { gemini } from "../src/gemini.ts";
import type { JobInput, Provider, ProviderJob, ProviderLimits, ResultRow, StagedInput } from "../src/core/provider.ts";

/** The text that every answer has: one token short of nothing, so that only the engine is measured. */
export const answerText = "An answer of about the length that a title or a label has.";

/** One REST response for every row, made once: the provider's own work per row is a key and a reference. */
export const answer = {
  candidates: [{ content: { role: "model", parts: [{ text: answerText }] }, finishReason: "STOP", index: 0 }],
  usageMetadata: { promptTokenCount: 30, candidatesTokenCount: 14, totalTokenCount: 44 },
  modelVersion: "bench",
};

export interface ZeroProviderOptions {
  limits?: Partial<ProviderLimits>;
  /** Jobs of the first `waves` looks end at once, later ones never do. Default: all end. */
  neverEnds?: boolean;
}

/** A provider in this process whose jobs have ended when they are first looked at. Reads every row it is given, and keeps the keys. */
export class ZeroProvider implements Provider {
  readonly name = "gemini";
  readonly limits: ProviderLimits;
  jobs = 0;
  rows = 0;
  /** Bytes of all bodies together: reading them is part of what any engine must do. */
  bytes = 0;
  readonly #neverEnds: boolean;
  readonly #official = gemini({ apiKey: "bench" });
  readonly #keys = new Map<string, string[]>();

  constructor({ limits, neverEnds = false }: ZeroProviderOptions = {}) {
    this.limits = { ...this.#official.limits, enqueuedTokens: () => undefined, ...limits };
    this.#neverEnds = neverEnds;
  }

  createModels(fetch: typeof globalThis.fetch): ReturnType<Provider["createModels"]> {
    return this.#official.createModels(fetch);
  }

  normalizeModel(model: string): string {
    return this.#official.normalizeModel(model);
  }

  async stageInput(input: JobInput): Promise<StagedInput> {
    const keys: string[] = [];
    for await (const { key, body } of input.rows()) {
      this.rows += 1;
      this.bytes += body.length;
      if (!this.#neverEnds) keys.push(key);
    }
    this.#keys.set(input.token, keys);
    return { ref: input.token };
  }

  async createJob(input: JobInput, _staged: StagedInput, { beforeSend }: { beforeSend: () => Promise<boolean> }): Promise<ProviderJob> {
    await beforeSend();
    this.jobs += 1;
    return this.#job(input.token);
  }

  async findJobs(): Promise<ProviderJob[]> {
    return [];
  }

  async getJobs(names: readonly string[]): Promise<ProviderJob[]> {
    return names.map((name) => this.#job(name));
  }

  async *readResults(job: ProviderJob): AsyncIterable<ResultRow> {
    for (const key of this.#keys.get(job.name) ?? []) yield { key, response: answer };
    this.#keys.delete(job.name);
  }

  async cancelJob(): Promise<void> {}
  async deleteJob(): Promise<void> {}
  async discardInput(): Promise<void> {}

  async callNow(): Promise<unknown> {
    return answer;
  }

  async close(): Promise<void> {}

  #job(name: string): ProviderJob {
    return this.#neverEnds
      ? { name, state: "running", rawStatus: "RUNNING" }
      : { name, state: "succeeded", rawStatus: "SUCCEEDED", output: name };
  }
}
