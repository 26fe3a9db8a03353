import { GembatchError } from "../../core/errors.ts";

/** The five characters of an error that the server sent, else `undefined`. */
export function sqlState(thrown: unknown): string | undefined {
  const code = (thrown as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && "severity" in (thrown as object) ? code : undefined;
}

/** The server aborted this transaction because of another one (or of another version of the schema: 0A000); the same work may be done again at once. */
export const isConflict = (thrown: unknown): boolean =>
  thrown instanceof Conflict || ["40001", "40P01", "55P03"].includes(sqlState(thrown) ?? "") || isChangedPlan(thrown);

/** What this transaction has seen is not so any more: it is done again. */
export class Conflict extends Error {}

/** A statement that this connection prepared does not fit the tables any more: a newer version of gembatch has migrated them. */
const isChangedPlan = (thrown: unknown): boolean => sqlState(thrown) === "0A000" && /cached plan/.test((thrown as Error).message);

/** The name of a prepared statement is unknown on this connection, or taken: somebody between us and the server changes connections. */
export const isLostStatement = (thrown: unknown): boolean => ["26000", "42P05"].includes(sqlState(thrown) ?? "");

/** The connection works, but another one may work better: its plans are outdated, or its server is no longer the primary. */
export const isStale = (thrown: unknown): boolean => isLostStatement(thrown) || isChangedPlan(thrown) || sqlState(thrown) === "25006";

/** Said by the server when it stops, starts, has no place left, or ended a session that did nothing or took too long. */
const goneStates = new Set(["57P01", "57P02", "57P03", "57P05", "53300", "25P03", "25P04"]);

/** What the driver says without a code. */
const goneMessages =
  /^(?:Connection terminated|Client has encountered a connection error|Client was closed|timeout expired|timeout exceeded when trying to connect|Query read timeout|There was an error establishing an SSL connection|Cannot call write after a stream was destroyed)/;

/** The connection is gone or was never made. Whatever the transaction did before its commit was sent is undone. */
export function isDisconnected(thrown: unknown): boolean {
  if (GembatchError.is(thrown)) return false;
  const state = sqlState(thrown);
  if (state !== undefined) return state.startsWith("08") || goneStates.has(state);
  const code = (thrown as { code?: unknown } | null | undefined)?.code;
  if (typeof code === "string" && /^(?:E[A-Z]+|ERR_SOCKET.*|ERR_STREAM.*)$/.test(code)) return true;
  return thrown instanceof Error && goneMessages.test(thrown.message);
}

/** What the server or the driver said, in our words. Anything that is neither (a bug) comes back as it is. */
export function storeError(thrown: unknown, place: string): unknown {
  if (GembatchError.is(thrown)) return thrown;
  const details = { place };
  const state = sqlState(thrown);
  const said = textOf(thrown);
  if (state === "28P01" || state === "28000") {
    return new GembatchError("store_unavailable", `The store ${place} does not accept the user or password.`, {
      hint: "Check the URL, PGUSER and PGPASSWORD.",
      details,
      cause: thrown,
    });
  }
  if (state === "3D000") {
    return new GembatchError("store_unavailable", `The database of the store ${place} does not exist.`, {
      hint: "Create it, or name another one in the URL; gembatch only makes its schema in it.",
      details,
      cause: thrown,
    });
  }
  if (state === "42501") {
    return new GembatchError("store_unavailable", `The store ${place} may not be used by this user: ${said}.`, {
      hint: "The first start needs CREATE on the database, or an existing schema that this user owns.",
      details,
      cause: thrown,
    });
  }
  if (state === "25006") {
    return new GembatchError("store_read_only", `The store ${place} cannot be written; nothing was changed.`, {
      retryable: true,
      hint: "This is a standby or a read-only transaction: connect to the primary.",
      details,
      cause: thrown,
    });
  }
  if (state === "53100" || state === "53200") {
    return new GembatchError("store_full", `The server of the store ${place} is out of space; nothing is lost, nothing was changed.`, {
      retryable: true,
      hint: "Free some space; work goes on by itself.",
      details,
      cause: thrown,
    });
  }
  if (state === "22021" || state === "22P05") return unstorable(thrown);
  if (state === "22003" || state === "22P02") return outOfRange(details, thrown);
  if (state === "54000") {
    return new GembatchError("invalid_argument", `A name or a payload is too long for Postgres: ${said}; nothing was changed.`, {
      hint: "Ids, cache keys and names of chains and models may have about 2,000 bytes, a payload 250 MB.",
      details,
      cause: thrown,
    });
  }
  if (state === "57014") {
    return new GembatchError("store_unavailable", `The server of the store ${place} cancelled a statement: ${said}; nothing was changed.`, {
      retryable: true,
      hint: "It is tried again by itself; if it stays so, raise statement_timeout for this user.",
      details,
      cause: thrown,
    });
  }
  if (state === "42P01" || state === "3F000") {
    return new GembatchError("store_unavailable", `The tables of the store ${place} are gone: ${said}.`, {
      hint: "Somebody has dropped or renamed them while the store was open. Restore them, or start again with a new schema.",
      details,
      cause: thrown,
    });
  }
  if (state === "XX001" || state === "XX002") {
    return new GembatchError("store_corrupt", `The server of the store ${place} says that its data are damaged: ${said}.`, {
      hint: "Restore the database from a backup.",
      details,
      cause: thrown,
    });
  }
  if (isConflict(thrown)) {
    return new GembatchError("store_locked", `The store ${place} was busy with the same rows for too long; nothing was changed.`, {
      retryable: true,
      hint: "It is tried again by itself; look for somebody's long transaction on these tables if it stays so.",
      details,
      cause: thrown,
    });
  }
  if (isDisconnected(thrown)) return unavailable(place, thrown);
  return thrown;
}

export function outOfRange(details: Record<string, unknown> = {}, cause?: unknown): GembatchError {
  return new GembatchError(
    "invalid_argument",
    "A number is larger than Postgres can store in its place, or is not whole; nothing was changed.",
    {
      hint: "Priorities, sizes and attempts are whole numbers up to 2,147,483,647, times whole milliseconds.",
      details,
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

/** A text that Postgres cannot hold, or that would come back as another one. */
export function unstorable(cause?: unknown): GembatchError {
  return new GembatchError(
    "invalid_argument",
    "A text has a character that Postgres cannot store (U+0000 or half of a surrogate pair); nothing was changed.",
    {
      hint: "Take it out of ids, keys and names. In prompts, answers and notes it is no trouble.",
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

export function unavailable(place: string, cause: unknown): GembatchError {
  return new GembatchError("store_unavailable", `The store ${place} cannot be reached: ${textOf(cause)}.`, {
    retryable: true,
    hint: "It is tried again by itself; check that the server runs, and that it takes enough connections.",
    details: { place },
    cause,
  });
}

export function foreignSchema(place: string): GembatchError {
  return new GembatchError("store_unavailable", `The schema of the store ${place} has tables of somebody else; it was left as it is.`, {
    hint: "Give gembatch a schema of its own: postgres://…?schema=NAME.",
    details: { place },
  });
}

export function tooOld(place: string, version: string): GembatchError {
  return new GembatchError("store_unavailable", `The store ${place} is on Postgres ${version}; gembatch needs 14 or later.`, {
    hint: "Upgrade the server.",
    details: { place, version },
  });
}

export function driverMissing(cause: unknown): GembatchError {
  return new GembatchError("invalid_option", "The Postgres store needs the package pg, which is not installed.", {
    hint: "npm install pg",
    cause,
  });
}

/** The first line of what was said: further ones of the server may quote values. */
const textOf = (thrown: unknown): string => {
  if (thrown instanceof AggregateError && thrown.message === "") return thrown.errors.map((error) => textOf(error)).join("; ");
  return (thrown instanceof Error ? thrown.message : String(thrown)).split("\n")[0] ?? "";
};
