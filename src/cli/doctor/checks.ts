/** What a check finds, and how one that cannot be made is told from one that fails. */
import { isDenied, isDisabled } from "../google/errors.ts";
import { messageOf } from "../init/steps.ts";

export interface Found {
  /** `warning`: works, or will in a while, but look at it. */
  state: "ok" | "warning" | "failed" | "skipped";
  note: string;
  /** One line that mends it. */
  mend?: string;
}

export interface CheckResult extends Found {
  id: string;
  title: string;
}

export interface Check {
  id: string;
  title: string;
  /** Changes nothing but an object of its own, which it removes. */
  look(): Promise<Found>;
}

export const ok = (note: string): Found => ({ state: "ok", note });
export const warning = (note: string, mend?: string): Found => ({ state: "warning", note, ...(mend === undefined ? {} : { mend }) });
export const failed = (note: string, mend: string): Found => ({ state: "failed", note, mend });

export async function runChecks(checks: readonly Check[]): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const check of checks) results.push({ id: check.id, title: check.title, ...(await lookSafely(check)) });
  return results;
}

async function lookSafely(check: Check): Promise<Found> {
  try {
    return await check.look();
  } catch (error) {
    if (isDisabled(error)) return { state: "skipped", note: "its API is not enabled" };
    if (isDenied(error)) return failed(`cannot be seen: ${messageOf(error)}`, "run this with credentials of an owner of the project");
    return failed(messageOf(error), "run this again; if it stays, look at the message");
  }
}
