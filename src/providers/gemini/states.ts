/**
 * A batch operation of the Gemini Developer API in our words.
 *
 * Read from raw JSON: the SDK drops `error`, `done` and the output's place (gemini-batch.md 1.9). Shape:
 * `{name, metadata: {displayName, state, createTime, endTime, output}, done, error, response}` (1.4).
 *
 * @module
 */
import type { JobState, ProviderJob } from "../../core/provider.ts";
import { asObject, toTime } from "../shared/json.ts";
import { toRowError } from "../shared/row-error.ts";

const states: Readonly<Record<string, JobState>> = {
  PENDING: "pending",
  QUEUED: "pending",
  RUNNING: "running",
  CANCELLING: "running",
  SUCCEEDED: "succeeded",
  PARTIALLY_SUCCEEDED: "succeeded",
  FAILED: "failed",
  CANCELLED: "cancelled",
  EXPIRED: "expired",
};

/** What `output` holds when the results are inside the operation instead of in a file. */
export const inlineOutput = "inline";

/** The state behind `BATCH_STATE_` (wire) or `JOB_STATE_` (documents, SDK); anything new is `unknown`, which is not an end. */
export function toJobState(raw: string): JobState {
  const word = raw.replace(/^(?:BATCH|JOB)_STATE_/, "");
  return Object.hasOwn(states, word) ? states[word]! : "unknown";
}

/** The operation as a job, or `undefined` if the value is none (no name). */
export function toJob(operation: unknown): ProviderJob | undefined {
  const op = asObject(operation);
  const name = op?.["name"];
  if (!op || typeof name !== "string" || name === "") return undefined;
  const metadata = asObject(op["metadata"]) ?? {};
  const token = metadata["displayName"] ?? metadata["display_name"];
  const rawStatus = typeof metadata["state"] === "string" ? metadata["state"] : "";
  const error = toRowError(op["error"]);
  const createdAt = toTime(metadata["createTime"] ?? metadata["create_time"]);
  const endedAt = toTime(metadata["endTime"] ?? metadata["end_time"]);
  const output = findOutput(op);
  return {
    name,
    ...(typeof token === "string" ? { token } : {}),
    state: stateOf(op, rawStatus, error?.code),
    rawStatus,
    ...(createdAt === undefined ? {} : { createdAt }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(error === undefined ? {} : { error }),
    ...(output === undefined ? {} : { output }),
  };
}

/** The state is trusted over `error.code`: a cancelled job was seen with code 13 (1.5). */
function stateOf(op: Record<string, unknown>, raw: string, errorCode: number | undefined): JobState {
  const state = toJobState(raw);
  const says = raw !== "" && !raw.endsWith("_UNSPECIFIED");
  if (says || op["done"] !== true) return state;
  if (errorCode !== undefined) return errorCode === 1 ? "cancelled" : "failed";
  return "succeeded";
}

/** The two places where a finished operation carries its output, `response` first; they hold the same. */
export function outputsOf(operation: unknown): Record<string, unknown>[] {
  const op = asObject(operation);
  const places = [op?.["response"], asObject(op?.["metadata"])?.["output"]];
  return places.map(asObject).filter((place) => place !== undefined);
}

function findOutput(op: Record<string, unknown>): string | undefined {
  const outputs = outputsOf(op);
  for (const output of outputs) {
    const file = output["responsesFile"] ?? output["responses_file"];
    if (typeof file === "string" && file !== "") return file;
  }
  return outputs.some((output) => inlineItems(output) !== undefined) ? inlineOutput : undefined;
}

/** The items of an inline output: `inlinedResponses` or `inlinedEmbedContentResponses`, nested once (1.4). */
export function inlineItems(output: Record<string, unknown>): unknown[] | undefined {
  for (const name of ["inlinedResponses", "inlinedEmbedContentResponses", "inlined_responses", "inlined_embed_content_responses"]) {
    const value = output[name];
    if (Array.isArray(value)) return value;
    const nested = asObject(value);
    const items = nested?.["inlinedResponses"] ?? nested?.["inlined_responses"];
    if (Array.isArray(items)) return items;
  }
  return undefined;
}
