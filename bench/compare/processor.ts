/**
 * Processor time of other processes, as Linux counts it. Elsewhere: not known.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

interface Process {
  name: string;
  parent: number;
  /** Ticks of its own. */
  own: number;
  /** Ticks of its children that have ended. */
  ended: number;
}

const ticksPerSecond = 100;

function look(pid: number): Process | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name stands in parentheses and may hold anything.
    const rest = text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number);
    const at = (field: number) => rest[field - 3] ?? 0;
    const name = text.slice(text.indexOf("(") + 1, text.lastIndexOf(")"));
    return { name, parent: at(4), own: at(14) + at(15), ended: at(16) + at(17) };
  } catch {
    return undefined;
  }
}

/** Seconds of this process and of its children, living and ended, since they began. Undefined where it cannot be known. */
export function processorSeconds(pid: number): number | undefined {
  const root = look(pid);
  if (root === undefined) return undefined;
  let ticks = root.own + root.ended;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const process = look(Number(entry));
    if (process?.parent === pid) ticks += process.own + process.ended;
  }
  return ticks / clockTicks();
}

let known: number | undefined;
function clockTicks(): number {
  if (known === undefined) {
    try {
      known = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));
    } catch {
      known = ticksPerSecond;
    }
  }
  return known;
}

/** The server that a Postgres backend belongs to, when both are processes of this machine. */
export function serverOf(backend: number): number | undefined {
  const process = look(backend);
  if (process === undefined || !process.name.startsWith("postgres")) return undefined;
  return process.parent;
}
