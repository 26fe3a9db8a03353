/**
 * `npm run test:sim -- [--seeds N] [--seed S] [--mutations] [--mutation NAME] [--emphasis NAME] [--store-faults locked|lost] [--store memory|postgres|firestore]`: the whole system in virtual time, seed by seed.
 * On a database, each process has a store object of its own; the server is the one of `GEMBATCH_TEST_POSTGRES_URL` or `FIRESTORE_EMULATOR_HOST`, else one that is started for it.
 *
 * Prints nothing about a seed that holds. A seed that does not: the promise that was broken, the end of its trace, and the command to repeat it.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { catchMutation } from "./catch-mutation.ts";
import { findMutation, mutations } from "./mutations.ts";
import type { Plan } from "./plan.ts";
import { neededFirestore } from "../support/firestore-emulator.ts";
import { startPostgres } from "../support/postgres-server.ts";
import { onFirestore, onPostgres, type SimStores } from "./sim-stores.ts";
import { simulate, SimulationError, type Outcome } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "100" },
    seed: { type: "string" },
    mutations: { type: "boolean", default: false },
    mutation: { type: "string" },
    quiet: { type: "boolean", default: false },
    /** Makes the faults likely that the guard of this mutation is for, with the guard in place. */
    emphasis: { type: "string" },
    /** Also lets calls of the store fail: `locked`, with nothing done; `lost`, done and unanswered, as a store over a network may. */
    "store-faults": { type: "string" },
    store: { type: "string", default: "memory" },
  },
});

const print = (line: string) => process.stdout.write(`${line}\n`);
const under = process.env["GEMBATCH_MUTATION"];

function repeat(seed: number): string {
  const faults = values["store-faults"] === undefined ? "" : ` --store-faults ${values["store-faults"]}`;
  const store = values.store === "memory" ? "" : ` --store ${values.store}`;
  const emphasis = values.emphasis === undefined ? "" : ` --emphasis ${values.emphasis}`;
  return `npm run test:sim -- --seeds 1 --seed ${seed}${emphasis}${under === undefined ? "" : ` --mutation ${under}`}${faults}${store}`;
}

/** What is made likely on purpose, in every seed. */
function change(plan: Plan): void {
  const faults = values["store-faults"];
  if (faults === "locked") plan.storeFails = 0.002;
  else if (faults === "lost") plan.storeAnswerLost = 0.002;
  else if (faults !== undefined) throw new Error(`--store-faults is locked or lost, not ${faults}.`);
  const emphasis = values.emphasis ?? under;
  if (emphasis !== undefined) findMutation(emphasis).emphasis?.(plan);
}

/** Runs seeds one after another. Returns whether all hold. */
async function runSeeds(first: number, count: number, stores: SimStores | undefined): Promise<boolean> {
  const total = {
    calls: 0,
    crashes: 0,
    freezes: 0,
    jobs: 0,
    duplicateJobs: 0,
    directCalls: 0,
    moved: 0,
    turns: 0,
    lostTurns: 0,
    resumedTurns: 0,
    steps: 0,
    virtualMs: 0,
  };
  const startedAt = performance.now();
  for (let seed = first; seed < first + count; seed += 1) {
    let outcome: Outcome;
    try {
      outcome = await simulate(seed, { change, ...(stores === undefined ? {} : { stores }) });
    } catch (error) {
      if (!(error instanceof SimulationError)) throw error;
      if (!values.quiet) for (const line of error.trace) print(line);
      print(error.message);
      print(`To repeat it: ${repeat(seed)}`);
      return false;
    }
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += outcome[key];
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  const days = total.virtualMs / 86_400_000;
  print(
    `${count} seeds from ${first}: ${total.crashes} crashes, ${total.freezes} freezes, ${total.jobs} jobs (${total.duplicateJobs} duplicates), ${total.directCalls} direct calls, ${total.moved} prompts moved, ${total.turns} turns (${total.lostTurns} refused, ${total.resumedTurns} without a claim), ` +
      `${total.calls} calls, ${days.toFixed(1)} virtual days in ${seconds.toFixed(1)} s. Every promise held.`,
  );
  return true;
}

/** Takes out each guard. Returns whether every one was missed. */
async function runMutations(names: readonly string[], seed: number | undefined): Promise<boolean> {
  let all = true;
  for (const name of names) {
    const startedAt = performance.now();
    const caught = await catchMutation(findMutation(name), seed);
    all &&= caught !== undefined;
    print(
      `${name}: ${caught === undefined ? "NOT CAUGHT" : `caught. ${caught}`} (${((performance.now() - startedAt) / 1_000).toFixed(1)} s)`,
    );
  }
  return all;
}

const seed = values.seed === undefined ? undefined : Number(values.seed);
const count = Number(values.seeds);
if (!Number.isInteger(count) || count < 1) throw new Error(`--seeds takes a whole number from 1, not ${values.seeds}.`);
if (seed !== undefined && !Number.isInteger(seed)) throw new Error(`--seed takes a whole number, not ${values.seed}.`);

const { stores, stop } = await storesOf(values.store);

const held =
  values.mutations || values.mutation !== undefined
    ? await runMutations(values.mutation === undefined ? mutations.map(({ name }) => name) : [values.mutation], seed)
    : await runSeeds(seed ?? randomInt(1, 1_000_000_000), count, stores);
await stop?.();
// Abandoned processes of the simulation never end by themselves.
process.exit(held ? 0 : 1);

/** Where the simulated processes keep their runs, and how its server is ended. */
async function storesOf(store: string): Promise<{ stores?: SimStores; stop?: () => Promise<void> }> {
  if (store === "memory") return {};
  if (store === "postgres") {
    const server = await startPostgres();
    return { stores: onPostgres(server.url), stop: server.stop };
  }
  if (store === "firestore") {
    const emulator = await neededFirestore();
    return { stores: onFirestore(emulator.host), stop: emulator.stop };
  }
  throw new Error(`--store is memory, postgres or firestore, not ${store}.`);
}
