import { Logger, makeWorkerUtils, run, type WorkerUtils } from "graphile-worker";
import { Outside } from "../concurrency.ts";
import { Database } from "../database.ts";
import type { Bench, System, Task } from "../system.ts";
import { JobChains, type Job } from "./jobs.ts";

const name = "bench";
const logger = new Logger(() => (level, message) => {
  if (level === "error") console.error(message);
});

export const system: System = {
  /** A task sends the next job of its chain. */
  async chain(task) {
    const utilities = await prepare(task);
    return bench(task, utilities, async (job, addJob) => addJob(job));
  },

  /** A task ends; the world outside sends the next job of its chain. */
  async suspend(task) {
    const utilities = await prepare(task);
    const outside = new Outside<Job>(task.concurrency, async (job) => utilities.addJob(name, job));
    return bench(task, utilities, async (job) => outside.announce(job));
  },
};

async function prepare({ url, concurrency }: Task): Promise<WorkerUtils> {
  const utilities = await makeWorkerUtils({ connectionString: url, maxPoolSize: concurrency, logger });
  await utilities.migrate();
  return utilities;
}

async function bench(
  task: Task,
  utilities: WorkerUtils,
  forward: (next: Job, addJob: (job: Job) => Promise<unknown>) => Promise<unknown>,
): Promise<Bench> {
  const chains = new JobChains(task.steps);
  let started = 0;
  const runner = await run({
    preset: {
      worker: {
        connectionString: task.url,
        concurrentJobs: task.concurrency,
        maxPoolSize: task.concurrency + 2,
        // The settings that its documentation gives for throughput.
        localQueue: { size: 500 },
        completeJobBatchDelay: 5,
      },
    },
    logger,
    noHandleSignals: true,
    taskList: {
      [name]: async (payload, helpers) => {
        const job = payload as Job;
        const [next] = chains.next([job]);
        if (next !== undefined) await forward(next, async (job) => helpers.addJob(name, job));
        chains.count([job]);
      },
    },
  });
  const database = await Database.connect(task.url);
  return {
    async work(count) {
      const from = started;
      started += count;
      await utilities.addJobs(chains.firsts(from, count).map((payload) => ({ identifier: name, payload })));
      await chains.ended.until(started);
    },
    // Jobs that ended well are deleted: what is not there any more is done.
    completed: async () => chains.ended.count - (await database.count(`SELECT count(*) FROM graphile_worker._private_jobs`)),
    get steps() {
      return chains.steps;
    },
    async close() {
      await runner.stop();
      await utilities.release();
      await database.close();
    },
  };
}
