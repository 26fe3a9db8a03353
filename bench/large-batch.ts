/**
 * (e) One batch of ROWS rows through the emulator, over HTTP, with the real Gemini adapter: peak memory of the engine's process while it uploads the
 * input, and while it streams and settles the output. The emulator is another process. The runs are started by this process before
 * (their turns are not what is measured), then a fresh process does the rest. CAPPED 1 gives that process a heap
 * of 64 MB: what it then holds is what it needs, without the garbage that V8 leaves lying while there is room.
 * `node bench/large-batch.ts [rows] [capped]`
 *
 * @module
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Gembatch } from "../src/index.ts";
import { gemini } from "../src/gemini.ts";
import { SqliteStore } from "../src/stores/sqlite/store.ts";
import { databaseMb, numbers, peakMb, report, resetPeak, rssMb, Stopwatch, workFolder, type Figures } from "./measure.ts";
import { promptOf } from "./rows.ts";

const [rows, capped, stage] = numbers(200_000, 0, 0);
const path = process.env["GEMBATCH_BENCH_FILE"] ?? join(workFolder(), "large.db");
const smallHeap = ["--max-old-space-size=64", "--max-semi-space-size=2"];
/** About a page: what makes a large batch large. */
const page = "A page of text that a summary is wanted of. ".repeat(40);

if (stage === 0) {
  const emulator = fork(join(import.meta.dirname, "large-batch-emulator.ts"), { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const [url] = (await once(emulator, "message")) as [string];
  const enqueueMs = await enqueue();
  const env = { ...process.env, GEMBATCH_BENCH_FILE: path, GEMBATCH_BENCH_URL: url };
  const engine = fork(import.meta.filename, [String(rows), String(capped), "1"], {
    env,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    execArgv: capped === 1 ? smallHeap : [],
  });
  const [figures] = (await once(engine, "message")) as [Figures];
  await once(engine, "exit");
  emulator.disconnect();
  report({ enqueueMs, ...figures });
} else {
  process.send!(await advance(process.env["GEMBATCH_BENCH_URL"]!));
}

function open(url: string, debounce: number | "1d") {
  const store = new SqliteStore({ path });
  const provider = gemini({ apiKey: "bench", baseUrl: url, limits: { maxRequests: rows + 1, enqueuedTokens: false } });
  const gembatch = new Gembatch({
    store,
    provider,
    polling: { minInterval: 50 },
    batching: { debounce, maxWait: "1d", maxRequests: rows + 1, maxBytes: 4_000_000_000 },
  });
  return { store, gembatch };
}

/** Every run waits with its prompt in the queue; nothing is sent. */
async function enqueue(): Promise<number> {
  const { store, gembatch } = open("http://127.0.0.1:9", "1d");
  const chain = define(gembatch);
  const watch = new Stopwatch();
  const worker = gembatch.worker();
  await chain.startMany(Array(rows).keys());
  while ((await store.stats()).requests.queued < rows) await worker.tick();
  const { ms } = watch;
  await gembatch.close();
  return ms;
}

/** No chain is registered at first, so nothing but forming, uploading, looking and routing happens; then the turns that the answers set off. */
async function advance(url: string): Promise<Figures> {
  const { store, gembatch } = open(url, 2);
  const worker = await gembatch.worker().start();
  const baseMb = rssMb();
  const upload = await phase(async () => (await store.stats()).batches.in_progress > 0);
  resetPeak();
  const routing = await phase(async () => (await store.stats()).batches.completed > 0);
  const { requests } = await store.stats();
  if (requests.succeeded !== rows) throw new Error(`${requests.succeeded} of ${rows} requests were answered.`);
  resetPeak();
  define(gembatch);
  const turns = await phase(async () => !(await store.hasLiveRuns()));
  await worker.stop();
  const figures = {
    rows,
    baseMb,
    uploadPeakMb: upload.peakMb,
    uploadHeapMb: upload.heapMb,
    uploadMs: upload.ms,
    routingPeakMb: routing.peakMb,
    routingHeapMb: routing.heapMb,
    routingMs: routing.ms,
    turnsPeakMb: turns.peakMb,
    turnsMs: turns.ms,
    databaseMb: databaseMb(path),
  };
  await gembatch.close();
  return figures;
}

/** Time and peaks until `done`: the kernel's peak of the whole process, and the largest heap seen every few milliseconds. */
async function phase(done: () => Promise<boolean>): Promise<{ ms: number; peakMb: number; heapMb: number }> {
  const watch = new Stopwatch();
  let heapMb = 0;
  while (!(await done())) {
    heapMb = Math.max(heapMb, process.memoryUsage().heapUsed / 1e6);
    await sleep(10);
  }
  return { ms: watch.ms, peakMb: peakMb(), heapMb };
}

function define(gembatch: Gembatch) {
  return gembatch.chain(
    "large",
    async ({ models }, n: number) => {
      const { text } = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(n, 0, page) });
      return text?.length;
    },
    { version: "1" },
  );
}
