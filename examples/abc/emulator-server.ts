/**
 * The emulator as a process of its own: like the real service it goes on with its jobs while nobody looks. `emulator.ts` starts it.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { startEmulator } from "gembatch/emulator";
import { answer } from "./answers.ts";

const [infoFile = ""] = process.argv.slice(2);
const patienceMs = 10 * 60_000;

const apiKey = randomBytes(16).toString("hex");
// Larger jobs take longer: 3 seconds, and 4 more for every 10,000 prompts.
const emulator = await startEmulator({ apiKey, answer, turnaround: ({ rows }) => 3_000 + rows * 0.4, ledger: "counts" });
const info = JSON.stringify({ url: emulator.url, apiKey, pid: process.pid });
writeFileSync(`${infoFile}.new`, info, { mode: 0o600 });
renameSync(`${infoFile}.new`, infoFile);

async function stop(): Promise<void> {
  clearInterval(watch);
  // Another emulator may have taken this one's place.
  if (existsSync(infoFile) && readFileSync(infoFile, "utf8") === info) rmSync(infoFile, { force: true });
  await emulator.close();
}

let calls = 0;
let calledAt = Date.now();
const watch = setInterval(() => {
  const now = Object.values(emulator.ledger.calls).reduce((sum, count) => sum + count, 0);
  if (now !== calls) calledAt = Date.now();
  calls = now;
  if (Date.now() - calledAt > patienceMs) void stop();
}, 5_000);
process.once("SIGTERM", () => void stop());
