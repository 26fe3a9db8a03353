/** The paths of the emulated Google APIs, one row each. */
import type { GoogleState, StoredPolicy } from "./google-state.ts";
import { notFound, policyFields, Refusal, type GoogleRequest, type Route } from "./google-wire.ts";

const usage = "serviceusage.googleapis.com";
const manager = "cloudresourcemanager.googleapis.com";
const iam = "iam.googleapis.com";
const firestore = "firestore.googleapis.com";
const storage = "storage.googleapis.com";
const bigQuery = "bigquery.googleapis.com";

export const routes: readonly Route[] = [
  // Service Usage
  {
    method: "GET",
    host: usage,
    path: /^\/v1\/projects\/([^/]+)\/services:batchGet$/,
    query: ["names"],
    handle: (state, { match: [project], query }) => {
      requireProject(state, project);
      const names = query.getAll("names");
      if (names.length === 0 || names.length > 30) throw new Refusal(400, "INVALID_ARGUMENT", "At most 30 names.", `${names.length} names`);
      return { services: names.map((name) => serviceOf(state, name)) };
    },
  },
  {
    method: "POST",
    host: usage,
    path: /^\/v1\/projects\/([^/]+)\/services:batchEnable$/,
    body: { serviceIds: true },
    changes: true,
    handle: (state, { match: [project], body }) => {
      requireProject(state, project);
      const ids = body["serviceIds"] as string[];
      if (ids.length === 0 || ids.length > 20) throw new Refusal(400, "INVALID_ARGUMENT", "At most 20 services.", `${ids.length} services`);
      for (const id of ids) {
        if (!state.enabled.has(id)) state.faults.propagating.set(id, state.faults.propagation);
        state.enabled.add(id);
      }
      return start(state, {});
    },
  },
  {
    method: "POST",
    host: usage,
    path: /^\/v1beta1\/projects\/([^/]+)\/services\/([\w.]+):generateServiceIdentity$/,
    body: {},
    changes: true,
    handle: (state, { match: [project, service] }) => {
      requireProject(state, project);
      if (service !== "aiplatform.googleapis.com") throw new Refusal(400, "INVALID_ARGUMENT", "No identity.", `identity of ${service}`);
      if (!state.enabled.has(service)) throw new Refusal(400, "FAILED_PRECONDITION", "The service is not enabled.");
      const email = `service-${state.project.number}@gcp-sa-aiplatform.iam.gserviceaccount.com`;
      state.identities.add(`serviceAccount:${email}`);
      return start(state, { "@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity", email, uniqueId: "42" });
    },
  },
  {
    method: "GET",
    host: usage,
    path: /^\/v1(?:beta1)?\/(operations\/[\w.-]+)$/,
    handle: (state, { match: [name = ""] }) => {
      const operation = state.operations.get(name);
      if (!operation) throw notFound(name);
      operation.left -= 1;
      return operation.left > 0 ? { name } : { name, done: true, response: operation.response };
    },
  },
  // Policies of projects and service accounts
  {
    method: "POST",
    host: manager,
    path: /^\/v3\/projects\/([^/:]+):getIamPolicy$/,
    body: { options: { requestedPolicyVersion: true } },
    handle: (state, { match: [project], body }) => {
      requireProject(state, project);
      return readPolicy(state, "project", body["options"]?.requestedPolicyVersion);
    },
  },
  {
    method: "POST",
    host: manager,
    path: /^\/v3\/projects\/([^/:]+):setIamPolicy$/,
    body: { policy: policyFields },
    changes: true,
    handle: (state, { match: [project], body }) => {
      requireProject(state, project);
      return writePolicy(state, "project", body["policy"], 409);
    },
  },
  {
    method: "POST",
    host: iam,
    path: /^\/v1\/projects\/([^/]+)\/serviceAccounts\/([^/:]+):getIamPolicy$/,
    query: ["options.requestedPolicyVersion"],
    handle: (state, { match: [, email], query }) =>
      readPolicy(state, `accounts/${email}`, Number(query.get("options.requestedPolicyVersion"))),
  },
  {
    method: "POST",
    host: iam,
    path: /^\/v1\/projects\/([^/]+)\/serviceAccounts\/([^/:]+):setIamPolicy$/,
    body: { policy: policyFields },
    changes: true,
    handle: (state, { match: [, email], body }) => writePolicy(state, `accounts/${email}`, body["policy"], 409),
  },
  // Firestore and rules
  {
    method: "GET",
    host: firestore,
    path: /^\/v1\/projects\/([^/]+)\/databases\/([^/]+)$/,
    handle: (state, { match: [project, id = ""] }) => {
      const database = state.databases.get(id);
      if (!database) throw notFound(id);
      return { name: `projects/${project}/databases/${id}`, ...database };
    },
  },
  {
    method: "GET",
    host: firestore,
    path: /^\/v1\/projects\/([^/]+)\/databases\/([^/]+)\/collectionGroups\/-\/indexes$/,
    query: ["pageToken"],
    // Two a page: whoever reads the first one only will miss some.
    handle: (state, { match: [, id = ""], query }) => pageOf("indexes", requireDatabase(state, id).indexes, query),
  },
  {
    method: "GET",
    host: firestore,
    path: /^\/v1\/projects\/([^/]+)\/databases\/([^/]+)\/collectionGroups\/-\/fields$/,
    query: ["filter", "pageToken"],
    handle: (state, { match: [, id = ""], query }) => {
      if (query.get("filter") !== "indexConfig.usesAncestorConfig=false OR ttlConfig:*")
        throw new Refusal(400, "INVALID_ARGUMENT", "Only overridden fields can be listed.", `filter ${query.get("filter")}`);
      return pageOf("fields", requireDatabase(state, id).fields, query);
    },
  },
  {
    method: "GET",
    host: "firebaserules.googleapis.com",
    path: /^\/v1\/projects\/([^/]+)\/releases\/(cloud\.firestore(?:\/[\w-]+)?)$/,
    handle: (state, { match: [project, release = ""] }) => {
      if (!state.rules.has(release)) throw notFound(release);
      return { name: `projects/${project}/releases/${release}`, rulesetName: `projects/${project}/rulesets/${release.replace("/", "~")}` };
    },
  },
  {
    method: "GET",
    host: "firebaserules.googleapis.com",
    path: /^\/v1\/projects\/([^/]+)\/rulesets\/([^/]+)$/,
    handle: (state, { match: [, release = ""] }) => ({
      source: { files: [{ name: "firestore.rules", content: state.rules.get(release.replace("~", "/")) }] },
    }),
  },
  // Cloud Storage
  {
    method: "GET",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)$/,
    handle: (state, { match: [name = ""] }) => requireBucket(state, name),
  },
  {
    method: "POST",
    host: storage,
    path: /^\/storage\/v1\/b$/,
    query: ["project"],
    body: {
      name: true,
      location: true,
      iamConfiguration: { uniformBucketLevelAccess: { enabled: true }, publicAccessPrevention: true },
      lifecycle: { rule: { "*": { action: { type: true }, condition: { age: true, matchesPrefix: true } } } },
      softDeletePolicy: { retentionDurationSeconds: true },
    },
    changes: true,
    handle: (state, { query, body }) => {
      requireProject(state, query.get("project") ?? undefined);
      const name = body["name"] as string;
      if (state.buckets.has(name)) throw new Refusal(409, "conflict", "The requested bucket name is not available.");
      const bucket = {
        ...body,
        location: String(body["location"]).toUpperCase(),
        projectNumber: state.project.number,
        metageneration: "1",
      };
      state.buckets.set(name, bucket);
      state.policies.set(`buckets/${name}`, {
        etag: "b1",
        bindings: [{ role: "roles/storage.legacyBucketOwner", members: ["projectOwner:demo"] }],
      });
      return bucket;
    },
  },
  {
    method: "PATCH",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)$/,
    query: ["ifMetagenerationMatch"],
    body: { lifecycle: { rule: { "*": { action: true, condition: true } } } },
    changes: true,
    handle: (state, { match: [name = ""], query, body }) => {
      const bucket = requireBucket(state, name);
      if (query.get("ifMetagenerationMatch") === null) throw new Refusal(400, "invalid", "No precondition.", "no ifMetagenerationMatch");
      if (conflicts(state, "bucket")) bucket["metageneration"] = String(Number(bucket["metageneration"]) + 1);
      if (query.get("ifMetagenerationMatch") !== bucket["metageneration"])
        throw new Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.");
      Object.assign(bucket, body, { metageneration: String(Number(bucket["metageneration"]) + 1) });
      return bucket;
    },
  },
  {
    method: "GET",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)\/iam$/,
    query: ["optionsRequestedPolicyVersion"],
    handle: (state, { match: [name = ""], query }) => {
      requireBucket(state, name);
      return { kind: "storage#policy", ...readPolicy(state, `buckets/${name}`, Number(query.get("optionsRequestedPolicyVersion"))) };
    },
  },
  {
    method: "PUT",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)\/iam$/,
    body: policyFields,
    changes: true,
    handle: (state, { match: [name = ""], body }) => writePolicy(state, `buckets/${name}`, body as StoredPolicy, 412),
  },
  {
    method: "POST",
    host: storage,
    path: /^\/upload\/storage\/v1\/b\/([^/]+)\/o$/,
    query: ["uploadType", "name"],
    body: "text",
    changes: true,
    handle: (state, { match: [bucket = ""], query, text }) => {
      requireBucket(state, bucket);
      if (query.get("uploadType") !== "media") throw new Refusal(400, "invalid", "Upload type.", `uploadType ${query.get("uploadType")}`);
      state.objects.set(`${bucket}/${query.get("name")}`, text);
      return { name: query.get("name"), bucket };
    },
  },
  {
    method: "GET",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/,
    query: ["alt"],
    handle: (state, { match: [bucket, name] }) => requireObject(state, `${bucket}/${name}`),
  },
  {
    method: "DELETE",
    host: storage,
    path: /^\/storage\/v1\/b\/([^/]+)\/o\/([^/]+)$/,
    changes: true,
    handle: (state, { match: [bucket, name] }) => {
      requireObject(state, `${bucket}/${name}`);
      state.objects.delete(`${bucket}/${name}`);
    },
  },
  // BigQuery
  {
    method: "GET",
    host: bigQuery,
    path: /^\/bigquery\/v2\/projects\/([^/]+)\/datasets\/([^/]+)$/,
    handle: (state, { match: [, name = ""] }) => requireDataset(state, name),
  },
  {
    method: "POST",
    host: bigQuery,
    path: /^\/bigquery\/v2\/projects\/([^/]+)\/datasets$/,
    body: { datasetReference: { projectId: true, datasetId: true }, location: true, defaultTableExpirationMs: true },
    changes: true,
    handle: (state, { body }) => {
      const name = body["datasetReference"].datasetId as string;
      if (state.datasets.has(name)) throw new Refusal(409, "duplicate", "Already Exists: Dataset");
      if (typeof body["defaultTableExpirationMs"] !== "string")
        throw new Refusal(400, "invalid", "Type.", "defaultTableExpirationMs is no text");
      state.datasets.set(name, { ...body, etag: "d1", access: [{ role: "OWNER", specialGroup: "projectOwners" }] });
      return state.datasets.get(name);
    },
  },
  {
    method: "PATCH",
    host: bigQuery,
    path: /^\/bigquery\/v2\/projects\/([^/]+)\/datasets\/([^/]+)$/,
    body: { access: true, defaultTableExpirationMs: true },
    changes: true,
    handle: (state, { match: [, name = ""], body, header }) => {
      const dataset = requireDataset(state, name);
      if (header("if-match") === undefined) throw new Refusal(400, "invalid", "No etag.", "no if-match");
      if (conflicts(state, "dataset")) dataset["etag"] += "x";
      if (header("if-match") !== dataset["etag"]) throw new Refusal(412, "conditionNotMet", "Precondition Failed");
      for (const { userByEmail } of body["access"] ?? [])
        if (userByEmail !== undefined) requireMember(state, `serviceAccount:${userByEmail}`);
      Object.assign(dataset, body, { etag: `${dataset["etag"]}+` });
      return dataset;
    },
  },
  // What a deploy made
  {
    method: "GET",
    host: "cloudfunctions.googleapis.com",
    path: /^\/v2\/projects\/([^/]+)\/locations\/-\/functions$/,
    query: ["pageToken"],
    handle: (state, { query }) => pageOf("functions", state.functions, query),
  },
  {
    method: "GET",
    host: "cloudtasks.googleapis.com",
    path: /^\/v2\/projects\/[^/]+\/locations\/([^/]+)\/queues\/([^/:]+)$/,
    handle: (state, { match }) => found(state.queues.get(match.join("/")), "The queue"),
  },
  {
    method: "POST",
    host: "cloudtasks.googleapis.com",
    path: /^\/v2\/projects\/[^/]+\/locations\/([^/]+)\/queues\/([^/:]+):testIamPermissions$/,
    body: { permissions: true },
    handle: (_state, { body }) => ({ permissions: body["permissions"] }),
  },
  {
    method: "GET",
    host: "cloudscheduler.googleapis.com",
    path: /^\/v1\/projects\/[^/]+\/locations\/([^/]+)\/jobs\/([^/]+)$/,
    handle: (state, { match }) => found(state.jobs.get(match.join("/")), "The job"),
  },
  {
    method: "GET",
    host: "secretmanager.googleapis.com",
    path: /^\/v1\/projects\/[^/]+\/secrets\/([^/]+)\/versions\/latest$/,
    handle: (state, { match: [name = ""] }) => ({ state: found(state.secrets.get(name), "The secret") }),
  },
];

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw notFound(what);
  return value;
}

function requireProject({ project }: GoogleState, id: string | undefined): void {
  if (id !== project.id) throw new Refusal(403, "PERMISSION_DENIED", `Project '${id}' not found or permission denied.`);
}

function serviceOf({ project, enabled }: GoogleState, name: string): object {
  const service = /^projects\/demo-project\/services\/([a-z]+\.googleapis\.com)$/.exec(name)?.[1];
  if (service === undefined) throw new Refusal(400, "INVALID_ARGUMENT", "A name.", `service ${name}`);
  const parent = `projects/${project.number}`;
  return { name: `${parent}/services/${service}`, parent, config: { name: service }, state: enabled.has(service) ? "ENABLED" : "DISABLED" };
}

function start(state: GoogleState, response: object): object {
  const name = `operations/acf.p2-${state.project.number}-${state.operations.size + 1}`;
  if (state.faults.polls === 0) return { name: "operations/noop.DONE_OPERATION", done: true, response };
  state.operations.set(name, { left: state.faults.polls, response });
  return { name };
}

function readPolicy(state: GoogleState, key: string, version: unknown): StoredPolicy {
  if (version !== 3) throw new Refusal(400, "INVALID_ARGUMENT", "Version 3.", `policy read at version ${String(version)}`);
  return found(state.policies.get(key), key);
}

/** Refuses what would lose something: another etag, another version than 3 beside a condition, audit settings left out. */
function writePolicy(state: GoogleState, key: string, policy: StoredPolicy, conflict: number): StoredPolicy {
  const before = found(state.policies.get(key), key);
  if (policy.etag === undefined) throw new Refusal(400, "INVALID_ARGUMENT", "No etag.", "policy without etag");
  if (policy.version !== 3) throw new Refusal(400, "INVALID_ARGUMENT", "Version.", `policy written at version ${policy.version}`);
  if (JSON.stringify(policy.auditConfigs) !== JSON.stringify(before.auditConfigs))
    throw new Refusal(400, "INVALID_ARGUMENT", "Audit settings.", "audit settings changed");
  if (conflicts(state, "policy")) {
    before.etag += "x";
    before.bindings = [...before.bindings, { role: "roles/viewer", members: [`user:quick${before.etag.length}@example.com`] }];
  }
  if (policy.etag !== before.etag)
    throw new Refusal(
      conflict,
      conflict === 409 ? "ABORTED" : "conditionNotMet",
      "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.",
    );
  for (const { members } of policy.bindings) for (const member of members) requireMember(state, member);
  const { etag, version, bindings, auditConfigs } = policy;
  const after = { etag: `${etag}+`, version, bindings, ...(auditConfigs === undefined ? {} : { auditConfigs }) };
  state.policies.set(key, after);
  return after;
}

function requireMember({ identities, faults }: GoogleState, member: string): void {
  if (!member.endsWith("gserviceaccount.com")) return;
  const isUnknown = member.includes("gcp-sa-aiplatform") && faults.unknownAgent > 0;
  if (isUnknown) faults.unknownAgent -= 1;
  if (isUnknown || !identities.has(member))
    throw new Refusal(400, "INVALID_ARGUMENT", `Service account ${member.slice(15)} does not exist.`);
}

function conflicts({ faults: { conflicts } }: GoogleState, kind: keyof GoogleState["faults"]["conflicts"]): boolean {
  if (conflicts[kind] === 0) return false;
  conflicts[kind] -= 1;
  return true;
}

function requireDatabase(state: GoogleState, id: string): GoogleState {
  found(state.databases.get(id), "The database");
  return state;
}

function requireBucket(state: GoogleState, name: string): Record<string, any> {
  const bucket = state.buckets.get(name);
  if (!bucket) throw new Refusal(404, "notFound", "The specified bucket does not exist.");
  return bucket;
}

function requireObject(state: GoogleState, key: string): string {
  const text = state.objects.get(key);
  if (text === undefined) throw new Refusal(404, "notFound", `No such object: ${key}`);
  return text;
}

function requireDataset(state: GoogleState, name: string): Record<string, any> {
  const dataset = state.datasets.get(name);
  if (!dataset) throw new Refusal(404, "notFound", `Not found: Dataset demo-project:${name}`);
  return dataset;
}

function pageOf(key: string, items: readonly object[], query: GoogleRequest["query"]): object {
  const from = Number(query.get("pageToken") ?? 0);
  const next = from + 2;
  return { [key]: items.slice(from, next), ...(next < items.length ? { nextPageToken: String(next) } : {}) };
}
