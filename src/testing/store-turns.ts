import type { StoreSuite } from "./store-suite.ts";
import { child, failure, leaseMs, newRun, request, sleep, step } from "./store-kit.ts";

export function testTurns({ describe, check, expect, rejects }: StoreSuite): void {
  describe("committing turns", () => {
    check("entries, state and code land together", async ({ kit }) => {
      await kit.start(newRun("a"));
      expect(await kit.commit(await kit.claimOne(), { entries: [request("q1"), request("q2")], code: "code-2" })).toEqual({
        state: "waiting",
        seq: 0,
      });
      expect(await kit.requestStates("a")).toEqual(["queued", "queued"]);
      expect(await kit.queued()).toBe(2);
      await kit.answer(await kit.routing("batch-1"));
      expect((await kit.claimOne()).code).toBe("code-2");
    });

    check("an older epoch changes nothing", async ({ kit }) => {
      await kit.start(newRun("a"));
      const stale = await kit.claimOne();
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      expect(await kit.commit(stale, { entries: [request("q")], starts: [newRun("b")] })).toEqual({ state: "lost" });
      const fresh = await kit.claimOne("w2");
      expect(await kit.commit(stale, { entries: [request("q")] })).toEqual({ state: "lost" });
      expect(await kit.commit({ ...fresh, epoch: stale.epoch }, { entries: [request("q")] }, "w2")).toEqual({ state: "lost" });
      expect(await kit.commit(fresh, { entries: [request("q")] }, "w1")).toEqual({ state: "lost" });
      expect([await kit.history("a"), await kit.states("b")]).toEqual([[], [undefined]]);
    });

    check("a turn of another living worker is lost", async ({ kit }) => {
      await kit.beat("w2");
      await kit.start(newRun("a"));
      const run = await kit.claimOne("w2");
      expect(await kit.commit(run, { entries: [request("q")] }, "w1")).toEqual({ state: "lost" });
      expect(await kit.commit(run, { entries: [request("q")] }, "w2")).toEqual({ state: "waiting", seq: 0 });
    });

    check("a turn of a run that is not in hand, or is not there, is lost", async ({ kit }) => {
      const run = await kit.waiting("a", [request("q")]);
      expect(await kit.commit(run, { entries: [request("q2")], firstNo: 1 })).toEqual({ state: "lost" });
      expect(await kit.commit({ ...run, id: "none" })).toEqual({ state: "lost" });
      expect((await kit.requests("a")).length).toBe(1);
    });

    check("each turn of a group stands for itself", async ({ kit, store }) => {
      await kit.start(newRun("a"), newRun("b"), newRun("c"));
      const runs = await kit.claim();
      const turns = runs.map((run) => kit.turn(run, { entries: [request(`q-${run.id}`)] }));
      turns[1]!.epoch += 1;
      const results = await store.commitTurns({ worker: "w1", now: kit.now, turns });
      expect(results.map(({ state }) => state)).toEqual(["waiting", "lost", "waiting"]);
      expect(await kit.states("a", "b", "c")).toEqual(["waiting", "running", "waiting"]);
    });

    check("steps settle with their commit and count up", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      const first = await kit.commit(run, { entries: [step("s1"), step("s2")], outcome: { type: "running" } });
      expect(first).toEqual({ state: "running", seq: 2 });
      const second = await kit.commit(run, { seen: 2, firstNo: 2, entries: [request("q"), step("s3")] });
      expect(second).toEqual({ state: "waiting", seq: 3 });
      expect((await kit.history("a")).map(({ key, seq }) => [key, seq])).toEqual([
        ["s1", 1],
        ["s2", 2],
        ["q", undefined],
        ["s3", 3],
      ]);
    });

    check("a step that failed keeps its error", async ({ kit }) => {
      await kit.start(newRun("a"));
      const entry = { key: "s", kind: "step" as const, fingerprint: "", settled: { error: failure("it broke") } };
      await kit.commit(await kit.claimOne(), { entries: [entry, request("q")] });
      expect((await kit.history("a"))[0]?.error).toEqual(failure("it broke"));
    });

    check("repeating a commit that kept its claim adds nothing", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      const parts = { entries: [step("s"), request("q")], outcome: { type: "running" as const } };
      await kit.commit(run, parts);
      expect(await kit.commit(run, parts)).toEqual({ state: "running", seq: 1 });
      expect((await kit.history("a")).map(({ key }) => key)).toEqual(["s", "q"]);
      expect(await kit.queued()).toBe(1);
    });

    check("no wake-up is lost: news during the turn keep the run awake", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("batch-1");
      const [first, second] = await kit.members("batch-1");
      await kit.settle(batch, [{ ...first!, result: { type: "failed", error: failure("no") } }]);
      const run = await kit.claimOne();
      expect(run.seq).toBe(1);
      await kit.settle(batch, [{ ...second!, result: { type: "failed", error: failure("no") } }]);
      expect(await kit.state("a")).toBe("running");
      expect(await kit.commit(run, { firstNo: 2, entries: [request("q3")] })).toEqual({ state: "runnable", seq: 2 });
      expect((await kit.claimOne()).seq).toBe(2);
    });

    check("a turn that knew of everything waits, whatever it settled itself", async ({ kit }) => {
      await kit.waiting("a", [request("q1")]);
      await kit.answer(await kit.routing("batch-1"));
      const run = await kit.claimOne();
      const result = await kit.commit(run, { firstNo: 1, entries: [step("s1"), request("q2"), step("s2")] });
      expect(result).toEqual({ state: "waiting", seq: 3 });
    });

    check("news between two commits of one turn are not lost either", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("batch-1");
      const [first, second] = await kit.members("batch-1");
      await kit.settle(batch, [{ ...first!, result: { type: "failed", error: failure("no") } }]);
      const run = await kit.claimOne();
      await kit.settle(batch, [{ ...second!, result: { type: "failed", error: failure("no") } }]);
      expect(await kit.commit(run, { firstNo: 2, entries: [step("s")], outcome: { type: "running" } })).toEqual({
        state: "running",
        seq: 3,
      });
      // The turn saw settlement 1 and made 3; 2 is news to it.
      expect(await kit.commit(run, { firstNo: 3, seen: 2, entries: [request("q3")] })).toEqual({ state: "runnable", seq: 3 });
    });

    check("a turn cannot wait for nothing", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      await rejects(kit.commit(run, { entries: [step("s")] }));
      expect([await kit.state("a"), await kit.history("a")]).toEqual(["running", []]);
    });

    check("a turn that is retried comes back at once, with one attempt more", async ({ kit }) => {
      await kit.start(newRun("a"));
      const result = await kit.commit(await kit.claimOne(), { outcome: { type: "retry", at: kit.now, error: failure("first") } });
      expect(result).toEqual({ state: "runnable", seq: 0 });
      expect((await kit.claimOne()).attempts).toBe(1);
    });

    check("a turn that is retried later comes back at its time, not before", async ({ kit, store }) => {
      await kit.start(newRun("a"));
      await kit.commit(await kit.claimOne(), {
        entries: [request("q")],
        outcome: { type: "retry", at: kit.now + 500, error: failure("first") },
      });
      expect([await kit.state("a"), (await kit.run("a")).error?.message]).toEqual(["waiting", "first"]);
      // An answer that comes in does not cut the backoff short.
      await kit.answer(await kit.routing("batch-1"));
      expect(await kit.claim()).toEqual([]);
      const { nextTimerAt } = await kit.timers();
      expect(nextTimerAt).toBe(kit.now + 500);
      expect(await store.fireTimers({ now: kit.now + 499, limit: 10 })).toBe(0);
      kit.now += 500;
      expect(await store.fireTimers({ now: kit.now, limit: 10 })).toBe(1);
      expect(await store.fireTimers({ now: kit.now, limit: 10 })).toBe(0);
      const run = await kit.claimOne();
      expect([run.attempts, run.seq]).toEqual([1, 1]);
      expect((await kit.timers()).nextTimerAt).toBe(undefined);
    });

    check("a held run waits for an operator", async ({ kit, store }) => {
      await kit.start(newRun("a"));
      await kit.commit(await kit.claimOne(), { entries: [request("q")], outcome: { type: "held", error: failure("differs") } });
      await kit.answer(await kit.routing("batch-1"));
      const run = await kit.run("a");
      expect([run.state, run.error?.message, await kit.claim()]).toEqual(["held", "differs", []]);
      expect(await store.retryRuns({ now: kit.now, ids: ["a", "none"] })).toEqual(["a"]);
      expect(await store.retryRuns({ now: kit.now, ids: ["a"] })).toEqual([]);
      expect((await kit.claimOne()).seq).toBe(1);
      expect((await kit.run("a")).error).toBe(undefined);
    });

    check("sleeps wake their run when they are over", async ({ kit, store }) => {
      await kit.waiting("a", [sleep("short", kit.now + 1_000), sleep("long", kit.now + 9_000)]);
      expect((await kit.timers()).nextTimerAt).toBe(kit.now + 1_000);
      expect(await store.fireTimers({ now: kit.now + 999, limit: 10 })).toBe(0);
      kit.now += 1_000;
      expect(await store.fireTimers({ now: kit.now, limit: 10 })).toBe(1);
      const run = await kit.claimOne();
      expect((await kit.history("a")).map(({ key, seq }) => [key, seq])).toEqual([
        ["short", 1],
        ["long", undefined],
      ]);
      kit.now += 8_000;
      expect(await store.fireTimers({ now: kit.now, limit: 10 })).toBe(1);
      expect(await kit.commit(run, { seen: 1, firstNo: 2, entries: [] })).toEqual({ state: "runnable", seq: 2 });
    });

    check("timers fire in portions, the earliest first", async ({ kit, store }) => {
      await kit.waiting("a", [sleep("s3", kit.now + 3), sleep("s1", kit.now + 1), sleep("s2", kit.now + 2)]);
      expect(await store.fireTimers({ now: kit.now + 9, limit: 2 })).toBe(2);
      const settled = (await kit.history("a")).filter(({ seq }) => seq !== undefined);
      expect(settled.map(({ key }) => key).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["s1", "s2"]);
      expect(await store.fireTimers({ now: kit.now + 9, limit: 2 })).toBe(1);
    });

    check("runs that a turn starts begin with its commit, once", async ({ kit }) => {
      await kit.start(newRun("old"), newRun("a", { priority: 5 }));
      const run = await kit.claimOne();
      const handler = newRun("h", { kind: "handler", chain: "onAnswer", request: request("hq") });
      await kit.commit(run, { entries: [step("s"), request("q")], starts: [newRun("new"), newRun("old"), handler] });
      expect(await kit.states("old", "new", "h")).toEqual(["runnable", "runnable", "waiting"]);
      expect(await kit.queued()).toBe(2);
      expect((await kit.claim()).length).toBe(2);
    });

    check("a parent waits for its child", async ({ kit }) => {
      await kit.start(newRun("parent"));
      const start = newRun("kid", { parent: { run: "parent", key: "c" } });
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts: [start] });
      expect(await kit.states("parent", "kid")).toEqual(["waiting", "runnable"]);
      expect((await kit.run("kid")).parent).toBe("parent");
      await kit.commit(await kit.claimOne(), { outcome: { type: "completed", output: '{"of":"kid"}' } });
      const [entry] = await kit.history("parent");
      expect([await kit.state("parent"), entry?.seq, entry?.value]).toEqual(["runnable", 1, '{"of":"kid"}']);
    });

    check("notes add up", async ({ kit, store }) => {
      await kit.start(newRun("a"));
      await kit.commit(await kit.claimOne(), { entries: [request("q")], notes: ["one", "two"] });
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
      await kit.commit(await kit.claimOne(), { firstNo: 1, notes: ["three"], outcome: { type: "completed", output: "0" } });
      expect((await kit.run("a")).notes).toEqual(["one", "two", "three"]);
    });
  });
}
