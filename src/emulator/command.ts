/**
 * `npx gembatch emulator`.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { checkFaults, faultNames, type Fault } from "./faults.ts";
import type { EmulatorOptions } from "./options.ts";
import { startEmulator, type Emulator } from "./server.ts";

const usualPort = 8787;

const help = `Usage: gembatch emulator [options]

Runs a local server that speaks the Gemini Developer API (files, batch jobs, direct calls), Vertex AI (batch prediction jobs, direct calls),
and what those need of Cloud Storage and BigQuery. It asks no model and costs nothing.

  --port <number>         Port on 127.0.0.1, 0 for a free one (default ${usualPort})
  --turnaround <time>     From a job's creation to its end: 2s, 500ms, 10m, or a range 1s-5s (default 200ms-600ms)
  --api-key <key>         Refuse every other key (default: accept any)
  --seed <text>           Same seed, same answers and faults (default "emulator")
  --fault <name[=value]>  Switch a fault on; may be repeated. Values: a probability (0.1), or settings (times:2,after:1,match:r7)
  --upstream <url>        Answer from an OpenAI-compatible server, e.g. http://127.0.0.1:11434/v1
  --upstream-model <name> The model to ask there (default: the one asked for). Its key: UPSTREAM_API_KEY
  --dir <folder>          Where uploads and outputs are kept (default: a temporary folder)
  --verbose               Print a line for every call
  --help                  Print this

Faults: ${faultNames.join(", ")}
`;

/** Where the command writes, and how it is told to stop. Defaults: the process and its signals. */
export interface CommandIo {
  out?: (text: string) => void;
  error?: (text: string) => void;
  /** Stops the emulator, in place of Ctrl-C and SIGTERM. */
  signal?: AbortSignal;
  /** Called once it listens. */
  started?: (emulator: Emulator) => void;
}

/** Runs until it is stopped. Resolves with the exit code: 0, 1 when it could not start, 2 for a wrong argument. */
export async function runEmulatorCommand(args: readonly string[], io: CommandIo = {}): Promise<number> {
  const out = io.out ?? ((text) => void process.stdout.write(text));
  const fail = io.error ?? ((text) => void process.stderr.write(text));
  let options: EmulatorOptions | "help";
  try {
    options = readArguments(args, out);
  } catch (error) {
    fail(`gembatch emulator: ${error instanceof Error ? error.message : String(error)}\nSee gembatch emulator --help.\n`);
    return 2;
  }
  if (options === "help") {
    out(help);
    return 0;
  }
  let emulator: Emulator;
  try {
    emulator = await startEmulator(options);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const port = options.port ?? usualPort;
    if (code === "EADDRINUSE")
      fail(`gembatch emulator: port ${port} is in use. Stop what listens there, or choose another with --port (0 takes a free one).\n`);
    else if (code === "EACCES") fail(`gembatch emulator: port ${port} may not be used by this user. Choose one above 1023 with --port.\n`);
    else fail(`gembatch emulator: ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  }
  out(
    `Gemini emulator on ${emulator.url} (Ctrl-C to stop)\n\n` +
      `  export GOOGLE_GEMINI_BASE_URL=${emulator.url} GEMINI_API_KEY=${options.apiKey === undefined ? "emulator" : "<the key>"}\n\n` +
      `Vertex AI, Cloud Storage and BigQuery, at the same address:\n\n` +
      `  export GOOGLE_VERTEX_BASE_URL=${emulator.url} STORAGE_EMULATOR_HOST=${emulator.url} BIGQUERY_EMULATOR_HOST=${emulator.url}\n\n` +
      `State: ${emulator.url}/   Ledger: ${emulator.url}/__emulator/ledger\n`,
  );
  io.started?.(emulator);
  await stopped(io.signal);
  await emulator.close();
  out("\nStopped.\n");
  return 0;
}

function stopped(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal) {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
      return;
    }
    const stop = () => {
      // A second Ctrl-C ends the process at once.
      process.removeListener("SIGINT", stop);
      process.removeListener("SIGTERM", stop);
      resolve();
    };
    process.on("SIGINT", stop);
    process.on("SIGTERM", stop);
  });
}

/** The options that the arguments ask for. Throws an error for people. */
export function readArguments(args: readonly string[], out: (text: string) => void = () => undefined): EmulatorOptions | "help" {
  const { values } = parseArgs({
    args: [...args],
    allowPositionals: false,
    options: {
      port: { type: "string" },
      turnaround: { type: "string" },
      "api-key": { type: "string" },
      seed: { type: "string" },
      fault: { type: "string", multiple: true },
      upstream: { type: "string" },
      "upstream-model": { type: "string" },
      dir: { type: "string" },
      verbose: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) return "help";
  const port = Number(values.port ?? usualPort);
  if (!Number.isInteger(port) || port < 0 || port > 65_535 || values.port === "")
    throw new Error(`--port must be a number from 0 to 65535, not ${JSON.stringify(values.port)}.`);
  const model = values["upstream-model"];
  if (values.upstream !== undefined && !URL.canParse(values.upstream))
    throw new Error(`--upstream must be a URL, not ${JSON.stringify(values.upstream)}.`);
  if (model !== undefined && values.upstream === undefined) throw new Error("--upstream-model needs --upstream.");
  const apiKey = process.env.UPSTREAM_API_KEY;
  return {
    port,
    ...(values.turnaround === undefined ? {} : { turnaround: readTurnaround(values.turnaround) }),
    ...(values["api-key"] === undefined ? {} : { apiKey: values["api-key"] }),
    ...(values.seed === undefined ? {} : { seed: values.seed }),
    ...(values.dir === undefined ? {} : { dir: values.dir }),
    ...(values.upstream === undefined
      ? {}
      : { upstream: { baseUrl: values.upstream, ...(model === undefined ? {} : { model }), ...(apiKey === undefined ? {} : { apiKey }) } }),
    ...(values.verbose ? { log: (line: string) => out(`${line}\n`) } : {}),
    faults: checkFaults(Object.fromEntries((values.fault ?? []).map(readFault))),
  };
}

const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function readTime(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  if (!match)
    throw new Error(`--turnaround must be a time such as 500ms, 2s or 10m, or a range such as 1s-5s, not ${JSON.stringify(text)}.`);
  return Number(match[1]) * (unitMs[match[2] as string] as number);
}

function readTurnaround(text: string): number | { min: number; max: number } {
  const [from = "", to, ...more] = text.split("-");
  if (to === undefined) return readTime(from);
  const range = { min: readTime(from), max: readTime(to) };
  if (more.length > 0 || range.max < range.min) throw new Error(`--turnaround ${text}: write the shorter time first, such as 1s-5s.`);
  return range;
}

/** `name`, `name=0.1`, `name=times:2,after:1` or `name={"times":2}`. */
function readFault(text: string): [string, Fault] {
  const equals = text.indexOf("=");
  if (equals === -1) return [text, true];
  const name = text.slice(0, equals);
  const value = text.slice(equals + 1).trim();
  if (value === "true" || value === "false") return [name, value === "true"];
  if (value !== "" && Number.isFinite(Number(value))) return [name, Number(value)];
  if (value.startsWith("{")) return [name, JSON.parse(value) as Fault];
  const settings = value.split(",").map((part) => {
    const [key = "", ...rest] = part.split(":");
    const setting = rest.join(":");
    const known = ["rate", "times", "after", "match", "ms", "at", "code", "clean", "message"].includes(key);
    if (!known || rest.length === 0)
      throw new Error(`--fault ${text}: write a probability such as 0.1, or settings such as times:2,after:1.`);
    if (key === "match" || key === "message") return [key, setting];
    if (key === "clean") return [key, setting === "true"];
    if (!Number.isFinite(Number(setting)) || setting === "") throw new Error(`--fault ${text}: ${key} must be a number.`);
    return [key, Number(setting)];
  });
  return [name, Object.fromEntries(settings) as Fault];
}
