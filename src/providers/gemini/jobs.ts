/**
 * Finding and reading jobs, as Gemini has them.
 *
 * @module
 */
import { ProviderError, type ProviderJob } from "../../core/provider.ts";
import { cancelUnlessEnded, findByToken, getByName, type JobReader, pageOf, readNamed } from "../shared/job-lists.ts";
import { type Client, resourcePath } from "./client.ts";
import { toJob } from "./states.ts";

function readerOf(client: Client): JobReader {
  return {
    toJob,
    get: (name, signal) => getByName(name, () => client.json("get", "GET", resourcePath(name, "batches"), signal), toJob),
    listPage: async (query, signal) => pageOf(await client.json("list", "GET", `batches?${query}`, signal), "operations"),
  };
}

/** Every job with exactly this display name, oldest first, each confirmed by GET. Pages until everything is older than `since`. */
export async function findJobs(client: Client, token: string, since: number, signal: AbortSignal): Promise<ProviderJob[]> {
  return findByToken(readerOf(client), token, since, signal);
}

/** The named jobs in the order of the names; gone ones are left out, unreadable ones are `unknown`. */
export async function getJobs(client: Client, names: readonly string[], signal: AbortSignal): Promise<ProviderJob[]> {
  return readNamed(readerOf(client), names, signal);
}

/** Cancels the job. One that has ended already is fine; one that does not exist throws `missing`. */
export async function cancelJob(client: Client, name: string, signal: AbortSignal): Promise<void> {
  await cancelUnlessEnded(() => client.json("cancel", "POST", `${resourcePath(name, "batches")}:cancel`, signal));
}

/** Deletes the job and with it its output file. It does not cancel. Missing is fine. */
export async function deleteJob(client: Client, name: string, signal: AbortSignal): Promise<void> {
  try {
    await client.json("delete", "DELETE", resourcePath(name, "batches"), signal);
  } catch (thrown) {
    if (!ProviderError.is(thrown) || thrown.failure !== "missing") throw thrown;
  }
}
