import { isolationSize } from "../core/isolation.ts";
import type { RequestResult } from "../core/store.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";
import { failure, flexLane, lane, request, succeeded } from "./store-kit.ts";

type Kit = StoreContext["kit"];

const asks = (count: number) => Array.from({ length: count }, (_, i) => request(`q${i}`, { maxAttempts: 9 }));
const jobFailed = (kit: Kit): Extract<RequestResult, { type: "retry" }> => ({
  type: "retry",
  availableAt: kit.now,
  error: failure("the job failed"),
  jobFailed: true,
});

/** Twice a job of all that is queued fails as a whole. */
async function failTwice(kit: Kit): Promise<void> {
  for (const id of ["bad-1", "bad-2"]) {
    const batch = await kit.routing(id);
    await kit.settleRest(batch, jobFailed(kit), 1_000);
    await kit.update(batch, { state: "failed" });
  }
}

export function testRetries({ describe, check, expect }: StoreSuite): void {
  describe("retries by class", () => {
    check("a class of trouble may be worth fewer tries than the request has", async ({ kit }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 9 })]);
      const retry = { type: "retry" as const, availableAt: kit.now, error: failure("empty"), retries: 1 };
      await kit.answer(await kit.routing("b1"), retry);
      expect((await kit.requests("a"))[0]?.attempt).toBe(2);
      await kit.answer(await kit.routing("b2"), retry);
      const [item] = await kit.requests("a");
      expect([item?.state, item?.error?.message, await kit.state("a")]).toEqual(["failed", "empty", "runnable"]);
    });

    check("no try more delivers what there is", async ({ kit }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 9 })]);
      const retry = { type: "retry" as const, availableAt: kit.now, error: failure("cut"), retries: 0, value: '"half"' };
      await kit.answer(await kit.routing("b1"), retry);
      expect([await kit.requestStates("a"), (await kit.history("a"))[0]?.value]).toEqual([["succeeded"], '"half"']);
    });

    check("more retries than attempts are none more", async ({ kit }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 1 })]);
      await kit.answer(await kit.routing("b1"), { type: "retry", availableAt: kit.now, error: failure("busy"), retries: 5 });
      expect(await kit.requestStates("a")).toEqual(["failed"]);
    });
  });

  describe("requests that travel apart", () => {
    check("one failed job is forgiven, after two a few requests travel alone", async ({ kit, store }) => {
      await kit.waiting("a", asks(3));
      const first = await kit.routing("b1");
      await kit.settleRest(first, jobFailed(kit));
      expect([await kit.queued(), (await kit.lane())?.isolated]).toEqual([3, 0]);
      await kit.settleRest(await kit.routing("b2"), jobFailed(kit));
      const activity = await kit.lane();
      expect([activity?.queued, activity?.bytes, activity?.tokens, activity?.isolated]).toEqual([0, 0, 0, 3]);
      expect([await kit.requestStates("a"), (await store.stats()).requests.queued]).toEqual([["queued", "queued", "queued"], 3]);
      expect((await kit.requests("a")).map((item) => [item.batch, item.attempt])).toEqual([
        [undefined, 3],
        [undefined, 3],
        [undefined, 3],
      ]);
      expect(await kit.form("b3")).toBe(undefined);
      expect((await kit.form("b3", { isolated: true }))?.requestCount).toBe(1);
      expect((await kit.form("b4", { isolated: true }))?.state).toBe("sealed");
      expect((await kit.lane())?.isolated).toBe(1);
      await kit.form("b5", { isolated: true });
      expect([await kit.lane(), await kit.form("b6", { isolated: true })]).toEqual([undefined, undefined]);
    });

    check("many travel in groups, and alone after the third", async ({ kit }) => {
      await kit.waiting("a", asks(50));
      await failTwice(kit);
      const size = isolationSize(2, 50)!;
      expect((await kit.lane())?.isolated).toBe(50);
      const batch = await kit.routing("b1", { isolated: true });
      expect([batch.requestCount, (await kit.lane())?.isolated]).toEqual([size, 50 - size]);
      kit.now += 1;
      await kit.settleRest(batch, jobFailed(kit));
      // The oldest group first: those that have failed a third time were enqueued later.
      for (let left = 50 - size, i = 0; left > 0; left -= size, i += 1) {
        expect((await kit.form(`g${i}`, { isolated: true }))?.requestCount).toBe(Math.min(size, left));
      }
      expect((await kit.form("alone", { isolated: true }))?.requestCount).toBe(1);
      expect((await kit.lane())?.isolated).toBe(size - 1);
    });

    check("a group is formed in chunks, keeps to its limits and never mixes", async ({ kit }) => {
      await kit.waiting("a", asks(50));
      await failTwice(kit);
      await kit.waiting("b", [request("other")]);
      expect((await kit.form("b1", { isolated: true, chunk: 3 }))?.state).toBe("forming");
      expect((await kit.form("b1", { isolated: true, chunk: 3 }))?.requestCount).toBe(6);
      // Whoever goes on with it need not know how it began.
      const group = await kit.form("b1", { chunk: 3 });
      expect([group?.state, group?.requestCount]).toEqual(["sealed", isolationSize(2, 50)]);
      expect((await kit.form("b2", { isolated: true, limits: { requests: 2 } }))?.requestCount).toBe(2);
      expect((await kit.form("b3", { isolated: true, limits: { bytes: 350 } }))?.requestCount).toBe(3);
      expect((await kit.form("b4"))?.requestCount).toBe(1);
      expect((await kit.members("b4")).map(({ body }) => body)).toEqual(['{"ask":"other"}']);
    });

    check("a delayed one joins the others that travel apart when it is due", async ({ kit }) => {
      await kit.waiting("a", asks(2));
      await kit.settleRest(await kit.routing("b1"), jobFailed(kit));
      await kit.settleRest(await kit.routing("b2"), { ...jobFailed(kit), availableAt: kit.now + 50 });
      const activity = await kit.lane();
      expect([activity?.isolated, activity?.queued, activity?.nextAt]).toEqual([0, 0, kit.now + 50]);
      expect(await kit.form("b3", { isolated: true })).toBe(undefined);
      kit.now += 50;
      expect([(await kit.lane())?.isolated, (await kit.lane())?.queued]).toEqual([2, 0]);
      await kit.form("b3", { isolated: true });
      expect((await kit.lane())?.isolated).toBe(1);
    });

    check("a released one goes back to the others that travel apart", async ({ kit }) => {
      await kit.waiting("a", asks(2));
      await failTwice(kit);
      const batch = await kit.routing("b1", { isolated: true });
      await kit.settleRest(batch, { type: "release", availableAt: kit.now });
      expect([(await kit.lane())?.isolated, (await kit.lane())?.queued]).toEqual([2, 0]);
    });

    check("a direct tier has no jobs to fail: there they join the queue", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0", { maxAttempts: 9, deadlineAt: kit.now + 9 }), request("q1", { maxAttempts: 9 })]);
      await failTwice(kit);
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      await store.decideDeadlines({
        now: kit.now,
        decisions: [{ ...item!, checkAt: undefined, move: { tier: "flex", reason: "r" } }],
      });
      const [member] = [await kit.routing("b1", { isolated: true })];
      await kit.answer(member, { type: "move", tier: "flex", reason: "r", availableAt: kit.now });
      expect([(await kit.lane(flexLane))?.queued, (await kit.lane(flexLane))?.isolated, await kit.lane()]).toEqual([2, 0, undefined]);
      const batch = await kit.routing("b2", { lane: flexLane });
      await kit.answer(batch, { type: "move", tier: "batch", reason: "shed", availableAt: kit.now });
      expect([(await kit.lane())?.queued, (await kit.lane())?.isolated, await kit.lane(flexLane)]).toEqual([0, 2, undefined]);
    });

    check("those of a run that ends are withdrawn, and its retry starts them anew", async ({ kit, store }) => {
      await kit.waiting("a", asks(2));
      await failTwice(kit);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
      await kit.commit(await kit.claimOne(), { firstNo: 2, outcome: { type: "failed", error: failure("f") } });
      expect([await kit.requestStates("a"), await kit.lane()]).toEqual([["cancelled", "cancelled"], undefined]);
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      expect([(await kit.lane())?.queued, (await kit.lane())?.isolated]).toEqual([2, 0]);
      await kit.settleRest(await kit.routing("b1"), jobFailed(kit));
      expect((await kit.lane())?.queued).toBe(2);
    });

    check("one that is answered is one less", async ({ kit }) => {
      await kit.waiting("a", asks(2));
      await failTwice(kit);
      await kit.answer(await kit.routing("b1", { isolated: true }), succeeded("good"));
      expect(await kit.requestStates("a")).toEqual(["succeeded", "queued"]);
      await kit.answer(await kit.routing("b2", { isolated: true, lane }), { type: "failed", error: failure("bad") });
      expect([await kit.requestStates("a"), await kit.lane()]).toEqual([["succeeded", "failed"], undefined]);
    });
  });
}
