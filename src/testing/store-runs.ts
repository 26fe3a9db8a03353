import type { StoreSuite } from "./store-suite.ts";
import { digestRuns, newRun, request, step, succeeded } from "./store-kit.ts";

export function testRuns({ describe, check, expect }: StoreSuite): void {
  describe("starting and claiming", () => {
    check("a run starts once an id", async ({ kit }) => {
      expect(await kit.start(newRun("a"), newRun("b"))).toEqual(["started", "started"]);
      expect(await kit.start(newRun("b"), newRun("c"), newRun("a", { fingerprint: "another" }))).toEqual([
        "existing",
        "started",
        "conflict",
      ]);
      expect(await kit.start(newRun("d"), newRun("d"))).toEqual(["started", "existing"]);
      const run = await kit.run("a");
      expect([run.state, run.input, run.createdAt, run.attempts]).toEqual(["runnable", { of: "a" }, kit.now, 0]);
    });

    check("starting a run that is under way or over leaves it as it is", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      expect(await kit.start(newRun("a"))).toEqual(["existing"]);
      await kit.commit(run, { outcome: { type: "completed", output: "1" } });
      expect(await kit.start(newRun("a"))).toEqual(["existing"]);
      expect([await kit.state("a"), (await kit.run("a")).output]).toEqual(["completed", 1]);
    });

    check("a handler run starts out waiting for its request", async ({ kit }) => {
      await kit.start(newRun("h", { kind: "handler", chain: "onAnswer", input: '{"p":1}', request: request("q") }));
      expect(await kit.state("h")).toBe("waiting");
      expect(await kit.claim(9, "w1", [{ chain: "onAnswer", versions: ["1"] }])).toEqual([]);
      await kit.answer(await kit.routing("batch-1"));
      const [run] = await kit.claim(9, "w1", [{ chain: "onAnswer", versions: ["1"] }]);
      expect([run?.kind, run?.chain, run?.input, run?.seq]).toEqual(["handler", "onAnswer", '{"p":1}', 1]);
      const [entry] = await kit.history("h");
      expect([entry?.no, entry?.key, entry?.seq, entry?.value]).toEqual([0, "q", 1, '{"text":"answer"}']);
    });

    check("a claim gives everything a turn needs", async ({ kit }) => {
      await kit.start(newRun("a", { priority: 3, deadlineAt: kit.now + 60 }));
      const run = await kit.claimOne();
      expect(run).toEqual({
        id: "a",
        kind: "chain",
        chain: "digest",
        version: "1",
        code: "",
        input: '{"of":"a"}',
        epoch: 1,
        seq: 0,
        attempts: 0,
        priority: 3,
        deadlineAt: kit.now + 60,
        usd: 0,
        reservedUsd: 0,
        createdAt: kit.now,
      });
      expect(await kit.state("a")).toBe("running");
    });

    check("a run is claimed by one worker only", async ({ kit }) => {
      await kit.beat("w2");
      await kit.start(newRun("a"), newRun("b"), newRun("c"));
      const [mine, theirs] = await Promise.all([kit.claim(2, "w1"), kit.claim(2, "w2")]);
      const ids = [...mine, ...theirs].map(({ id }) => id);
      expect(ids.toSorted((a, b) => (a < b ? -1 : 1))).toEqual(["a", "b", "c"]);
    });

    check("the highest priority comes first, within it the oldest, over all chains", async ({ kit }) => {
      const start = async (id: string, priority: number, chain = "digest"): Promise<void> => {
        await kit.start(newRun(id, { priority, chain }));
        kit.now += 1;
      };
      await start("a", 0);
      await start("b", 5, "other");
      await start("c", 5);
      await start("d", 0, "other");
      await start("e", 9);
      await start("f", -1);
      const chains = [
        { chain: "other", versions: ["1"] },
        { chain: "digest", versions: ["1"] },
      ];
      expect((await kit.claim(3, "w1", chains)).map(({ id }) => id)).toEqual(["e", "b", "c"]);
      expect((await kit.claim(9, "w1", chains)).map(({ id }) => id)).toEqual(["a", "d", "f"]);
    });

    check("only registered chains and versions are taken up", async ({ kit }) => {
      await kit.start(newRun("a", { chain: "unknown" }), newRun("b", { version: "2" }), newRun("c"));
      expect((await kit.claim()).map(({ id }) => id)).toEqual(["c"]);
      expect(await kit.claim(9, "w1", [])).toEqual([]);
      const chains = [{ chain: "digest", versions: ["1", "2"] }];
      expect((await kit.claim(9, "w1", chains)).map(({ id, version }) => [id, version])).toEqual([["b", "2"]]);
    });

    check("runs that registered code could take up show as activity", async ({ kit, store }) => {
      const runnable = async (chains = digestRuns): Promise<boolean> => (await store.activity({ now: kit.now, chains })).runnable;
      await kit.start(newRun("a", { chain: "unknown" }));
      expect([await runnable(), await runnable([])]).toEqual([false, true]);
      await kit.start(newRun("b"));
      expect(await runnable()).toBe(true);
      await kit.claim();
      expect(await runnable()).toBe(false);
    });

    check("the history comes whole or from a number on", async ({ kit }) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      await kit.commit(run, { entries: [step("s1", '"one"'), request("q"), step("s2", '"two"')] });
      const all = await kit.history("a");
      expect(all.map(({ no, key, kind, seq, value }) => [no, key, kind, seq, value])).toEqual([
        [0, "s1", "step", 1, '"one"'],
        [1, "q", "request", undefined, undefined],
        [2, "s2", "step", 2, '"two"'],
      ]);
      expect(all[1]?.fingerprint).toBe("asks q");
      await kit.answer(await kit.routing("batch-1"), succeeded("three"));
      expect((await kit.history("a", 1)).map(({ key, seq }) => [key, seq])).toEqual([
        ["q", 3],
        ["s2", 2],
      ]);
      expect(await kit.history("a", 3)).toEqual([]);
    });

    check("histories come in the order asked for, that of an unknown run is empty", async ({ kit, store }) => {
      await kit.waiting("a", [request("qa")]);
      await kit.waiting("b", [request("qb")]);
      const histories = await store.loadHistory({ runs: ["b", "none", "a"].map((run) => ({ run, since: 0 })) });
      expect(histories.map((entries) => entries.map(({ key }) => key))).toEqual([["qb"], [], ["qa"]]);
    });

    check("a late call wakes its run, an older one does not", async ({ kit, store }) => {
      const run = await kit.waiting("a", [request("q")]);
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: run.epoch - 1 }] });
      expect(await kit.state("a")).toBe("waiting");
      await store.wakeRuns({
        now: kit.now,
        runs: [
          { run: "a", epoch: run.epoch },
          { run: "none", epoch: 1 },
        ],
      });
      expect(await kit.state("a")).toBe("runnable");
      const again = await kit.claimOne();
      await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: again.epoch }] });
      expect(await kit.state("a")).toBe("running");
    });

    check(
      "two stores on the same data see one truth",
      async ({ kit, subject }) => {
        const other = kit.on(await subject.peer!());
        await other.beat("w2");
        await kit.start(newRun("a"), newRun("b"));
        expect(await other.start(newRun("a"))).toEqual(["existing"]);
        const [mine, theirs] = await Promise.all([kit.claim(1, "w1"), other.claim(1, "w2")]);
        expect(new Set([mine[0]?.id, theirs[0]?.id]).size).toBe(2);
        await kit.commit(mine[0]!, { entries: [request("q1")] });
        await other.commit(theirs[0]!, { entries: [request("q2")] }, "w2");
        expect(await kit.queued()).toBe(2);
        const batch = await other.routing("batch-1", { worker: "w2" });
        await other.answer(batch);
        expect((await kit.claim()).length).toBe(2);
        expect(other.store.id).toBe(kit.store.id);
      },
      "peers",
    );

    check(
      "what was acknowledged is there after closing and opening again",
      async ({ kit, store, subject }) => {
        const { id } = store;
        await kit.waiting("a", [request("q"), step("s")]);
        await kit.routing("batch-1");
        await kit.start(newRun("b"));
        const again = kit.on(await subject.reopen!());
        expect(again.store.id).toBe(id);
        expect(await again.states("a", "b")).toEqual(["waiting", "runnable"]);
        const batch = await again.batch("batch-1");
        expect([batch.state, batch.requestCount]).toEqual(["routing", 1]);
        await again.answer(batch);
        expect((await again.claim()).map((run) => [run.id, run.seq])).toEqual([
          ["a", 2],
          ["b", 0],
        ]);
      },
      "reopening",
    );
  });
}
