/**
 * What a Firestore store is made with.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import type { Random } from "../../core/clock.ts";
import { describe, GembatchError } from "../../core/errors.ts";
import { checkMethods, checkType } from "../../core/options.ts";

/** What is looked at of a Firestore client; any `Firestore` of `firebase-admin/firestore` or `@google-cloud/firestore` is one. */
export interface FirestoreClient {
  collection(path: string): unknown;
  getAll(...documents: never[]): Promise<unknown>;
  runTransaction(...parameters: never[]): Promise<unknown>;
}

/** An app of `firebase-admin`. */
export interface FirebaseApp {
  name: string;
  options: object;
}

export interface FirestoreStoreOptions {
  /** A client that is there already. It is used as it is, and never terminated. */
  firestore?: FirestoreClient;
  /** An app of `firebase-admin` to take the client of. Default: the default app, which is initialised if there is none. */
  app?: FirebaseApp;
  /** A project by its id, with application default credentials, instead of an app. The store then has a client of its own. */
  projectId?: string;
  /** Default `(default)`. */
  databaseId?: string;
  /** What the names of the store's collections begin with (`<prefix>_runs`, …), so that several stores can share a database. Default `gembatch`. */
  prefix?: string;
  /**
   * Parts that the queues are divided into, so that more than some 500 runs a second can be started: Firestore writes no more to one end of an index. Every look reads all of them. It can be raised while the store is in use,
   * never lowered, and has to be the same for every worker. 1 to 10, default 1.
   */
  shards?: number;
  /** Whether leases go by the server's time (default): every worker then goes by one clock, however wrong its own. `false`: by the times that are passed in, for tests in virtual time. */
  serverTime?: boolean;
  /** How long a call goes on trying while the server is away or busy, before `store_unavailable`. Milliseconds, default 20,000. What others have locked is waited for up to 75 seconds in any case. */
  patienceMs?: number;
  /** Draws the id of a new store, and pauses. */
  random?: Random;
  /** Whether a process of this host exists; a worker whose process is gone is given up without waiting for its lease. */
  isProcessAlive?: (pid: number) => boolean;
}

export interface Settings {
  firestore: FirestoreClient | undefined;
  app: FirebaseApp | undefined;
  projectId: string | undefined;
  databaseId: string | undefined;
  prefix: string;
  shards: number;
  serverTime: boolean;
  patienceMs: number;
  random: Random;
  isProcessAlive: ((pid: number) => boolean) | undefined;
  /** For people: where the store is. */
  place: string;
}

/** More would not fit into one query with an order. */
export const MAX_SHARDS = 10;

const known: readonly string[] = [
  ...["firestore", "app", "projectId", "databaseId", "prefix", "shards", "serverTime", "patienceMs", "random", "isProcessAlive"],
];

const secureRandom: Random = { next: () => randomInt(2 ** 32) / 2 ** 32 };

/** Throws `invalid_option` for what a store cannot be made with. */
export function resolveOptions(options: FirestoreStoreOptions): Settings {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new GembatchError("invalid_option", `The Firestore store takes an object of options, got ${describe(options)}.`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new GembatchError("invalid_option", `The Firestore store has no option ${unknown}.`, { hint: `It knows ${known.join(", ")}.` });
  }
  const { firestore, app, projectId, databaseId, prefix = "gembatch", shards = 1, patienceMs = 20_000 } = options;
  if (firestore !== undefined && (app !== undefined || projectId !== undefined || databaseId !== undefined)) {
    throw new GembatchError(
      "invalid_option",
      "Option firestore of the Firestore store says already which app, project and database are meant.",
    );
  }
  if (app !== undefined && projectId !== undefined) {
    throw new GembatchError("invalid_option", "Option app of the Firestore store says already which project is meant.");
  }
  checkMethods(firestore, ["collection", "getAll", "runTransaction"], "firestore");
  checkMethods(options.random, ["next"], "random");
  checkType(options.isProcessAlive, "function", "isProcessAlive");
  checkType(options.serverTime, "boolean", "serverTime");
  checkType(projectId, "string", "projectId");
  checkType(databaseId, "string", "databaseId");
  if (typeof prefix !== "string" || !/^[A-Za-z][A-Za-z0-9_-]{0,99}$/.test(prefix)) {
    throw invalid("prefix", "a name of letters, digits, _ and - that begins with a letter", prefix);
  }
  if (!(Number.isInteger(shards) && shards >= 1 && shards <= MAX_SHARDS))
    throw invalid("shards", `a whole number from 1 to ${MAX_SHARDS}`, shards);
  if (!(Number.isFinite(patienceMs) && patienceMs >= 0)) throw invalid("patienceMs", "a number of milliseconds", patienceMs);
  const where =
    firestore === undefined ? `${projectId ?? app?.name ?? "default project"}/${databaseId ?? "(default)"}` : "of the given client";
  return {
    firestore,
    app,
    projectId,
    databaseId,
    prefix,
    shards,
    serverTime: options.serverTime ?? true,
    patienceMs,
    random: options.random ?? secureRandom,
    isProcessAlive: options.isProcessAlive,
    place: `Firestore ${where}, prefix ${prefix}`,
  };
}

function invalid(name: string, expected: string, value: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} of the Firestore store must be ${expected}, got ${describe(value)}.`);
}
