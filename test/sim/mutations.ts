/**
 * The guards, each taken out: the simulation must notice. Source patches, applied while the source is loaded, so that the product has no switches.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import type { Plan } from "./plan.ts";

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
  /** Faults that are made likely, so that few seeds are enough. With the guard in place all promises hold under them too. */
  emphasis?: (plan: Plan) => void;
  /** Seeds that are tried at most. */
  seeds: number;
}

/** The guards once more, in the short way that most turns take: switched off, so that all take the long one. */
const withoutShortcut: Patch = {
  file: "src/stores/sqlite/turns.ts",
  find: "const quick = no === undefined || worker === undefined ? undefined : commitQuickly(db, no, worker, now, turn);",
  replace: "const quick: CommitResult | undefined = undefined; void commitQuickly;",
};

const freezing = (plan: Plan): void => {
  Object.assign(plan, { crash: 0.001, freeze: 0.008, freezeMs: 100_000 });
};

const unanswered = (plan: Plan): void => {
  Object.assign(plan.provider, { createUnanswered: 0.5, listLagMs: 90_000 });
};

/** A job whose creation was not answered shows in the list only when another one was made. */
export const hiding = (plan: Plan): void => {
  Object.assign(plan.provider, { createUnanswered: 0.5, createHidden: 1 });
};

export const mutations: readonly Mutation[] = [
  {
    name: "no-epoch-fence",
    why: "a worker that lost its claim must not commit",
    seeds: 40,
    emphasis: freezing,
    patches: [
      {
        file: "src/stores/sqlite/turns.ts",
        find: "run === undefined || run.state !== RUN.running || run.epoch !== turn.epoch || run.worker !== worker",
        replace: "run === undefined || run.state !== RUN.running",
      },
      withoutShortcut,
    ],
  },
  {
    name: "no-seen-check",
    why: "an answer that came while a turn was executed must wake its run",
    seeds: 30,
    patches: [
      { file: "src/stores/sqlite/turns.ts", find: "const knows = run.seq === turn.seen;", replace: "const knows = true;" },
      withoutShortcut,
    ],
  },
  {
    name: "no-reconcile",
    why: "a job whose creation was not answered must be looked for",
    seeds: 30,
    emphasis: unanswered,
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
    seeds: 30,
    emphasis: unanswered,
    patches: [{ file: "src/pipeline/launch.ts", find: "(batch.launchDeadlineAt ?? now) + context.launch.settleMs", replace: "0" }],
  },
  {
    name: "no-deadline",
    why: "a process that was frozen must not send late",
    seeds: 40,
    emphasis: (plan) => {
      plan.freezeSending = 0.4;
    },
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
  {
    name: "no-leader",
    why: "a prompt that others wait for must not be asked again",
    seeds: 10,
    patches: [{ file: "src/stores/sqlite/shared.ts", find: 'if (row.leader !== null) return { role: "follows" };', replace: "" }],
  },
  {
    name: "no-sweep",
    why: "a duplicate job that shows late must be found",
    seeds: 30,
    emphasis: hiding,
    patches: [
      {
        file: "src/pipeline/sweep.ts",
        find: "duplicateJobs = [...new Set([...duplicateJobs, ...(await cancelDuplicates(context, batch))])];",
        replace: "void cancelDuplicates;",
      },
    ],
  },
  {
    name: "no-duplicate-cancel",
    why: "a duplicate job that runs must be stopped",
    seeds: 30,
    emphasis: hiding,
    patches: [
      {
        file: "src/pipeline/sweep.ts",
        find: "await providerOf(context, batch.lane).cancelJob(name, context.signal);",
        replace: "",
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
