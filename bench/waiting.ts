/**
 * (c) What waiting costs: RUNS chains wait for the answer to their first prompt, in jobs that do not end. The file is made by one process and looked at
 * by another, as after a deploy. `node bench/waiting.ts [runs]`
 *
 * @module
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Gembatch } from "../src/index.ts";
import { SqliteStore } from "../src/stores/sqlite/store.ts";
import { databaseMb, heapMb, numbers, peakMb, report, rssMb, Stopwatch, timeEach, workFolder, type Figures } from "./measure.ts";
import { promptOf } from "./rows.ts";
import { ZeroProvider } from "./zero-provider.ts";

const [runs, stage] = numbers(100_000, 0);
const path = process.env["GEMBATCH_BENCH_FILE"] ?? join(workFolder(), "waiting.db");

if (stage === 0) {
  const fill = await build();
  await fill[Symbol.asyncDispose]();
  // The second process sees the file as it is; nothing of this one's memory is in its figures.
  const child = fork(import.meta.filename, [String(runs), "1"], {
    env: { ...process.env, GEMBATCH_BENCH_FILE: path },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const [figures] = (await once(child, "message")) as [Figures];
  await once(child, "exit");
  report({ ...fill.figures, ...figures });
} else {
  process.send!(await look());
}

function open() {
  const store = new SqliteStore({ path });
  const provider = new ZeroProvider({ neverEnds: true });
  // Jobs are looked at rarely, so that a tick without anything due can be measured.
  const gembatch = new Gembatch({ store, provider, polling: { minInterval: "1h", maxInterval: "1h" }, batching: { debounce: 2 } });
  const chain = gembatch.chain("waiting", async ({ models }, n: number) => {
    const first = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(n, 0, "") });
    return first.text;
  });
  return { store, gembatch, chain };
}

/** Starts the runs and works until each of them waits for a job. */
async function build() {
  const { store, gembatch, chain } = open();
  const watch = new Stopwatch();
  const worker = await gembatch.worker().start();
  await chain.startMany(Array(runs).keys());
  for (;;) {
    const { runs: counts, requests, batches } = await store.stats();
    if (counts.waiting === runs && requests.batched === runs && batches.in_progress > 0 && batches.sealed + batches.launching === 0) break;
    await sleep(100);
  }
  const buildMs = watch.ms;
  // Before it stops: with every turn that it keeps in memory for the next answer.
  const figures = { buildMs, buildHeapMb: heapMb(), buildPeakMb: peakMb() };
  await worker.stop();
  return { figures, [Symbol.asyncDispose]: async () => gembatch.close() };
}

/** What a worker on this file holds in memory, and what finding nothing to do costs it. */
async function look(): Promise<Figures> {
  const { store, gembatch } = open();
  const worker = gembatch.worker();
  for (let i = 0; i < 10; i += 1) await worker.tick();
  const chains = [{ chain: "waiting", versions: [""] }];
  const emptyClaimMs = await timeEach(10_000, async () => store.claimRuns({ worker: "bench", now: Date.now(), limit: 256, chains }));
  const activityMs = await timeEach(5_000, async () => store.activity({ now: Date.now(), chains }));
  const emptyTickMs = await timeEach(2_000, async () => worker.tick());
  const { runs: counts } = await store.stats();
  if (counts.waiting !== runs) throw new Error(`${counts.waiting} of ${runs} runs wait.`);
  const figures = {
    runs,
    heapMb: heapMb(),
    rssMb: rssMb(),
    databaseMb: databaseMb(path),
    bytesPerRun: (databaseMb(path) * 1e6) / runs,
    emptyClaimMs,
    activityMs,
    emptyTickMs,
  };
  await gembatch.close();
  return figures;
}
