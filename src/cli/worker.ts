import { parseArgs } from "node:util";
import { parseDuration, type Duration } from "../core/duration.ts";
import { GembatchError } from "../core/errors.ts";
import { loadConfig } from "./config.ts";

const help = `gembatch worker: runs the chains and handlers of gembatch.config.ts

Usage
  gembatch worker [options]

Options
  --config FILE        default: gembatch.config.ts, .mts, .js or .mjs in this folder
  --concurrency N      turns executed at once
  --grace DURATION     how long turns in hand may take after the first signal; default 10s
  --until-idle         end when no run is left that can go on by itself

SIGTERM and SIGINT (Ctrl-C) finish what is in hand, give everything else back and exit with 0. A second one exits at once.
`;

/** Works until a signal comes, or until nothing is left to do; resolves with the exit code. */
export async function runWorkerCommand(args: string[], out: (text: string) => void): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      config: { type: "string" },
      concurrency: { type: "string" },
      grace: { type: "string" },
      "until-idle": { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    out(help);
    return 0;
  }
  if (positionals.length > 0) throw new GembatchError("invalid_option", `gembatch worker takes no "${positionals.join(" ")}".`);
  const given = values.grace as Duration | undefined;
  if (given !== undefined) parseDuration(given, "--grace");
  const signals = listen();
  try {
    const config = await loadConfig(values.config);
    if (!config) {
      throw new GembatchError("invalid_option", "gembatch worker needs a gembatch.config.ts in this folder, or --config FILE.", {
        hint: "It exports your instance and imports your chains: export default defineConfig({ gembatch });",
      });
    }
    await using gembatch = config.gembatch;
    const concurrency = values.concurrency === undefined ? config.worker?.concurrency : Number(values.concurrency);
    const grace = given ?? config.worker?.grace;
    const worker = gembatch.worker(concurrency === undefined ? {} : { concurrency });
    await worker.start();
    out(`${startText(gembatch.info)}\n`);
    const stop = new AbortController();
    const idle = values["until-idle"] ? gembatch.onIdle({ signal: stop.signal }).then(() => "nothing is left to do") : undefined;
    const reason = await Promise.race(idle ? [signals.first, idle] : [signals.first]);
    stop.abort();
    await idle?.catch(() => {});
    await worker.stop(grace === undefined ? {} : { grace });
    out(`The worker has stopped: ${reason}.\n`);
    return 0;
  } finally {
    signals.dispose();
  }
}

function startText({
  store,
  providers,
  chains,
  handlers,
}: {
  store: string;
  providers: string[];
  chains: string[];
  handlers: string[];
}): string {
  return `The worker runs on ${store} with ${providers.join(", ")}. Chains: ${namesText(chains)}. Handlers: ${namesText(handlers)}.`;
}

function namesText(names: readonly string[]): string {
  const shown = names.slice(0, 20).join(", ");
  return names.length > 20 ? `${shown} and ${names.length - 20} more` : shown || "none";
}

const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

/** The first signal, as a reason to stop; a second one ends the process. */
function listen(): { first: Promise<string>; dispose: () => void } {
  const { promise, resolve } = Promise.withResolvers<string>();
  let heard = false;
  const onSignal = (signal: keyof typeof exitCodes) => {
    if (heard) process.exit(exitCodes[signal]);
    heard = true;
    resolve(signal);
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);
  return {
    first: promise,
    dispose: () => {
      for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, onSignal);
    },
  };
}
