import type { Random } from "../../core/clock.ts";
import { describe, GembatchError } from "../../core/errors.ts";
import { checkMethods, checkType } from "../../core/options.ts";

export interface SqliteStoreOptions {
  /** The file, or `:memory:`. Default `.gembatch/gembatch.db`. Its folder is made if it is not there. */
  path?: string;
  /**
   * `full` (default): what is acknowledged survives a power cut, so no job is ever sent twice. `normal`: a power cut may take the last moments with it;
   * a crash of the process takes nothing in either.
   */
  synchronous?: "full" | "normal";
  /** How long to wait for another process that writes, before `store_locked`. Default 5000. */
  busyTimeoutMs?: number;
  /** The file never grows beyond this; `store_full` then. Default: no limit. */
  maxBytes?: number;
  /** Draws the id of a new store. */
  random?: Random;
  /** Whether a process of this host exists; a worker whose process is gone is given up without waiting for its lease. */
  isProcessAlive?: (pid: number) => boolean;
}

const knownOptions: readonly string[] = ["path", "synchronous", "busyTimeoutMs", "maxBytes", "random", "isProcessAlive"];

/** Throws `invalid_option` for what a store cannot be made with. */
export function checkOptions(options: SqliteStoreOptions): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new GembatchError("invalid_option", `The SQLite store takes an object of options, got ${describe(options)}.`);
  }
  const unknown = Object.keys(options).find((name) => !knownOptions.includes(name));
  if (unknown !== undefined) {
    throw new GembatchError("invalid_option", `The SQLite store has no option ${unknown}.`, {
      hint: `It knows ${knownOptions.join(", ")}.`,
    });
  }
  const { path, synchronous, busyTimeoutMs, maxBytes } = options;
  if (path !== undefined && (typeof path !== "string" || path === "")) throw invalid("path", "the name of a file", path);
  if (synchronous !== undefined && synchronous !== "full" && synchronous !== "normal") {
    throw invalid("synchronous", '"full" or "normal"', synchronous);
  }
  if (busyTimeoutMs !== undefined && !(Number.isFinite(busyTimeoutMs) && busyTimeoutMs >= 0)) {
    throw invalid("busyTimeoutMs", "a number of milliseconds", busyTimeoutMs);
  }
  if (maxBytes !== undefined && !(Number.isFinite(maxBytes) && maxBytes > 0)) throw invalid("maxBytes", "a number of bytes", maxBytes);
  checkMethods(options.random, ["next"], "random");
  checkType(options.isProcessAlive, "function", "isProcessAlive");
}

function invalid(name: string, expected: string, value: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} of the SQLite store must be ${expected}, got ${describe(value)}.`);
}
