import type { ClaimedRun } from "../core/store.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { child, failed, failure, lane, newRun, request, sleep, step, succeeded } from "./store-kit.ts";

type Kit = StoreContext["kit"];

/** A parent that waits for `kid`, which is in hand. */
async function family(kit: Kit, parentEntries = [child("c")]): Promise<{ parent: ClaimedRun; kid: ClaimedRun }> {
  await kit.start(newRun("parent"));
  const parent = await kit.claimOne();
  await kit.commit(parent, { entries: parentEntries, starts: [newRun("kid", { parent: { run: "parent", key: "c" } })] });
  return { parent, kid: await kit.claimOne() };
}

const done = { type: "completed" as const, output: '"done"' };
const broken = { type: "failed" as const, error: failure("broken") };

export function testEnds({ describe, check, expect }: StoreSuite): void {
  describe("how runs end", () => {
    check("a completed run has its output and its end", async ({ kit, store }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      expect(await store.hasLiveRuns()).toBe(true);
      kit.now += 5;
      expect((await kit.commit(run, { entries: [step("s")], outcome: done })).state).toBe("completed");
      const { state, output, endedAt, error } = await kit.run("a");
      expect([state, output, endedAt, error]).toEqual(["completed", "done", kit.now, undefined]);
      expect(await store.hasLiveRuns()).toBe(false);
      expect(await kit.commit(run, { outcome: broken })).toEqual({ state: "lost" });
    });

    check("a failed run has its error", async ({ kit }) => {
      await kit.start(newRun("a"));
      expect((await kit.commit(await kit.claimOne(), { outcome: broken })).state).toBe("failed");
      const { state, error, output } = await kit.run("a");
      expect([state, error, output]).toEqual(["failed", failure("broken"), undefined]);
    });

    check("a run that ends withdraws its queued requests, also those of its last turn", async ({ kit, store }) => {
      const run = await kit.waiting("a", [request("q1"), request("q2")]);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: run.epoch }] });
      await kit.commit(await kit.claimOne(), { firstNo: 2, entries: [request("q3")], outcome: done });
      expect(await kit.requestStates("a")).toEqual(["cancelled", "cancelled", "cancelled"]);
      expect([await kit.queued(), await kit.form("batch-1")]).toEqual([0, undefined]);
    });

    check("answers for a run that is over are counted and change nothing", async ({ kit, store }) => {
      const run = await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("batch-1");
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: run.epoch }] });
      await kit.commit(await kit.claimOne(), { firstNo: 2, outcome: done });
      expect(await kit.requestStates("a")).toEqual(["batched", "batched"]);
      await kit.answer(batch);
      expect(await kit.requestStates("a")).toEqual(["cancelled", "cancelled"]);
      expect([await kit.state("a"), (await kit.batch("batch-1")).counts.cancelled]).toEqual(["completed", 2]);
      // They were billed all the same.
      expect((await store.stats()).usage[0]?.answers).toBe(2);
    });

    check("sleeps of a run that is over ring no more", async ({ kit, store }) => {
      await kit.waiting("a", [sleep("s", kit.now + 10)]);
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      expect((await kit.timers()).nextTimerAt).toBe(undefined);
      expect(await store.fireTimers({ now: kit.now + 10, limit: 10 })).toBe(0);
    });

    check("sleeps of a failed run ring for its retry, also those of its last turn", async ({ kit, store }) => {
      await kit.waiting("a", [sleep("s1", kit.now + 10)]);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
      await kit.commit(await kit.claimOne(), { firstNo: 1, entries: [sleep("s2", kit.now + 20)], outcome: broken });
      kit.now += 20;
      expect(await store.fireTimers({ now: kit.now, limit: 10 })).toBe(2);
      expect(await kit.state("a")).toBe("failed");
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      expect((await kit.claimOne()).seq).toBe(2);
    });

    check("a child tells its parent how it ended, whatever the parent does meanwhile", async ({ kit }) => {
      const { parent, kid } = await family(kit, [child("c"), request("q")]);
      await kit.answer(await kit.routing("batch-1"));
      const again = await kit.claimOne();
      expect(again.id).toBe("parent");
      await kit.commit(kid, { outcome: broken });
      expect(await kit.state("parent")).toBe("running");
      // It knew of one settlement; now there are two.
      expect(await kit.commit(again, { firstNo: 2 })).toEqual({ state: "runnable", seq: 2 });
      expect((await kit.history("parent"))[0]?.error).toEqual(failure("broken"));
      expect(parent.epoch + 1).toBe(again.epoch);
    });

    check("a child that ends before a runnable, held or retried parent looks is not lost", async ({ kit, store }) => {
      const { parent, kid } = await family(kit, [child("c"), request("q")]);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "parent", epoch: parent.epoch }] });
      await kit.commit(kid, { outcome: done });
      expect((await kit.claimOne()).seq).toBe(1);
    });

    check("a held parent stays held when its child ends", async ({ kit }) => {
      const { kid } = await family(kit, [child("c"), request("q")]);
      await kit.answer(await kit.routing("batch-1"));
      await kit.commit(await kit.claimOne(), { firstNo: 2, outcome: { type: "held", error: failure("differs") } });
      await kit.commit(kid, { outcome: done });
      expect([await kit.state("parent"), (await kit.history("parent")).map(({ seq }) => seq)]).toEqual(["held", [2, 1]]);
    });

    check("a child whose parent is over just ends", async ({ kit, store }) => {
      const { kid } = await family(kit);
      await store.cancelRuns({ now: kit.now, ids: ["parent"] });
      expect((await kit.commit(kid, { outcome: done })).state).toBe("completed");
      expect(await kit.states("parent", "kid")).toEqual(["cancelled", "completed"]);
    });

    check("a cancelled child tells its parent so", async ({ kit, store }) => {
      await kit.start(newRun("parent"));
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts: [newRun("kid", { parent: { run: "parent", key: "c" } })] });
      await store.cancelRuns({ now: kit.now, ids: ["kid"] });
      expect([await kit.state("parent"), (await kit.history("parent"))[0]?.error?.code]).toEqual(["runnable", "run_cancelled"]);
    });

    check("a child that has ended already answers at once", async ({ kit }) => {
      await kit.start(newRun("kid"));
      await kit.commit(await kit.claimOne(), { outcome: done });
      await kit.start(newRun("parent"));
      const start = newRun("kid", { parent: { run: "parent", key: "c" } });
      const result = await kit.commit(await kit.claimOne(), { entries: [child("c")], starts: [start] });
      expect(result).toEqual({ state: "runnable", seq: 1 });
      expect((await kit.history("parent"))[0]?.value).toBe('"done"');
    });

    check("several parents may wait for one child", async ({ kit }) => {
      await kit.start(newRun("kid"), newRun("p1"), newRun("p2"));
      const [kid, ...parents] = await kit.claim();
      for (const parent of parents) {
        await kit.commit(parent, { entries: [child("c")], starts: [newRun("kid", { parent: { run: parent.id, key: "c" } })] });
      }
      expect(await kit.states("p1", "p2")).toEqual(["waiting", "waiting"]);
      await kit.commit(kid!, { outcome: done });
      expect(await kit.states("p1", "p2")).toEqual(["runnable", "runnable"]);
      expect((await kit.history("p2"))[0]?.value).toBe('"done"');
    });

    check("a child's id that stands for something else is told to the parent", async ({ kit }) => {
      await kit.start(newRun("kid"), newRun("parent"));
      const [kid, parent] = await kit.claim();
      const start = newRun("kid", { fingerprint: "another", parent: { run: "parent", key: "c" } });
      expect((await kit.commit(parent!, { entries: [child("c")], starts: [start] })).state).toBe("runnable");
      expect((await kit.history("parent"))[0]?.error?.code).toBe("run_conflict");
      await kit.commit(kid!, { outcome: done });
    });
  });

  describe("cancelling and retrying", () => {
    check("a run can be cancelled in every state that is not its end", async ({ kit, store }) => {
      await kit.waiting("waiting", [request("q")]);
      await kit.start(newRun("completed"), newRun("failed"), newRun("held"), newRun("running"), newRun("runnable"));
      for (const outcome of [done, broken, { type: "held" as const, error: failure("h") }])
        await kit.commit(await kit.claimOne(), { outcome });
      const running = await kit.claimOne();
      const ids = ["waiting", "completed", "failed", "held", "running", "runnable", "none"];
      expect(await store.cancelRuns({ now: kit.now, ids })).toEqual(["waiting", "held", "running", "runnable"]);
      expect(await store.cancelRuns({ now: kit.now, ids })).toEqual([]);
      expect(await kit.requestStates("waiting")).toEqual(["cancelled"]);
      expect(await kit.commit(running, { entries: [request("q")], starts: [newRun("late")], outcome: done })).toEqual({
        state: "cancelled",
        seq: 0,
      });
      expect(await kit.states(...ids)).toEqual(["cancelled", "completed", "failed", "cancelled", "cancelled", "cancelled", undefined]);
      expect([await kit.states("late"), await kit.queued(), (await kit.run("running")).error?.code]).toEqual([
        [undefined],
        0,
        "run_cancelled",
      ]);
    });

    check("a run that is to be cancelled ends with the commit that would wait or go on", async ({ kit, store }) => {
      for (const [id, type] of [
        ["a", "waiting"],
        ["b", "running"],
      ] as const) {
        await kit.start(newRun(id));
        const run = await kit.claimOne();
        await store.cancelRuns({ now: kit.now, ids: [id] });
        expect(await kit.commit(run, { entries: [request("q")], outcome: { type } })).toEqual({ state: "cancelled", seq: 0 });
        expect([await kit.state(id), await kit.queued()]).toEqual(["cancelled", 0]);
      }
    });

    check("a delayed retry of a cancelled run leaves its queue", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("batch-1");
      await kit.answer(batch, { type: "retry", availableAt: kit.now + 100, error: failure("busy") });
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      kit.now += 100;
      expect([await kit.queued(), await kit.requestStates("a")]).toEqual([0, ["cancelled"]]);
      expect((await store.activity({ now: kit.now, chains: [] })).lanes).toEqual([]);
    });

    check("a requeued answer of a cancelled run is dropped", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("batch-1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      const [first] = await kit.members("batch-1");
      await kit.settle(batch, [{ ...first!, result: { type: "retry", availableAt: kit.now, error: failure("busy") } }]);
      expect(await kit.settleRest(batch, { type: "release", availableAt: kit.now })).toBe(0);
      expect([await kit.requestStates("a"), await kit.queued()]).toEqual([["cancelled", "cancelled"], 0]);
    });

    check("a failed run that is retried asks its failed and withdrawn requests again, and keeps its answers", async ({ kit, store }) => {
      await kit.waiting("a", [request("good"), request("bad"), step("s")]);
      const batch = await kit.routing("batch-1");
      const [good, bad] = await kit.members("batch-1");
      await kit.settle(batch, [
        { ...good!, result: succeeded("kept") },
        { ...bad!, result: failed("refused") },
      ]);
      await kit.commit(await kit.claimOne(), { firstNo: 3, entries: [request("queued")], outcome: broken });
      expect(await kit.requestStates("a")).toEqual(["succeeded", "failed", "cancelled"]);
      kit.now += 10;
      expect(await store.retryRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      expect([await kit.requestStates("a"), await kit.queued()]).toEqual([["succeeded", "queued", "queued"], 2]);
      const { state, error, endedAt, attempts } = await kit.run("a");
      expect([state, error, endedAt, attempts]).toEqual(["runnable", undefined, undefined, 0]);
      const run = await kit.claimOne();
      expect((await kit.history("a")).map(({ key, value, error }) => [key, value, error])).toEqual([
        ["good", '{"text":"kept"}', undefined],
        ["bad", undefined, undefined],
        ["s", '"done"', undefined],
        ["queued", undefined, undefined],
      ]);
      expect((await kit.commit(run, { firstNo: 4 })).state).toBe("waiting");
      await kit.answer(await kit.routing("batch-2"));
      expect((await kit.commit(await kit.claimOne(), { firstNo: 4, outcome: done })).state).toBe("completed");
    });

    check("a run that failed over its only request waits for it again", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      await kit.answer(await kit.routing("batch-1"), failed("refused"));
      await kit.commit(await kit.claimOne(), { firstNo: 1, outcome: broken });
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      const run = await kit.claimOne();
      expect((await kit.commit(run, { firstNo: 1 })).state).toBe("waiting");
      await kit.answer(await kit.routing("batch-2"));
      expect((await kit.claimOne()).seq).toBe(run.seq + 1);
    });

    check("what a parent was told stands, also when its child is retried", async ({ kit, store }) => {
      const { kid } = await family(kit, [child("c"), request("q")]);
      await kit.commit(kid, { outcome: broken });
      await kit.commit(await kit.claimOne(), { firstNo: 2 });
      await store.retryRuns({ now: kit.now, ids: ["kid"] });
      await kit.commit(await kit.claimOne(), { outcome: done });
      const [entry] = await kit.history("parent");
      expect([await kit.states("parent", "kid"), entry?.seq, entry?.error]).toEqual([["waiting", "completed"], 1, failure("broken")]);
    });

    check("a failed run still takes what was under way, for its retry", async ({ kit, store }) => {
      await kit.waiting("a", [request("first"), request("second"), request("third")]);
      const batch = await kit.routing("batch-1");
      const [first, second, third] = await kit.members("batch-1");
      await kit.settle(batch, [{ ...first!, result: failed("refused") }]);
      await kit.commit(await kit.claimOne(), { firstNo: 3, outcome: broken });
      await kit.settle(batch, [
        { ...second!, result: succeeded("late") },
        { ...third!, result: { type: "retry", availableAt: kit.now, error: failure("busy") } },
      ]);
      expect([await kit.state("a"), await kit.requestStates("a")]).toEqual(["failed", ["failed", "succeeded", "cancelled"]]);
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      expect(await kit.requestStates("a")).toEqual(["queued", "succeeded", "queued"]);
      expect((await kit.history("a"))[1]?.value).toBe('{"text":"late"}');
    });

    check("runs that are neither held nor failed are not retried", async ({ kit, store }) => {
      await kit.waiting("waiting", [request("q")]);
      await kit.start(newRun("done"), newRun("running"), newRun("runnable"));
      await kit.commit(await kit.claimOne(), { outcome: done });
      await kit.claimOne();
      expect(await store.retryRuns({ now: kit.now, ids: ["waiting", "done", "running", "runnable", "none"] })).toEqual([]);
    });

    check("held runs are not live, waiting ones are", async ({ kit, store }) => {
      expect(await store.hasLiveRuns()).toBe(false);
      await kit.start(newRun("a"));
      await kit.commit(await kit.claimOne(), { outcome: { type: "held", error: failure("h") } });
      expect(await store.hasLiveRuns()).toBe(false);
      await kit.waiting("b", [request("q", { lane })]);
      expect(await store.hasLiveRuns()).toBe(true);
    });
  });
}
