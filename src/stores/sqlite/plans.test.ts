import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { referencePrefix } from "../../core/payload-store.ts";
import { autoLane, child, failure, flexLane, lane, newRun, request, sleep, step, StoreKit, succeeded } from "../../testing/store-kit.ts";
import { SqliteStore } from "./store.ts";

interface Plan {
  sql: string;
  steps: string[];
}

let folder = "";
let plans: Plan[] = [];

/** Every statement that a life of the store uses, with how SQLite finds its rows. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "gembatch-plans-"));
  const path = join(folder, "gembatch.db");
  const store = new SqliteStore({ path });
  await store.open();
  await live(new StoreKit(store));
  const texts = store.statements();
  const database = new DatabaseSync(path, { readOnly: true });
  plans = texts
    .filter((sql) => /^\s*(SELECT|INSERT|UPDATE|DELETE)/.test(sql))
    .map((sql) => ({
      sql: sql.replaceAll(/\s+/g, " ").trim(),
      steps: database
        .prepare(`EXPLAIN QUERY PLAN ${sql}`)
        .all()
        .map((row) => row["detail"] as string),
    }));
  database.close();
  await store.close();
});

afterAll(async () => rm(folder, { recursive: true }));

/** Calls everything that a worker calls. */
async function live(kit: StoreKit): Promise<void> {
  const { store } = kit;
  await kit.beat("w1", { roles: ["test"] });
  await store.holdFlush({ producer: "p", until: 1 });
  await kit.start(newRun("h", { kind: "handler", request: request("q") }), newRun("late", { parent: { run: "h", key: "q" } }));
  await kit.waiting("a", [request("q"), step("s"), sleep("t", kit.now + 10), request("q2")]);
  await kit.start(newRun("parent"), newRun("parent2"));
  for (const run of await kit.claim()) {
    const start = newRun("kid", { parent: { run: run.id, key: "c" } });
    await kit.commit(
      run,
      run.id.startsWith("parent")
        ? { entries: [child("c")], starts: [start], notes: ["n"] }
        : { outcome: { type: "held", error: failure("h") } },
    );
  }
  const kid = await kit.claimOne();
  await kit.commit(kid, { entries: [step("s")], outcome: { type: "running" } });
  await kit.commit(kid, { seen: 1, firstNo: 1, outcome: { type: "completed", output: "1" } });
  const batch = await kit.routing("b1");
  const [first, second] = await kit.members("b1");
  await kit.settle(batch, [
    { ...first!, result: succeeded("x") },
    { ...first!, result: succeeded("x") },
    { ...second!, result: { type: "retry", availableAt: kit.now + 5, error: failure("busy") } },
  ]);
  await kit.settleRest(batch, { type: "failed", error: failure("f") });
  await kit.update(batch, { state: "completed" });
  const [runs] = [await kit.claim()];
  for (const [i, run] of runs.entries()) {
    await kit
      .commit(run, { firstNo: (await kit.history(run.id, 1)).length + 9, outcome: { type: "retry", at: kit.now + i, error: failure("r") } })
      .catch(() => undefined);
  }
  await kit.waiting("kept", [request("k")], { priority: 9 });
  const keeping = await kit.routing("keeping");
  const [kept] = await kit.members("keeping");
  await kit.settle(keeping, [{ ...kept!, result: succeeded("x"), keptEpoch: 1 }], { worker: "w1" });
  kit.now += 10;
  await store.activity({ now: kit.now, chains: [{ chain: "digest", versions: ["1"] }] });
  await store.activity({ now: kit.now, chains: [] });
  await store.fireTimers({ now: kit.now, limit: 9 });
  await store.wakeRuns({ now: kit.now, runs: [{ run: "a", epoch: 1 }] });
  await store.activeBatches();
  await kit.claimBatches(["sealed"]);
  await store.cancelRuns({ now: kit.now, ids: ["a", "parent"] });
  await store.retryRuns({ now: kit.now, ids: ["late", "parent2"] });
  await liveFurther(kit);
  await kit.beat("w2");
  await store.leave({ worker: "w1", now: kit.now });
  await store.getRuns({ ids: ["a"] });
  await store.getRequest({ id: first!.id });
  await store.stats();
  await store.spend({});
  await store.listRuns({ starter: "a", error: "run_failed" });
  await store.hasLiveRuns();
}

/** Tiers, deadlines, shared answers, requests that travel apart, and what operators and retention do. */
async function liveFurther(kit: StoreKit): Promise<void> {
  const { store } = kit;
  const shared = (key: string) => request(key, { cache: { key: "same", ttlMs: 1 } });
  await kit.start(newRun("s1"), newRun("s2"));
  for (const run of await kit.claim()) {
    if (run.id.startsWith("s"))
      await kit.commit(run, { entries: [shared("q1"), request("q2", { lane: autoLane, deadlineAt: kit.now + 9 })] });
  }
  await store.moveQueued({ now: kit.now, from: autoLane, to: lane, limit: 9, reason: "r" });
  const retry = { type: "retry" as const, availableAt: kit.now, error: failure("job"), jobFailed: true };
  for (const id of ["apart-1", "apart-2"]) await kit.settleRest(await kit.routing(id), retry);
  const batch = await kit.routing("apart-3", { isolated: true });
  const [row] = await kit.members("apart-3");
  const items = await store.dueDeadlines({ now: kit.now, limit: 9 });
  const move = { tier: "flex" as const, reason: "r" };
  await store.decideDeadlines({ now: kit.now, decisions: items.map((item) => ({ ...item, checkAt: undefined, move })) });
  await kit.settle(batch, [{ ...row!, result: succeeded("late") }]);
  await kit.answer(await kit.routing("direct", { lane: flexLane }));
  await store.holdRuns({ now: kit.now, ids: ["s1"], error: failure("held") });
  await store.cancelRuns({ now: kit.now, ids: ["s2"], tree: true });
  await store.retryRuns({ now: kit.now, ids: ["s1"], afresh: true });
  await kit.start(newRun("s3", { kind: "handler", request: shared("q") }));
  await store.updateSweep({ batch: "b1", update: { sweepAt: kit.now } });
  await store.dueSweeps({ now: kit.now, providers: ["test"], limit: 9 });
  await store.releaseBatches({ now: kit.now, ids: ["b1"] });
  await store.hastenBatches({ now: kit.now, providers: ["test"] });
  await store.updateSweep({ batch: "b1", update: { sweepAt: null } });
  const now = kit.now + 1_000;
  await store.removeEnded({ now, limit: 1, runs: {}, histories: now });
  await store.removeEnded({ now, limit: 99, runs: { completed: now, failed: now, cancelled: now }, batches: now, referencePrefix });
}

const big = /^SCAN (runs|r|entries|e|bodies|answers|a|run_inputs|i|run_outcomes|o|run_waiters|shared|departed|batches|b)\b/;
/** Partial indexes that hold little more than what is asked for. */
const small = /INDEX (runs_runnable|runs_retrying|entries_sleeping|entries_check|batches_active)/;

describe("query plans of the SQLite store", () => {
  it("no statement of the engine walks a table that grows", () => {
    expect(plans.length > 60).toBe(true);
    const scans = plans.filter(({ steps }) => steps.some((line) => big.test(line) && !small.test(line)));
    expect(scans).toEqual([]);
  });

  it("no statement but the active batches and the sums of money sorts", () => {
    const few = /FROM (batches|spend)/;
    const sorts = plans.filter(({ sql, steps }) => steps.some((line) => line.includes("TEMP B-TREE")) && !few.test(sql));
    expect(sorts).toEqual([]);
  });

  it.each([
    ["runs_runnable", "SELECT no, priority FROM runs WHERE state = 0 AND chain = ?"],
    ["runs_runnable", "SELECT 1 FROM runs WHERE state = 0"],
    ["runs_running", "FROM runs WHERE state = 1 AND worker = ?"],
    ["runs_retrying", "FROM runs WHERE state = 3"],
    ["runs_id", "FROM runs WHERE id = ?"],
    ["entries_queue", "FROM entries WHERE state = 1 AND lane = ?"],
    ["entries_delayed", "FROM entries WHERE state = 2 AND lane = ?"],
    ["entries_sleeping", "FROM entries WHERE state = 3"],
    ["entries_batch", "e.batch = ? AND e.no > ?"],
    ["entries_isolated", "FROM entries WHERE state = 8 AND lane = ?"],
    ["entries_check", "WHERE e.check_at <= ?"],
    ["entries_check", "WHERE check_at IS NOT NULL"],
    ["entries_shared", "FROM entries WHERE shared = ?"],
    ["runs_starter", "WHERE starter = ?"],
    ["runs_ended", "r.pruned = ?1"],
    ["run_waiters_entry", "FROM run_waiters WHERE entry >= ?"],
    ["answers_references", "FROM answers WHERE value = ?"],
    ["outputs_references", "FROM run_outcomes WHERE output = ?"],
    ["shared_expiring", "FROM shared WHERE expires_at <= ?"],
    ["batches_ended", "FROM batches b WHERE b.state >= 5"],
    ["batches_sweep", "WHERE sweep_at <= ?"],
    ["batches_active", "WHERE state <= 4"],
  ])("index %s serves %s", (index, part) => {
    const using = plans.filter(({ sql }) => sql.includes(part) && (part.includes("e.batch") || !sql.includes("WHERE no = ?")));
    expect(using.length > 0).toBe(true);
    for (const { sql, steps } of using) expect([sql, steps.some((line) => line.includes(index))]).toEqual([sql, true]);
  });
});
