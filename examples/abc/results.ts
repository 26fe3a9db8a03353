import { createWriteStream } from "node:fs";
import { rename } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import type { Gembatch } from "gembatch";
import type { Film } from "./films.ts";
import { cut, pad, paint } from "./screen.ts";
import type { Task } from "./tasks.ts";

/** One line of the results: a film, what each task made of it, and what went wrong. */
export interface Result extends Film {
  outputs: Record<string, unknown>;
  errors?: Record<string, string>;
}

const pageSize = 200;

/** The results of all films, in their order, read page by page. */
export async function* results(gembatch: Gembatch, tasks: readonly Task[], films: readonly Film[]): AsyncGenerator<Result> {
  for (let from = 0; from < films.length; from += pageSize) {
    const page = films.slice(from, from + pageSize);
    yield* await Promise.all(page.map(async (film) => resultOf(gembatch, tasks, film)));
  }
}

async function resultOf(gembatch: Gembatch, tasks: readonly Task[], film: Film): Promise<Result> {
  const outputs: Record<string, unknown> = {};
  const errors: Record<string, string> = {};
  for (const task of tasks) {
    const runs = await Promise.all(task.runIds(film).map(async (id) => gembatch.runs.get(id)));
    const last = runs.at(-1);
    if (last?.state === "completed") outputs[task.name] = last.output;
    else errors[task.name] = runs.findLast((run) => run?.error)?.error?.message ?? "It has not ended.";
  }
  return { ...film, outputs, ...(Object.keys(errors).length === 0 ? {} : { errors }) };
}

/** Writes a line for each result; the file appears when it is complete. Returns the first few results and how many have errors. */
export async function writeResults(all: AsyncIterable<Result>, file: string): Promise<{ first: Result[]; failed: number }> {
  const first: Result[] = [];
  let failed = 0;
  const unfinished = `${file}.${process.pid}`;
  await pipeline(
    all,
    async function* (source: AsyncIterable<Result>) {
      for await (const result of source) {
        if (first.length < 10) first.push(result);
        if (result.errors) failed += 1;
        yield `${JSON.stringify(result)}\n`;
      }
    },
    createWriteStream(unfinished),
  );
  await rename(unfinished, file);
  return { first, failed };
}

/** A table as wide as the terminal. */
export function tableOf(shown: readonly Result[], columns: number): string[] {
  const rows = shown.map((result) => [
    `${result.title} (${result.year})`,
    ...["A", "B", "C"].map((task) => cellOf(result.outputs[task] ?? `failed: ${result.errors?.[task]}`)),
  ]);
  const widths = widthsOf(Math.min(columns, 160));
  const lineOf = (cells: readonly string[]) => cells.map((cell, index) => pad(cut(cell, widths[index]!), widths[index]!)).join("  ");
  return [
    `  ${paint("bold", lineOf(["Film", "A", "B", "C"]).trimEnd())}`,
    `  ${paint("dim", widths.map((width) => "─".repeat(width)).join("  "))}`,
    ...rows.map((cells) => `  ${lineOf(cells).trimEnd()}`),
  ];
}

/** Shares of what is left of the line after the gaps. */
function widthsOf(columns: number): number[] {
  const space = columns - 1 - 2 - 3 * 2;
  const shares = [0.22, 0.31, 0.31].map((share) => Math.floor(space * share));
  return [...shares, space - shares.reduce((sum, width) => sum + width, 0)];
}

function cellOf(output: unknown): string {
  if (typeof output !== "object" || output === null) return String(output);
  return Object.entries(output)
    .filter(([, value]) => typeof value !== "boolean")
    .map(([, value]) => String(value))
    .join(", ");
}
