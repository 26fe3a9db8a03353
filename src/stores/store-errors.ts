/** What stores say of themselves, whichever it is. */
import { GembatchError } from "../core/errors.ts";

export function notOpen(place: string): GembatchError {
  return new GembatchError("closed", `The store ${place} is not open.`, {
    hint: "Call open() first, and nothing after close().",
    details: { place },
  });
}

export function tooNew(place: string, found: number, known: number): GembatchError {
  return new GembatchError(
    "store_too_new",
    `The store ${place} has schema version ${found}; this version of gembatch knows up to ${known}.`,
    { hint: "Upgrade gembatch; a store is never migrated back.", details: { place, found, known } },
  );
}

/** A commit whose answer was lost, and nobody could say what became of it. Work that it may have done is found by whoever looks again; `inDoubt` makes a worker give up claims that it may have made. */
export function inDoubt(place: string, cause: unknown): GembatchError {
  return new GembatchError(
    "store_unavailable",
    `The store ${place} went away during a commit, and it is not known whether that came to pass.`,
    {
      retryable: true,
      hint: "Every call can be repeated; claims that nobody knows of end with this worker's lease.",
      details: { place, inDoubt: true },
      cause,
    },
  );
}
