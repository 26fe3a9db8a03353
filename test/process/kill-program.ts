/**
 * The user's program of the kill test: chains and handlers of every form, as many waves of them as its argument says. Killed at any moment and started
 * again it goes on; it ends when everything is done. Every prompt is asked once in the life of a store, so that the server can count what was paid twice.
 */
import { randomUUID } from "node:crypto";
import { appendFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Gembatch } from "../../src/index.ts";
import type { KillProgramArguments } from "./kill-processes.ts";

const { waves, runs, effects } = JSON.parse(process.argv[2] ?? "{}") as KillProgramArguments;
const gembatch = new Gembatch({
  polling: { minInterval: "50ms", maxInterval: "200ms" },
  batching: { debounce: "50ms" },
  // Longer than the server's list lags behind, far shorter than the default: the test would take hours.
  launch: { settle: "3s" },
  retry: { initialDelay: "200ms", maxDelay: "2s" },
  logger: "info",
});
const model = "gemini-2.5-flash";

const steps = gembatch.chain("steps", async ({ models }, n: number) => {
  let text = "nothing";
  for (let step = 0; step < 3 + (n % 3); step += 1) {
    const answer = await models.generateContent({ model, contents: `steps ${n}, number ${step}, after: ${text}` });
    text = answer.text!;
  }
  return text;
});

const fan = gembatch.chain("fan", async ({ models, sleep }, n: number) => {
  const sides = await Promise.all(
    ["left", "middle", "right"].map(async (side) => {
      if (side === "middle") await sleep("100ms");
      return (await models.generateContent({ model, contents: `fan ${n}, ${side}` })).text!;
    }),
  );
  return (await models.generateContent({ model, contents: `fan ${n}, all of: ${sides.join(" and ")}` })).text!;
});

const leaf = gembatch.chain(
  "leaf",
  async ({ models }, name: string) => (await models.generateContent({ model, contents: `leaf ${name}` })).text!,
);
const tree = gembatch.chain("tree", async ({ models, map }, n: number) => {
  const leaves = await map(leaf, [`${n} a`, `${n} b`]);
  return (await models.generateContent({ model, contents: `tree ${n}, of: ${leaves.join(" and ")}` })).text!;
});

/** Its step leaves a line in a file. Every execution has a token of its own: the run must go on with the one that was committed. */
const effect = gembatch.chain("effect", async ({ models, step, run }, n: number) => {
  const before = await models.generateContent({ model, contents: `effect ${n}, before` });
  const token = await step("write", async () => {
    const own = randomUUID();
    appendFileSync(effects, `${run.id} ${own}\n`);
    // Done, and not yet committed: some kills fall here.
    await delay(50);
    return own;
  });
  const after = await models.generateContent({ model, contents: `effect ${n}, after: ${before.text!}` });
  return { text: after.text!, token };
});

const ask = (text: string) => ({ contents: [{ role: "user", parts: [{ text }] }] });
const publish = gembatch.handler("publish", (response, params: { n: number }) => `${params.n}: ${response.text!}`);
const review = gembatch.handler("review", async (response, params: { n: number }) => {
  await gembatch.submit(ask(`publish ${params.n}: ${response.text!}`), model, publish, params, { id: `publish-${params.n}` });
  return response.text!;
});
const draft = gembatch.handler("draft", async (response, params: { n: number }) => {
  await gembatch.submit(ask(`review ${params.n}: ${response.text!}`), model, review, params);
  await gembatch.submit(ask(`note ${params.n}: ${response.text!}`), model, publish, params);
  return response.text!;
});

const numbers = Array.from({ length: waves * runs }, (_, n) => n);
await Promise.all([
  ...[steps, fan, tree, effect].map(async (chain) => chain.startMany(numbers, { id: (n) => `${chain.name}-${n}` })),
  ...numbers.map(async (n) => gembatch.submit(ask(`draft ${n}`), model, draft, { n }, { id: `draft-${n}` })),
]);
process.stdout.write("started\n");
await gembatch.onIdle();
await gembatch.close();
process.stdout.write("done\n");
