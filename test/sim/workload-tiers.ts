/**
 * What is run besides: prompts at other tiers, runs with a deadline, prompts that share an answer. No two prompts have the same text but those that share.
 *
 * @module
 */
import type { CallOptions } from "../../src/chain/context.ts";
import type { Gembatch } from "../../src/index.ts";
import type { Root } from "./workload.ts";

/** Begins every prompt whose answer is shared. */
export const sharedWord = "shared";

const model = "gemini-2.5-flash";

/** As `defineWorkload`. */
export function defineTiers(gembatch: Gembatch, rounds: number): Root[] {
  const tiered = gembatch.chain("tiered", async ({ models }, name: string) => {
    const ask = async (contents: string, tier: NonNullable<CallOptions["tier"]>) =>
      (await models.generateContent({ model, contents: `tier ${name} ${contents}` }, { tier })).text!;
    const first = await ask("1", "flex");
    const [standard, auto] = await Promise.all([ask(`2 ${first}`, "standard"), ask(`3 ${first}`, "auto")]);
    return ask(`4 ${standard} ${auto}`, "flex");
  });

  const hurried = gembatch.chain("hurried", async ({ models }, name: string) => {
    const first = (await models.generateContent({ model, contents: `hurry ${name}` })).text!;
    const [second, { embeddings }] = await Promise.all([
      // By now it is known what a job takes: this one is sent with a job, and leaves it if that takes longer.
      models.generateContent({ model, contents: `hurry ${name} again ${first}` }, { deadline: "2m" }),
      models.embedContent({ model: "gemini-embedding-001", contents: [`hurry ${name} ${first}`] }),
    ]);
    return [second.text!, embeddings?.map(({ values }) => values)];
  });

  const sharer = gembatch.chain("sharer", async ({ models }, { name, tier }: { name: string; tier: "batch" | "flex" }) => {
    const ask = async (contents: string, options: CallOptions) => (await models.generateContent({ model, contents }, options)).text!;
    const first = await ask(`${sharedWord} 1`, { tier, cache: { scope: "store", ttl: "30d" } });
    const own = await ask(`share ${name} ${first}`, { tier: "batch" });
    return [own, await ask(`${sharedWord} 2 ${first}`, { tier, cache: { scope: "store", ttl: "30d" } })];
  });

  const roots: Root[] = [];
  for (let n = 0; n < rounds; n += 1) {
    const tier = n % 2 === 0 ? "flex" : "batch";
    const deadline = n % 2 === 0 ? "3m" : "20m";
    roots.push(
      { id: `tiered-${n}`, begin: async (options) => tiered.start(`t${n}`, { id: `tiered-${n}`, ...options }) },
      { id: `hurried-${n}`, begin: async (options) => hurried.start(`h${n}`, { id: `hurried-${n}`, deadline, ...options }) },
      { id: `sharer-${n}`, begin: async (options) => sharer.start({ name: `s${n}`, tier }, { id: `sharer-${n}`, ...options }) },
    );
  }
  return roots;
}
