import { laneName } from "../core/keys.ts";
import type { BatchRecord, DeadlineDecision, DeadlineItem } from "../core/store.ts";
import { atTier, decideDeadline, laneTier } from "../core/tiers.ts";
import type { PipelineContext, StageResult } from "./stage.ts";

/** Requests judged by one advance. */
const limit = 500;
/** What a job is expected to take before the lane's first one has ended. Users report minutes; the service only promises a day. */
const unknownJobMs = 3_600_000;
/** What calls of the direct tiers are expected to take: the flex tier aims at 1 to 15 minutes. */
const flexMs = 15 * 60_000;
const standardMs = 2 * 60_000;

/** Moves requests whose deadline their job would miss to a faster tier. */
export async function advanceDeadlines(context: PipelineContext): Promise<StageResult> {
  const { store, clock } = context;
  const now = clock.now();
  const items = await store.dueDeadlines({ now, limit });
  if (items.length === 0) return { worked: false };
  await context.learn();
  const batches = new Map<string, BatchRecord>();
  if (items.some(({ batch }) => batch !== undefined)) for (const batch of await store.activeBatches()) batches.set(batch.id, batch);
  const decisions = items.map((item) => decide(context, item, batches, now));
  const moved = await store.decideDeadlines({ now, decisions });
  if (moved > 0) context.log.info(`${moved} requests would have missed their deadline and go to a faster tier.`);
  return { worked: true };
}

function decide(context: PipelineContext, item: DeadlineItem, batches: ReadonlyMap<string, BatchRecord>, now: number): DeadlineDecision {
  const { id, lane, batch: batchId, attempt, deadlineAt } = item;
  const batch = batchId === undefined ? undefined : batches.get(batchId);
  const decision =
    // What is there and only has to be read is not asked a second time.
    batch?.state === "routing"
      ? { checkAt: now + 60_000 }
      : decideDeadline({
          now,
          deadlineAt,
          tier: laneTier(lane),
          // What is uploaded travels, whoever has left the batch by then.
          batched: batch !== undefined && (batch.staged !== undefined || (batch.state !== "forming" && batch.state !== "sealed")),
          batchMs: expectedMs(context, item, batch, now),
          flexMs,
          standardMs,
          method: lane.method,
        });
  return { id, lane, batch: batchId, attempt, ...decision };
}

/** What the job of this request is expected to take from now on. */
function expectedMs(context: PipelineContext, { lane }: DeadlineItem, batch: BatchRecord | undefined, now: number): number {
  const typical = context.turnarounds.typical(laneName(atTier(lane, "batch"))) ?? unknownJobMs;
  if (batch?.launchedAt === undefined) return typical;
  // A job beyond its usual time takes as long again as it is late, at least a tenth.
  const rest = typical - (now - batch.launchedAt);
  return Math.max(rest, typical / 10, -rest);
}
