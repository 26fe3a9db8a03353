import type { Clock, Random } from "../core/clock.ts";
import { randomText } from "../core/clock.ts";
import { laneName } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { Turnarounds } from "../core/polling.ts";
import type { Lane, Provider } from "../core/provider.ts";
import type { BatchRecord, Store } from "../core/store.ts";
import { advanceDeadlines } from "../pipeline/deadline.ts";
import { DirectStage } from "../pipeline/direct.ts";
import { FormStage } from "../pipeline/form.ts";
import { advanceLaunch } from "../pipeline/launch.ts";
import { advancePoll } from "../pipeline/poll.ts";
import { advanceRoute } from "../pipeline/route.ts";
import { RunStage, type RunParts } from "../pipeline/run.ts";
import { advances, earliest, isInDoubt, messageOf, nextDue, type PipelineContext, type StageResult } from "../pipeline/stage.ts";
import { Bell } from "./bell.ts";
import { Lease } from "./lease.ts";
import type { Settings } from "./settings.ts";
import { Upkeep } from "./upkeep.ts";

export interface WorkerParts {
  store: Store;
  providers: ReadonlyMap<string, Provider>;
  clock: Clock;
  random: Random;
  log: Logger;
  settings: Settings;
  run: Omit<RunParts, "onEnd" | "onLateCommit" | "onResume">;
  host: { name: string; pid: number };
  onEnd: (run: string) => void;
  onTrouble: (error: Error) => void;
  /** The store's own clock showed `time` during a call from `startedAt` to `endedAt`. */
  onStoreTime?: (time: number, startedAt: number, endedAt: number) => void;
}

/** How long a running worker sleeps at most: other processes may have added work without a hint. */
const maxSleepMs = 1_000;
/** The longest rest between two looks while others ring. */
const maxRestMs = 100;
/** How often a running worker looks for the next timer at most, however often it is woken; a sleep may end that much later. */
const timersRestMs = 100;

const stageNames = ["heartbeat", "timers", "poll", "route", "run", "deadline", "form", "launch", "direct", "upkeep"] as const;
type StageName = (typeof stageNames)[number];

/** Who may find something to do when a stage has done something. The others would look in vain: a look is a few statements, and there are hundreds of them a second. */
const followers: Readonly<Record<StageName, readonly StageName[]>> = {
  heartbeat: [],
  timers: ["run"],
  poll: ["route", "run", "form", "launch", "upkeep"],
  route: ["run", "form", "upkeep"],
  run: ["timers", "deadline", "form"],
  deadline: ["form", "launch"],
  form: ["launch"],
  launch: ["poll", "run", "form", "direct", "upkeep"],
  direct: ["run", "form"],
  upkeep: [],
};
/** Who may find something to do when another process has done something. */
const hinted: readonly StageName[] = ["poll", "route", "run", "form", "launch"];

/**
 * Advances everything that is due. `tick()` does it once, `start()` keeps doing it, each stage in a loop of its own so that a slow upload or
 * download holds up nobody else.
 */
export class Worker {
  readonly id: string;
  readonly #parts: WorkerParts;
  readonly #lease: Lease;
  readonly #form = new FormStage();
  readonly #direct = new DirectStage(() => this.#ring(followers.direct));
  readonly #run: RunStage;
  readonly #context: PipelineContext;
  readonly #upkeep: Upkeep;
  readonly #stop = new AbortController();
  readonly #bells = new Map<StageName, Bell>();
  #loops: Promise<void> | undefined;
  #stopHints: (() => void) | undefined;
  #learned: Promise<void> | undefined;
  /** Providers that work waits for and that are not configured here. */
  readonly #unknown = new Set<string>();
  #looking: Promise<BatchRecord[]> | undefined;
  #tickedAt = 0;
  #timersAt = -Infinity;
  #foreground = 0;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.id = `w${randomText(parts.random, 16)}`;
    const { store, providers, clock, random, log, settings, host, onStoreTime } = parts;
    this.#lease = new Lease({
      store,
      clock,
      log,
      worker: { id: this.id, host: host.name, pid: host.pid },
      leaseMs: settings.leaseMs,
      providers: [...providers.keys()],
      isIdle: () => this.#run.active === 0 && this.#direct.active === 0,
      ...(onStoreTime ? { onStoreTime } : {}),
    });
    this.#context = {
      store,
      providers,
      clock,
      random,
      log,
      worker: this.id,
      batching: settings.batching,
      polling: settings.polling,
      retry: settings.retry,
      segregate: settings.segregate,
      launch: settings.launch,
      tiers: settings.tiers,
      money: settings.money,
      breaker: settings.breaker,
      cleanupMs: settings.cleanupMs,
      turnarounds: new Turnarounds(),
      learn: async () =>
        (this.#learned ??= this.#learn().catch((error: unknown) => {
          this.#learned = undefined;
          throw error;
        })),
      noteProviders: (waiting) => this.#noteProviders(waiting),
      stranded: new Map(),
      mayClaim: () => this.#lease.alive,
      roles: () => this.#lease.providers,
      sends: (provider) => this.#lease.sends(provider),
      chains: () => parts.run.registry.versions(),
      settle: async (batch, rows, rest) => this.#run.settle(batch, rows, rest),
      doubt: () => this.#lease.doubt(),
      signal: this.#stop.signal,
      onTrouble: parts.onTrouble,
    };
    this.#upkeep = new Upkeep(this.#context, settings.retention);
    this.#run = new RunStage(this.#context, settings.run, {
      ...parts.run,
      onEnd: parts.onEnd,
      onLateCommit: () => this.#ring(["run", ...followers.run]),
      onResume: () => this.#ring(["run"]),
    });
  }

  get running(): boolean {
    return this.#loops !== undefined && !this.#stop.signal.aborted;
  }

  /** Advances every stage once, in the order in which work flows. Resolves with the time to come back. */
  async tick(): Promise<{ worked: boolean; wakeAt: number }> {
    this.#tickedAt = this.#parts.clock.now();
    let worked = false;
    let wakeAt: number | undefined;
    for (const stage of this.#stages()) {
      // Before each of them, for one that takes long: the next must not find the lease over.
      await this.#heartbeat();
      const result = await this.#knowing(stage);
      worked ||= result.worked;
      wakeAt = earliest(wakeAt, result.wakeAt);
    }
    const now = this.#parts.clock.now();
    const renewal = now + this.#lease.renewalMs;
    return { worked, wakeAt: worked ? now : Math.max(now, earliest(wakeAt, renewal)!) };
  }

  /** Starts working in the background. */
  start(): this {
    if (this.#loops) return this;
    this.#stopHints = this.#parts.store.onHint?.(() => this.#ring(hinted));
    this.#loops = this.#runLoops();
    return this;
  }

  /** There may be something to do: a start, an answer, a hint from elsewhere. */
  wake(): void {
    for (const bell of this.#bells.values()) bell.ring();
  }

  #ring(stages: readonly StageName[]): void {
    for (const name of stages) this.#bells.get(name)?.ring();
  }

  /** While anybody awaits a result, the waits of the loops keep the process alive. */
  hold(): () => void {
    this.#foreground += 1;
    this.wake();
    let held = true;
    return () => {
      if (held) this.#foreground -= 1;
      held = false;
    };
  }

  /** Finishes what is in hand (turns for up to `limitMs`) and gives everything else back. */
  async stop(limitMs = 10_000): Promise<void> {
    if (this.#stop.signal.aborted) {
      await this.#loops;
      return;
    }
    this.#stop.abort();
    this.#stopHints?.();
    this.wake();
    await this.#lease.whileLeaving(async () => {
      await this.#loops;
      await Promise.all([this.#run.drain(limitMs), this.#direct.drain(this.#context, limitMs)]);
    });
    await this.#upkeep.finish();
    try {
      await this.#parts.store.leave({ worker: this.id, now: this.#parts.clock.now() });
    } catch (error) {
      this.#parts.log.debug(`The worker's lease could not be given up: ${messageOf(error)}`);
    }
  }

  #stages(): (() => Promise<StageResult>)[] {
    const context = this.#context;
    return [
      async () => this.#timers(),
      async () => advancePoll(context),
      async () => advanceRoute(context),
      async () => this.#run.advance(),
      async () => advanceDeadlines(context),
      async () => this.#form.advance(context),
      async () => advanceLaunch(context, this.#form, this.#direct),
      async () => this.#batchesDue(await this.#direct.advance(context), this.#tickedAt),
      async () => this.#upkeep.advance(),
    ];
  }

  /** Fires what is due, and looks for what is next: at most every `restMs`, for that costs more. */
  async #timers(restMs = 0): Promise<StageResult> {
    const { store, clock } = this.#parts;
    const now = clock.now();
    const fired = await store.fireTimers({ now, limit: 1_000 });
    const sinceMs = now - this.#timersAt;
    if (sinceMs >= 0 && sinceMs < restMs) return { worked: fired > 0, wakeAt: this.#timersAt + restMs };
    this.#timersAt = now;
    const { nextTimerAt, nextDeadlineAt } = await store.nextTimers();
    const wakeAt = earliest(nextTimerAt, nextDeadlineAt);
    return { worked: fired > 0, ...(wakeAt === undefined ? {} : { wakeAt }) };
  }

  /** Adds when the next unfinished batch is due. */
  async #batchesDue(result: StageResult, lookedAt: number): Promise<StageResult> {
    const batches = await this.#parts.store.activeBatches();
    this.#noteProviders(batches);
    const mine = batches.filter((batch) => advances(this.#context, batch));
    const wakeAt = earliest(result.wakeAt, this.#whenDue(mine, lookedAt));
    return { ...result, ...(wakeAt === undefined ? {} : { wakeAt }) };
  }

  async #heartbeat(): Promise<void> {
    await this.#lease.renewIfDue();
  }

  /** Says, once, if there is work that this worker cannot do. */
  #noteProviders(waiting: readonly { lane: Lane }[]): void {
    const { providers, log } = this.#parts;
    const names = new Set(waiting.map(({ lane }) => lane.provider));
    const unknown = [...names].filter((name) => !providers.has(name) && !this.#unknown.has(name));
    if (unknown.length === 0) return;
    for (const name of unknown) this.#unknown.add(name);
    log.warn(
      `Requests to ${unknown.join(", ")} wait in this store, and this worker has no such provider. Keep it in the option provider until they are done.`,
    );
  }

  /** What recent jobs took, from the store: a new process need not start from nothing. */
  async #learn(): Promise<void> {
    const { items } = await this.#parts.store.listBatches({ state: "completed", limit: 50 });
    for (const batch of items.toReversed()) {
      const ms = turnaroundOf(batch);
      if (ms !== undefined) this.#context.turnarounds.record(laneName(batch.lane), ms);
    }
  }

  // Loops ------------------------------------------------------------------------------------------------------------------

  async #runLoops(): Promise<void> {
    await this.#guard("heartbeat", async () => {
      await this.#heartbeat();
      return { worked: false };
    });
    const stages: Record<StageName, () => Promise<StageResult>> = {
      heartbeat: async () => this.#heartbeatStage(),
      timers: async () => this.#timers(timersRestMs),
      poll: async () => this.#withDue(advancePoll, ["in_progress"]),
      route: async () => this.#withDue(advanceRoute, ["routing"]),
      run: async () => this.#run.advance({ patient: true }),
      deadline: async () => advanceDeadlines(this.#context),
      form: async () => this.#form.advance(this.#context),
      launch: async () => this.#withDue((context) => advanceLaunch(context, this.#form, this.#direct), ["forming", "sealed", "launching"]),
      direct: async () => this.#direct.advance(this.#context),
      upkeep: async () => this.#upkeep.advance(),
    };
    await Promise.all(stageNames.map(async (name) => this.#loop(name, stages[name])));
  }

  async #heartbeatStage(): Promise<StageResult> {
    await this.#heartbeat();
    return { worked: false, wakeAt: this.#parts.clock.now() + this.#lease.renewalMs };
  }

  /** One look for all stages that want one at the same moment, begun when the last of them has asked. */
  async #activeBatches(): Promise<BatchRecord[]> {
    this.#looking ??= new Promise(setImmediate).then(async () => {
      this.#looking = undefined;
      return this.#parts.store.activeBatches();
    });
    return this.#looking;
  }

  async #withDue(advance: (context: PipelineContext) => Promise<StageResult>, states: readonly string[]): Promise<StageResult> {
    const lookedAt = this.#parts.clock.now();
    const batches = await this.#activeBatches();
    this.#noteProviders(batches);
    const mine = batches.filter((batch) => states.includes(batch.state) && advances(this.#context, batch));
    // Most looks end here.
    if (this.#context.stranded.size > 0 || mine.some(({ dueAt }) => dueAt <= lookedAt)) {
      const result = await advance(this.#context);
      if (result.worked) return result;
    }
    const wakeAt = this.#whenDue(mine, lookedAt);
    return { worked: false, ...(wakeAt === undefined ? {} : { wakeAt }) };
  }

  /**
   * When the first of these batches is due. One that was due at `lookedAt`, and was not taken, is in other hands: looking again at once would be
   * looking for ever.
   */
  #whenDue(batches: readonly BatchRecord[], lookedAt: number): number | undefined {
    const inOtherHands = batches.some(({ dueAt }) => dueAt <= lookedAt);
    return earliest(nextDue(batches.filter(({ dueAt }) => dueAt > lookedAt)), inOtherHands ? lookedAt + maxSleepMs : undefined);
  }

  async #loop(name: StageName, stage: () => Promise<StageResult>): Promise<void> {
    const bell = new Bell();
    this.#bells.set(name, bell);
    const { clock } = this.#parts;
    while (!this.#stop.signal.aborted) {
      const began = clock.monotonic();
      const { worked, wakeAt } = await this.#guard(name, stage);
      const took = clock.monotonic() - began;
      if (worked) {
        this.#ring(followers[name]);
        await new Promise(setImmediate);
        continue;
      }
      const sleep = async (ms: number, signal: AbortSignal) => clock.sleep(ms, { signal, background: this.#foreground === 0 });
      // Looks cost, over a network most of all: whoever rings, one that found nothing is followed by a rest of four times its time, unless it knows what comes sooner.
      const restMs = Math.min(maxRestMs, 4 * took, Math.max(took, (wakeAt ?? Infinity) - clock.now()));
      if (restMs >= 1) await sleep(restMs, this.#stop.signal);
      const ms = Math.min(maxSleepMs, Math.max(1, (wakeAt ?? Infinity) - clock.now()));
      await bell.wait(async (signal) => sleep(ms, AbortSignal.any([signal, this.#stop.signal])));
    }
  }

  /** A stage that fails (the store is away, the disk is full) is tried again later; nothing else stops. */
  async #guard(name: string, stage: () => Promise<StageResult>): Promise<StageResult> {
    try {
      return await this.#knowing(stage);
    } catch (error) {
      if (this.#stop.signal.aborted) return { worked: false };
      this.#parts.log.error(`The ${name} stage failed and is tried again: ${messageOf(error)}`);
      this.#parts.onTrouble(error instanceof Error ? error : new Error(String(error)));
      return { worked: false, wakeAt: this.#parts.clock.now() + 5_000 };
    }
  }

  /** A stage that ends in doubt may have claimed what nobody here knows of. */
  async #knowing(stage: () => Promise<StageResult>): Promise<StageResult> {
    try {
      return await stage();
    } catch (error) {
      if (isInDoubt(error)) this.#lease.doubt();
      throw error;
    }
  }
}

function turnaroundOf(batch: BatchRecord): number | undefined {
  return batch.finishedAt !== undefined && batch.launchedAt !== undefined ? batch.finishedAt - batch.launchedAt : undefined;
}
