import { breakerOf, type BreakerPolicy } from "../core/breaker.ts";
import { budgetReason, freeBudget, type Budget } from "../core/budget.ts";
import { GembatchError } from "../core/errors.ts";
import { laneName } from "../core/keys.ts";
import type { Lane } from "../core/provider.ts";
import { priceFactor } from "../core/tiers.ts";
import type { BatchRecord, LaneActivity, Store } from "../core/store.ts";
import { openMembers } from "./stage.ts";

/** What decides whether a lane may send, apart from its queue. */
export interface BlockParts {
  store: Store;
  breaker: BreakerPolicy;
  money: { budgets: readonly Budget[] };
}

/** `freeUsd`: what may be spent on the lane's next batch, as estimates at the batch tier; absent without a budget. `tooDear`: what to say if not even one request fits. */
export type Block =
  | { kind: "free"; freeUsd?: number; tooDear?: GembatchError }
  /** `error`: what only a person can mend is told to whoever awaits a result. */
  | { kind: "blocked"; reason: string; until: number | undefined; error?: GembatchError };

/** Ended batches of a lane that its breaker looks at. */
const breakerHistory = 20;

/** Whether a lane must wait although its queue is ready: its jobs keep failing, or a budget is used up. */
export async function blockOf(parts: BlockParts, activity: LaneActivity, batches: readonly BatchRecord[], now: number): Promise<Block> {
  const { lane } = activity;
  if (lane.tier === undefined) {
    const breaker = await breakerFor(parts, lane, batches, now);
    if (breaker.open) return { kind: "blocked", reason: breaker.reason, until: breaker.until };
  }
  return lane.tier === "auto" ? { kind: "free" } : budgetBlock(parts, activity, batches, now);
}

/** The breaker of a lane of jobs. Its state is the lane's last batches: every worker sees the same, and a restart forgets nothing. */
export async function breakerFor(
  { store, breaker }: Pick<BlockParts, "store" | "breaker">,
  lane: Lane,
  batches: readonly BatchRecord[],
  now: number,
): ReturnType<typeof judge> {
  const { items } = await store.listBatches({ lane, active: false, limit: breakerHistory });
  const active = batches.filter((batch) => laneName(batch.lane) === laneName(lane));
  return judge(items, active, now, breaker);
}

async function judge(ended: readonly BatchRecord[], active: readonly BatchRecord[], now: number, policy: BreakerPolicy) {
  const state = breakerOf(
    ended.filter(({ job }) => job !== undefined).toSorted((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0)),
    active,
    now,
    policy,
  );
  // A probe is one batch, sent while no other is on its way.
  if (state.open && state.probe && active.length === 0) return { open: false } as const;
  return state;
}

async function budgetBlock(
  { store, money }: BlockParts,
  activity: LaneActivity,
  batches: readonly BatchRecord[],
  now: number,
): Promise<Block> {
  const { budgets } = money;
  if (!budgets.some(({ per }) => per === "day" || per === "month" || per === "total")) return { kind: "free" };
  const { lane, queued, usd, unpriced } = activity;
  if (unpriced > 0) {
    const error = new GembatchError(
      "budget_exceeded",
      `${unpriced} requests of ${laneName(lane)} wait: a budget is set, and the price of ${lane.model} is unknown.`,
      { retryable: true, hint: "Add the model to the option prices. Nothing is lost; the requests are sent once their price is known." },
    );
    return { kind: "blocked", reason: error.message, until: undefined, error };
  }
  const spent = await store.spend(periodOf(budgets, now));
  // The estimate of a batch is freed with the answers that have come, whose real cost is in `spent`.
  const reservedUsd = batches.reduce((sum, batch) => {
    const openShare = batch.requestCount === 0 ? 0 : openMembers(batch) / batch.requestCount;
    return sum + openShare * batch.usd * priceFactor(batch.lane);
  }, 0);
  const free = freeBudget(budgets, spent, reservedUsd, now);
  if (!free) return { kind: "free" };
  const freeUsd = free.freeUsd / priceFactor(lane);
  if (queued === 0) return { kind: "free", freeUsd };
  const wait = `${queued} requests of ${laneName(lane)} wait. ${budgetReason(free, usd * priceFactor(lane))}`;
  const error = new GembatchError("budget_exceeded", wait, {
    retryable: true,
    hint: "Nothing is lost; they are sent when the budget allows.",
  });
  if (freeUsd < usd / queued) return { kind: "blocked", reason: error.message, until: free.until, error };
  return { kind: "free", freeUsd, tooDear: error };
}

/** The days that the widest of these budgets looks at. */
function periodOf(budgets: readonly Budget[], now: number): { since?: string } {
  if (budgets.some(({ per }) => per === "total")) return {};
  const today = new Date(now).toISOString().slice(0, 10);
  return { since: budgets.some(({ per }) => per === "month") ? `${today.slice(0, 7)}-01` : today };
}
