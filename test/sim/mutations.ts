/**
 * The guards, each taken out: the simulation must notice. Source patches, applied while the source is loaded, so that the product has no switches.
 *
 * @module
 */
import { readFileSync } from "node:fs";

export interface Patch {
  /** From the root of the repository. */
  file: string;
  /** Stands there exactly once. */
  find: string;
  replace: string;
}

export interface Mutation {
  name: string;
  /** What the guard is for. */
  why: string;
  patches: readonly Patch[];
  /** Seeds that are tried at most. */
  seeds: number;
}

export const mutations: readonly Mutation[] = [
  {
    name: "no-epoch-fence",
    why: "a worker that lost its claim must not commit",
    seeds: 60,
    patches: [
      {
        file: "src/stores/sqlite/turns.ts",
        find: "run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch || run.worker !== worker",
        replace: "run === undefined || run.state !== RUN.running",
      },
      {
        file: "src/stores/sqlite/turns.ts",
        find: "WHERE no = ?7 AND state = 1 AND epoch = ?8 AND worker = ?9 AND",
        replace: "WHERE no = ?7 AND state = 1 AND (epoch = ?8 OR worker = ?9 OR 1) AND",
      },
    ],
  },
  {
    name: "no-seen-check",
    why: "an answer that came while a turn was executed must wake its run",
    seeds: 100,
    patches: [
      { file: "src/stores/sqlite/turns.ts", find: "const knows = run.seq === turn.seen;", replace: "const knows = true;" },
      { file: "src/stores/sqlite/turns.ts", find: "AND seq = ?10 AND", replace: "AND (seq = ?10 AND 0) AND" },
    ],
  },
  {
    name: "no-reconcile",
    why: "a job whose creation was not answered must be looked for",
    seeds: 30,
    patches: [
      {
        file: "src/pipeline/launch.ts",
        find: "const jobs = await provider.findJobs(token, batch.intentAt ?? batch.createdAt, context.signal);",
        replace: "const jobs: ProviderJob[] = [];",
      },
    ],
  },
  {
    name: "no-settle-window",
    why: "a job may show in the list only later",
    seeds: 60,
    patches: [{ file: "src/pipeline/launch.ts", find: "(batch.launchDeadlineAt ?? now) + context.launch.settleMs", replace: "0" }],
  },
  {
    name: "no-deadline",
    why: "a process that was frozen must not send late",
    seeds: 200,
    patches: [
      {
        file: "src/pipeline/launch.ts",
        find: "return intended && clock.now() - intentAt < sendWithinMs && clock.monotonic() - since < sendWithinMs;",
        replace: "return intended;",
      },
    ],
  },
  {
    name: "no-settle-guard",
    why: "a row counts only for an open member of its batch at its attempt",
    seeds: 30,
    patches: [
      {
        file: "src/stores/sqlite/routing.ts",
        find: "WHERE e.no = ? AND e.batch = ? AND e.state = 4 AND e.attempt = ?",
        replace: "WHERE e.no = ? AND (e.batch = ? OR e.attempt = ? OR 1)",
      },
    ],
  },
  {
    name: "no-batch-lease",
    why: "a batch in the hands of a live worker is nobody else's",
    seeds: 30,
    patches: [
      {
        file: "src/stores/sqlite/batches.ts",
        find: "&& !isHeld(db, row.worker, now)) free.push(row)",
        replace: ") free.push(row)",
      },
    ],
  },
  {
    name: "no-run-lease",
    why: "runs in the hands of a live worker are nobody else's",
    seeds: 30,
    patches: [
      {
        file: "src/stores/sqlite/workers.ts",
        find: "if (other.lease_until <= now || isGone)",
        replace: "if (other.lease_until <= now + 25_000 || isGone)",
      },
    ],
  },
];

const root = new URL("../../", import.meta.url);

/** The source of a file under this mutation. Throws if a patch does not fit, so that no mutation quietly comes to nothing. */
export function mutate(mutation: Mutation, file: string, source: string): string {
  let text = source;
  for (const patch of mutation.patches) {
    if (patch.file !== file) continue;
    const found = text.split(patch.find).length - 1;
    if (found !== 1)
      throw new Error(
        `Mutation ${mutation.name}: "${patch.find}" stands ${found} times in ${file}, not once. Adapt test/sim/mutations.ts.`,
      );
    text = text.replace(patch.find, () => patch.replace);
  }
  return text;
}

/** Throws if any patch of the mutation does not fit the source as it is. */
export function checkMutation(mutation: Mutation): void {
  for (const file of new Set(mutation.patches.map((patch) => patch.file)))
    mutate(mutation, file, readFileSync(new URL(file, root), "utf8"));
}

export function findMutation(name: string): Mutation {
  const found = mutations.find((mutation) => mutation.name === name);
  if (!found) throw new Error(`There is no mutation "${name}". There are: ${mutations.map((mutation) => mutation.name).join(", ")}.`);
  return found;
}
