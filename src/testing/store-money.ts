import type { StoreSuite } from "./store-suite.ts";
import { spentBy } from "./store-suite.ts";
import { failed, failure, flexLane, lane, newRun, otherLane, paid, request, standardLane, succeeded, usage } from "./store-kit.ts";

const nothing = { usd: 0, standardUsd: 0, unpriced: 0 };

export function testMoney({ describe, check, expect, rejects }: StoreSuite): void {
  describe("money", () => {
    check("an answer costs its request, its run, its batch and its day", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [
        { ...first!, result: paid("x", 0.25) },
        { ...second!, result: { type: "failed", error: failure("blocked"), usage, cost: { usd: 0.125, standardUsd: 0.25 } } },
      ]);
      expect((await kit.requests("a")).map(({ cost }) => cost)).toEqual([
        { usd: 0.25, standardUsd: 0.5, unpriced: 0 },
        { usd: 0.125, standardUsd: 0.25, unpriced: 0 },
      ]);
      const sum = { usd: 0.375, standardUsd: 0.75, unpriced: 0 };
      expect([(await kit.run("a")).cost, (await kit.batch("b1")).cost]).toEqual([sum, sum]);
      const { promptTokens, ...others } = usage;
      const total = Object.fromEntries(Object.entries(others).map(([key, count]) => [key, 2 * count]));
      expect(await store.spend({})).toEqual([
        { day: "2023-11-14", chain: "digest", lane, answers: 2, usage: { promptTokens: 2 * promptTokens, ...total }, ...sum },
      ]);
      const run = await kit.claimOne();
      expect([run.usd, run.reservedUsd]).toEqual([0.375, 0]);
    });

    check("cents add up exactly", async ({ kit }) => {
      await kit.waiting("a", [request("q1", { usd: 0.1 }), request("q2", { usd: 0.2 }), request("q3", { usd: 0.7 })]);
      expect((await kit.lane())?.usd).toBe(1);
      const batch = await kit.routing("b1");
      expect([batch.usd, await kit.lane()]).toEqual([1, undefined]);
      const members = await kit.members("b1");
      await kit.settle(
        batch,
        members.map((member, i) => ({ ...member, result: paid("x", [0.1, 0.2, 0.7][i]!) })),
      );
      expect((await kit.run("a")).cost).toEqual({ usd: 1, standardUsd: 2, unpriced: 0 });
    });

    check("what has no price is counted, and is not 0", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [
        { ...first!, result: succeeded("x") },
        { ...second!, result: paid("y", 0.25) },
      ]);
      const sum = { usd: 0.25, standardUsd: 0.5, unpriced: 1 };
      expect([(await kit.run("a")).cost, (await kit.batch("b1")).cost]).toEqual([sum, sum]);
      expect((await store.spend({})).map(({ usd, unpriced }) => [usd, unpriced])).toEqual([[0.25, 1]]);
      expect((await kit.requests("a"))[0]?.cost).toEqual({ usd: 0, standardUsd: 0, unpriced: 1 });
    });

    check("a result without usage is no answer", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      const [first] = await kit.members("b1");
      await kit.settle(batch, [{ ...first!, result: failed("no") }]);
      await kit.settleRest(batch, { type: "retry", availableAt: kit.now, error: failure("expired") });
      expect([await store.spend({}), (await store.stats()).usage, (await kit.run("a")).cost]).toEqual([[], [], nothing]);
    });

    check("every try of a request is paid", async ({ kit, store }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 2 })]);
      const retry = { type: "retry" as const, availableAt: kit.now, error: failure("empty"), usage, cost: { usd: 0.5, standardUsd: 1 } };
      await kit.answer(await kit.routing("b1"), retry);
      expect((await kit.requests("a"))[0]?.cost).toEqual({ usd: 0.5, standardUsd: 1, unpriced: 0 });
      await kit.answer(await kit.routing("b2"), { ...retry, value: '"poor"' });
      const sum = { usd: 1, standardUsd: 2, unpriced: 0 };
      expect([(await kit.requests("a"))[0]?.cost, (await kit.run("a")).cost]).toEqual([sum, sum]);
      expect((await kit.batch("b1")).cost.usd).toBe(0.5);
      expect((await store.stats()).usage[0]?.answers).toBe(2);
    });

    check("an answer for a run that is over is paid all the same", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1", { usd: 3 }), request("q2", { usd: 4 })]);
      const batch = await kit.routing("b1");
      await store.cancelRuns({ now: kit.now, ids: ["a"] });
      await kit.answer(batch, paid("late", 0.25));
      const sum = { usd: 0.5, standardUsd: 1, unpriced: 0 };
      expect([(await kit.run("a")).cost, (await kit.batch("b1")).cost]).toEqual([sum, sum]);
      expect((await kit.requests("a")).map(({ state, cost }) => [state, cost.usd])).toEqual([
        ["cancelled", 0.25],
        ["cancelled", 0.25],
      ]);
      expect((await kit.batch("b1")).counts.cancelled).toBe(2);
    });

    check("a row that comes twice is paid once", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("b1");
      const [member] = await kit.members("b1");
      for (let i = 0; i < 2; i += 1) await kit.settle(batch, [{ ...member!, result: paid("x", 0.25) }]);
      const { requests, runs, batches, days } = await spentBy(store);
      const sum = { usd: 0.25e9, standardUsd: 0.5e9, unpriced: 0 };
      expect([requests, runs, batches, days]).toEqual([sum, sum, sum, sum]);
    });

    check("open requests are reserved until they settle", async ({ kit, store }) => {
      let epoch = 0;
      const reserved = async (): Promise<number[]> => {
        await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: (epoch += 1) }] });
        const run = await kit.claimOne();
        await kit.commit(run, { firstNo: (await kit.history("a")).length });
        return [run.usd, run.reservedUsd];
      };
      await kit.waiting("a", [request("q1", { usd: 0.5 }), request("q2", { usd: 0.25 }), request("free"), request("q3", { usd: 1 })]);
      expect(await reserved()).toEqual([0, 1.75]);
      const batch = await kit.routing("b1");
      expect(await reserved()).toEqual([0, 1.75]);
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [{ ...second!, result: { type: "retry", availableAt: kit.now + 5, error: failure("busy"), usage } }]);
      expect(await reserved()).toEqual([0, 1.75]);
      await kit.settle(batch, [{ ...first!, result: paid("x", 0.125) }]);
      expect(await reserved()).toEqual([0.125, 1.25]);
    });

    check("a failed run reserves for what is under way, its retry for what is asked again", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1", { usd: 0.5 }), request("q2", { usd: 0.25 })]);
      await kit.form("b1", { limits: { requests: 1 } });
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
      await kit.commit(await kit.claimOne(), {
        firstNo: 2,
        entries: [request("q3", { usd: 1 })],
        outcome: { type: "failed", error: failure("f") },
      });
      expect(await kit.requestStates("a")).toEqual(["batched", "cancelled", "cancelled"]);
      await store.retryRuns({ now: kit.now, ids: ["a"] });
      expect((await kit.claimOne()).reservedUsd).toBe(1.75);
    });

    check("a handler run reserves for its first request", async ({ kit }) => {
      await kit.start(newRun("h", { kind: "handler", request: request("q", { usd: 0.5 }) }));
      const batch = await kit.routing("b1");
      await kit.answer(batch, paid("x", 0.25));
      const run = await kit.claimOne();
      expect([run.usd, run.reservedUsd, batch.usd]).toEqual([0.25, 0, 0.5]);
    });

    check("days, chains and lanes are told apart, versions of a chain are not", async ({ kit, store }) => {
      const day = 24 * 3_600_000;
      for (const [i, over] of [{ version: "1" }, { version: "2" }, { chain: "other" }].entries()) {
        const id = `h${i}`;
        await kit.start(newRun(id, { ...over, kind: "handler", request: request("q") }));
        await kit.answer(await kit.routing(`b${i}`), paid("x", 1));
      }
      kit.now += day;
      await kit.start(newRun("h3", { kind: "handler", request: request("q", { lane: flexLane }) }));
      await kit.answer(await kit.routing("b3", { lane: flexLane }), paid("x", 2));
      kit.now += day;
      await kit.start(newRun("h4", { kind: "handler", request: request("q", { lane: otherLane }) }));
      await kit.answer(await kit.routing("b4", { lane: otherLane }), paid("x", 4));
      const days = async (range: { since?: string; until?: string }): Promise<unknown[]> =>
        (await store.spend(range)).map((row) => [row.day, row.chain, row.lane, row.answers, row.usd]);
      const rows = [
        ["2023-11-14", "digest", lane, 2, 2],
        ["2023-11-14", "other", lane, 1, 1],
        ["2023-11-15", "digest", flexLane, 1, 2],
        ["2023-11-16", "digest", otherLane, 1, 4],
      ];
      expect(await days({})).toEqual(rows);
      expect(await days({ since: "2023-11-15", until: "2023-11-15" })).toEqual([rows[2]]);
      expect(await days({ since: "2023-11-15" })).toEqual(rows.slice(2));
      expect(await days({ until: "2023-11-14" })).toEqual(rows.slice(0, 2));
      expect((await store.stats()).usage.map((item) => [item.lane, item.answers])).toEqual([
        [lane, 3],
        [flexLane, 1],
        [otherLane, 1],
      ]);
      await rejects(store.spend({ since: "yesterday" }));
    });

    check("a money limit seals a batch", async ({ kit }) => {
      await kit.waiting("a", [request("q1", { usd: 0.1 }), request("q2", { usd: 0.2 }), request("free"), request("q4", { usd: 0.1 })]);
      const batch = await kit.form("b1", { limits: { usd: 0.3 } });
      expect([batch?.state, batch?.requestCount, batch?.usd]).toEqual(["sealed", 3, 0.3]);
      // Every other limit lets one request through; this one would be broken by it.
      expect(await kit.form("b2", { limits: { usd: 0.01 } })).toBe(undefined);
      const rest = await kit.form("b3", { limits: { usd: 0.1 } });
      expect([rest?.requestCount, rest?.usd]).toEqual([1, 0.1]);
    });

    check("what a lane's queue may cost follows its requests", async ({ kit }) => {
      await kit.waiting("a", [request("q1", { usd: 0.5 }), request("q2"), request("q3", { usd: 0.25, lane: standardLane })]);
      expect([(await kit.lane())?.usd, (await kit.lane())?.unpriced]).toEqual([0.5, 1]);
      expect([(await kit.lane(standardLane))?.usd, (await kit.lane(standardLane))?.unpriced]).toEqual([0.25, 0]);
      const batch = await kit.routing("b1");
      expect(await kit.lane()).toBe(undefined);
      await kit.settleRest(batch, { type: "release", availableAt: kit.now });
      expect([(await kit.lane())?.usd, (await kit.lane())?.unpriced]).toEqual([0.5, 1]);
    });
  });
}
