import { batchTransitions, requestTransitions, runTransitions } from "../core/states.ts";
import type { BatchRecord, ClaimedRun, NewEntry, TurnOutcome } from "../core/store.ts";
import { expectConservation, type StoreSuite } from "./store-suite.ts";
import {
  child,
  digestRuns,
  failed,
  failure,
  leaseMs,
  newRun,
  request,
  sleep,
  step,
  type StoreKit,
  succeeded,
  type TurnParts,
} from "./store-kit.ts";

/** Numbers from a seed, so that a walk that fails can be taken again. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Workers that do everything in any order, lose their leases, commit late and settle twice. */
class Walk {
  readonly #kit: StoreKit;
  readonly #draw: (below: number) => number;
  readonly #runs: { run: ClaimedRun; worker: string }[] = [];
  readonly #batches: { batch: BatchRecord; worker: string }[] = [];
  #started = 0;
  #formed = 0;

  constructor(kit: StoreKit, seed: number) {
    this.#kit = kit;
    this.#draw = seeded(seed);
  }

  async step(): Promise<void> {
    const kit = this.#kit;
    const worker = this.#draw(2) === 0 ? "w1" : "w2";
    kit.now += this.#draw(20);
    switch (this.#draw(12)) {
      case 0:
        await kit.start(newRun(`run-${(this.#started += 1)}`, { priority: this.#draw(3) }));
        return;
      case 1:
      case 2:
        for (const run of await kit.claim(1 + this.#draw(3), worker)) this.#runs.push({ run, worker });
        return;
      case 3:
      case 4:
      case 5:
        await this.#commit();
        return;
      case 6: {
        const batch = await kit.form(`batch-${this.#formed}`, { worker, limits: { requests: 4 }, chunk: 2 });
        if (batch === undefined || batch.state !== "forming") this.#formed += 1;
        return;
      }
      case 7:
        for (const batch of await kit.claimBatches(["sealed", "launching", "in_progress", "routing"], worker, 2))
          this.#batches.push({ batch, worker });
        return;
      case 8:
      case 9:
        await this.#advance();
        return;
      case 10:
        await kit.store.fireTimers({ now: kit.now, limit: 2 });
        await kit.beat(worker, { maxAttempts: 4 });
        if (this.#draw(6) === 0) kit.now += leaseMs;
        return;
      default: {
        const ids = [`run-${1 + this.#draw(Math.max(1, this.#started))}`];
        if (this.#draw(4) === 0) await kit.store.cancelRuns({ now: kit.now, ids });
        else await kit.store.retryRuns({ now: kit.now, ids });
      }
    }
  }

  /** From here on everything goes well: all runs must come to their end. */
  async drain(): Promise<boolean> {
    const kit = this.#kit;
    for (const worker of ["w1", "w2"]) await kit.store.leave({ worker, now: kit.now });
    for (let round = 0; round < 200; round += 1) {
      await kit.beat("w1", { maxAttempts: 1_000 });
      kit.now += 1_000;
      await kit.store.fireTimers({ now: kit.now, limit: 1_000 });
      for (const run of await kit.claim()) {
        const open = (await kit.history(run.id)).filter(({ seq }) => seq === undefined);
        const entries = await kit.history(run.id);
        const outcome: TurnOutcome = open.length === 0 ? { type: "completed", output: "1" } : { type: "waiting" };
        await kit.commit(run, { firstNo: entries.length, outcome });
      }
      await kit.form(`drain-${round}`);
      for (const { id } of await kit.store.activeBatches()) await kit.form(id);
      for (const batch of await kit.claimBatches(["sealed", "launching", "in_progress", "routing"])) {
        await this.#toRouting(batch);
        await kit.answer(batch);
        await kit.update(batch, { state: "completed" });
      }
      const { held } = (await kit.store.stats()).runs;
      if (held > 0)
        await kit.store.retryRuns({ now: kit.now, ids: (await kit.store.listRuns({ state: "held" })).items.map(({ id }) => id) });
      if (held === 0 && !(await kit.store.hasLiveRuns())) return true;
    }
    return false;
  }

  /** Commits a turn in hand; some of them long after their lease. */
  async #commit(): Promise<void> {
    const [turn] = this.#runs.splice(this.#draw(this.#runs.length), 1);
    if (turn === undefined) return;
    const { run, worker } = turn;
    const kit = this.#kit;
    const history = await kit.history(run.id);
    const known = history.filter(({ seq }) => seq !== undefined && seq <= run.seq).length;
    const outcome = this.#outcome(history.length);
    const parts: TurnParts = { firstNo: history.length, seen: Math.min(known, run.seq), outcome };
    if (outcome.type === "waiting" || this.#draw(3) === 0) Object.assign(parts, this.#work(run.id, history.length));
    await kit.commit(run, parts, worker);
  }

  #outcome(entries: number): TurnOutcome {
    const draw = this.#draw(entries > 6 ? 4 : 12);
    if (draw === 0) return { type: "completed", output: "1" };
    if (draw === 1) return { type: "failed", error: failure("f") };
    if (draw === 2) return { type: "retry", at: this.#kit.now + this.#draw(100), error: failure("r") };
    if (draw === 3) return this.#draw(3) === 0 ? { type: "held", error: failure("h") } : { type: "completed", output: "2" };
    return { type: "waiting" };
  }

  #work(run: string, no: number): TurnParts {
    const entries: NewEntry[] = [request(`q${no}`, { priority: this.#draw(3), maxAttempts: 2 })];
    if (this.#draw(3) === 0) entries.push(step(`s${no}`));
    if (this.#draw(3) === 0) entries.push(sleep(`t${no}`, this.#kit.now + this.#draw(50)));
    if (this.#draw(3) === 0) entries.push(request(`p${no}`));
    if (this.#draw(4) > 0) return { entries };
    // Children come after their parents, or two runs could wait for each other.
    const own = Number(run.slice("run-".length));
    const kid = `run-${own + 1 + this.#draw((this.#started += 1) - own)}`;
    entries.push(child(`c${no}`));
    return { entries, starts: [newRun(kid, { parent: { run, key: `c${no}` } })] };
  }

  /** Moves a batch in hand one step on. */
  async #advance(): Promise<void> {
    const item = this.#batches[this.#draw(this.#batches.length)];
    if (item === undefined) return;
    const kit = this.#kit;
    const { batch } = item;
    const { state } = await kit.batch(batch.id);
    if (state === "sealed") await kit.update(batch, { state: "launching", release: false });
    else if (state === "launching") await kit.update(batch, { state: this.#draw(4) === 0 ? "sealed" : "in_progress", release: false });
    else if (state === "in_progress") await kit.update(batch, { state: "routing", release: this.#draw(2) === 0 });
    else if (state === "routing") await this.#route(batch);
  }

  async #route(batch: BatchRecord): Promise<void> {
    const kit = this.#kit;
    const members = await kit.members(batch.id, undefined, 1 + this.#draw(3));
    const results = [succeeded("x"), failed("y"), { type: "retry" as const, availableAt: kit.now + this.#draw(50), error: failure("z") }];
    const rows = members.map(({ id, attempt }) => ({ id, attempt, result: results[this.#draw(3)]! }));
    await kit.settle(batch, this.#draw(2) === 0 ? [...rows, ...rows] : rows);
    if (this.#draw(3) > 0) return;
    const left = await kit.settleRest(batch, { type: "release", availableAt: kit.now });
    if (left === 0) await kit.update(batch, { state: "completed" });
  }

  async #toRouting(batch: BatchRecord): Promise<void> {
    const states = ["sealed", "launching", "in_progress", "routing"] as const;
    for (const state of states.slice(states.indexOf(batch.state as "sealed") + 1)) await this.#kit.update(batch, { state, release: false });
  }
}

export function testWalk({ describe, check, expect }: StoreSuite): void {
  describe("on a random walk", () => {
    for (const seed of [1, 2, 3, 4]) {
      check(`every state moves along its table, nothing is lost, all runs end (seed ${seed})`, async ({ kit, store }) => {
        await kit.beat("w2");
        const walk = new Walk(kit, seed);
        const before = new Map<string, string>();
        const illegal: string[] = [];
        const look = (kind: string, id: string, state: string, table: Readonly<Record<string, readonly string[]>>): void => {
          const from = before.get(`${kind} ${id}`);
          if (from !== undefined && from !== state && !table[from]?.includes(state)) illegal.push(`${kind} ${id}: ${from} → ${state}`);
          before.set(`${kind} ${id}`, state);
        };
        for (let i = 0; i < 400; i += 1) {
          await walk.step();
          for (const run of (await store.listRuns({ limit: 1_000 })).items) look("run", run.id, run.state, runTransitions);
          for (const item of (await store.listRequests({ limit: 1_000 })).items) look("request", item.id, item.state, requestTransitions);
          for (const batch of (await store.listBatches({ limit: 1_000 })).items) look("batch", batch.id, batch.state, batchTransitions);
          if (i % 100 === 99) await expectConservation(store, expect);
        }
        expect(illegal).toEqual([]);
        expect(await walk.drain()).toBe(true);
        expect(await store.activeBatches()).toEqual([]);
        for (const run of (await store.listRuns({ limit: 1_000 })).items) {
          const numbers = (await kit.history(run.id)).flatMap(({ seq }) => seq ?? []);
          expect([run.id, new Set(numbers).size]).toEqual([run.id, numbers.length]);
        }
        expect((await store.activity({ now: kit.now, chains: digestRuns })).runnable).toBe(false);
      });
    }
  });
}
