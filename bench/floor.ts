/**
 * (b) The floor of (a): the same rows in the same tables, in the same transactions with the same group sizes, by bare prepared statements. It does what
 * any engine must (start runs, claim them, read what settled, write the next requests, move them into a batch, read their bodies for
 * sending, write the answers, wake the runs, write the outputs) and nothing else: no code of a user runs, nothing is parsed, hashed, checked,
 * counted or fenced beyond the state in the row. `node bench/floor.ts [runs] [steps] [warm]`
 *
 * @module
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { migrations } from "../src/stores/sqlite/migrations.ts";
import { databaseMb, numbers, peakMb, report, Stopwatch, workFolder } from "./measure.ts";
import { bodyOf, promptOf } from "./rows.ts";
import { answer, answerText } from "./zero-provider.ts";

const [runs, steps, warm] = numbers(500, 6, 0);
const path = join(workFolder(), "floor.db");
const database = new DatabaseSync(path);
database.exec(`
  PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 4000;
  ${migrations.join("\n")}
  INSERT INTO lanes (no, provider, model, method) VALUES (1, 'gemini', 'gemini-2.5-flash', 'generateContent');
  INSERT INTO chains (no, chain, version) VALUES (1, 'bench', '1');
`);
/** As the engine's store numbers them: an entry is its run's number and its place in the run. */
const entriesPerRun = 2 ** 20;
// Group sizes of the engine: startMany, claims and turn commits, forming, pages of members, settling.
const startGroup = 500;
const turnGroup = 256;
const formGroup = 2_000;
const pageSize = 500;
const settleGroup = 500;

const sql = (text: string) => database.prepare(text);
const begin = sql("BEGIN IMMEDIATE");
const commit = sql("COMMIT");
const insertRun = sql(`INSERT INTO runs (id, kind, chain, state, entries, open, priority, created_at) VALUES (?, 0, 1, 0, 0, 0, 0, ?)`);
const insertInput = sql(`INSERT INTO run_inputs (no, fingerprint, input) VALUES (?, ?, ?)`);
const claim = sql(`
  UPDATE runs SET state = 1, epoch = epoch + 1, worker = 1
  WHERE no IN (SELECT no FROM runs WHERE state = 0 AND chain = 1 ORDER BY priority DESC, no LIMIT ?)
  RETURNING no, seq, (SELECT input FROM run_inputs WHERE run_inputs.no = runs.no)`);
const history = sql(`
  SELECT e.no, e.key, e.seq, a.value FROM entries e LEFT JOIN answers a ON a.no = e.answer WHERE e.no >= ? AND e.no < ? AND e.seq >= ? ORDER BY e.no`);
const wait = sql(`UPDATE runs SET state = 2, worker = NULL, entries = entries + 1, open = open + 1 WHERE no = ?`);
const insertBody = sql(`INSERT INTO bodies (body) VALUES (?)`);
const insertEntry = sql(`
  INSERT INTO entries (no, kind, state, key, fingerprint, lane, attempt, max_attempts, priority, bytes, tokens, due_at, created_at, body)
  VALUES (?, 0, 1, ?, ?, 1, 1, 4, 0, ?, ?, ?, ?, ?)`);
const insertBatch = sql(`INSERT INTO batches (id, lane, state, epoch, due_at, created_at) VALUES (?, 1, 0, 1, 0, 0)`);
const fillBatch = sql(`
  UPDATE entries SET state = 4, batch = ? WHERE no IN (SELECT no FROM entries WHERE state = 1 AND lane = 1 ORDER BY priority DESC, due_at, no LIMIT ?)`);
const moveBatch = sql(`UPDATE batches SET state = ?, request_count = ? WHERE no = ?`);
const members = sql(`
  SELECT e.no, e.attempt, b.body FROM entries e JOIN bodies b ON b.no = e.body WHERE e.batch = ? AND e.no > ? AND +e.state = 4 ORDER BY e.no LIMIT ?`);
const insertAnswer = sql(`INSERT INTO answers (value) VALUES (?)`);
const settle = sql(`UPDATE entries SET state = 5, seq = ?, answer = ? WHERE no = ?`);
const wake = sql(`UPDATE runs SET state = 0, seq = seq + 1, open = open - 1 WHERE no = ?`);
const complete = sql(`UPDATE runs SET state = 5, worker = NULL, ended_at = ? WHERE no = ?`);
const insertOutcome = sql(`INSERT INTO run_outcomes (no, output) VALUES (?, ?)`);
for (const statement of [claim, history, members]) statement.setReturnArrays?.(true);

let transactions = 0;
let started = 0;
let batches = 0;
function transaction(work: () => void): void {
  begin.run();
  work();
  commit.run();
  transactions += 1;
}

const value = JSON.stringify(answer);
const output = JSON.stringify(answerText);
const fingerprint = "f".repeat(43);
const now = Date.now();

work(warm);
transactions = 0;
const watch = new Stopwatch();
work(runs);
const { ms, cpuMs } = watch;
const size = databaseMb(path);
database.close();

report({
  stepsPerSecond: (runs * steps) / (ms / 1_000),
  ms,
  cpuMs,
  cpuMsPerStep: cpuMs / (runs * steps),
  transactions,
  peakMb: peakMb(),
  databaseMb: size,
});

function work(count: number): void {
  for (let from = 0; from < count; from += startGroup) {
    transaction(() => {
      for (let n = from; n < Math.min(count, from + startGroup); n += 1) {
        const { lastInsertRowid } = insertRun.run(`01hzy3k4q5m6n7p8q9rs-${started}`, now);
        insertInput.run(lastInsertRowid, fingerprint, JSON.stringify({ n }));
        started += 1;
      }
    });
  }
  for (let step = 0; step <= steps; step += 1) turns(step);
}

/** Every run's turn after `step` answers, then the batch that those turns made. */
function turns(step: number): void {
  for (;;) {
    const claimed: [no: number, seq: number, input: string][] = [];
    transaction(() => void claimed.push(...(claim.all(turnGroup) as unknown as typeof claimed)));
    if (claimed.length === 0) break;
    begin.run();
    for (const [no, seq] of claimed) if (seq > 0) history.all(no * entriesPerRun, (no + 1) * entriesPerRun, seq);
    commit.run();
    transaction(() => {
      for (const [no] of claimed) {
        if (step === steps) end(no);
        else ask(no, step);
      }
    });
  }
  if (step < steps) batch(step);
}

function ask(run: number, step: number): void {
  wait.run(run);
  const body = bodyOf(promptOf(run, step, step === 0 ? "" : answerText));
  const { lastInsertRowid } = insertBody.run(body);
  // A key per prompt, as long as the engine's.
  const key = `${run}-${step}`.padEnd(43, "k");
  insertEntry.run(run * entriesPerRun + step, key, key, body.length, body.length >> 2, now, now, lastInsertRowid);
}

function end(run: number): void {
  complete.run(now, run);
  insertOutcome.run(run, output);
}

function batch(step: number): void {
  let no = 0;
  let count = 0;
  for (let taken = formGroup; taken === formGroup;) {
    transaction(() => {
      if (no === 0) no = Number(insertBatch.run(`b${(batches += 1)}`).lastInsertRowid);
      taken = Number(fillBatch.run(no, formGroup).changes);
      count += taken;
      moveBatch.run(1, count, no);
    });
  }
  const sent: number[] = [];
  for (let page: unknown[][] = []; ;) {
    page = members.all(no, sent.at(-1) ?? -1, pageSize) as unknown as unknown[][];
    for (const [member] of page) sent.push(member as number);
    if (page.length < pageSize) break;
  }
  // Launching, launched, ended, routing: a batch is claimed and moved on six times, by the engine as by anybody.
  for (let move = 0; move < 6; move += 1) transaction(() => moveBatch.run(2, count, no));
  for (let from = 0; from < sent.length; from += settleGroup) {
    transaction(() => {
      for (const member of sent.slice(from, from + settleGroup)) {
        const { lastInsertRowid } = insertAnswer.run(value);
        settle.run(step + 1, lastInsertRowid, member);
        wake.run(Math.floor(member / entriesPerRun));
      }
    });
  }
  transaction(() => moveBatch.run(5, count, no));
}
