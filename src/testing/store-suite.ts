/** What the parts of the store's conformance suite share. */
import type { Spent, Store } from "../core/store.ts";
import type { TestFunctions } from "./provider-conformance.ts";
import type { StoreKit } from "./store-kit.ts";

export interface StoreSubject {
  /** Open, and empty. */
  store: Store;
  /** Another open store on the same data, as a second process has it. `dispose` closes it. */
  peer?(): Promise<Store>;
  /** Closes the store and opens the same data again. */
  reopen?(): Promise<Store>;
  dispose(): Promise<void>;
}

export interface StoreSetup {
  /** Shown in the name of the suite. */
  name: string;
  createStore(): Promise<StoreSubject>;
  /** Random walks of each of the two kinds, up to four. Default four. */
  walks?: number;
  /** What this store does not do, each with its reason; the tests of it are left out by name. */
  without?: Partial<Record<"exclusiveRoles" | "peers" | "reopening" | "references" | "resuming", string>>;
}

export interface StoreContext {
  kit: StoreKit;
  store: Store;
  subject: StoreSubject;
}

/** What the parts of the suite are written with. */
export interface StoreSuite {
  describe: TestFunctions["describe"];
  expect: TestFunctions["expect"];
  /** One test on a fresh store with worker `w1` alive; at its end no request and no run may have got lost. */
  check: (name: string, body: (context: StoreContext) => Promise<void>, needs?: keyof NonNullable<StoreSetup["without"]>) => void;
  /** The promise must reject. */
  rejects: (promise: Promise<unknown>) => Promise<void>;
}

/** The counts are those of the rows, and the members of every batch are accounted for. */
export async function expectConservation(store: Store, expect: TestFunctions["expect"]): Promise<void> {
  const stats = await store.stats();
  const runs = { ...stats.runs };
  const requests = { ...stats.requests };
  const batches = { ...stats.batches };
  for await (const run of all((page) => store.listRuns(page))) runs[run.state] -= 1;
  const batched = new Map<string, number>();
  for await (const request of all((page) => store.listRequests(page))) {
    requests[request.state] -= 1;
    if (request.state === "batched") batched.set(request.batch!, (batched.get(request.batch!) ?? 0) + 1);
  }
  for await (const batch of all((page) => store.listBatches(page))) {
    batches[batch.state] -= 1;
    const { succeeded, failed, requeued, cancelled } = batch.counts;
    expect([batch.id, batch.requestCount - succeeded - failed - requeued - cancelled]).toEqual([batch.id, batched.get(batch.id) ?? 0]);
  }
  for (const counts of [runs, requests, batches]) {
    for (const [state, count] of Object.entries(counts)) expect([state, count]).toEqual([state, 0]);
  }
  await expectMoney(store, expect);
}

/** What is spent in whole nanodollars, so that sums in any order compare. */
export interface Sums {
  usd: number;
  standardUsd: number;
  unpriced: number;
}

/** What requests, runs, batches and days say that was spent. */
export async function spentBy(store: Store): Promise<{ requests: Sums; runs: Sums; batches: Sums; days: Sums }> {
  const requests: Spent[] = [];
  const runs: Spent[] = [];
  const batches: Spent[] = [];
  for await (const { cost } of all((page) => store.listRequests(page))) requests.push(cost);
  for await (const { cost } of all((page) => store.listRuns(page))) runs.push(cost);
  for await (const { cost } of all((page) => store.listBatches(page))) batches.push(cost);
  return { requests: sum(requests), runs: sum(runs), batches: sum(batches), days: sum(await store.spend({})) };
}

function sum(parts: readonly Spent[]): Sums {
  const nano = (key: "usd" | "standardUsd"): number => Math.round(parts.reduce((total, part) => total + part[key], 0) * 1e9);
  return { usd: nano("usd"), standardUsd: nano("standardUsd"), unpriced: parts.reduce((total, part) => total + part.unpriced, 0) };
}

/** No money gets lost: what was spent is what the days say, and no request, run or batch says more than those. */
async function expectMoney(store: Store, expect: TestFunctions["expect"]): Promise<void> {
  const { requests, runs, batches, days } = await spentBy(store);
  for (const key of ["usd", "standardUsd", "unpriced"] as const) {
    // Histories that were forgotten, and runs and batches that were removed, took their part along; the days never do.
    expect([key, requests[key] <= runs[key], runs[key] <= days[key], batches[key] <= days[key]]).toEqual([key, true, true, true]);
  }
}

async function* all<T>(
  list: (page: { limit: number; cursor?: string }) => Promise<{ items: T[]; nextCursor: string | undefined }>,
): AsyncGenerator<T> {
  let cursor: string | undefined;
  do {
    const page = await list(cursor === undefined ? { limit: 1_000 } : { limit: 1_000, cursor });
    yield* page.items;
    cursor = page.nextCursor;
  } while (cursor !== undefined);
}
