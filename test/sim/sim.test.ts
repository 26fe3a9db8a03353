import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { crashEverywhere } from "../../src/testing.ts";
import { everyNth } from "../support/thorough.ts";
import { catchMutation } from "./catch-mutation.ts";
import { checkMutation, findMutation, hiding, mutate, mutations } from "./mutations.ts";
import { expectedRuns } from "./oracle.ts";
import type { ProviderPlan } from "./plan.ts";
import { answerTo } from "./service.ts";
import { simulate, SimulationError, type Outcome } from "./simulate.ts";
import { defineWorkload } from "./workload.ts";

const courses = new Map<number, Promise<Outcome>>();

/** A seed's outcome, simulated once for all tests. */
function course(seed: number): Promise<Outcome> {
  const known = courses.get(seed) ?? simulate(seed);
  courses.set(seed, known);
  return known;
}

describe("the whole system in virtual time", { timeout: 120_000 }, () => {
  it("keeps every promise, whatever goes wrong", async () => {
    const total = { crashes: 0, freezes: 0, jobs: 0, directCalls: 0, resumedTurns: 0 };
    for (let seed = 1; seed <= 4; seed += 1) {
      const outcome = await course(seed);
      for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += outcome[key];
    }
    expect(total.crashes).toBeGreaterThan(20);
    expect(total.freezes).toBeGreaterThan(5);
    expect(total.jobs).toBeGreaterThan(50);
    expect(total.directCalls).toBeGreaterThan(50);
    expect(total.resumedTurns).toBeGreaterThan(10);
  });

  it("keeps them where deadlines take prompts out of jobs that are late", async () => {
    // Most jobs are quick, so that prompts with a deadline are put into one; some are not.
    const change = ({ provider }: { provider: ProviderPlan }) => Object.assign(provider, { turnaroundMs: [5_000, 150_000] });
    let moved = 0;
    for (const seed of [4, 8]) moved += (await simulate(seed, { change })).moved;
    expect(moved).toBeGreaterThan(0);
  });

  it("keeps them on a store whose answers are lost, where no crash frees what nobody knows of", async () => {
    const calm = { crash: 0, freeze: 0, freezeSending: 0 };
    const outcome = await simulate(1, { change: (plan) => Object.assign(plan, { ...calm, storeAnswerLost: 0.02 }) });
    expect(outcome.crashes + outcome.freezes).toBe(0);
  });

  it("takes the same course under the same seed", async () => {
    const first = await course(3);
    expect(await simulate(3)).toEqual(first);
    expect((await course(4)).digest).not.toBe(first.digest);
  });

  it("delivers one answer even where the provider hides a job for so long that a second one is made, and finds the hidden one", async () => {
    const { duplicateJobs } = await simulate(1, { change: hiding });
    expect(duplicateJobs).toBeGreaterThan(0);
  });

  it("says what was broken, and shows how it came about", async () => {
    const change = ({ provider }: { provider: ProviderPlan }) =>
      Object.assign(provider, { createUnanswered: 1, createHidden: 0, listLagMs: 600_000 });
    const error = await simulate(1, { change }).then(
      () => undefined,
      (thrown: unknown) => thrown as SimulationError,
    );
    expect(error).toBeInstanceOf(SimulationError);
    expect(error).toMatchObject({
      seed: 1,
      invariant: "one job for a batch",
      message: expect.stringMatching(/^Seed 1: one job for a batch: /) as string,
    });
    expect(error!.trace.join("\n")).toMatch(/service job batches/);
  });

  it("comes to the same when its one process is killed anywhere", async () => {
    const outside = { draw: () => 0, work: async () => {}, onStep: () => {} };
    const figures = await crashEverywhere(
      (gembatch) => {
        const roots = defineWorkload(gembatch, outside, 1);
        return async () => {
          for (const root of roots) await root.begin({ priority: 0 });
        };
      },
      undefined,
      {
        every: everyNth(40, 10),
        answer: (prompt, _row, { method }) => {
          if (method === "embedContent") return { response: { embedding: { values: [prompt.length, 1, 0] } } };
          return prompt.includes("[refused]") ? { error: { code: 3, message: "refused" } } : answerTo(prompt);
        },
        normalize: (output, { chain }) => (chain === "racer" ? "raced" : output),
      },
    );
    expect(figures.runs).toBeGreaterThan(15);
    expect(figures.prompts).toBeGreaterThan(30);
  });
});

describe("the oracle", () => {
  it("knows what every run must come to", async () => {
    const expected = await expectedRuns(2);
    expect(expected.size).toBe(2 * 15);
    expect(expected.get("line-0")).toEqual({ output: expect.any(String) as string });
    expect(expected.get("catcher-1")).toEqual({
      output: { child: expect.stringMatching(/^failed on purpose/) as string, refused: "request_failed" },
    });
  });
});

describe("a guard that is taken out", { timeout: 120_000 }, () => {
  it.each(mutations.map(({ name }) => name))("%s fits the source", (name) => {
    const mutation = findMutation(name);
    checkMutation(mutation);
    expect(mutation.why).not.toBe("");
    const { file, find } = mutation.patches[0]!;
    const source = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
    expect(mutate(mutation, file, source)).not.toBe(source);
    expect(() => mutate(mutation, file, source.replace(find, ""))).toThrow(`Mutation ${name}: `);
    expect(() => mutate(mutation, file, `${source}${find}`)).toThrow("2 times");
  });

  // All of them: npm run test:sim -- --mutations
  it.each(["no-reconcile", "no-batch-lease"])("%s is noticed", async (name) => {
    expect(await catchMutation(findMutation(name))).toMatch(/^Seed \d+: /);
  });
});
