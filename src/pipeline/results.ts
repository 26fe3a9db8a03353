import { GembatchError, serializeError } from "../core/errors.ts";
import { outcomeOf, type RowOutcome } from "../core/outcome.ts";
import { costOf } from "../core/pricing.ts";
import type { Lane, ResultRow } from "../core/provider.ts";
import { backoffMs } from "../core/retry.ts";
import type { RequestResult } from "../core/store.ts";
import type { Tier } from "../core/tiers.ts";
import { usageOf } from "../core/usage.ts";
import type { PipelineContext } from "./stage.ts";

/** When a request of this attempt may be sent again. */
export type RetryTimes = (attempt: number) => number;

/** One instant per attempt for all rows of a batch: what fails together is tried again together, in one job. */
export function retryTimes(context: PipelineContext): RetryTimes {
  const times = new Map<number, number>();
  return (attempt) => {
    const known = times.get(attempt);
    if (known !== undefined) return known;
    const at = context.clock.now() + backoffMs(context.retry, attempt, context.random);
    times.set(attempt, at);
    return at;
  };
}

/** What a row means for the request that it names, and what it cost. */
export function resultOf(
  context: PipelineContext,
  lane: Lane,
  tier: Tier,
  row: ResultRow,
  attempt: number,
  retryAt: RetryTimes,
): RequestResult {
  const outcome = outcomeOf(row, lane.method);
  if (!("response" in row) || row.response === undefined) return unanswered(outcome, attempt, retryAt);
  const usage = usageOf(row.response);
  const cost = costOf(usage, lane.model, tier, context.clock.now(), context.money.prices);
  const paid = { usage, ...(cost === undefined ? {} : { cost }) };
  switch (outcome.type) {
    case "deliver":
      return { type: "succeeded", value: JSON.stringify(row.response), ...paid };
    case "retry_then_deliver": {
      const error = serializeError(
        new GembatchError("request_failed", `The answer was not usable: ${outcome.why}.`, { retryable: true }),
        "request_failed",
      );
      const value = JSON.stringify(row.response);
      return { type: "retry", availableAt: retryAt(attempt), retries: outcome.retries, error, value, ...paid };
    }
    default:
      return { ...unanswered(outcome, attempt, retryAt), ...paid };
  }
}

/** The result of a request that got no answer. */
export function unanswered(
  outcome: RowOutcome,
  attempt: number,
  retryAt: RetryTimes,
): Extract<RequestResult, { type: "failed" | "retry" }> {
  switch (outcome.type) {
    case "retry_then_fail":
      return { type: "retry", availableAt: retryAt(attempt), retries: outcome.retries, error: outcome.error };
    case "fail":
      return { type: "failed", error: outcome.error };
    default: {
      const error = new GembatchError("request_missing", "The provider returned no answer for this request.", { retryable: true });
      return { type: "retry", availableAt: retryAt(attempt), retries: 2, error: serializeError(error, "request_missing") };
    }
  }
}
