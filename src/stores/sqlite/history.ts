import { isQueued } from "../queue-states.ts";
import { DEPARTED, ENTRY, entryNo, runOf } from "../codes.ts";
import type { Database } from "./database.ts";
import { releaseAnswer } from "./entries.ts";
import { countQueued, type QueueRow } from "./queue.ts";
import { References } from "./references.ts";
import { forgetShare, passOn } from "./shared.ts";
import { REQUESTS } from "../counts.ts";

interface HistoryRow extends QueueRow {
  kind: number;
  batch: number | null;
  attempt: number;
  body: number | null;
  answer: number | null;
  shared: number | null;
}

/**
 * Removes a run's entries with their prompts and answers; `keep`, a closed request, stays. Requests that are queued are withdrawn; batched ones count as
 * cancelled in their batch, and are billed when they come back all the same. Returns how many entries were removed.
 */
export function forgetHistory(db: Database, run: number, now: number, keep?: number, references = new References(db, undefined)): number {
  const range = [entryNo(run, 0), entryNo(run + 1, 0)] as const;
  const rows = db
    .sql(`
      SELECT no, kind, state, lane, batch, attempt, bytes, tokens, estimate, group_size, body, answer, shared FROM entries
      WHERE no >= ? AND no < ?`)
    .all(...range) as unknown as HistoryRow[];
  for (const row of rows) {
    if (row.kind === 0) close(db, row, row.no === keep);
    if (row.no === keep) continue;
    if (row.shared !== null) releaseAnswer(db, row.answer, references);
    else if (row.answer !== null) references.remove("answers", row.answer);
    if (row.body !== null) references.remove("bodies", row.body);
  }
  db.sql(`DELETE FROM run_waiters WHERE entry >= ? AND entry < ?`).run(...range);
  db.sql(`DELETE FROM entries WHERE no >= ? AND no < ? AND no <> ?`).run(...range, keep ?? -1);
  for (const { no, state, shared } of rows) {
    if (shared === null) continue;
    if (isQueued(state) || state === ENTRY.batched) passOn(db, shared, no, now);
    forgetShare(db, shared);
  }
  return rows.length;
}

/** Takes a request out of wherever it is; it is gone then, or cancelled if it is kept. */
function close(db: Database, row: HistoryRow, kept: boolean): void {
  countQueued(db, -1, row.state, row.lane, row);
  if (row.state === ENTRY.batched && row.batch !== null) {
    depart(db, row.batch, row.no, row.attempt, true);
    db.sql(`UPDATE batches SET cancelled = cancelled + 1 WHERE no = ?`).run(row.batch);
  }
  db.tallies.move(REQUESTS, row.state, kept ? ENTRY.cancelled : undefined);
  if (kept) db.sql(`UPDATE entries SET state = 7, check_at = NULL WHERE no = ?`).run(row.no);
}

/** A row of the batch that nobody waits for any more: should it come, it is billed and counted as a duplicate. */
export function depart(db: Database, batch: number, entry: number, attempt: number, forgotten: boolean): void {
  db.sql(`
    INSERT OR IGNORE INTO departed (batch, entry, attempt, chain, state)
    SELECT ?, ?, ?, chain, ? FROM runs WHERE no = ?`).run(
    batch,
    entry,
    attempt,
    forgotten ? DEPARTED.forgotten : DEPARTED.waited,
    runOf(entry),
  );
}
