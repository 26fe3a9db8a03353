import type { Turn } from "../chain/turn.ts";
import { GembatchError, serializeError, type SerializedError } from "../core/errors.ts";
import type { ClaimedRun } from "../core/store.ts";

/** Why the run is held, with both sides shown: in the details, which are stored with the run and never logged. */
export function nonDeterminism(
  run: ClaimedRun,
  divergence: NonNullable<ReturnType<Turn["divergence"]>>,
  bodies: ReadonlyMap<string, unknown>,
): SerializedError {
  const { unasked, added } = divergence;
  const names = (entries: readonly { kind: string; key: string }[]) =>
    entries
      .slice(0, 5)
      .map(({ kind, key }) => `${kind} ${key}`)
      .join(", ");
  const error = new GembatchError(
    "non_determinism",
    `Run ${run.id} (${run.chain}) is held: the same code asked for something else than before. Recorded and not asked for: ${names(unasked)}. Asked for and not recorded: ${names(added)}.`,
    {
      hint: "Something outside of the run is in a prompt, typically the time or a random number: take it from now(), random() or step(). Then retry the run.",
      details: {
        recorded: unasked.slice(0, 5).map(({ key }) => ({ key, body: bodies.get(key) })),
        asked: added.slice(0, 5).map(({ key, request }) => ({ key, body: request ? (JSON.parse(request.body) as unknown) : undefined })),
      },
    },
  );
  return serializeError(error, "non_determinism");
}
