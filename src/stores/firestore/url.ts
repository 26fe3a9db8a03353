import { GembatchError } from "../../core/errors.ts";
import type { FirestoreStoreOptions } from "./options.ts";

const form = /^firestore:(?:\/\/(?<project>[a-z][a-z0-9.:-]*)?(?:\/(?<database>\(default\)|[a-z][a-z0-9-]*)?)?)?(?:\?(?<query>.*))?$/;

/** `firestore:`, `firestore://PROJECT`, `firestore://PROJECT/DATABASE?prefix=gembatch&shards=1`. Throws `invalid_option`. */
export function parseFirestoreUrl(url: string): FirestoreStoreOptions {
  const match = form.exec(url);
  if (!match?.groups) throw refused(`The store URL ${JSON.stringify(url)} is none of Firestore.`);
  const { project, database, query } = match.groups;
  const options: FirestoreStoreOptions = {};
  if (project) options.projectId = project;
  if (database) options.databaseId = database;
  for (const [name, value] of new URLSearchParams(query ?? "")) {
    if (name === "prefix") options.prefix = value;
    else if (name === "shards") options.shards = Number(value);
    else throw refused(`The store URL of Firestore has no setting ${JSON.stringify(name)}.`);
  }
  return options;
}

function refused(message: string): GembatchError {
  return new GembatchError("invalid_option", message, {
    hint: "Write firestore://PROJECT/DATABASE?prefix=gembatch&shards=1, or firestore: for the default project.",
  });
}
