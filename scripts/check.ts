/**
 * All static checks, one after the other, with a verdict for each: a failing check does not hide the next one.
 * Names as arguments run only those: `npm run check -- lint knip`.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const all = ["typecheck", "lint", "format:check", "knip", "lint:package"];

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`unknown check ${unknown.join(", ")}; there are ${all.join(", ")}`);
  process.exit(2);
}

const failed: string[] = [];
for (const name of asked.length > 0 ? asked : all) {
  const startedAt = performance.now();
  const { status, stdout, stderr } = spawnSync("npm", ["run", "--silent", name], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32",
    maxBuffer: 64 * 1024 * 1024,
  });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  if (status === 0) continue;
  failed.push(name);
  console.log(`${stdout}${stderr}`.trim());
}
if (failed.length > 0) {
  console.error(`\n${failed.length} of ${asked.length > 0 ? asked.length : all.length} checks failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}
