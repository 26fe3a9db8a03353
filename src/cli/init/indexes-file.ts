/**
 * `firestore.indexes.json`: theirs stay as they are, ours are added or brought up to date.
 *
 * @module
 */
import { groupOf, type DeployedField, type DeployedIndex, type IndexField } from "../google/firestore.ts";
import { appendItem, memberOf, parseJsonText, replaceNode, setMember, valueOf, type JsonArray } from "./json-edit.ts";
import { GembatchError } from "../../core/errors.ts";

/** A composite index as the Firebase CLI writes it. */
export interface DeclaredIndex {
  collectionGroup: string;
  /** Default `COLLECTION`. */
  queryScope?: string;
  fields: readonly IndexField[];
}

/** Settings of one field: which single-field indexes it has, and whether documents expire by it. */
export interface DeclaredField {
  collectionGroup: string;
  fieldPath: string;
  ttl?: boolean;
  indexes: readonly FieldIndex[];
}

/** A single-field index. */
export interface FieldIndex {
  order?: string;
  arrayConfig?: string;
  /** Default `COLLECTION`. */
  queryScope?: string;
}

/** What `firestore.indexes.json` holds. */
export interface DeclaredIndexes {
  indexes: readonly DeclaredIndex[];
  fieldOverrides: readonly DeclaredField[];
}

export interface MergedFile {
  text: string;
  addedIndexes: number;
  addedFields: number;
  updatedFields: number;
}

/** The collections of the store, sorted: those that the declaration is about, and the one of the store's own document, which no query looks into. */
export function collectionsOf({ indexes, fieldOverrides }: DeclaredIndexes, prefix: string): string[] {
  const declared = [...indexes, ...fieldOverrides].map(({ collectionGroup }) => collectionGroup);
  return [...new Set([...declared, `${prefix}_meta`])].toSorted();
}

/** Ours merged into the text of the file. Throws `invalid_option` if it is not what the Firebase CLI would take. */
export function mergeIndexes(before: string, ours: DeclaredIndexes, name: string): MergedFile {
  let text = before.trim() === "" ? "{}\n" : before;
  const merged = { addedIndexes: 0, addedFields: 0, updatedFields: 0 };
  for (const index of ours.indexes) {
    const list = listIn(text, "indexes", name);
    const theirs = list.array.items.map((item) => valueOf(item) as DeclaredIndex);
    if (theirs.some((one) => indexKey(one) === indexKey(index))) continue;
    text = appendItem(list.text, list.array, index);
    merged.addedIndexes += 1;
  }
  for (const field of ours.fieldOverrides) {
    const list = listIn(text, "fieldOverrides", name);
    const at = list.array.items.findIndex((item) => fieldKey(valueOf(item) as DeclaredField) === fieldKey(field));
    if (at === -1) {
      text = appendItem(list.text, list.array, field);
      merged.addedFields += 1;
      continue;
    }
    const item = list.array.items[at]!;
    if (fieldSettings(valueOf(item) as DeclaredField) === fieldSettings(field)) continue;
    text = replaceNode(list.text, item, field);
    merged.updatedFields += 1;
  }
  return { text, ...merged };
}

/** The list under this key, which is put there if it is missing. */
function listIn(before: string, key: string, name: string): { text: string; array: JsonArray } {
  const root = parseJsonText(before, name);
  if (root.kind !== "object") throw notAnIndexFile(name);
  const found = memberOf(root, key);
  if (found?.kind === "array") return { text: before, array: found };
  if (found !== undefined) throw notAnIndexFile(name);
  const text = setMember(before, root, key, []);
  return { text, array: memberOf(parseJsonText(text, name), key) as JsonArray };
}

function notAnIndexFile(name: string): GembatchError {
  return new GembatchError("invalid_option", `${name} does not hold the lists "indexes" and "fieldOverrides".`, {
    hint: "Mend it, or write the deployed ones with: firebase firestore:indexes > firestore.indexes.json",
  });
}

/** Equal for indexes that Firestore holds to be the same. It adds `__name__` at the end in the direction of the last field, unless it is there. */
export function indexKey({ collectionGroup, queryScope = "COLLECTION", fields }: DeclaredIndex): string {
  const parts = fields.map(fieldText);
  const last = fields.at(-1);
  const before = fields.at(-2);
  const isImplied = last?.fieldPath === "__name__" && (last.order ?? "ASCENDING") === (before?.order ?? "ASCENDING");
  return [collectionGroup, queryScope, ...(isImplied ? parts.slice(0, -1) : parts)].join("|");
}

function fieldText({ fieldPath, order, arrayConfig, vectorConfig }: IndexField): string {
  return `${fieldPath} ${vectorConfig === undefined ? (arrayConfig ?? order ?? "ASCENDING") : JSON.stringify(vectorConfig)}`;
}

export const fieldKey = ({ collectionGroup, fieldPath }: DeclaredField): string => `${collectionGroup}|${fieldPath}`;

/** Equal for fields that are indexed and expire alike. */
export function fieldSettings({ ttl = false, indexes }: DeclaredField): string {
  const normal = indexes.map(({ order, arrayConfig, queryScope = "COLLECTION" }) => `${queryScope} ${arrayConfig ?? order}`);
  return JSON.stringify([ttl, normal.toSorted()]);
}

/** What is deployed, as the Firebase CLI writes it: a new file must not make a deploy delete it. */
export function declareDeployed(indexes: readonly DeployedIndex[], fields: readonly DeployedField[]): DeclaredIndexes {
  return {
    indexes: indexes.map(({ name, queryScope, density, multikey, unique, apiScope, fields: indexed = [] }) => ({
      collectionGroup: groupOf(name),
      ...(queryScope === undefined ? {} : { queryScope }),
      fields: indexed,
      ...(density === undefined ? {} : { density }),
      ...(multikey === undefined ? {} : { multikey }),
      ...(unique === undefined ? {} : { unique }),
      ...(apiScope === undefined || apiScope === "ANY_API" ? {} : { apiScope }),
    })),
    fieldOverrides: fields
      // The default of the whole database is listed under this name.
      .filter(({ name }) => groupOf(name) !== "__default__")
      .map(({ name = "", indexConfig, ttlConfig }) => ({
        collectionGroup: groupOf(name),
        fieldPath: name.slice(name.indexOf("/fields/") + "/fields/".length),
        ttl: ttlConfig !== undefined,
        indexes: (indexConfig?.indexes ?? []).map(({ queryScope = "COLLECTION", fields: indexed = [] }) => {
          const [{ order, arrayConfig } = {}] = indexed;
          return { ...(arrayConfig === undefined ? { order: order ?? "ASCENDING" } : { arrayConfig }), queryScope };
        }),
      })),
  };
}
