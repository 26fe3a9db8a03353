/**
 * gembatch in a Firebase project: the Cloud Functions that do its work.
 *
 * @module
 */
export { gembatchFunctions, type GembatchFunctions } from "./firebase/functions.ts";
export type { FunctionsOptions, FunctionsSource, FunctionsWebhookOptions } from "./firebase/options.ts";
export type { WorkTask } from "./firebase/task.ts";
