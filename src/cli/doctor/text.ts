/** What was found, for people. */
import type { CheckResult, Found } from "./checks.ts";

const marks: Record<Found["state"], string> = { ok: "ok", warning: "warning", failed: "FAILED", skipped: "skipped" };

export function checkText({ title, state, note, mend }: CheckResult): string {
  return `  ${marks[state].padEnd(8)}${title}: ${note}\n${mend === undefined ? "" : `          -> ${mend}\n`}`;
}

export function verdictText(results: readonly CheckResult[]): string {
  const count = (state: Found["state"]) => results.filter((result) => result.state === state).length;
  const parts = [
    ["failed", count("failed")],
    [count("warning") === 1 ? "warning" : "warnings", count("warning")],
    ["skipped", count("skipped")],
  ].filter(([, n]) => n !== 0);
  return parts.length === 0
    ? `\nAll ${results.length} checks passed.\n`
    : `\n${results.length} checks: ${parts.map(([name, n]) => `${n} ${name}`).join(", ")}.\n`;
}
