/** Checks of the functions, the queue and the schedule that a deploy makes. */
import type { GoogleClient } from "../google/client.ts";
import { readQueue, readSchedule, regionOf, shortName, testQueue, type DeployedFunction } from "../google/deployed.ts";
import { deployCommand, type Invocation } from "../init/commands.ts";
import { failed, ok, warning, type Check, type Found } from "./checks.ts";

export interface FunctionContext {
  client: GoogleClient;
  project: string;
  /** Before the name of every function, from firebase.json. */
  prefix: string | undefined;
  /** `functions`, or `functions:CODEBASE`: what a deploy is limited to. */
  target: string;
  invocation: Invocation;
  deployed: readonly DeployedFunction[];
}

const nameOf = ({ prefix }: FunctionContext, name: string): string => (prefix === undefined ? name : `${prefix}-${name}`);

/** The deployed function of this name, with the codebase's prefix. */
export function findFunction(context: FunctionContext, name: string): DeployedFunction | undefined {
  return context.deployed.find((one) => shortName(one) === nameOf(context, name));
}

export function functionChecks(context: FunctionContext): Check[] {
  return [
    ...(["gembatchWork", "gembatchSweep"] as const).map((name) => functionCheck(context, name)),
    ...(["gembatchOutput", "gembatchWebhook"] as const)
      .filter((name) => findFunction(context, name) !== undefined)
      .map((name) => functionCheck(context, name)),
    queueCheck(context),
    scheduleCheck(context),
  ];
}

const deploy = ({ invocation, target }: FunctionContext): string => deployCommand(invocation, target);

function functionCheck(context: FunctionContext, name: string): Check {
  return {
    id: name,
    title: `function ${nameOf(context, name)}`,
    look: async () => {
      const found = findFunction(context, name);
      if (found === undefined) return failed("is not deployed", deploy(context));
      if (found.state === "DEPLOYING") return warning("is being deployed: wait");
      if (found.state !== "ACTIVE")
        return failed(
          `is ${found.state}${found.stateMessages?.[0]?.message === undefined ? "" : `: ${found.stateMessages[0].message}`}`,
          deploy(context),
        );
      return found.environment === "GEN_1" ? failed("is of the first generation", deploy(context)) : ok(`active in ${regionOf(found)}`);
    },
  };
}

/** Runs the check where the function is; what a deploy makes is missing with it. */
function besides(context: FunctionContext, name: string, look: (region: string) => Promise<Found>): () => Promise<Found> {
  const found = findFunction(context, name);
  return async () => (found === undefined ? { state: "skipped", note: `${nameOf(context, name)} is not deployed` } : look(regionOf(found)));
}

function queueCheck(context: FunctionContext): Check {
  const { client, project } = context;
  const name = nameOf(context, "gembatchWork");
  return {
    id: "queue",
    title: `task queue ${name}`,
    look: besides(context, "gembatchWork", async (region) => {
      const queue = await readQueue(client, project, region, name);
      if (queue === undefined) return failed("does not exist", deploy(context));
      if (queue.state !== "RUNNING")
        return failed(`is ${queue.state}`, `gcloud tasks queues resume ${name} --location=${region} --project=${project}`);
      const held = await testQueue(client, { project, region, name }, ["cloudtasks.tasks.create"]);
      return held.length === 1
        ? ok("runs, and takes tasks")
        : warning("runs; these credentials may not put tasks into it, the functions' roles count");
    }),
  };
}

function scheduleCheck(context: FunctionContext): Check {
  const { client, project } = context;
  const name = nameOf(context, "gembatchSweep");
  return {
    id: "schedule",
    title: `schedule of ${name}`,
    look: besides(context, "gembatchSweep", async (region) => {
      const job = await readSchedule(client, project, region, name);
      if (job === undefined) return failed("does not exist", deploy(context));
      const full = `firebase-schedule-${name}-${region}`;
      if (job.state !== "ENABLED")
        return failed(`is ${job.state}`, `gcloud scheduler jobs resume ${full} --location=${region} --project=${project}`);
      const code = job.status?.code ?? 0;
      return code === 0
        ? ok("enabled")
        : warning(`enabled; its last run failed (code ${code})`, `firebase functions:log --only ${name} --project ${project}`);
    }),
  };
}
