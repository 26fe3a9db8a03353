import { randomText } from "../core/clock.ts";
import { GembatchError } from "../core/errors.ts";
import type { NewRun, Store } from "../core/store.ts";
import type { Session } from "./session.ts";

/** Runs written by one transaction. */
const chunkSize = 500;
/** How long a bulk start holds up the flush after its process died. */
const holdMs = 5_000;
/** An input that does not come for this long lets what is there be started. */
const impatienceMs = 500;

/**
 * Starts a run per input, as fast as the store commits and no faster: the inputs are never all in memory. While it goes on no queue counts as
 * complete, so that a long list becomes few large batches.
 */
export async function startMany<Input>(
  session: Session,
  inputs: Iterable<Input> | AsyncIterable<Input>,
  toRun: (input: Input, index: number) => NewRun,
  onStarted: (ids: string[], startedNow: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const store = await session.store();
  const { clock, random } = session.parts;
  const producer = `p${randomText(random, 16)}`;
  const hold = async () => store.holdFlush({ producer, until: clock.now() + holdMs });
  await hold();
  const ended = new AbortController();
  const renewing = renewHold(session, hold, ended.signal);
  let chunk: NewRun[] = [];
  let chunkSince = clock.monotonic();
  const flush = async () => {
    const runs = chunk;
    chunk = [];
    chunkSince = clock.monotonic();
    if (runs.length > 0)
      onStarted(
        runs.map(({ id }) => id),
        await commitStarts(session, store, runs),
      );
  };
  try {
    let index = 0;
    for await (const input of inputs) {
      signal?.throwIfAborted();
      chunk.push(toRun(input, index));
      index += 1;
      if (chunk.length >= chunkSize || clock.monotonic() - chunkSince > impatienceMs) await flush();
    }
    await flush();
  } finally {
    ended.abort();
    await renewing;
    await store.holdFlush({ producer, until: 0 });
    await session.announce();
  }
}

/** However slowly the inputs come, the bulk start goes on. */
async function renewHold(session: Session, hold: () => Promise<void>, ended: AbortSignal): Promise<void> {
  const { clock, log } = session.parts;
  for (;;) {
    await clock.sleep(holdMs / 3, { signal: ended, background: true });
    if (ended.aborted) return;
    // A hold that is not renewed costs a smaller batch, nothing else.
    await hold().catch((error: unknown) => log.debug(`A bulk start could not renew its hold: ${String(error)}`));
  }
}

/** Starts one run, together with others of the same moment; throws if its id is taken by a run of something else. */
export async function commitStart(session: Session, run: NewRun): Promise<void> {
  const outcome = await session.starts.start(run);
  await session.announce();
  if (outcome === "conflict") throw conflictOf(run);
}

/** Starts these runs; throws if an id is taken by a run of something else. Returns how many are new. */
async function commitStarts(session: Session, store: Store, runs: NewRun[]): Promise<number> {
  const outcomes = await store.startRuns({ now: session.parts.clock.now(), runs });
  await session.announce();
  const conflict = outcomes.indexOf("conflict");
  if (conflict >= 0) throw conflictOf(runs[conflict]!);
  return outcomes.filter((outcome) => outcome === "started").length;
}

function conflictOf({ id }: NewRun): GembatchError {
  return new GembatchError("run_conflict", `Run ${JSON.stringify(id)} exists already with another input or chain.`, {
    hint: "An id stands for one input for ever: use another id, or the id without a change of input.",
    details: { id },
  });
}
