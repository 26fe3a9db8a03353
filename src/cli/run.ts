import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { GembatchError } from "../core/errors.ts";
import { runTransitions } from "../core/states.ts";
import { runEmulatorCommand } from "../emulator.ts";
import { Gembatch, type CostDimension, type RunRecord } from "../index.ts";
import { loadConfig } from "./config.ts";
import { runDoctorCommand } from "./doctor/command.ts";
import { runInitCommand } from "./init/command.ts";
import { processIo } from "./init/io.ts";
import { batchesText, costsText, lanesText, runsText, statusText } from "./text.ts";
import { runWorkerCommand } from "./worker.ts";

const help = `gembatch: LLM prompt chains at batch prices

Usage
  gembatch worker               runs the chains of gembatch.config.ts; --help for its options
  gembatch status               how runs, requests and batches stand, with tokens and money
  gembatch runs                 the newest runs; --state failed, --chain NAME, --limit N
  gembatch batches              the newest batches and their jobs; --held
  gembatch lanes                the queues, and why one of them waits
  gembatch costs                what answers cost; --by day,chain,provider,model,tier --since 2026-12-01
  gembatch retry ID...          let held and failed runs go on from where they stopped; --afresh from their start
  gembatch cancel ID...         end runs; what is in a job is paid and ignored; --tree with all that they started
  gembatch hold ID...           stop runs until they are retried
                                (retry, cancel and hold also take --chain NAME, --state STATE, or both, instead of ids)
  gembatch release ID...        create the jobs of held batches again
  gembatch init                 make a Firebase project ready; --help for its options
  gembatch doctor               look at everything that is needed, and say how to mend it; --help for its options
  gembatch emulator             a local server that speaks the Gemini batch API; --help for its options

Options
  --store URL    default: the store of the config, else GEMBATCH_STORE, else sqlite:.gembatch/gembatch.db
  --config FILE  default: gembatch.config.ts, .mts, .js or .mjs in this folder, if there is one
  --json         machine-readable output
  --help, --version
`;

/** Runs one command; resolves with the exit code: 0 done, 1 failed, 2 the command line was wrong. */
export async function runCli(args: string[], out: (text: string) => void = (text) => process.stdout.write(text)): Promise<number> {
  const [command, ...rest] = args;
  if (command === "emulator") return runEmulatorCommand(rest);
  try {
    if (command === "worker") return await runWorkerCommand(rest, out);
    if (command === "init") return await runInitCommand(rest, processIo(out));
    if (command === "doctor") return await runDoctorCommand(rest, processIo(out));
    return await runStoreCommand(args, out);
  } catch (error) {
    const usage = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
    process.stderr.write(`gembatch: ${error instanceof Error ? error.message : String(error)}\n`);
    if (usage || (GembatchError.is(error) && error.code === "invalid_option")) return 2;
    return 1;
  }
}

async function runStoreCommand(args: string[], out: (text: string) => void): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      store: { type: "string" },
      config: { type: "string" },
      json: { type: "boolean" },
      state: { type: "string" },
      chain: { type: "string" },
      limit: { type: "string" },
      by: { type: "string" },
      since: { type: "string" },
      until: { type: "string" },
      held: { type: "boolean" },
      tree: { type: "boolean" },
      afresh: { type: "boolean" },
      help: { type: "boolean", short: "h" },
      version: { type: "boolean", short: "v" },
    },
  });
  const [command, ...ids] = positionals;
  if (values.version) {
    out(`${await readVersion()}\n`);
    return 0;
  }
  if (values.help || command === undefined) {
    out(help);
    return values.help ? 0 : 2;
  }
  const state = checkState(values.state);
  await using gembatch = await openGembatch(values);
  checkStoreExists(gembatch.info.store);
  const show = (value: unknown, text: string) => out(values.json ? `${JSON.stringify(value)}\n` : text);
  const limit = values.limit === undefined ? 20 : Number(values.limit);
  switch (command) {
    case "status": {
      const stats = await gembatch.stats();
      show(stats, statusText(stats));
      return 0;
    }
    case "runs": {
      const filter = {
        limit,
        ...(state === undefined ? {} : { state }),
        ...(values.chain === undefined ? {} : { chain: values.chain }),
      };
      const { items } = await gembatch.runs.list(filter);
      show(items, runsText(items));
      return 0;
    }
    case "batches": {
      const { items } = await gembatch.batches.list({ limit, ...(values.held ? { held: true } : {}) });
      show(items, batchesText(items));
      return 0;
    }
    case "lanes": {
      const lanes = await gembatch.lanes.list();
      show(lanes, lanesText(lanes));
      return 0;
    }
    case "costs": {
      const { by, since, until } = values;
      const lines = await gembatch.costs({
        by: (by === undefined ? [] : by.split(",")) as CostDimension[],
        ...(since === undefined ? {} : { since }),
        ...(until === undefined ? {} : { until }),
      });
      show(lines, costsText(lines));
      return 0;
    }
    case "retry":
    case "cancel":
    case "hold": {
      const filter = { ...(state === undefined ? {} : { state }), ...(values.chain === undefined ? {} : { chain: values.chain }) };
      const byFilter = Object.keys(filter).length > 0;
      if (byFilter === ids.length > 0) {
        throw new GembatchError("invalid_option", `gembatch ${command} needs either the ids of runs, or --chain or --state.`);
      }
      const selection = byFilter ? filter : ids;
      const changed =
        command === "retry"
          ? await gembatch.runs.retry(selection, { afresh: values.afresh ?? false })
          : command === "cancel"
            ? await gembatch.runs.cancel(selection, { tree: values.tree ?? false })
            : await gembatch.runs.hold(selection);
      const outcome = { retry: "go on", cancel: "are cancelled", hold: "are held" }[command];
      show(changed, `${changed.length}${byFilter ? "" : ` of ${ids.length}`} runs ${outcome}.\n`);
      return byFilter || changed.length >= ids.length ? 0 : 1;
    }
    case "release": {
      if (ids.length === 0) throw new GembatchError("invalid_option", "gembatch release needs the ids of batches.");
      const changed = await gembatch.batches.release(ids);
      show(changed, `${changed.length} of ${ids.length} batches are sent again, unless their job turns up.\n`);
      return changed.length === ids.length ? 0 : 1;
    }
    default:
      throw new GembatchError("invalid_option", `Unknown command "${command}".`, { hint: "gembatch --help lists them." });
  }
}

/** The instance of the config, unless a store is named. */
async function openGembatch({ store, config: file }: { store?: string; config?: string }): Promise<Gembatch> {
  if (store !== undefined && file !== undefined)
    throw new GembatchError("invalid_option", "--store and --config exclude each other: a config names its store.");
  const config = store === undefined ? await loadConfig(file) : undefined;
  return config?.gembatch ?? new Gembatch({ ...(store === undefined ? {} : { store }), autoWorker: false });
}

function checkState(state: string | undefined): RunRecord["state"] | undefined {
  if (state === undefined || state in runTransitions) return state as RunRecord["state"] | undefined;
  throw new GembatchError("invalid_option", `Unknown state "${state}".`, { hint: `Known: ${Object.keys(runTransitions).join(", ")}.` });
}

/** Looking must not create an empty store where none is. */
function checkStoreExists(url: string): void {
  const path = /^sqlite:(?:\/\/)?(?!:memory:)(.+)$/.exec(url)?.[1];
  if (path === undefined || existsSync(path)) return;
  throw new GembatchError("store_unavailable", `There is no store at ${path}.`, {
    hint: "Run it in the folder of your program, or name the store with --store or GEMBATCH_STORE.",
  });
}

async function readVersion(): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  return version;
}
