import { describe, expect, it } from "vitest";
import { newRun, request, StoreKit } from "../../testing/store-kit.ts";
import { SqliteStore } from "./store.ts";

const done = { type: "completed" as const, output: "1" };

/** Completes everything that is runnable. */
async function completeAll(kit: StoreKit): Promise<void> {
  for (let runs = await kit.claim(2_000); runs.length > 0; runs = await kit.claim(2_000)) {
    await kit.store.commitTurns({ worker: "w1", now: kit.now, turns: runs.map((run) => kit.turn(run, { outcome: done })) });
  }
}

describe("removing from a store with much that must stay", () => {
  it("what must stay is looked at in portions, and does not stand in the way of the rest", async () => {
    const store = new SqliteStore({ path: ":memory:" });
    await store.open();
    const kit = new StoreKit(store);
    await kit.beat();
    await kit.start(newRun("starter"));
    const starts = Array.from({ length: 6_000 }, (_, i) => newRun(`blocked-${i}`));
    await kit.commit(await kit.claimOne(), { entries: [request("q")], starts });
    await completeAll(kit);
    kit.now += 1;
    await kit.start(...Array.from({ length: 30 }, (_, i) => newRun(`free-${i}`)));
    await completeAll(kit);
    kit.now += 1;
    const remove = () => store.removeEnded({ now: kit.now, limit: 20, runs: { completed: kit.now } });
    expect(await remove()).toEqual({ runs: 0, histories: 0, batches: 0, more: true, references: [] });
    expect(await remove()).toEqual({ runs: 20, histories: 0, batches: 0, more: true, references: [] });
    expect(await remove()).toEqual({ runs: 10, histories: 0, batches: 0, more: false, references: [] });
    await store.cancelRuns({ now: kit.now, ids: ["starter"] });
    kit.now += 1;
    let removed = 0;
    for (let more = true; more;) {
      const result = await store.removeEnded({ now: kit.now, limit: 999, runs: { completed: kit.now, cancelled: kit.now } });
      removed += result.runs;
      more = result.more;
    }
    expect([removed, (await store.listRuns({})).items]).toEqual([6_001, []]);
    await store.close();
  });
});
