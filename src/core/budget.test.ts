import { describe, expect, it } from "vitest";
import { budgetReason, checkBudgets, freeBudget, freeOfRun, type Budget } from "./budget.ts";
import type { SpendRow } from "./store.ts";
import { noUsage } from "./usage.ts";

const now = Date.UTC(2026, 10, 30, 23, 59);
const nextDay = Date.UTC(2026, 11, 1);

function spent(day: string, usd: number): SpendRow {
  const lane = { provider: "gemini", model: "m", method: "generateContent" } as const;
  return { day, chain: "c", lane, answers: 1, usage: noUsage, usd, standardUsd: 2 * usd, unpriced: 0 };
}
const rows = [spent("2025-11-30", 50), spent("2026-10-31", 20), spent("2026-11-01", 4), spent("2026-11-30", 2), spent("2026-11-30", 1)];

describe("the option", () => {
  it.each<[unknown, Budget[]]>([
    [undefined, []],
    [{ usd: 5, per: "day" }, [{ usd: 5, per: "day" }]],
    [[], []],
    [
      [
        { usd: 0.5, per: "run" },
        { usd: 100, per: "total" },
      ],
      [
        { usd: 0.5, per: "run" },
        { usd: 100, per: "total" },
      ],
    ],
  ])("%j is taken", (value, budgets) => {
    expect(checkBudgets(value)).toEqual(budgets);
  });
  it.each<[unknown, RegExp]>([
    [null, /Option budget must be such as/],
    [5, /Option budget must be such as/],
    [[5], /budget\[0\] must be such as/],
    [[{ usd: 5, per: "day" }, [1]], /budget\[1\] must be such as/],
    [{ usd: 0, per: "day" }, /budget\.usd must be a number of US dollars above 0, got 0/],
    [{ usd: Infinity, per: "day" }, /budget\.usd .* got Infinity/],
    [{ usd: "5", per: "day" }, /budget\.usd .* got "5"/],
    [{ usd: 5 }, /budget\.per must be .* got undefined/],
    [{ usd: 5, per: "chain" }, /budget\.per must be "run", "day", "month" or "total", got "chain"/],
    [{ usd: 5, per: "day", eur: 1 }, /Unknown option budget\.eur/],
    [
      [
        { usd: 5, per: "day" },
        { usd: 6, per: "month" },
        { usd: 7, per: "day" },
      ],
      /two budgets per day/,
    ],
  ])("%j is refused", (value, message) => {
    expect(() => checkBudgets(value)).toThrow(message);
    expect(() => checkBudgets(value)).toThrow(expect.objectContaining({ code: "invalid_option" }));
  });
});

describe("what is left for everybody", () => {
  const day: Budget = { usd: 10, per: "day" };
  const month: Budget = { usd: 10, per: "month" };
  const total: Budget = { usd: 80, per: "total" };
  it.each<[string, Budget[], number, object | undefined]>([
    ["no budget", [], 0, undefined],
    ["none of these kinds", [{ usd: 1, per: "run" }], 0, undefined],
    ["today", [day], 0, { freeUsd: 7, budget: day, until: nextDay }],
    ["today, with something on its way", [day], 2, { freeUsd: 5, budget: day, until: nextDay }],
    ["this month, of this year", [month], 0, { freeUsd: 3, budget: month, until: nextDay }],
    ["in all", [total], 0, { freeUsd: 3, budget: total }],
    ["never below nothing", [day], 20, { freeUsd: 0, budget: day, until: nextDay }],
    ["the tightest", [day, { usd: 1_000, per: "month" }, total], 0, { freeUsd: 3, budget: total }],
    ["of those used up, the one that renews last", [day, total, month], 20, { freeUsd: 0, budget: total }],
    ["in any order", [total, day, month], 20, { freeUsd: 0, budget: total }],
  ])("%s", (_name, budgets, reservedUsd, expected) => {
    expect(freeBudget(budgets, rows, reservedUsd, now)).toEqual(expected);
  });
  it("renews at midnight and on the first, UTC", () => {
    const newYear = Date.UTC(2026, 11, 31, 12);
    expect(freeBudget([day], [], 0, newYear)?.until).toBe(Date.UTC(2027, 0, 1));
    expect(freeBudget([month], [], 0, newYear)?.until).toBe(Date.UTC(2027, 0, 1));
    expect(freeBudget([month], [], 0, Date.UTC(2026, 11, 1))?.until).toBe(Date.UTC(2027, 0, 1));
    expect(freeBudget([day], rows, 0, nextDay)?.freeUsd).toBe(10);
    expect(freeBudget([month], rows, 0, nextDay)?.freeUsd).toBe(10);
  });
});

describe("what is left for a run", () => {
  const run: Budget = { usd: 1, per: "run" };
  it.each<[string, Budget[], number | undefined]>([
    ["without a budget", [{ usd: 1, per: "day" }], undefined],
    ["with one", [{ usd: 9, per: "day" }, run], 0.25],
    ["that is used up", [{ usd: 0.5, per: "run" }], 0],
  ])("%s", (_name, budgets, freeUsd) => {
    expect(freeOfRun(budgets, { usd: 0.5, reservedUsd: 0.25 })?.freeUsd).toBe(freeUsd);
  });
});

describe("the reason", () => {
  it.each<[Parameters<typeof budgetReason>, string]>([
    [
      [{ freeUsd: 0, budget: { usd: 20, per: "day" }, until: nextDay }],
      "The budget of 20.00 USD per day is used up, costs being estimated until the answers are there. It starts afresh at 2026-12-01 00:00 UTC; raise it to go on earlier.",
    ],
    [
      [{ freeUsd: 0.01234, budget: { usd: 20, per: "total" } }, 3.5],
      "The budget of 20.00 USD in all has 0.012 USD left, and about 3.50 USD is wanted, costs being estimated until the answers are there. Raise the budget to go on.",
    ],
    [
      [{ freeUsd: 0.00000012, budget: { usd: 0.001, per: "run" } }, 0.0000005],
      "The budget of 0.0010 USD per run has 0.00000012 USD left, and about 0.00000050 USD is wanted, costs being estimated until the answers are there. Raise the budget to go on.",
    ],
  ])("%j", (given, sentence) => {
    expect(budgetReason(...given)).toBe(sentence);
  });
});
