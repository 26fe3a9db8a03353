/**
 * Answering the rows of a job, from its input to its output, a window at a time.
 *
 * @module
 */
import { open, type FileHandle } from "node:fs/promises";
import { setImmediate as breathe } from "node:timers/promises";
import type { Answering, Result } from "./answering.ts";
import { chanceOf, shuffled } from "./chance.ts";
import type { FaultBox } from "./faults.ts";
import type { Job, JobOutput } from "./jobs.ts";
import { isBlank, splitLines } from "./lines.ts";
import { injectedError, linesFor, type AnsweredRow } from "./output.ts";
import { hashOf, parseInline, parseLine, type BatchMethod, type Row } from "./rows.ts";
import { isObject, WireError } from "./wire.ts";

/** Rows at a time: what is held in memory, shuffled, and done before the event loop gets its turn. */
const windowRows = 1_024;
const breatheEvery = { generateContent: 128, embedContent: 16 };

/** Where rows come from; may be read more than once. */
export type RowSource = { handle: FileHandle } | { inline: readonly unknown[] };

/** All rows in order, in groups that take some milliseconds to answer. Blank lines are skipped. */
export async function* readRows(source: RowSource, method: BatchMethod): AsyncGenerator<{ row: Row; bytes: number }[]> {
  const most = breatheEvery[method];
  let rows: { row: Row; bytes: number }[] = [];
  if ("inline" in source) {
    for (const item of source.inline) {
      rows.push({ row: parseInline(item, method), bytes: 0 });
      if (rows.length >= most) {
        yield rows;
        rows = [];
      }
    }
  } else {
    const stream = source.handle.createReadStream({ start: 0, autoClose: false, highWaterMark: 512 * 1_024 });
    for await (const lines of splitLines(stream)) {
      for (const line of lines) {
        if (isBlank(line)) continue;
        rows.push({ row: parseLine(line, method), bytes: line.length });
        if (rows.length >= most) {
          yield rows;
          rows = [];
        }
      }
    }
  }
  if (rows.length > 0) yield rows;
}

/** A first look at the input. */
export interface Inspection {
  rows: number;
  /** Estimated from the size of the lines. */
  inputTokens: number;
  /** Of each row, in order; `""` for a malformed one. */
  hashes: string[];
  /** The first malformed row. */
  problem: { row: number; key: string; text: string } | undefined;
}

/** Reads every row once: counts, hashes, and looks for malformed ones (and stops there if `stopAtProblem`). */
export async function inspect(
  source: RowSource,
  model: string,
  method: BatchMethod,
  options: { stopAtProblem: boolean; uniqueKeys: boolean },
): Promise<Inspection> {
  const result: Inspection = { rows: 0, inputTokens: 0, hashes: [], problem: undefined };
  const keys = options.uniqueKeys ? new Set<string>() : undefined;
  for await (const rows of readRows(source, method)) {
    for (const { row, bytes } of rows) {
      result.rows += 1;
      const problem = row.problem ?? (keys?.has(row.key) && row.key !== "" ? "its key occurs twice" : undefined);
      keys?.add(row.key);
      if (problem !== undefined) {
        result.problem ??= { row: result.rows, key: row.key, text: problem };
        if (options.stopAtProblem) return result;
      }
      result.hashes.push(row.request === undefined ? "" : hashOf(row.request, model));
      result.inputTokens += Math.ceil((bytes || JSON.stringify(row.request ?? "").length) / 4);
    }
    await breathe();
  }
  return result;
}

/** What a job with a malformed row is refused with. */
export function malformedError(problem: NonNullable<Inspection["problem"]>): WireError {
  const key = problem.key === "" ? "" : ` (key ${JSON.stringify(problem.key)})`;
  return new WireError("INVALID_ARGUMENT", `Request ${problem.row}${key} is malformed: ${problem.text}.`);
}

export interface WorkOptions {
  job: Job;
  source: RowSource;
  path: string;
  seed: string;
  answering: Answering;
  faults: FaultBox;
  now: () => number;
  /** A cancelled job or a closed emulator stops early, even if a script never answers. */
  signal: AbortSignal;
}

/** Answers all rows and writes the output to disk; `undefined` when it was stopped. */
export async function answerRows(options: WorkOptions): Promise<JobOutput | undefined> {
  const { job, source, path, faults, answering } = options;
  const output: JobOutput = { path, bytes: 0, succeeded: 0, failed: 0, promptTokens: 0, outputTokens: 0, billed: [], doneAt: 0 };
  const { signal } = options;
  const stopped = new Promise<undefined>((resolve) => signal.addEventListener("abort", () => resolve(undefined), { once: true }));
  const file = await open(path, "w");
  const shuffle = faults.hit("shuffledRows", job.displayName, job.settings) && chanceOf(`${options.seed} order ${job.ordinal}`);
  let index = 0;
  let window: AnsweredRow[] = [];

  const flush = async (): Promise<void> => {
    const lines = linesFor(shuffle ? shuffled(window, shuffle) : window, { kind: job.kind, faults, settings: job.settings });
    window = [];
    const bytes = lines.every((line) => typeof line === "string")
      ? Buffer.from(lines.length === 0 ? "" : `${lines.join("\n")}\n`)
      : Buffer.concat(lines.flatMap((line) => [Buffer.from(line as string), Buffer.from("\n")]));
    output.bytes += bytes.length;
    await file.appendFile(bytes);
  };

  const answer = (row: Row, hash: string): Result | Promise<Result> => {
    const at = index;
    index += 1;
    if (row.request === undefined) return { error: { code: 3, message: `Row ${at + 1}: ${row.problem ?? "malformed"}.` } };
    const injected = injectedError(row.key, faults, job.settings);
    if (injected) return injected;
    const info = {
      model: job.model,
      key: row.key,
      index: at,
      job: `batches/${job.id}`,
      displayName: job.displayName,
      method: job.method,
      hash,
    };
    return answering.answer(row.request, info, job.settings);
  };

  try {
    for await (const rows of readRows(source, job.method)) {
      if (signal.aborted) return undefined;
      const first = index;
      const results = rows.map(({ row }) => answer(row, job.hashes[index] ?? ""));
      const settled = results.some((result) => result instanceof Promise)
        ? await Promise.race([Promise.all(results.map(async (result) => result)), stopped])
        : (results as Result[]);
      if (settled === undefined) return undefined;
      for (const [i, result] of settled.entries()) {
        window.push({ row: (rows[i] as { row: Row }).row, result });
        count(output, result, job.hashes[first + i] ?? "");
      }
      if (window.length >= windowRows) await flush();
      await breathe();
    }
    if (window.length > 0) await flush();
  } finally {
    await file.close();
  }
  output.doneAt = options.now();
  return signal.aborted ? undefined : output;
}

function count(output: JobOutput, result: Result, hash: string): void {
  if (result.response === undefined) {
    output.failed += 1;
    return;
  }
  output.succeeded += 1;
  output.billed.push(hash);
  const usage = isObject(result.response.usageMetadata) ? result.response.usageMetadata : {};
  output.promptTokens += Number(usage.promptTokenCount ?? 0);
  output.outputTokens += Number(usage.candidatesTokenCount ?? 0) + Number(usage.thoughtsTokenCount ?? 0);
}
