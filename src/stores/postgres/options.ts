/**
 * What a Postgres store is made with: a URL, or an object.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import type { Random } from "../../core/clock.ts";
import { describe, GembatchError } from "../../core/errors.ts";
import { checkMethods, checkType } from "../../core/options.ts";

/** What of a pool of `pg` is used, so that any version of it will do. */
export interface PgPool {
  connect(): Promise<PgClient>;
  options?: { max?: number | undefined };
}

/** A connection that a pool lends. */
export interface PgClient {
  query(query: PgQuery | string): Promise<PgResult>;
  /** Whether it sends a query before the one before it is answered (an option of `pg`, in its newer versions). */
  pipeline?: boolean;
  release(error?: Error | boolean): void;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  removeListener(event: string, listener: (...args: unknown[]) => void): unknown;
}

export interface PgQuery {
  text: string;
  values?: unknown[];
  name?: string;
  rowMode?: "array";
  types?: { getTypeParser(oid: number, format?: string): (text: string) => unknown };
}

export interface PgResult {
  rows: unknown[];
  rowCount: number | null;
  /** `ROLLBACK` for the commit of a transaction that was aborted. */
  command?: string;
}

export interface PostgresStoreOptions {
  /**
   * `postgres://user@host/database`, with everything that `pg` reads there (`sslmode`, `host` for a socket, …), and `schema`, `max` and `prepare` of this object. Without a password in it, `PGPASSWORD` and
   * `~/.pgpass` are used as usual.
   */
  url?: string;
  /**
   * An existing pool of `pg` instead of a URL. It is used, and never ended; listen to its `error` event, as `pg` asks for. One of its connections is kept to listen on, unless it has no other. Give it
   * `keepAlive`, `connectionTimeoutMillis` and `query_timeout`, or a network that swallows everything holds a call for ever.
   */
  pool?: PgPool;
  /** Where the tables are. Made if it is not there. Default `gembatch`. */
  schema?: string;
  /** Connections of the store's own pool. Default 8. */
  max?: number;
  /**
   * Whether time is the database's (default): every worker then goes by one clock, however wrong its own. `false`: times are taken as they are passed, for tests in virtual time.
   */
  databaseTime?: boolean;
  /** Whether other processes are told of new work by `NOTIFY`. Default true; found out to be useless behind a pooler, it is given up by itself. */
  notify?: boolean;
  /**
   * Whether statements are prepared once a connection, which is faster. Default true. Set it to false behind a pooler that hands out connections by transaction and does not know prepared
   * statements (PgBouncer before 1.21, or with `max_prepared_statements = 0`). Left out, it is given up by itself as soon as a prepared statement is not found or no hint comes through.
   */
  prepare?: boolean;
  /** How long a call goes on trying while the server is away, before `store_unavailable`. Milliseconds, default 10,000. */
  patienceMs?: number;
  /** Draws the id of a new store. */
  random?: Random;
  /** Whether a process of this host exists; a worker whose process is gone is given up without waiting for its lease. */
  isProcessAlive?: (pid: number) => boolean;
}

export interface Settings {
  url: string | undefined;
  pool: PgPool | undefined;
  schema: string;
  max: number;
  databaseTime: boolean;
  notify: boolean;
  prepare: boolean;
  patienceMs: number;
  random: Random;
  isProcessAlive: ((pid: number) => boolean) | undefined;
  /** For people: where the store is, without a password. */
  place: string;
}

const known: readonly string[] = [
  ...["url", "pool", "schema", "max", "databaseTime", "notify", "prepare", "patienceMs", "random", "isProcessAlive"],
];

const secureRandom: Random = { next: () => randomInt(2 ** 32) / 2 ** 32 };

/** Throws `invalid_option` for what a store cannot be made with. */
export function resolveOptions(given: PostgresStoreOptions | string): Settings {
  const options = typeof given === "string" ? { url: given } : given;
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new GembatchError("invalid_option", `The Postgres store takes a URL or an object of options, got ${describe(options)}.`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new GembatchError("invalid_option", `The Postgres store has no option ${unknown}.`, { hint: `It knows ${known.join(", ")}.` });
  }
  if ((options.url === undefined) === (options.pool === undefined)) {
    throw new GembatchError("invalid_option", "The Postgres store needs either option url or option pool.", {
      hint: "For example postgresStore({ url: process.env.DATABASE_URL }).",
    });
  }
  checkMethods(options.pool, ["connect"], "pool");
  checkMethods(options.random, ["next"], "random");
  checkType(options.isProcessAlive, "function", "isProcessAlive");
  checkType(options.databaseTime, "boolean", "databaseTime");
  checkType(options.notify, "boolean", "notify");
  checkType(options.prepare, "boolean", "prepare");
  const url = options.url === undefined ? undefined : parseUrl(options.url);
  const schema = options.schema ?? url?.schema ?? "gembatch";
  // Names of this form need no quotes for whoever looks with psql, unless they are words of SQL.
  if (typeof schema !== "string" || !/^[a-z_][a-z0-9_]{0,62}$/.test(schema) || schema.startsWith("pg_")) {
    throw invalid("schema", "a name of lower case letters, digits and _ that begins with a letter", schema);
  }
  const max = options.max ?? url?.max ?? 8;
  if (!(Number.isInteger(max) && max >= 2 && max <= 1_000)) throw invalid("max", "a whole number from 2 to 1000", max);
  const patienceMs = options.patienceMs ?? 10_000;
  if (!(Number.isFinite(patienceMs) && patienceMs >= 0)) throw invalid("patienceMs", "a number of milliseconds", patienceMs);
  return {
    url: url?.text,
    pool: options.pool,
    schema,
    max,
    databaseTime: options.databaseTime ?? true,
    notify: options.notify ?? true,
    prepare: options.prepare ?? url?.prepare ?? true,
    patienceMs,
    random: options.random ?? secureRandom,
    isProcessAlive: options.isProcessAlive,
    place: `${url?.place ?? "of the given pool"}, schema ${schema}`,
  };
}

/** What is ours is taken out of the URL; the rest is for `pg`. */
function parseUrl(url: unknown): { text: string; schema?: string; max?: number; prepare?: boolean; place: string } {
  if (typeof url !== "string" || !/^postgres(?:ql)?:\/\//.test(url)) throw invalid("url", "a postgres:// URL", typeof url);
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    // The URL may hold a password: it is not quoted.
    throw invalid("url", "a postgres:// URL (characters like @ and / in a password are written %40 and %2F)", "one that cannot be read");
  }
  const { searchParams } = parsed;
  const own = { schema: searchParams.get("schema"), max: searchParams.get("max"), prepare: searchParams.get("prepare") };
  for (const name of Object.keys(own)) searchParams.delete(name);
  if (own.prepare !== null && own.prepare !== "true" && own.prepare !== "false") throw invalid("prepare", "true or false", own.prepare);
  const host = parsed.host || searchParams.get("host") || "localhost";
  return {
    text: parsed.href,
    place: `postgres://${host}${parsed.pathname}`,
    ...(own.schema !== null && { schema: own.schema }),
    ...(own.max !== null && { max: Number(own.max) }),
    ...(own.prepare !== null && { prepare: own.prepare === "true" }),
  };
}

function invalid(name: string, expected: string, value: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} of the Postgres store must be ${expected}, got ${describe(value)}.`);
}
