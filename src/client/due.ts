import { earliest, nextDue } from "../pipeline/stage.ts";
import type { Session } from "./session.ts";

/**
 * When the next thing is due on the store, whoever does it: from what is stored alone, so that whoever asks after its worker has left sees what nobody has in hand any more. What a living worker
 * executes counts as due when its lease would be over, should it die now.
 */
export async function readDueAt(session: Session): Promise<number | undefined> {
  const { clock, settings } = session.parts;
  const store = await session.store();
  const now = clock.now();
  const { lanes, runnable, running, nextTimerAt, nextDeadlineAt } = await store.activity({ now, chains: session.registry.versions() });
  const waiting = runnable || lanes.some(({ queued, isolated }) => queued > 0 || isolated > 0);
  const batches = await store.activeBatches();
  return earliest(
    waiting ? now : undefined,
    running ? now + settings.leaseMs : undefined,
    ...lanes.map(({ nextAt }) => nextAt),
    nextTimerAt,
    nextDeadlineAt,
    nextDue(batches),
  );
}
