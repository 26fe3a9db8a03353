import type { Page, PageOptions } from "../core/store.ts";
import type { StoreSuite } from "./store-suite.ts";
import { failure, newRun, otherLane, request } from "./store-kit.ts";

/** All items of a list, read in pages of two. */
async function pages<T>(list: (page: PageOptions) => Promise<Page<T>>): Promise<T[][]> {
  const result: T[][] = [];
  let cursor: string | undefined;
  do {
    const page = await list(cursor === undefined ? { limit: 2 } : { limit: 2, cursor });
    result.push(page.items);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return result;
}

export function testLists({ describe, check, expect, rejects }: StoreSuite): void {
  describe("looking", () => {
    check("what is not there is undefined", async ({ store }) => {
      expect(await store.getRuns({ ids: ["none"] })).toEqual([undefined]);
      expect(await store.getRequest({ id: "none" })).toBe(undefined);
      expect(await store.getRequest({ id: "1-0" })).toBe(undefined);
      expect(await store.getBatch({ id: "none" })).toBe(undefined);
      expect(await store.listRequests({ run: "none" })).toEqual({ items: [], nextCursor: undefined });
      expect(await store.listRequests({ batch: "none" })).toEqual({ items: [], nextCursor: undefined });
    });

    check("runs come in the order asked for", async ({ kit }) => {
      await kit.start(newRun("a"), newRun("b"));
      expect((await kit.store.getRuns({ ids: ["b", "none", "a", "b"] })).map((run) => run?.id)).toEqual(["b", undefined, "a", "b"]);
    });

    check("a request is found by its id", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0"), request("q1", { lane: otherLane, bytes: 123, tokens: 45, deadlineAt: kit.now + 90 })]);
      const [, item] = await kit.requests("a");
      expect(await store.getRequest({ id: item!.id })).toEqual(item);
      const { id: _, ...rest } = item!;
      expect(rest).toEqual({
        run: "a",
        key: "q1",
        lane: otherLane,
        state: "queued",
        attempt: 1,
        batch: undefined,
        bytes: 123,
        tokens: 45,
        createdAt: kit.now,
        availableAt: kit.now,
        deadlineAt: kit.now + 90,
        tierReason: undefined,
        cost: { usd: 0, standardUsd: 0, unpriced: 0 },
        body: { ask: "q1" },
        response: undefined,
        error: undefined,
      });
    });

    check("runs are listed newest first, page by page, by chain and state", async ({ kit, store }) => {
      for (const [i, chain] of ["x", "digest", "x", "digest", "x"].entries()) {
        kit.now += 1;
        await kit.start(newRun(`run-${i}`, { chain }));
      }
      const ids = (found: { id: string }[][]): string[][] => found.map((page) => page.map(({ id }) => id));
      expect(ids(await pages((page) => store.listRuns(page)))).toEqual([["run-4", "run-3"], ["run-2", "run-1"], ["run-0"]]);
      expect(ids(await pages((page) => store.listRuns({ ...page, chain: "x" }))).flat()).toEqual(["run-4", "run-2", "run-0"]);
      await kit.commit(await kit.claimOne(), { outcome: { type: "failed", error: failure("no") } });
      expect((await store.listRuns({ state: "failed" })).items.map(({ id }) => id)).toEqual(["run-1"]);
      expect((await store.listRuns({ state: "runnable", chain: "digest" })).items.map(({ id }) => id)).toEqual(["run-3"]);
      expect((await store.listRuns({ state: "held" })).items).toEqual([]);
      expect((await store.listRuns({ state: "failed", chain: "x" })).items).toEqual([]);
      expect((await store.listRuns({ chain: "none" })).items).toEqual([]);
    });

    check("each state lists its runs", async ({ kit, store }) => {
      await kit.start(...["completed", "failed", "held", "retried", "running", "runnable"].map((id) => newRun(id)));
      const outcomes = [
        { type: "completed" as const, output: "1" },
        { type: "failed" as const, error: failure("f") },
        { type: "held" as const, error: failure("h") },
        { type: "retry" as const, at: kit.now + 9, error: failure("r") },
      ];
      for (const outcome of outcomes) await kit.commit(await kit.claimOne(), { outcome });
      await kit.claimOne();
      for (const [state, ids] of Object.entries({ completed: ["completed"], failed: ["failed"], held: ["held"], waiting: ["retried"] })) {
        const page = await store.listRuns({ state: state as "held" });
        expect([state, page.items.map(({ id }) => id)]).toEqual([state, ids]);
      }
      expect((await store.stats()).runs).toEqual({ completed: 1, failed: 1, held: 1, waiting: 1, running: 1, runnable: 1, cancelled: 0 });
    });

    check("requests are listed by run, batch and state", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0"), request("q1"), request("q2", { lane: otherLane })]);
      await kit.waiting("b", [request("q3")]);
      const batch = await kit.routing("b1");
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [
        { ...first!, result: { type: "failed", error: failure("no") } },
        { ...second!, result: { type: "retry", availableAt: kit.now, error: failure("busy") } },
      ]);
      const keys = async (filter: Parameters<typeof store.listRequests>[0]): Promise<string[]> =>
        (await pages((page) => store.listRequests({ ...filter, ...page }))).flat().map(({ key }) => key);
      const sorted = async (filter: Parameters<typeof store.listRequests>[0]): Promise<string[]> =>
        (await keys(filter)).toSorted((a, b) => (a < b ? -1 : 1));
      expect(await sorted({})).toEqual(["q0", "q1", "q2", "q3"]);
      expect(await keys({ run: "a" })).toEqual(["q2", "q1", "q0"]);
      expect(await sorted({ state: "queued" })).toEqual(["q1", "q2"]);
      expect(await sorted({ batch: "b1" })).toEqual(["q0", "q3"]);
      expect(await keys({ batch: "b1", state: "batched" })).toEqual(["q3"]);
      expect(await keys({ run: "a", batch: "b1" })).toEqual(["q0"]);
      expect(await keys({ run: "b", state: "queued" })).toEqual([]);
    });

    check("batches are listed newest first, by state and activity", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0"), request("q1"), request("q2")]);
      for (const id of ["b0", "b1", "b2"]) {
        kit.now += 1;
        await kit.form(id, { limits: { requests: 1 } });
      }
      const [oldest] = await kit.claimBatches(["sealed"], "w1", 1);
      await kit.settleRest(oldest!, { type: "failed", error: failure("refused") });
      await kit.update(oldest!, { state: "failed", error: failure("refused") });
      const ids = async (filter: Parameters<typeof store.listBatches>[0]): Promise<string[]> =>
        (await pages((page) => store.listBatches({ ...filter, ...page }))).flat().map(({ id }) => id);
      expect(await ids({})).toEqual(["b2", "b1", "b0"]);
      expect([await ids({ active: true }), await ids({ active: false })]).toEqual([["b2", "b1"], ["b0"]]);
      expect([await ids({ state: "sealed" }), await ids({ state: "failed" })]).toEqual([["b2", "b1"], ["b0"]]);
      expect((await store.activeBatches()).map(({ id }) => id).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["b1", "b2"]);
      expect((await store.stats()).batches.sealed).toBe(2);
    });

    check("a cursor that is none is refused", async ({ store }) => {
      await rejects(store.listRuns({ cursor: "not a cursor" }));
    });

    check("an empty store has empty figures", async ({ store, kit }) => {
      const { runs, requests, batches, usage } = await store.stats();
      expect([...Object.values(runs), ...Object.values(requests), ...Object.values(batches)].every((count) => count === 0)).toBe(true);
      expect([usage, await store.hasLiveRuns(), await store.activeBatches()]).toEqual([[], false, []]);
      expect(await store.fireTimers({ now: kit.now, limit: 9 })).toBe(0);
    });
  });
}
