import { describe, GembatchError } from "./errors.ts";

/** Milliseconds, or a number with a unit: `"50ms"`, `"2s"`, `"15m"`, `"24h"`, `"7d"`. */
export type Duration = number | `${number}${"ms" | "s" | "m" | "h" | "d"}`;

/** A hundred years: an instant beyond is a mistake, and far beyond it no store can keep it. */
const maxMs = 36_525 * 86_400_000;

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** The duration in milliseconds. `name` is the option it came from, for the error. */
export function parseDuration(value: Duration, name: string): number {
  if (typeof value === "number") {
    if (value >= 0 && value <= maxMs) return value;
  } else if (typeof value === "string") {
    const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(value);
    const ms = match ? Number(match[1]) * unitMs[match[2] as keyof typeof unitMs] : Infinity;
    if (ms <= maxMs) return ms;
  }
  throw new GembatchError("invalid_option", `Option ${name} must be a duration, got ${describe(value)}.`, {
    hint: 'Write milliseconds as a number or a text such as "500ms", "30s", "15m" or "24h".',
  });
}

/** A duration for people: `85_000` is `"1m 25s"`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)}ms`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return ms < 10_000 ? `${(ms / 1_000).toFixed(1)}s` : `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m ${seconds % 60}s`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 === 0 ? `${hours}h` : `${hours}h ${minutes % 60}m`;
}
