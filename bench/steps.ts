/**
 * (a) Chain steps per second: RUNS chains of STEPS prompts each, a provider without turnaround, SQLite with `synchronous=FULL` on disk.
 * From the first start to the commit that ends the last run, after WARM runs that
 * the compiler has seen before. `node bench/steps.ts [runs] [steps] [warm]`
 *
 * @module
 */
import { join } from "node:path";
import { Gembatch } from "../src/index.ts";
import { CountingStore } from "./counting-store.ts";
import { databaseMb, numbers, peakMb, report, Stopwatch, workFolder } from "./measure.ts";
import { promptOf } from "./rows.ts";
import { ZeroProvider } from "./zero-provider.ts";

const [runs, steps, warm] = numbers(500, 6, 0);
const path = join(workFolder(), "steps.db");
const store = new CountingStore({ path });
const provider = new ZeroProvider();
// Without turnaround there is nothing to wait for: looks and flushes as soon as the engine allows.
await using gembatch = new Gembatch({ store, provider, polling: { minInterval: 1 }, batching: { debounce: 2 } });
const chain = gembatch.chain("bench", async ({ models }, input: { n: number }) => {
  let text = "";
  for (let step = 0; step < steps; step += 1) {
    const response = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(input.n, step, text) });
    text = response.text ?? "";
  }
  return text;
});

await gembatch.worker().start();
await work(warm);
const watch = new Stopwatch();
await work(runs);
const { ms, cpuMs } = watch;
const expected = (warm + runs) * steps;
if (provider.rows !== expected) throw new Error(`${provider.rows} rows were sent for ${expected} steps.`);

report({
  stepsPerSecond: (runs * steps) / (ms / 1_000),
  ms,
  cpuMs,
  cpuMsPerStep: cpuMs / (runs * steps),
  jobs: provider.jobs,
  peakMb: peakMb(),
  databaseMb: databaseMb(path),
});

async function work(count: number): Promise<void> {
  const idle = store.endOf(store.ended + count);
  await chain.startMany(inputs(count));
  await idle;
}

function* inputs(count: number): Generator<{ n: number }> {
  for (let n = 0; n < count; n += 1) yield { n };
}
