/**
 * Budgets: how much may be spent, and how much of it is left. Pure decisions; estimates are reserved before a batch is launched, and what would exceed a budget stays queued.
 *
 * @module
 */
import { describe, GembatchError } from "./errors.ts";
import { refuseUnknown } from "./options.ts";
import type { ClaimedRun, NewRequest, SpendRow } from "./store.ts";
import { priceFactor } from "./tiers.ts";

/**
 * At most `usd` US dollars: per run, per day or month (UTC), or in all (`total`: everything that the store has on record). Answers of models without a price cannot be counted.
 */
export interface Budget {
  usd: number;
  per: "run" | "day" | "month" | "total";
}

const kinds: readonly unknown[] = ["run", "day", "month", "total"] satisfies Budget["per"][];

/** The `budget` option, checked: one budget, or several of different kinds. Throws `invalid_option`. */
export function checkBudgets(value: unknown): readonly Budget[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const budgets = list.map((item, index) => checkBudget(item, Array.isArray(value) ? `budget[${index}]` : "budget"));
  const repeated = budgets.find(({ per }, index) => budgets.findIndex((other) => other.per === per) !== index);
  if (repeated)
    throw new GembatchError("invalid_option", `Option budget has two budgets per ${repeated.per}.`, { hint: "Keep the smaller one." });
  return budgets;
}

function checkBudget(value: unknown, name: string): Budget {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(name, 'such as { usd: 20, per: "day" }', value);
  refuseUnknown(value, ["usd", "per"], name);
  const { usd, per } = value as Record<string, unknown>;
  if (typeof usd !== "number" || !Number.isFinite(usd) || usd <= 0) throw invalid(`${name}.usd`, "a number of US dollars above 0", usd);
  if (!kinds.includes(per)) throw invalid(`${name}.per`, '"run", "day", "month" or "total"', per);
  return { usd, per: per as Budget["per"] };
}

function invalid(name: string, wanted: string, got: unknown): GembatchError {
  return new GembatchError("invalid_option", `Option ${name} must be ${wanted}, got ${describe(got)}.`);
}

/** What is left of the budget that binds first. */
export interface FreeBudget {
  /** Never below 0. */
  freeUsd: number;
  budget: Budget;
  /** When it starts afresh; absent if it never does. */
  until?: number;
}

/**
 * What may still be reserved by anybody: the tightest of the budgets per day, month and in all. `spent`: what answers have cost, all of it or at least that of the current month if there is no budget
 * in all; `reservedUsd`: the estimates of what is on its way. `undefined` if there is no such budget. Of several that are used up, the one that stays so longest.
 */
export function freeBudget(
  budgets: readonly Budget[],
  spent: readonly SpendRow[],
  reservedUsd: number,
  now: number,
): FreeBudget | undefined {
  let tightest: FreeBudget | undefined;
  for (const budget of budgets) {
    if (budget.per === "run") continue;
    const day = periodOf(budget.per, now);
    let usd = reservedUsd;
    for (const row of spent) if (row.day.startsWith(day)) usd += row.usd;
    const until = renewsAt(budget.per, now);
    const free: FreeBudget = { freeUsd: Math.max(0, budget.usd - usd), budget, ...(until === undefined ? {} : { until }) };
    if (!tightest || free.freeUsd < tightest.freeUsd || (free.freeUsd === tightest.freeUsd && isLater(free.until, tightest.until)))
      tightest = free;
  }
  return tightest;
}

/** What one run may still reserve, given what its answers have cost and what is reserved for its open requests. `undefined` without a budget per run. */
export function freeOfRun(budgets: readonly Budget[], run: { usd: number; reservedUsd: number }): FreeBudget | undefined {
  const budget = budgets.find(({ per }) => per === "run");
  return budget && { freeUsd: Math.max(0, budget.usd - run.usd - run.reservedUsd), budget };
}

/** Why the prompts that a run asks for next are not sent: with them it would cost more than a run may. Retried with a larger budget, it asks for them again. */
export function excessOfRun(
  budgets: readonly Budget[],
  { id, usd, reservedUsd }: Pick<ClaimedRun, "id" | "usd" | "reservedUsd">,
  asked: readonly NewRequest[],
): GembatchError | undefined {
  const free = freeOfRun(budgets, { usd, reservedUsd });
  if (!free || asked.length === 0) return undefined;
  const unpriced = asked.find((request) => request.usd === undefined);
  const wanted = asked.reduce((sum, request) => sum + (request.usd ?? 0) * priceFactor(request.lane), 0);
  if (!unpriced && wanted <= free.freeUsd) return undefined;
  const why = unpriced ? `The price of ${unpriced.lane.model} is unknown.` : budgetReason(free, wanted);
  return new GembatchError("budget_exceeded", `Run ${id} is held, its next ${asked.length} prompts are not sent. ${why}`, {
    hint: unpriced ? "Add the model to the option prices, then retry the run." : "Then retry the run.",
    details: { usd, wantedUsd: wanted, freeUsd: free.freeUsd },
  });
}

/** The start of every `SpendRow.day` that counts. */
function periodOf(per: "day" | "month" | "total", now: number): string {
  return new Date(now).toISOString().slice(0, { day: 10, month: 7, total: 0 }[per]);
}

function renewsAt(per: "day" | "month" | "total", now: number): number | undefined {
  const date = new Date(now);
  if (per === "day") return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate() + 1);
  if (per === "month") return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1);
  return undefined;
}

function isLater(until: number | undefined, than: number | undefined): boolean {
  return than !== undefined && (until === undefined || until > than);
}

/** Why something is held, as a sentence: what is left, what is wanted (an estimate in USD, if known), and what ends it. */
export function budgetReason({ freeUsd, budget, until }: FreeBudget, wantedUsd?: number): string {
  const whole =
    budget.per === "total" ? `The budget of ${dollars(budget.usd)} in all` : `The budget of ${dollars(budget.usd)} per ${budget.per}`;
  const left = freeUsd > 0 ? `has ${dollars(freeUsd)} left` : "is used up";
  const wanted = wantedUsd === undefined ? "" : `, and about ${dollars(wantedUsd)} is wanted`;
  const end =
    until === undefined
      ? "Raise the budget to go on."
      : `It starts afresh at ${new Date(until).toISOString().slice(0, 16).replace("T", " ")} UTC; raise it to go on earlier.`;
  return `${whole} ${left}${wanted}, costs being estimated until the answers are there. ${end}`;
}

/** Money with at least two decimals, and two digits that are not 0. */
function dollars(usd: number): string {
  const decimals = usd > 0 ? 1 - Math.floor(Math.log10(usd)) : 2;
  return `${usd.toFixed(Math.min(20, Math.max(2, decimals)))} USD`;
}
