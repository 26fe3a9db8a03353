import { isQueued } from "../queue-states.ts";
import { DEPARTED, ENTRY } from "../codes.ts";
import { REQUESTS } from "../counts.ts";
import { runOf } from "./keys.ts";
import { countQueued } from "./queue.ts";
import { rangeOf } from "./requests.ts";
import { departedKey, type EntryRow, type RunRow } from "./rows.ts";
import { passOn } from "./shared.ts";
import type { Unit } from "./unit.ts";

/**
 * Removes up to `limit` of a run's entries with their prompts and answers; `keep`, a closed request, stays. Requests that are queued are withdrawn; batched ones count as cancelled in their batch, and are billed when
 * they come back all the same. Returns how many entries are gone and, if `references` are looked for, what those held.
 */
export async function forgetHistory(
  unit: Unit,
  run: RunRow,
  now: number,
  { keep, limit, texts }: { keep?: string; limit?: number; texts?: string[] } = {},
): Promise<number> {
  const find = { where: rangeOf(run.no), ...(limit !== undefined && { limit }), ...(texts !== undefined && { fields: ["d", "t"] }) };
  const rows = await unit.entries.select(find, (row) => row.no.startsWith(run.no));
  await unit.load({ batches: rows.flatMap((row) => (row.state === ENTRY.batched && row.batch !== null ? [row.batch] : [])) });
  const leaders: { no: string; shared: string }[] = [];
  for (const row of rows) {
    const { no, state, shared } = row;
    if (shared !== null && (isQueued(state) || state === ENTRY.batched)) leaders.push({ no, shared });
    if (row.kind === 0) await close(unit, row, run, no === keep);
    if (no === keep) continue;
    texts?.push(...unit.entries.textsOf(row));
    unit.entries.remove(no);
  }
  unit.entries.removeDrafts();
  for (const { no, shared } of leaders) await passOn(unit, shared, no, now);
  return rows.found;
}

/** Takes a request out of wherever it is; it is gone then, or cancelled if it is kept. */
async function close(unit: Unit, row: EntryRow, run: RunRow, kept: boolean): Promise<void> {
  countQueued(unit, -1, row.state, row.lane ?? "", row);
  const batch = row.state === ENTRY.batched && row.batch !== null ? unit.batches.peek(row.batch) : undefined;
  if (batch !== undefined) {
    await depart(unit, batch.no, row.no, row.attempt ?? 1, run, true);
    unit.batches.change(batch, { cancelled: batch.cancelled + 1 });
  }
  unit.tallies.move(REQUESTS, row.state, kept ? ENTRY.cancelled : undefined);
  if (kept) unit.entries.change(row, { state: ENTRY.cancelled, check_at: null });
}

/** A row of the batch that nobody waits for any more: should it come, it is billed and counted as a duplicate. */
export async function depart(unit: Unit, batch: string, entry: string, attempt: number, run: RunRow, forgotten: boolean): Promise<void> {
  const no = departedKey(batch, entry, attempt);
  if ((await unit.departed.get(no)) !== undefined || run.no !== runOf(entry)) return;
  unit.departed.add({ no, chain: run.chain, state: forgotten ? DEPARTED.forgotten : DEPARTED.waited });
}
