import type { Lane } from "../core/provider.ts";
import { flexLane, lane, paid, request } from "./store-kit.ts";
import type { StoreContext, StoreSuite } from "./store-suite.ts";

type Kit = StoreContext["kit"];

const textLane: Lane = { ...lane, shape: "a1" };
const imageLane: Lane = { ...lane, shape: "b2" };
const imageAutoLane: Lane = { ...imageLane, tier: "auto" };
const imageFlexLane: Lane = { ...imageLane, tier: "flex" };

export function testShapes({ describe, check, expect }: StoreSuite): void {
  /** One run with a request in each of these lanes. */
  const ask = (kit: Kit, id: string, lanes: readonly Lane[]) =>
    kit.waiting(
      id,
      lanes.map((of, i) => request(`q${i}`, { lane: of })),
    );
  const lanesOf = async (kit: Kit, run: string) => (await kit.requests(run)).map((item) => item.lane);

  describe("shapes of lanes", () => {
    check("lanes that differ in nothing else have queues of their own", async ({ kit, store }) => {
      await ask(kit, "a", [lane, textLane, imageLane, textLane, imageFlexLane]);
      expect(await lanesOf(kit, "a")).toEqual([lane, textLane, imageLane, textLane, imageFlexLane]);
      const { lanes } = await store.activity({ now: kit.now, chains: [] });
      expect(lanes.map((item) => [item.lane, item.queued])).toEqual([
        [lane, 1],
        [textLane, 2],
        [imageLane, 1],
        [imageFlexLane, 1],
      ]);
    });

    check("a batch holds one shape", async ({ kit, store }) => {
      await ask(kit, "a", [textLane, imageLane, textLane, lane]);
      const batch = await kit.form("b1", { lane: textLane });
      expect([batch?.lane, batch?.requestCount, batch?.state]).toEqual([textLane, 2, "sealed"]);
      expect(await kit.form("b2", { lane: flexLane })).toBe(undefined);
      expect(await kit.form("b2", { lane: { ...lane, shape: "c3" } })).toBe(undefined);
      expect((await kit.form("b2", { lane: imageLane }))?.requestCount).toBe(1);
      expect((await kit.form("b3"))?.lane).toEqual(lane);
      expect((await store.activeBatches()).map((item) => item.lane)).toEqual([textLane, imageLane, lane]);
      expect((await kit.claimBatches(["sealed"])).map((item) => item.lane)).toEqual([textLane, imageLane, lane]);
    });

    check("job slots are the provider's, whatever the shape", async ({ kit }) => {
      await ask(kit, "a", [textLane, imageLane]);
      await kit.form("b1", { lane: textLane, maxActive: 1 });
      expect(await kit.form("b2", { lane: imageLane, maxActive: 1 })).toBe(undefined);
      expect((await kit.form("b2", { lane: imageLane, maxActive: 2 }))?.requestCount).toBe(1);
    });

    check("batches are listed by lane, the shape included", async ({ kit, store }) => {
      await ask(kit, "a", [textLane, imageLane, lane]);
      for (const [i, of] of [textLane, imageLane, lane].entries()) await kit.form(`b${i}`, { lane: of });
      const list = async (of: Lane) => (await store.listBatches({ lane: of })).items.map(({ id }) => id);
      expect([await list(textLane), await list(imageLane), await list(lane)]).toEqual([["b0"], ["b1"], ["b2"]]);
      expect(await list({ ...lane, shape: "c3" })).toEqual([]);
    });

    check("requests move to another tier of their own shape", async ({ kit, store }) => {
      await ask(kit, "a", [imageAutoLane, { ...textLane, tier: "auto" }, { ...lane, tier: "auto" }]);
      const move = { now: kit.now, from: imageAutoLane, to: imageLane, limit: 9, reason: "wide" };
      expect([await store.moveQueued(move), await store.moveQueued(move)]).toEqual([1, 0]);
      expect(await lanesOf(kit, "a")).toEqual([imageLane, { ...textLane, tier: "auto" }, { ...lane, tier: "auto" }]);
      expect([await kit.queued(imageLane), await kit.queued(imageAutoLane), await kit.queued(lane)]).toEqual([1, 0, 0]);
    });

    check("a result that sends a request to another tier, and a deadline that does, keep its shape", async ({ kit, store }) => {
      await kit.waiting("a", [request("q0", { lane: imageFlexLane }), request("q1", { lane: imageLane, deadlineAt: kit.now + 9 })]);
      const batch = await kit.routing("b1", { lane: imageFlexLane });
      await kit.answer(batch, { type: "move", tier: "batch", reason: "shed", availableAt: kit.now });
      const [item] = await store.dueDeadlines({ now: kit.now, limit: 9 });
      expect(item?.lane).toEqual(imageLane);
      const move = { tier: "flex" as const, reason: "late" };
      // A decision that was made for the same call in another shape is not for this request.
      const stale = { ...item!, lane: textLane, checkAt: undefined, move };
      expect(await store.decideDeadlines({ now: kit.now, decisions: [stale] })).toBe(0);
      expect(await store.decideDeadlines({ now: kit.now, decisions: [{ ...stale, lane: imageLane }] })).toBe(1);
      expect(await lanesOf(kit, "a")).toEqual([imageLane, imageFlexLane]);
    });

    check("what was spent and used is told apart", async ({ kit, store }) => {
      await ask(kit, "a", [textLane, imageLane]);
      await kit.answer(await kit.routing("b1", { lane: textLane }), paid("x", 0.25));
      await kit.answer(await kit.routing("b2", { lane: imageLane }), paid("y", 0.5));
      expect((await store.spend({})).map((row) => [row.lane, row.answers, row.usd])).toEqual([
        [textLane, 1, 0.25],
        [imageLane, 1, 0.5],
      ]);
      expect((await store.stats()).usage.map((row) => [row.lane, row.answers])).toEqual([
        [textLane, 1],
        [imageLane, 1],
      ]);
    });

    check(
      "they are the same after a restart",
      async ({ kit, subject }) => {
        await ask(kit, "a", [textLane, lane]);
        const store = await subject.reopen!();
        expect((await store.activity({ now: kit.now, chains: [] })).lanes.map((item) => item.lane)).toEqual([textLane, lane]);
      },
      "reopening",
    );
  });
}
