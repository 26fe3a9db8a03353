import { DBOS } from "@dbos-inc/dbos-sdk";
import { each, Ended, Outside } from "../concurrency.ts";
import { Database } from "../database.ts";
import type { Bench, System, Task } from "../system.ts";

async function launch({ url, concurrency }: Task): Promise<Database> {
  DBOS.setConfig({ name: "compare", systemDatabaseUrl: url, systemDatabasePoolSize: concurrency, logLevel: "error" });
  await DBOS.launch();
  return Database.connect(url);
}

const completed = (database: Database) => database.count(`SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'`);

async function close(database: Database): Promise<void> {
  await DBOS.shutdown();
  await database.close();
}

export const system: System = {
  async chain(task) {
    const ended = new Ended();
    let steps = 0;
    let started = 0;
    const workflow = DBOS.registerWorkflow(
      async (n: number) => {
        for (let i = 0; i < task.steps; i += 1) {
          await DBOS.runStep(
            async () => {
              steps += 1;
              return i;
            },
            { name: `step ${i}` },
          );
        }
        ended.one();
        return n;
      },
      { name: "chain" },
    );
    const database = await launch(task);
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => {
          const handle = await DBOS.startWorkflow(workflow, { workflowID: `chain-${n}` })(n);
          await handle.getResult();
        });
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return steps;
      },
      close: async () => close(database),
    } satisfies Bench;
  },

  async suspend(task) {
    const ended = new Ended();
    const outside = new Outside<{ id: string; topic: string }>(task.concurrency, async ({ id, topic }) => DBOS.send(id, topic, topic));
    let started = 0;
    const workflow = DBOS.registerWorkflow(
      async (id: string) => {
        for (let i = 0; i < task.steps; i += 1) {
          const topic = `wait ${i}`;
          outside.announce({ id, topic });
          const message = await DBOS.recv<string>(topic, { timeoutSeconds: 3_600 });
          if (message !== topic) throw new Error(`Workflow ${id} got ${message} for ${topic}.`);
        }
        ended.one();
      },
      { name: "suspend" },
    );
    const database = await launch(task);
    return {
      async work(chains) {
        const from = started;
        started += chains;
        await each(from, chains, task.concurrency, async (n) => {
          const id = `suspend-${n}`;
          await DBOS.startWorkflow(workflow, { workflowID: id })(id);
        });
        await ended.until(started);
      },
      completed: async () => completed(database),
      get steps() {
        return outside.answered;
      },
      close: async () => close(database),
    } satisfies Bench;
  },
};
