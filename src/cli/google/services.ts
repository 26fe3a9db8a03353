/** Service Usage: which APIs a project has switched on, and the accounts that Google's services act as. */
import type { GoogleClient, Operation } from "./client.ts";

export interface ServiceStates {
  /** The project's number. */
  number: string;
  enabled: ReadonlySet<string>;
}

interface Service {
  name?: string;
  parent?: string;
  state?: string;
}

/** At most 30 names, which is what a call takes. Needs no API but Service Usage itself, which every project has. */
export async function readServices(client: GoogleClient, project: string, names: readonly string[]): Promise<ServiceStates> {
  const parent = `projects/${project}`;
  const { services = [] } = await client.call<{ services?: Service[] }>({
    service: "serviceUsage",
    path: `/v1/${parent}/services:batchGet`,
    query: { names: names.map((name) => `${parent}/services/${name}`) },
  });
  const enabled = services.filter(({ state }) => state === "ENABLED").map(({ name = "" }) => name.slice(name.lastIndexOf("/") + 1));
  const number = services
    .map(({ name, parent }) => /^projects\/(\d+)/.exec(parent ?? name ?? "")?.[1])
    .find((found) => found !== undefined);
  return { number: number ?? "", enabled: new Set(enabled) };
}

/** At most 20 names in one call. Resolves when they are on; calls may still be refused for some minutes. */
export async function enableServices(client: GoogleClient, project: string, names: readonly string[]): Promise<void> {
  for (let from = 0; from < names.length; from += 20) {
    const operation = await client.call<Operation>({
      service: "serviceUsage",
      method: "POST",
      path: `/v1/projects/${project}/services:batchEnable`,
      body: { serviceIds: names.slice(from, from + 20) },
    });
    await client.finish("serviceUsage", "/v1", operation);
  }
}

/** Makes the service agent of an API, or finds it; resolves with its address. */
export async function generateIdentity(client: GoogleClient, project: string, name: string): Promise<string> {
  const operation = await client.call<Operation>({
    service: "serviceUsage",
    method: "POST",
    path: `/v1beta1/projects/${project}/services/${name}:generateServiceIdentity`,
    body: {},
  });
  const { email } = await client.finish("serviceUsage", "/v1beta1", operation);
  return String(email);
}
