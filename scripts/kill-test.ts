/**
 * `npm run test:kill -- [--kills 200] [--store sqlite|postgres|firestore] [--seed N] [--keep]`: programs on one SQLite file, one Postgres schema or one Firestore are killed with SIGKILL
 * at random moments while a server of its own process counts what it is asked. Ends with 1, and the one command that repeats it, if a job was created twice, a
 * prompt paid twice, or an output lost or changed. The server is the one of `GEMBATCH_TEST_POSTGRES_URL` or `FIRESTORE_EMULATOR_HOST`, else one that is started for it.
 *
 * The seed decides the moments, the work and the server's answers and faults; what a process was doing at its moment is the machine's.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runKills, runUndisturbed, type KillCourse, type KillOptions } from "../test/process/kill-course.ts";
import { firestoreStores, postgresStores, sqliteStores } from "../test/process/kill-stores.ts";
import { unfinished, violationsOf } from "../test/process/kill-verdict.ts";
import { neededFirestore } from "../test/support/firestore-emulator.ts";
import { startPostgres } from "../test/support/postgres-server.ts";
import { dropSchema } from "../test/support/postgres-store.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string" },
    store: { type: "string", default: "sqlite" },
    seed: { type: "string" },
    keep: { type: "boolean" },
  },
});
if (!["sqlite", "postgres", "firestore"].includes(values.store)) {
  console.error(`--store must be sqlite, postgres or firestore, not ${JSON.stringify(values.store)}.`);
  process.exit(2);
}
const kills = whole(values.kills ?? "200", "--kills");
const seed = whole(values.seed ?? String(Date.now() % 1_000_000), "--seed");
const again = `npm run test:kill -- --kills ${kills} --seed ${seed}${values.store === "sqlite" ? "" : ` --store ${values.store}`}`;
const folder = mkdtempSync(join(tmpdir(), "gembatch-kill-"));
const server = values.store === "postgres" ? await startPostgres() : undefined;
const emulator = values.store === "firestore" ? await neededFirestore() : undefined;
if (emulator) process.env["FIRESTORE_EMULATOR_HOST"] = emulator.host;
const schemas: string[] = [];
const options: KillOptions = {
  stores: emulator ? firestoreStores : server ? postgresStores(server.url, schemas) : sqliteStores(folder),
  // One machine has a file to itself; a database is there for many.
  programs: values.store === "sqlite" ? 2 : 4,
  kills,
  seed,
  runs: 5,
  killsPerWave: 4,
  turnaround: "300ms-1500ms",
  // Each makes a moment longer in which a kill leaves something open: before the job exists, while it exists and nobody was told, while it exists and is
  // not in the list; or leaves it open itself.
  faults: [
    'latency={"match":"batches.create","rate":0.3,"ms":300}',
    "createAnswerSlow=rate:0.6,ms:600",
    "listLag=rate:0.5,ms:900",
    "createAnswerLost=rate:0.06",
    'connectionLost={"match":"batches.create","rate":0.06}',
  ],
  folder,
  onProgress: (line) => console.log(`  ${line}`),
};

console.log(`${kills} kills on ${values.store}, seed ${seed}`);
const startedAt = performance.now();
const course = await runKills(options);
console.log(`  killed enough; the same work undisturbed`);
const oracle = await runUndisturbed(options, course.waves);
const violations = [
  ...(oracle.ended ? [] : ["The undisturbed program did not come to its end either: what follows says little about kills."]),
  ...violationsOf(course, oracle),
];
console.log(summary(course, performance.now() - startedAt));

if (violations.length > 0) {
  console.error(`\nBroken promises:\n${violations.map((violation) => `  ${violation}`).join("\n")}`);
  if (!course.ended) console.error(`  Unfinished batches: ${unfinished(course).join(", ") || "none"}`);
  console.error(`\n${left()} Again: ${again}`);
  process.exitCode = 1;
} else {
  console.log(`\nEvery promise was kept. Again: ${again}`);
  if (values.keep) console.log(left());
  else {
    rmSync(folder, { recursive: true });
    for (const schema of schemas) await dropSchema(schema);
  }
}
await server?.stop();
await emulator?.stop();

/** Where what is left can be looked at. */
function left(): string {
  if (emulator) return `Effects are in ${folder}; the stores went with their emulator.`;
  if (server === undefined) return `The stores are in ${folder}.`;
  if (server.pid === undefined) return `The stores are ${schemas.join(" and ")}; effects are in ${folder}.`;
  return `Effects are in ${folder}; the stores went with their server. On one that stays (GEMBATCH_TEST_POSTGRES_URL) they are kept.`;
}

function summary({ ledger, runs, ...course }: KillCourse, ms: number): string {
  const tokens = new Set(ledger.jobs.map(({ displayName }) => displayName));
  const { starting, working, launching } = course.moments;
  const line = (name: string, text: string) => `  ${name.padEnd(16)}${text}`;
  return [
    "",
    line("kills", `${course.kills}: ${starting} while starting, ${working} at work, ${launching} right after a job was asked for`),
    line("runs", `${runs.length} in ${course.waves} waves, ${runs.filter(({ state }) => state === "completed").length} completed`),
    line("jobs", `${ledger.totals.jobs} for ${tokens.size} batches: ${ledger.totals.jobs - tokens.size} duplicates`),
    line("launches", `${course.adopted} adopted after a kill, ${course.repeated} sent again because no job had come of them`),
    line("prompts", `${ledger.totals.sentRows} sent, ${ledger.totals.billedRows} billed, ${ledger.paidTwice.length} paid twice`),
    line("steps", `${course.effects.length} executions, ${course.repeatedSteps} of them a second time`),
    line(
      "faults",
      Object.entries(ledger.faults)
        .map(([name, count]) => `${name} ${count}`)
        .join(", ") || "none",
    ),
    line("time", `${Math.round(ms / 1_000)} s`),
  ].join("\n");
}

function whole(text: string, name: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  console.error(`${name} must be a whole number from 1, not ${JSON.stringify(text)}.`);
  process.exit(2);
}
