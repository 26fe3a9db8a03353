/** How eagerly a job is looked at. Durations in milliseconds. */
export interface PollingPolicy {
  minIntervalMs: number;
  maxIntervalMs: number;
  /** The age at which a job counts as stuck when nothing is known about its lane, and the most that may be learned. Default 36 hours: the API gives up at 48. */
  maxAgeMs: number;
}

/** No job counts as stuck before this age, however fast those before it were: a busy day at the provider is no reason to pay twice. */
const minMaxAgeMs = 6 * 3_600_000;
/** A job may take this many times as long as the slowest recent one. */
const slowFactor = 20;
/** Jobs that must have ended before their times say anything. */
const minHistory = 3;

/**
 * The wait before the next look at a job of this age: a twentieth of its age, so that at most 5 % of its life is lost to
 * looking too late. While the job is younger than 60 % of the fastest recent one, looks are saved up until then.
 */
export function nextPollDelayMs(
  policy: Pick<PollingPolicy, "minIntervalMs" | "maxIntervalMs">,
  ageMs: number,
  fastestMs: number | undefined,
): number {
  const early = fastestMs === undefined ? 0 : fastestMs * 0.6 - ageMs;
  return Math.min(policy.maxIntervalMs, Math.max(policy.minIntervalMs, ageMs / 20, early));
}

/**
 * The age from which a job counts as stuck, learned from what the last jobs of its lane took (`history`, milliseconds): 20 times the slowest of them, at least
 * 6 hours and at most `policy.maxAgeMs`, which also holds before three jobs are known. A limit that was set below 6 hours is kept.
 */
export function maxAgeMs(policy: Pick<PollingPolicy, "maxAgeMs">, history: readonly number[]): number {
  if (history.length < minHistory) return policy.maxAgeMs;
  return Math.min(policy.maxAgeMs, Math.max(minMaxAgeMs, slowFactor * Math.max(...history)));
}

/** What the last jobs of a lane took from launch to end, as far as this process has seen. */
export class Turnarounds {
  readonly #recent = new Map<string, number[]>();

  record(lane: string, ms: number): void {
    const list = this.#recent.get(lane) ?? [];
    list.push(ms);
    if (list.length > 20) list.shift();
    this.#recent.set(lane, list);
  }

  fastest(lane: string): number | undefined {
    const list = this.#recent.get(lane);
    return list && list.length >= 2 ? Math.min(...list) : undefined;
  }

  slowest(lane: string): number | undefined {
    const list = this.#recent.get(lane);
    return list && list.length > 0 ? Math.max(...list) : undefined;
  }

  /** Up to 20 of the last ones, oldest first. */
  recent(lane: string): readonly number[] {
    return this.#recent.get(lane) ?? [];
  }

  /** The median; `undefined` before the first job. */
  typical(lane: string): number | undefined {
    const list = this.#recent.get(lane);
    if (!list || list.length === 0) return undefined;
    return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
  }
}
