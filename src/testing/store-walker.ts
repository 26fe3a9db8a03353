import type { BatchRecord, ClaimedRun, NewEntry, NewRequest, NewRun, RequestResult, SettleRow, TurnOutcome } from "../core/store.ts";
import { tierChoices } from "../core/tiers.ts";
import {
  autoLane,
  child,
  failed,
  failure,
  flexLane,
  lane,
  leaseMs,
  newRun,
  paid,
  request,
  sleep,
  step,
  type StoreKit,
  succeeded,
  type TurnParts,
  usage,
} from "./store-kit.ts";

const lanes = [lane, lane, lane, flexLane, autoLane];
const active = ["sealed", "launching", "in_progress", "routing"] as const;
/** What every priced request is estimated to cost. */
const estimate = 0.01;

/** Numbers from a seed, so that a walk that fails can be taken again. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Workers that do everything in any order, lose their leases, commit late and settle twice; operators that cancel, hold, retry and remove. */
export class Walk {
  /** Runs whose history was forgotten: numbers of their requests may come back as others. */
  readonly anew = new Set<string>();
  readonly #kit: StoreKit;
  readonly #draw: (below: number) => number;
  readonly #forgets: boolean;
  readonly #runs: { run: ClaimedRun; worker: string }[] = [];
  readonly #batches: { batch: BatchRecord; worker: string }[] = [];
  /** Turns that their worker keeps, by the request that each waits for. */
  readonly #kept = new Map<string, { run: ClaimedRun; worker: string }>();
  #started = 0;
  #formed = 0;
  #advancing = false;
  #forming = { lane, isolated: false };

  /** @param forgets whether histories, runs and batches are removed, and runs retried afresh. */
  constructor(kit: StoreKit, seed: number, forgets: boolean) {
    this.#kit = kit;
    this.#draw = seeded(seed);
    this.#forgets = forgets;
  }

  async step(): Promise<void> {
    const kit = this.#kit;
    const worker = this.#draw(2) === 0 ? "w1" : "w2";
    kit.now += this.#draw(20);
    // Batches go on for a while, or hardly any would come to its answers.
    if (this.#advancing && this.#draw(4) > 0) return this.#advance();
    this.#advancing = false;
    switch (this.#draw(14)) {
      case 0:
        await this.#start();
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
        const batch = await kit.form(`batch-${this.#formed}`, { ...this.#forming, worker, limits: { requests: 4 }, chunk: 2 });
        if (batch?.state === "forming") return;
        this.#formed += 1;
        this.#forming = { lane: this.#lane(), isolated: this.#draw(3) === 0 };
        return;
      }
      case 7:
        for (const batch of await kit.claimBatches([...active], worker, 2)) this.#batches.push({ batch, worker });
        return;
      case 8:
      case 9:
        await this.#advance();
        this.#advancing = true;
        return;
      case 10:
        await kit.store.fireTimers({ now: kit.now, limit: 2 });
        await kit.beat(worker, { maxAttempts: 4 });
        if (this.#draw(6) === 0) kit.now += leaseMs;
        return;
      case 11:
        await this.#decide();
        return;
      case 12:
        await this.#sweep();
        return;
      default:
        await this.#operate();
    }
  }

  /** From here on everything goes well: all runs must come to their end. Says what is wrong, if something is. */
  async drain(): Promise<string | undefined> {
    const kit = this.#kit;
    for (const worker of ["w1", "w2"]) await kit.store.leave({ worker, now: kit.now });
    for (let round = 0; round < 200; round += 1) {
      await kit.beat("w1", { maxAttempts: 1_000 });
      kit.now += 1_000;
      await kit.store.fireTimers({ now: kit.now, limit: 1_000 });
      for (const run of await kit.claim()) {
        const entries = await kit.history(run.id);
        const open = entries.filter(({ seq }) => seq === undefined);
        const asked = (await kit.requests(run.id)).filter(({ state }) => state === "queued" || state === "batched");
        if (run.reservedUsd > asked.length * estimate + 1e-9) return `${run.id} reserves ${run.reservedUsd} for ${asked.length} requests`;
        const outcome: TurnOutcome = open.length === 0 ? { type: "completed", output: "1" } : { type: "waiting" };
        await kit.commit(run, { firstNo: entries.length, outcome });
      }
      await this.#drainBatches(round);
      const { held } = (await kit.store.stats()).runs;
      if (held > 0)
        await kit.store.retryRuns({ now: kit.now, ids: (await kit.store.listRuns({ state: "held" })).items.map(({ id }) => id) });
      if (held === 0 && !(await kit.store.hasLiveRuns())) return undefined;
    }
    return "some run does not end";
  }

  async #drainBatches(round: number): Promise<void> {
    const kit = this.#kit;
    for (const [i, of] of [lane, flexLane, autoLane, { ...lane, tier: "standard" as const }].entries()) {
      await kit.form(`drain-${round}-${i}`, { lane: of, maxActive: 10_000 });
      for (let group = 0; (await kit.form(`alone-${round}-${i}-${group}`, { lane: of, isolated: true })) !== undefined; group += 1);
    }
    for (const { id, lane: of } of await kit.store.activeBatches()) await kit.form(id, { lane: of, maxActive: 10_000 });
    for (const batch of await kit.claimBatches([...active])) {
      await this.#toRouting(batch);
      await kit.answer(batch, paid("drained", 0.002));
      await kit.update(batch, { state: "completed" });
    }
  }

  async #start(): Promise<void> {
    const id = `run-${(this.#started += 1)}`;
    const over: Partial<NewRun> = this.#draw(3) === 0 ? { deadlineAt: this.#kit.now + this.#draw(500) } : {};
    if (this.#draw(3) === 0) Object.assign(over, { kind: "handler", request: request("first", this.#request()) });
    await this.#kit.start(newRun(id, { priority: this.#draw(3), ...over }));
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
    if (parts.entries?.length === 1) parts.awaits = parts.entries[0]!.key;
    const result = await kit.commit(run, parts, worker);
    if (result.state === "waiting" && result.request !== undefined) this.#kept.set(result.request, turn);
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
    const entries: NewEntry[] = [request(`q${no}`, { ...this.#request(), maxAttempts: 2 + this.#draw(5) })];
    if (this.#draw(3) === 0) entries.push(step(`s${no}`));
    if (this.#draw(3) === 0) entries.push(sleep(`t${no}`, this.#kit.now + this.#draw(50)));
    if (this.#draw(3) === 0) entries.push(request(`p${no}`, this.#request()));
    const draw = this.#draw(8);
    if (draw > 2) return { entries };
    // Children come after their parents, or two runs could wait for each other.
    const own = Number(run.slice("run-".length));
    const kid = `run-${own + 1 + this.#draw((this.#started += 1) - own)}`;
    if (draw === 0) return { entries, starts: [newRun(kid)] };
    entries.push(child(`c${no}`));
    return { entries, starts: [newRun(kid, { parent: { run, key: `c${no}` } })] };
  }

  #lane(): typeof lane {
    return lanes[this.#draw(lanes.length)]!;
  }

  #request(): Partial<NewRequest> {
    return {
      lane: this.#lane(),
      priority: this.#draw(3),
      ...(this.#draw(3) > 0 && { usd: estimate }),
      ...(this.#draw(4) === 0 && { deadlineAt: this.#kit.now + this.#draw(300) }),
      ...(this.#draw(4) === 0 && { cache: { key: `key-${this.#draw(3)}`, ttlMs: this.#draw(200) } }),
    };
  }

  /** Moves a batch in hand one step on. */
  async #advance(): Promise<void> {
    const item = this.#batches.at(-1 - this.#draw(Math.min(3, this.#batches.length)));
    if (item === undefined) return;
    const kit = this.#kit;
    const { batch } = item;
    const state = (await kit.store.getBatch({ id: batch.id }))?.state;
    const held = this.#draw(5) === 0;
    if (state === "sealed") await kit.update(batch, { state: "launching", held, release: false });
    else if (state === "launching") await kit.update(batch, { state: this.#draw(4) === 0 ? "sealed" : "in_progress", release: false });
    else if (state === "in_progress") await kit.update(batch, { state: "routing", release: this.#draw(2) === 0 });
    else if (state === "routing") await this.#route(batch, item.worker);
  }

  #result(): RequestResult {
    const { now } = this.#kit;
    const retry = { type: "retry" as const, availableAt: now + this.#draw(50), error: failure("z") };
    const results: RequestResult[] = [
      paid("x", 0.003),
      succeeded("unpriced"),
      failed("y"),
      { ...retry, usage, cost: { usd: 0.001, standardUsd: 0.002 } },
      { ...retry, jobFailed: true, retries: 3 },
      { ...retry, retries: 0, value: '"poor"', usage },
      { type: "move", tier: tierChoices[this.#draw(4)]!, reason: "moved", availableAt: now + this.#draw(20) },
    ];
    return results[this.#draw(results.length)]!;
  }

  async #route(batch: BatchRecord, worker: string): Promise<void> {
    const kit = this.#kit;
    const members = await kit.members(batch.id, undefined, 1 + this.#draw(3));
    // Some rows are taken out of the batch before they come.
    if (this.#draw(3) === 0) await this.#decide();
    const rows = members.map(({ id, attempt }): SettleRow => {
      const kept = this.#kept.get(id);
      return { id, attempt, result: this.#result(), ...(kept?.worker === worker && { keptEpoch: kept.run.epoch }) };
    });
    const sent = this.#draw(2) === 0 ? [...rows, ...rows] : rows;
    const settled = await kit.settle(batch, sent, { worker });
    for (const { row, ...claim } of settled?.resumed ?? []) {
      const { id } = sent[row]!;
      this.#runs.push({ run: { ...this.#kept.get(id)!.run, ...claim }, worker });
      this.#kept.delete(id);
    }
    if (this.#draw(3) > 0) return;
    const jobFailed = { type: "retry" as const, availableAt: kit.now, error: failure("job"), jobFailed: true };
    const left = await kit.settleRest(batch, this.#draw(3) > 0 ? jobFailed : { type: "release", availableAt: kit.now });
    if (left === 0) await kit.update(batch, { state: "completed", sweepAt: kit.now + this.#draw(100) });
  }

  /** Looks at deadlines and moves queues between tiers. */
  async #decide(): Promise<void> {
    const { store, now } = this.#kit;
    const tier = tierChoices[this.#draw(4)]!;
    const items = await store.dueDeadlines({ now, limit: 3 });
    const decisions = items.map((item) => ({
      ...item,
      checkAt: this.#draw(3) === 0 ? undefined : now + 1 + this.#draw(50),
      ...(this.#draw(2) === 0 && { move: { tier, reason: "deadline" } }),
    }));
    await store.decideDeadlines({ now, decisions });
    const to = this.#draw(2) === 0 ? lane : flexLane;
    if (this.#draw(2) === 0) await store.moveQueued({ now, from: autoLane, to, limit: 2, reason: "auto" });
  }

  async #sweep(): Promise<void> {
    const { store, now } = this.#kit;
    for (const { id } of await store.dueSweeps({ now, providers: ["test"], limit: 2 })) {
      await store.updateSweep({ batch: id, update: { sweepAt: this.#draw(2) === 0 ? null : now + 50, duplicateJobs: ["batches/1"] } });
    }
    await store.hastenBatches({ now, providers: ["test"] });
    const { items } = await store.listBatches({ held: true });
    await store.releaseBatches({ now, ids: items.map(({ id }) => id) });
  }

  async #operate(): Promise<void> {
    const { store, now } = this.#kit;
    const ids = [`run-${1 + this.#draw(Math.max(1, this.#started))}`];
    const draw = this.#draw(this.#forgets ? 8 : 5);
    if (draw === 0) await store.cancelRuns({ now, ids, tree: this.#draw(2) === 0 });
    else if (draw === 1) await store.holdRuns({ now, ids, error: failure("held") });
    else if (draw < 5) await store.retryRuns({ now, ids });
    else if (draw < 7) for (const id of await store.retryRuns({ now, ids, afresh: true })) this.anew.add(id);
    else await this.#remove();
  }

  async #remove(): Promise<void> {
    const { store, now } = this.#kit;
    const runs = { completed: now - 200, failed: now - 300, cancelled: now - 100 };
    await store.removeEnded({ now, limit: 1 + this.#draw(3), runs, histories: now - 50, batches: now - 100 });
  }

  async #toRouting(batch: BatchRecord): Promise<void> {
    for (const state of active.slice(active.indexOf(batch.state as "sealed") + 1)) await this.#kit.update(batch, { state, release: false });
  }
}
