import type { Chance } from "./chance.ts";
import type { FaultBox } from "./faults.ts";
import { expiryMs, type JobPlan } from "./jobs.ts";
import type { EmulatorOptions, TurnaroundInfo } from "./options.ts";

/** Decides at creation how a job will go: its instants, its end, and the job faults that strike it. */
export function planJob(
  job: TurnaroundInfo,
  createdAt: number,
  options: EmulatorOptions,
  faults: FaultBox,
  chance: Chance,
  expiry = expiryMs,
): JobPlan {
  const turnaround = options.turnaround ?? { min: 200, max: 600 };
  const drawn = chance();
  const ms =
    typeof turnaround === "number"
      ? turnaround
      : typeof turnaround === "function"
        ? turnaround(job)
        : turnaround.min + Math.floor(drawn * (turnaround.max - turnaround.min + 1));
  const length = Math.max(0, ms);
  const strikes = (name: "stuck" | "jobFails" | "jobExpires" | "jobCancelledOutside" | "lateOutputFile" | "listLag" | "cancelledLater") =>
    faults.hit(name, job.displayName);
  const lag = strikes("listLag");
  const late = strikes("lateOutputFile");
  const revival = strikes("cancelledLater");
  const plan: JobPlan = {
    runsAt: createdAt + length * (options.pendingFraction ?? 0.3),
    endsAt: createdAt + length,
    fate: "SUCCEEDED",
    error: undefined,
    outputDelayMs: late ? (late.ms ?? 1_000) : 0,
    listedAt: lag ? createdAt + (lag.ms ?? 1_000) : createdAt,
    revivesAfterMs: revival && (revival.ms ?? 1_000),
  };
  if (strikes("stuck")) return { ...plan, fate: "STUCK" };
  if (length > expiry) return { ...plan, endsAt: createdAt + expiry, fate: "EXPIRED" };
  if (strikes("jobExpires")) return { ...plan, fate: "EXPIRED" };
  const failure = strikes("jobFails");
  if (failure) {
    return {
      ...plan,
      fate: "FAILED",
      error: { code: failure.code ?? 13, message: failure.message ?? "An internal error has occurred. Retrying may solve the problem." },
    };
  }
  if (strikes("jobCancelledOutside")) return { ...plan, endsAt: createdAt + (plan.runsAt - createdAt + length) / 2, fate: "CANCELLED" };
  return plan;
}

const hourMs = 3_600_000;
/** Vertex: so long a job waits at most, and so long it runs. */
const longestWaitMs = 72 * hourMs;
const longestRunMs = 24 * hourMs;

/** The same for a Vertex job: also how many rows it has written at its end. `failure`: why its input or output cannot be used. */
export function planVertexJob(
  job: TurnaroundInfo,
  createdAt: number,
  options: EmulatorOptions,
  faults: FaultBox,
  chance: Chance,
  failure: JobPlan["error"],
): { plan: JobPlan; rowsKept: number } {
  const plan = planJob(job, createdAt, options, faults, chance, Infinity);
  const { rows } = job;
  const none = (change: Partial<JobPlan>) => ({ plan: { ...plan, ...change }, rowsKept: 0 });
  if (plan.fate === "STUCK") return none({});
  if (plan.runsAt - createdAt > longestWaitMs) {
    const at = createdAt + longestWaitMs;
    return none({ runsAt: at, endsAt: at, fate: "EXPIRED" });
  }
  const forced = faults.hit("importFails", job.displayName);
  const error = failure ?? (forced && { code: 3, message: forced.message ?? importMessage("the schema could not be read") });
  // Inputs are imported before a job runs.
  if (error) return none({ endsAt: plan.runsAt, fate: "FAILED", error });
  if (plan.fate === "EXPIRED") return none({ runsAt: plan.endsAt });
  if (plan.fate === "FAILED") return none({});
  if (plan.fate === "CANCELLED") return { plan, rowsKept: Math.floor(rows / 2) };
  const run = plan.endsAt - plan.runsAt;
  if (run > longestRunMs) {
    return { plan: { ...plan, endsAt: plan.runsAt + longestRunMs, fate: "CANCELLED" }, rowsKept: Math.floor((rows * longestRunMs) / run) };
  }
  const partial = faults.hit("partialSuccess", job.displayName);
  if (partial) {
    const at = partial.at ?? 0.5;
    return { plan: { ...plan, fate: "PARTIALLY_SUCCEEDED" }, rowsKept: Math.min(rows, Math.floor(at < 1 ? rows * at : at)) };
  }
  return { plan, rowsKept: rows };
}

/** What a job says whose input the importer refuses. */
export function importMessage(reason: string): string {
  return `Failed to import data: ${reason}.`;
}
