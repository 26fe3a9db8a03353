import type { Client } from "pg";

/**
 * Fills `table` with `count` copies of the rows in `template`, one for each row of the table `copies` (`i`, and columns of new ids), chosen in turn by their
 * `ordinal`. Columns named in `changes` get an SQL expression over `copies c` and `template t`; the others are copied.
 */
export async function replicate(
  client: Client,
  params: { table: string; template: string; templates: number; copies: string; changes: Record<string, string> },
): Promise<void> {
  const { table, template, templates, copies, changes } = params;
  const { rows } = await client.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [table],
  );
  const names = rows.map(({ name }) => name);
  const values = names.map((name) => changes[name] ?? `t."${name}"`);
  await client.query(
    `INSERT INTO ${table} (${names.map((name) => `"${name}"`).join(", ")})
     SELECT ${values.join(", ")} FROM ${copies} c JOIN ${template} t ON t.ordinal = c.i % ${templates}`,
  );
}
