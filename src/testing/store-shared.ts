import type { NewRequest } from "../core/store.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { failed, failure, flexLane, newRun, paid, request, step, succeeded } from "./store-kit.ts";

type Kit = StoreContext["kit"];

const hour = 3_600_000;
const cached = (key: string, over: Partial<NewRequest> = {}) => request(key, { cache: { key: "same", ttlMs: hour }, usd: 0.5, ...over });
const text = (value: string): string => JSON.stringify({ text: value });

/** What a run has of its entry 0: settled with a value, or open. */
async function got(kit: Kit, run: string): Promise<string | undefined> {
  return (await kit.history(run))[0]?.value;
}

async function fail(kit: Kit, run: string, epoch = 1): Promise<void> {
  await kit.store.wakeRuns({ now: kit.now, runs: [{ run, epoch }] });
  const claimed = (await kit.claim()).find(({ id }) => id === run);
  await kit.commit(claimed!, { firstNo: 1, outcome: { type: "failed", error: failure("f") } });
}

export function testShared({ describe, check, expect }: StoreSuite): void {
  describe("shared answers", () => {
    check("equal requests are asked once and all have the answer", async ({ kit, store }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.waiting("b", [cached("other key")]);
      await kit.waiting("c", [request("q", { cache: { key: "another", ttlMs: hour } })]);
      expect([await kit.queued(), (await kit.lane())?.usd]).toEqual([2, 0.5]);
      expect([await kit.requestStates("b"), (await store.stats()).requests.queued]).toEqual([["queued"], 3]);
      const batch = await kit.routing("b1");
      expect(batch.requestCount).toBe(2);
      await kit.answer(batch, paid("shared", 0.25));
      expect(await kit.states("a", "b", "c")).toEqual(["runnable", "runnable", "runnable"]);
      expect([await got(kit, "a"), await got(kit, "b")]).toEqual([text("shared"), text("shared")]);
      const [follower] = await kit.requests("b");
      expect([follower?.state, follower?.response, follower?.batch]).toEqual(["succeeded", { text: "shared" }, undefined]);
      expect([follower?.cost.usd, (await kit.run("a")).cost.usd, (await kit.run("b")).cost.usd]).toEqual([0, 0.25, 0]);
      expect((await kit.batch("b1")).counts.succeeded).toBe(2);
      const runs = await kit.claim();
      expect(runs.map((run) => [run.id, run.seq, run.reservedUsd])).toEqual([
        ["a", 1, 0],
        ["b", 1, 0],
        ["c", 1, 0],
      ]);
    });

    check("a fresh answer settles at once, and wakes the run that asks", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.answer(await kit.routing("b1"));
      kit.now += hour - 1;
      await kit.start(newRun("b"));
      const run = (await kit.claim()).find(({ id }) => id === "b")!;
      expect(await kit.commit(run, { entries: [cached("q")] })).toEqual({ state: "runnable", seq: 1 });
      expect([await got(kit, "b"), await kit.requestStates("b"), await kit.queued()]).toEqual([text("answer"), ["succeeded"], 0]);
      expect((await kit.claimOne()).seq).toBe(1);
    });

    check("what a turn settles itself comes before it, and it is news", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.answer(await kit.routing("b1"));
      await kit.start(newRun("b"));
      const run = (await kit.claim()).find(({ id }) => id === "b")!;
      const entries = [step("s1"), cached("q"), request("open"), step("s2")];
      expect(await kit.commit(run, { entries, outcome: { type: "running" } })).toEqual({ state: "running", seq: 3 });
      expect((await kit.history("b")).map(({ key, seq }) => [key, seq])).toEqual([
        ["s1", 1],
        ["q", 3],
        ["open", undefined],
        ["s2", 2],
      ]);
      expect(await kit.commit(run, { seen: 2, firstNo: 4 })).toEqual({ state: "runnable", seq: 3 });
      const again = await kit.claimOne();
      expect(await kit.commit(again, { firstNo: 4 })).toEqual({ state: "waiting", seq: 3 });
    });

    check("a turn that ends with an answer that is there asks nothing", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.answer(await kit.routing("b1"));
      await kit.start(newRun("b"));
      const run = (await kit.claim()).find(({ id }) => id === "b")!;
      expect(await kit.commit(run, { entries: [cached("q")], outcome: { type: "completed", output: "1" } })).toEqual({
        state: "completed",
        seq: 0,
      });
      expect([await kit.requestStates("b"), await kit.queued()]).toEqual([["cancelled"], 0]);
    });

    check("a handler run whose answer is there starts out runnable, another waits", async ({ kit }) => {
      const handler = (id: string) => newRun(id, { kind: "handler", request: cached("q") });
      await kit.start(handler("a"), handler("b"));
      expect([await kit.states("a", "b"), await kit.queued()]).toEqual([["waiting", "waiting"], 1]);
      await kit.answer(await kit.routing("b1"));
      expect(await kit.start(handler("c"), handler("c"))).toEqual(["started", "existing"]);
      expect(await kit.states("a", "b", "c")).toEqual(["runnable", "runnable", "runnable"]);
      const runs = await kit.claim();
      expect(runs.map(({ id, seq }) => [id, seq])).toEqual([
        ["a", 1],
        ["b", 1],
        ["c", 1],
      ]);
      expect(await got(kit, "c")).toBe(text("answer"));
    });

    check("an answer is kept for its time, then one asks again", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      kit.now += hour;
      await kit.answer(await kit.routing("b1"), succeeded("old"));
      kit.now += hour;
      await kit.start(newRun("b"), newRun("c"));
      for (const run of (await kit.claim()).filter(({ id }) => id !== "a")) await kit.commit(run, { entries: [cached("q")] });
      expect([await kit.states("b", "c"), await kit.queued()]).toEqual([["waiting", "waiting"], 1]);
      await kit.answer(await kit.routing("b2"), succeeded("new"));
      expect([await got(kit, "a"), await got(kit, "b"), await got(kit, "c")]).toEqual([text("old"), text("new"), text("new")]);
    });

    check("no time at all: those that wait share, nobody later", async ({ kit }) => {
      const brief = (key: string) => cached(key, { cache: { key: "same", ttlMs: 0 } });
      await kit.waiting("a", [brief("q1"), brief("q2")]);
      await kit.answer(await kit.routing("b1"));
      expect((await kit.history("a")).map(({ seq }) => seq)).toEqual([1, 2]);
      await kit.commit(await kit.claimOne(), { firstNo: 2, entries: [brief("q3")] });
      expect([await kit.state("a"), await kit.queued()]).toEqual(["waiting", 1]);
    });

    check("one run may wait twice for one answer", async ({ kit }) => {
      await kit.waiting("a", [cached("q1"), cached("q2"), request("q3")]);
      const batch = await kit.routing("b1");
      expect(batch.requestCount).toBe(2);
      await kit.answer(batch);
      expect(new Set((await kit.history("a")).map(({ seq }) => seq))).toEqual(new Set([1, 2, 3]));
      expect((await kit.claimOne()).seq).toBe(3);
    });

    check("when the one that is asked fails, who has waited longest is asked", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      kit.now += 1;
      await kit.waiting("c", [cached("q", { lane: flexLane })]);
      kit.now += 1;
      await kit.waiting("b", [cached("q")]);
      await kit.answer(await kit.routing("b1"), failed("refused"));
      expect([await kit.states("a", "b", "c"), await kit.queued(), await kit.queued(flexLane)]).toEqual([
        ["runnable", "waiting", "waiting"],
        0,
        1,
      ]);
      const [leader] = await kit.requests("c");
      expect([leader?.availableAt, leader?.attempt]).toEqual([kit.now, 1]);
      await kit.answer(await kit.routing("b2", { lane: flexLane }), paid("second", 0.25));
      expect([await got(kit, "b"), await got(kit, "c")]).toEqual([text("second"), text("second")]);
      expect([(await kit.run("b")).cost.usd, (await kit.run("c")).cost.usd]).toEqual([0, 0.25]);
    });

    check("a retry of the one that is asked keeps the others waiting", async ({ kit }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.waiting("b", [cached("q")]);
      await kit.answer(await kit.routing("b1"), { type: "retry", availableAt: kit.now + 5, error: failure("busy") });
      expect([await kit.queued(), await kit.requestStates("b")]).toEqual([0, ["queued"]]);
      kit.now += 5;
      await kit.answer(await kit.routing("b2"), { type: "move", tier: "flex", reason: "r", availableAt: kit.now });
      await kit.answer(await kit.routing("b3", { lane: flexLane }));
      expect(await kit.states("a", "b")).toEqual(["runnable", "runnable"]);
    });

    check("the one that is asked is withdrawn with its run: the next is asked", async ({ kit, store }) => {
      await kit.waiting("a", [cached("q1"), cached("q2")]);
      await kit.waiting("b", [cached("q")]);
      await kit.waiting("c", [cached("q")]);
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      expect([await kit.requestStates("a"), await kit.queued(), (await kit.lane())?.usd]).toEqual([["cancelled", "cancelled"], 1, 0.5]);
      await store.cancelRuns({ now: kit.now, ids: ["c"] });
      expect([await kit.requestStates("c"), await kit.queued()]).toEqual([["cancelled"], 1]);
      await kit.answer(await kit.routing("b1"));
      expect(await kit.states("a", "b", "c")).toEqual(["cancelled", "runnable", "cancelled"]);
      expect([(await kit.claimOne()).reservedUsd, await got(kit, "b")]).toEqual([0, text("answer")]);
    });

    check("an answer whose own run is over is still shared and kept", async ({ kit, store }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.waiting("b", [cached("q")]);
      const batch = await kit.routing("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      expect([await kit.requestStates("a"), await kit.queued()]).toEqual([["batched"], 0]);
      await kit.answer(batch, paid("late", 0.25));
      expect([await kit.requestStates("a"), await kit.state("b"), await got(kit, "b")]).toEqual([["cancelled"], "runnable", text("late")]);
      expect([(await kit.run("a")).cost.usd, (await kit.run("b")).cost.usd]).toEqual([0.25, 0]);
      await kit.start(newRun("c", { kind: "handler", request: cached("q") }));
      expect(await kit.state("c")).toBe("runnable");
    });

    check("no answer and a run that is over: the next is asked", async ({ kit, store }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.waiting("b", [cached("q")]);
      const batch = await kit.routing("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      await kit.settleRest(batch, { type: "retry", availableAt: kit.now, error: failure("expired") });
      expect([await kit.requestStates("a"), await kit.requestStates("b"), await kit.queued()]).toEqual([["cancelled"], ["queued"], 1]);
      expect((await kit.form("b2"))?.requestCount).toBe(1);
    });

    check("a failed run that is retried shares again", async ({ kit, store }) => {
      await kit.waiting("leader", [cached("q")]);
      await kit.waiting("follower", [cached("q")]);
      await fail(kit, "follower");
      await fail(kit, "leader");
      expect([await kit.requestStates("leader"), await kit.requestStates("follower"), await kit.queued()]).toEqual([
        ["cancelled"],
        ["cancelled"],
        0,
      ]);
      await store.retryRuns({ now: kit.now, ids: ["follower"] });
      await store.retryRuns({ now: kit.now, ids: ["leader"] });
      expect(await kit.queued()).toBe(1);
      const runs = await kit.claim();
      expect(runs.map((run) => [run.id, run.reservedUsd])).toEqual([
        ["leader", 0],
        ["follower", 0.5],
      ]);
      for (const run of runs) await kit.commit(run, { firstNo: 1 });
      await kit.answer(await kit.routing("b1"));
      expect(await kit.states("leader", "follower")).toEqual(["runnable", "runnable"]);
    });

    check("a retry finds an answer that came meanwhile", async ({ kit, store }) => {
      await kit.waiting("a", [cached("q")]);
      await kit.answer(await kit.routing("b1"), failed("refused"));
      await kit.start(newRun("b"));
      for (const run of await kit.claim()) {
        if (run.id === "a") await kit.commit(run, { firstNo: 1, outcome: { type: "failed", error: failure("f") } });
        else await kit.commit(run, { entries: [cached("q")] });
      }
      await kit.answer(await kit.routing("b2"), succeeded("good"));
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      const again = (await kit.claim()).find(({ id }) => id === "a")!;
      expect([again.seq, await got(kit, "a"), await kit.requestStates("a")]).toEqual([2, text("good"), ["succeeded"]]);
      expect(await kit.commit(again, { firstNo: 1, outcome: { type: "completed", output: "1" } })).toEqual({ state: "completed", seq: 2 });
    });

    check("the one that is asked hurries as the most urgent of those that wait", async ({ kit, store }) => {
      const due = async (): Promise<number[]> =>
        (await store.dueDeadlines({ now: kit.now, limit: 9 })).map(({ deadlineAt }) => deadlineAt - kit.now);
      await kit.waiting("a", [cached("q")]);
      expect(await due()).toEqual([]);
      await kit.waiting("b", [cached("q", { deadlineAt: kit.now + 50 })]);
      expect(await due()).toEqual([50]);
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      expect(item?.id).toBe((await kit.requests("a"))[0]?.id);
      await kit.waiting("c", [cached("q", { deadlineAt: kit.now + 20 })]);
      expect(await due()).toEqual([20]);
      await kit.answer(await kit.routing("b1"));
      expect(await due()).toEqual([]);
    });
  });
}
