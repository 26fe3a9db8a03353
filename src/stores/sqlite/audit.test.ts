import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, expect, it } from "vitest";
import { StoreKit } from "../../testing/store-kit.ts";
import { Walk } from "../../testing/store-walker.ts";
import { SqliteStore } from "./store.ts";

/** Counters and references that transactions keep, counted again from the rows: every query finds what disagrees. */
const audits: Record<string, string> = {
  "a lane's counters are those of its queue": `
    SELECT l.no FROM lanes l LEFT JOIN (
      SELECT lane, sum(state = 1) AS queued, sum(state = 2) AS delayed, sum(state = 8) AS isolated,
        sum(CASE state WHEN 1 THEN bytes END) AS bytes, sum(CASE state WHEN 1 THEN tokens END) AS tokens,
        sum(CASE state WHEN 1 THEN estimate END) AS usd, sum(state = 1 AND estimate IS NULL) AS unpriced
      FROM entries WHERE kind = 0 GROUP BY lane
    ) e ON e.lane = l.no
    WHERE l.queued <> coalesce(e.queued, 0) OR l.delayed <> coalesce(e.delayed, 0) OR l.isolated <> coalesce(e.isolated, 0)
      OR l.bytes <> coalesce(e.bytes, 0) OR l.tokens <> coalesce(e.tokens, 0) OR l.usd <> coalesce(e.usd, 0)
      OR l.unpriced <> coalesce(e.unpriced, 0)`,
  "every state counts its rows": `
    SELECT coalesce(t.no, r.no) AS no FROM (
      SELECT state AS no, count(*) AS count FROM runs GROUP BY state
      UNION ALL SELECT 10 + state, count(*) FROM entries WHERE kind = 0 GROUP BY state
      UNION ALL SELECT 20 + state, count(*) FROM batches GROUP BY state
    ) r FULL JOIN tallies t ON t.no = r.no WHERE coalesce(t.no, r.no) < 30 AND coalesce(r.count, 0) <> coalesce(t.count, 0)`,
  "a run's reservations are those of its open requests": `
    SELECT r.no FROM runs r WHERE r.reserved <> (
      SELECT coalesce(sum(estimate), 0) FROM entries e WHERE e.no >> 20 = r.no AND e.kind = 0 AND e.state IN (1, 2, 4, 8)
    )`,
  "a run counts its entries": `
    SELECT r.no FROM runs r WHERE r.pruned = 0 AND (r.entries <> (SELECT count(*) FROM entries e WHERE e.no >> 20 = r.no)
      OR r.open <> (SELECT count(*) FROM entries e WHERE e.no >> 20 = r.no AND e.seq IS NULL))`,
  "every entry belongs to a run": `SELECT no FROM entries WHERE no >> 20 NOT IN (SELECT no FROM runs)`,
  "a run that is over has nothing in a queue": `
    SELECT e.no FROM entries e JOIN runs r ON r.no = e.no >> 20 WHERE r.state >= 5 AND e.state IN (1, 2, 8, 9)`,
  "only open requests of runs that go on are looked at for their deadline": `
    SELECT e.no FROM entries e JOIN runs r ON r.no = e.no >> 20
    WHERE e.check_at IS NOT NULL AND (e.state NOT IN (1, 2, 4, 8) OR e.deadline_at IS NULL)`,
  "who travels apart has a group, who does not has none": `
    SELECT no FROM entries WHERE (state = 8 AND group_size IS NULL) OR (state = 1 AND group_size IS NOT NULL)`,
  "an answer knows how many name it": `
    SELECT a.no FROM answers a
    WHERE a.uses <> (SELECT count(*) FROM entries e WHERE e.answer = a.no) + (SELECT count(*) FROM shared s WHERE s.answer = a.no)`,
  "every answer that is named is there": `
    SELECT no FROM entries WHERE answer IS NOT NULL AND answer NOT IN (SELECT no FROM answers)
    UNION ALL SELECT no FROM shared WHERE answer IS NOT NULL AND answer NOT IN (SELECT no FROM answers)`,
  "a prompt goes with its request": `
    SELECT no FROM bodies WHERE no NOT IN (SELECT body FROM entries WHERE body IS NOT NULL)
    UNION ALL SELECT no FROM entries WHERE kind = 0 AND body NOT IN (SELECT no FROM bodies)`,
  "a key has a leader exactly if an open request is asked for it": `
    SELECT s.no FROM shared s
    WHERE s.leader IS NOT (SELECT e.no FROM entries e WHERE e.shared = s.no AND e.state IN (1, 2, 4, 8))
      OR (SELECT count(*) FROM entries e WHERE e.shared = s.no AND e.state IN (1, 2, 4, 8)) > 1`,
  "who follows has a leader, and no answer to have at once": `
    SELECT e.no FROM entries e JOIN shared s ON s.no = e.shared WHERE e.state = 9 AND (s.leader IS NULL OR s.answer IS NOT NULL)`,
  "a run's inputs and outcomes go with it": `
    SELECT no FROM run_inputs WHERE no NOT IN (SELECT no FROM runs) UNION ALL
    SELECT no FROM run_outcomes WHERE no NOT IN (SELECT no FROM runs) UNION ALL
    SELECT run FROM run_waiters WHERE run NOT IN (SELECT no FROM runs)`,
  "the members of a batch are those without a result": `
    SELECT b.no FROM batches b WHERE b.request_count - b.succeeded - b.failed - b.requeued - b.cancelled <> (
      SELECT count(*) FROM entries e WHERE e.batch = b.no AND e.state = 4
    )`,
  "rows that were given up go with their batch": `SELECT batch FROM departed WHERE batch NOT IN (SELECT no FROM batches)`,
  "no count is below zero": `SELECT no FROM tallies WHERE count < 0 UNION ALL SELECT no FROM runs WHERE open < 0 OR reserved < 0`,
  "a retry or a sleep has its time": `SELECT no FROM runs WHERE (state = 3) <> (retry_at IS NOT NULL)`,
};

describe("what the rows say of the counters", () => {
  it.each([11, 12, 13])("on a random walk, at every turn of it (seed %i)", async (seed) => {
    const folder = await mkdtemp(join(tmpdir(), "gembatch-audit-"));
    const path = join(folder, "gembatch.db");
    const store = new SqliteStore({ path, synchronous: "normal" });
    await store.open();
    const database = new DatabaseSync(path, { readOnly: true });
    const queries = Object.entries(audits).map(([name, sql]) => [name, database.prepare(sql)] as const);
    const audit = (): void => {
      for (const [name, query] of queries) expect([name, query.all()]).toEqual([name, []]);
    };
    try {
      const kit = new StoreKit(store);
      for (const worker of ["w1", "w2"]) await kit.beat(worker);
      const walk = new Walk(kit, seed, true);
      for (let i = 0; i < 300; i += 1) {
        await walk.step();
        audit();
      }
      await walk.drain();
      audit();
    } finally {
      database.close();
      await store.close();
      await rm(folder, { recursive: true });
    }
  });
});
