import { PgBoss } from "pg-boss";
import { Outside } from "../concurrency.ts";
import { Database } from "../database.ts";
import type { Bench, System, Task } from "../system.ts";
import { JobChains, type Job } from "./jobs.ts";

const queue = "bench";
/** Jobs of one fetch: what its throughput comes from. One at a time, fifty workers wake each other and reach a tenth. */
const batchSize = 500;

export const system: System = {
  /** A handler takes a batch, and sends the next jobs by one call. */
  async chain(task) {
    const boss = await start(task);
    const chains = new JobChains(task.steps);
    return bench(task, boss, chains, async (next) =>
      boss.insert(
        queue,
        next.map((data) => ({ data })),
      ),
    );
  },

  /** A handler ends; the world outside sends the next job of a chain, each by a call of its own. */
  async suspend(task) {
    const boss = await start(task);
    const chains = new JobChains(task.steps);
    const outside = new Outside<Job>(task.concurrency, async (job) => boss.send(queue, job));
    return bench(task, boss, chains, async (next) => next.forEach((job) => outside.announce(job)));
  },
};

async function start({ url, concurrency }: Task): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString: url, max: concurrency, useListenNotify: true, schedule: false });
  boss.on("error", (error) => {
    throw error;
  });
  await boss.start();
  await boss.createQueue(queue, { notify: true });
  return boss;
}

async function bench(task: Task, boss: PgBoss, chains: JobChains, forward: (next: Job[]) => Promise<unknown>): Promise<Bench> {
  const database = await Database.connect(task.url);
  let started = 0;
  // Woken by NOTIFY, else by the shortest poll that it allows; full batches are followed at once.
  const polling = { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
  await boss.work<Job>(queue, { ...polling, batchSize }, async (received) => {
    const jobs = received.map(({ data }) => data);
    const next = chains.next(jobs);
    if (next.length > 0) await forward(next);
    chains.count(jobs);
  });
  return {
    async work(count) {
      const from = started;
      started += count;
      await boss.insert(
        queue,
        chains.firsts(from, count).map((data) => ({ data })),
      );
      await chains.ended.until(started);
    },
    completed: async () =>
      database.count(
        `SELECT count(*) FROM pgboss.job WHERE name = '${queue}' AND state = 'completed' AND (data->>'step')::int = ${task.steps - 1}`,
      ),
    get steps() {
      return chains.steps;
    },
    async close() {
      await boss.stop({ graceful: false });
      await database.close();
    },
  };
}
