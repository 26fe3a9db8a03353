/**
 * Raw calls to the Vertex AI API: endpoint, credentials, timeout, JSON, errors.
 *
 * Jobs are read here and not through the SDK, because its converters drop labels and partial failures (gemini-batch.md 1.9).
 *
 * @module
 */
import { ProviderError } from "../../core/provider.ts";
import { roundTrip, withTimeout } from "../shared/http.ts";
import { type AuthHeaders, createAuth } from "./auth.ts";
import { createTableStore, type TableStore } from "./bigquery.ts";
import { type Call, errorsOf } from "./errors.ts";
import { modelPath } from "./models.ts";
import type { Settings } from "./options.ts";
import { createObjectStore, type ObjectStore } from "./storage.ts";

export interface Client {
  readonly settings: Settings;
  readonly objects: ObjectStore;
  readonly tables: TableStore;
  /** `path` below endpoint and version, e.g. `projects/p/locations/l/batchPredictionJobs`. Names with a location go to its endpoint. */
  url(path: string): string;
  /** Project and location as a path: `projects/p/locations/l`. Throws `denied` without a project. */
  parent(): string;
  /** The credentials of a call alone. */
  readonly auth: AuthHeaders;
  /** The headers of a JSON call. Throws `denied` without credentials. */
  headers(url: string): Promise<Record<string, string>>;
  /** One call that answers JSON. Throws ProviderError. */
  json(call: Call, method: "GET" | "POST" | "DELETE", path: string, signal: AbortSignal): Promise<unknown>;
}

export function createClient(settings: Settings): Client {
  const auth = createAuth(settings);
  const url = (path: string): string => `${endpointOf(settings, locationOf(path))}/${settings.apiVersion}/${path}`;
  const headers = async (target: string): Promise<Record<string, string>> => ({
    ...settings.headers,
    "content-type": "application/json",
    ...(await auth(target)),
  });
  return {
    settings,
    objects: createObjectStore(settings),
    tables: createTableStore(settings),
    url,
    parent: () => `projects/${settings.requireProject()}/locations/${settings.location}`,
    auth,
    headers,
    async json(call, method, path, signal) {
      const target = url(path);
      const init = { method, headers: await headers(target), redirect: "manual" as const, ...(method === "POST" ? { body: "{}" } : {}) };
      const limited = withTimeout(signal, settings.timeoutMs.call);
      return (await roundTrip(errorsOf(call), settings.fetch, target, { ...init, signal: limited })).json;
    },
  };
}

/** Where a location answers, without a slash at the end: as the SDK (3.1) has it, `global` and the two multi-regions included. */
export function endpointOf({ baseUrl, location: own }: Pick<Settings, "baseUrl" | "location">, location = own): string {
  if (baseUrl !== undefined) return baseUrl;
  if (location === "global") return "https://aiplatform.googleapis.com";
  if (location === "us" || location === "eu") return `https://aiplatform.${location}.rep.googleapis.com`;
  return `https://${location}-aiplatform.googleapis.com`;
}

/** A job, or a tuned model, lives where it was made, whatever the provider's location is now. */
function locationOf(path: string): string | undefined {
  return /^projects\/[^/]+\/locations\/([a-z][a-z0-9-]*)\//.exec(path)?.[1];
}

/** The model as a path from the root: base models lie below project and location, tuned ones have theirs in the name. */
export function modelResource(client: Client, model: string): string {
  const path = modelPath(model);
  return path.startsWith("projects/") ? path : `${client.parent()}/${path}`;
}

/** The job's resource name as a path. Throws `refused` for what is none: nobody said that it does not exist. */
export function jobPath(name: string): string {
  if (/^projects\/[\w.:-]+\/locations\/[a-z][a-z0-9-]*\/batchPredictionJobs\/[\w-]+$/.test(name) && !name.includes("..")) return name;
  throw new ProviderError("refused", "Vertex AI has no batch jobs of such a name.");
}
