/** Schemas of their own in the test server, as URLs. */
import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { inject } from "vitest";

/** The URL of a schema that is not there yet. */
export function newSchema(base: string = inject("postgresUrl")): string {
  return `${base}${base.includes("?") ? "&" : "?"}schema=t_${randomBytes(6).toString("hex")}`;
}

/** Statements of a test on the server itself. */
export async function onServer<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const plain = new URL(url);
  plain.searchParams.delete("schema");
  const client = new Client({ connectionString: plain.href });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export const schemaOf = (url: string): string => new URL(url).searchParams.get("schema") ?? "gembatch";

export async function dropSchema(url: string): Promise<void> {
  await onServer(url, async (client) => client.query(`DROP SCHEMA IF EXISTS "${schemaOf(url)}" CASCADE`));
}
