import type { Store } from "../core/store.ts";
import { child, failed, failure, newRun, otherLane, paid, request, sleep, step } from "./store-kit.ts";
import { testReferences } from "./store-references.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";

type Kit = StoreContext["kit"];
type Params = Partial<Parameters<Store["removeEnded"]>[0]>;

const done = { type: "completed" as const, output: '"done"' };

/** Everything that ended before now, unless told otherwise. */
function remove(kit: Kit, over: Params = {}): ReturnType<Store["removeEnded"]> {
  const { now } = kit;
  return kit.store.removeEnded({ now, limit: 100, runs: { completed: now, failed: now, cancelled: now }, ...over });
}

/** A run with one request that was answered, and more, that ended. */
async function ended(kit: Kit, id: string, outcome: "completed" | "failed" | "cancelled" = "completed"): Promise<void> {
  await kit.start(newRun(id));
  const run = (await kit.claim()).find((item) => item.id === id)!;
  await kit.commit(run, { entries: [request("q"), step("s")] });
  const batch = await kit.routing(`batch of ${id}`);
  await kit.answer(batch, paid(id, 0.25));
  await kit.update(batch, { state: "completed" });
  const again = (await kit.claim()).find((item) => item.id === id)!;
  if (outcome === "cancelled") await kit.store.cancelRuns({ now: kit.now, ids: [id] });
  const outcomes = { completed: done, failed: { type: "failed" as const, error: failure("f") }, cancelled: done };
  await kit.commit(again, { firstNo: 2, notes: ["a note"], outcome: outcomes[outcome] });
  kit.now += 1;
}

export function testRemoval(suite: StoreSuite): void {
  const { describe, check, expect } = suite;
  testReferences(suite);
  describe("removing what ended", () => {
    check("runs go with everything of theirs, each state at its time", async ({ kit, store }) => {
      for (const state of ["completed", "failed", "cancelled"] as const) await ended(kit, state, state);
      const [request1] = await kit.requests("failed");
      expect(await remove(kit, { runs: { failed: kit.now } })).toEqual({ runs: 1, histories: 0, batches: 0, more: false, references: [] });
      expect(await kit.states("completed", "failed", "cancelled")).toEqual(["completed", undefined, "cancelled"]);
      expect([await store.getRequest({ id: request1!.id }), await kit.history("failed")]).toEqual([undefined, []]);
      const { runs, requests } = await store.stats();
      expect([runs.failed, runs.completed, requests.succeeded]).toEqual([0, 1, 2]);
      const before = kit.now - 1;
      expect((await remove(kit, { runs: { completed: before, cancelled: before } })).runs).toBe(1);
      expect((await remove(kit)).runs).toBe(1);
      expect([(await store.listRuns({})).items, (await store.listRequests({})).items]).toEqual([[], []]);
      // What was spent stays for ever.
      expect((await store.spend({})).map(({ answers, usd }) => [answers, usd])).toEqual([[3, 0.75]]);
      expect((await store.stats()).usage[0]?.answers).toBe(3);
      expect(await remove(kit)).toEqual({ runs: 0, histories: 0, batches: 0, more: false, references: [] });
    });

    check("old first, in portions", async ({ kit }) => {
      for (const id of ["a", "b", "c", "d", "e"]) await ended(kit, id, id === "b" ? "failed" : "completed");
      expect(await remove(kit, { limit: 2 })).toEqual({ runs: 2, histories: 0, batches: 0, more: true, references: [] });
      expect(await kit.states("a", "b", "c", "d", "e")).toEqual([undefined, undefined, "completed", "completed", "completed"]);
      expect(await remove(kit, { limit: 2 })).toEqual({ runs: 2, histories: 0, batches: 0, more: true, references: [] });
      expect(await remove(kit, { limit: 2 })).toEqual({ runs: 1, histories: 0, batches: 0, more: false, references: [] });
    });

    check("the limit holds for everything together", async ({ kit }) => {
      for (const id of ["a", "b", "c"]) await ended(kit, id);
      const over = { runs: { completed: kit.now - 2 }, histories: kit.now, batches: kit.now };
      const steps: unknown[] = [];
      for (let more = true; more && steps.length < 9;) {
        const result = await remove(kit, { ...over, limit: 2 });
        steps.push([result.runs, result.histories, result.batches, result.more]);
        more = result.more;
      }
      expect(steps).toEqual([
        [1, 1, 0, true],
        [0, 1, 1, true],
        [0, 0, 2, false],
      ]);
    });

    check("nothing that lives, and nothing that is too young", async ({ kit, store }) => {
      await kit.waiting("waiting", [request("q", { lane: otherLane }), sleep("t", kit.now + 9)]);
      await kit.start(newRun("held"), newRun("running"), newRun("runnable"));
      await kit.commit(await kit.claimOne(), { outcome: { type: "held", error: failure("h") } });
      await kit.claimOne();
      kit.now += 1_000_000;
      await ended(kit, "young");
      const result = await remove(kit, { runs: { completed: kit.now - 1, failed: kit.now }, histories: kit.now - 1, batches: kit.now - 1 });
      expect(result).toEqual({ runs: 0, histories: 0, batches: 0, more: false, references: [] });
      expect(await kit.states("waiting", "held", "running", "young")).toEqual(["waiting", "held", "running", "completed"]);
      expect([(await kit.history("waiting")).length, (await store.stats()).batches.completed]).toEqual([2, 1]);
    });

    check("a run stays while its starter or its parent lives", async ({ kit, store }) => {
      await kit.start(newRun("starter"));
      const starts = [newRun("kid", { parent: { run: "starter", key: "c" } }), newRun("loose")];
      await kit.commit(await kit.claimOne(), { entries: [child("c"), request("q")], starts });
      await kit.commit(await kit.claimOne(), { entries: [step("s")], starts: [newRun("grandkid")], outcome: done });
      for (const run of (await kit.claim()).filter(({ id }) => id !== "starter")) await kit.commit(run, { outcome: done });
      kit.now += 1;
      expect((await remove(kit)).runs).toBe(1);
      expect(await kit.states("starter", "kid", "loose", "grandkid")).toEqual(["running", "completed", "completed", undefined]);
      await store.cancelRuns({ now: kit.now, ids: ["starter"] });
      await store.leave({ worker: "w1", now: kit.now });
      kit.now += 1;
      expect((await remove(kit, { limit: 1 })).more).toBe(true);
      expect((await remove(kit)).runs).toBe(2);
      expect((await store.listRuns({})).items).toEqual([]);
    });

    check("a run whose starter is gone lives on, and its number is nobody else's", async ({ kit, store }) => {
      await kit.start(newRun("starter"));
      const starts = [newRun("kid", { parent: { run: "starter", key: "c" } })];
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts });
      await store.cancelRuns({ now: kit.now, ids: ["starter"] });
      kit.now += 1;
      expect((await remove(kit)).runs).toBe(1);
      const kid = await kit.claimOne();
      await kit.start(newRun("starter"));
      const again = await kit.claimOne();
      await kit.commit(again, { entries: [request("q")] });
      const { starter, parent } = await kit.run("kid");
      expect([starter, parent, (await store.listRuns({ starter: "starter" })).items]).toEqual([undefined, undefined, []]);
      await kit.commit(kid, { outcome: done });
      expect([await kit.state("starter"), (await kit.history("starter"))[0]?.seq]).toEqual(["waiting", undefined]);
    });

    check("the number of the newest run is not used again either", async ({ kit, store }) => {
      await ended(kit, "a");
      const [old] = await kit.requests("a");
      await remove(kit);
      await kit.waiting("b", [request("q")]);
      expect(await store.getRequest({ id: old!.id })).toBe(undefined);
      expect((await kit.requests("b"))[0]?.id === old!.id).toBe(false);
    });

    check("a removed id may be started again", async ({ kit }) => {
      await ended(kit, "a");
      await remove(kit);
      expect(await kit.start(newRun("a", { fingerprint: "another" }))).toEqual(["started"]);
      const run = await kit.claimOne();
      expect([run.id, run.epoch, run.seq, run.usd, (await kit.run("a")).notes]).toEqual(["a", 1, 0, 0, []]);
    });

    check("a run with an answer under way stays until it has come", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      kit.now += 1;
      expect(await remove(kit, { histories: kit.now, batches: kit.now })).toEqual({
        runs: 0,
        histories: 0,
        batches: 0,
        more: false,
        references: [],
      });
      await kit.answer(batch, paid("late", 0.25));
      await kit.update(batch, { state: "completed" });
      expect((await kit.run("a")).cost.usd).toBe(0.25);
      kit.now += 1;
      expect(await remove(kit, { batches: kit.now })).toEqual({ runs: 1, histories: 0, batches: 1, more: false, references: [] });
    });

    check("a row that comes for a run that is gone is paid by its day", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { deadlineAt: kit.now + 9 })]);
      const batch = await kit.routing("b1");
      const [row] = await kit.members("b1");
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      const move = { tier: "flex" as const, reason: "r" };
      await store.decideDeadlines({ now: kit.now, decisions: [{ ...item!, checkAt: undefined, move }] });
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      kit.now += 1;
      expect((await remove(kit)).runs).toBe(1);
      const late = { ...row!, result: paid("late", 0.25) };
      expect(await kit.settle(batch, [late, late])).toEqual({ settled: 0, duplicate: 2, unknown: 0 });
      expect((await store.spend({})).map(({ chain, usd }) => [chain, usd])).toEqual([["digest", 0.25]]);
      expect((await kit.batch("b1")).cost.usd).toBe(0.25);
      expect(await kit.update(batch, { state: "completed" })).toBe(true);
    });

    check("histories go, and the run with its input and output stays", async ({ kit, store }) => {
      for (const id of ["a", "b"]) await ended(kit, id);
      const run = await kit.run("a");
      const only = { runs: {}, histories: kit.now - 1 };
      expect(await remove(kit, only)).toEqual({ runs: 0, histories: 1, batches: 0, more: false, references: [] });
      expect([await kit.run("a"), await kit.history("a"), await kit.requests("a")]).toEqual([run, [], []]);
      expect([(await kit.history("b")).length, (await store.stats()).requests.succeeded]).toEqual([2, 1]);
      expect((await remove(kit, only)).histories).toBe(0);
      expect(await kit.start(newRun("a"))).toEqual(["existing"]);
      expect(await remove(kit, { histories: kit.now, limit: 1 })).toEqual({
        runs: 1,
        histories: 0,
        batches: 0,
        more: true,
        references: [],
      });
      expect((await remove(kit, { histories: kit.now })).runs).toBe(1);
    });

    check("without its history a run cannot go on, a chain can only begin anew", async ({ kit, store }) => {
      await ended(kit, "a", "failed");
      await kit.start(newRun("h", { kind: "handler", request: request("q") }));
      await kit.answer(await kit.routing("b1"), failed("no"));
      await kit.commit(await kit.claimOne(), { firstNo: 1, outcome: { type: "failed", error: failure("f") } });
      kit.now += 1;
      expect((await remove(kit, { runs: {}, histories: kit.now })).histories).toBe(2);
      expect(await store.retryRuns({ now: kit.now, ids: ["a", "h"] })).toEqual([]);
      expect(await store.retryRuns({ now: kit.now, ids: ["a", "h"], afresh: true })).toEqual(["a"]);
      const run = await kit.claimOne();
      expect(await kit.commit(run, { entries: [request("q")] })).toEqual({ state: "waiting", seq: 0 });
      await kit.answer(await kit.routing("b2"));
      await kit.commit(await kit.claimOne(), { firstNo: 1, outcome: { type: "failed", error: failure("f") } });
      kit.now += 1;
      expect((await remove(kit, { runs: {}, histories: kit.now })).histories).toBe(1);
    });

    check("a batch goes when it has ended, nobody of it is left and nothing is to be swept", async ({ kit, store }) => {
      await ended(kit, "a");
      await kit.waiting("b", [request("q")]);
      const open = await kit.routing("open");
      await store.updateSweep({ batch: "batch of a", update: { sweepAt: kit.now + 99, duplicateJobs: ["batches/1"] } });
      const only = { runs: {}, batches: kit.now + 9 };
      expect((await remove(kit, only)).batches).toBe(0);
      await remove(kit);
      expect((await remove(kit, only)).batches).toBe(0);
      await store.updateSweep({ batch: "batch of a", update: { sweepAt: null } });
      expect((await remove(kit, only)).batches).toBe(1);
      expect(await store.getBatch({ id: "batch of a" })).toBe(undefined);
      const { batches, duplicateJobs } = await store.stats();
      expect([batches.completed, batches.routing, duplicateJobs, open.state]).toEqual([0, 1, 1, "routing"]);
    });

    check("a shared answer goes with its time, not with the run that was asked", async ({ kit, store }) => {
      const cached = request("q", { cache: { key: "same", ttlMs: 1_000 } });
      const handler = (id: string) => newRun(id, { kind: "handler", request: cached });
      const finish = async (): Promise<void> => {
        for (const run of await kit.claim()) await kit.commit(run, { firstNo: 1, outcome: done });
        kit.now += 1;
      };
      await kit.start(handler("a"), handler("b"));
      await kit.answer(await kit.routing("b1"));
      await finish();
      expect((await remove(kit, { limit: 1 })).runs).toBe(1);
      expect((await kit.history("b"))[0]?.value).toBe('{"text":"answer"}');
      await kit.start(handler("c"));
      expect([await kit.state("c"), (await kit.history("c"))[0]?.value]).toEqual(["runnable", '{"text":"answer"}']);
      await finish();
      kit.now += 1_000;
      expect(await remove(kit, { runs: {} })).toEqual({ runs: 0, histories: 0, batches: 0, more: false, references: [] });
      expect((await kit.history("b"))[0]?.value).toBe('{"text":"answer"}');
      await kit.start(handler("d"));
      expect([await kit.state("d"), await kit.queued()]).toEqual(["waiting", 1]);
      expect((await remove(kit)).runs).toBe(2);
      await store.cancelRuns({ now: kit.now, ids: ["d"] });
      kit.now += 1;
      expect((await remove(kit)).runs).toBe(1);
    });

    check("a parent waits on for a child, whatever was removed around them", async ({ kit }) => {
      await ended(kit, "old");
      await kit.start(newRun("parent"));
      const starts = [newRun("kid", { parent: { run: "parent", key: "c" } })];
      await kit.commit(await kit.claimOne(), { entries: [child("c")], starts });
      await remove(kit, { histories: kit.now, batches: kit.now });
      await kit.commit(await kit.claimOne(), { outcome: done });
      expect([await kit.state("parent"), (await kit.history("parent"))[0]?.value]).toEqual(["runnable", '"done"']);
    });
  });
}
