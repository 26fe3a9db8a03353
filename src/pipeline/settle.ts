import { GembatchError, serializeError, type SerializedError } from "../core/errors.ts";
import type { BatchRecord, RequestResult } from "../core/store.ts";
import type { PipelineContext } from "./stage.ts";

/** How a job can end without success. */
export type EndState = "failed" | "expired" | "cancelled";

/** Why a request has no answer whose job ended so. */
export function noAnswer(batch: BatchRecord, state: EndState, why: string): SerializedError {
  const code = ({ failed: "request_failed", expired: "request_expired", cancelled: "request_cancelled" } as const)[state];
  const error = new GembatchError(code, `The request got no answer: ${why}.`, { retryable: true, details: { batch: batch.id } });
  return serializeError(error, code);
}

/** Requests settled by one transaction. */
export const settleChunk = 1_000;
/** Characters of answers settled by one transaction: large answers go in smaller chunks, so that memory stays small. */
export const settleChars = 256_000;

/** The same result for every member that is still open, in chunks. `false`: the batch is not ours any more. */
export async function settleAll(
  context: PipelineContext,
  batch: BatchRecord,
  result: Exclude<RequestResult, { type: "succeeded" }> | { type: "release"; availableAt: number },
): Promise<boolean> {
  for (;;) {
    const left = await context.store.settleRemaining({
      batch: batch.id,
      epoch: batch.epoch,
      now: context.clock.now(),
      limit: settleChunk,
      result,
    });
    if (left === undefined) return false;
    if (left === 0) return true;
  }
}
