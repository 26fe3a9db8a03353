/** A bucket that was there before may delete large payloads, which lie beside the folder of jobs and must stay. */
import { ruleThatDeletes, type Bucket } from "../google/storage.ts";
import { payloadFolder } from "./facts.ts";

export interface PayloadsAtRisk {
  note: string;
  mend: string;
}

export function payloadsAtRisk(bucket: Bucket, { name, folder }: { name: string; folder: string }): PayloadsAtRisk | undefined {
  const payloads = payloadFolder(folder);
  const rule = ruleThatDeletes(bucket, `${payloads}/`);
  if (rule === undefined) return undefined;
  const age = rule.condition?.age === undefined ? "" : ` after ${rule.condition.age} days`;
  return {
    note: `a lifecycle rule of gs://${name} deletes ${payloads}/${age}, where large payloads lie that runs still need`,
    mend: `limit that rule to other folders ("matchesPrefix": ["${folder}/"] for the files of jobs; gcloud storage buckets update gs://${name} --lifecycle-file=FILE), or keep payloads in another bucket`,
  };
}
