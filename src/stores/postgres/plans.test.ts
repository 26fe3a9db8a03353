import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it, vi } from "vitest";
import { dropSchema, newSchema, schemaOf } from "../../../test/support/postgres-store.ts";
import { referencePrefix } from "../../core/payload-store.ts";
import { autoLane, child, digestRuns, failure, lane, newRun, request, step, StoreKit, succeeded } from "../../testing/store-kit.ts";
import { Walk } from "../../testing/store-walker.ts";
import { queueOf } from "./migrations.ts";
import { PostgresStore } from "./store.ts";

/** One step of a query plan. */
interface Step {
  "Node Type": string;
  "Relation Name"?: string;
  "Index Name"?: string;
  "Index Cond"?: string;
  Plans?: Step[];
  "Shared Hit Blocks"?: number;
  "Shared Read Blocks"?: number;
}

const url = newSchema();
const schema = schemaOf(url);
const client = new Client({ connectionString: inject("postgresUrl") });
const store = new PostgresStore({ url, max: 2, databaseTime: false, notify: false });
/** What a life of the store says to the database. */
let texts: string[] = [];

/** Tables that grow with the work. */
const big = ["runs", "run_inputs", "run_outcomes", "run_waiters", "entries", "bodies", "answers", "shared", "departed", "hands"];
/** Filled by the tests; every row waits for an answer, or has one. */
const ROWS = 30_000;

beforeAll(async () => {
  await client.connect();
  await store.open();
  await client.query(`SET search_path = ${schema}; SET plan_cache_mode = force_generic_plan`);
  // Statistics are what a test says that they are.
  for (const table of [...big, "batches"]) await client.query(`ALTER TABLE ${table} SET (autovacuum_enabled = false)`);
  const kit = new StoreKit(store);
  for (const worker of ["w1", "w2"]) await kit.beat(worker);
  const walk = new Walk(kit, 5, true);
  for (let i = 0; i < 250; i += 1) await walk.step();
  await further(kit);
  await walk.drain();
  texts = [...new Set(store.statements())].filter((text) => /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(text));
}, 60_000);

afterAll(async () => {
  await store.close();
  await client.end();
  await dropSchema(url);
});

/** What the walk does not do. */
async function further(kit: StoreKit): Promise<void> {
  const { store, now } = kit;
  await store.holdFlush({ producer: "p", until: 1 });
  await kit.start(newRun("parent"), newRun("joined"));
  const parent = (await kit.claim()).find(({ id }) => id === "parent");
  const starts = [newRun("kid", { parent: { run: "parent", key: "c" } }), newRun("joined", { parent: { run: "parent", key: "d" } })];
  await kit.commit(parent!, { entries: [child("c"), child("d"), request("q", { lane: autoLane })], starts, notes: ["n"] });
  for (const run of (await kit.claim()).filter(({ id }) => id === "kid"))
    await kit.commit(run, { outcome: { type: "completed", output: "1" } });
  await store.wakeRuns({ now, runs: [{ run: "parent", epoch: 1 }] });
  for (const chains of [digestRuns, []]) await store.activity({ now, chains });
  await kit.start(newRun("solo"));
  for (const run of (await kit.claim()).filter(({ id }) => id === "solo")) await kit.commit(run, { entries: [request("q")] });
  const batch = await kit.routing("last");
  await kit.waiting("kept", [request("k")], { priority: 9 });
  const keeping = await kit.routing("keeping");
  const [kept] = await kit.members("keeping");
  await kit.settle(keeping, [{ ...kept!, result: succeeded("x"), keptEpoch: 1 }], { worker: "w1" });
  const [row] = await kit.members("last");
  await kit.settle(batch, [{ ...row!, result: succeeded("x") }]);
  await kit.settle(batch, [{ ...row!, result: succeeded("x") }]);
  await kit.settleRest(batch, { type: "failed", error: failure("f") });
  await kit.update(await kit.batch("last"), { state: "completed" });
  const referring = `${referencePrefix}x"}`;
  await kit.start(newRun("referring", { priority: 9 }));
  await kit.commit(await kit.claimOne(), { entries: [step("s", referring)], outcome: { type: "completed", output: referring } });
  await store.removeEnded({ now: now + 9, limit: 99, runs: { completed: now + 9 }, histories: now + 9, batches: now + 9, referencePrefix });
  await store.getRuns({ ids: ["parent"] });
  await store.getRequest({ id: row!.id });
  await store.stats();
  await store.spend({});
  await store.hasLiveRuns();
  await store.listRuns({ starter: "parent", error: "run_failed" });
  await store.listRuns({ state: "held", chain: "digest" });
  await store.listRequests({ run: "parent" });
  await store.listRequests({ batch: "last" });
  await store.listBatches({ active: true, lane });
}

/** Rows of runs that wait, with an entry that is batched, one that is answered, and everything that belongs to them. */
async function fill(state: { run: number; entry: number }): Promise<void> {
  const rows = `generate_series(1, ${ROWS}) AS i`;
  // Numbers far behind those of the life before.
  const no = `(1000000 + i)::bigint`;
  await client.query(`
    INSERT INTO run_inputs (no, id, fingerprint, input) SELECT ${no}, 'filler-' || i, 'f', '1' FROM ${rows};
    INSERT INTO runs (no, id, state, queue, kind, chain, worker, priority, created_at, ended_at)
      SELECT ${no}, 'filler-' || i, ${state.run}, ${queueOf("runs", state.run)}, 0, 1, CASE WHEN ${state.run} = 1 THEN 1 END, i % 3, i, CASE WHEN ${state.run} >= 5 THEN i END FROM ${rows};
    INSERT INTO run_outcomes (no, output) SELECT ${no}, '1' FROM ${rows} WHERE i % 2 = 0;
    INSERT INTO entries (no, state, queue, kind, batch, lane, bytes, tokens, attempt, priority, due_at, created_at, key, fingerprint, shared)
      SELECT ${no} << 20, ${state.entry}, ${queueOf("entries", state.entry)}, 0, CASE WHEN ${state.entry} = 4 THEN 1 + i % 50 END, 1, 1, 1, 1, i % 3, i, i, 'q', 'f', CASE WHEN i % 10 = 0 THEN i END FROM ${rows};
    INSERT INTO entries (no, state, kind, answer, lane, seq, due_at, created_at, key, fingerprint)
      SELECT (${no} << 20) + 1, 5, 0, ${no}, 1, 1, i, i, 'p', 'f' FROM ${rows};
    INSERT INTO bodies (no, body) SELECT no, 'b' FROM entries ON CONFLICT DO NOTHING;
    INSERT INTO answers (no, value) SELECT ${no}, '1' FROM ${rows};
    INSERT INTO shared (key, ttl_ms) SELECT 'filler-' || i, 1 FROM ${rows};
    INSERT INTO run_waiters (run, entry) SELECT ${no}, ${no} << 20 FROM ${rows};
    INSERT INTO hands (worker, runs) SELECT i % 9, ARRAY[${no}, ${no} + 1] FROM ${rows};
    INSERT INTO departed (batch, entry, attempt, chain, state) SELECT 1, ${no}, 1, 1, 0 FROM ${rows}`);
}

/** Takes them out again; `VACUUM` gives the space back, as it was before. */
async function empty(): Promise<void> {
  const ranges: Record<string, string> = {
    entries: "no >= 1000000::bigint << 20",
    bodies: "no >= 1000000::bigint << 20",
    shared: "key LIKE 'filler-%'",
    run_waiters: "true",
    departed: "true",
    hands: "true",
  };
  for (const table of big) await client.query(`DELETE FROM ${table} WHERE ${ranges[table] ?? "no >= 1000000"}`);
  for (const table of [...big, "batches"]) {
    // A snapshot of another test in this server may keep the rows for a moment: then their pages stay, and statistics are not those of an empty table.
    await vi.waitFor(
      async () => {
        await client.query(`VACUUM ANALYZE ${table}`);
        const { rows } = await client.query<{ pages: number }>(`SELECT relpages AS pages FROM pg_class WHERE oid = '${table}'::regclass`);
        expect(rows[0]!.pages).toBeLessThan(50);
      },
      { timeout: 20_000, interval: 100 },
    );
  }
}

async function planOf(text: string): Promise<Step> {
  const parameters = Math.max(0, ...[...text.matchAll(/\$(\d+)/g)].map(([, no]) => Number(no)));
  const values = parameters === 0 ? "" : `(${Array.from({ length: parameters }, () => "NULL").join(", ")})`;
  await client.query(`PREPARE plan AS ${text}`);
  try {
    const { rows } = await client.query<{ "QUERY PLAN": [{ Plan: Step }] }>(`EXPLAIN (FORMAT JSON) EXECUTE plan${values}`);
    return rows[0]!["QUERY PLAN"][0].Plan;
  } finally {
    await client.query("DEALLOCATE plan");
  }
}

const stepsOf = (plan: Step): Step[] => [plan, ...(plan.Plans ?? []).flatMap(stepsOf)];

/** Walks over a whole table that grows, by the statement they are in; also those over a whole index. */
async function walks(): Promise<string[]> {
  const found: string[] = [];
  for (const text of texts) {
    for (const step of stepsOf(await planOf(text))) {
      const { "Node Type": type, "Relation Name": table, "Index Name": index } = step;
      const whole = type === "Seq Scan" && table !== undefined && big.includes(table);
      // Partial indexes hold little more than what is asked for; a page of a list begins somewhere in the primary key.
      // Tables that do not grow may be read in any order (Postgres 15 groups the counters of lanes by their key).
      const grows = table === undefined || big.includes(table) || table === "batches";
      const all = grows && type.startsWith("Index") && step["Index Cond"] === undefined && index !== undefined && !partial.has(index);
      if (whole || all) found.push(`${type} ${table ?? index ?? ""}: ${text.replaceAll(/\s+/g, " ").trim().slice(0, 300)}`);
    }
  }
  return found;
}

const partial = new Set([
  ...[
    "runs_runnable",
    "runs_retrying",
    "runs_ended",
    "entries_queue",
    "entries_delayed",
    "entries_sleeping",
    "entries_isolated",
    "entries_check",
  ],
  ...["batches_active", "batches_ended", "shared_expiring"],
]);

describe("query plans of the Postgres store", () => {
  it("a life of the store is worth looking at", () => {
    expect(texts.length).toBeGreaterThan(80);
  });

  it("no statement walks a table that grows, when statistics are fresh", { timeout: 60_000 }, async () => {
    await empty();
    await fill({ run: 2, entry: 4 });
    for (const table of [...big, "batches"]) await client.query(`ANALYZE ${table}`);
    expect(await walks()).toEqual([]);
  });

  it("nor when they are those of empty tables, and the rows came since", { timeout: 60_000 }, async () => {
    await empty();
    await fill({ run: 2, entry: 4 });
    expect(await walks()).toEqual([]);
  });

  it.each([
    ["were runnable and queued, and wait now", { run: 0, entry: 1 }],
    ["were running, and wait now", { run: 1, entry: 4 }],
    ["had ended, and are others now", { run: 5, entry: 7 }],
  ])("nor when they say that all runs %s", { timeout: 60_000 }, async (_, before) => {
    await empty();
    await fill(before);
    for (const table of [...big, "batches"]) await client.query(`ANALYZE ${table}`);
    await client.query(
      `UPDATE runs SET state = 2, queue = NULL, worker = NULL, ended_at = NULL WHERE no >= 1000000; UPDATE entries SET state = 4, queue = NULL, batch = 1 WHERE no >= 1000000::bigint << 20 AND state <> 5`,
    );
    expect(await walks()).toEqual([]);
  });

  it.each([
    ["runs_runnable", "WHERE queue = 0 AND chain = h.chain AND home = h.home ORDER BY"],
    ["runs_runnable", "WHERE r.queue = 0 AND r.chain = h.chain AND r.home > h.home ORDER BY"],
    ["runs_runnable", "WHERE r.queue = 0 AND r.chain = c.no ORDER BY"],
    ["hands_pkey", "WHERE h.worker = $1"],
    ["hands_pkey", "gb.hands WHERE worker = $1 AND no = ANY"],
    ["runs_pkey", "worker = h.worker OFFSET 0"],
    ["runs_pkey", "array_agg(no) FROM woken"],
    ["runs_retrying", "WHERE queue = 3 AND retry_at <= $1 ORDER BY"],
    ["runs_starter", "WHERE starter = $1"],
    ["runs_ended", "r.ended_at IS NOT NULL AND r.pruned = $1"],
    ["runs_trouble", "queue IN (4, 6) AND queue = 4"],
    ["run_inputs_id_key", `"run_inputs" WHERE id = ANY`],
    ["entries_queue", "WHERE queue = 1 AND lane = $1 ORDER BY priority DESC, due_at, no LIMIT"],
    ["entries_delayed", "WHERE queue = 2 AND lane = $1"],
    ["entries_sleeping", "WHERE queue = 3 AND due_at <= $1 ORDER BY"],
    ["entries_batch", "WHERE batch = $1 AND no > $2"],
    ["entries_isolated", "WHERE queue = 8 AND lane = $1"],
    ["entries_check", "WHERE e.check_at <= $1"],
    ["entries_shared", "WHERE shared = $1 AND queue = 9"],
    ["run_waiters_entry", "w.entry >= u.run << 20"],
    ["shared_expiring", "WHERE expires_at <= $1"],
    ["batches_ended", "b.state >= 5 AND b.ended_at < $1"],
    ["batches_sweep", "WHERE b.sweep_at <= $1"],
    ["batches_active", "b.state <= 4 AND b.due_at <= $1"],
    ["answers_references", "gb.answers a WHERE a.value = u.text"],
    ["outputs_references", "gb.run_outcomes o WHERE o.output = u.text"],
  ])("index %s serves %s", { timeout: 60_000 }, async (index, part) => {
    const wanted = part.replaceAll(/gb\./g, `"${schema}".`).replace(`"run_inputs"`, `"${schema}".run_inputs`);
    const using = texts.filter((text) => text.includes(wanted));
    expect(using.length).toBeGreaterThan(0);
    // A planner that thinks a table small takes any way: sequential scans are out of the question for this.
    await client.query("SET enable_seqscan = off");
    for (const text of using) {
      const plan = stepsOf(await planOf(text));
      expect([text, plan.some((step) => step["Index Name"] === index)]).toEqual([text, true]);
    }
    await client.query("RESET enable_seqscan");
  });

  it("an empty claim and a look at the queues touch a few pages, however many runs wait", { timeout: 60_000 }, async () => {
    await empty();
    await fill({ run: 2, entry: 4 });
    const values: [part: string, values: unknown[]][] = [
      ["SELECT c.no FROM unnest", ["{1,2,3,4}"]],
      ["WITH RECURSIVE homes", ["{1,2,3,4}", 100, 1, true]],
    ];
    for (const [part, parameters] of values) {
      const text = texts.find((item) => item.includes(part) && item.includes("chain = c.no"));
      expect(await pages(text!, parameters)).toBeLessThan(40);
    }
    const flags = texts.find((item) => item.includes("AS runnable"));
    expect(await pages(flags!, [1, 1, "{1,2,3,4}"])).toBeLessThan(60);
    const lanes = texts.find((item) => item.includes("AS oldest_at"));
    expect(await pages(lanes!, [])).toBeLessThan(100);
  });
});

/** Pages of memory or disk that a statement looks at; what it changes is undone. */
async function pages(text: string, values: unknown[]): Promise<number> {
  await client.query("BEGIN");
  try {
    const { rows } = await client.query<{ "QUERY PLAN": [{ Plan: Step }] }>({
      text: `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`,
      values,
    });
    const { Plan: plan } = rows[0]!["QUERY PLAN"][0];
    return (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0);
  } finally {
    await client.query("ROLLBACK");
  }
}
