/**
 * The price classes, and which one a request travels at. Pure decisions.
 *
 * @module
 */
import { formatDuration } from "./duration.ts";
import type { Method } from "./provider.ts";

/** Price class of an answer. `batch` and `flex` cost half of `standard` for input and output. */
export type Tier = "batch" | "flex" | "standard";

/** Tiers that are answered by a call instead of a job. */
export type DirectTier = Exclude<Tier, "batch">;

/** What users choose: a tier, or `auto`: narrow tails go to flex, wide waves to batch. */
export type TierChoice = Tier | "auto";

/** Where a request queues. `auto` is a queue whose tier is decided when it is flushed. */
export type LaneTier = TierChoice;

export const tierChoices: readonly TierChoice[] = ["batch", "flex", "standard", "auto"];

/** The tier of a lane; requests of an `auto` lane are decided before they are sent. */
export function laneTier(lane: { tier?: Exclude<LaneTier, "batch"> }): LaneTier {
  return lane.tier ?? "batch";
}

export function isDirect(lane: { tier?: Exclude<LaneTier, "batch"> }): boolean {
  return lane.tier === "flex" || lane.tier === "standard";
}

/** Estimates are made at the batch tier; the standard tier costs twice as much. */
export function priceFactor(lane: { tier?: Exclude<LaneTier, "batch"> }): number {
  return lane.tier === "standard" ? 2 : 1;
}

/** The same lane at another tier. */
export function atTier<L extends { tier?: Exclude<LaneTier, "batch"> }>(lane: L, tier: LaneTier): L {
  const { tier: _before, ...rest } = lane;
  return (tier === "batch" ? rest : { ...rest, tier }) as L;
}

// What auto means ----------------------------------------------------------------------------------------------------

/** The queue of an `auto` lane and its surroundings at the instant when it is flushed. */
export interface AutoInput {
  method: Method;
  queued: number;
  /** How long the oldest request has waited. */
  oldestAgeMs: number;
  /** Requests in the queue of the same lane at the batch tier: a job could take these along. */
  batchQueued: number;
  /** More requests than this are wide (`tiers.auto.maxRequests`). */
  maxRequests: number;
  /** What a job of this lane usually takes, if one is known. */
  typicalBatchMs?: number | undefined;
  /** Whether the lane's batch tier has stopped launching. */
  breakerOpen: boolean;
  /** Whether no run could add to the queue. */
  quiet: boolean;
}

/** How long a narrow queue waits for company while runs could still add to it. */
const companyMs = 60_000;

/**
 * Where the requests of an `auto` queue go; `reason` is a sentence for people. Both tiers cost the same, so this is about time: few requests with nothing to join them go to flex, which answers in
 * minutes, and everything else to batch, which takes any number. Embeddings have no flex tier, models of other publishers nothing but jobs. While batch has stopped launching, joining its queue gains nothing, so few requests do not.
 */
export function decideAuto(input: AutoInput): { tier: "batch" | "flex"; reason: string } {
  const requests = counted(input.queued, "request");
  const batch = (why: string) => ({ tier: "batch", reason: `auto: ${requests}, ${why}` }) as const;
  const flex = (why: string) => ({ tier: "flex", reason: `auto: ${requests} and ${why}` }) as const;
  if (input.method === "embedContent") return batch("and embeddings have no flex tier");
  if (input.method === "rawPredict") return batch("and models of other publishers have no flex tier");
  if (input.queued > input.maxRequests) return batch(`more than the ${input.maxRequests} that go to flex`);
  if (input.breakerOpen) return flex("batch has stopped launching");
  if (input.batchQueued > 0) return batch(`which join ${input.batchQueued} more in the batch queue`);
  if (!input.quiet && input.oldestAgeMs < companyMs) return batch("and runs are still adding to them");
  const usually = input.typicalBatchMs === undefined ? "" : `; a batch job usually takes ${formatDuration(input.typicalBatchMs)}`;
  return flex(`nothing to join them${usually}`);
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

// Deadlines ----------------------------------------------------------------------------------------------------------

/** An open request with a deadline at one instant. */
export interface DeadlineInput {
  now: number;
  deadlineAt: number;
  /** Where it is now. */
  tier: LaneTier;
  /** Whether it is in a batch already (a running job, or a call in flight at a direct tier), so that it is paid there. */
  batched: boolean;
  /** Expected time of a batch job from now, or of the rest of the running one; `Infinity` if none will be launched. */
  batchMs: number;
  /** How long a call at the flex tier takes at most, as a rule: its target is 15 minutes. */
  flexMs: number;
  /** How long a call at the standard tier takes. */
  standardMs: number;
  /** Embeddings have no flex tier, `rawPredict` has no direct tier at all. Default `generateContent`. */
  method?: Method;
}

export interface DeadlineAnswer {
  /** When the answer can change next; `undefined`: never. */
  checkAt: number | undefined;
  move?: { tier: DirectTier; reason: string };
}

/** A batch job counts as able to make it only if it could take this much longer than expected. */
const batchSafety = 1.5;
/** The same for a standard call, the last resort while a flex call is in flight. */
const standardSafety = 1.5;

/**
 * What is done about a request so that its answer comes in time, at the least price: it stays with batch while a job can still make it, else goes to flex if flex can, else to standard. One whose
 * deadline has passed goes to standard at once. A flex call in flight is given up only when a standard call would just make it. A request moves at most twice: to flex, then to standard, and there it stays.
 * One that only jobs can answer comes when it comes.
 */
export function decideDeadline(input: DeadlineInput): DeadlineAnswer {
  const { tier } = input;
  if (tier === "standard" || input.method === "rawPredict") return { checkAt: undefined };
  const leftMs = input.deadlineAt - input.now;
  const stayMs = tier === "flex" ? (input.batched ? standardSafety * input.standardMs : input.flexMs) : batchSafety * input.batchMs;
  if (leftMs > 0 && leftMs > stayMs) return { checkAt: nextCheck(input, stayMs) };

  const flexible = tier !== "flex" && input.method !== "embedContent" && leftMs >= input.flexMs && leftMs > 0;
  const to: DirectTier = flexible ? "flex" : "standard";
  const left = leftMs > 0 ? `${formatDuration(leftMs)} are left` : `it passed ${formatDuration(-leftMs)} ago`;
  const paid = input.batched ? `; the answer of ${tier === "flex" ? "the flex call" : "its batch job"} is paid as well if it comes` : "";
  return {
    checkAt: to === "standard" ? undefined : nextCheck(input, input.flexMs),
    move: { tier: to, reason: `deadline: ${left}, ${expected(input)}${paid}` },
  };
}

/** When only `neededMs` are left. Never now: times are estimates, and a look without progress would be repeated for ever. */
function nextCheck({ now, deadlineAt }: DeadlineInput, neededMs: number): number {
  const leastMs = Math.max(1, (deadlineAt - now) / 20);
  return Math.ceil(Math.max(deadlineAt - neededMs, now + leastMs));
}

function expected({ tier, batched, batchMs, flexMs }: DeadlineInput): string {
  if (tier === "flex") return batched ? "and its flex call has not answered" : `and a flex call may take ${formatDuration(flexMs)}`;
  if (!Number.isFinite(batchMs)) return "and no batch job will be launched in time";
  return `and ${batched ? "the rest of its batch job" : "a batch job"} is expected to take ${formatDuration(batchMs)}`;
}

// Rates --------------------------------------------------------------------------------------------------------------

/**
 * A token bucket for direct calls: at most `perMinute` in any minute (`Infinity` for no limit), of which a tenth may go at once. It starts full. Time is passed in and may jump: back counts as standing
 * still.
 */
export class RateLimit {
  readonly #burst: number;
  readonly #perMs: number;
  #tokens: number;
  #at: number | undefined;

  constructor(perMinute: number) {
    this.#burst = Math.max(1, Math.floor(perMinute / 10));
    // What a burst takes is not refilled within the same minute.
    this.#perMs = (perMinute - this.#burst + 1) / 60_000;
    this.#tokens = this.#burst;
  }

  /** Takes the right to one call. 0: go; else nothing was taken, and it is worth asking again after so many milliseconds. */
  take(now: number): number {
    if (this.#burst === Infinity) return 0;
    const elapsedMs = Math.max(0, now - (this.#at ?? now));
    this.#at = now;
    this.#tokens = Math.min(this.#burst, this.#tokens + elapsedMs * this.#perMs);
    if (this.#tokens < 1) return Math.ceil((1 - this.#tokens) / this.#perMs);
    this.#tokens -= 1;
    return 0;
  }
}
