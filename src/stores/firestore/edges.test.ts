/** What only many things at once, or things near a limit, bring about. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Firestore } from "@google-cloud/firestore";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import {
  child,
  digestRuns,
  failed,
  failure,
  flexLane,
  newRun,
  request,
  step,
  StoreKit,
  succeeded,
  usage,
} from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import { SETTLE_CHUNK } from "./routing.ts";
import type { FirestoreStore } from "./store.ts";

const ids = (count: number, name = "run"): string[] => Array.from({ length: count }, (_, i) => `${name}-${i}`);
const long = (bytes: number): string => JSON.stringify("x".repeat(bytes));
const cache = { key: "same", ttlMs: 3_600_000 };

let client: Firestore;
let store: FirestoreStore;
let kit: StoreKit;
beforeEach(async () => {
  client = newClient();
  store = await openStore(client);
  kit = new StoreKit(store);
  await kit.beat();
});
afterEach(async () => {
  await store.close();
  await client.terminate();
});

/** Before the `nth` transaction from now on, something else happens. */
function before(nth: number, happens: () => Promise<unknown>): void {
  const run = client.runTransaction.bind(client);
  let count = 0;
  client.runTransaction = async (...parameters) => {
    count += 1;
    if (count === nth) {
      client.runTransaction = run;
      await happens();
    }
    return run(...parameters);
  };
}

describeFirestore("a commit that the client sends twice, because the connection broke", () => {
  it("is in doubt, not a conflict: what it claimed is not claimed in vain", async () => {
    await kit.start(newRun("a"));
    const run = client.runTransaction.bind(client);
    client.runTransaction = async (...parameters) => {
      await run(...parameters);
      throw Object.assign(new Error("3 INVALID_ARGUMENT: Transaction is invalid or closed."), { code: 3 });
    };
    const claim = store.claimRuns({ worker: "w1", now: kit.now, limit: 5, chains: digestRuns });
    await expect(claim).rejects.toMatchObject({ code: "store_unavailable", details: { inDoubt: true } });
    client.runTransaction = run;
    expect(await kit.state("a")).toBe("running");
  });
});

describeFirestore("a settlement that is written in several parts", () => {
  it.each([
    ["breaks after the first", new Error("on purpose")],
    ["loses its batch after the first", undefined],
  ])("and %s is in doubt: runs that went on are in hand, and their worker cannot be told", async (_, failure) => {
    const all = ids(SETTLE_CHUNK + 20, "run");
    await kit.start(...all.map((id) => newRun(id)));
    const runs = await kit.claim(all.length);
    const turns = runs.map((run) => kit.turn(run, { entries: [request("q")], awaits: "q" }));
    await store.commitTurns({ worker: "w1", now: kit.now, turns });
    while ((await kit.form("b1"))?.state === "forming");
    const batch = await kit.routing("b1");
    const members = await kit.members("b1", undefined, all.length);
    const rows = members.map((row) => ({ ...row, result: succeeded("x"), keptEpoch: 1 }));
    before(2, async () => {
      if (failure !== undefined) throw failure;
      await kit.update(batch, {});
    });
    await expect(kit.settle(batch, rows, { worker: "w1" })).rejects.toMatchObject({ details: { inDoubt: true } });
    expect((await store.stats()).runs).toMatchObject({ running: SETTLE_CHUNK, waiting: 20 });
    // What a worker does in doubt.
    await store.leave({ worker: "w1", now: kit.now });
    expect((await store.stats()).runs).toMatchObject({ running: 0, runnable: SETTLE_CHUNK, waiting: 20 });
  });
});

describeFirestore("a turn that is written in several parts", () => {
  it("keeps an answer that is there already", async () => {
    await kit.waiting("first", [request("q", { cache })]);
    const answer = { type: "succeeded", value: JSON.stringify("shared"), usage } as const;
    await kit.answer(await kit.routing("b1"), answer);
    await kit.start(newRun("second"));
    const run = (await kit.claim()).find(({ id }) => id === "second")!;
    const entries = [...ids(6, "big").map((key) => request(key, { body: long(800_000) })), request("c", { cache })];
    await kit.commit(run, { entries });
    expect((await kit.history("second")).at(-1)).toMatchObject({ key: "c", value: answer.value });
    await expectConservation(store, expect);
  }, 60_000);
});

describeFirestore("answers of direct calls", () => {
  const five = async () => {
    await kit.waiting(
      "a",
      ids(5, "q").map((key) => request(key, { lane: flexLane })),
    );
    const batch = await kit.routing("b1", { lane: flexLane });
    const members = await kit.members("b1");
    const big = (i: number) => ({ ...members[i]!, result: { type: "succeeded" as const, value: long(900_000), usage } });
    return { batch, members, big };
  };

  it("settle whatever another call settles between the parts of one", async () => {
    const { batch, members, big } = await five();
    let other: unknown;
    before(2, async () => (other = await kit.settle(batch, [{ ...members[4]!, result: succeeded("small") }], { cursor: 5 })));
    const all = await kit.settle(batch, [big(0), big(1), big(2), { ...members[3]!, result: succeeded("small") }], { cursor: 4 });
    expect([all, other]).toEqual([
      { settled: 4, duplicate: 0, unknown: 0 },
      { settled: 1, duplicate: 0, unknown: 0 },
    ]);
    expect((await kit.batch("b1")).counts).toMatchObject({ succeeded: 5 });
  }, 60_000);

  it("settle after a call that broke between its parts, in any order", async () => {
    const { batch, big } = await five();
    before(2, async () => {
      throw Object.assign(new Error("no"), { code: 7 });
    });
    await expect(kit.settle(batch, [big(0), big(1), big(2)], { cursor: 3 })).rejects.toMatchObject({ code: "store_unavailable" });
    const left = await kit.members("b1");
    expect(left.length).toBeLessThan(5);
    for (const [i, member] of left.toReversed().entries())
      expect(await kit.settle(batch, [{ ...member, result: succeeded("again") }], { cursor: i + 1 })).toMatchObject({ settled: 1 });
    expect(await kit.update(batch, { state: "completed", endedAt: kit.now })).toBe(true);
    await expectConservation(store, expect);
  }, 60_000);
});

describeFirestore("runs that end with thousands of open requests", () => {
  it("of a worker that is gone, many at once: others' heartbeats go on", async () => {
    await kit.start(...ids(60).map((id) => newRun(id)));
    const runs = await kit.claim(60);
    const entries = ids(80, "q").map((key) => request(key));
    await store.commitTurns({
      worker: "w1",
      now: kit.now,
      turns: runs.map((run) => kit.turn(run, { entries, outcome: { type: "running" } })),
    });
    expect(await store.cancelRuns({ now: kit.now, ids: ids(60) })).toHaveLength(60);
    kit.now += 60_000;
    await kit.beat("w2");
    await store.fireTimers({ now: kit.now, limit: 10 });
    expect(await store.stats()).toMatchObject({ runs: { cancelled: 60, running: 0 }, requests: { queued: 0, cancelled: 4_800 } });
    expect((await store.activity({ now: kit.now, chains: [] })).lanes).toEqual([]);
  }, 120_000);

  it.each(["fails", "is cancelled"])(
    "one that %s",
    async (how) => {
      await kit.start(newRun("a"));
      const run = await kit.claimOne();
      const outcome = { type: "running" } as const;
      await kit.commit(run, { entries: ids(2_200, "q").map((key) => request(key)), outcome });
      await kit.commit(run, { firstNo: 2_200, entries: ids(2_200, "r").map((key) => request(key)), outcome });
      if (how === "fails") {
        const error = { code: "run_failed", name: "Error", message: "m", retryable: false } as const;
        expect(await kit.commit(run, { firstNo: 4_400, outcome: { type: "failed", error } })).toMatchObject({ state: "failed" });
      } else {
        await kit.commit(run, { firstNo: 4_400, outcome: { type: "waiting" } });
        expect(await store.cancelRuns({ now: kit.now, ids: ["a"] })).toEqual(["a"]);
      }
      expect((await store.stats()).requests).toMatchObject({ queued: 0, cancelled: 4_400 });
      expect((await store.activity({ now: kit.now, chains: [] })).lanes).toEqual([]);
    },
    120_000,
  );
});

describeFirestore("a process that dies while it ends a run in portions", () => {
  it("leaves the rest to the next look at timers; until then nothing of the run is removed", async () => {
    await kit.start(newRun("a"));
    await kit.commit(await kit.claimOne(), { entries: ids(2_200, "q").map((key) => request(key)) });
    before(2, async () => {
      throw Object.assign(new Error("gone"), { code: 7 });
    });
    await expect(store.cancelRuns({ now: kit.now, ids: ["a"] })).rejects.toMatchObject({ code: "store_unavailable" });
    expect(await kit.state("a")).toBe("cancelled");
    expect((await store.stats()).requests.queued).toBe(1_200);
    kit.now += 1_000;
    const removal = { now: kit.now, limit: 5_000, runs: { cancelled: kit.now } };
    expect((await store.removeEnded(removal)).runs).toBe(0);
    // Another process, which knows of nothing.
    const other = await openStore(client);
    await other.fireTimers({ now: kit.now, limit: 10 });
    await other.close();
    expect((await store.stats()).requests).toMatchObject({ queued: 0, cancelled: 2_200 });
    await expectConservation(store, expect);
    expect((await store.removeEnded(removal)).runs).toBe(1);
    expect((await store.stats()).requests.cancelled).toBe(0);
  }, 60_000);
});

describeFirestore("a batch that hundreds of requests have left", () => {
  it("is removed with all that is noted of them", async () => {
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    await kit.commit(run, { entries: ids(900, "q").map((key) => request(key)), outcome: { type: "waiting" } });
    let batch = await kit.form("b", { chunk: 2_000 });
    while (batch?.state === "forming") batch = await kit.form("b", { chunk: 2_000 });
    const routing = await kit.routing("b");
    await store.holdRuns({ now: kit.now, ids: ["a"], error: failure("held") });
    expect(await store.retryRuns({ now: kit.now, ids: ["a"], afresh: true })).toEqual(["a"]);
    const departed = async () => (await client.collection("gembatch_departed").count().get()).data().count;
    expect(await departed()).toBe(900);
    await kit.update(routing, { state: "completed", endedAt: kit.now });
    kit.now += 1_000;
    const removed = await store.removeEnded({ now: kit.now, limit: 100, runs: {}, batches: kit.now });
    expect([removed.batches, await departed()]).toEqual([1, 0]);
  }, 60_000);
});

describeFirestore("what is too long for a document", () => {
  it("does not hold up its batch: the answer to a prompt whose run was cancelled, which others wait for", async () => {
    await kit.waiting("a", [request("q", { cache })]);
    await kit.waiting("x", [request("other")]);
    const batch = await kit.routing("b1");
    await store.cancelRuns({ now: kit.now, ids: ["a"] });
    const value = long(1_100_000);
    const rows = (await kit.members("b1")).map(({ id, attempt }, i) => ({
      ...{ id, attempt },
      result: i === 0 ? { type: "succeeded" as const, value, usage } : succeeded("ok"),
    }));
    expect(await kit.settle(batch, rows)).toEqual({ settled: 2, duplicate: 0, unknown: 0 });
    expect(await kit.state("x")).toBe("runnable");
  }, 60_000);

  it("does not hold it up either: the error, or the refusal of an answer, beside a prompt that fills its document", async () => {
    await kit.waiting("a", [request("q", { body: long(999_900) })]);
    await kit.waiting("b", [request("r", { body: long(999_900) })]);
    const batch = await kit.routing("b1");
    const members = await kit.members("b1", undefined, 10);
    const results = [
      failed(`refused ${"for a very long reason ".repeat(5_000)}`),
      succeeded("an answer for which no room is left beside its prompt, ".repeat(9)),
    ];
    await kit.settle(
      batch,
      members.map(({ id, attempt }, i) => ({ id, attempt, result: results[i]! })),
    );
    const errors = await Promise.all(["a", "b"].map(async (id) => (await kit.history(id)).at(-1)?.error?.message));
    expect(errors).toEqual([expect.stringMatching(/^refused .* … \(\d+ characters\)$/), expect.stringContaining("has room for")]);
  }, 60_000);
});

describeFirestore("an error of a step", () => {
  it("is shortened, whatever a program says in it, also in a turn of several parts", async () => {
    await kit.start(newRun("a"), newRun("b"));
    const runs = await kit.claim(2);
    const entry = { ...step("s"), settled: { error: failure("very long ".repeat(200_000)) } };
    const big = ids(6, "big").map((key) => request(key, { body: long(800_000) }));
    await kit.commit(
      runs.find(({ id }) => id === "a")!,
      { entries: [entry, request("q")] },
    );
    await kit.commit(
      runs.find(({ id }) => id === "b")!,
      { entries: [entry, ...big] },
    );
    for (const id of ["a", "b"]) expect((await kit.history(id))[0]?.error?.message).toMatch(/^very long .* … \(2000000 characters\)$/);
  }, 60_000);
});

describeFirestore("cancelling a tree", () => {
  it("takes what a turn starts while it is walked", async () => {
    await kit.start(newRun("p"));
    const run = await kit.claimOne();
    before(1, async () => kit.commit(run, { entries: [child("c")], starts: [newRun("kid", { parent: { run: "p", key: "c" } })] }));
    expect(await store.cancelRuns({ now: kit.now, ids: ["p"], tree: true })).toEqual(["p", "kid"]);
    expect(await kit.states("p", "kid")).toEqual(["cancelled", "cancelled"]);
  });

  it("takes every level of it, who starts before what it started", async () => {
    await kit.start(newRun("p"));
    const run = await kit.claimOne();
    const kids = ids(70, "kid");
    const starts = kids.map((id) => newRun(id, { parent: { run: "p", key: id } }));
    await kit.commit(run, { entries: kids.map((key) => child(key)), starts });
    const kid = (await kit.claim(1))[0]!;
    await kit.commit(kid, { entries: [child("g")], starts: [newRun("grandchild", { parent: { run: kid.id, key: "g" } })] });
    const cancelled = await store.cancelRuns({ now: kit.now, ids: ["p"], tree: true });
    expect(cancelled).toHaveLength(72);
    expect([cancelled[0], cancelled.at(-1)]).toEqual(["p", "grandchild"]);
  }, 60_000);
});

describeFirestore("documents that are read", () => {
  it("grow with those who share an answer, not with their square", async () => {
    const reads = async (count: number, key: string) => {
      const shared = request("q", { cache: { key, ttlMs: 1_000 } });
      await kit.start(...ids(count, key).map((id) => newRun(id, { kind: "handler", request: shared })));
      const batch = await kit.routing(`b-${key}`);
      const [member] = await kit.members(`b-${key}`);
      const from = store.operations().reads;
      await kit.settle(batch, [{ ...member!, result: succeeded("x") }]);
      return store.operations().reads - from;
    };
    const [few, many] = [await reads(200, "few"), await reads(800, "many")];
    expect(many).toBeLessThan(6 * few);
  }, 120_000);

  it("are no more for the later parts of a call", async () => {
    await kit.start(...ids(600).map((id) => newRun(id, { kind: "handler", request: request("q") })));
    let batch = await kit.form("b", { chunk: 2_000 });
    while (batch?.state === "forming") batch = await kit.form("b", { chunk: 2_000 });
    const routing = await kit.routing("b");
    const rows = (await kit.members("b", undefined, 2_000)).map(({ id, attempt }) => ({ id, attempt, result: succeeded("x") }));
    const from = store.operations().reads;
    expect(await kit.settle(routing, rows)).toEqual({ settled: 600, duplicate: 0, unknown: 0 });
    // An entry and a run for each, and the batch in each part.
    expect(store.operations().reads - from).toBeLessThan(2 * 600 + 20);
  }, 60_000);
});
