/**
 * gembatch, by its public API alone, on either store. Everything that knows a store's name is in `stores`.
 *
 * @module
 */
import { join } from "node:path";
import { Gembatch, type Store } from "../../../src/index.ts";
import { sqliteStore } from "../../../src/sqlite.ts";
import { promptOf } from "../../rows.ts";
import { ZeroProvider } from "../../zero-provider.ts";
import { Ended } from "../concurrency.ts";
import { Database } from "../database.ts";
import { timeClaims, type Bench, type Claim, type System, type Task } from "../system.ts";

type OpenStore = (task: Task) => Promise<Store>;

const stores = {
  postgres: async ({ url }) => {
    const { postgresStore } = await import("../../../src/postgres.ts");
    return postgresStore(url);
  },
  sqlite: async ({ folder }) => sqliteStore(join(folder, "compare.db")),
} satisfies Record<string, OpenStore>;

/** Without turnaround there is nothing to wait for: looks and flushes as soon as the engine allows. */
const impatient = { polling: { minInterval: 1 }, batching: { debounce: 2 } };

export const onPostgres = systemOn(stores.postgres, async ({ url }) => {
  const database = await Database.connect(url);
  await database.client.query("VACUUM (ANALYZE)");
  await database.close();
});
export const onSqlite = systemOn(stores.sqlite, async () => {});

function systemOn(openStore: OpenStore, tidy: (task: Task) => Promise<void>): System {
  return {
    async chain(task) {
      const gembatch = new Gembatch({ store: await openStore(task), provider: new ZeroProvider(), ...impatient });
      const ended = new Ended();
      let steps = 0;
      const chain = gembatch.chain("chain", async (context, n: number) => {
        for (let i = 0; i < task.steps; i += 1) {
          await context.step(`step ${i}`, () => {
            steps += 1;
            return i;
          });
        }
        ended.one();
        return n;
      });
      return bench(gembatch, chain, ended, () => steps);
    },

    async suspend(task) {
      const provider = new ZeroProvider();
      const gembatch = new Gembatch({ store: await openStore(task), provider, ...impatient });
      const ended = new Ended();
      const chain = gembatch.chain("suspend", async ({ models }, n: number) => {
        let text = "";
        for (let i = 0; i < task.steps; i += 1) {
          const response = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(n, i, text) });
          text = response.text ?? "";
        }
        ended.one();
        return text;
      });
      return bench(gembatch, chain, ended, () => provider.rows);
    },

    /** Made by the engine itself: each run waits for the answer to its first prompt, in jobs that do not end. */
    async *emptyClaim(task, sizes) {
      const store = await openStore(task);
      const provider = new ZeroProvider({ neverEnds: true });
      const polling = { minInterval: "1h", maxInterval: "1h" } as const;
      const gembatch = new Gembatch({ store, provider, polling, batching: impatient.batching });
      const chain = gembatch.chain("waiting", async ({ models }, n: number) => {
        const response = await models.generateContent({ model: "gemini-2.5-flash", contents: promptOf(n, 0, "") });
        return response.text;
      });
      let filled = 0;
      for (const suspended of sizes) {
        const from = performance.now();
        const worker = await gembatch.worker().start();
        await chain.startMany(numbers(filled, suspended - filled));
        filled = suspended;
        for (;;) {
          const { runs, requests, batches } = await store.stats();
          if (runs.waiting === suspended && requests.batched === suspended && batches.sealed + batches.launching === 0) break;
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        await worker.stop();
        await tidy(task);
        const fillMs = performance.now() - from;
        const chains = [{ chain: "waiting", versions: [""] }];
        const calls = await timeClaims(
          async () => (await store.claimRuns({ worker: "bench", now: Date.now(), limit: 256, chains })).length,
        );
        const { runs } = await store.stats();
        if (runs.waiting !== suspended) throw new Error(`${runs.waiting} of ${suspended} runs are suspended.`);
        yield { suspended, calls, fillMs } satisfies Claim;
      }
      await gembatch.close();
    },
  };
}

interface Startable {
  startMany(inputs: Iterable<number>): Promise<unknown>;
}

async function bench(gembatch: Gembatch, chain: Startable, ended: Ended, steps: () => number): Promise<Bench> {
  await gembatch.worker().start();
  let started = 0;
  return {
    async work(chains) {
      const from = started;
      started += chains;
      await chain.startMany(numbers(from, chains));
      await ended.until(started);
    },
    completed: async () => (await gembatch.stats()).runs.completed,
    get steps() {
      return steps();
    },
    close: async () => gembatch.close(),
  };
}

function* numbers(from: number, count: number): Generator<number> {
  for (let n = from; n < from + count; n += 1) yield n;
}
