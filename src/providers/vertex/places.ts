/**
 * Where things of a batch lie, by name alone. Pure.
 *
 * Everything of a batch lies under its token, so that a repeated upload meets the first one, and whoever looks into the bucket sees what belongs together. Outputs have a
 * part of their own for each attempt: two jobs of one batch must not write over one another (gemini-batch.md 3.3).
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { BucketPlace } from "./options.ts";

/** `gs://bucket/name`; of a folder without a slash at its end. */
export interface ObjectPlace {
  bucket: string;
  name: string;
}

/** `bq://project.dataset.table`. */
export interface TablePlace {
  project: string;
  dataset: string;
  table: string;
}

export function inputObject({ bucket, folder }: BucketPlace, token: string): ObjectPlace {
  return { bucket, name: `${folder}/${token}/input.jsonl` };
}

/** The rows of a table on their way into it. */
export function tableRowsObject({ bucket, folder }: BucketPlace, token: string): ObjectPlace {
  return { bucket, name: `${folder}/${token}/table-rows.jsonl` };
}

export function outputFolder({ bucket, folder }: BucketPlace, token: string, attempt: string): ObjectPlace {
  return { bucket, name: `${folder}/${token}/output-${attempt}` };
}

export function inputTable(token: string): string {
  return `${tableName(token)}_input`;
}

export function outputTable(token: string, attempt: string): string {
  return `${tableName(token)}_output_${attempt}`;
}

/** Id of the n-th job that loads a table: the same at a repetition, so that BigQuery sees it. */
export function loadJobId(token: string, n: number): string {
  return `${tableName(token)}_load_${n}`;
}

/** Names of tables have letters, digits and underscores; a token with more than those and hyphens gets a digest, lest two become one. */
function tableName(token: string): string {
  const name = token.replaceAll(/[^A-Za-z0-9]/g, "_");
  return /^[A-Za-z0-9-]+$/.test(token) ? name : `${name}_${createHash("sha256").update(token).digest("hex").slice(0, 8)}`;
}

/** Whether this folder is the output of one attempt of the batch with this token. Nothing else may be removed. */
export function isOutputFolder({ name }: ObjectPlace, token: string): boolean {
  const [folder, parent] = name.split("/").toReversed();
  return token !== "" && parent === token && /^output-[a-z0-9]+$/.test(folder ?? "");
}

export function isOutputTable({ table }: TablePlace, token: string): boolean {
  const base = `${tableName(token)}_output_`;
  return token !== "" && table.startsWith(base) && /^[a-z0-9]+$/.test(table.slice(base.length));
}

export function objectUri({ bucket, name }: ObjectPlace): string {
  return `gs://${bucket}/${name}`;
}

export function tableUri({ project, dataset, table }: TablePlace): string {
  return `bq://${project}.${dataset}.${table}`;
}

export function parseObjectUri(uri: string): ObjectPlace | undefined {
  const match = /^gs:\/\/([^/]+)\/(.+?)\/*$/.exec(uri);
  return match?.[1] && match[2] ? { bucket: match[1], name: match[2] } : undefined;
}

export function parseTableUri(uri: string): TablePlace | undefined {
  const match = /^bq:\/\/(.+)\.([^.]+)\.([^.]+)$/.exec(uri);
  return match?.[1] && match[2] && match[3] ? { project: match[1], dataset: match[2], table: match[3] } : undefined;
}
