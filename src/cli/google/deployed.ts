/** What a deploy has made: functions, the queue of one, the schedule of another, secrets. */
import type { GoogleClient } from "./client.ts";
import { ifFound } from "./errors.ts";

export interface DeployedFunction {
  /** `projects/P/locations/REGION/functions/NAME` */
  name?: string;
  /** `ACTIVE`, `FAILED`, `DEPLOYING`, `DELETING` or `UNKNOWN`. */
  state?: string;
  /** `GEN_2` or `GEN_1`. */
  environment?: string;
  stateMessages?: { message?: string }[];
  serviceConfig?: { serviceAccountEmail?: string };
}

export function listFunctions(client: GoogleClient, project: string): Promise<DeployedFunction[]> {
  return client.list<DeployedFunction>({ service: "functions", path: `/v2/projects/${project}/locations/-/functions` }, "functions");
}

export const regionOf = ({ name = "" }: DeployedFunction): string => name.split("/")[3] ?? "";
export const shortName = ({ name = "" }: DeployedFunction): string => name.slice(name.lastIndexOf("/") + 1);

export interface Queue {
  state?: string;
}

/** The task queue of a function bears its name. */
export function readQueue(client: GoogleClient, project: string, region: string, name: string): Promise<Queue | undefined> {
  return ifFound(client.call<Queue>({ service: "tasks", path: `/v2/projects/${project}/locations/${region}/queues/${name}` }));
}

/** Which of these permissions the caller has on the queue. */
export async function testQueue(
  client: GoogleClient,
  { project, region, name }: { project: string; region: string; name: string },
  wanted: readonly string[],
): Promise<string[]> {
  const path = `/v2/projects/${project}/locations/${region}/queues/${name}:testIamPermissions`;
  const { permissions = [] } = await client.call<{ permissions?: string[] }>({
    service: "tasks",
    method: "POST",
    path,
    body: { permissions: wanted },
  });
  return permissions;
}

export interface ScheduledJob {
  state?: string;
  status?: { code?: number };
}

/** The Firebase CLI names the job of a scheduled function `firebase-schedule-NAME-REGION`. */
export function readSchedule(client: GoogleClient, project: string, region: string, name: string): Promise<ScheduledJob | undefined> {
  const path = `/v1/projects/${project}/locations/${region}/jobs/firebase-schedule-${name}-${region}`;
  return ifFound(client.call<ScheduledJob>({ service: "scheduler", path }));
}

/** The newest version of a secret, never its value. */
export function readSecret(client: GoogleClient, project: string, name: string): Promise<{ state?: string } | undefined> {
  return ifFound(client.call<{ state?: string }>({ service: "secrets", path: `/v1/projects/${project}/secrets/${name}/versions/latest` }));
}
