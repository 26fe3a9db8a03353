import { afterEach, beforeEach, expect, it } from "vitest";
import type { Firestore } from "@google-cloud/firestore";
import { newProject } from "../../../test/support/firestore-client.ts";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import { digestRuns, lane, leaseMs, newRun, otherLane, paid, request, StoreKit } from "../../testing/store-kit.ts";
import { expectConservation } from "../../testing/store-suite.ts";

const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `run-${i}`);
const done = { type: "completed" as const, output: '"out"' };

let clients: Firestore[] = [];
let project = "";

beforeEach(() => {
  clients = [];
  project = newProject();
});
afterEach(async () => {
  for (const client of clients) await client.terminate();
});

/** Stores on one database, as so many processes have them, each with the worker `w1`, `w2`, … alive. */
async function peers(count: number, options: { shards?: number } = {}): Promise<StoreKit[]> {
  const kits: StoreKit[] = [];
  for (let i = 0; i < count; i += 1) {
    const client = newClient(project);
    clients.push(client);
    const kit = new StoreKit(await openStore(client, options));
    await kit.beat(`w${i + 1}`);
    kits.push(kit);
  }
  return kits;
}

describeFirestore("workers of one Firestore database", () => {
  it("never claim the same run, and leave none", async () => {
    const kits = await peers(3);
    const [first] = kits;
    await first?.start(...ids(60).map((id) => newRun(id)));
    const claims = await Promise.all(
      kits.map(async (kit, i) => {
        const all: string[] = [];
        for (let runs = await kit.claim(8, `w${i + 1}`); runs.length > 0; runs = await kit.claim(8, `w${i + 1}`)) {
          all.push(...runs.map(({ id }) => id));
        }
        return all;
      }),
    );
    expect(claims.flat().toSorted()).toEqual(ids(60).toSorted());
    expect((await first?.store.stats())?.runs).toMatchObject({ running: 60, runnable: 0 });
  });

  it("start each id once", async () => {
    const kits = await peers(3);
    const outcomes = await Promise.all(kits.map((kit) => kit.start(...ids(20).map((id) => newRun(id)))));
    for (const i of ids(20).keys()) expect(outcomes.filter((all) => all[i] === "started")).toHaveLength(1);
    expect((await kits[0]?.store.stats())?.runs.runnable).toBe(20);
  });

  it("take a provider's slots one at a time", async () => {
    const kits = await peers(2);
    await kits[0]?.start(newRun("a"));
    const run = await kits[0]?.claimOne();
    if (run === undefined) throw new Error("nothing to claim");
    await kits[0]?.commit(run, { entries: [request("q1"), request("q2", { lane: otherLane })] });
    const formed = await Promise.all(
      kits.map((kit, i) => kit.form(`b${i}`, { worker: `w${i + 1}`, lane: i === 0 ? lane : otherLane, maxActive: 1 })),
    );
    expect(formed.filter((batch) => batch !== undefined)).toHaveLength(1);
  });

  it("hold a role one at a time", async () => {
    const kits = await peers(3);
    const roles = await Promise.all(kits.map((kit, i) => kit.beat(`w${i + 1}`, { roles: ["sweeper"] })));
    expect(roles.flat()).toEqual(["sweeper"]);
  });

  it("give up a dead worker's runs once, whoever finds it", async () => {
    const kits = await peers(3);
    await kits[0]?.start(...ids(10).map((id) => newRun(id)));
    await kits[0]?.claim(10, "w1");
    for (const kit of kits) kit.now += leaseMs + 1;
    await Promise.all([kits[1]?.beat("w2"), kits[2]?.beat("w3")]);
    const again = await kits[1]?.claim(20, "w2");
    expect(again?.map(({ attempts }) => attempts)).toEqual(Array.from({ length: 10 }, () => 1));
  });

  it("give nobody up who has renewed the lease since", async () => {
    const kits = await peers(2);
    const [first, second] = kits;
    const client = clients[1];
    if (first === undefined || second === undefined || client === undefined) throw new Error("no peers");
    await first.start(newRun("a"));
    await first.claimOne("w1");
    first.now += leaseMs + 1;
    second.now = first.now;
    const run = client.runTransaction.bind(client);
    let calls = 0;
    client.runTransaction = async (...parameters) => {
      // Between the look for dead workers and the transaction that gives one up.
      if ((calls += 1) === 2) await first.beat("w1");
      return run(...parameters);
    };
    await second.beat("w2");
    expect([calls >= 2, await first.state("a")]).toEqual([true, "running"]);
  });

  it("lose nothing when all of them do everything at once", async () => {
    const kits = await peers(3, { shards: 3 });
    const [first] = kits;
    await first?.start(...ids(30).map((id, i) => newRun(id, { priority: i % 3 })));
    await Promise.all(
      kits.map(async (kit, i) => {
        const worker = `w${i + 1}`;
        for (let round = 0; round < 8; round += 1) {
          for (const run of await kit.claim(5, worker)) {
            const parts =
              run.seq === 0
                ? { entries: [request("q", { cache: { key: `key-${round % 2}`, ttlMs: 1_000 } })] }
                : { firstNo: 1, outcome: done };
            await kit.commit(run, parts, worker);
          }
          await kit.form(`b-${i}-${round}`, { worker, limits: { requests: 7 } });
          for (const batch of await kit.claimBatches(["sealed"], worker, 1)) {
            for (const state of ["launching", "in_progress", "routing"] as const) await kit.update(batch, { state, release: false });
            await kit.answer(batch, paid("x", 0.25));
            await kit.update(batch, { state: "completed" });
          }
          await kit.beat(worker);
        }
      }),
    );
    if (first === undefined) throw new Error("no store");
    await expectConservation(first.store, expect);
    expect((await first.store.listRuns({ limit: 1_000 })).items).toHaveLength(30);
    // What is left comes to its end in order.
    for (let round = 0; round < 20 && (await first.store.hasLiveRuns()); round += 1) {
      for (const run of await first.claim(100, "w1", digestRuns)) {
        await first.commit(run, run.seq === 0 ? { entries: [request("q")] } : { firstNo: 1, outcome: done });
      }
      for (const { id } of await first.store.activeBatches()) await first.form(id, { maxActive: 1_000 });
      await first.form(`last-${round}`);
      for (const batch of await first.claimBatches(["sealed", "launching", "in_progress", "routing"])) {
        for (const state of ["launching", "in_progress", "routing"] as const) await first.update(batch, { state, release: false });
        await first.answer(batch, paid("x", 0.25));
        await first.update(batch, { state: "completed" });
      }
    }
    expect((await first.store.stats()).runs).toMatchObject({ completed: 30 });
    await expectConservation(first.store, expect);
  }, 120_000);
});
