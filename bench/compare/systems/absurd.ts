import { readFileSync } from "node:fs";
import { Absurd, SuspendTask } from "absurd-sdk";
import { Pool } from "pg";
import { each, Ended, Outside } from "../concurrency.ts";
import { Database } from "../database.ts";
import { absurdSchema } from "../prerequisites.ts";
import { replicate } from "../replicate.ts";
import { timeClaims, type Bench, type Claim, type System, type Task } from "../system.ts";

const queueName = "bench";
const templates = 10;
const silent = { log() {}, info() {}, warn: console.error, error: console.error };
const completed = (database: Database) => database.count(`SELECT count(*) FROM absurd.t_${queueName} WHERE state = 'completed'`);

/** Its schema, a queue, and a pool as large as the concurrency. */
async function prepare({ url, concurrency }: Task): Promise<{ pool: Pool; database: Database }> {
  const database = await Database.connect(url);
  await database.client.query(readFileSync(absurdSchema(), "utf8"));
  const pool = new Pool({ connectionString: url, max: concurrency });
  await new Absurd({ db: pool, queueName }).createQueue();
  return { pool, database };
}

export const system: System = {
  async chain(task) {
    const { pool, database } = await prepare(task);
    const app = new Absurd({ db: pool, queueName, log: silent });
    const ended = new Ended();
    let steps = 0;
    let started = 0;
    app.registerTask<number>({ name: "chain" }, async (n, context) => {
      for (let i = 0; i < task.steps; i += 1) {
        await context.step(`step ${i}`, async () => {
          steps += 1;
          return i;
        });
      }
      ended.one();
      return n;
    });
    await app.startWorker({ concurrency: task.concurrency });
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => app.spawn("chain", n));
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return steps;
      },
      async close() {
        await app.close();
        await pool.end();
        await database.close();
      },
    } satisfies Bench;
  },

  async suspend(task) {
    const { pool, database } = await prepare(task);
    const { app, ended, outside } = suspending(pool, task);
    let started = 0;
    await app.startWorker({ concurrency: task.concurrency });
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => app.spawn("suspend", n));
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return outside.answered;
      },
      async close() {
        await app.close();
        await pool.end();
        await database.close();
      },
    } satisfies Bench;
  },

  async *emptyClaim(task, sizes) {
    const { pool, database } = await prepare(task);
    const { client } = database;
    // A few real ones, suspended by the system itself.
    const real = suspending(pool, task, false);
    await real.app.startWorker({ concurrency: templates });
    await each(0, templates, templates, async (n) => real.app.spawn("suspend", n));
    while (real.suspended() < templates) await new Promise((resolve) => setTimeout(resolve, 20));
    await real.app.close();
    const [tasks, runs, waits, events] = ["t", "r", "w", "e"].map((letter) => `absurd.${letter}_${queueName}`) as [
      string,
      string,
      string,
      string,
    ];
    await client.query(`
      CREATE TABLE task_templates AS SELECT *, (row_number() OVER (ORDER BY task_id) - 1) AS ordinal FROM ${tasks};
      CREATE TABLE run_templates AS SELECT r.*, t.ordinal FROM ${runs} r JOIN task_templates t USING (task_id);
      CREATE TABLE wait_templates AS SELECT w.*, t.ordinal FROM ${waits} w JOIN task_templates t USING (task_id);
      CREATE TABLE event_templates AS SELECT e.*, w.ordinal FROM ${events} e JOIN wait_templates w USING (event_name);
    `);
    let filled = templates;
    for (const suspended of sizes) {
      const from = performance.now();
      await client.query(`
        CREATE TABLE copies AS
        SELECT i, absurd.portable_uuidv7() AS task, absurd.portable_uuidv7() AS run FROM generate_series(${filled}, ${suspended - 1}) AS i
      `);
      const event = `c.task || ' wait 0'`;
      const ids = { task_id: "c.task", run_id: "c.run" };
      const fill = async (table: string, template: string, changes: Record<string, string>) =>
        replicate(client, { table, template, templates, copies: "copies", changes });
      await fill(tasks, "task_templates", { ...ids, last_attempt_run: "c.run" });
      await fill(runs, "run_templates", { ...ids, wake_event: event });
      await fill(waits, "wait_templates", { ...ids, event_name: event });
      await fill(events, "event_templates", { event_name: event });
      await client.query(`DROP TABLE copies`);
      await client.query(`VACUUM (ANALYZE) ${tasks}, ${runs}, ${waits}, ${events}`);
      filled = suspended;
      const fillMs = performance.now() - from;
      // As its worker does: as many as it could work on.
      const app = new Absurd({ db: pool, queueName, log: silent });
      const calls = await timeClaims(async () => (await app.claimTasks({ batchSize: task.concurrency, workerId: "bench" })).length);
      const asleep = await database.count(
        `SELECT count(*) FROM ${runs} r JOIN ${tasks} t USING (task_id) WHERE r.state = 'sleeping' AND t.state = 'sleeping'`,
      );
      if (asleep !== suspended) throw new Error(`${asleep} of ${suspended} runs are suspended.`);
      yield { suspended, calls, fillMs } satisfies Claim;
    }
    await pool.end();
    await database.close();
  },
};

/** A task of waits. Each is announced when its run has been suspended. */
function suspending(pool: Pool, task: Task, answered = true) {
  const ended = new Ended();
  const events = new Map<string, string>();
  let suspended = 0;
  const app = new Absurd({
    db: pool,
    queueName,
    log: silent,
    hooks: {
      async wrapTaskExecution(context, execute) {
        try {
          return await execute();
        } catch (error) {
          const event = events.get(context.taskID);
          if (error instanceof SuspendTask) {
            suspended += 1;
            if (answered && event !== undefined) outside.announce(event);
          }
          throw error;
        }
      },
    },
  });
  const outside = new Outside<string>(task.concurrency, async (event) => app.emitEvent(event, event));
  app.registerTask<number>({ name: "suspend" }, async (n, context) => {
    for (let i = 0; i < task.steps; i += 1) {
      const event = `${context.taskID} wait ${i}`;
      events.set(context.taskID, event);
      const payload = await context.awaitEvent(event, { stepName: `wait ${i}` });
      if (payload !== event) throw new Error(`Task ${context.taskID} got ${JSON.stringify(payload)} for ${event}.`);
    }
    events.delete(context.taskID);
    ended.one();
    return n;
  });
  return { app, ended, outside, suspended: () => suspended };
}
