import type { HttpsFunction } from "firebase-functions/https";
import * as firebaseLogger from "firebase-functions/logger";
import type { ScheduleFunction } from "firebase-functions/scheduler";
import type { TaskQueueFunction } from "firebase-functions/tasks";
import type { CloudFunction } from "firebase-functions/core";
import type { StorageEvent } from "firebase-functions/storage";
import type { Gembatch } from "../client/gembatch.ts";
import { systemClock } from "../client/system-clock.ts";
import { defineFunctions } from "./define.ts";
import { queueName } from "./names.ts";
import { checkOptions, instanceOf, type FunctionsOptions, type FunctionsSource } from "./options.ts";
import { WorkQueue } from "./queue.ts";
import type { WorkTask } from "./task.ts";
import { answerWebhook } from "./webhook.ts";
import { Work } from "./work.ts";

export interface GembatchFunctions {
  /** Works: by a task when something is due, and by one for each submit or start. Asks for its next task itself. */
  gembatchWork: TaskQueueFunction<WorkTask>;
  /** Works on a schedule: the guarantee that everything goes on, whatever becomes of tasks and hints. */
  gembatchSweep: ScheduleFunction;
  /** Takes objects in the bucket as a hint to look at the jobs. With the option `bucket`. */
  gembatchOutput?: CloudFunction<StorageEvent>;
  /** Takes webhooks of the Gemini API as a hint to look at the jobs. With the option `webhook`. */
  gembatchWebhook?: HttpsFunction;
  /** The instance. Where it is made by a function, functions of your own get it from here, so that their submits wake a worker. Not a Cloud Function. */
  gembatch: () => Promise<Gembatch>;
}

/** Whether this process is a function, deployed or emulated; a program that only imports them wakes nobody. */
const isFunction = (env: NodeJS.ProcessEnv): boolean => ["K_SERVICE", "FUNCTION_TARGET", "FUNCTIONS_EMULATOR"].some((name) => env[name]);

/**
 * The Cloud Functions (second generation) that work for an instance: export them by these names from the file that exports your functions.
 *
 * ```ts
 * export const { gembatchWork, gembatchSweep, gembatchOutput, gembatchWebhook } = gembatchFunctions(gembatch, { region: "europe-west1" });
 * ```
 *
 * Whatever is submitted or started in any function of the codebase is committed and wakes a worker. Throws `invalid_option`.
 */
export function gembatchFunctions(source: FunctionsSource, options: FunctionsOptions = {}): GembatchFunctions {
  const timing = checkOptions(options);
  const clock = options.clock ?? systemClock;
  const queue: WorkQueue = new WorkQueue({
    place: () => ({ name: queueName(process.env, options.queue), region: defined.regionOf() }),
    bucketMs: timing.bucketMs,
    clock,
    log: options.logger ?? firebaseLogger,
  });
  const instance = instanceOf(source, (gembatch) => {
    gembatch.onWork(async () => {
      if (isFunction(process.env)) await queue.wake(clock.now());
    });
  });
  const work = new Work({ instance, queue, clock, ...timing });
  const defined = defineFunctions(options, timing, {
    work: async (task, queueName) => work.handleTask(task, queueName),
    sweep: async () => work.sweep(),
    output: async () => (await instance()).hasten(),
    webhook: async (request, response) => answerWebhook({ instance, clock, options }, request, response),
  });
  return { ...defined.functions, gembatch: instance };
}
