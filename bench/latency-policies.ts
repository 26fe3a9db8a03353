/**
 * What (f) compares: this engine, the real one in virtual time, and a simulation of the policy of the Python gembatch. Both are told by a
 * provider when each job ended; both are measured from a chain's start to the instant at which its last answer is handled.
 *
 * @module
 */
import { createTestKit, SteerableProvider, ManualClock } from "../src/testing.ts";
import { promptText } from "../src/testing/steerable-provider.ts";
import { deckOf, minute, randomOf, type Scenario } from "./latency-scenarios.ts";

/** How a policy did, in milliseconds, over all chains of one scenario. */
export interface Measured {
  /** Mean from start to end, with the turnarounds that were drawn. */
  latency: number;
  /** Mean of what a chain's time had beyond its own jobs: waiting for launches, and for somebody to notice that a job has ended. */
  waits: number;
  jobs: number;
  /** Most jobs that were unfinished at the same time. */
  atOnce: number;
}

export async function runEngine({ turnaround, steps, maxJobs }: Scenario, arrivals: readonly number[], seed: number): Promise<Measured> {
  const nextTurnaround = deckOf(turnaround, randomOf(seed));
  const clock = new ManualClock();
  const from = clock.now();
  const own = new Float64Array(arrivals.length);
  const ends = new Float64Array(arrivals.length);
  const provider = new SteerableProvider({
    clock,
    limits: { maxJobs },
    turnaroundMs: ({ rows }) => {
      const ms = nextTurnaround();
      for (const { body } of rows) own[Number.parseInt(promptText(body), 10)]! += ms;
      return ms;
    },
    answer: () => "ok",
  });
  await using kit = createTestKit({ clock, provider, seed });
  const chain = kit.gembatch.chain("latency", async ({ models }, n: number) => {
    for (let step = 0; step < steps; step += 1) await models.generateContent({ model: "gemini-2.5-flash", contents: `${n} ${step}` });
    // Reached once: only the last turn gets here.
    ends[n] = clock.now() - from;
  });
  for (const [at, group] of groups(arrivals)) {
    if (from + at > clock.now()) await kit.advance(from + at - clock.now());
    await chain.startMany(group);
  }
  await kit.run();
  const latencies = arrivals.map((at, n) => ends[n]! - at);
  return summarise(
    latencies,
    own,
    provider.jobs.map(({ createdAt, endsAt }) => [createdAt, endsAt]),
  );
}

/** Arrivals of the same instant together. */
function groups(arrivals: readonly number[]): Map<number, number[]> {
  const all = new Map<number, number[]>();
  arrivals.forEach((at, n) => all.set(at, [...(all.get(at) ?? []), n]));
  return all;
}

/**
 * Python gembatch (blueworrybear/gembatch, tasks.py and health.py) with its defaults, and without anything that its cloud services add: every queued prompt
 * asks whether to flush. 200 queued flush at once; else 1,800 s after the last flush, 3,600 s while fewer than 20 are queued, and a prompt that came after that
 * instant starts a new interval. Batches run one at a time, oldest first, whatever the provider allows; ended jobs are noticed at every quarter of an hour.
 */
export function runPython({ turnaround, steps }: Scenario, arrivals: readonly number[], seed: number): Measured {
  const maxRequests = 200;
  const intervalMs = 30 * minute;
  const lookMs = 15 * minute;
  const nextTurnaround = deckOf(turnaround, randomOf(seed));
  const own = new Float64Array(arrivals.length);
  const ends = new Float64Array(arrivals.length);
  const done = new Uint8Array(arrivals.length);
  const events = new Events();
  const queue: { chain: number; at: number }[] = [];
  const batches: number[][] = [];
  const jobs: [from: number, to: number][] = [];
  let running: number[] | undefined;
  let lastSubmit: number | undefined;
  let nextSubmit: number | undefined;

  const launch = (now: number): void => {
    if (running !== undefined || batches.length === 0) return;
    running = batches.shift()!;
    const ms = nextTurnaround();
    for (const chain of running) own[chain]! += ms;
    jobs.push([now, now + ms]);
    events.at(Math.ceil((now + ms) / lookMs) * lookMs, notice);
  };
  const notice = (now: number): void => {
    const ended = running!;
    running = undefined;
    for (const chain of ended) {
      const answered = done[chain]! + 1;
      done[chain] = answered;
      if (answered === steps) ends[chain] = now;
      else enqueue(now, chain);
    }
    launch(now);
  };
  const enqueue = (now: number, chain: number): void => {
    queue.push({ chain, at: now });
    consume(now);
  };
  const flush = (now: number): void => {
    batches.push(queue.splice(0, maxRequests).map(({ chain }) => chain));
    lastSubmit = now;
    events.at(now + intervalMs, consume);
    launch(now);
  };
  const consume = (now: number): void => {
    if (queue.length === 0) return;
    if (queue.length >= maxRequests) {
      flush(now);
      return;
    }
    const interval = queue.length < maxRequests / 10 ? 2 * intervalMs : intervalMs;
    lastSubmit ??= now;
    const next = lastSubmit + interval;
    if (next <= now) {
      if (queue[0]!.at <= next) flush(now);
      else {
        lastSubmit = now;
        events.at(now + interval, consume);
      }
    } else if (nextSubmit === undefined || next > nextSubmit) {
      nextSubmit = next;
      events.at(next + 1_000, consume);
    }
  };
  arrivals.forEach((at, chain) => events.at(at, (now) => enqueue(now, chain)));
  events.run();
  return summarise(
    arrivals.map((at, n) => ends[n]! - at),
    own,
    jobs,
  );
}

/** What happens at which instant, in that order. */
class Events {
  readonly #heap: { at: number; order: number; act: (now: number) => void }[] = [];
  #order = 0;

  at(at: number, act: (now: number) => void): void {
    this.#heap.push({ at, order: (this.#order += 1), act });
    for (let i = this.#heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1;
      if (this.#before(parent, i)) break;
      this.#swap(i, parent);
      i = parent;
    }
  }

  run(): void {
    while (this.#heap.length > 0) {
      const first = this.#heap[0]!;
      const last = this.#heap.pop()!;
      if (this.#heap.length > 0) {
        this.#heap[0] = last;
        this.#sink();
      }
      first.act(first.at);
    }
  }

  #sink(): void {
    for (let i = 0; ;) {
      let least = i;
      for (const child of [2 * i + 1, 2 * i + 2]) if (child < this.#heap.length && this.#before(child, least)) least = child;
      if (least === i) return;
      this.#swap(i, least);
      i = least;
    }
  }

  #before(a: number, b: number): boolean {
    const [first, second] = [this.#heap[a]!, this.#heap[b]!];
    return first.at < second.at || (first.at === second.at && first.order < second.order);
  }

  #swap(a: number, b: number): void {
    [this.#heap[a], this.#heap[b]] = [this.#heap[b]!, this.#heap[a]!];
  }
}

function summarise(latencies: readonly number[], own: Float64Array, jobs: readonly (readonly [number, number])[]): Measured {
  const latency = latencies.reduce((sum, value) => sum + value, 0) / latencies.length;
  const ownMean = own.reduce((sum, value) => sum + value, 0) / own.length;
  return { latency, waits: latency - ownMean, jobs: jobs.length, atOnce: mostAtOnce(jobs) };
}

export function mostAtOnce(jobs: readonly (readonly [number, number])[]): number {
  // At the same instant ends come before beginnings.
  const changes = jobs.flatMap(([from, to]) => [[from, 1] as const, [to, -1] as const]).toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
  let now = 0;
  let most = 0;
  for (const [, change] of changes) most = Math.max(most, (now += change));
  return most;
}
