/**
 * What the workload comes to when nothing goes wrong: the same code, called with answers at hand, without an engine.
 *
 * @module
 */
import type { ChainContext } from "../../src/chain/context.ts";
import type { Gembatch } from "../../src/index.ts";
import { promptText } from "../../src/testing/steerable-provider.ts";
import { answerTo, refusedWord } from "./service.ts";
import { defineTiers } from "./workload-tiers.ts";
import { defineWorkload } from "./workload.ts";

export type Expected = { output: unknown } | { error: string };

type ChainFunction = (context: ChainContext, input: unknown) => unknown;
type HandlerFunction = (response: unknown, params: unknown, context: ChainContext) => unknown;

/** What each run with an id of its own must end with. Children are part of their parents. */
export async function expectedRuns(rounds: number): Promise<Map<string, Expected>> {
  const oracle = new Oracle();
  let drawn = 0;
  const gembatch = oracle as unknown as Gembatch;
  const roots = defineWorkload(gembatch, { draw: () => (drawn += 1), work: async () => {}, onStep: () => {} }, rounds);
  for (const root of [...roots, ...defineTiers(gembatch, rounds)]) await root.begin({ priority: 0 });
  return oracle.runs;
}

/** The few methods of a gembatch that the workload uses. */
class Oracle {
  readonly runs = new Map<string, Expected>();
  readonly #functions = new Map<string, ChainFunction>();
  readonly #handlers = new Map<string, HandlerFunction>();

  chain(name: string, fn: ChainFunction) {
    this.#functions.set(name, fn);
    return { name, start: async (input: unknown, { id }: { id: string }) => this.#record(id, async () => this.#call(name, input, 2)) };
  }

  handler(name: string, fn: HandlerFunction) {
    this.#handlers.set(name, fn);
    return { kind: "handler", name };
  }

  async submit(request: unknown, _model: string, handler: { name: string }, params: unknown, { id }: { id: string }): Promise<string> {
    const response = { text: answerTo(promptText(JSON.stringify(request))) };
    await this.#record(id, async () => this.#handlers.get(handler.name)!(response, params, this.#context(1)));
    return id;
  }

  async #record(id: string, work: () => Promise<unknown>): Promise<void> {
    try {
      this.runs.set(id, { output: toJson(await work()) });
    } catch (error) {
      this.runs.set(id, { error: (error as Error).message });
    }
  }

  async #call(name: string, input: unknown, attempt: number): Promise<unknown> {
    return this.#functions.get(name)!(this.#context(attempt), input);
  }

  #context(attempt: number): ChainContext {
    const generate = async ({ contents }: { contents: string }) => {
      if (contents.includes(refusedWord)) throw Object.assign(new Error("refused"), { code: "request_failed" });
      return { text: answerTo(contents) };
    };
    const embed = async ({ contents }: { contents: string[] }) => ({
      embeddings: contents.map((text) => ({ values: [text.length, 1, 0] })),
    });
    const context = {
      models: { generateContent: generate, embedContent: embed },
      step: async (_name: string, fn: () => unknown) => fn(),
      call: async ({ name }: { name: string }, input: unknown) => this.#call(name, input, attempt),
      map: async ({ name }: { name: string }, inputs: unknown[]) =>
        Promise.all(inputs.map(async (input) => this.#call(name, input, attempt))),
      sleep: async () => {},
      now: () => 0,
      run: { attempt },
    };
    return context as unknown as ChainContext;
  }
}

function toJson(value: unknown): unknown {
  const text = JSON.stringify(value);
  return text === undefined ? undefined : JSON.parse(text);
}
