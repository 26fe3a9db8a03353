import { laneName } from "../../src/core/keys.ts";
import type { Lane } from "../../src/core/provider.ts";
import type { Store } from "../../src/core/store.ts";
import { isDirect } from "../../src/core/tiers.ts";
import type { Plan } from "./plan.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** While job slots are scarce, a queue lingers for company, but no longer than this. */
export const maxWaitMs = 20_000;
/** That, a dead worker's lease, the next look of a worker, and the debounce: within this a queue that nobody can add to is a batch. */
const withinMs = maxWaitMs + 30_000 + 15_000 + 250 + 5_000;
const lookMs = 1_000;

/** Sees that no queue waits for nothing: when all runs wait and a job slot is free, a batch is sealed soon. */
export class Quiescence {
  readonly #store: Store;
  readonly #world: World;
  readonly #plan: Plan;
  #lookAt = 0;
  #since: number | undefined;
  #queue = "";

  constructor(store: Store, world: World, plan: Plan) {
    this.#store = store;
    this.#world = world;
    this.#plan = plan;
  }

  forget(): void {
    this.#since = undefined;
  }

  async look(): Promise<void> {
    const { now, wallOffset } = this.#world;
    if (now < this.#lookAt) return;
    this.#lookAt = now + lookMs;
    const { lanes, runnable, running, routing, producers, nextTimerAt } = await this.#store.activity({ now: now + wallOffset, chains: [] });
    const timerSoon = nextTimerAt !== undefined && nextTimerAt <= now + wallOffset + 1_000;
    const queue = lanes.map(({ lane, queued }) => `${lane.model} ${queued}`).join();
    const batches = await this.#store.activeBatches();
    const full = batches.filter(({ state, lane }) => state !== "routing" && !isDirect(lane)).length >= this.#plan.batching.maxJobs;
    const waits = lanes.some(({ queued }) => queued > 0) && !runnable && !running && !routing && !producers && !timerSoon && !full;
    if (!waits || queue !== this.#queue) this.#since = undefined;
    this.#queue = queue;
    if (!waits) return;
    this.#since ??= now;
    if (now - this.#since <= withinMs) return;
    const waiting = lanes.filter(({ queued }) => queued > 0).map(({ lane }) => lane);
    if (await this.#rest(waiting)) this.#since = undefined;
    else {
      throw new Violation(
        "what is complete is sealed",
        `${queue} wait for ${(now - this.#since) / 1_000} s while no run could add to them`,
      );
    }
  }

  /** Whether each of these lanes rests on purpose: its model is being throttled, or its last jobs came to nothing. */
  async #rest(lanes: readonly Lane[]): Promise<boolean> {
    const { items } = await this.#store.listBatches({ limit: 100 });
    return lanes.every((lane) => {
      if (items.some((batch) => batch.lane.model === lane.model && batch.state === "sealed" && batch.failures > 0)) return true;
      const ended = items.filter((batch) => batch.endedAt !== undefined && laneName(batch.lane) === laneName(lane));
      const last = ended.toSorted((a, b) => (b.endedAt ?? 0) - (a.endedAt ?? 0)).slice(0, 3);
      return last.length === 3 && last.every(({ state }) => state !== "completed");
    });
  }
}
