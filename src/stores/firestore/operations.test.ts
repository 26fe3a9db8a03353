import { afterEach, expect, it } from "vitest";
import type { Firestore } from "@google-cloud/firestore";
import { describeFirestore, newClient, openStore } from "../../../test/support/firestore-store.ts";
import { gemini } from "../../gemini.ts";
import type { ClaimedRun } from "../../core/store.ts";
import { Gembatch } from "../../index.ts";
import { newRun, paid, request, StoreKit } from "../../testing/store-kit.ts";
import type { FirestoreStore, Operations } from "./store.ts";

let client: Firestore;
afterEach(async () => client.terminate());

const STEPS = 3;

/** What `count` runs of three prompts cost, from their start to their end, if each call takes all of them. `kept`: their worker keeps their turns, so that they go on with their answers. */
async function chains(store: FirestoreStore, count: number, { kept = false } = {}): Promise<Operations> {
  const kit = new StoreKit(store);
  await kit.beat();
  const before = store.operations();
  await kit.start(...Array.from({ length: count }, (_, i) => newRun(`run-${i}`)));
  let runs: ClaimedRun[] = [];
  for (let no = 0; no <= STEPS; no += 1) {
    if (no === 0 || !kept) {
      runs = await kit.claim(count);
      await store.loadHistory({ runs: runs.map((run) => ({ run: run.id, since: Math.max(0, run.seq - 1) })) });
    }
    const outcome = no < STEPS ? ({ type: "waiting" } as const) : ({ type: "completed", output: "1" } as const);
    const asked = no < STEPS ? { entries: [request(`q${no}`)], awaits: `q${no}` } : {};
    const turns = runs.map((run) => kit.turn(run, { firstNo: no, ...asked, outcome }));
    const results = await store.commitTurns({ worker: "w1", now: kit.now, turns });
    if (no === STEPS) break;
    const batch = await kit.routing(`b${no}`);
    if (kept) {
      const byRequest = new Map(results.map((result, i) => ["request" in result ? result.request : undefined, runs[i]!]));
      const rows = (await kit.members(batch.id, undefined, count)).map((row) => ({
        ...row,
        result: paid("answer", 0.25),
        keptEpoch: byRequest.get(row.id)!.epoch,
      }));
      const settled = await kit.settle(batch, rows, { worker: "w1" });
      runs = (settled?.resumed ?? []).map(({ row, ...claim }) => ({ ...byRequest.get(rows[row]!.id)!, ...claim }));
    } else await kit.answer(batch, paid("answer", 0.25));
    await kit.update(batch, { state: "completed" });
  }
  const after = store.operations();
  expect((await store.stats()).runs.completed).toBe(count);
  return { reads: after.reads - before.reads, writes: after.writes - before.writes, deletes: after.deletes - before.deletes };
}

describeFirestore("documents that a step costs", () => {
  it("are six writes, what its run and its batch take included", async () => {
    client = newClient();
    const store = await openStore(client);
    const { reads, writes, deletes } = await chains(store, 100);
    const steps = 100 * STEPS;
    // A run's own start, last claim and end are 3 more: of three steps each, one a step.
    expect(writes / steps).toBeLessThan(7.2);
    expect((writes - 3 * 100) / steps).toBeLessThan(6.2);
    expect(reads / steps).toBeLessThan(14);
    expect(deletes).toBe(0);
    if (process.env["GEMBATCH_SHOW"] !== undefined)
      process.stderr.write(`${JSON.stringify({ reads: reads / steps, writes: writes / steps })}\n`);
  });

  it("are one write and four reads less where a worker keeps the turns", async () => {
    client = newClient();
    const store = await openStore(client);
    const { reads, writes } = await chains(store, 100, { kept: true });
    const steps = 100 * STEPS;
    if (process.env["GEMBATCH_SHOW"] !== undefined)
      process.stderr.write(`${JSON.stringify({ reads: reads / steps, writes: writes / steps })}\n`);
    expect(writes / steps).toBeLessThan(6.2);
    expect(reads / steps).toBeLessThan(8);
  });

  it("are few for an invocation that finds nothing to do", async () => {
    client = newClient();
    const store = await openStore(client);
    await using gembatch = new Gembatch({ store, provider: gemini({ apiKey: "unused" }), autoWorker: false });
    gembatch.chain("plain", (_context, n: number) => n);
    const look = async () => {
      const worker = gembatch.worker();
      const { worked } = await worker.tick();
      await worker.stop();
      return worked || (await gembatch.dueAt()) !== undefined;
    };
    await look();
    const before = store.operations();
    expect(await look()).toBe(false);
    const after = store.operations();
    const counted = { reads: after.reads - before.reads, writes: after.writes - before.writes, deletes: after.deletes - before.deletes };
    if (process.env["GEMBATCH_SHOW"] !== undefined) process.stderr.write(`${JSON.stringify(counted)}\n`);
    expect(counted.reads).toBeLessThan(75);
    expect(counted.writes + counted.deletes).toBeLessThan(10);
  });
});
