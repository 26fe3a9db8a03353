import { batchTransitions, requestTransitions, runTransitions } from "../core/states.ts";
import { expectConservation, spentBy, type StoreContext, type StoreSuite } from "./store-suite.ts";
import { digestRuns } from "./store-kit.ts";
import { Walk } from "./store-walker.ts";

type Table = Readonly<Record<string, readonly string[]>>;

/** Remembers every state that was seen, and what moved off its table. */
class Watch {
  readonly illegal: string[] = [];
  #before = new Map<string, string>();

  /** @param anew runs that began anew: what is known of their requests is of others. */
  async look({ store }: StoreContext, anew: Set<string>): Promise<void> {
    const now = new Map<string, string>();
    for (const { id, state } of (await store.listRuns({ limit: 1_000 })).items) this.#see(now, `run ${id}`, state, runTransitions);
    for (const { id, run, state } of (await store.listRequests({ limit: 1_000 })).items) {
      if (anew.has(run)) this.#before.delete(`request ${id}`);
      this.#see(now, `request ${id}`, state, requestTransitions);
    }
    for (const { id, state } of (await store.listBatches({ limit: 1_000 })).items) this.#see(now, `batch ${id}`, state, batchTransitions);
    anew.clear();
    // What is gone may come back as another.
    this.#before = now;
  }

  #see(now: Map<string, string>, what: string, state: string, table: Table): void {
    const from = this.#before.get(what);
    if (from !== undefined && from !== state && !table[from]?.includes(state)) this.illegal.push(`${what}: ${from} → ${state}`);
    now.set(what, state);
  }
}

export function testWalk({ describe, check, expect }: StoreSuite, walks = 4): void {
  const walk = async (context: StoreContext, seed: number, forgets: boolean): Promise<void> => {
    const { kit, store } = context;
    await kit.beat("w2");
    const course = new Walk(kit, seed, forgets);
    const watch = new Watch();
    for (let i = 0; i < 500; i += 1) {
      await course.step();
      await watch.look(context, course.anew);
      if (i % 100 === 99) await expectConservation(store, expect);
    }
    expect(watch.illegal).toEqual([]);
    expect(await course.drain()).toBe(undefined);
    expect(await store.activeBatches()).toEqual([]);
    for (const run of (await store.listRuns({ limit: 1_000 })).items) {
      const numbers = (await kit.history(run.id)).flatMap(({ seq }) => seq ?? []);
      expect([run.id, new Set(numbers).size]).toEqual([run.id, numbers.length]);
    }
    const { runnable, lanes, nextDeadlineAt } = await store.activity({ now: kit.now, chains: digestRuns });
    expect([runnable, lanes, nextDeadlineAt]).toEqual([false, [], undefined]);
    if (forgets) return;
    // Whoever adds it up comes to the same sum.
    const { requests, runs, batches, days } = await spentBy(store);
    expect([requests, runs, batches, days.usd > 0, days.unpriced > 0]).toEqual([days, days, days, true, true]);
  };

  describe("on a random walk", () => {
    for (const seed of [1, 2, 3, 4].slice(0, walks)) {
      check(`every state moves along its table, nothing is lost, all runs end, the money adds up (seed ${seed})`, (context) =>
        walk(context, seed, false),
      );
    }
    for (const seed of [5, 6, 7, 8].slice(0, walks)) {
      check(`the same while runs begin anew and what ended is removed (seed ${seed})`, (context) => walk(context, seed, true));
    }
  });
}
