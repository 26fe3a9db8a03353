/** Datasets of BigQuery. */
import type { GoogleClient } from "./client.ts";
import { ifFound, isConflict } from "./errors.ts";
import { rewrite } from "./rewrite.ts";

interface Access {
  role?: string;
  userByEmail?: string;
}

export interface Dataset {
  location?: string;
  etag?: string;
  /** Milliseconds as a text. */
  defaultTableExpirationMs?: string;
  access?: Access[];
}

const service = "bigQuery";
const pathOf = (project: string, dataset: string) => `/bigquery/v2/projects/${project}/datasets/${dataset}`;

export function readDataset(client: GoogleClient, project: string, dataset: string): Promise<Dataset | undefined> {
  return ifFound(client.call<Dataset>({ service, path: pathOf(project, dataset) }));
}

export async function createDataset(
  client: GoogleClient,
  project: string,
  { dataset, location, expirationMs }: { dataset: string; location: string; expirationMs: number },
): Promise<void> {
  try {
    await client.call({
      service,
      method: "POST",
      path: `/bigquery/v2/projects/${project}/datasets`,
      body: { datasetReference: { projectId: project, datasetId: dataset }, location, defaultTableExpirationMs: String(expirationMs) },
    });
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}

/** Whether the account may write there: `WRITER` is what BigQuery Data Editor is called in a dataset's access list. */
export function mayWrite(dataset: Dataset, email: string): boolean {
  const roles = new Set(["WRITER", "OWNER", "roles/bigquery.dataEditor", "roles/bigquery.dataOwner"]);
  return (dataset.access ?? []).some((access) => access.userByEmail === email && roles.has(access.role ?? ""));
}

/** Adds the accounts to the access list and sets the expiry of tables if there is none, against the state that was read. */
export function openDataset(
  client: GoogleClient,
  project: string,
  dataset: string,
  { writers, expirationMs }: { writers: readonly string[]; expirationMs: number },
): Promise<void> {
  return rewrite(client, async () => {
    const found = await readDataset(client, project, dataset);
    if (found === undefined) return;
    const missing = writers.filter((email) => !mayWrite(found, email)).map((userByEmail) => ({ role: "WRITER", userByEmail }));
    const body = {
      ...(missing.length === 0 ? {} : { access: [...(found.access ?? []), ...missing] }),
      ...(found.defaultTableExpirationMs === undefined ? { defaultTableExpirationMs: String(expirationMs) } : {}),
    };
    if (Object.keys(body).length === 0) return;
    const headers: Record<string, string> = found.etag === undefined ? {} : { "if-match": found.etag };
    await client.call({ service, method: "PATCH", path: pathOf(project, dataset), headers, body });
  });
}
