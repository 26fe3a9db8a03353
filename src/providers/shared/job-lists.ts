/**
 * Finding and reading jobs. A list is a hint, a GET is the truth: lists are newest first, shift while they are paged, lag behind, and leave things out (gemini-batch.md 1.3, 1.4).
 *
 * @module
 */
import { ProviderError, type ProviderJob } from "../../core/provider.ts";
import { isObject } from "./json.ts";
import { mapParallel } from "./parallel.ts";

/** How one service reads jobs. */
export interface JobReader {
  /** One job by GET, or `undefined` if the service says that there is none. */
  get(name: string, signal: AbortSignal): Promise<ProviderJob | undefined>;
  /** One page of the list, newest first: `items` as they came. `query` has its size and token. */
  listPage(query: string, signal: AbortSignal): Promise<{ items: unknown; nextPageToken: unknown }>;
  toJob(item: unknown): ProviderJob | undefined;
}

const pageSize = 100;
/** GETs at the same time; up to as many names are read without a list. */
const maxParallel = 8;
/** Our clock and the service's may differ by this much. */
const clockSkewMs = 10 * 60_000;
const notEnded = new Set<ProviderJob["state"]>(["pending", "running"]);

/** Every job with exactly this display name, oldest first, each confirmed by GET. Pages until everything is older than `since`. */
export async function findByToken(reader: JobReader, token: string, since: number, signal: AbortSignal): Promise<ProviderJob[]> {
  const names = new Set<string>();
  for await (const page of listPages(reader, signal)) {
    for (const job of page) if (job.token === token) names.add(job.name);
    if (isOlder(page, since - clockSkewMs)) break;
  }
  const jobs = await mapParallel([...names], maxParallel, (name) => reader.get(name, signal));
  const confirmed = jobs.filter((job) => job !== undefined && (job.token ?? token) === token);
  return (confirmed as ProviderJob[]).toSorted((a, b) => (a.createdAt ?? 0) - (b.createdAt ?? 0));
}

/** Whether the page, and with it what follows, was created before `time`. Never so for a list that turns out to be oldest first. */
function isOlder(page: readonly ProviderJob[], time: number): boolean {
  const first = page[0]?.createdAt ?? Number.NaN;
  const last = page.at(-1)?.createdAt ?? Number.NaN;
  return first >= last && page.every((job) => job.createdAt !== undefined && job.createdAt < time);
}

/**
 * The named jobs in the order of the names; gone ones are left out. Many are read by list, then by GET those that the list did not show and
 * those that look ended (a list item may lack the output). A job whose GET fails while others answer comes back as
 * `unknown`, so that one broken job does not hide the rest; if none answers, that failure is thrown.
 */
export async function readNamed(reader: JobReader, requested: readonly string[], signal: AbortSignal): Promise<ProviderJob[]> {
  const names = [...new Set(requested)];
  const found = new Map<string, ProviderJob>();
  if (names.length > maxParallel) {
    for (const [name, job] of await listNamed(reader, new Set(names), signal)) if (notEnded.has(job.state)) found.set(name, job);
  }
  let failure: ProviderError | undefined;
  let answers = found.size;
  await mapParallel(
    names.filter((name) => !found.has(name)),
    maxParallel,
    async (name) => {
      try {
        const job = await reader.get(name, signal);
        answers += 1;
        if (job) found.set(name, job);
      } catch (thrown) {
        if (!ProviderError.is(thrown) || signal.aborted || thrown.failure === "denied" || thrown.failure === "throttled") throw thrown;
        failure = thrown;
        found.set(name, { name, state: "unknown", rawStatus: `unreadable (HTTP ${thrown.status ?? "none"})` });
      }
    },
  );
  if (failure && answers === 0) throw failure;
  return names.map((name) => found.get(name)).filter((job) => job !== undefined);
}

/** What the list shows of these jobs. Stops as soon as it has seen all, or after as many pages as they could fill and some. */
async function listNamed(reader: JobReader, names: ReadonlySet<string>, signal: AbortSignal): Promise<Map<string, ProviderJob>> {
  const seen = new Map<string, ProviderJob>();
  let pages = Math.ceil(names.size / pageSize) + 2;
  try {
    for await (const page of listPages(reader, signal)) {
      for (const job of page) if (names.has(job.name)) seen.set(job.name, job);
      pages -= 1;
      if (seen.size === names.size || pages === 0) break;
    }
  } catch (thrown) {
    // GETs will do; unless the service asked for fewer calls, or takes none.
    if (!ProviderError.is(thrown) || signal.aborted || thrown.failure === "denied" || thrown.failure === "throttled") throw thrown;
  }
  return seen;
}

async function* listPages(reader: JobReader, signal: AbortSignal): AsyncGenerator<ProviderJob[]> {
  const tokens = new Set<string>();
  let query = `pageSize=${pageSize}`;
  for (;;) {
    const { items, nextPageToken: next } = await listPage(reader, query, tokens.size > 0, signal);
    yield (Array.isArray(items) ? (items as unknown[]) : []).map((item) => reader.toJob(item)).filter((job) => job !== undefined);
    // An empty token is the end as well; one that was seen before would go round for ever.
    if (typeof next !== "string" || next === "" || tokens.has(next)) return;
    tokens.add(next);
    query = `pageSize=${pageSize}&pageToken=${encodeURIComponent(next.toWellFormed())}`;
  }
}

async function listPage(reader: JobReader, query: string, further: boolean, signal: AbortSignal): ReturnType<JobReader["listPage"]> {
  try {
    return await reader.listPage(query, signal);
  } catch (thrown) {
    // The token of a page is what is wrong then, not the question: it goes stale while the list changes.
    if (further && ProviderError.is(thrown) && (thrown.failure === "refused" || thrown.failure === "missing")) {
      throw new ProviderError("unavailable", thrown.message, { cause: thrown });
    }
    throw thrown;
  }
}

/** One job by what a GET gave, under the name that was asked for, whatever the answer calls itself. */
export async function getByName(name: string, read: () => Promise<unknown>, toJob: JobReader["toJob"]): Promise<ProviderJob | undefined> {
  let answer: unknown;
  try {
    answer = await read();
  } catch (thrown) {
    if (ProviderError.is(thrown) && thrown.failure === "missing") return undefined;
    throw thrown;
  }
  const job = toJob(answer);
  if (!job) throw new ProviderError("unavailable", "Could not read a batch job: the answer is not one.");
  return { ...job, name };
}

/** Cancels; a job that has ended already is refused, and fine. */
export async function cancelUnlessEnded(cancel: () => Promise<unknown>): Promise<void> {
  try {
    await cancel();
  } catch (thrown) {
    if (!ProviderError.is(thrown) || thrown.failure !== "refused") throw thrown;
  }
}

/** The members of a page of a list, whatever it is. */
export function pageOf(answer: unknown, member: string): { items: unknown; nextPageToken: unknown } {
  return isObject(answer)
    ? { items: answer[member], nextPageToken: answer["nextPageToken"] }
    : { items: undefined, nextPageToken: undefined };
}
