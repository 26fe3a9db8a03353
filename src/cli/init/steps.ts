/**
 * A plan is a list of steps that each know whether they are needed. Doing one that is done already changes nothing.
 *
 * @module
 */
import { GembatchError } from "../../core/errors.ts";

export type Area = "files" | "cloud";

/** What a look at one step found. */
export interface Finding {
  state: "already" | "planned" | "by hand";
  /** What is there, what will be done, or what to do by hand: one line. */
  note?: string;
  /** Lines to show below it: what to paste, a command. */
  show?: string;
}

export interface Step {
  id: string;
  area: Area;
  title: string;
  /** Steps that must not have failed before this one. */
  needs?: readonly string[];
  /** Changes nothing. */
  look(): Promise<Finding>;
  apply(): Promise<void>;
}

export interface PlannedStep extends Finding {
  step: Step;
}

export interface Outcome {
  id: string;
  area: Area;
  title: string;
  state: "already" | "planned" | "by hand" | "done" | "failed" | "skipped";
  note?: string;
  show?: string;
  /** Why it failed. */
  error?: string;
}

export async function planSteps(steps: readonly Step[]): Promise<PlannedStep[]> {
  const planned: PlannedStep[] = [];
  for (const step of steps) planned.push({ step, ...(await step.look()) });
  return planned;
}

export function toOutcome({ step: { id, area, title }, state, note, show }: PlannedStep): Outcome {
  return { id, area, title, state, ...(note === undefined ? {} : { note }), ...(show === undefined ? {} : { show }) };
}

/** Does what is planned, in order. What fails keeps back only what needs it. */
export async function runSteps(planned: readonly PlannedStep[], report: (outcome: Outcome) => void): Promise<Outcome[]> {
  const failed = new Set<string>();
  const outcomes: Outcome[] = [];
  for (const one of planned) {
    const outcome = one.state === "planned" ? await runStep(one, failed) : toOutcome(one);
    if (outcome.state === "failed" || outcome.state === "skipped") failed.add(outcome.id);
    if (one.state === "planned") report(outcome);
    outcomes.push(outcome);
  }
  return outcomes;
}

async function runStep(planned: PlannedStep, failed: ReadonlySet<string>): Promise<Outcome> {
  const { step } = planned;
  const missing = (step.needs ?? []).filter((id) => failed.has(id));
  if (missing.length > 0) return { ...toOutcome(planned), state: "skipped", note: `needs ${missing.join(", ")}` };
  try {
    await step.apply();
    return { ...toOutcome(planned), state: "done" };
  } catch (error) {
    return { ...toOutcome(planned), state: "failed", error: messageOf(error) };
  }
}

export function messageOf(error: unknown): string {
  return GembatchError.is(error) || error instanceof Error ? error.message : String(error);
}
