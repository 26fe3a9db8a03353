import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { Schemas } from "../../../test/support/postgres-schemas.ts";
import type { ClaimedRun, Store } from "../../core/store.ts";
import {
  child,
  digestRuns,
  failure,
  flexLane,
  lane,
  leaseMs,
  newRun,
  paid,
  request,
  sleep,
  step,
  StoreKit,
  succeeded,
  type TurnParts,
} from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import { Walk } from "../../testing/store-walker.ts";
import type { PostgresStore } from "./store.ts";

const schemas = new Schemas();
let url = "";
let stores: PostgresStore[] = [];

beforeEach(async () => {
  url = await schemas.take();
  stores = [];
});
afterEach(async () => {
  for (const store of stores) await store.close();
  await schemas.giveBack(url);
});
afterAll(() => schemas.end());

/** Stores on one schema, as so many processes have them, each with the worker `w1`, `w2`, … alive. */
async function peers(count: number): Promise<StoreKit[]> {
  stores = await Promise.all(Array.from({ length: count }, () => schemas.open(url)));
  const kits = stores.map((store) => new StoreKit(store));
  for (const [i, kit] of kits.entries()) await kit.beat(`w${i + 1}`);
  return kits;
}

const done = { type: "completed" as const, output: '"out"' };
const ids = (count: number, name = "run"): string[] => Array.from({ length: count }, (_, i) => `${name}-${i}`);

/** What transactions keep, counted again from the rows: each finds what disagrees. */
const audits: Record<string, string> = {
  "a run counts its entries, and no number is given twice": `
    SELECT r.id, r.entries, r.open, r.seq FROM runs r LEFT JOIN LATERAL (
      SELECT count(*) AS entries, count(*) FILTER (WHERE seq IS NULL) AS open, count(DISTINCT seq) <> count(seq) AS twice, max(seq) AS last
      FROM entries e WHERE e.no >> 20 = r.no
    ) e ON true WHERE r.pruned = 0 AND (r.entries <> e.entries OR r.open <> e.open OR e.twice OR e.last > r.seq OR r.seq < r.entries - r.open)`,
  "a run's reservations are those of its open requests": `
    SELECT r.id FROM runs r WHERE r.reserved <> (
      SELECT coalesce(sum(estimate), 0) FROM entries e WHERE e.no >> 20 = r.no AND e.kind = 0 AND e.state IN (1, 2, 4, 8)
    )`,
  "a lane's counters are those of its queue": `
    SELECT l.no FROM lanes l
    LEFT JOIN (
      SELECT lane, sum(queued) AS queued, sum(delayed) AS delayed, sum(isolated) AS isolated, sum(bytes) AS bytes, sum(usd) AS usd, sum(unpriced) AS unpriced
      FROM queues GROUP BY lane
    ) q ON q.lane = l.no
    LEFT JOIN (
      SELECT lane, count(*) FILTER (WHERE state = 1) AS queued, count(*) FILTER (WHERE state = 2) AS delayed, count(*) FILTER (WHERE state = 8) AS isolated,
        sum(bytes) FILTER (WHERE state = 1) AS bytes, sum(estimate) FILTER (WHERE state = 1) AS usd,
        count(*) FILTER (WHERE state = 1 AND estimate IS NULL) AS unpriced
      FROM entries WHERE kind = 0 GROUP BY lane
    ) e ON e.lane = l.no
    WHERE (coalesce(q.queued, 0), coalesce(q.delayed, 0), coalesce(q.isolated, 0), coalesce(q.bytes, 0), coalesce(q.usd, 0), coalesce(q.unpriced, 0))
      <> (coalesce(e.queued, 0), coalesce(e.delayed, 0), coalesce(e.isolated, 0), coalesce(e.bytes, 0), coalesce(e.usd, 0), coalesce(e.unpriced, 0))`,
  "what belongs to a run or a request goes with it": `
    SELECT no FROM run_inputs WHERE no NOT IN (SELECT no FROM runs) UNION ALL SELECT no FROM run_outcomes WHERE no NOT IN (SELECT no FROM runs)
    UNION ALL SELECT no >> 20 FROM entries WHERE no >> 20 NOT IN (SELECT no FROM runs)
    UNION ALL SELECT run FROM run_waiters WHERE run NOT IN (SELECT no FROM runs)
    UNION ALL SELECT no FROM bodies WHERE no NOT IN (SELECT no FROM entries WHERE kind = 0)
    UNION ALL SELECT no FROM entries WHERE kind = 0 AND no NOT IN (SELECT no FROM bodies)
    UNION ALL SELECT batch FROM departed WHERE batch NOT IN (SELECT no FROM batches)`,
  "an answer knows how many name it, and is there": `
    SELECT a.no FROM answers a
    WHERE a.uses <> (SELECT count(*) FROM entries e WHERE e.answer = a.no) + (SELECT count(*) FROM shared s WHERE s.answer = a.no)
    UNION ALL SELECT no FROM entries WHERE answer IS NOT NULL AND answer NOT IN (SELECT no FROM answers)
    UNION ALL SELECT no FROM shared WHERE answer IS NOT NULL AND answer NOT IN (SELECT no FROM answers)`,
  "a key has a leader exactly if an open request is asked for it": `
    SELECT s.no FROM shared s WHERE s.leader IS DISTINCT FROM (SELECT max(e.no) FROM entries e WHERE e.shared = s.no AND e.state IN (1, 2, 4, 8))
      OR (SELECT count(*) FROM entries e WHERE e.shared = s.no AND e.state IN (1, 2, 4, 8)) > 1`,
  "who follows has a leader, and no answer to have at once": `
    SELECT e.no FROM entries e JOIN shared s ON s.no = e.shared WHERE e.state = 9 AND (s.leader IS NULL OR s.answer IS NOT NULL)`,
  "a key without anybody is gone": `
    SELECT no FROM shared s WHERE leader IS NULL AND answer IS NULL AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.shared = s.no)`,
  "a run that is over has nothing in a queue, and only what is open is looked at for its deadline": `
    SELECT e.no FROM entries e JOIN runs r ON r.no = e.no >> 20 WHERE r.state >= 5 AND e.state IN (1, 2, 8, 9)
    UNION ALL SELECT no FROM entries WHERE check_at IS NOT NULL AND (state NOT IN (1, 2, 4, 8) OR deadline_at IS NULL)`,
  "the members of a batch are those without a result": `
    SELECT b.no FROM batches b WHERE b.request_count - b.succeeded - b.failed - b.requeued - b.cancelled <> (
      SELECT count(*) FROM entries e WHERE e.batch = b.no AND e.state = 4
    )`,
  "who waits can be woken": `SELECT no FROM runs WHERE (state = 2 AND open = 0) OR open < 0 OR (state = 3) <> (retry_at IS NOT NULL) OR (state = 1) <> (worker IS NOT NULL)`,
  "who is running is in the hand of a worker": `
    SELECT no FROM runs r WHERE state = 1 AND NOT EXISTS (SELECT FROM workers w JOIN hands h ON h.worker = w.no WHERE w.no = r.worker AND r.no = ANY(h.runs))`,
  "a hand is that of a worker": `SELECT worker FROM hands WHERE worker NOT IN (SELECT no FROM workers)`,
};

/** Holds as long as no failed request is asked again by an operator: the number of the answer that it had stays unused. */
const withoutGaps = `SELECT id, entries, open, seq FROM runs WHERE pruned = 0 AND seq <> entries - open`;

async function expectSound(store: Store, { reopened = false } = {}): Promise<void> {
  await expectConservation(store, expect);
  for (const [name, text] of Object.entries(audits)) expect([name, await schemas.query(url, text)]).toEqual([name, []]);
  if (!reopened) expect(await schemas.query(url, withoutGaps)).toEqual([]);
}

/**
 * What walks need that share a store: batches of their own, and children that come after their parents although the counters of the walks are apart (else two runs could wait for each other).
 */
class WalkingKit extends StoreKit {
  readonly #name: string;

  constructor(store: Store, name: string) {
    super(store);
    this.#name = name;
  }

  override form(batch: string, over: Parameters<StoreKit["form"]>[1] = {}): ReturnType<StoreKit["form"]> {
    // One that is there already goes on under its name.
    return super.form(batch.startsWith("walk-") ? batch : `${this.#name}-${batch}`, over);
  }

  override commit(run: ClaimedRun, parts: TurnParts = {}, worker = "w1"): ReturnType<StoreKit["commit"]> {
    const own = numberOf(run.id);
    const starts = parts.starts?.map((start) =>
      numberOf(start.id) > own ? start : newRun(`run-${own + 1}`, start.parent === undefined ? {} : { parent: start.parent }),
    );
    return super.commit(run, starts === undefined ? parts : { ...parts, starts }, worker);
  }
}

const numberOf = (id: string): number => Number(id.slice("run-".length));

describe("stores on one schema that work at the same time", () => {
  it("every run is claimed by one of them", async () => {
    const kits = await peers(4);
    const all = ids(1_000);
    await kits[0]!.start(...all.map((id) => newRun(id)));
    const claimed = await Promise.all(
      kits.map(async (kit, i) => {
        const mine: ClaimedRun[] = [];
        let empty = 0;
        while (empty < 3) {
          const runs = await kit.claim(7 + i * 5, `w${i + 1}`);
          empty = runs.length === 0 ? empty + 1 : 0;
          mine.push(...runs);
        }
        return mine;
      }),
    );
    const runs = claimed.flat();
    expect([runs.length, new Set(runs.map(({ id }) => id)).size, new Set(runs.map(({ epoch }) => epoch))]).toEqual([
      1_000,
      1_000,
      new Set([1]),
    ]);
    await expectSound(stores[0]!);
  });

  it("a claim of a worker's own runs leaves those of live workers, and takes those of workers that are gone", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    const own = async (kit: StoreKit, worker: string) =>
      (await kit.store.claimRuns({ worker, now: kit.now, limit: 10, chains: digestRuns, own: true })).map(({ id }) => id).toSorted();
    const wake = async (run: ClaimedRun) => a.store.wakeRuns({ now: a.now, runs: [{ run: run.id, epoch: run.epoch }] });
    await a.start(newRun("one"), newRun("two"));
    const [one, two] = [await a.claimOne("w1"), await b.claimOne("w2")];
    await a.commit(one, { entries: [request("ask")] }, "w1");
    await b.commit(two, { entries: [request("ask")] }, "w2");
    await wake(one);
    await wake(two);
    await a.start(newRun("fresh"));
    expect(await own(b, "w2")).toEqual(["fresh", "two"]);
    expect(await own(b, "w2")).toEqual([]);
    await b.store.leave({ worker: "w2", now: b.now });
    // What a worker that has left had in hand, or would have come back to, is anybody's.
    expect(await own(a, "w1")).toEqual(["fresh", "one", "two"]);
    await a.store.leave({ worker: "w1", now: a.now });
    await b.beat("w2");
    const high = newRun("high", { priority: 5 });
    await a.start(high);
    expect((await b.claim(2, "w2")).map(({ id }) => id)).toEqual(["high", "one"]);
  });

  it("whoever starts the same ids, one of them starts each", async () => {
    const kits = await peers(4);
    const all = ids(60);
    const outcomes = await Promise.all(
      kits.map((kit, i) =>
        kit.start(...(i % 2 === 0 ? all : all.toReversed()).map((id) => newRun(id, { fingerprint: i === 3 ? "another" : "one" }))),
      ),
    );
    expect(outcomes.flat().filter((outcome) => outcome === "started").length).toBe(60);
    expect((await stores[0]!.stats()).runs.runnable).toBe(60);
    await expectSound(stores[0]!);
  });

  it("a child that ends while its parent goes to wait wakes it", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    for (const [round, id] of ids(40, "parent").entries()) {
      await a.start(newRun(id));
      const parent = await a.claimOne("w1");
      const kidId = `kid-${round}`;
      const start = newRun(kidId, { parent: { run: id, key: "c" } });
      await a.commit(parent, { entries: [child("c")], starts: [start], outcome: { type: "running" } });
      const kid = await b.claimOne("w2");
      await Promise.all([
        a.commit(parent, { firstNo: 1, entries: [step("s")], outcome: { type: "waiting" } }),
        b.commit(kid, { outcome: done }, "w2"),
      ]);
      expect([id, await a.states(id, kidId)]).toEqual([id, ["runnable", "completed"]]);
      await a.commit(await a.claimOne("w1"), { firstNo: 2, outcome: done });
    }
    await expectSound(a.store);
  });

  it("children of several parents that end together, in any order", async () => {
    const kits = await peers(4);
    const [first] = kits as [StoreKit];
    const parents = ids(6, "parent");
    await first.start(...parents.map((id) => newRun(id)));
    for (const parent of await first.claim()) {
      const keys = Array.from({ length: 8 }, (_, i) => `c${i}`);
      const starts = keys.map((key) => newRun(`${parent.id}-${key}`, { parent: { run: parent.id, key } }));
      await first.commit(parent, { entries: keys.map(child), starts });
    }
    // Each has children of all parents.
    const claims: ClaimedRun[][] = kits.map(() => []);
    for (let n = 0; n < 48; n += 1) claims[n % 4]!.push(await kits[n % 4]!.claimOne(`w${(n % 4) + 1}`));
    await Promise.all(
      kits.map((kit, i) => {
        const turns = claims[i]!.map((run) => kit.turn(run, { outcome: done }));
        return kit.store.commitTurns({ worker: `w${i + 1}`, now: kit.now, turns: i % 2 === 0 ? turns : turns.toReversed() });
      }),
    );
    expect(claims.flat().length).toBe(48);
    expect(await first.states(...parents)).toEqual(parents.map(() => "runnable"));
    for (const id of parents)
      expect((await first.history(id)).map(({ seq }) => seq).toSorted((x, y) => x! - y!)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    await expectSound(first.store);
  });

  it("answers of two batches for the same runs, in opposite order", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    const all = ids(100);
    await a.start(...all.map((id) => newRun(id)));
    const turns = (await a.claim()).map((run) => a.turn(run, { entries: [request("q"), request("p", { lane: flexLane })] }));
    await a.store.commitTurns({ worker: "w1", now: a.now, turns });
    const [one, two] = [await a.routing("b1"), await b.routing("b2", { worker: "w2", lane: flexLane })];
    const rows = async (batch: string) => (await a.members(batch)).map(({ id, attempt }) => ({ id, attempt, result: succeeded("x") }));
    const [first, second] = [await rows("b1"), (await rows("b2")).toReversed()];
    for (let i = 0; i < 100; i += 50) {
      await Promise.all([a.settle(one, first.slice(i, i + 50)), b.settle(two, second.slice(50 - i, 100 - i))]);
    }
    expect(await a.states(...all)).toEqual(all.map(() => "runnable"));
    await a.update(await a.batch("b1"), { state: "completed" });
    await b.update(await a.batch("b2"), { state: "completed" });
    await expectSound(a.store);
  });

  it("runs that go on with their answers while they are cancelled, held, woken, claimed and given up are in one hand each", async () => {
    const [a, b, c, d] = (await peers(4)) as [StoreKit, StoreKit, StoreKit, StoreKit];
    const finish = async (kit: StoreKit, worker: string, runs: readonly ClaimedRun[]) => {
      const turns = runs.map((run) => kit.turn(run, { firstNo: 1, outcome: done }));
      return kit.store.commitTurns({ worker, now: kit.now, turns });
    };
    for (let round = 0; round < 8; round += 1) {
      const leaves = round % 2 === 0;
      const all = ids(24, `r${round}`);
      await a.start(...all.map((id) => newRun(id)));
      const runs = await a.claim();
      await a.store.commitTurns({
        worker: "w1",
        now: a.now,
        turns: runs.map((run) => a.turn(run, { entries: [request("q", { usd: 0.01 })] })),
      });
      const batch = await a.routing(`batch-${round}`);
      // Members come in the order of their runs.
      const members = await a.members(batch.id);
      const rows = members.map(({ id, attempt }, i) => ({ id, attempt, result: paid("x", 0.001), ...(i % 4 > 0 && { keptEpoch: 1 }) }));
      const [settled, taken] = await Promise.all([
        a.settle(batch, rows, { worker: "w1" }),
        b.claim(5, "w2"),
        c.store.cancelRuns({ now: c.now, ids: all.slice(0, 8) }),
        d.store.holdRuns({ now: d.now, ids: all.slice(4, 12), error: failure("held") }),
        c.store.wakeRuns({ now: c.now, runs: all.slice(10, 18).map((run) => ({ run, epoch: 1 })) }),
        ...(leaves ? [d.store.leave({ worker: "w1", now: d.now })] : []),
      ]);
      const resumed = (settled?.resumed ?? []).map(({ row, ...claim }) => ({ ...runs[row]!, ...claim }));
      const claims = [...resumed, ...taken].map(({ id, epoch }) => `${id} ${epoch}`);
      expect(new Set(claims).size).toBe(claims.length);
      // Whoever has it in hand ends it, unless it was given up with its worker.
      for (const { state } of await finish(a, "w1", resumed))
        expect(["completed", "cancelled", ...(leaves ? ["lost"] : [])]).toContain(state);
      for (const { state } of await finish(b, "w2", taken)) expect(["completed", "cancelled"]).toContain(state);

      await a.beat("w1");
      const [again] = await a.claimBatches(["routing"]);
      await a.settleRest(again ?? batch, { type: "release", availableAt: a.now });
      await a.update(again ?? batch, { state: "completed" });
      await expectSound(a.store, { reopened: true });
      expect(await new Walk(a, 1, true).drain()).toBe(undefined);
      await expectSound(a.store, { reopened: true });
    }
  });

  it("answers, turns, cancellations, holds, retries and removals of the same runs keep every count", async () => {
    const kits = await peers(4);
    const [a, b, c, d] = kits as [StoreKit, StoreKit, StoreKit, StoreKit];
    for (let round = 0; round < 6; round += 1) {
      const all = ids(12, `r${round}`);
      await a.start(...all.map((id) => newRun(id)));
      const claimed = await a.claim();
      const [fresh, old] = [claimed.filter(({ id }) => all.includes(id)), claimed.filter(({ id }) => !all.includes(id))];
      for (const run of old) await a.commit(run, { firstNo: (await a.history(run.id)).length, outcome: done });
      const turns = fresh.map((run) => a.turn(run, { entries: [request("q", { usd: 0.01 }), request("p"), sleep("t", a.now)] }));
      await a.store.commitTurns({ worker: "w1", now: a.now, turns });
      const batch = await a.routing(`batch-${round}`);
      const members = await a.members(batch.id);
      const rows = members.map(({ id, attempt }, i) => ({
        id,
        attempt,
        result: i % 5 === 0 ? { type: "retry" as const, availableAt: a.now, error: failure("busy") } : paid("x", 0.001),
      }));
      const half = rows.length / 2;
      const work = async (kit: StoreKit, worker: string): Promise<void> => {
        for (const run of await kit.claim(5, worker)) {
          const history = await kit.history(run.id);
          await kit.commit(
            run,
            { firstNo: history.length, outcome: run.id.endsWith("1") ? { type: "failed", error: failure("f") } : done },
            worker,
          );
        }
      };
      await Promise.all([
        a.settle(batch, rows.slice(0, half)),
        b.store.fireTimers({ now: b.now, limit: 20 }),
        c.store.cancelRuns({ now: c.now, ids: all.slice(0, 4) }),
        d.store.holdRuns({ now: d.now, ids: all.slice(2, 8), error: failure("held") }),
        work(b, "w2"),
        work(c, "w3"),
      ]);
      await Promise.all([
        a.settle(batch, rows.slice(half)),
        b.store.retryRuns({ now: b.now, ids: all.slice(1, 9) }),
        c.store.retryRuns({ now: c.now, ids: all.slice(0, 6), afresh: true }),
        d.store.removeEnded({ now: d.now + 1, limit: 5, runs: { completed: d.now + 1, cancelled: d.now + 1 }, histories: d.now + 1 }),
        work(b, "w2"),
        work(d, "w4"),
      ]);
      await a.settleRest(batch, { type: "release", availableAt: a.now });
      await a.update(await a.batch(batch.id), { state: "completed" });
      for (const kit of kits) kit.now += 1;
      await expectSound(a.store, { reopened: true });
    }
    expect(await new Walk(a, 1, true).drain()).toBe(undefined);
    await expectSound(a.store, { reopened: true });
  });

  it("batches that are formed at once hold the quota of the provider", async () => {
    const kits = await peers(4);
    const [a] = kits as [StoreKit];
    const lanes = Array.from({ length: 4 }, (_, i) => ({ ...lane, model: `m${i}` }));
    await a.waiting(
      "a",
      lanes.flatMap((of, i) => Array.from({ length: 12 }, (_, j) => request(`q${i}-${j}`, { lane: of }))),
    );
    for (const { maxActive, total } of [
      { maxActive: 3, total: 3 },
      { maxActive: 5, total: 5 },
    ]) {
      await Promise.all(
        kits.flatMap((kit, i) =>
          lanes.map((of, j) => kit.form(`b${maxActive}-${i}-${j}`, { worker: `w${i + 1}`, lane: of, maxActive, limits: { requests: 2 } })),
        ),
      );
      expect((await a.store.activeBatches()).length).toBe(total);
    }
    await expectSound(a.store);
  });

  it("direct calls that are formed at once hold the quota of their lane", async () => {
    const kits = await peers(4);
    await kits[0]!.waiting(
      "a",
      Array.from({ length: 30 }, (_, i) => request(`q${i}`, { lane: flexLane })),
    );
    await Promise.all(kits.map((kit, i) => kit.form(`b${i}`, { worker: `w${i + 1}`, lane: flexLane, maxActive: 7, chunk: 3 })));
    await Promise.all(kits.map((kit, i) => kit.form(`c${i}`, { worker: `w${i + 1}`, lane: flexLane, maxActive: 7, chunk: 3 })));
    const active = await kits[0]!.store.activeBatches();
    expect(active.reduce((sum, batch) => sum + batch.requestCount, 0)).toBeLessThanOrEqual(7);
    expect(active.length).toBeGreaterThan(0);
    await expectSound(kits[0]!.store);
  });

  it("what belongs together is one batch: nobody begins a second one of a lane in which a live worker is at it", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    await a.waiting(
      "a",
      Array.from({ length: 40 }, (_, i) => request(`q${i}`)),
    );
    const form = async (kit: StoreKit, worker: string, batch: string): Promise<string[]> => {
      const states: string[] = [];
      for (let i = 0; i < 12; i += 1) states.push((await kit.form(batch, { worker, chunk: 5 }))?.state ?? "none");
      return states;
    };
    const [one, two] = await Promise.all([form(a, "w1", "b1"), form(b, "w2", "b2")]);
    const batches = (await a.store.listBatches({})).items;
    expect([batches.map(({ requestCount, state }) => [requestCount, state]), one.includes("sealed") !== two.includes("sealed")]).toEqual([
      [[40, "sealed"]],
      true,
    ]);
    await expectSound(a.store);
  });

  it("an answer that is shared is asked for once, whoever asks first", async () => {
    const kits = await peers(4);
    const [a] = kits as [StoreKit];
    const all = ids(24);
    await a.start(...all.map((id) => newRun(id)));
    const claims = await Promise.all(kits.map((kit, i) => kit.claim(6, `w${i + 1}`)));
    const shared = (key: string) => request(`q-${key}`, { cache: { key, ttlMs: 1_000_000 } });
    await Promise.all(
      kits.map((kit, i) => {
        const entries = i % 2 === 0 ? [shared("x"), shared("y")] : [shared("y"), shared("x")];
        return kit.store.commitTurns({ worker: `w${i + 1}`, now: kit.now, turns: claims[i]!.map((run) => kit.turn(run, { entries })) });
      }),
    );
    expect([await a.queued(), (await a.store.stats()).requests.queued]).toEqual([2, 48]);
    const batch = await a.routing("b1");
    const late = ids(6, "late");
    await a.start(...late.map((id) => newRun(id)));
    const more = await Promise.all(kits.slice(1).map((kit, i) => kit.claim(2, `w${i + 2}`)));
    // Some join, and some leaders' runs are cancelled, while the answers come.
    await Promise.all([
      a.answer(batch, paid("shared", 0.5)),
      ...kits.slice(1).map((kit, i) =>
        kit.store.commitTurns({
          worker: `w${i + 2}`,
          now: kit.now,
          turns: more[i]!.map((run) => kit.turn(run, { entries: [shared("y"), shared("x")] })),
        }),
      ),
      kits[3]!.store.cancelRuns({ now: a.now, ids: all.slice(0, 5) }),
    ]);
    await a.update(await a.batch("b1"), { state: "completed" });
    const states = await a.states(...all.slice(5), ...late);
    expect([new Set(states), await a.queued()]).toEqual([new Set(["runnable"]), 0]);
    for (const id of [...all.slice(5), ...late]) expect((await a.requestStates(id)).toSorted()).toEqual(["succeeded", "succeeded"]);
    await expectSound(a.store);
  });

  it("a leader that goes while others join hands over to one of them", async () => {
    const kits = await peers(3);
    const [a, b, c] = kits as [StoreKit, StoreKit, StoreKit];
    const shared = request("q", { cache: { key: "k", ttlMs: 5 } });
    for (let round = 0; round < 15; round += 1) {
      const leader = `leader-${round}`;
      await a.waiting(leader, [shared]);
      await a.start(newRun(`f-${round}-1`), newRun(`f-${round}-2`));
      const [one, two] = [await b.claimOne("w2"), await c.claimOne("w3")];
      await Promise.all([
        a.store.cancelRuns({ now: a.now, ids: [leader] }),
        b.commit(one, { entries: [shared] }, "w2"),
        c.commit(two, { entries: [shared] }, "w3"),
      ]);
      const leaders = await schemas.query<{ leader: string }>(
        url,
        `SELECT s.leader FROM shared s JOIN entries e ON e.no = s.leader AND e.state = 1`,
      );
      expect([round, leaders.length, await a.queued()]).toEqual([round, 1, 1]);
      const batch = await a.routing(`b-${round}`);
      await a.answer(batch, succeeded("x"));
      await a.update(await a.batch(batch.id), { state: "completed" });
      expect(await a.states(one.id, two.id)).toEqual(["runnable", "runnable"]);
      for (const run of await a.claim(9, "w1")) await a.commit(run, { firstNo: 1, outcome: done });
      for (const kit of kits) kit.now += 10;
    }
    await expectSound(a.store);
  });

  it("one of several takes an exclusive role, and again when its holder is gone", async () => {
    const kits = await peers(4);
    for (let round = 0; round < 8; round += 1) {
      const roles = await Promise.all(kits.map((kit, i) => kit.beat(`w${i + 1}`, { roles: ["test"], shared: ["other"] })));
      expect([round, roles.filter((mine) => mine.includes("test")).length, roles.every((mine) => mine.includes("other"))]).toEqual([
        round,
        1,
        true,
      ]);
      const holder = roles.findIndex((mine) => mine.includes("test"));
      await kits[holder]!.store.leave({ worker: `w${holder + 1}`, now: kits[0]!.now });
    }
  });

  it("no run stays with a worker that is gone, whenever it claimed", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    for (let round = 0; round < 40; round += 1) {
      const worker = `mortal-${round}`;
      await a.beat(worker);
      await a.start(newRun(`run-${round}`));
      b.now += leaseMs + 1;
      await Promise.all([
        a.claim(5, worker),
        b.beat("w2", { maxAttempts: 1_000 }),
        round % 2 === 0 ? b.store.leave({ worker, now: b.now }) : undefined,
      ]);
      await b.beat("w2", { maxAttempts: 1_000 });
      const lost = await schemas.query(url, `SELECT r.id FROM runs r WHERE r.state = 1 AND r.worker NOT IN (SELECT no FROM workers)`);
      expect([round, lost]).toEqual([round, []]);
      a.now = b.now;
      for (const run of await b.claim(9, "w2")) await b.commit(run, { outcome: done }, "w2");
    }
    expect((await a.store.stats()).runs).toMatchObject({ completed: 40, running: 0, runnable: 0 });
    await expectSound(a.store);
  });

  it("a turn that commits while its worker is given up counts, or is lost and done again", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    for (let round = 0; round < 25; round += 1) {
      const worker = `mortal-${round}`;
      await a.beat(worker);
      await a.start(newRun(`run-${round}`));
      const run = (await a.claim(1, worker))[0]!;
      b.now += leaseMs + 1;
      const [result] = await Promise.all([a.commit(run, { entries: [request("q")] }, worker), b.beat("w2", { maxAttempts: 1_000 })]);
      expect([result.state, await b.state(run.id)]).toEqual(result.state === "lost" ? ["lost", "runnable"] : ["waiting", "waiting"]);
      a.now = b.now;
      await b.store.cancelRuns({ now: b.now, ids: [run.id] });
    }
    await expectSound(a.store);
  });

  it("a run that is removed and started again elsewhere is the new one for everybody", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    await a.start(newRun("a"));
    await a.claimOne("w1");
    b.now += leaseMs + 1;
    await b.beat("w2");
    await b.commit(await b.claimOne("w2"), { entries: [step("old")], outcome: done }, "w2");
    expect((await b.store.removeEnded({ now: b.now + 1, limit: 9, runs: { completed: b.now + 1 } })).runs).toBe(1);
    const parent = newRun("a", { fingerprint: "new" });
    await b.start(parent);
    await b.commit(await b.claimOne("w2"), { entries: [request("q"), step("new")] }, "w2");
    expect((await a.store.listRequests({ run: "a" })).items.length).toBe(1);
    expect(await a.store.holdRuns({ now: a.now, ids: ["a"], error: failure("h") })).toEqual(["a"]);
    expect(await a.store.retryRuns({ now: a.now, ids: ["a"] })).toEqual(["a"]);
    expect(await a.store.cancelRuns({ now: a.now, ids: ["a"] })).toEqual(["a"]);
    await expectSound(a.store);
  });

  it("starting what is just being removed starts it anew, or finds it", async () => {
    const [a, b] = (await peers(2)) as [StoreKit, StoreKit];
    for (let round = 0; round < 20; round += 1) {
      await a.start(newRun("a"));
      await a.commit(await a.claimOne("w1"), { outcome: done });
      const now = a.now + 1;
      const [outcome] = await Promise.all([b.start(newRun("a")), a.store.removeEnded({ now, limit: 9, runs: { completed: now } })]);
      expect([["started"], ["existing"]]).toContainEqual(outcome);
      expect(await a.states("a")).toEqual([outcome[0] === "started" ? "runnable" : undefined]);
      if (outcome[0] === "started") await a.commit(await a.claimOne("w1"), { outcome: done });
      await a.store.removeEnded({ now, limit: 9, runs: { completed: now } });
    }
    await expectSound(a.store);
  });

  it.each([1, 2, 3])("random walks of three of them at once lose nothing (seed %i)", async (seed) => {
    await peers(3);
    const kits = stores.map((store, i) => new WalkingKit(store, `walk-${i}`));
    const walks = kits.map((kit, i) => new Walk(kit, seed * 10 + i, seed !== 2));
    await Promise.all(
      walks.map(async (walk) => {
        for (let i = 0; i < 120; i += 1) await walk.step();
      }),
    );
    await expectSound(stores[0]!, { reopened: true });
    const latest = Math.max(...kits.map(({ now }) => now));
    for (const kit of kits) kit.now = latest + leaseMs;
    expect(await walks[0]!.drain()).toBe(undefined);
    await expectSound(stores[0]!, { reopened: true });
  });
});
