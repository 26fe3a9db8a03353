/**
 * What the statements alone take of Postgres: the transitions of *suspend* (claim, history, commit, form, members, settle) by bare prepared statements on one connection, one after the other, in groups of 256.
 * Narrow rows, two indexes on the larger tables, durable defaults; no SDK, no JSON, no counters, no fences, no code of a user. `node bench/postgres-floor.ts [runs] [steps] [warm]`
 *
 * @module
 */
import { Client } from "pg";
import { startPostgres } from "../test/support/postgres-server.ts";
import { processorSeconds } from "./compare/processor.ts";
import { numbers, report, Stopwatch } from "./measure.ts";
import { bodyOf, promptOf } from "./rows.ts";
import { answer, answerText } from "./zero-provider.ts";

const [runs, steps, warm] = numbers(500, 6, 700);
const groupSize = 256;
const server = await startPostgres({ volatile: false, own: true });
const client = new Client({ connectionString: server.url });
await client.connect();
await client.query(`
  CREATE TABLE runs (no int8 PRIMARY KEY, state int2, epoch int4 DEFAULT 0, worker int4, seq int4 DEFAULT 0, open int4 DEFAULT 0, usd float8 DEFAULT 0) WITH (fillfactor = 50);
  CREATE INDEX runs_runnable ON runs (no) WHERE state = 0;
  CREATE TABLE entries (no int8 PRIMARY KEY, state int2, batch int4, lane int4, seq int4, answer int8, created_at int8, key text, fingerprint text) WITH (fillfactor = 50);
  CREATE INDEX entries_queue ON entries (lane, no) WHERE state = 1;
  CREATE INDEX entries_batch ON entries (batch, no) WHERE batch IS NOT NULL;
  CREATE TABLE bodies (no int8 PRIMARY KEY, body text);
  CREATE TABLE answers (no int8 PRIMARY KEY, value text)`);

const texts = {
  claim: `UPDATE runs SET state = 1, epoch = epoch + 1, worker = 1 WHERE no = ANY($1::int8[]) AND state + 0 = 0 RETURNING no, epoch, seq, usd`,
  history: `SELECT e.no, e.seq, a.value FROM entries e JOIN answers a ON a.no = e.answer WHERE e.no = ANY($1::int8[])`,
  wait: `UPDATE runs SET state = 2, worker = NULL, open = open + 1 WHERE no = ANY($1::int8[]) AND state + 0 = 1`,
  ask: `INSERT INTO entries (no, state, lane, created_at, key, fingerprint) SELECT n, 1, 1, 1763000000000, k, k FROM unnest($1::int8[], $2::text[]) AS u(n, k)`,
  bodies: `INSERT INTO bodies SELECT * FROM unnest($1::int8[], $2::text[])`,
  form: `UPDATE entries SET state = 4, batch = $1 WHERE no = ANY($2::int8[]) AND state + 0 = 1`,
  members: `SELECT e.no, b.body FROM entries e JOIN bodies b ON b.no = e.no WHERE e.batch = $1`,
  answers: `INSERT INTO answers SELECT * FROM unnest($1::int8[], $2::text[])`,
  settle: `UPDATE entries SET state = 5, seq = $2, answer = no WHERE no = ANY($1::int8[]) AND state + 0 = 4`,
  wake: `UPDATE runs SET state = 0, seq = seq + 1, open = open - 1, usd = usd + 0.001 WHERE no = ANY($1::int8[]) AND state + 0 = 2`,
};
const value = JSON.stringify(answer);
let batch = 0;

async function send(name: keyof typeof texts, values: unknown[], expected: number): Promise<void> {
  const { rowCount } = await client.query({ name, text: texts[name], values, rowMode: "array" });
  if (rowCount !== expected) throw new Error(`${name}: ${rowCount} rows instead of ${expected}.`);
}

async function transaction(work: () => Promise<void>): Promise<void> {
  await client.query("BEGIN");
  await work();
  await client.query("COMMIT");
}

/** One step of one group of runs. */
async function advance(group: readonly number[], step: number): Promise<void> {
  const count = group.length;
  const entries = group.map((run) => run * 2 ** 20 + step);
  batch += 1;
  await send("claim", [group], count);
  if (step > 0) await send("history", [entries.map((no) => no - 1)], count);
  await transaction(async () => {
    await send("wait", [group], count);
    await send("ask", [entries, entries.map((no) => `key ${no}`.padEnd(22, "x"))], count);
    await send("bodies", [entries, group.map((run) => bodyOf(promptOf(run, step, step === 0 ? "" : answerText)))], count);
  });
  await send("form", [batch, entries], count);
  await send("members", [batch], count);
  await transaction(async () => {
    await send("answers", [entries, entries.map(() => value)], count);
    await send("settle", [entries, step + 1], count);
    await send("wake", [group], count);
  });
}

let made = 0;
async function work(count: number): Promise<void> {
  const first = made;
  made += count;
  await client.query(`INSERT INTO runs (no, state) SELECT n, 0 FROM generate_series($1::int8, $2::int8) AS n`, [first, made - 1]);
  for (let step = 0; step < steps; step += 1) {
    for (let from = first; from < made; from += groupSize) {
      await advance(
        Array.from({ length: Math.min(groupSize, made - from) }, (_, i) => from + i),
        step,
      );
    }
  }
}

await work(warm);
// 0 where it cannot be known.
const serverSeconds = () => processorSeconds(server.pid!) ?? 0;
const serverBefore = serverSeconds();
const watch = new Stopwatch();
await work(runs);
const total = runs * steps;
report({
  stepsPerSecond: total / (watch.ms / 1_000),
  clientCpuUsPerStep: (watch.cpuMs / total) * 1_000,
  serverCpuUsPerStep: ((serverSeconds() - serverBefore) / total) * 1e6,
});
await client.end();
await server.stop();
