/**
 * Whether a disturbed course of the kill test kept the promises. Pure.
 *
 * @module
 */
import type { LedgerJson } from "./kill-processes.ts";

/** What is left of a course when all its processes have ended. */
export interface Course {
  runs: readonly { id: string; state: string; output: unknown }[];
  batches: readonly { id: string; state: string; job: string | undefined }[];
  /** Lines of side effects: `<run id> <token>`. */
  effects: readonly string[];
  ledger: LedgerJson;
  /** What is wrong with the store itself, or `ok`: what SQLite says about its file, whether the counters of Postgres are right. */
  integrity: string;
  /** Whether the last program, which nobody killed, came to its end. */
  ended: boolean;
}

const terminal = new Set(["completed", "failed", "expired", "cancelled"]);
/** Violations of one kind that are named; the rest is counted. */
const shown = 5;

/** Every broken promise in words; none if all were kept. `oracle`: the same work without a kill and without a fault. */
export function violationsOf(course: Course, oracle: Course): string[] {
  return [
    ...(course.ended ? [] : ["The last program, which was not killed, did not come to its end."]),
    ...(course.integrity === "ok" ? [] : [`The store is damaged: ${course.integrity}`]),
    ...list("Jobs with the same batch token", duplicateTokens(course.ledger)),
    ...list(
      "Prompts that were sent more than once",
      course.ledger.duplicatePrompts.map(({ hash, sent }) => `${hash} × ${sent}`),
    ),
    ...list(
      "Prompts that were paid more than once",
      course.ledger.paidTwice.map(({ hash, billed }) => `${hash} × ${billed}`),
    ),
    ...list("Jobs that no batch of the store knows", strayJobs(course)),
    ...list("Batches that did not end well", course.batches.filter(({ state }) => state !== "completed").map(describeBatch)),
    ...list("Runs that differ from the undisturbed ones", differentRuns(course, oracle)),
    ...list("Side effects that broke the rule of steps", brokenEffects(course)),
    ...sums(course.ledger, oracle.ledger),
  ];
}

/** Batches that will never move again, for the summary of a course that is stuck. */
export function unfinished(course: Course): string[] {
  return course.batches.filter(({ state }) => !terminal.has(state)).map(describeBatch);
}

function duplicateTokens({ jobs }: LedgerJson): string[] {
  const byToken = Map.groupBy(jobs, ({ displayName }) => displayName);
  return [...byToken].filter(([, same]) => same.length > 1).map(([token, same]) => `${token}: ${same.map(({ name }) => name).join(", ")}`);
}

function strayJobs({ ledger, batches }: Course): string[] {
  const known = new Set(batches.map(({ job }) => job));
  return ledger.jobs.filter(({ name }) => !known.has(name)).map(({ name, state }) => `${name} (${state})`);
}

function describeBatch({ id, state }: { id: string; state: string }): string {
  return `${id}: ${state}`;
}

function differentRuns({ runs }: Course, oracle: Course): string[] {
  const wanted = new Map(oracle.runs.map((run) => [run.id, comparable(run)]));
  const found = new Map(runs.map((run) => [run.id, comparable(run)]));
  const ids = new Set([...wanted.keys(), ...found.keys()]);
  return [...ids]
    .filter((id) => wanted.get(id) !== found.get(id))
    .map((id) => `${id}: ${found.get(id) ?? "not there"}, undisturbed ${wanted.get(id) ?? "not there"}`);
}

/** State and output as text; the tokens of side effects differ by nature. */
function comparable({ state, output }: { state: string; output: unknown }): string {
  const token = tokenOf(output);
  const text = JSON.stringify(output) ?? "undefined";
  return `${state} ${token === undefined ? text : text.replace(token, "token")}`;
}

function tokenOf(output: unknown): string | undefined {
  const token = typeof output === "object" && output !== null && "token" in output ? output.token : undefined;
  return typeof token === "string" ? token : undefined;
}

/** A step runs at least once, and its run goes on with a value that one of its executions gave. */
function brokenEffects({ runs, effects }: Course): string[] {
  const executed = new Set(effects);
  return runs
    .map(({ id, output }) => ({ id, token: tokenOf(output) }))
    .filter(({ id, token }) => token !== undefined && !executed.has(`${id} ${token}`))
    .map(({ id }) => `${id} returned a token that none of its steps wrote`);
}

/** No row is lost or added: as many prompts as undisturbed, each billed once. */
function sums(ledger: LedgerJson, oracle: LedgerJson): string[] {
  const { sentRows, billedRows, directCalls } = ledger.totals;
  const wanted = oracle.totals.sentRows;
  if (sentRows === wanted && billedRows === wanted && directCalls === 0) return [];
  return [`${sentRows} rows were sent, ${billedRows} billed and ${directCalls} called directly; undisturbed it is ${wanted} rows.`];
}

function list(what: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const rest = items.length > shown ? `\n    … and ${items.length - shown} more` : "";
  return [
    `${what}: ${items.length}\n${items
      .slice(0, shown)
      .map((item) => `    ${item}`)
      .join("\n")}${rest}`,
  ];
}
