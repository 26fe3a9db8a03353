/**
 * A user's program for the process tests: 200 sequential chains of three prompts and 200 that branch, on the store and the server that the
 * environment names (`PROGRAM_CHAINS`: only some of them). Prints one line of JSON with every output when all are done. Killed at any moment and started again it goes on.
 */
import { Gembatch } from "../../src/index.ts";

const count = Number(process.env["PROGRAM_RUNS"] ?? 200);
const gembatch = new Gembatch({ polling: { minInterval: "20ms" }, batching: { debounce: "50ms" }, logger: "error" });
const model = "gemini-2.5-flash";

const sequence = gembatch.chain("sequence", async ({ models }, n: number) => {
  const a = await models.generateContent({ model, contents: `sequence ${n} first` });
  const b = await models.generateContent({ model, contents: `sequence ${n} second after ${a.text}` });
  const c = await models.generateContent({ model, contents: `sequence ${n} third after ${b.text}` });
  return c.text!;
});

const branching = gembatch.chain("branching", async ({ models }, n: number) => {
  const [left, right] = await Promise.all(
    ["left", "right"].map(async (side) => models.generateContent({ model, contents: `branching ${n} ${side}` })),
  );
  const merged = await models.generateContent({ model, contents: `branching ${n} merge ${left!.text} and ${right!.text}` });
  return merged.text!;
});

const wanted = process.env["PROGRAM_CHAINS"]?.split(",");
const chains = [sequence, branching].filter(({ name }) => !wanted || wanted.includes(name));
const numbers = Array.from({ length: count }, (_, n) => n);
await Promise.all(chains.map(async (chain) => chain.startMany(numbers, { id: (n) => `${chain.name}-${n}` })));
process.stdout.write("started\n");
const outputs: Record<string, unknown> = {};
for (const chain of chains) {
  for await (const item of chain.map(numbers, { id: (n) => `${chain.name}-${n}` })) outputs[item.id] = item.output ?? item.error?.message;
}
await gembatch.close();
process.stdout.write(`${JSON.stringify(outputs)}\n`);
