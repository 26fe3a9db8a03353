/**
 * Under which name the queue of `gembatchWork` is deployed. Pure.
 *
 * A queue has the name of its function, and names move: `prefix` in firebase.json and the instance of a kit stand before it, and functions that are exported as a group have the group's name before theirs.
 * Cloud Run tells the whole name of the function that runs (`K_SERVICE`, lower case), the functions framework the part of it that comes from the source (`FUNCTION_TARGET`).
 *
 * @module
 */

/** The names that the functions are exported by. */
export const functionNames = {
  work: "gembatchWork",
  sweep: "gembatchSweep",
  output: "gembatchOutput",
  webhook: "gembatchWebhook",
} as const;

type Environment = Readonly<Record<string, string | undefined>>;

/** The queue's name: what is given, else `GEMBATCH_TASK_QUEUE`, else what the running function's own name says. */
export function queueName(env: Environment, given?: string): string {
  return given ?? (env["GEMBATCH_TASK_QUEUE"] || `${deployedPrefix(env)}${group(env)}${functionNames.work}`);
}

/** What stands before the names of the source: `"prefix-"`, `"kit-instance-"` or nothing. */
function deployedPrefix({ K_SERVICE: service = "", FUNCTION_TARGET: target = "" }: Environment): string {
  const own = serviceName(target);
  return own !== "" && service.endsWith(`-${own}`) ? service.slice(0, -own.length) : "";
}

/** The group that our functions are exported in, if the running one is ours: `"group-"`. */
function group({ FUNCTION_TARGET: target = "" }: Environment): string {
  const path = target.split(".");
  const name = path.pop();
  return path.length > 0 && Object.values<string | undefined>(functionNames).includes(name) ? `${path.join("-")}-` : "";
}

/** The name that Cloud Run gives to the service of a function. */
function serviceName(target: string): string {
  return target.replaceAll(/[._]/g, "-").toLowerCase();
}
