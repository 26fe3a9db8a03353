import type Pg from "pg";
import { GembatchError } from "../../core/errors.ts";
import { driverMissing } from "./errors.ts";
import type { PgPool, Settings } from "./options.ts";

/** The given pool, or one of our own; `end` ends only that. */
export async function makePool(settings: Settings): Promise<{ pool: PgPool; end: () => Promise<void> }> {
  if (settings.pool !== undefined) return { pool: settings.pool, end: async () => undefined };
  let pg: typeof Pg;
  try {
    pg = (await import("pg")).default;
  } catch (thrown) {
    throw (thrown as { code?: unknown }).code === "ERR_MODULE_NOT_FOUND" ? driverMissing(thrown) : thrown;
  }
  if (settings.url === undefined) throw new GembatchError("invalid_option", "The Postgres store has no URL.");
  const pool = new pg.Pool({
    connectionString: settings.url,
    max: settings.max,
    // Statements of one transaction that do not depend on each other's answers cost one round trip together. An older `pg` takes no notice.
    pipeline: true,
    application_name: "gembatch",
    // A network that swallows everything is noticed: by probes while nothing is under way, by the limit while an answer is awaited. No statement of ours takes nearly as long.
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    query_timeout: 60_000,
    connectionTimeoutMillis: 10_000,
    // As with a file: a program that has nothing more to do ends.
    allowExitOnIdle: true,
  });
  // A connection that breaks while nobody uses it: the next call takes another one.
  pool.on("error", () => undefined);
  return { pool: pool as unknown as PgPool, end: async () => pool.end() };
}
