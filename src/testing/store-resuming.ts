import type { ClaimedRun, CommitResult, NewEntry, ResumedRun, SettleRow } from "../core/store.ts";
import type { StoreSuite } from "./store-suite.ts";
import { digestRuns, failed, failure, leaseMs, newRun, paid, request, step, type StoreKit, succeeded } from "./store-kit.ts";

/** A run of `w1` that waits for the request `q`, and the id that its commit told. */
async function awaiting(kit: StoreKit, id: string, entries: NewEntry[] = [request("q")]): Promise<{ run: ClaimedRun; request: string }> {
  await kit.start(newRun(id));
  const run = await kit.claimOne();
  const result = await kit.commit(run, { entries, awaits: "q" });
  return { run, request: requestOf(result) };
}

function requestOf(result: CommitResult): string {
  if (result.state === "lost" || result.request === undefined) throw new Error("The commit did not tell the id of its request.");
  return result.request;
}

/** Settles rows for a worker that keeps turns. */
async function settleFor(kit: StoreKit, rows: SettleRow[], worker = "w1", batch = "b1"): Promise<ResumedRun[]> {
  return (await kit.settle(await kit.batch(batch), rows, { worker }))?.resumed ?? [];
}

export function testResuming({ describe, check: checkAll, expect }: StoreSuite): void {
  const check = (name: string, body: Parameters<typeof checkAll>[1]): void => checkAll(name, body, "resuming");

  describe("resuming kept turns", () => {
    check("a commit tells the id of the request that its turn awaits, wherever it is among the entries", async ({ kit }) => {
      const { request: id } = await awaiting(kit, "a", [step("s"), request("q"), step("t")]);
      expect((await kit.requests("a")).map((item) => [item.id, item.key])).toEqual([[id, "q"]]);
      await kit.start(newRun("b"), newRun("c"));
      const [b, c] = await kit.claim();
      expect(await kit.commit(b!, { entries: [request("q")] })).toEqual({ state: "waiting", seq: 0 });
      // Nothing waits for it.
      expect(await kit.commit(c!, { entries: [request("q")], awaits: "q", outcome: { type: "running" } })).toEqual({
        state: "running",
        seq: 0,
      });
    });

    check("an answer puts its run into the hand of who keeps its turn", async ({ kit, store }) => {
      const { run, request: id } = await awaiting(kit, "a", [request("q", { usd: 0.25 })]);
      await kit.routing("b1");
      const resumed = await settleFor(kit, [{ id, attempt: 1, result: paid("yes", 0.125), keptEpoch: run.epoch }]);
      expect(resumed).toEqual([{ row: 0, epoch: run.epoch + 1, seq: 1, usd: 0.125, reservedUsd: 0 }]);
      expect(await kit.state("a")).toBe("running");
      const { runnable, running } = await store.activity({ now: kit.now, chains: digestRuns });
      expect([runnable, running, await kit.claim()]).toEqual([false, true, []]);
      expect((await kit.history("a")).map(({ seq, value }) => [seq, value])).toEqual([[1, '{"text":"yes"}']]);

      expect(await kit.commit({ ...run, seq: 1 }, { firstNo: 1, entries: [request("q2")] })).toEqual({ state: "lost" });
      const again = { ...run, ...resumed[0]! };
      const next = await kit.commit(again, { firstNo: 1, entries: [request("q2")], awaits: "q2" });
      expect(next).toEqual({ state: "waiting", seq: 1, request: (await kit.requests("a"))[1]!.id });
      await kit.routing("b2");
      const row = { id: requestOf(next), attempt: 1, result: failed("no"), keptEpoch: again.epoch };
      expect((await settleFor(kit, [row], "w1", "b2")).map(({ epoch, seq }) => [epoch, seq])).toEqual([[again.epoch + 1, 2]]);
      expect((await kit.history("a")).map(({ seq, error }) => [seq, error?.message])).toEqual([
        [1, undefined],
        [2, "no"],
      ]);
    });

    check("many runs in one call: those that are kept are resumed, each with its own figures, the others wake up", async ({ kit }) => {
      const runs: Awaited<ReturnType<typeof awaiting>>[] = [];
      for (let i = 0; i < 7; i += 1) runs.push(await awaiting(kit, `run-${i}`, [request("q", { usd: 1 + i })]));
      await kit.routing("b1");
      const rows = runs.map(({ run, request: id }, i): SettleRow => {
        const result = i === 5 ? failed("no") : paid(`answer ${i}`, (i + 1) / 8);
        return { id, attempt: 1, result, ...(i % 3 > 0 && { keptEpoch: run.epoch }) };
      });
      const resumed = await settleFor(
        kit,
        [3, 5, 0, 1, 6, 2, 4].map((i) => rows[i]!),
      );
      expect(resumed.toSorted((a, b) => a.row - b.row)).toEqual(
        [
          { row: 1, usd: 0 },
          { row: 3, usd: 2 / 8 },
          { row: 5, usd: 3 / 8 },
          { row: 6, usd: 5 / 8 },
        ].map((one) => ({ ...one, epoch: 2, seq: 1, reservedUsd: 0 })),
      );
      expect((await kit.claim()).map(({ id, usd }) => [id, usd])).toEqual([0, 3, 6].map((i) => [`run-${i}`, (i + 1) / 8]));
      for (const [i, { run }] of runs.entries()) {
        expect((await kit.history(run.id))[0]?.value).toBe(i === 5 ? undefined : JSON.stringify({ text: `answer ${i}` }));
        const done = { firstNo: 1, seen: 1, outcome: { type: "completed", output: `"${i}"` } } as const;
        expect(await kit.commit({ ...run, epoch: 2 }, done)).toEqual({ state: "completed", seq: 1 });
      }
    });

    check("a run that somebody else has had since wakes up", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      await kit.store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: run.epoch }] });
      await kit.beat("w2");
      await kit.commit(await kit.claimOne("w2"), { firstNo: 1 }, "w2");
      await kit.routing("b1");
      expect(await settleFor(kit, [{ id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch }])).toEqual([]);
      expect(await kit.state("a")).toBe("runnable");
    });

    check("only a run that waits is resumed: not a held, a cancelled, a retried one or one that is in hand", async ({ kit, store }) => {
      const runs: Record<string, Awaited<ReturnType<typeof awaiting>>> = {};
      for (const id of ["held", "cancelled", "woken", "in hand", "paused"]) runs[id] = await awaiting(kit, id);
      await kit.routing("b1");
      await store.holdRuns({ now: kit.now, ids: ["held"], error: failure("h") });
      await store.cancelRuns({ now: kit.now, ids: ["cancelled"] });
      await store.wakeRuns({ now: kit.now, runs: ["woken", "in hand", "paused"].map((run) => ({ run, epoch: 1 })) });
      const [, , paused] = await kit.claim();
      await kit.commit(paused!, { firstNo: 1, outcome: { type: "retry", at: kit.now + 1_000, error: failure("r") } });
      await store.holdRuns({ now: kit.now, ids: ["woken"], error: failure("h") });
      await store.retryRuns({ now: kit.now, ids: ["woken"] });
      const rows = Object.values(runs).flatMap(({ run, request: id }) =>
        [run.epoch, run.epoch + 1].map((keptEpoch): SettleRow => ({ id, attempt: 1, result: succeeded("x"), keptEpoch })),
      );
      // Each epoch in a call of its own: a row counts once.
      for (const rest of [0, 1]) {
        expect(
          await settleFor(
            kit,
            rows.filter((_, i) => i % 2 === rest),
          ),
        ).toEqual([]);
      }
      const states = await kit.states("held", "cancelled", "in hand", "paused");
      expect(states).toEqual(["held", "cancelled", "running", "waiting"]);
    });

    check("a row that goes back to its queue resumes nothing", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      await kit.routing("b1");
      const result = { type: "retry", availableAt: kit.now, error: failure("busy") } as const;
      expect(await settleFor(kit, [{ id, attempt: 1, result, keptEpoch: run.epoch }])).toEqual([]);
      expect([await kit.state("a"), await kit.queued()]).toEqual(["waiting", 1]);
      // The turn still waits for it.
      await kit.routing("b2");
      const row = { id, attempt: 2, result: succeeded("x"), keptEpoch: run.epoch };
      expect(await settleFor(kit, [row], "w1", "b2")).toEqual([{ row: 0, epoch: 2, seq: 1, usd: 0, reservedUsd: 0 }]);
    });

    check("the same row again resumes nothing a second time", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      const batch = await kit.routing("b1");
      const row = { id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch };
      expect((await settleFor(kit, [row])).length).toBe(1);
      expect(await settleFor(kit, [row])).toEqual([]);
      expect(await settleFor(kit, [{ ...row, keptEpoch: run.epoch + 1 }])).toEqual([]);
      const { succeeded: count, duplicate } = (await kit.batch(batch.id)).counts;
      expect([count, duplicate]).toEqual([1, 2]);
    });

    check("of several rows for one request, the one that counts is told", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      const busy = { type: "retry", availableAt: kit.now, error: failure("busy") } as const;
      await kit.answer(await kit.routing("b1"), busy);
      await kit.routing("b2");
      const rows = [1, 2, 2].map((attempt, i): SettleRow => ({ id, attempt, result: succeeded(`${i}`), keptEpoch: run.epoch }));
      const resumed = await settleFor(kit, rows, "w1", "b2");
      expect((await kit.history("a")).map(({ value }) => value)).toEqual(['{"text":"1"}']);
      // Or none: then it woke up.
      expect(resumed.map(({ row }) => row)).toEqual((await kit.claim()).length === 0 ? [1] : []);
    });

    check("a batch that is not ours any more resumes nothing", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      const batch = await kit.routing("b1");
      const rows = [{ id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch }];
      expect(await kit.settle(batch, rows, { epoch: batch.epoch + 1, worker: "w1" })).toBe(undefined);
      expect(await kit.state("a")).toBe("waiting");
    });

    check("what a dead worker had resumed is taken up by another, as after a claim", async ({ kit }) => {
      const { run, request: id } = await awaiting(kit, "a");
      await kit.routing("b1");
      await settleFor(kit, [{ id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch }]);
      kit.now += leaseMs + 1;
      await kit.beat("w2");
      const [again] = await kit.claim(1, "w2");
      expect([again?.id, again?.epoch, again?.attempts, again?.seq]).toEqual(["a", 3, 1, 1]);
      expect(await kit.commit({ ...run, epoch: 2, seq: 1 }, { firstNo: 1, outcome: { type: "completed", output: "1" } })).toEqual({
        state: "lost",
      });
    });

    check("what a worker had resumed that leaves is runnable at once", async ({ kit, store }) => {
      const { run, request: id } = await awaiting(kit, "a");
      await kit.routing("b1");
      await settleFor(kit, [{ id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch }]);
      await store.leave({ worker: "w1", now: kit.now });
      const { state, attempts } = await kit.run("a");
      expect([state, attempts]).toEqual(["runnable", 0]);
    });

    check("a resumed run that is to be cancelled ends so with its commit", async ({ kit, store }) => {
      const { run, request: id } = await awaiting(kit, "a");
      await kit.routing("b1");
      await settleFor(kit, [{ id, attempt: 1, result: succeeded("x"), keptEpoch: run.epoch }]);
      expect(await store.cancelRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      expect(await kit.commit({ ...run, epoch: 2, seq: 1 }, { firstNo: 1, entries: [request("q2")] })).toEqual({
        state: "cancelled",
        seq: 1,
      });
    });

    check("two requests of one run in one call: nothing is lost, whether it is resumed or not", async ({ kit }) => {
      const { run } = await awaiting(kit, "a", [request("q"), request("p")]);
      await kit.routing("b1");
      const members = await kit.members("b1");
      const rows = members.map(({ id, attempt }): SettleRow => ({ id, attempt, result: succeeded("x"), keptEpoch: run.epoch }));
      const resumed = await settleFor(kit, rows);
      expect((await kit.history("a")).map(({ seq }) => seq)).toEqual([1, 2]);
      const [again = { ...run, ...resumed[0] }] = await kit.claim();
      expect(again.epoch).toBe(2);
      expect(await kit.commit({ ...again, seq: 2 }, { firstNo: 2, outcome: { type: "completed", output: "1" } })).toEqual({
        state: "completed",
        seq: 2,
      });
    });
  });
}
