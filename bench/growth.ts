/**
 * (d) Growth: RUNS chains of one prompt each, started from a stream while the worker works on them, on disk, with the default batching. The
 * time per run must not depend on how many there are. `node bench/growth.ts [runs]`
 *
 * @module
 */
import { join } from "node:path";
import { Gembatch } from "../src/index.ts";
import { CountingStore } from "./counting-store.ts";
import { databaseMb, heapMb, numbers, peakMb, report, Stopwatch, workFolder } from "./measure.ts";
import { promptOf } from "./rows.ts";
import { ZeroProvider } from "./zero-provider.ts";

const [runs] = numbers(10_000);
const path = join(workFolder(), "growth.db");
const store = new CountingStore({ path });
const provider = new ZeroProvider();
await using gembatch = new Gembatch({ store, provider, polling: { minInterval: 1 }, batching: { debounce: 2 } });
const chain = gembatch.chain("growth", async ({ models }, n: number) => {
  const response = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(n, 0, "") });
  return response.text;
});

const watch = new Stopwatch();
const idle = store.endOf(runs);
await gembatch.worker().start();
await chain.startMany(inputs(runs));
const startedMs = watch.ms;
await idle;
const { ms, cpuMs } = watch;

report({
  runs,
  ms,
  startedMs,
  cpuMs,
  usPerRun: (ms * 1_000) / runs,
  cpuUsPerRun: (cpuMs * 1_000) / runs,
  jobs: provider.jobs,
  heapMb: heapMb(),
  peakMb: peakMb(),
  databaseMb: databaseMb(path),
});

async function* inputs(count: number): AsyncGenerator<number> {
  for (let n = 0; n < count; n += 1) yield n;
}
