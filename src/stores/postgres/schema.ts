/**
 * The schema in the database: made, migrated or refused.
 */
import { tooNew } from "../store-errors.ts";
import { randomText } from "../../core/clock.ts";
import type { Connection } from "./connection.ts";
import type { Sql } from "./session.ts";
import { foreignSchema, tooOld } from "./errors.ts";
import { migrations, schemaVersion } from "./migrations.ts";

const OLDEST = 140_000;

/** Makes the schema ours and up to date. Returns the store's id. Any number of processes may do this at the same moment. */
export async function openSchema(connection: Connection): Promise<string> {
  const { place, random } = connection.settings;
  const [server] = await connection.query<{ number: number; version: string }>(
    `SELECT current_setting('server_version_num')::int4 AS number, current_setting('server_version') AS version`,
  );
  if (server === undefined || server.number < OLDEST) throw tooOld(place, server?.version ?? "unknown");
  // A store that is up to date opens without a lock and without any right but to use it.
  const found = await connection.read(async (sql) => readMeta(sql, connection));
  if (found !== undefined) {
    if (found.version > schemaVersion()) throw tooNew(place, found.version, schemaVersion());
    if (found.version === schemaVersion()) return found.id;
  }
  const id = randomText(random, 12);
  return connection.write(async (sql) => migrate(sql, connection, id));
}

async function migrate(sql: Sql, connection: Connection, newId: string): Promise<string> {
  const { schema, place } = connection.settings;
  // Held until this transaction ends; whoever comes second finds the work done.
  await sql.run(`SELECT pg_advisory_xact_lock(hashtext($1))`, [`gembatch ${schema}`]);
  const found = await readMeta(sql, connection);
  if (found !== undefined && found.version > schemaVersion()) throw tooNew(place, found.version, schemaVersion());
  if (found === undefined) {
    const [{ exists, tables } = { exists: false, tables: 0 }] = await sql.query<{ exists: boolean; tables: number }>(
      `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1) AS exists,
         (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) AS tables`,
      [schema],
    );
    if (tables > 0) throw foreignSchema(place);
    // Only if it is not there: for one that somebody made for us, no right to make schemas is needed.
    if (!exists) await sql.run(`CREATE SCHEMA "${schema}"`);
    await sql.run(`CREATE TABLE gb.meta (key text PRIMARY KEY, value text NOT NULL)`);
    await sql.run(`INSERT INTO gb.meta (key, value) VALUES ('id', $1), ('version', '0')`, [newId]);
  }
  for (const step of migrations.slice(found?.version ?? 0)) {
    for (const statement of statementsOf(step)) await sql.run(statement);
  }
  await sql.run(`UPDATE gb.meta SET value = $1 WHERE key = 'version'`, [String(schemaVersion())]);
  return found?.id ?? newId;
}

/** One by one: a prepared statement is only one. No step has a semicolon elsewhere. */
const statementsOf = (step: string): string[] =>
  step
    .replaceAll(/--.*$/gm, "")
    .split(";")
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");

async function readMeta(sql: Sql, { settings }: Connection): Promise<{ version: number; id: string } | undefined> {
  // From the catalog's rows: `to_regclass` goes by what this connection remembers, and may miss a table that has just been made.
  const columns = await sql.query(
    `SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = 'meta' AND a.attname IN ('key', 'value')`,
    [settings.schema],
  );
  if (columns.length !== 2) return undefined;
  const rows = await sql.query<{ key: string; value: string }>(`SELECT key, value FROM gb.meta WHERE key IN ('id', 'version')`);
  const meanings = new Map(rows.map(({ key, value }) => [key, value]));
  const version = Number(meanings.get("version"));
  const id = meanings.get("id");
  return id === undefined || !Number.isInteger(version) ? undefined : { version, id };
}
