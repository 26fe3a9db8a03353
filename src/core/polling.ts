/** How eagerly a job is looked at. Durations in milliseconds. */
export interface PollingPolicy {
  minIntervalMs: number;
  maxIntervalMs: number;
}

/**
 * The wait before the next look at a job of this age: a twentieth of its age, so that at most 5 % of its life is lost to
 * looking too late. While the job is younger than 60 % of the fastest recent one, looks are saved up until then.
 */
export function nextPollDelayMs(policy: PollingPolicy, ageMs: number, fastestMs: number | undefined): number {
  const early = fastestMs === undefined ? 0 : fastestMs * 0.6 - ageMs;
  return Math.min(policy.maxIntervalMs, Math.max(policy.minIntervalMs, ageMs / 20, early));
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

  /** The median; `undefined` before the first job. */
  typical(lane: string): number | undefined {
    const list = this.#recent.get(lane);
    if (!list || list.length === 0) return undefined;
    return list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
  }
}
