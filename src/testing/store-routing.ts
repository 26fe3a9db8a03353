import type { StoreSuite } from "./store-suite.ts";
import { failed, failure, lane, newRun, paid, request, succeeded, usage } from "./store-kit.ts";

export function testRouting({ describe, check, expect }: StoreSuite): void {
  describe("settling requests", () => {
    check("an answer settles its request and wakes its run", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      const [first, second] = await kit.members("b1");
      expect(await kit.settle(batch, [{ ...first!, result: succeeded("yes") }], { cursor: 1 })).toEqual({
        settled: 1,
        duplicate: 0,
        unknown: 0,
      });
      expect(await kit.state("a")).toBe("runnable");
      expect(await kit.settle(batch, [{ ...second!, result: failed("no") }], { cursor: 2 })).toEqual({
        settled: 1,
        duplicate: 0,
        unknown: 0,
      });
      expect((await kit.history("a")).map(({ seq, value, error }) => [seq, value, error?.message])).toEqual([
        [1, '{"text":"yes"}', undefined],
        [2, undefined, "no"],
      ]);
      const [yes, no] = await kit.requests("a");
      expect([yes?.state, yes?.response, yes?.batch]).toEqual(["succeeded", { text: "yes" }, "b1"]);
      expect([no?.state, no?.error]).toEqual(["failed", failure("no")]);
      const { cursor, counts } = await kit.batch("b1");
      expect([cursor, counts.succeeded, counts.failed]).toEqual([2, 1, 1]);
      expect((await store.stats()).usage).toEqual([{ lane, answers: 1, usage }]);
    });

    check("an answer is kept byte for byte", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      const value = '{ "text" : "\\u00e9é 🦋\\u2028", "n": 1.0, "sig":"AAE=" }';
      await kit.answer(await kit.routing("b1"), { type: "succeeded", value, usage });
      expect((await kit.history("a"))[0]?.value).toBe(value);
    });

    check("every run gets its own answer at its own price, in whatever order rows come", async ({ kit }) => {
      const runs = Array.from({ length: 9 }, (_, i) => `run-${i}`);
      // Estimates are released each by itself.
      for (const [i, run] of runs.entries()) await kit.waiting(run, [request("q", { usd: (i + 1) * 10 })]);
      const batch = await kit.routing("b1");
      const members = await kit.members("b1");
      const rows = members.map((member, i) => ({ ...member, result: i === 4 ? failed("no") : paid(`answer ${i}`, i + 1) }));
      await kit.settle(
        batch,
        [5, 0, 8, 3, 4, 7, 1, 6, 2].map((i) => rows[i]!),
      );
      for (const [i, run] of runs.entries()) {
        const [entry] = await kit.history(run);
        const [asked] = await kit.requests(run);
        const usd = i === 4 ? 0 : i + 1;
        expect([entry?.value, entry?.error?.message]).toEqual(
          i === 4 ? [undefined, "no"] : [JSON.stringify({ text: `answer ${i}` }), undefined],
        );
        expect([asked?.id, asked?.state, asked?.cost.usd]).toEqual([members[i]?.id, i === 4 ? "failed" : "succeeded", usd]);
        expect((await kit.run(run)).cost.usd).toBe(usd);
      }
      expect((await kit.claim()).map(({ usd, reservedUsd }) => [usd, reservedUsd])).toEqual(runs.map((_, i) => [i === 4 ? 0 : i + 1, 0]));
    });

    check("the same rows again change nothing", async ({ kit, store }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("b1");
      const [member] = await kit.members("b1");
      await kit.settle(batch, [{ ...member!, result: succeeded("first") }]);
      const run = await kit.claimOne();
      expect(await kit.settle(batch, [{ ...member!, result: failed("second") }])).toEqual({ settled: 0, duplicate: 1, unknown: 0 });
      expect([(await kit.history("a"))[0]?.value, run.seq]).toEqual(['{"text":"first"}', 1]);
      expect((await store.stats()).usage[0]?.answers).toBe(1);
      expect((await kit.batch("b1")).counts.duplicate).toBe(1);
      expect(await kit.commit(run, { firstNo: 1, entries: [request("q2")] })).toEqual({ state: "waiting", seq: 1 });
    });

    check("a row twice in one call counts once", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      const batch = await kit.routing("b1");
      const [member] = await kit.members("b1");
      const rows = [succeeded("first"), succeeded("second")].map((result) => ({ ...member!, result }));
      expect(await kit.settle(batch, rows)).toEqual({ settled: 1, duplicate: 1, unknown: 0 });
      expect((await kit.history("a"))[0]?.value).toBe('{"text":"first"}');
    });

    check("rows of nobody, of another batch and of another attempt are unknown", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      await kit.form("b1", { limits: { requests: 1 } });
      const batch = await kit.routing("b2");
      const [other] = await kit.members("b1");
      const [own] = await kit.members("b2");
      const result = succeeded("x");
      const rows = [
        { id: "zzzz-zz", attempt: 1, result },
        { id: "Not one of OURS", attempt: 1, result },
        { id: `0${own!.id}`, attempt: 1, result },
        { id: other!.id, attempt: 1, result },
        { id: own!.id, attempt: 2, result },
      ];
      expect(await kit.settle(batch, rows, { unknown: 3, cursor: 8 })).toEqual({ settled: 0, duplicate: 0, unknown: 8 });
      expect(await kit.requestStates("a")).toEqual(["batched", "batched"]);
      const { counts, cursor } = await kit.batch("b2");
      expect([counts.unknown, cursor, await kit.state("a")]).toEqual([8, 8, "waiting"]);
    });

    check("requests of one run, in one call, settle one after the other", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2"), request("q3")]);
      await kit.answer(await kit.routing("b1"));
      expect((await kit.history("a")).map(({ seq }) => seq)).toEqual([1, 2, 3]);
      expect((await kit.claimOne()).seq).toBe(3);
    });

    check("a retry goes back to the queue with one attempt more", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      await kit.answer(await kit.routing("b1"), { type: "retry", availableAt: kit.now, error: failure("busy"), usage });
      const [item] = await kit.requests("a");
      expect([item?.state, item?.attempt, item?.batch]).toEqual(["queued", 2, undefined]);
      expect([await kit.state("a"), await kit.queued(), (await kit.batch("b1")).counts.requeued]).toEqual(["waiting", 1, 1]);
      expect((await kit.routing("b2")).requestCount).toBe(1);
      expect((await kit.members("b2"))[0]?.attempt).toBe(2);
    });

    check("an answer of an attempt that is over is not taken", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      const old = await kit.routing("b1");
      const [first] = await kit.members("b1");
      await kit.answer(old, { type: "retry", availableAt: kit.now, error: failure("busy") });
      expect((await kit.settle(old, [{ ...first!, result: succeeded("late") }]))?.settled).toBe(0);
      const batch = await kit.routing("b2");
      expect((await kit.settle(old, [{ ...first!, result: succeeded("late") }]))?.settled).toBe(0);
      expect((await kit.settle(batch, [{ ...first!, result: succeeded("late") }]))?.settled).toBe(0);
      expect(await kit.requestStates("a")).toEqual(["batched"]);
    });

    check("a delayed retry is in no figure and no batch before its time", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      await kit.form("b1", { limits: { requests: 1 } });
      const batch = await kit.routing("b2");
      await kit.answer(batch, { type: "retry", availableAt: kit.now + 100, error: failure("busy") });
      const { lanes } = await store.activity({ now: kit.now, chains: [] });
      expect([lanes.length, lanes[0]?.queued, lanes[0]?.bytes, lanes[0]?.tokens, lanes[0]?.nextAt]).toEqual([1, 0, 0, 0, kit.now + 100]);
      expect(await kit.form("b3")).toBe(undefined);
      expect((await store.stats()).requests.queued).toBe(1);
      kit.now += 100;
      const due = (await store.activity({ now: kit.now, chains: [] })).lanes[0];
      expect([due?.queued, due?.bytes, due?.tokens, due?.nextAt]).toEqual([1, 100, 10, undefined]);
      expect((await kit.form("b3"))?.requestCount).toBe(1);
      expect((await store.activity({ now: kit.now, chains: [] })).lanes).toEqual([]);
    });

    check("a delayed retry that is due is formed without a look at the activity", async ({ kit }) => {
      await kit.waiting("a", [request("q")]);
      await kit.answer(await kit.routing("b1"), { type: "retry", availableAt: kit.now + 100, error: failure("busy") });
      kit.now += 100;
      expect((await kit.form("b2"))?.requestCount).toBe(1);
    });

    check("the last attempt fails with its error", async ({ kit }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 2 })]);
      const retry = { type: "retry" as const, availableAt: kit.now, error: failure("busy") };
      await kit.answer(await kit.routing("b1"), retry);
      await kit.answer(await kit.routing("b2"), retry);
      const [item] = await kit.requests("a");
      expect([item?.state, item?.attempt, item?.error?.message, await kit.state("a")]).toEqual(["failed", 2, "busy", "runnable"]);
      expect((await kit.batch("b2")).counts).toEqual({ succeeded: 0, failed: 1, requeued: 0, cancelled: 0, duplicate: 0, unknown: 0 });
    });

    check("the last attempt delivers what it has, if it has something", async ({ kit }) => {
      await kit.waiting("a", [request("q", { maxAttempts: 1 })]);
      await kit.answer(await kit.routing("b1"), { type: "retry", availableAt: kit.now, error: failure("empty"), value: '"poor"' });
      const [entry] = await kit.history("a");
      expect([entry?.value, entry?.error, await kit.requestStates("a")]).toEqual(['"poor"', undefined, ["succeeded"]]);
    });

    check("what is left of a batch settles in portions", async ({ kit }) => {
      await kit.waiting(
        "a",
        Array.from({ length: 5 }, (_, i) => request(`q${i}`)),
      );
      const batch = await kit.routing("b1");
      const third = (await kit.members("b1"))[2]!;
      await kit.settle(batch, [{ ...third, result: succeeded("one came") }]);
      const lost = { type: "failed" as const, error: failure("missing") };
      expect(await kit.settleRest(batch, lost, 3)).toBe(1);
      expect(await kit.settleRest(batch, lost, 3)).toBe(0);
      expect(await kit.settleRest(batch, lost, 3)).toBe(0);
      expect(await kit.requestStates("a")).toEqual(["failed", "failed", "succeeded", "failed", "failed"]);
      expect((await kit.claimOne()).seq).toBe(5);
      expect(await kit.update(batch, { state: "completed" })).toBe(true);
    });

    check("what is left can be asked again, until no attempt is left", async ({ kit }) => {
      await kit.waiting("a", [request("q1", { maxAttempts: 1 }), request("q2")]);
      const batch = await kit.routing("b1");
      expect(await kit.settleRest(batch, { type: "retry", availableAt: kit.now, error: failure("expired") })).toBe(0);
      expect(await kit.requestStates("a")).toEqual(["failed", "queued"]);
      expect((await kit.requests("a"))[1]?.attempt).toBe(2);
    });

    check("released requests go back unchanged", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      expect(await kit.settleRest(batch, { type: "release", availableAt: kit.now + 10 }, 1)).toBe(1);
      expect(await kit.settleRest(batch, { type: "release", availableAt: kit.now + 10 }, 1)).toBe(0);
      expect((await kit.requests("a")).map(({ state, attempt, availableAt }) => [state, attempt, availableAt])).toEqual([
        ["queued", 1, kit.now + 10],
        ["queued", 1, kit.now + 10],
      ]);
      expect([await kit.state("a"), (await kit.batch("b1")).counts.requeued]).toEqual(["waiting", 2]);
      kit.now += 10;
      expect((await kit.routing("b2")).requestCount).toBe(2);
    });

    check("usage adds up by lane", async ({ kit, store }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      const batch = await kit.routing("b1");
      const [first, second] = await kit.members("b1");
      await kit.settle(batch, [
        { ...first!, result: succeeded("x") },
        { ...second!, result: { type: "failed", error: failure("blocked"), usage: { ...usage, outputTokens: 0 } } },
      ]);
      const sum = { promptTokens: 14, cachedTokens: 4, outputTokens: 5, thoughtTokens: 6, toolTokens: 2, audioTokens: 8, imageTokens: 12 };
      expect((await store.stats()).usage).toEqual([{ lane, answers: 2, usage: sum }]);
    });

    check("an answer for a runnable or held run waits in its history", async ({ kit }) => {
      await kit.waiting("a", [request("q1"), request("q2")]);
      await kit.start(newRun("b"));
      await kit.commit(await kit.claimOne(), { entries: [request("q")], outcome: { type: "held", error: failure("h") } });
      await kit.answer(await kit.routing("b1"));
      expect(await kit.states("a", "b")).toEqual(["runnable", "held"]);
      expect((await kit.history("b"))[0]?.seq).toBe(1);
    });
  });
}
