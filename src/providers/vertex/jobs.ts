/**
 * Finding and reading jobs, as Vertex AI has them, and removing them with their output.
 *
 * @module
 */
import { ProviderError, type ProviderJob } from "../../core/provider.ts";
import { withTimeout } from "../shared/http.ts";
import { cancelUnlessEnded, findByToken, getByName, type JobReader, pageOf, readNamed } from "../shared/job-lists.ts";
import { type Client, jobPath } from "./client.ts";
import { jobLabel } from "./create.ts";
import { isOutputFolder, isOutputTable, parseObjectUri, parseTableUri } from "./places.ts";
import { outputTarget, toJob } from "./states.ts";

function readerOf(client: Client, filter: string): JobReader {
  return {
    toJob,
    get: (name, signal) => getByName(name, () => client.json("get", "GET", jobPath(name), signal), toJob),
    async listPage(query, signal) {
      const path = `${client.parent()}/batchPredictionJobs?${query}&filter=${encodeURIComponent(filter)}`;
      return pageOf(await client.json("list", "GET", path, signal), "batchPredictionJobs");
    },
  };
}

/** Every job with exactly this display name, oldest first, each confirmed by GET. */
export async function findJobs(client: Client, token: string, since: number, signal: AbortSignal): Promise<ProviderJob[]> {
  return findByToken(readerOf(client, `display_name=${JSON.stringify(token)}`), token, since, signal);
}

/** The named jobs in the order of the names; gone ones are left out, unreadable ones are `unknown`. Many are looked for in the list of those with our label. */
export async function getJobs(client: Client, names: readonly string[], signal: AbortSignal): Promise<ProviderJob[]> {
  return readNamed(readerOf(client, `labels.gembatch=${jobLabel.gembatch}`), names, signal);
}

/** Cancels the job. One that has ended already is fine; one that does not exist throws `missing`. */
export async function cancelJob(client: Client, name: string, signal: AbortSignal): Promise<void> {
  await cancelUnlessEnded(() => client.json("cancel", "POST", `${jobPath(name)}:cancel`, signal));
}

/**
 * Deletes the job, and its output before it: afterwards nothing would say where that is. Only a folder or table that was named for this batch is removed. Missing is fine. A
 * job that has not ended cannot be deleted, and still writes: it is cancelled first, and while that takes, this throws `unavailable`.
 */
export async function deleteJob(client: Client, name: string, signal: AbortSignal): Promise<void> {
  const read = (): Promise<unknown> => unlessMissing(() => client.json("get", "GET", jobPath(name), signal));
  let resource = await read();
  if (resource !== undefined && !hasEnded(resource)) {
    await unlessMissing(() => cancelJob(client, name, signal));
    resource = await read();
    if (resource !== undefined && !hasEnded(resource)) {
      throw new ProviderError("unavailable", `${name} is being cancelled; it can be deleted when it has ended.`);
    }
  }
  if (resource === undefined) return;
  await removeOutput(client, resource, withTimeout(signal, client.settings.timeoutMs.upload));
  await unlessMissing(() => client.json("delete", "DELETE", jobPath(name), signal));
}

async function unlessMissing<T>(call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (thrown) {
    if (ProviderError.is(thrown) && thrown.failure === "missing") return undefined;
    throw thrown;
  }
}

function hasEnded(resource: unknown): boolean {
  const state = toJob(resource)?.state ?? "unknown";
  return state !== "pending" && state !== "running" && state !== "unknown";
}

async function removeOutput({ objects, tables }: Client, resource: unknown, signal: AbortSignal): Promise<void> {
  const token = toJob(resource)?.token ?? "";
  const target = outputTarget(resource) ?? "";
  const folder = parseObjectUri(target);
  if (folder && isOutputFolder(folder, token)) await objects.removeFolder(folder, signal);
  const table = parseTableUri(target);
  if (table && isOutputTable(table, token)) await tables.remove(table, signal);
}
