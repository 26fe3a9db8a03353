import type { Chance } from "./chance.ts";
import type { FaultBox } from "./faults.ts";
import { expiryMs, type JobPlan } from "./jobs.ts";
import type { EmulatorOptions, TurnaroundInfo } from "./options.ts";

/** Decides at creation how a job will go: its instants, its end, and the job faults that strike it. */
export function planJob(job: TurnaroundInfo, createdAt: number, options: EmulatorOptions, faults: FaultBox, chance: Chance): JobPlan {
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
  if (length > expiryMs) return { ...plan, endsAt: createdAt + expiryMs, fate: "EXPIRED" };
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
