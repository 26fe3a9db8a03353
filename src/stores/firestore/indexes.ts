/**
 * The indexes that the store's queries need, as `firestore.indexes.json` has them. On the Standard edition everything else is exempted, so that no write pays for an index that nobody asks; on the Enterprise edition, which
 * makes no index by itself, the declared ones are all there are.
 *
 * @module
 */

export interface IndexField {
  fieldPath: string;
  order: "ASCENDING" | "DESCENDING";
}

export interface CompositeIndex {
  collectionGroup: string;
  queryScope: "COLLECTION";
  /** Only on the Enterprise edition. */
  density?: "SPARSE_ANY";
  fields: IndexField[];
}

export interface FieldOverride {
  collectionGroup: string;
  fieldPath: string;
  ttl: boolean;
  indexes: { order: "ASCENDING" | "DESCENDING"; queryScope: "COLLECTION" }[];
}

export interface FirestoreIndexes {
  indexes: CompositeIndex[];
  fieldOverrides: FieldOverride[];
}

type Direction = "asc" | "desc";
/** Fields that are compared with values first, then those that sort. */
type Declared = readonly (readonly [field: string, direction: Direction])[];

/** By collection. Those of one field only are single-field indexes. */
export const declared: Readonly<Record<string, readonly Declared[]>> = {
  runs: [
    // What a worker takes up next.
    [
      ["ready", "asc"],
      ["priority", "desc"],
      ["order", "asc"],
    ],
    // Lists, newest first: all, held or failed ones, those that a run started.
    [
      ["shard", "asc"],
      ["order", "desc"],
    ],
    [
      ["trouble", "asc"],
      ["order", "desc"],
    ],
    [
      ["starter", "asc"],
      ["order", "desc"],
    ],
    // Removal.
    [
      ["ended", "asc"],
      ["ended_at", "asc"],
      ["order", "asc"],
    ],
    [["worker", "asc"]],
    [["retry_at", "asc"]],
    // Ended, and not everybody who waited for it knows.
    [["telling", "asc"]],
    [["reference", "asc"]],
  ],
  entries: [
    // The queues of lanes: in turn, one priority by age, delayed retries, what travels apart.
    [
      ["queue", "asc"],
      ["priority", "desc"],
      ["due_at", "asc"],
      ["order", "asc"],
    ],
    [
      ["delayed", "asc"],
      ["due_at", "asc"],
    ],
    [
      ["apart", "asc"],
      ["group_size", "asc"],
      ["due_at", "asc"],
      ["order", "asc"],
    ],
    // Members of a batch without a result, and all that it ever had.
    [
      ["member", "asc"],
      ["order", "asc"],
    ],
    [
      ["batch", "asc"],
      ["order", "desc"],
    ],
    // What settled in a run lately.
    [
      ["run", "asc"],
      ["seq", "asc"],
    ],
    [
      ["shard", "asc"],
      ["order", "desc"],
    ],
    [["follows", "asc"]],
    [["wake_at", "asc"]],
    [["check_at", "asc"]],
    [["reference", "asc"]],
  ],
  batches: [
    [
      ["active", "asc"],
      ["due_at", "asc"],
    ],
    [["order", "desc"]],
    [["worker", "asc"]],
    [["sweep_at", "asc"]],
    [
      ["ended_at", "asc"],
      ["order", "asc"],
    ],
  ],
  shared: [[["expires_at", "asc"]], [["pending", "asc"]], [["reference", "asc"]]],
  workers: [[["lease_until", "asc"]], [["host", "asc"]]],
  roles: [[["worker", "asc"]]],
  producers: [[["until", "asc"]]],
};

/** Fields that no query looks for alone: their automatic indexes are switched off. `d`, `t` and the maps of counters hold everything that no query looks for at all. */
const exempt: Readonly<Record<string, readonly string[]>> = {
  runs: ["d", "t", "ready", "priority", "order", "shard", "trouble", "starter", "ended", "ended_at"],
  entries: [
    ...["d", "t", "queue", "priority", "due_at", "order", "delayed", "apart", "group_size", "member", "batch", "run", "seq", "shard"],
  ],
  batches: ["d", "active", "due_at", "ended_at"],
  shared: ["d", "t"],
  workers: ["d"],
  roles: ["d"],
  producers: ["d"],
  departed: ["d"],
  formers: ["d"],
  counters: ["counts", "lanes", "usage"],
  spend: ["sums"],
};

const words = { asc: "ASCENDING", desc: "DESCENDING" } as const;

/**
 * The declaration for a store with this prefix (default `gembatch`), to be merged into `firestore.indexes.json` or given to Terraform. What ends is removed by the store itself (`retention`), which keeps counters right and
 * never loses what lives; only what a killed bulk start leaves behind has a TTL. The Enterprise edition has no automatic indexes and so no exemptions, and indexes documents without the fields, too, unless it is told not to.
 */
export function firestoreIndexes(prefix = "gembatch", edition: "standard" | "enterprise" = "standard"): FirestoreIndexes {
  const isEnterprise = edition === "enterprise";
  const indexes: CompositeIndex[] = [];
  const fieldOverrides: FieldOverride[] = [];
  for (const [name, all] of Object.entries(declared)) {
    const collectionGroup = `${prefix}_${name}`;
    for (const sorted of all) {
      const fields = sorted.map(([fieldPath, direction]) => ({ fieldPath, order: words[direction] }));
      const [first] = fields;
      if (isEnterprise) indexes.push({ collectionGroup, queryScope: "COLLECTION", density: "SPARSE_ANY", fields });
      else if (fields.length > 1) indexes.push({ collectionGroup, queryScope: "COLLECTION", fields });
      else if (first !== undefined) {
        const { fieldPath, order } = first;
        fieldOverrides.push({ collectionGroup, fieldPath, ttl: false, indexes: [{ order, queryScope: "COLLECTION" }] });
      }
    }
  }
  for (const [name, fields] of isEnterprise ? [] : Object.entries(exempt)) {
    for (const fieldPath of fields) fieldOverrides.push({ collectionGroup: `${prefix}_${name}`, fieldPath, ttl: false, indexes: [] });
  }
  fieldOverrides.push({ collectionGroup: `${prefix}_producers`, fieldPath: "gone_at", ttl: true, indexes: [] });
  return { indexes, fieldOverrides };
}
