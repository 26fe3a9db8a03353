import type { SerializedError } from "../core/errors.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { child, failure, newRun, request, succeeded } from "./store-kit.ts";

type Kit = StoreContext["kit"];

const done = { type: "completed" as const, output: '"done"' };

/** `root` started `kid`, which it waits for, and `loose`, which it does not; `kid` started `grandkid`; all wait. `kid` of a second root is apart. */
async function tree(kit: Kit): Promise<void> {
  await kit.start(newRun("root"));
  const starts = [newRun("kid", { parent: { run: "root", key: "c" } }), newRun("loose")];
  await kit.commit(await kit.claimOne(), { entries: [child("c")], starts });
  await kit.commit(await kit.claimOne(), { entries: [request("q")], starts: [newRun("grandkid")] });
  for (const run of await kit.claim()) await kit.commit(run, { entries: [request("q")] });
  await kit.waiting("other", [request("q")]);
}

export function testOperating({ describe, check, expect }: StoreSuite): void {
  describe("trees of runs", () => {
    check("a run knows who started it, and is found by that", async ({ kit, store }) => {
      await tree(kit);
      const starters = await Promise.all(["root", "kid", "loose", "grandkid", "other"].map(async (id) => (await kit.run(id)).starter));
      expect(starters).toEqual([undefined, "root", "root", "kid", undefined]);
      expect([(await kit.run("kid")).parent, (await kit.run("loose")).parent]).toEqual(["root", undefined]);
      const ids = async (starter: string, limit?: number): Promise<string[]> =>
        (await store.listRuns({ starter, ...(limit && { limit }) })).items.map(({ id }) => id);
      expect([await ids("root"), await ids("kid"), await ids("grandkid"), await ids("none")]).toEqual([
        ["loose", "kid"],
        ["grandkid"],
        [],
        [],
      ]);
      const page = await store.listRuns({ starter: "root", limit: 1 });
      const rest = await store.listRuns({ starter: "root", limit: 1, cursor: page.nextCursor! });
      expect([page.items[0]?.id, rest.items[0]?.id, rest.nextCursor]).toEqual(["loose", "kid", undefined]);
      expect((await store.listRuns({ starter: "root", state: "waiting", chain: "digest" })).items.length).toBe(2);
    });

    check("who finds a run did not start it", async ({ kit }) => {
      await tree(kit);
      await kit.start(newRun("second"));
      const starts = [newRun("kid", { parent: { run: "second", key: "c" } })];
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts });
      expect((await kit.run("kid")).starter).toBe("root");
    });

    check("a tree is cancelled whole, whatever its runs do", async ({ kit, store }) => {
      await tree(kit);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "loose", epoch: 1 }] });
      const running = await kit.claimOne();
      expect(await store.cancelRuns({ now: kit.now, ids: ["root"], tree: true })).toEqual(["root", "kid", "loose", "grandkid"]);
      expect(await kit.states("root", "kid", "loose", "grandkid", "other")).toEqual([
        "cancelled",
        "cancelled",
        "running",
        "cancelled",
        "waiting",
      ]);
      expect(await kit.commit(running, { firstNo: 1, outcome: done })).toEqual({ state: "cancelled", seq: 0 });
      expect(await kit.queued()).toBe(1);
      expect(await store.cancelRuns({ now: kit.now, ids: ["root"], tree: true })).toEqual([]);
    });

    check("what a run that ended has started is of its tree still", async ({ kit, store }) => {
      await tree(kit);
      await store.cancelRuns({ now: kit.now, ids: ["kid"] });
      expect(await kit.states("root", "kid", "grandkid")).toEqual(["runnable", "cancelled", "waiting"]);
      await kit.commit(await kit.claimOne(), { firstNo: 1, outcome: done });
      expect(await store.cancelRuns({ now: kit.now, ids: ["root", "none"], tree: true })).toEqual(["loose", "grandkid"]);
    });

    check("without its tree a run is cancelled alone", async ({ kit, store }) => {
      await tree(kit);
      expect(await store.cancelRuns({ now: kit.now, ids: ["root"] })).toEqual(["root"]);
      expect(await kit.states("kid", "loose", "grandkid")).toEqual(["waiting", "waiting", "waiting"]);
    });
  });

  describe("holding runs", () => {
    check("runs that could go on are held, with the reason", async ({ kit, store }) => {
      await kit.waiting("waiting", [request("q")]);
      await kit.start(newRun("retrying"), newRun("completed"), newRun("running"), newRun("runnable"));
      await kit.commit(await kit.claimOne(), { outcome: { type: "retry", at: kit.now + 50, error: failure("r") } });
      await kit.commit(await kit.claimOne(), { outcome: done });
      const running = await kit.claimOne();
      const ids = ["waiting", "retrying", "completed", "running", "runnable", "none"];
      const error = failure("over budget");
      expect(await store.holdRuns({ now: kit.now, ids, error })).toEqual(["waiting", "retrying", "runnable"]);
      expect(await store.holdRuns({ now: kit.now, ids, error })).toEqual([]);
      expect(await kit.states(...ids)).toEqual(["held", "held", "completed", "running", "held", undefined]);
      expect([(await kit.run("waiting")).error, (await kit.run("runnable")).error]).toEqual([error, error]);
      kit.now += 50;
      expect([await store.fireTimers({ now: kit.now, limit: 9 }), await kit.claim()]).toEqual([0, []]);
      await kit.commit(running, { outcome: done });
      expect(await store.hasLiveRuns()).toBe(false);
    });

    check("answers that come meanwhile are kept for the retry", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      await store.holdRuns({ now: kit.now, ids: ["a"], error: failure("over budget") });
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [{ ...first!, result: succeeded("kept") }]);
      expect([await kit.state("a"), await kit.requestStates("a")]).toEqual(["held", ["succeeded", "batched"]]);
      expect(await store.retryRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      const run = await kit.claimOne();
      expect([run.seq, (await kit.run("a")).error]).toEqual([1, undefined]);
      await kit.commit(run, { firstNo: 2 });
      await kit.settle(batch, [{ ...second!, result: succeeded("later") }]);
      expect((await kit.claimOne()).seq).toBe(2);
    });

    check("a held run may be cancelled", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      await store.holdRuns({ now: kit.now, ids: ["a"], error: failure("h") });
      expect(await store.cancelRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      expect([await kit.state("a"), await kit.queued()]).toEqual(["cancelled", 0]);
    });
  });

  describe("finding runs", () => {
    check("by the code of their error", async ({ kit, store }) => {
      const error = (code: SerializedError["code"]): SerializedError => ({ ...failure("e"), code });
      await kit.start(...["f1", "f2", "h", "r", "c"].map((id) => newRun(id)));
      await kit.commit(await kit.claimOne(), { outcome: { type: "failed", error: error("request_failed") } });
      await kit.commit(await kit.claimOne(), { outcome: { type: "failed", error: error("run_failed") } });
      await kit.commit(await kit.claimOne(), { outcome: { type: "held", error: error("request_failed") } });
      await kit.commit(await kit.claimOne(), { outcome: { type: "retry", at: kit.now + 5, error: error("request_failed") } });
      await store.cancelRuns({ now: kit.now, ids: ["c"] });
      const ids = async (filter: Parameters<typeof store.listRuns>[0]): Promise<string[]> =>
        (await store.listRuns(filter)).items.map(({ id }) => id);
      expect(await ids({ error: "request_failed" })).toEqual(["r", "h", "f1"]);
      expect([
        await ids({ error: "request_failed", state: "failed" }),
        await ids({ error: "run_cancelled" }),
        await ids({ error: "o'ne" }),
      ]).toEqual([["f1"], ["c"], []]);
      kit.now += 5;
      await store.fireTimers({ now: kit.now, limit: 9 });
      await kit.commit(await kit.claimOne(), { entries: [request("q")] });
      expect(await ids({ error: "request_failed" })).toEqual(["h", "f1"]);
    });

    check("by when they were started", async ({ kit, store }) => {
      const from = kit.now;
      for (const id of ["a", "b", "c"]) {
        await kit.start(newRun(id));
        kit.now += 10;
      }
      const ids = async (filter: Parameters<typeof store.listRuns>[0]): Promise<string[]> =>
        (await store.listRuns(filter)).items.map(({ id }) => id);
      expect(await ids({ createdBefore: from + 10 })).toEqual(["a"]);
      expect(await ids({ createdAfter: from })).toEqual(["c", "b"]);
      expect(await ids({ createdAfter: from, createdBefore: from + 20, state: "runnable" })).toEqual(["b"]);
    });
  });
}
