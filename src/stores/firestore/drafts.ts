/**
 * A turn that asks for more than one transaction carries: the prompts and values of its entries are written first, some documents at a time, and only then the turn is committed, with no more than rows. A draft has no row, so
 * nobody sees it; one whose turn never comes is overwritten by the next entry of that number, or removed with the run.
 */
import type { TurnCommit } from "../../core/store.ts";
import { RUN } from "../codes.ts";
import type { Database } from "./database.ts";
import { storedError } from "./entries.ts";
import { digest, entryKey } from "./keys.ts";
import { workerKey } from "./rows.ts";
import { runAt } from "./runs.ts";

interface Draft {
  no: number;
  texts: Record<string, string>;
  bytes: number;
}

const DRAFTS = 300;
const DRAFT_BYTES = 2_500_000;

/** Writes the drafts of a turn in hand. Returns the entries whose payloads are there now, with the names of these. */
export async function stageTurn(database: Database, worker: string, turn: TurnCommit): Promise<Map<string, ReadonlySet<string>>> {
  const staged = new Map<string, ReadonlySet<string>>();
  for (const part of portionsOf(turn)) {
    const keys = await database.write(async (unit) => {
      const id = digest(turn.run);
      await unit.load({ runs: [id] });
      const run = runAt(unit, turn.run);
      // Whoever lost the claim overwrites nothing of who has it now.
      if (run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch || run.worker !== workerKey(worker)) return [];
      return part.flatMap(({ no, texts }) => {
        if (no < run.entries) return [];
        const key = entryKey(run.no, no);
        unit.drafts.set(key, texts);
        return [[key, new Set(Object.keys(texts))] as const];
      });
    });
    for (const [key, names] of keys) staged.set(key, names);
  }
  return staged;
}

function portionsOf({ entries, firstNo }: TurnCommit): Draft[][] {
  const parts: Draft[][] = [];
  let bytes = Infinity;
  for (const [i, entry] of entries.entries()) {
    const draft = draftOf(entry, firstNo + i);
    if (draft === undefined) continue;
    if (bytes + draft.bytes > DRAFT_BYTES || (parts.at(-1)?.length ?? 0) >= DRAFTS) {
      parts.push([]);
      bytes = 0;
    }
    parts.at(-1)?.push(draft);
    bytes += draft.bytes;
  }
  return parts;
}

/** `undefined`: the entry has no payload. */
function draftOf({ request, settled }: TurnCommit["entries"][number], no: number): Draft | undefined {
  const error = storedError(settled?.error);
  const texts = {
    ...(request !== undefined && { body: request.body }),
    ...(settled?.value !== undefined && { value: settled.value }),
    ...(error !== null && { error }),
  };
  const all = Object.values(texts);
  if (all.length === 0) return undefined;
  return { no, texts, bytes: 200 + all.reduce((sum, text) => sum + Buffer.byteLength(text), 0) };
}
