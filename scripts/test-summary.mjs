/**
 * Prints `N passed, N failed, N skipped` from a vitest JSON report. Plain JavaScript for any Node, since it has to
 * answer even when the installation failed. A file that failed without a failing test (it did not load, a hook
 * threw) counts as one failure; so does a missing or empty report.
 *
 * `node scripts/test-summary.mjs out/tests.json`
 */
import { readFileSync } from "node:fs";

function summarise(report) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of report.testResults ?? []) {
    const tests = file.assertionResults ?? [];
    for (const { status } of tests) {
      if (status === "passed") counts.passed += 1;
      else if (status === "failed") counts.failed += 1;
      else counts.skipped += 1;
    }
    if (file.status === "failed" && !tests.some(({ status }) => status === "failed")) counts.failed += 1;
  }
  if (counts.passed + counts.failed + counts.skipped === 0) counts.failed = 1;
  return counts;
}

function read(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return {};
  }
}

const { passed, failed, skipped } = summarise(read(process.argv[2] ?? "out/tests.json"));
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;
