/**
 * IAM policies: read, add a member, write back, with the etag that keeps two writers apart.
 *
 * @module
 */
import type { GoogleClient } from "./client.ts";
import { rewrite } from "./rewrite.ts";

export interface Binding {
  role: string;
  members?: string[];
  condition?: unknown;
}

/** Whatever else is in it (audit configurations, its kind) is written back as it was. */
export interface Policy {
  version?: number;
  etag?: string;
  bindings?: Binding[];
}

/** A thing with a policy. */
export interface PolicyPlace {
  read(): Promise<Policy>;
  write(policy: Policy): Promise<unknown>;
}

export interface Grant {
  role: string;
  member: string;
}

/** Whether the member has the role without a condition. */
export function hasGrant(policy: Policy, { role, member }: Grant): boolean {
  return (policy.bindings ?? []).some(
    (binding) => binding.role === role && binding.condition === undefined && binding.members?.includes(member) === true,
  );
}

/** The policy with the member in the role, all else as it is. Version 3, or conditions of other bindings would be lost. */
export function withGrant(policy: Policy, grant: Grant): Policy {
  if (hasGrant(policy, grant)) return policy;
  const bindings = policy.bindings ?? [];
  const at = bindings.findIndex((binding) => binding.role === grant.role && binding.condition === undefined);
  const changed =
    at === -1
      ? [...bindings, { role: grant.role, members: [grant.member] }]
      : bindings.map((binding, index) => (index === at ? { ...binding, members: [...(binding.members ?? []), grant.member] } : binding));
  return { ...policy, version: 3, bindings: changed };
}

/** Adds those that are missing, in one write. Resolves with whether anything was written. */
export function addGrants(client: GoogleClient, place: PolicyPlace, grants: readonly Grant[]): Promise<boolean> {
  return rewrite(client, async () => {
    const policy = await place.read();
    const changed = grants.reduce(withGrant, policy);
    if (changed === policy) return false;
    await place.write(changed);
    return true;
  });
}

export function projectPolicy(client: GoogleClient, project: string): PolicyPlace {
  const path = `/v3/projects/${project}`;
  const service = "resourceManager";
  return {
    read: () =>
      client.call<Policy>({ service, method: "POST", path: `${path}:getIamPolicy`, body: { options: { requestedPolicyVersion: 3 } } }),
    write: (policy) => client.call({ service, method: "POST", path: `${path}:setIamPolicy`, body: { policy } }),
  };
}

/** The policy of a service account: who may act as it. */
export function accountPolicy(client: GoogleClient, project: string, email: string): PolicyPlace {
  const path = `/v1/projects/${project}/serviceAccounts/${email}`;
  const service = "iam";
  return {
    read: () =>
      client.call<Policy>({ service, method: "POST", path: `${path}:getIamPolicy`, query: { "options.requestedPolicyVersion": "3" } }),
    write: (policy) => client.call({ service, method: "POST", path: `${path}:setIamPolicy`, body: { policy } }),
  };
}

export function bucketPolicy(client: GoogleClient, bucket: string): PolicyPlace {
  const path = `/storage/v1/b/${bucket}/iam`;
  return {
    read: () => client.call<Policy>({ service: "storage", path, query: { optionsRequestedPolicyVersion: "3" } }),
    write: (policy) => client.call({ service: "storage", method: "PUT", path, body: policy }),
  };
}
