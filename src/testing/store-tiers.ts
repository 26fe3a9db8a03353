import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { autoLane, failure, flexLane, lane, newRun, otherLane, paid, request, standardLane, succeeded } from "./store-kit.ts";

type Kit = StoreContext["kit"];

const asks = (count: number, over: Parameters<typeof request>[1] = {}) => Array.from({ length: count }, (_, i) => request(`q${i}`, over));

/** Brings a batch of one lane to where it is in progress. */
async function inProgress(kit: Kit, id: string, over: Parameters<Kit["form"]>[1] = {}): Promise<void> {
  await kit.form(id, over);
  const batch = (await kit.claimBatches(["sealed"])).find((item) => item.id === id)!;
  for (const state of ["launching", "in_progress"] as const) await kit.update(batch, { state, release: false });
}

export function testTiers({ describe, check, expect }: StoreSuite): void {
  describe("tiers", () => {
    check("each tier of a lane has its own queue, and the batch tier has no name", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0"), request("q1", { lane: flexLane }), request("q2", { lane: autoLane })]);
      expect((await kit.requests("a")).map((item) => item.lane)).toEqual([lane, flexLane, autoLane]);
      const { lanes } = await store.activity({ now: kit.now, chains: [] });
      expect(lanes.map((item) => [item.lane.tier, item.queued])).toEqual([
        [undefined, 1],
        ["flex", 1],
        ["auto", 1],
      ]);
      const batch = await kit.form("b1", { lane: flexLane });
      expect([batch?.lane, batch?.requestCount, await kit.form("b2", { lane: standardLane })]).toEqual([flexLane, 1, undefined]);
      expect((await kit.form("b2"))?.lane).toEqual(lane);
    });

    check("queued requests move to another lane, oldest first, as they are", async ({ kit, store }) => {
      const { now } = kit;
      await kit.waiting("a", [request("q0", { lane: autoLane, usd: 0.5 })]);
      kit.now += 10;
      await kit.waiting("b", [request("q1", { lane: autoLane, priority: 9 }), request("q2", { lane: autoLane })]);
      const move = (limit: number) => store.moveQueued({ now: kit.now, from: autoLane, to: flexLane, limit, reason: "a narrow tail" });
      expect(await move(2)).toBe(2);
      const [q0] = await kit.requests("a");
      const [q1, q2] = await kit.requests("b");
      expect([q0?.lane, q1?.lane, q2?.lane]).toEqual([flexLane, flexLane, autoLane]);
      expect([q0?.attempt, q0?.availableAt, q0?.tierReason, q2?.tierReason]).toEqual([1, now, "a narrow tail", undefined]);
      expect([(await kit.lane(flexLane))?.queued, (await kit.lane(flexLane))?.usd, (await kit.lane(flexLane))?.priority]).toEqual([
        2, 0.5, 9,
      ]);
      expect([(await kit.lane(flexLane))?.oldestAt, (await kit.lane(autoLane))?.queued]).toEqual([now, 1]);
      expect([await move(9), await move(9)]).toEqual([1, 0]);
      expect(await kit.lane(autoLane)).toBe(undefined);
      expect((await kit.form("b1", { lane: flexLane }))?.requestCount).toBe(3);
      expect(await store.moveQueued({ now: kit.now, from: otherLane, to: lane, limit: 9, reason: "none" })).toBe(0);
    });

    check("a delayed request moves when it is due", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { lane: autoLane })]);
      const params = { from: autoLane, to: lane, limit: 9, reason: "r" };
      const batch = await kit.routing("b1", { lane: autoLane });
      await kit.settleRest(batch, { type: "release", availableAt: kit.now + 50 });
      expect(await store.moveQueued({ ...params, now: kit.now })).toBe(0);
      kit.now += 50;
      expect(await store.moveQueued({ ...params, now: kit.now })).toBe(1);
      expect([await kit.queued(), await kit.lane(autoLane)]).toEqual([1, undefined]);
    });

    check("a result may send a request to another tier, whatever its attempts", async ({ kit }) => {
      await kit.waiting("a", [request("q", { lane: flexLane, maxAttempts: 1 })]);
      const batch = await kit.routing("b1", { lane: flexLane });
      await kit.answer(batch, { type: "move", tier: "batch", reason: "shed", availableAt: kit.now });
      const [item] = await kit.requests("a");
      expect([item?.lane, item?.state, item?.attempt, item?.tierReason, item?.batch]).toEqual([lane, "queued", 2, "shed", undefined]);
      expect([await kit.queued(), await kit.lane(flexLane), (await kit.batch("b1")).counts.requeued]).toEqual([1, undefined, 1]);
      const next = await kit.routing("b2");
      expect((await kit.members("b2"))[0]?.attempt).toBe(2);
      await kit.answer(next, { type: "move", tier: "standard", reason: "late", availableAt: kit.now + 9 });
      expect([await kit.queued(standardLane), (await kit.lane(standardLane))?.nextAt]).toEqual([0, kit.now + 9]);
      kit.now += 9;
      expect(await kit.queued(standardLane)).toBe(1);
    });

    check("a request of a run that is over does not move", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { lane: flexLane })]);
      const batch = await kit.routing("b1", { lane: flexLane });
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      await kit.answer(batch, { type: "move", tier: "batch", reason: "shed", availableAt: kit.now });
      expect([await kit.requestStates("a"), await kit.queued()]).toEqual([["cancelled"], 0]);
    });

    check("an unfinished batch of a direct lane counts as routing", async ({ kit, store }) => {
      const routing = async (): Promise<boolean> => (await store.activity({ now: kit.now, chains: [] })).routing;
      await kit.waiting("a", [request("q0", { lane: flexLane }), request("q1"), request("q2", { lane: autoLane })]);
      await kit.form("b1");
      await kit.form("b2", { lane: autoLane });
      expect(await routing()).toBe(false);
      const batch = await kit.routing("b3", { lane: flexLane });
      expect(await routing()).toBe(true);
      await kit.answer(batch);
      await kit.update(batch, { state: "completed" });
      expect(await routing()).toBe(false);
    });
  });

  describe("quotas", () => {
    check("a lane that is answered directly counts its open requests", async ({ kit }) => {
      await kit.waiting("a", [...asks(9, { lane: flexLane }), request("s", { lane: standardLane }), request("b")]);
      expect((await kit.form("b1", { lane: flexLane, maxActive: 4 }))?.requestCount).toBe(4);
      expect(await kit.form("b2", { lane: flexLane, maxActive: 4 })).toBe(undefined);
      expect((await kit.form("b2", { lane: flexLane, maxActive: 6 }))?.requestCount).toBe(2);
      // Other lanes, direct or not, have a quota of their own.
      expect((await kit.form("b3", { lane: standardLane, maxActive: 1 }))?.requestCount).toBe(1);
      expect((await kit.form("b4", { maxActive: 1 }))?.requestCount).toBe(1);
      const batch = (await kit.claimBatches(["sealed"])).find(({ id }) => id === "b1")!;
      for (const state of ["launching", "in_progress", "routing"] as const) await kit.update(batch, { state, release: false });
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [
        { ...first!, result: succeeded("x") },
        { ...second!, result: { type: "move", tier: "batch", reason: "shed", availableAt: kit.now } },
      ]);
      // A request with its answer is not in use any more.
      expect((await kit.form("b5", { lane: flexLane, maxActive: 6 }))?.requestCount).toBe(2);
      expect(await kit.form("b6", { lane: flexLane, maxActive: 6 })).toBe(undefined);
    });

    check("any other counts batches of its provider whose job may be unfinished", async ({ kit }) => {
      await kit.waiting("a", [...asks(6), request("o", { lane: otherLane }), request("f", { lane: flexLane })]);
      await kit.form("f1", { lane: flexLane });
      const limits = { requests: 1 };
      await inProgress(kit, "b1", { limits, maxActive: 1 });
      expect(await kit.form("b2", { limits, maxActive: 1 })).toBe(undefined);
      expect(await kit.form("b2", { lane: otherLane, maxActive: 1 })).toBe(undefined);
      await kit.form("b2", { limits, maxActive: 2 });
      expect(await kit.form("b3", { limits, maxActive: 2 })).toBe(undefined);
      // A throttled batch has given its slot back.
      const [throttled] = await kit.claimBatches(["sealed"]);
      await kit.update(throttled!, { state: "launching", release: false });
      await kit.update(throttled!, { state: "sealed", failures: 1, dueAt: kit.now + 99 });
      expect((await kit.form("b3", { limits, maxActive: 2 }))?.id).toBe("b3");
      expect(await kit.form("b4", { limits, maxActive: 2 })).toBe(undefined);
      // A batch whose answers are routed has no job that is unfinished.
      const running = await kit.batch("b1");
      await kit.update(running, { state: "routing", release: false });
      expect((await kit.form("b4", { limits, maxActive: 2 }))?.id).toBe("b4");
    });

    check("a batch that is being formed goes on within its own quota", async ({ kit }) => {
      await kit.waiting("a", asks(5, { lane: flexLane }));
      expect((await kit.form("b1", { lane: flexLane, maxActive: 4, chunk: 3 }))?.state).toBe("forming");
      const batch = await kit.form("b1", { lane: flexLane, maxActive: 4, chunk: 3 });
      expect([batch?.state, batch?.requestCount]).toEqual(["sealed", 4]);
    });
  });

  describe("deadlines", () => {
    const due = async (kit: Kit): Promise<unknown[]> =>
      (await kit.store.dueDeadlines({ now: kit.now, limit: 9 })).map((item) => [
        item.lane,
        item.deadlineAt - kit.now,
        item.batch,
        item.attempt,
      ]);
    const nextAt = async (kit: Kit): Promise<number | undefined> => (await kit.timers()).nextDeadlineAt;

    check("a new request with a deadline is to be looked at, until it is decided", async ({ kit, store }) => {
      const deadlineAt = kit.now + 1_000;
      await kit.waiting("a", [request("q0"), request("q1", { deadlineAt })]);
      expect(await due(kit)).toEqual([[lane, 1_000, undefined, 1]]);
      expect(await nextAt(kit)).toBe(kit.now);
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const decide = (checkAt: number | undefined) => store.decideDeadlines({ now: kit.now, decisions: [{ ...item!, checkAt }] });
      expect(await decide(kit.now + 500)).toBe(0);
      expect([await due(kit), await nextAt(kit)]).toEqual([[], kit.now + 500]);
      kit.now += 500;
      expect((await due(kit)).length).toBe(1);
      await decide(undefined);
      expect([await due(kit), await nextAt(kit), (await kit.requests("a"))[1]?.deadlineAt]).toEqual([[], undefined, deadlineAt]);
    });

    check("what is to be looked at first comes first, in portions", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0", { deadlineAt: kit.now + 90 }), request("q1", { deadlineAt: kit.now + 80 })]);
      const items = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const decisions = items.map((item) => ({ ...item, checkAt: item.deadlineAt }));
      await store.decideDeadlines({ now: kit.now, decisions });
      kit.now += 90;
      expect((await store.dueDeadlines({ now: kit.now, limit: 9 })).map(({ deadlineAt }) => deadlineAt - kit.now)).toEqual([-10, 0]);
      expect((await store.dueDeadlines({ now: kit.now, limit: 1 })).length).toBe(1);
    });

    check("a queued request leaves its queue for another tier", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { deadlineAt: kit.now + 9, maxAttempts: 1, usd: 0.5 })]);
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const decision = { ...item!, checkAt: kit.now + 4, move: { tier: "flex" as const, reason: "too late for a job" } };
      expect(await store.decideDeadlines({ now: kit.now, decisions: [decision, decision] })).toBe(1);
      const [moved] = await kit.requests("a");
      expect([moved?.lane, moved?.state, moved?.attempt, moved?.tierReason]).toEqual([flexLane, "queued", 2, "too late for a job"]);
      expect([await kit.lane(), (await kit.lane(flexLane))?.queued, (await kit.lane(flexLane))?.usd]).toEqual([undefined, 1, 0.5]);
      expect(await nextAt(kit)).toBe(kit.now + 4);
      await kit.answer(await kit.routing("b1", { lane: flexLane }), paid("x", 0.25));
      expect([await kit.requestStates("a"), await nextAt(kit)]).toEqual([["succeeded"], undefined]);
    });

    check("a decision for what has moved on changes nothing", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { deadlineAt: kit.now + 9 })]);
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const move = { tier: "flex" as const, reason: "r" };
      const wrong = [
        { ...item!, attempt: 2 },
        { ...item!, batch: "b1" },
        { ...item!, lane: otherLane },
        { ...item!, id: "zz-0" },
      ];
      await store.decideDeadlines({ now: kit.now, decisions: wrong.map((other) => ({ ...other, checkAt: undefined, move })) });
      await kit.form("b1");
      await store.decideDeadlines({ now: kit.now, decisions: [{ ...item!, checkAt: undefined, move }] });
      expect((await due(kit)).length).toBe(1);
      expect([await kit.requestStates("a"), await kit.queued(flexLane)]).toEqual([["batched"], 0]);
      expect(await due(kit)).toEqual([[lane, 9, "b1", 1]]);
    });

    check("a row of a job that is given up is paid once when it comes, and delivered to nobody", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { deadlineAt: kit.now + 9 })]);
      const batch = await kit.routing("b1");
      const [row] = await kit.members("b1");
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const move = { tier: "flex" as const, reason: "r" };
      expect(await store.decideDeadlines({ now: kit.now, decisions: [{ ...item!, checkAt: undefined, move }] })).toBe(1);
      expect([(await kit.batch("b1")).counts.requeued, await kit.members("b1"), await kit.queued(flexLane)]).toEqual([1, [], 1]);
      await kit.answer(await kit.routing("b2", { lane: flexLane }), paid("in time", 0.5));
      const late = { ...row!, result: paid("late", 0.25) };
      expect(await kit.settle(batch, [late])).toEqual({ settled: 0, duplicate: 1, unknown: 0 });
      expect(await kit.settle(batch, [late, late])).toEqual({ settled: 0, duplicate: 2, unknown: 0 });
      expect((await kit.history("a"))[0]?.value).toBe('{"text":"in time"}');
      const sum = { usd: 0.75, standardUsd: 1.5, unpriced: 0 };
      expect([(await kit.run("a")).cost, (await kit.requests("a"))[0]?.cost]).toEqual([sum, sum]);
      expect([(await kit.batch("b1")).cost.usd, (await kit.batch("b2")).cost.usd]).toEqual([0.25, 0.5]);
      expect((await store.spend({})).map((day) => [day.lane, day.answers, day.usd])).toEqual([
        [lane, 1, 0.25],
        [flexLane, 1, 0.5],
      ]);
      expect(await kit.update(batch, { state: "completed" })).toBe(true);
    });

    check("nobody looks at what settled or was withdrawn", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0", { deadlineAt: kit.now + 9 }), request("q1", { deadlineAt: kit.now + 9 })]);
      await kit.form("b1", { limits: { requests: 1 } });
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      expect([await due(kit), await nextAt(kit)]).toEqual([[], undefined]);
      await kit.waiting("b", [request("q", { deadlineAt: kit.now + 9 })]);
      await kit.answer(await kit.routing("b2"), { type: "failed", error: failure("no") });
      expect([await due(kit), await nextAt(kit)]).toEqual([[], undefined]);
    });

    check("a failed run's requests are in a hurry again with its retry", async ({ kit, store }) => {
      const deadlineAt = kit.now + 9;
      await kit.waiting("a", [request("q0", { deadlineAt }), request("q1", { deadlineAt })]);
      await kit.form("b1", { limits: { requests: 1 } });
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
      await kit.commit(await kit.claimOne(), { firstNo: 2, outcome: { type: "failed", error: failure("f") } });
      expect(await due(kit)).toEqual([]);
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      expect((await due(kit)).length).toBe(2);
    });

    check("a run that is started hurries as its starter does, unless it says otherwise", async ({ kit }) => {
      await kit.start(newRun("parent", { deadlineAt: kit.now + 50 }));
      const own = newRun("own", { deadlineAt: kit.now + 7 });
      const handler = newRun("h", { kind: "handler", request: request("q") });
      await kit.commit(await kit.claimOne(), { entries: [request("q")], starts: [newRun("kid"), own, handler] });
      expect([(await kit.run("kid")).deadlineAt, (await kit.run("own")).deadlineAt]).toEqual([kit.now + 50, kit.now + 7]);
      expect((await kit.requests("h"))[0]?.deadlineAt).toBe(kit.now + 50);
      expect((await kit.claim()).map((run) => run.deadlineAt)).toEqual([kit.now + 50, kit.now + 7]);
    });
  });
}
