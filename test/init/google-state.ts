/** What the emulated Google Cloud project holds, and what goes wrong in it. */

export interface StoredPolicy {
  etag: string;
  version?: number;
  bindings: { role: string; members: string[]; condition?: unknown }[];
  auditConfigs?: unknown;
}

export interface Faults {
  /** Statuses that the next calls get. */
  down: number[];
  /** How many calls an API refuses after it was switched on. */
  propagation: number;
  /** Calls that are refused still, by API. */
  propagating: Map<string, number>;
  /** Calls that these credentials may not make: patterns over `METHOD host/path`. */
  denied: RegExp[];
  /** How many writes meet another writer who was quicker. */
  conflicts: { policy: number; bucket: number; dataset: number };
  /** How often an operation is looked at before it is done. */
  polls: number;
  /** How many writes of policies do not know a service agent that was just made. */
  unknownAgent: number;
}

export interface GoogleState {
  project: { id: string; number: string };
  enabled: Set<string>;
  operations: Map<string, { left: number; response: object }>;
  identities: Set<string>;
  databases: Map<string, { locationId: string; databaseEdition?: string; type: string }>;
  indexes: Record<string, any>[];
  fields: Record<string, any>[];
  /** Deployed rules by release. */
  rules: Map<string, string>;
  buckets: Map<string, Record<string, any>>;
  objects: Map<string, string>;
  datasets: Map<string, Record<string, any>>;
  /** By resource: `project`, `accounts/EMAIL`, `buckets/NAME`. */
  policies: Map<string, StoredPolicy>;
  functions: Record<string, any>[];
  queues: Map<string, { state: string }>;
  jobs: Map<string, { state: string; status?: { code: number } }>;
  secrets: Map<string, string>;
  faults: Faults;
}

/** A project with a database, a few APIs, an owner and one conditional role, and nothing of gembatch. */
export function createState(): GoogleState {
  const number = "1234567890";
  const account = `${number}-compute@developer.gserviceaccount.com`;
  return {
    project: { id: "demo-project", number },
    enabled: new Set(
      ["serviceusage", "cloudresourcemanager", "firestore", "storage", "firebaserules"].map((name) => `${name}.googleapis.com`),
    ),
    operations: new Map(),
    identities: new Set([`serviceAccount:${account}`]),
    databases: new Map([["(default)", { locationId: "nam5", databaseEdition: "STANDARD", type: "FIRESTORE_NATIVE" }]]),
    indexes: [],
    fields: [],
    rules: new Map(),
    buckets: new Map(),
    objects: new Map(),
    datasets: new Map(),
    policies: new Map<string, StoredPolicy>([
      [
        "project",
        {
          etag: "p1",
          version: 3,
          bindings: [
            { role: "roles/owner", members: ["user:owner@example.com"] },
            {
              role: "roles/datastore.user",
              members: ["user:temporary@example.com"],
              condition: { title: "until 2030", expression: "request.time < timestamp('2030-01-01T00:00:00Z')" },
            },
          ],
          auditConfigs: [{ service: "allServices", auditLogConfigs: [{ logType: "DATA_WRITE" }] }],
        },
      ],
      [`accounts/${account}`, { etag: "a1", bindings: [] }],
    ]),
    functions: [],
    queues: new Map(),
    jobs: new Map(),
    secrets: new Map(),
    faults: {
      down: [],
      propagation: 0,
      propagating: new Map(),
      denied: [],
      conflicts: { policy: 0, bucket: 0, dataset: 0 },
      polls: 0,
      unknownAgent: 0,
    },
  };
}

/** All that is in the cloud, as a text to compare. Etags and counters are left out. */
export function snapshot(state: GoogleState): string {
  const { faults: _faults, operations: _operations, ...rest } = state;
  return JSON.stringify(rest, (_key, value: unknown) =>
    value instanceof Map ? [...value] : value instanceof Set ? [...(value as Set<string>)].toSorted() : value,
  );
}
