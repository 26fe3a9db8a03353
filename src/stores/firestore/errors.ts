import { GembatchError } from "../../core/errors.ts";

/** Codes of gRPC that are told apart here. */
const CANCELLED = 1;
const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const DEADLINE_EXCEEDED = 4;
const NOT_FOUND = 5;
const ALREADY_EXISTS = 6;
const PERMISSION_DENIED = 7;
const RESOURCE_EXHAUSTED = 8;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;
const INTERNAL = 13;
const UNAVAILABLE = 14;
const UNAUTHENTICATED = 16;

/** What this transaction has seen is not so any more: it is done again. */
export class Conflict extends Error {}

/** The server did not answer in time. */
export class TimedOut extends Error {}

const codeOf = (thrown: unknown): number | undefined => {
  const code = (thrown as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
};

/** The server gave this transaction up because of another one; nothing of it was done. */
export function isConflict(thrown: unknown): boolean {
  if (thrown instanceof Conflict) return true;
  const code = codeOf(thrown);
  return code === ABORTED || code === ALREADY_EXISTS || isClosed(thrown);
}

/** The transaction is over: it was idle for too long, or it is done. The client sends a commit again by itself when the connection breaks, and then this is the answer to one that was done. */
export function isClosed(thrown: unknown): boolean {
  return codeOf(thrown) === INVALID_ARGUMENT && /transaction (?:has )?(?:expired|is invalid|closed)/i.test(textOf(thrown));
}

/** The same call may go through later. Whether it was done although it failed is not said. */
export function isTransient(thrown: unknown): boolean {
  if (thrown instanceof TimedOut) return true;
  const code = codeOf(thrown);
  if (code !== undefined) return [CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE].includes(code);
  const named = (thrown as { code?: unknown } | null | undefined)?.code;
  return typeof named === "string" && /^(?:E[A-Z]+|ERR_SOCKET.*|ERR_STREAM.*)$/.test(named) && !named.startsWith("ERR_ASSERT");
}

/** The server took the call and did nothing of it. */
export const isRefused = (thrown: unknown): boolean => codeOf(thrown) === RESOURCE_EXHAUSTED;

export const isInDoubt = (thrown: unknown): boolean => GembatchError.is(thrown) && thrown.details["inDoubt"] === true;

/** What the server or the client said, in our words. Anything that is neither (a bug) comes back as it is. */
export function storeError(thrown: unknown, place: string): unknown {
  if (GembatchError.is(thrown)) return thrown;
  const said = textOf(thrown);
  const options = { details: { place }, cause: thrown };
  switch (codeOf(thrown)) {
    case PERMISSION_DENIED:
    case UNAUTHENTICATED:
      return new GembatchError("store_unavailable", `The store ${place} may not be used with these credentials: ${said}.`, {
        hint: "Give the service account the role Cloud Datastore User (roles/datastore.user), and enable the Firestore API.",
        ...options,
      });
    case NOT_FOUND:
      return new GembatchError(
        "store_unavailable",
        `The database of the store ${place} does not exist, or a document of it is gone: ${said}.`,
        {
          hint: "Create the database in Native mode, or name another one with databaseId.",
          ...options,
        },
      );
    case FAILED_PRECONDITION:
      if (/index/i.test(said)) {
        return new GembatchError("store_unavailable", `An index of the store ${place} is missing or still being built: ${said}.`, {
          retryable: true,
          hint: "Deploy the indexes (firebase deploy --only firestore:indexes) and wait until they are ready.",
          ...options,
        });
      }
      return new GembatchError("store_unavailable", `The database of the store ${place} refuses this: ${said}.`, {
        hint: "gembatch needs a database in Native mode.",
        ...options,
      });
    case RESOURCE_EXHAUSTED:
      return new GembatchError("store_unavailable", `The store ${place} is beyond its quota; nothing was changed: ${said}.`, {
        retryable: true,
        hint: "Work goes on by itself when the quota allows; without billing a project has 20,000 writes a day.",
        ...options,
      });
    case INVALID_ARGUMENT:
      if (/size|too (?:large|big|long)|exceeds|longer than/i.test(said)) {
        return new GembatchError("invalid_argument", `A payload or a name is too large for Firestore: ${said}; nothing was changed.`, {
          hint: "Set option payloads: documents hold at most 1 MiB, transactions 10 MiB. Ids and keys may have about 1,400 bytes.",
          ...options,
        });
      }
      break;
    default:
  }
  if (isConflict(thrown)) {
    return new GembatchError(
      "store_unavailable",
      `The store ${place} gave a transaction up again and again because of others; nothing was changed.`,
      {
        retryable: true,
        hint: "It is tried again by itself; if it stays so, fewer workers should do this at the same time.",
        ...options,
      },
    );
  }
  return isTransient(thrown) ? unavailable(place, thrown) : thrown;
}

export function unavailable(place: string, cause: unknown): GembatchError {
  return new GembatchError("store_unavailable", `The store ${place} cannot be reached: ${textOf(cause)}.`, {
    retryable: true,
    hint: "It is tried again by itself; check the network and the state of Firestore.",
    details: { place },
    cause,
  });
}

export function foreign(place: string): GembatchError {
  return new GembatchError(
    "store_unavailable",
    `The collections of the store ${place} hold documents of somebody else; they were left as they are.`,
    {
      hint: "Give gembatch another prefix.",
      details: { place },
    },
  );
}

export function unstorable(what: string): GembatchError {
  return new GembatchError("invalid_argument", `${what} has half of a surrogate pair, which Firestore cannot store; nothing was changed.`, {
    hint: "Take it out of ids, keys and names.",
  });
}

/** What one document cannot hold. */
export function tooLarge(what: string, bytes: number, limit: number): GembatchError {
  return new GembatchError(
    "request_too_large",
    `${what} would make a document of ${bytes} bytes; Firestore holds at most ${limit} in one, and nothing was changed.`,
    {
      hint: "Set option payloads with a threshold of 262144: longer texts then lie in Cloud Storage.",
      details: { bytes, limit },
    },
  );
}

/** What one transaction cannot carry. */
export function tooMuch(bytes: number, limit: number): GembatchError {
  return new GembatchError(
    "invalid_argument",
    `One turn or start would write ${bytes} bytes at once; one transaction of this store carries ${limit}, and nothing was changed.`,
    {
      hint: "Start fewer runs or ask fewer prompts in one go, for example in child runs, or set option payloads.",
      details: { bytes, limit },
    },
  );
}

/** The first line of what was said: further ones may quote values. */
const textOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown)).split("\n")[0] ?? "";
