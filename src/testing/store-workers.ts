import type { StoreSuite } from "./store-suite.ts";
import { failure, leaseMs, newRun, request } from "./store-kit.ts";

export function testWorkers({ describe, check, expect }: StoreSuite): void {
  describe("workers", () => {
    check("a store has an id that stays", async ({ store }) => {
      expect(/^[a-z0-9]{8,}$/.test(store.id)).toBe(true);
      expect(store.name.length > 0).toBe(true);
    });

    check("a heartbeat grants roles", async ({ kit }) => {
      expect(await kit.beat("w1", { roles: ["test", "other"] })).toEqual(["test", "other"]);
      expect(await kit.beat("w1", { roles: ["test"] })).toEqual(["test"]);
    });

    check(
      "a role has one holder, until it leaves or its lease runs out",
      async ({ kit, store }) => {
        await kit.beat("w1", { roles: ["test"] });
        expect(await kit.beat("w2", { roles: ["test", "other"] })).toEqual(["other"]);
        await store.leave({ worker: "w1", now: kit.now });
        expect(await kit.beat("w2", { roles: ["test"] })).toEqual(["test"]);
        expect(await kit.beat("w3", { roles: ["test"] })).toEqual([]);
        kit.now += leaseMs + 1;
        expect(await kit.beat("w3", { roles: ["test"] })).toEqual(["test"]);
        expect(await kit.beat("w2", { roles: ["test"] })).toEqual([]);
      },
      "exclusiveRoles",
    );

    check(
      "a role that is not wanted any more is free",
      async ({ kit }) => {
        await kit.beat("w1", { roles: ["test"] });
        await kit.beat("w1", { roles: [] });
        expect(await kit.beat("w2", { roles: ["test"] })).toEqual(["test"]);
      },
      "exclusiveRoles",
    );

    check("a lease that ran out gives its runs up with one attempt more", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      kit.now += leaseMs - 1;
      await kit.beat("w2");
      expect(await kit.state("a")).toBe("running");
      kit.now += 2;
      await kit.beat("w2");
      expect(await kit.state("a")).toBe("runnable");
      const again = await kit.claimOne("w2");
      expect([again.attempts, again.epoch]).toEqual([1, run.epoch + 1]);
    });

    check("a renewed lease keeps its claims", async ({ kit }) => {
      await kit.start(newRun("a"));
      await kit.claimOne();
      for (let i = 0; i < 4; i += 1) {
        kit.now += leaseMs / 2;
        await kit.beat("w1");
        await kit.beat("w2");
      }
      expect(await kit.state("a")).toBe("running");
    });

    check("a worker that renews late keeps what nobody took", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      kit.now += leaseMs * 3;
      await kit.beat("w1");
      expect(await kit.commit(run, { entries: [request("q")] })).toEqual({ state: "waiting", seq: 0 });
    });

    check("a run whose workers keep dying is held", async ({ kit }) => {
      await kit.start(newRun("a"));
      for (let attempts = 0; attempts < 3; attempts += 1) {
        await kit.beat(`dying-${attempts}`);
        expect((await kit.claimOne(`dying-${attempts}`)).attempts).toBe(attempts);
        kit.now += leaseMs + 1;
        await kit.beat("w2", { maxAttempts: 3 });
      }
      const run = await kit.run("a");
      expect([run.state, run.attempts, run.error?.code]).toEqual(["held", 3, "run_held"]);
      expect(await kit.claim()).toEqual([]);
    });

    check("a commit sets the attempts back", async ({ kit }) => {
      await kit.start(newRun("a"));
      await kit.claimOne();
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      const run = await kit.claimOne("w2");
      await kit.commit(run, { entries: [request("q")] }, "w2");
      expect((await kit.run("a")).attempts).toBe(0);
    });

    check("leaving gives everything back at once, attempts unchanged", async ({ kit, store }) => {
      await kit.start(newRun("a"), newRun("b"));
      await kit.commit(await kit.claimOne(), { entries: [request("q")] });
      await kit.form("batch-1");
      const [batch] = await kit.claimBatches(["sealed"]);
      await kit.claimOne();
      await store.leave({ worker: "w1", now: kit.now });
      await kit.beat("w2");
      const again = await kit.claimOne("w2");
      expect([again.id, again.attempts]).toEqual(["b", 0]);
      const [reclaimed] = await kit.claimBatches(["sealed"], "w2");
      expect(reclaimed?.epoch).toBe(batch!.epoch + 1);
      expect(await kit.update(batch!, { state: "launching" })).toBe(false);
    });

    check("leaving twice, or without ever having been there, changes nothing", async ({ kit, store }) => {
      await store.leave({ worker: "nobody", now: kit.now });
      await store.leave({ worker: "w1", now: kit.now });
      await store.leave({ worker: "w1", now: kit.now });
    });

    check("a stale worker's batch is given up with its lease", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      await kit.form("batch-1");
      const [batch] = await kit.claimBatches(["sealed"]);
      expect(await kit.claimBatches(["sealed"], "w2")).toEqual([]);
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      expect(await kit.update(batch!, { state: "launching" })).toBe(false);
      expect((await kit.claimBatches(["sealed"], "w2")).length).toBe(1);
    });

    check("a cancelled run of a dead worker ends", async ({ kit, store }) => {
      await kit.start(newRun("a"));
      await kit.claimOne();
      expect(await store.cancelRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      expect(await kit.state("a")).toBe("cancelled");
    });

    check("a bulk start holds the flush until it ends or its time is over", async ({ kit, store }) => {
      const producers = async (): Promise<boolean> => (await store.activity({ now: kit.now, chains: [] })).producers;
      expect(await producers()).toBe(false);
      await store.holdFlush({ producer: "p1", until: kit.now + 1_000 });
      await store.holdFlush({ producer: "p2", until: kit.now + 9_000 });
      expect(await producers()).toBe(true);
      await store.holdFlush({ producer: "p2", until: 0 });
      expect(await producers()).toBe(true);
      kit.now += 1_001;
      expect(await producers()).toBe(false);
      await store.holdFlush({ producer: "p1", until: kit.now + 1_000 });
      expect(await producers()).toBe(true);
    });

    check("runs in hand count as running only while their worker lives", async ({ kit, store }) => {
      const running = async (): Promise<boolean> => (await store.activity({ now: kit.now, chains: [] })).running;
      await kit.start(newRun("a"));
      expect(await running()).toBe(false);
      const run = await kit.claimOne();
      expect(await running()).toBe(true);
      kit.now += leaseMs + 1;
      expect(await running()).toBe(false);
      await kit.beat();
      expect(await running()).toBe(true);
      await kit.commit(run, { outcome: { type: "failed", error: failure("no") } });
      expect(await running()).toBe(false);
    });
  });
}
