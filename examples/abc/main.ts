/**
 * `npm start`: tasks A, B and C over thousands of films. The tasks are in task-a.ts, task-b.ts and task-c.ts.
 *
 * @module
 */
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Gembatch, GembatchError, type Logger } from "gembatch";
import { gemini } from "gembatch/gemini";
import { startDisplay, type Display } from "./display.ts";
import { connectEmulator, findEmulator, stopEmulator } from "./emulator.ts";
import { readFilms } from "./films.ts";
import { announceCost } from "./live.ts";
import { model } from "./model.ts";
import { help, readOptions, type Options } from "./options.ts";
import { field, number, Progress } from "./progress.ts";
import { emulated } from "./provider.ts";
import { results, tableOf, writeResults } from "./results.ts";
import { summaryOf } from "./summary.ts";
import { defineTasks } from "./tasks.ts";

/** What Ctrl-C has to leave in order. */
const open: { gembatch?: Gembatch; display?: Display; stopping?: true } = {};

async function main({ films: count, live, vertex, fresh }: Options): Promise<number> {
  const folder = `.gembatch/abc${live ? "-live" : vertex ? "-vertex" : ""}`;
  const apiKey = process.env["GEMINI_API_KEY"];
  if (live && !apiKey) throw new Error("--live needs a Gemini API key in GEMINI_API_KEY. Without --live a local emulator answers.");
  if (fresh) await startAnew(folder, live);
  mkdirSync(folder, { recursive: true });

  const emulator = live ? undefined : await connectEmulator(folder);
  await using gembatch = new Gembatch({
    store: `sqlite:${folder}/gembatch.db`,
    provider: emulator ? emulated(emulator, vertex) : gemini({ apiKey }),
    logger,
    ...(emulator ? { polling: { minInterval: "250ms" }, retry: { initialDelay: "500ms" } } : {}),
  });
  open.gembatch = gembatch;

  const tasks = defineTasks(gembatch);
  const films = await readFilms(count);
  const progress = new Progress(gembatch, tasks, films, live);
  const title = `${number(films.length)} films, tasks A, B and C, asked of ${live ? model : vertex ? "the emulator as Vertex AI" : "the emulator"}`;

  await retryFailures(gembatch);
  const { complete, stats } = await progress.read();
  if (complete) {
    console.log(`Done before: ${title}.\nNothing was asked again; npm start -- --fresh starts anew.`);
  } else {
    if (live) await announceCost(films.length);
    const { succeeded, batched } = stats.requests;
    if (succeeded + batched > 0)
      console.log(`Going on where it stopped: ${number(succeeded)} answers are here, ${number(batched)} prompts in jobs.`);
    open.display = startDisplay(progress, title);
    for (const task of tasks) await task.start(films);
    await gembatch.onIdle();
    await open.display.stop();
    open.display = undefined;
    console.log(`Done: ${title}.`);
  }

  const file = `${folder}/results.jsonl`;
  const { first, failed } = await writeResults(results(gembatch, tasks, films), file);
  const columns = (process.stdout.columns || 120) - 1;
  const summary = await summaryOf(gembatch, await progress.read({ exact: true }), columns);
  console.log(
    ["", ...tableOf(first, columns), "", ...summary, field("results", `${file} (${number(films.length)} lines)`, columns)].join("\n"),
  );
  if (emulator) stopEmulator(folder, emulator);
  if (failed > 0) console.log(`\nOf ${number(failed)} films a task failed; the file says why, and npm start tries them again.`);
  return failed > 0 ? 1 : 0;
}

/** Forgets the emulator's answers. Paid ones are put aside. */
async function startAnew(folder: string, live: boolean): Promise<void> {
  const emulator = live ? undefined : await findEmulator(folder);
  if (emulator) stopEmulator(folder, emulator);
  if (!existsSync(folder)) return;
  if (!live) {
    rmSync(folder, { recursive: true });
    return;
  }
  const aside = `${folder}-until-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}`;
  renameSync(folder, aside);
  console.log(`The answers so far were put aside in ${aside}.`);
}

/** What failed before gets another chance. */
async function retryFailures(gembatch: Gembatch): Promise<void> {
  for (const state of ["failed", "held"] as const) {
    const { items } = await gembatch.runs.list({ state, limit: 1_000 });
    await gembatch.runs.retry(items.map(({ id }) => id));
  }
}

const say = (message: string): void => (open.display ? open.display.print(message) : console.error(message));
const logger: Logger = { debug() {}, info() {}, warn: say, error: say };

function stop(signal: NodeJS.Signals): void {
  const code = signal === "SIGINT" ? 130 : 143;
  // npm passes on a Ctrl-C that the terminal has sent already: the same one twice.
  if (open.stopping) {
    if (performance.now() - stoppedAt > 200) process.exit(code);
    return;
  }
  open.stopping = true;
  stoppedAt = performance.now();
  open.display?.abandon();
  console.log("\nStopped. Nothing is lost: all answers are kept, and jobs under way go on.\nnpm start goes on from here.");
  void Promise.race([open.gembatch?.close(), sleep(400)]).finally(() => process.exit(code));
}
let stoppedAt = 0;

function readArguments(): Options {
  try {
    const options = readOptions(process.argv.slice(2));
    if (options !== "help") return options;
    process.stdout.write(help);
    process.exit(0);
  } catch (error) {
    console.error(`${messageOf(error)}\nnpm start -- --help lists the options.`);
    process.exit(2);
  }
}

function messageOf(error: unknown): string {
  if (GembatchError.is(error) && error.code === "run_conflict") {
    return `${error.message} If you changed the prompts of task A: npm start -- --fresh starts anew with them.`;
  }
  return error instanceof Error ? error.message : String(error);
}

const options = readArguments();
// Whoever reads the output may stop reading: npm start | head.
process.stdout.on("error", () => process.exit(0));
process.on("SIGINT", stop);
process.on("SIGTERM", stop);
try {
  process.exitCode = await main(options);
} catch (error) {
  if (!open.stopping) {
    open.display?.abandon();
    console.error(messageOf(error));
    process.exitCode = 1;
  }
}
