import type { Logger } from "../core/log.ts";

const levels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof levels)[number];

/** Lines on stderr, from `level` up. */
export function consoleLogger(level: LogLevel): Logger {
  const write = (at: LogLevel) => (message: string) => {
    if (levels.indexOf(at) >= levels.indexOf(level)) process.stderr.write(`gembatch ${at}: ${message}\n`);
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

export function isLogLevel(value: unknown): value is LogLevel {
  return levels.includes(value as LogLevel);
}
