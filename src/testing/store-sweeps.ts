import type { BatchRecord } from "../core/store.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { failed, failure, flexLane, lane, leaseMs, request } from "./store-kit.ts";

type Kit = StoreContext["kit"];

const states = ["sealed", "launching", "in_progress", "routing"] as const;

/** Batches of one request each, in hand, in these states. */
async function batches(kit: Kit, ...wanted: (typeof states)[number][]): Promise<BatchRecord[]> {
  await kit.waiting(
    "a",
    wanted.map((_, i) => request(`q${i}`)),
  );
  for (const i of wanted.keys()) await kit.form(`b${i}`, { limits: { requests: 1 } });
  const claimed = await kit.claimBatches(["sealed"]);
  for (const [i, batch] of claimed.entries()) {
    for (const state of states.slice(1, states.indexOf(wanted[i]!) + 1)) await kit.update(batch, { state, release: false });
  }
  return Promise.all(claimed.map(({ id }) => kit.batch(id)));
}

async function end(kit: Kit, batch: BatchRecord): Promise<void> {
  await kit.settleRest(batch, { type: "failed", error: failure("the job failed") });
  await kit.update(batch, { state: "failed" });
}

export function testSweeps({ describe, check, expect }: StoreSuite): void {
  describe("what a batch leaves at the provider", () => {
    check("a batch keeps what is known of its job", async ({ kit }) => {
      const [batch] = await batches(kit, "in_progress");
      expect([batch?.held, batch?.jobState, batch?.cancelledAt, batch?.sweepAt, batch?.duplicateJobs, batch?.cleanedAt]).toEqual([
        false,
        undefined,
        undefined,
        undefined,
        [],
        undefined,
      ]);
      const update = { held: true, jobState: "cancelled" as const, cancelledAt: kit.now + 1, sweepAt: kit.now + 2 };
      expect(await kit.update(batch!, { ...update, release: false })).toBe(true);
      expect(await kit.batch("b0")).toEqual({ ...batch!, ...update });
      expect(await kit.update(batch!, { held: false, release: false })).toBe(true);
      expect([(await kit.batch("b0")).held, (await kit.batch("b0")).jobState]).toEqual([false, "cancelled"]);
    });

    check("sweeps are due in any state, earliest first, for whom they concern", async ({ kit, store }) => {
      const [first, second, third] = await batches(kit, "sealed", "in_progress", "routing");
      await kit.update(first!, { sweepAt: kit.now + 30 });
      await kit.update(second!, { sweepAt: kit.now + 20, release: false });
      await kit.update(third!, { sweepAt: kit.now + 10, release: false });
      await end(kit, third!);
      const due = async (providers = ["test"], limit = 9): Promise<string[]> =>
        (await store.dueSweeps({ now: kit.now, providers, limit })).map(({ id }) => id);
      expect(await due()).toEqual([]);
      kit.now += 20;
      expect([await due(), await due(["other"]), await due(["other", "test"], 1)]).toEqual([["b2", "b1"], [], ["b2"]]);
      await store.updateSweep({ batch: "b2", update: { sweepAt: null, cleanedAt: kit.now } });
      kit.now += 10;
      expect(await due()).toEqual(["b1", "b0"]);
      const { state, cleanedAt, sweepAt } = await kit.batch("b2");
      expect([state, cleanedAt, sweepAt]).toEqual(["failed", kit.now - 10, undefined]);
    });

    check("a sweep changes a batch that another worker has, and only what it names", async ({ kit, store }) => {
      const [batch] = await batches(kit, "in_progress");
      await store.updateSweep({ batch: "b0", update: { sweepAt: kit.now + 5 } });
      await store.updateSweep({ batch: "none", update: { sweepAt: 1 } });
      expect(await kit.batch("b0")).toEqual({ ...batch!, sweepAt: kit.now + 5 });
      expect(await kit.update(batch!, { state: "routing", release: false })).toBe(true);
      expect((await kit.batch("b0")).sweepAt).toBe(kit.now + 5);
    });

    check("duplicate jobs are counted once a name, for good", async ({ kit, store }) => {
      await batches(kit, "in_progress", "in_progress");
      const count = async (): Promise<number> => (await store.stats()).duplicateJobs;
      expect(await count()).toBe(0);
      await store.updateSweep({ batch: "b0", update: { sweepAt: kit.now, duplicateJobs: ["batches/1", "batches/2"] } });
      await store.updateSweep({ batch: "b0", update: { sweepAt: null, duplicateJobs: ["batches/2", "batches/3", "batches/3"] } });
      await store.updateSweep({ batch: "b0", update: { sweepAt: null } });
      await store.updateSweep({ batch: "b1", update: { sweepAt: null, duplicateJobs: ["batches/4"] } });
      expect((await kit.batch("b0")).duplicateJobs).toEqual(["batches/1", "batches/2", "batches/3"]);
      expect(await count()).toBe(4);
    });
  });

  describe("held batches", () => {
    check("a held batch is still looked after, and goes on when somebody says so", async ({ kit, store }) => {
      const [first] = await batches(kit, "launching", "launching");
      await kit.update(first!, { held: true, dueAt: kit.now + 500 });
      expect((await store.listBatches({ held: true })).items.map(({ id }) => id)).toEqual(["b0"]);
      expect((await store.listBatches({ held: false })).items.map(({ id }) => id)).toEqual(["b1"]);
      expect(await kit.claimBatches(["launching"])).toEqual([]);
      expect(await store.releaseBatches({ now: kit.now, ids: ["b0", "b1", "none"] })).toEqual(["b0"]);
      expect(await store.releaseBatches({ now: kit.now, ids: ["b0"] })).toEqual([]);
      const [again] = await kit.claimBatches(["launching"]);
      expect([again?.id, again?.held, again?.dueAt, again?.state]).toEqual(["b0", false, kit.now, "launching"]);
    });

    check("a held batch that is in hand keeps its worker", async ({ kit, store }) => {
      const [first] = await batches(kit, "launching");
      await kit.update(first!, { held: true, release: false });
      expect(await store.releaseBatches({ now: kit.now, ids: ["b0"] })).toEqual(["b0"]);
      expect(await kit.update(first!, { state: "in_progress" })).toBe(true);
      expect((await kit.batch("b0")).held).toBe(false);
    });

    check("a batch that has ended is not released", async ({ kit, store }) => {
      const [first] = await batches(kit, "launching");
      await kit.update(first!, { held: true, release: false });
      await end(kit, first!);
      expect(await store.releaseBatches({ now: kit.now, ids: ["b0"] })).toEqual([]);
    });
  });

  describe("a hint that a job ended", () => {
    check("batches in progress that nobody holds become due", async ({ kit, store }) => {
      await kit.beat("w2");
      const [waits, inHand, orphaned, launching, due] = await batches(
        kit,
        "in_progress",
        "in_progress",
        "in_progress",
        "launching",
        "in_progress",
      );
      await kit.update(waits!, { dueAt: kit.now + 99 });
      await kit.update(inHand!, { dueAt: kit.now + 99, release: false });
      await kit.update(launching!, { dueAt: kit.now + 99 });
      await kit.update(due!, {});
      await kit.update(orphaned!, { dueAt: kit.now });
      const [theirs] = await kit.claimBatches(["in_progress"], "w2", 1);
      expect(theirs?.id).toBe("b2");
      await kit.update(theirs!, { dueAt: kit.now + 99, release: false });
      expect(await store.hastenBatches({ now: kit.now, providers: ["other"] })).toBe(0);
      expect(await store.hastenBatches({ now: kit.now, providers: ["other", "test"] })).toBe(1);
      const dueAt = async (): Promise<number[]> =>
        Promise.all(["b0", "b1", "b2", "b3", "b4"].map(async (id) => (await kit.batch(id)).dueAt - kit.now));
      expect(await dueAt()).toEqual([0, 99, 99, 99, 0]);
      // A worker whose lease ran out holds nothing.
      await kit.update(inHand!, { dueAt: kit.now + 2 * leaseMs, release: false });
      kit.now += leaseMs;
      await kit.update(theirs!, { dueAt: kit.now + 99 });
      expect(await store.hastenBatches({ now: kit.now, providers: ["test"] })).toBe(2);
      expect(await dueAt()).toEqual([-leaseMs, 0, 0, 99 - leaseMs, -leaseMs]);
    });
  });

  describe("lists of batches", () => {
    check("by lane", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0"), request("q1", { lane: flexLane })]);
      await kit.answer(await kit.routing("b0"), failed("no"));
      await kit.form("b1", { lane: flexLane });
      const ids = async (filter: Parameters<typeof store.listBatches>[0]): Promise<string[]> =>
        (await store.listBatches(filter)).items.map(({ id }) => id);
      expect([await ids({ lane }), await ids({ lane: flexLane })]).toEqual([["b0"], ["b1"]]);
      expect([await ids({ lane: { ...lane, model: "none" } }), await ids({ lane, active: false })]).toEqual([[], []]);
    });
  });
}
