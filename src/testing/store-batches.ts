import type { StoreSuite } from "./store-suite.ts";
import { failure, lane, leaseMs, newRun, otherLane, request } from "./store-kit.ts";

export function testBatches({ describe, check, expect, rejects }: StoreSuite): void {
  describe("forming batches", () => {
    check("activity shows what is queued in each lane", async ({ kit, store }) => {
      expect((await store.activity({ now: kit.now, chains: [] })).lanes).toEqual([]);
      const startedAt = kit.now;
      await kit.waiting("a", [
        request("q1"),
        request("q2", { bytes: 250, tokens: 25, usd: 0.5, priority: 7 }),
        request("q3", { lane: otherLane, usd: 0.25, priority: -1 }),
      ]);
      kit.now += 40;
      await kit.waiting("b", [request("q4")]);
      const { lanes } = await store.activity({ now: kit.now, chains: [] });
      const sorted = lanes.toSorted((a, b) => (a.lane.model < b.lane.model ? -1 : 1));
      expect(sorted).toEqual([
        {
          lane,
          queued: 3,
          bytes: 450,
          tokens: 45,
          usd: 0.5,
          unpriced: 2,
          isolated: 0,
          priority: 7,
          oldestAt: startedAt,
          nextAt: undefined,
        },
        {
          lane: otherLane,
          queued: 1,
          bytes: 100,
          tokens: 10,
          usd: 0.25,
          unpriced: 0,
          isolated: 0,
          priority: -1,
          oldestAt: startedAt,
          nextAt: undefined,
        },
      ]);
    });

    check("a batch takes all of its lane and nothing else", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2", { lane: otherLane }), request("q3")]);
      const batch = await kit.form("batch-1");
      expect([batch?.state, batch?.lane, batch?.requestCount, batch?.bytes, batch?.tokens]).toEqual(["sealed", lane, 2, 200, 20]);
      expect([batch?.createdAt, batch?.sealedAt]).toEqual([kit.now, kit.now]);
      expect(await kit.requestStates("a")).toEqual(["batched", "queued", "batched"]);
      expect([await kit.queued(), await kit.queued(otherLane)]).toEqual([0, 1]);
      expect((await kit.requests("a")).map((item) => item.batch)).toEqual(["batch-1", undefined, "batch-1"]);
    });

    check("nothing queued: no batch", async ({ kit, store }) => {
      expect(await kit.form("batch-1")).toBe(undefined);
      await kit.waiting("a", [request("q", { lane: otherLane })]);
      expect([await kit.form("batch-1"), await store.getBatch({ id: "batch-1" })]).toEqual([undefined, undefined]);
    });

    check("each limit seals a batch", async ({ kit }) => {
      await kit.waiting(
        "a",
        Array.from({ length: 9 }, (_, i) => request(`q${i}`)),
      );
      for (const [id, limits, count] of [
        ["by-count", { requests: 2 }, 2],
        ["by-bytes", { bytes: 350 }, 3],
        ["by-tokens", { tokens: 30 }, 3],
      ] as const) {
        const batch = await kit.form(id, { limits });
        expect([batch?.state, batch?.requestCount]).toEqual(["sealed", count]);
      }
      expect(await kit.queued()).toBe(1);
    });

    check("one request always fits", async ({ kit }) => {
      await kit.waiting("a", [request("big", { bytes: 5_000, tokens: 5_000 }), request("q")]);
      const batch = await kit.form("batch-1", { limits: { bytes: 10, tokens: 10 } });
      expect([batch?.state, batch?.requestCount]).toEqual(["sealed", 1]);
      expect((await kit.form("batch-2"))?.requestCount).toBe(1);
    });

    check("the highest priority goes first, within it the oldest", async ({ kit }) => {
      await kit.start(newRun("late"), newRun("early"));
      const [late, early] = await kit.claim();
      await kit.commit(early!, { entries: [request("early"), request("urgent", { priority: 5 })] });
      kit.now += 10;
      await kit.commit(late!, { entries: [request("late"), request("urgent too", { priority: 5 })] });
      const order: string[] = [];
      for (let i = 0; i < 4; i += 1) {
        await kit.form(`batch-${i}`, { limits: { requests: 1 } });
        const [member] = await kit.members(`batch-${i}`);
        order.push((JSON.parse(member!.body) as { ask: string }).ask);
      }
      expect(order).toEqual(["urgent", "urgent too", "early", "late"]);
    });

    check("a big batch is formed in chunks, and belongs to its worker until it is sealed", async ({ kit }) => {
      await kit.beat("w2");
      await kit.waiting(
        "a",
        Array.from({ length: 5 }, (_, i) => request(`q${i}`)),
      );
      expect((await kit.form("batch-1", { chunk: 2 }))?.state).toBe("forming");
      expect(await kit.form("batch-1", { chunk: 2, worker: "w2" })).toBe(undefined);
      expect(await kit.claimBatches(["forming"], "w2")).toEqual([]);
      expect((await kit.form("batch-1", { chunk: 2 }))?.requestCount).toBe(4);
      const batch = await kit.form("batch-1", { chunk: 2 });
      expect([batch?.state, batch?.requestCount]).toEqual(["sealed", 5]);
      const again = await kit.form("batch-1", { chunk: 2 });
      expect([again?.state, again?.requestCount]).toEqual(["sealed", 5]);
    });

    check("a half formed batch of a dead worker is finished by another", async ({ kit }) => {
      await kit.waiting(
        "a",
        Array.from({ length: 3 }, (_, i) => request(`q${i}`)),
      );
      const half = await kit.form("batch-1", { chunk: 2 });
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      const batch = await kit.form("batch-1", { worker: "w2" });
      expect([batch?.state, batch?.requestCount, batch!.epoch > half!.epoch]).toEqual(["sealed", 3, true]);
      expect((await kit.claimBatches(["sealed"], "w2")).length).toBe(1);
    });

    check("no more batches than may be active", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2"), request("q3", { lane: otherLane })]);
      await kit.form("batch-1", { limits: { requests: 1 }, maxActive: 1 });
      expect(await kit.form("batch-2", { maxActive: 1 })).toBe(undefined);
      expect(await kit.form("batch-2", { lane: otherLane, maxActive: 1 })).toBe(undefined);
      expect((await kit.form("batch-2", { maxActive: 2 }))?.state).toBe("sealed");
      expect((await store.activeBatches()).length).toBe(2);
      expect(await kit.queued(otherLane)).toBe(1);
    });

    check("members come in a fixed order, page by page", async ({ kit }) => {
      await kit.waiting(
        "a",
        Array.from({ length: 5 }, (_, i) => request(`q${i}`)),
      );
      await kit.form("batch-1");
      const all = await kit.members("batch-1");
      expect([all.length, new Set(all.map(({ id }) => id)).size, all[0]?.attempt]).toEqual([5, 5, 1]);
      expect(all.every(({ id }) => /^[a-z0-9-]+$/.test(id))).toBe(true);
      const first = await kit.members("batch-1", undefined, 2);
      const rest = await kit.members("batch-1", first[1]!.id);
      expect([...first, ...rest]).toEqual(all);
      expect(await kit.members("none")).toEqual([]);
    });
  });

  describe("batches in hand", () => {
    check("a batch is claimed when it is due, by one worker, oldest first", async ({ kit }) => {
      await kit.beat("w2");
      await kit.waiting("a", [request("q1"), request("q2"), request("q3")]);
      for (const id of ["b1", "b2", "b3"]) await kit.form(id, { limits: { requests: 1 } });
      expect(await kit.claimBatches(["in_progress"])).toEqual([]);
      const [first, ...others] = await kit.claimBatches(["sealed"], "w1", 1);
      expect([first?.id, others]).toEqual(["b1", []]);
      expect((await kit.claimBatches(["sealed", "launching"], "w2")).map(({ id }) => id)).toEqual(["b2", "b3"]);
      expect(await kit.claimBatches(["sealed"])).toEqual([]);
      expect(await kit.update(first!, { dueAt: kit.now + 50 })).toBe(true);
      expect(await kit.claimBatches(["sealed"])).toEqual([]);
      kit.now += 50;
      const [again] = await kit.claimBatches(["sealed"]);
      expect([again?.id, again?.epoch]).toEqual(["b1", first!.epoch + 1]);
    });

    check("a claim keeps to the providers that it names", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      await kit.form("b1");
      const params = { worker: "w1", now: kit.now, states: ["sealed" as const], limit: 9 };
      expect(await store.claimBatches({ ...params, providers: ["another"] })).toEqual([]);
      expect((await store.claimBatches({ ...params, providers: ["another", "test"] })).length).toBe(1);
    });

    check("an update changes what it names, and keeps the claim if it should", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      await kit.form("b1");
      const [batch] = await kit.claimBatches(["sealed"]);
      const launching = {
        state: "launching" as const,
        staged: { ref: "files/1", expiresAt: 5 },
        launchAttempts: 1,
        intentAt: 11,
        launchDeadlineAt: 12,
        failures: 2,
        error: failure("first"),
      };
      expect(await kit.update(batch!, { ...launching, release: false })).toBe(true);
      const { release: _, ...launched } = {
        state: "in_progress" as const,
        job: "batches/1",
        rawStatus: "RUNNING",
        launchedAt: 13,
        release: true,
      };
      expect(await kit.update(batch!, launched)).toBe(true);
      expect({ ...(await kit.batch("b1")) }).toEqual({ ...batch!, ...launching, ...launched });
      expect(await kit.update(batch!, { failures: 0 })).toBe(false);
      const [again] = await kit.claimBatches(["in_progress"]);
      expect(await kit.update(again!, { staged: null, state: "routing", finishedAt: 14, output: "files/2", release: false })).toBe(true);
      const { staged, finishedAt, output, launchAttempts } = await kit.batch("b1");
      expect([staged, finishedAt, output, launchAttempts]).toEqual([undefined, 14, "files/2", 1]);
    });

    check("an older epoch updates, settles and sweeps nothing", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const stale = await kit.routing("b1");
      await kit.update(stale, {});
      const [fresh] = await kit.claimBatches(["routing"]);
      const [member] = await kit.members("b1");
      expect(await kit.update(stale, { failures: 9 })).toBe(false);
      expect(await kit.settle(stale, [{ ...member!, result: { type: "failed", error: failure("no") } }])).toBe(undefined);
      expect(await kit.settleRest(stale, { type: "failed", error: failure("no") })).toBe(undefined);
      expect(await kit.batch("b1")).toEqual(fresh);
      expect(await store.updateBatch({ batch: "none", epoch: 1, now: kit.now, update: {} })).toBe(false);
    });

    check("a batch moves along its states only", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      await kit.form("b1");
      const [batch] = await kit.claimBatches(["sealed"]);
      for (const state of ["routing", "in_progress", "completed", "forming"] as const) {
        expect([state, await kit.update(batch!, { state, release: false })]).toEqual([state, false]);
      }
      expect(await kit.update(batch!, { state: "launching", release: false })).toBe(true);
      expect(await kit.update(batch!, { state: "sealed", release: false })).toBe(true);
      expect((await kit.batch("b1")).state).toBe("sealed");
    });

    check("a batch cannot end before each of its requests has its result", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("b1");
      await rejects(kit.update(batch, { state: "completed" }));
      await kit.answer(batch);
      kit.now += 3;
      expect(await kit.update(batch, { state: "completed" })).toBe(true);
      const { state, endedAt } = await kit.batch("b1");
      expect([state, endedAt, await store.activeBatches()]).toEqual(["completed", kit.now, []]);
      expect(await kit.claimBatches(["completed"])).toEqual([]);
    });

    check("routing shows as activity until it is over", async ({ kit, store }) => {
      const routing = async (): Promise<boolean> => (await store.activity({ now: kit.now, chains: [] })).routing;
      await kit.waiting("a", [request("q")]);
      await kit.form("b1");
      expect(await routing()).toBe(false);
      const [batch] = await kit.claimBatches(["sealed"]);
      for (const state of ["launching", "in_progress"] as const) await kit.update(batch!, { state, release: false });
      expect(await routing()).toBe(false);
      await kit.update(batch!, { state: "routing", release: false });
      expect(await routing()).toBe(true);
      await kit.answer(batch!);
      await kit.update(batch!, { state: "completed" });
      expect(await routing()).toBe(false);
    });
  });
}
