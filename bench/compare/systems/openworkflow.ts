import { randomUUID } from "node:crypto";
import { OpenWorkflow } from "openworkflow";
import { BackendPostgres } from "openworkflow/postgres";
import { each, Ended, Outside } from "../concurrency.ts";
import { Database } from "../database.ts";
import { replicate } from "../replicate.ts";
import { timeClaims, type Bench, type Claim, type System, type Task } from "../system.ts";

const runs = "openworkflow.workflow_runs";
const steps = "openworkflow.step_attempts";
const templates = 10;

/** Its pool is not an option, but its driver reads the size from the URL. */
async function connect({ url, concurrency }: Task): Promise<BackendPostgres> {
  const sized = new URL(url);
  sized.searchParams.set("max", String(concurrency));
  return BackendPostgres.connect(sized.href);
}

const completed = (database: Database) => database.count(`SELECT count(*) FROM ${runs} WHERE status = 'completed'`);

export const system: System = {
  async chain(task) {
    const ended = new Ended();
    const backend = await connect(task);
    const client = new OpenWorkflow({ backend });
    const database = await Database.connect(task.url);
    let done = 0;
    let started = 0;
    const workflow = client.defineWorkflow<number, number>({ name: "chain" }, async ({ input, step }) => {
      for (let i = 0; i < task.steps; i += 1) {
        await step.run({ name: `step ${i}` }, () => {
          done += 1;
          return i;
        });
      }
      ended.one();
      return input;
    });
    const worker = client.newWorker({ concurrency: task.concurrency });
    await worker.start();
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => workflow.run(n));
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return done;
      },
      async close() {
        await worker.stop();
        await backend.stop();
        await database.close();
      },
    } satisfies Bench;
  },

  async suspend(task) {
    const backend = await connect(task);
    const database = await Database.connect(task.url);
    const { client, ended, outside, waiting } = suspending(backend, task);
    let started = 0;
    const worker = client.newWorker({ concurrency: task.concurrency });
    await worker.start();
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => waiting.run(n));
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return outside.answered;
      },
      async close() {
        await worker.stop();
        await backend.stop();
        await database.close();
      },
    } satisfies Bench;
  },

  async *emptyClaim(task, sizes) {
    const backend = await connect(task);
    const { client } = await Database.connect(task.url);
    // A few real ones, suspended by the system itself.
    const real = suspending(backend, task, false);
    const worker = real.client.newWorker({ concurrency: templates });
    await worker.start();
    await each(0, templates, templates, async (n) => real.waiting.run(n));
    while (real.suspended() < templates) await new Promise((resolve) => setTimeout(resolve, 20));
    await worker.stop();
    await client.query(`
      CREATE TABLE run_templates AS SELECT *, (row_number() OVER (ORDER BY id) - 1) AS ordinal FROM ${runs};
      CREATE TABLE step_templates AS SELECT s.*, r.ordinal FROM ${steps} s JOIN run_templates r ON r.id = s.workflow_run_id;
    `);
    let filled = templates;
    for (const suspended of sizes) {
      const from = performance.now();
      await client.query(`
        CREATE TABLE copies AS SELECT i, gen_random_uuid()::text AS run, gen_random_uuid()::text AS step FROM generate_series(${filled}, ${suspended - 1}) AS i
      `);
      await replicate(client, { table: runs, template: "run_templates", templates, copies: "copies", changes: { id: "c.run" } });
      await replicate(client, {
        table: steps,
        template: "step_templates",
        templates,
        copies: "copies",
        changes: {
          id: "c.step",
          workflow_run_id: "c.run",
          context: `jsonb_set(t.context, '{signal}', to_jsonb(c.run || ' wait 0'))`,
        },
      });
      await client.query(`DROP TABLE copies`);
      await client.query(`VACUUM (ANALYZE) ${runs}, ${steps}`);
      filled = suspended;
      const fillMs = performance.now() - from;
      const workerId = randomUUID();
      const calls = await timeClaims(async () =>
        (await backend.claimWorkflowRun({ workerId, leaseDurationMs: 30_000 })) === null ? 0 : 1,
      );
      const { rows } = await client.query<{ count: string }>(
        `SELECT count(*) FROM ${runs} WHERE status = 'running' AND worker_id IS NULL AND available_at > now()`,
      );
      if (Number(rows[0]?.count) !== suspended) throw new Error(`${rows[0]?.count} of ${suspended} runs are suspended.`);
      yield { suspended, calls, fillMs } satisfies Claim;
    }
    await backend.stop();
    await client.end();
  },
};

/** A workflow of waits. Each is announced when its run has been put to sleep: a signal that nobody waits for is dropped. */
function suspending(backend: BackendPostgres, task: Task, answered = true) {
  const ended = new Ended();
  const client = new OpenWorkflow({ backend });
  const outside = new Outside<string>(task.concurrency, async (signal) => {
    const { workflowRunIds } = await client.sendSignal({ signal, data: signal });
    if (workflowRunIds.length !== 1) throw new Error(`Signal ${signal} went to ${workflowRunIds.length} runs.`);
  });
  const signals = new Map<string, string>();
  let suspended = 0;
  const sleep = backend.sleepWorkflowRun.bind(backend);
  backend.sleepWorkflowRun = async (params) => {
    const signal = signals.get(params.workflowRunId);
    const run = await sleep(params);
    suspended += 1;
    if (answered && signal !== undefined) outside.announce(signal);
    return run;
  };
  const waiting = client.defineWorkflow<number, number>({ name: "suspend" }, async ({ input, step, run }) => {
    for (let i = 0; i < task.steps; i += 1) {
      const signal = `${run.id} wait ${i}`;
      signals.set(run.id, signal);
      const received = await step.waitForSignal<string>({ name: `wait ${i}`, signal });
      if (received?.data !== signal) throw new Error(`Run ${run.id} got ${received?.data} for ${signal}.`);
    }
    signals.delete(run.id);
    ended.one();
    return input;
  });
  return { client, ended, outside, waiting, suspended: () => suspended };
}
