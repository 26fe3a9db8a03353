import type { StoreSuite } from "./store-suite.ts";
import { child, failed, failure, lane, newRun, paid, request, sleep, step, succeeded } from "./store-kit.ts";

const done = { type: "completed" as const, output: '"done"' };
const broken = { type: "failed" as const, error: failure("broken") };

export function testAfresh({ describe, check, expect }: StoreSuite): void {
  describe("retrying afresh", () => {
    check("a run begins anew, with its notes and its cost", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), step("s"), request("q2"), sleep("t", kit.now + 9)]);
      const batch = await kit.routing("b1");
      const [first] = await kit.members("b1");
      await kit.settle(batch, [{ ...first!, result: paid("x", 0.25) }]);
      const before = await kit.claimOne();
      await kit.commit(before, { firstNo: 4, entries: [request("q3")], notes: ["a note"], outcome: broken });
      expect(await store.retryRuns({ now: kit.now, ids: ["a", "none"], afresh: true })).toEqual(["a"]);
      const { state, error, endedAt, attempts, notes, cost } = await kit.run("a");
      expect([state, error, endedAt, attempts, notes, cost.usd]).toEqual(["runnable", undefined, undefined, 0, ["a note"], 0.25]);
      expect([await kit.history("a"), await kit.requests("a"), await kit.queued()]).toEqual([[], [], 0]);
      const run = await kit.claimOne();
      expect([run.seq, run.code, run.usd, run.reservedUsd]).toEqual([0, "", 0.25, 0]);
      // A turn in some worker's memory must not go on with the history that is gone.
      expect(run.epoch > before.epoch + 1).toBe(true);
      kit.now += 9;
      expect(await store.fireTimers({ now: kit.now, limit: 9 })).toBe(0);
      expect(await kit.commit(run, { entries: [request("q1", { usd: 0.5 })] })).toEqual({ state: "waiting", seq: 0 });
      await kit.answer(await kit.routing("b2"), paid("y", 0.5));
      expect([(await kit.history("a"))[0]?.value, (await kit.run("a")).cost.usd]).toEqual(['{"text":"y"}', 0.75]);
    });

    check("the conservation of its batch holds, and rows that come late are paid and settle nothing", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const old = await kit.routing("b1");
      const rows = await kit.members("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      expect(await store.retryRuns({ now: kit.now, ids: ["a"], afresh: true })).toEqual(["a"]);
      expect([(await kit.batch("b1")).counts.cancelled, await kit.members("b1")]).toEqual([2, []]);
      await kit.commit(await kit.claimOne(), { entries: [request("q1"), request("q2")] });
      const late = rows.map((row) => ({ ...row, result: paid("old", 0.25) }));
      expect(await kit.settle(old, late)).toEqual({ settled: 0, duplicate: 2, unknown: 0 });
      expect(await kit.requestStates("a")).toEqual(["queued", "queued"]);
      const batch = await kit.routing("b2");
      // The same request numbers and attempts, and still not theirs.
      expect((await kit.members("b2")).map(({ id, attempt }) => [id, attempt])).toEqual(rows.map(({ id, attempt }) => [id, attempt]));
      expect(await kit.settle(old, late)).toEqual({ settled: 0, duplicate: 2, unknown: 0 });
      expect(await kit.requestStates("a")).toEqual(["batched", "batched"]);
      await kit.answer(batch, paid("new", 0.5));
      expect((await kit.history("a")).map(({ value }) => value)).toEqual(['{"text":"new"}', '{"text":"new"}']);
      expect([(await kit.run("a")).cost.usd, (await kit.batch("b1")).cost.usd]).toEqual([1.5, 0.5]);
      expect((await kit.requests("a")).map(({ cost }) => cost.usd)).toEqual([0.5, 0.5]);
      expect((await store.stats()).usage[0]?.answers).toBe(4);
      expect(await kit.update(old, { state: "completed" })).toBe(true);
    });

    check("held runs too: queued requests are withdrawn", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1", { usd: 0.5, deadlineAt: kit.now + 9 }), request("q2")]);
      await kit.form("b1", { limits: { requests: 1 } });
      await store.holdRuns({ now: kit.now, ids: ["a"], error: failure("h") });
      expect(await store.retryRuns({ now: kit.now, ids: ["a"], afresh: true })).toEqual(["a"]);
      const { lanes, nextDeadlineAt } = await store.activity({ now: kit.now, chains: [] });
      expect([await kit.requests("a"), lanes, nextDeadlineAt]).toEqual([[], [], undefined]);
      expect((await store.stats()).requests).toEqual({ queued: 0, batched: 0, succeeded: 0, failed: 0, cancelled: 0 });
      expect((await kit.claimOne()).reservedUsd).toBe(0);
    });

    check("runs that go on by themselves, and those that completed, are left alone", async ({ kit, store }) => {
      await kit.waiting("waiting", [request("q")]);
      await kit.start(newRun("done"), newRun("running"), newRun("runnable"));
      await kit.commit(await kit.claimOne(), { outcome: done });
      await kit.claimOne();
      const ids = ["waiting", "done", "running", "runnable"];
      expect(await store.retryRuns({ now: kit.now, ids, afresh: true })).toEqual([]);
      await store.cancelRuns({ now: kit.now, ids: ["waiting"] });
      expect(await store.retryRuns({ now: kit.now, ids })).toEqual([]);
    });

    check("a handler run asks its first request again", async ({ kit, store }) => {
      await kit.start(newRun("h", { kind: "handler", request: request("q", { usd: 0.5, maxAttempts: 1 }) }));
      await kit.answer(await kit.routing("b1"), paid("x", 0.25));
      const run = await kit.claimOne();
      await kit.commit(run, { firstNo: 1, entries: [request("more")], outcome: broken });
      expect(await store.retryRuns({ now: kit.now, ids: ["h"], afresh: true })).toEqual(["h"]);
      const [item, ...others] = await kit.requests("h");
      expect([await kit.state("h"), item?.state, item?.attempt, item?.body, item?.response, others]).toEqual([
        "waiting",
        "queued",
        1,
        { ask: "q" },
        undefined,
        [],
      ]);
      expect((await kit.lane())?.usd).toBe(0.5);
      await kit.answer(await kit.routing("b2"), paid("again", 0.25));
      const again = await kit.claimOne();
      expect([again.seq, again.usd, again.reservedUsd, (await kit.history("h"))[0]?.value]).toEqual([1, 0.5, 0, '{"text":"again"}']);
    });

    check("a handler run that is under way asks anew, and its old answer is not taken", async ({ kit, store }) => {
      await kit.start(newRun("h", { kind: "handler", request: request("q", { usd: 0.5 }) }));
      const old = await kit.routing("b1");
      const [row] = await kit.members("b1");
      await store.holdRuns({ now: kit.now, ids: ["h"], error: failure("h") });
      await store.retryRuns({ now: kit.now, ids: ["h"], afresh: true });
      expect(await kit.settle(old, [{ ...row!, result: paid("old", 0.25) }])).toEqual({ settled: 0, duplicate: 1, unknown: 0 });
      expect([await kit.state("h"), await kit.queued(), await kit.update(old, { state: "completed" })]).toEqual(["waiting", 1, true]);
      await kit.answer(await kit.routing("b2"), paid("new", 0.5));
      const run = await kit.claimOne();
      expect([run.usd, run.reservedUsd, (await kit.history("h"))[0]?.value]).toEqual([0.75, 0, '{"text":"new"}']);
    });

    check("an old child does not answer what has its number now", async ({ kit, store }) => {
      await kit.start(newRun("parent"));
      const start = newRun("kid", { parent: { run: "parent", key: "c" } });
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts: [start] });
      await kit.start(newRun("joined"));
      const kid = await kit.claimOne();
      await kit.commit(await kit.claimOne(), {
        entries: [child("c")],
        starts: [newRun("kid", { parent: { run: "joined", key: "c" } })],
      });
      await store.cancelRuns({ now: kit.now, ids: ["parent", "joined"] });
      await store.retryRuns({ now: kit.now, ids: ["parent", "joined"], afresh: true });
      for (const run of await kit.claim()) await kit.commit(run, { entries: [request("instead")] });
      await kit.commit(kid, { outcome: done });
      expect(await kit.states("parent", "joined", "kid")).toEqual(["waiting", "waiting", "completed"]);
      expect((await kit.history("parent"))[0]?.seq).toBe(undefined);
    });

    check("a child that it starts again is joined, running or ended", async ({ kit, store }) => {
      await kit.start(newRun("parent"));
      const parts = { entries: [child("c")], starts: [newRun("kid", { parent: { run: "parent", key: "c" } })] };
      await kit.commit(await kit.claimOne(), parts);
      const kid = await kit.claimOne();
      const again = async (): Promise<void> => {
        await store.cancelRuns({ now: kit.now, ids: ["parent"] });
        await store.retryRuns({ now: kit.now, ids: ["parent"], afresh: true });
      };
      await again();
      await kit.commit(await kit.claimOne(), parts);
      await again();
      await kit.commit(await kit.claimOne(), parts);
      expect(await kit.state("parent")).toBe("waiting");
      await kit.commit(kid, { outcome: done });
      expect([await kit.state("parent"), (await kit.history("parent"))[0]?.value]).toEqual(["runnable", '"done"']);
      await again();
      expect((await kit.commit(await kit.claimOne(), parts)).state).toBe("runnable");
    });

    check("what its parent was told stands", async ({ kit, store }) => {
      await kit.start(newRun("parent"));
      const starts = [newRun("kid", { parent: { run: "parent", key: "c" } })];
      await kit.commit(await kit.claimOne(), { entries: [child("c"), request("q")], starts });
      await kit.commit(await kit.claimOne(), { outcome: broken });
      await kit.commit(await kit.claimOne(), { firstNo: 2 });
      await store.retryRuns({ now: kit.now, ids: ["kid"], afresh: true });
      await kit.commit(await kit.claimOne(), { outcome: done });
      expect([await kit.states("parent", "kid"), (await kit.history("parent"))[0]?.error]).toEqual([
        ["waiting", "completed"],
        failure("broken"),
      ]);
    });

    check("who waits for the answer that it was asked for is asked instead", async ({ kit, store }) => {
      const cached = request("q", { cache: { key: "same", ttlMs: 1_000 } });
      await kit.waiting("a", [cached]);
      await kit.waiting("b", [cached]);
      const batch = await kit.routing("b1");
      const [row] = await kit.members("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      await store.retryRuns({ now: kit.now, ids: ["a"], afresh: true });
      expect(await kit.queued(lane)).toBe(1);
      await kit.commit(await kit.claimOne(), { entries: [cached] });
      await kit.settle(batch, [{ ...row!, result: succeeded("late") }]);
      expect([await kit.queued(), await kit.states("a", "b")]).toEqual([1, ["waiting", "waiting"]]);
      await kit.answer(await kit.routing("b2"), failed("refused"));
      expect([await kit.queued(), await kit.states("a", "b")]).toEqual([1, ["waiting", "runnable"]]);
      await kit.answer(await kit.routing("b3"));
      expect(await kit.states("a", "b")).toEqual(["runnable", "runnable"]);
    });
  });
}
