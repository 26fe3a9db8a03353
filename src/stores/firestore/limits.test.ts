import { afterEach, beforeEach, expect, it } from "vitest";
import type { Firestore } from "@google-cloud/firestore";
import { newProject } from "../../../test/support/firestore-client.ts";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import type { NewEntry } from "../../core/store.ts";
import { child, newRun, paid, request, sleep, step, StoreKit, succeeded, usage } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";
import type { FirestoreStore } from "./store.ts";

const ids = (count: number, name = "run"): string[] => Array.from({ length: count }, (_, i) => `${name}-${i}`);
const long = (bytes: number): string => JSON.stringify("x".repeat(bytes));
const done = { type: "completed" as const, output: '"out"' };

let project: string;
let client: Firestore;
let others: Firestore[];
let store: FirestoreStore;
let kit: StoreKit;

beforeEach(async () => {
  project = newProject();
  client = newClient(project);
  others = [];
  store = await openStore(client);
  kit = new StoreKit(store);
  await kit.beat();
});
afterEach(async () => {
  await store.close();
  for (const item of [client, ...others]) await item.terminate();
});

function newPeer(): Firestore {
  const peer = newClient(project);
  others.push(peer);
  return peer;
}

describeFirestore("what is larger than a transaction of Firestore", () => {
  it("two thousand starts, and the same once more", async () => {
    const runs = ids(2_000).map((id) => newRun(id));
    expect(new Set(await kit.start(...runs))).toEqual(new Set(["started"]));
    expect(new Set(await kit.start(...runs))).toEqual(new Set(["existing"]));
    expect((await store.stats()).runs.runnable).toBe(2_000);
  }, 60_000);

  it("a thousand turns, their batch, and a thousand rows settled in one call", async () => {
    await kit.start(...ids(1_000).map((id) => newRun(id)));
    const runs = [...(await kit.claim(400)), ...(await kit.claim(400)), ...(await kit.claim(400))];
    const turns = runs.map((run) => kit.turn(run, { entries: [request("q")] }));
    const results = await store.commitTurns({ worker: "w1", now: kit.now, turns });
    expect([results.length, new Set(results.map(({ state }) => state))]).toEqual([1_000, new Set(["waiting"])]);
    let batch = await kit.form("b", { chunk: 2_000 });
    while (batch?.state === "forming") batch = await kit.form("b", { chunk: 2_000 });
    expect([batch?.requestCount, batch?.state]).toEqual([1_000, "sealed"]);
    const routing = await kit.routing("b");
    const members = await kit.members("b", undefined, 2_000);
    const rows = members.map(({ id, attempt }) => ({ id, attempt, result: paid("x", 0.25) }));
    expect(await kit.settle(routing, rows, { unknown: 2, cursor: 1_002 })).toEqual({ settled: 1_000, duplicate: 0, unknown: 2 });
    expect((await kit.batch("b")).cursor).toBe(1_002);
    await expectConservation(store, expect);
  }, 120_000);

  it("a call to settle that broke in its middle goes on where it was, and counts nothing twice", async () => {
    await kit.start(...ids(500).map((id) => newRun(id)));
    const runs = [...(await kit.claim(400)), ...(await kit.claim(400))];
    await store.commitTurns({ worker: "w1", now: kit.now, turns: runs.map((run) => kit.turn(run, { entries: [request("q")] })) });
    for (let batch = await kit.form("b", { chunk: 400 }); batch?.state === "forming";) batch = await kit.form("b", { chunk: 400 });
    const batch = await kit.routing("b");
    const members = await kit.members("b", undefined, 1_000);
    const rows = members.map(({ id, attempt }) => ({ id, attempt, result: paid("x", 0.25) }));
    const run = client.runTransaction.bind(client);
    let calls = 0;
    client.runTransaction = async (...parameters) => {
      calls += 1;
      if (calls === 2) throw Object.assign(new Error("not allowed"), { code: 7 });
      return run(...parameters);
    };
    await expect(kit.settle(batch, rows, { unknown: 1, cursor: 501 })).rejects.toMatchObject({ code: "store_unavailable" });
    client.runTransaction = run;
    const { cursor, counts } = await kit.batch("b");
    expect([cursor, counts.succeeded > 0 && counts.succeeded < 500]).toEqual([0, true]);
    // Read again in other portions, as after a restart with other settings.
    expect(await kit.settle(batch, rows.slice(0, 150), { cursor: 150 })).toEqual({ settled: 150, duplicate: 0, unknown: 0 });
    expect(await kit.settle(batch, rows.slice(150), { unknown: 1, cursor: 501 })).toEqual({ settled: 350, duplicate: 0, unknown: 1 });
    const after = await kit.batch("b");
    expect([after.cursor, after.counts]).toMatchObject([501, { succeeded: 500, duplicate: 0, unknown: 1 }]);
    await expectConservation(store, expect);
  }, 120_000);

  it("a run of two thousand entries and children lands whole, ends, and is removed portion by portion", async () => {
    await kit.start(newRun("wide"));
    const run = await kit.claimOne();
    const kids = ids(900, "kid");
    const entries = [...kids.map((id) => child(id)), ...ids(1_100, "step").map((key) => step(key))];
    const starts = kids.map((id) => newRun(id, { parent: { run: "wide", key: id } }));
    expect(await kit.commit(run, { entries, starts })).toEqual({ state: "waiting", seq: 1_100 });
    for (let runs = await kit.claim(300); runs.length > 0; runs = await kit.claim(300)) {
      const turns = runs.filter(({ id }) => id !== "wide").map((item) => kit.turn(item, { outcome: done }));
      await store.commitTurns({ worker: "w1", now: kit.now, turns });
      for (const wide of runs.filter(({ id }) => id === "wide")) {
        await kit.commit(wide, { firstNo: 2_000, outcome: wide.seq === 2_000 ? done : { type: "waiting" } });
      }
    }
    expect(await kit.state("wide")).toBe("completed");
    expect((await kit.history("wide")).filter(({ seq }) => seq === undefined)).toEqual([]);
    kit.now += 1;
    const removed = await store.removeEnded({ now: kit.now, limit: 2_000, runs: { completed: kit.now } });
    expect(removed.runs).toBeGreaterThan(0);
    for (let more = removed.more; more;) ({ more } = await store.removeEnded({ now: kit.now, limit: 2_000, runs: { completed: kit.now } }));
    expect((await store.listRuns({})).items).toEqual([]);
    expect((await client.collection("gembatch_entries").get()).size).toBe(0);
    await expectConservation(store, expect);
  }, 180_000);
});

describeFirestore("what is larger than the largest transaction", () => {
  const large = (count: number): NewEntry[] => ids(count, "q").map((key) => request(key, { body: long(800_000) }));

  it("the prompts of one turn land with it, and only with it", async () => {
    await kit.start(newRun("a"));
    const run = await kit.claimOne();
    const entries = [...large(7), step("s", long(700_000)), sleep("t", kit.now + 5)];
    const commit = client.runTransaction.bind(client);
    let calls = 0;
    client.runTransaction = async (...parameters) => {
      // The turn itself is tried, its drafts are written, then it breaks.
      if ((calls += 1) === 4) throw Object.assign(new Error("not allowed"), { code: 7 });
      return commit(...parameters);
    };
    await expect(kit.commit(run, { entries })).rejects.toMatchObject({ code: "store_unavailable" });
    client.runTransaction = commit;
    expect((await client.collection("gembatch_entries").get()).size).toBeGreaterThan(0);
    expect([await kit.history("a"), await kit.requests("a"), await kit.queued()]).toEqual([[], [], 0]);
    expect(await kit.commit(run, { entries })).toEqual({ state: "waiting", seq: 1 });
    expect((await kit.history("a")).map(({ no, value }) => [no, value?.length])).toEqual([
      ...Array.from({ length: 7 }, (_, no) => [no, undefined]),
      [7, 700_002],
      [8, undefined],
    ]);
    expect([await kit.queued(), (await kit.requests("a")).map(({ body }) => (body as string).length)]).toEqual([7, Array(7).fill(800_000)]);
    await expectConservation(store, expect);
    // Drafts that nobody committed go with their run.
    await kit.start(newRun("b"));
    const other = await kit.claimOne();
    calls = 0;
    client.runTransaction = async (...parameters) => {
      if ((calls += 1) === 4) throw Object.assign(new Error("not allowed"), { code: 7 });
      return commit(...parameters);
    };
    await expect(kit.commit(other, { entries })).rejects.toMatchObject({ code: "store_unavailable" });
    client.runTransaction = commit;
    await store.cancelRuns({ now: kit.now, ids: ["a", "b"] });
    await kit.commit(other, { outcome: done });
    kit.now += 1;
    expect((await store.removeEnded({ now: kit.now, limit: 9, runs: { cancelled: kit.now } })).runs).toBe(2);
    expect((await client.collection("gembatch_entries").get()).size).toBe(0);
  }, 60_000);

  it("whoever loses the claim meanwhile writes over nothing", async () => {
    await kit.start(newRun("a"));
    const old = await kit.claimOne();
    const peer = kit.on(await openStore(newPeer()));
    const commit = client.runTransaction.bind(client);
    let calls = 0;
    client.runTransaction = async (...parameters) => {
      if ((calls += 1) === 2) {
        // The turn was too much; now its drafts are about to be written.
        await peer.store.leave({ worker: "w1", now: kit.now });
        await peer.beat("w2");
        await peer.commit(await peer.claimOne("w2"), { entries: [request("mine"), request("too")] }, "w2");
      }
      return commit(...parameters);
    };
    expect(await kit.commit(old, { entries: large(7) })).toEqual({ state: "lost" });
    client.runTransaction = commit;
    expect([calls > 2, (await kit.requests("a")).map(({ body }) => body)]).toEqual([true, [{ ask: "mine" }, { ask: "too" }]]);
    expect((await client.collection("gembatch_entries").get()).size).toBe(2);
  }, 60_000);

  it("more inputs than it carries are refused whole, with what to do; neighbours land", async () => {
    await kit.start(newRun("a"), newRun("b"), newRun("c"));
    const [a, b, c] = await kit.claim();
    if (a === undefined || b === undefined || c === undefined) throw new Error("nothing to claim");
    const starts = ids(7, "kid").map((id) => newRun(id, { input: long(700_000) }));
    await expect(kit.commit(a, { entries: [request("q")], starts })).rejects.toMatchObject({
      code: "invalid_argument",
      hint: expect.stringContaining("child runs") as string,
    });
    expect([await kit.history("a"), await kit.queued(), await kit.states("kid-0")]).toEqual([[], 0, [undefined]]);
    // Two that fit one by one, but not together.
    const turns = [b, c].map((run) => kit.turn(run, { entries: large(3) }));
    const results = await store.commitTurns({ worker: "w1", now: kit.now, turns });
    expect(results.map(({ state }) => state)).toEqual(["waiting", "waiting"]);
    await expectConservation(store, expect);
  }, 60_000);
});

describeFirestore("what is larger than a document of Firestore", () => {
  it("an input or a prompt is refused, and nothing of its turn lands", async () => {
    await expect(kit.start(newRun("a", { input: long(1_100_000) }))).rejects.toMatchObject({ code: "request_too_large" });
    await kit.start(newRun("b"));
    const run = await kit.claimOne();
    const entries = [request("small"), request("large", { body: long(1_100_000) })];
    await expect(kit.commit(run, { entries })).rejects.toMatchObject({ code: "request_too_large" });
    expect([await kit.states("a", "b"), await kit.history("b"), await kit.queued()]).toEqual([[undefined, "running"], [], 0]);
    expect(await kit.commit(run, { entries: [request("small")] })).toEqual({ state: "waiting", seq: 0 });
  });

  it("an answer fails its request with the reason, and the others go on", async () => {
    await kit.waiting("a", [request("q1"), request("q2")]);
    const batch = await kit.routing("b1");
    const [first, second] = await kit.members("b1");
    if (first === undefined || second === undefined) throw new Error("no members");
    const settled = await kit.settle(batch, [
      { ...first, result: { type: "succeeded", value: long(1_100_000), usage } },
      { ...second, result: succeeded("fits") },
    ]);
    expect(settled).toEqual({ settled: 2, duplicate: 0, unknown: 0 });
    const [large, small] = await kit.history("a");
    expect([large?.error?.code, large?.error?.hint?.includes("payloads"), small?.value]).toEqual([
      "request_failed",
      true,
      '{"text":"fits"}',
    ]);
    expect((await kit.batch("b1")).counts).toMatchObject({ succeeded: 1, failed: 1 });
  });

  it("a shared answer reaches everybody, however many and however long", async () => {
    const count = 150;
    const cached = request("q", { cache: { key: "same", ttlMs: 0 } });
    await kit.start(...ids(count).map((id) => newRun(id, { kind: "handler", request: cached })));
    expect(await kit.queued()).toBe(1);
    const value = long(60_000);
    const batch = await kit.routing("b1");
    const [member] = await kit.members("b1");
    if (member === undefined) throw new Error("no member");
    await kit.settle(batch, [{ ...member, result: { type: "succeeded", value, usage } }]);
    expect(await store.stats()).toMatchObject({ runs: { runnable: count, waiting: 0 }, requests: { succeeded: count, queued: 0 } });
    expect((await kit.history(`run-${count - 1}`))[0]?.value).toBe(value);
    await expectConservation(store, expect);
  }, 60_000);

  it("the end of a run reaches everybody who waits for it", async () => {
    const parents = ids(30, "parent");
    await kit.start(...parents.map((id) => newRun(id)));
    for (const run of await kit.claim()) {
      await kit.commit(run, { entries: [child("c")], starts: [newRun("kid", { parent: { run: run.id, key: "c" } })] });
    }
    const kid = await kit.claimOne();
    const output = long(200_000);
    expect(await kit.commit(kid, { outcome: { type: "completed", output } })).toEqual({ state: "completed", seq: 0 });
    expect((await store.stats()).runs).toMatchObject({ completed: 1, runnable: 30, waiting: 0 });
    expect((await kit.history("parent-29"))[0]?.value).toBe(output);
    await expectConservation(store, expect);
  }, 60_000);

  it("whoever was not told when a worker died is told by the next look at the timers", async () => {
    const count = 150;
    await kit.start(
      ...ids(count).map((id) => newRun(id, { kind: "handler", request: request("q", { cache: { key: "same", ttlMs: 0 } }) })),
    );
    const batch = await kit.routing("b1");
    const [member] = await kit.members("b1");
    if (member === undefined) throw new Error("no member");
    const run = client.runTransaction.bind(client);
    let calls = 0;
    client.runTransaction = async (...parameters) => {
      if ((calls += 1) === 2) throw Object.assign(new Error("not allowed"), { code: 7 });
      return run(...parameters);
    };
    await expect(kit.settle(batch, [{ ...member, result: succeeded("x") }])).rejects.toMatchObject({ code: "store_unavailable" });
    client.runTransaction = run;
    expect((await store.stats()).runs.waiting).toBeGreaterThan(0);
    await store.fireTimers({ now: kit.now, limit: 10 });
    expect((await store.stats()).runs).toMatchObject({ runnable: count, waiting: 0 });
    await expectConservation(store, expect);
  }, 60_000);

  it("long answers are settled in as many transactions as they need", async () => {
    const count = 24;
    await kit.start(...ids(count).map((id) => newRun(id)));
    const turns = (await kit.claim()).map((run) => kit.turn(run, { entries: [request("q")] }));
    await store.commitTurns({ worker: "w1", now: kit.now, turns });
    const batch = await kit.routing("b1");
    const members = await kit.members("b1");
    const rows = members.map(({ id, attempt }) => ({ id, attempt, result: { type: "succeeded" as const, value: long(800_000), usage } }));
    expect(await kit.settle(batch, rows)).toEqual({ settled: count, duplicate: 0, unknown: 0 });
    await expectConservation(store, expect);
  }, 60_000);
});
