import { GembatchError } from "../../core/errors.ts";

/** Primary result codes of SQLite that have a meaning for users. */
const BUSY = 5;
const LOCKED = 6;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const NOTADB = 26;

/** The primary result code of an error of SQLite, else `undefined`. */
function resultCode(thrown: unknown): number | undefined {
  const code = (thrown as { errcode?: unknown } | null | undefined)?.errcode;
  return typeof code === "number" ? code & 0xff : undefined;
}

export function isBusy(thrown: unknown): boolean {
  const code = resultCode(thrown);
  return code === BUSY || code === LOCKED;
}

/** What SQLite or the file system said, in our words. Anything that is neither (a bug) comes back as it is. */
export function storeError(thrown: unknown, path: string): unknown {
  if (GembatchError.is(thrown)) return thrown;
  const details = { path };
  switch (resultCode(thrown)) {
    case BUSY:
    case LOCKED:
      return new GembatchError("store_locked", `The store ${path} is locked by another process; nothing was changed.`, {
        retryable: true,
        hint: "It is tried again by itself; if it stays so, look for a program that keeps a transaction open on this file.",
        details,
        cause: thrown,
      });
    case READONLY:
      return new GembatchError("store_read_only", `The store ${path} cannot be written; nothing was changed.`, {
        hint: "Give this user write permission on the file and its folder, or choose another path.",
        details,
        cause: thrown,
      });
    case CORRUPT:
    case NOTADB:
      return new GembatchError("store_corrupt", `The store ${path} is damaged or is no SQLite database; it was left as it is.`, {
        hint: "Restore it from a backup, or move the file away and start with a new one.",
        details,
        cause: thrown,
      });
    case FULL:
      return new GembatchError(
        "store_full",
        `There is no space left to write to the store ${path}; nothing is lost, nothing was changed.`,
        {
          retryable: true,
          hint: "Free some space; work goes on by itself.",
          details,
          cause: thrown,
        },
      );
    case CANTOPEN:
      return cannotOpen(path, thrown);
    case IOERR:
      return new GembatchError("store_unavailable", `The disk failed under the store ${path}: ${text(thrown)}; nothing was changed.`, {
        retryable: true,
        hint: "It is tried again by itself; check the disk if it goes on.",
        details,
        cause: thrown,
      });
    default:
      return thrown;
  }
}

export function cannotOpen(path: string, cause: unknown): GembatchError {
  return new GembatchError("store_unavailable", `The store ${path} cannot be opened: ${text(cause)}.`, {
    hint: "Check that the path names a file in a folder that this user may write to.",
    details: { path },
    cause,
  });
}

export function foreignStore(path: string): GembatchError {
  return new GembatchError("store_unavailable", `The file ${path} is a database of another program; it was left as it is.`, {
    hint: "Choose another path for the store.",
    details: { path },
  });
}

export function unreleased(path: string): GembatchError {
  return new GembatchError(
    "store_unavailable",
    `The store ${path} was made by a gembatch from before its first release; its form is not read any more.`,
    {
      hint: "Begin with a new file; the old one is left as it is.",
      details: { path },
    },
  );
}

const text = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
