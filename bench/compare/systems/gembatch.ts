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
import { replicate } from "../replicate.ts";
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

/** How suspended runs get into the store: by the engine, and then by `replicate`, if the store can copy rows. */
interface Filling {
  /** Runs that the engine itself makes before the others are copied from them. */
  templates: number;
  /** Copies what is there, so that `count` more runs are suspended. */
  replicate: (task: Task, count: number) => Promise<void>;
}

export const onPostgres = systemOn(stores.postgres, { templates: 1_000, replicate: replicateRuns });
/** One file, no server: the engine makes all of them. */
export const onSqlite = systemOn(stores.sqlite, { templates: Infinity, replicate: async () => {} });

/** The rows of a suspended run: its own, its input, its open request and the body of that. */
async function replicateRuns({ url }: Task, count: number): Promise<void> {
  const database = await Database.connect(url);
  const { client } = database;
  if (count > 0) {
    await client.query(`
      CREATE TEMP TABLE old AS SELECT no, row_number() OVER (ORDER BY no) - 1 AS ordinal FROM gembatch.runs WHERE state = 2 ORDER BY no LIMIT 1000`);
    await client.query(
      `
      CREATE TEMP TABLE copies AS SELECT i, nextval('gembatch.run_numbers') AS no FROM generate_series(0, $1::int - 1) AS i`,
      [count],
    );
    const run = `c.no << 20`;
    const parts: [table: string, key: string, changes: Record<string, string>][] = [
      ["runs", "r.no", { no: "c.no", id: `'copy ' || c.no` }],
      ["run_inputs", "r.no", { no: "c.no", id: `'copy ' || c.no` }],
      ["entries", "r.no >> 20", { no: `(${run}) + (t.no & 1048575)` }],
      ["bodies", "r.no >> 20", { no: `(${run}) + (t.no & 1048575)` }],
    ];
    for (const [table, key, changes] of parts) {
      await client.query(`DROP TABLE IF EXISTS template`);
      await client.query(`CREATE TEMP TABLE template AS SELECT r.*, o.ordinal FROM gembatch.${table} r JOIN old o ON o.no = ${key}`);
      const { rows } = await client.query<{ count: string }>(`SELECT count(*) AS count FROM old`);
      await replicate(client, {
        table: `gembatch.${table}`,
        template: "template",
        templates: Number(rows[0]?.count),
        copies: "copies",
        changes,
      });
    }
    // Its counters: runs that wait (2), requests in a batch (14).
    await client.query(
      `UPDATE gembatch.tallies SET count = count + $1 WHERE (no, slot) IN (SELECT no, min(slot) FROM gembatch.tallies WHERE no IN (2, 14) GROUP BY no)`,
      [count],
    );
  }
  await client.query("VACUUM (ANALYZE)");
  await database.close();
}

function systemOn(openStore: OpenStore, { templates, replicate: copy }: Filling): System {
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

    /** Each run waits for the answer to its first prompt, in jobs that do not end. */
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
        const made = Math.min(suspended, Math.max(filled, templates));
        if (made > filled) {
          const worker = await gembatch.worker().start();
          await chain.startMany(numbers(filled, made - filled));
          for (;;) {
            const { runs, requests, batches } = await store.stats();
            if (runs.waiting === made && requests.batched === made && batches.sealed + batches.launching === 0) break;
            await new Promise((resolve) => setTimeout(resolve, 100));
          }
          await worker.stop();
        }
        await copy(task, suspended - made);
        filled = suspended;
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
