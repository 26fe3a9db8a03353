/** Firestore's databases, indexes and field settings, and the rules that are deployed for it. */
import type { GoogleClient } from "./client.ts";
import { ifFound } from "./errors.ts";

export interface Database {
  name?: string;
  locationId?: string;
  /** `FIRESTORE_NATIVE` or `DATASTORE_MODE`. */
  type?: string;
  /** `STANDARD` or `ENTERPRISE`; left out by databases from before there were editions. */
  databaseEdition?: string;
}

export interface IndexField {
  fieldPath?: string;
  order?: string;
  arrayConfig?: string;
  vectorConfig?: unknown;
}

export interface DeployedIndex {
  name?: string;
  queryScope?: string;
  density?: string;
  multikey?: boolean;
  unique?: boolean;
  apiScope?: string;
  fields?: IndexField[];
  /** `CREATING`, `READY` or `NEEDS_REPAIR`. */
  state?: string;
}

export interface DeployedField {
  name?: string;
  indexConfig?: { usesAncestorConfig?: boolean; indexes?: DeployedIndex[] };
  ttlConfig?: { state?: string };
}

const service = "firestore";
const pathOf = (project: string, database: string) => `/v1/projects/${project}/databases/${encodeURIComponent(database)}`;

export function readDatabase(client: GoogleClient, project: string, database: string): Promise<Database | undefined> {
  return ifFound(client.call<Database>({ service, path: pathOf(project, database) }));
}

/** The composite indexes of all collections. */
export function listIndexes(client: GoogleClient, project: string, database: string): Promise<DeployedIndex[]> {
  return client.list<DeployedIndex>({ service, path: `${pathOf(project, database)}/collectionGroups/-/indexes` }, "indexes");
}

/** The fields with settings of their own. */
export function listFields(client: GoogleClient, project: string, database: string): Promise<DeployedField[]> {
  const query = { filter: "indexConfig.usesAncestorConfig=false OR ttlConfig:*" };
  return client.list<DeployedField>({ service, path: `${pathOf(project, database)}/collectionGroups/-/fields`, query }, "fields");
}

/** The collection group in the name of an index or field. */
export function groupOf(name: string | undefined): string {
  return /\/collectionGroups\/([^/]+)\//.exec(name ?? "")?.[1] ?? "";
}

/** The rules that are deployed, or `undefined` if none ever were. */
export async function readRules(client: GoogleClient, project: string, database: string): Promise<string | undefined> {
  const release = database === "(default)" ? "cloud.firestore" : `cloud.firestore/${database}`;
  const found = await ifFound(
    client.call<{ rulesetName?: string }>({ service: "rules", path: `/v1/projects/${project}/releases/${release}` }),
  );
  if (found?.rulesetName === undefined) return undefined;
  const ruleset = await client.call<{ source?: { files?: { content?: string }[] } }>({
    service: "rules",
    path: `/v1/${found.rulesetName}`,
  });
  return ruleset.source?.files?.[0]?.content;
}
