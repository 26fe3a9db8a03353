import { isQueued } from "../queue-states.ts";
import { isolationSize } from "../../core/isolation.ts";
import type { DeadlineDecision, DeadlineItem } from "../../core/store.ts";
import { atTier, isDirect } from "../../core/tiers.ts";
import { ENTRY, RUN } from "../codes.ts";
import type { Data, Database } from "./database.ts";
import { depart } from "./history.ts";
import { isEntryKey, laneKey, laneOf, runOf } from "./keys.ts";
import { countQueued, enqueue } from "./queue.ts";
import { batchKey, specs } from "./rows.ts";
import type { Unit } from "./unit.ts";
import { expandRow } from "./working-set.ts";

export async function dueDeadlines(database: Database, { now, limit }: { now: number; limit: number }): Promise<DeadlineItem[]> {
  const found = await database.find({ from: "entries", where: [["check_at", "<=", now]], order: [["check_at", "asc"]], limit });
  return found.map(({ id, data }) => {
    const row = expandRow(specs.entries, data["d"] as Data);
    return {
      id,
      lane: laneOf(row.lane ?? ""),
      deadlineAt: row.deadline_at ?? 0,
      batch: row.state === ENTRY.batched ? (row.batch_id ?? undefined) : undefined,
      attempt: row.attempt ?? 1,
    };
  });
}

export async function decideDeadlines(
  unit: Unit,
  { now, decisions }: { now: number; decisions: readonly DeadlineDecision[] },
): Promise<number> {
  const keys = decisions.map(({ id }) => id).filter(isEntryKey);
  await unit.load({
    batches: decisions.flatMap(({ batch }) => (batch === undefined ? [] : [batchKey(batch)])),
    runs: keys.map(runOf),
    entries: keys,
  });
  let moved = 0;
  for (const decision of decisions) if (await decide(unit, decision, now)) moved += 1;
  return moved;
}

async function decide(unit: Unit, decision: DeadlineDecision, now: number): Promise<boolean> {
  const row = isEntryKey(decision.id) ? unit.entries.peek(decision.id) : undefined;
  if (row === undefined || row.kind !== 0 || row.attempt !== decision.attempt || row.lane !== laneKey(decision.lane)) return false;
  if (row.state !== ENTRY.batched && !isQueued(row.state)) return false;
  const batch = decision.batch === undefined ? null : batchKey(decision.batch);
  if (batch !== (row.state === ENTRY.batched ? row.batch : null)) return false;
  const run = unit.run(runOf(row.no));
  // Nobody is in a hurry for the answer of a run that ended.
  const ended = run.state >= RUN.completed;
  unit.entries.change(row, { check_at: ended ? null : (decision.checkAt ?? null) });
  if (ended || decision.move === undefined) return false;
  const lane = atTier(decision.lane, decision.move.tier);
  if (row.state === ENTRY.batched && row.batch !== null) {
    await depart(unit, row.batch, row.no, row.attempt, run, false);
    const from = unit.batches.peek(row.batch);
    if (from !== undefined) unit.batches.change(from, { requeued: from.requeued + 1 });
  } else countQueued(unit, -1, row.state, row.lane, row);
  enqueue(unit, row, {
    lane: laneKey(lane),
    attempt: row.attempt + 1,
    groupSize: isDirect(lane) ? null : (isolationSize(row.failed_jobs, 0) ?? null),
    dueAt: now,
    now,
  });
  unit.entries.change(row, { tier_reason: decision.move.reason });
  return true;
}
