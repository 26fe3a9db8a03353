/**
 * Answering the rows of a job, from its input to its output, a window at a time.
 *
 * @module
 */
import { open, rm, type FileHandle } from "node:fs/promises";
import { setImmediate as breathe } from "node:timers/promises";
import type { Answering, Result } from "./answering.ts";
import { chanceOf, shuffled } from "./chance.ts";
import type { FaultBox } from "./faults.ts";
import { needsRows, type Job, type JobOutput, type RowTally } from "./jobs.ts";
import { isBlank, splitLines } from "./lines.ts";
import { geminiForm, injectedError, linesFor, type AnsweredRow, type LineForm } from "./output.ts";
import { hashOf, parseInline, parseLine, type BatchMethod, type Row } from "./rows.ts";
import { isObject, WireError } from "./wire.ts";

/** Rows at a time: what is held in memory, shuffled, and done before the event loop gets its turn. */
const windowRows = 1_024;
const windowBytes = 16_000_000;
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
  form: Pick<JobForm, "rows">,
  model: string,
  options: { stopAtProblem: boolean; uniqueKeys: boolean },
): Promise<Inspection> {
  const result: Inspection = { rows: 0, inputTokens: 0, hashes: [], problem: undefined };
  const keys = options.uniqueKeys ? new Set<string>() : undefined;
  for await (const rows of form.rows()) {
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

/** How one kind of job reads its rows and writes its lines. */
export interface JobForm {
  /** A fresh pass over the rows, in order. */
  rows(): AsyncGenerator<{ row: Row; bytes: number }[]>;
  lines(job: Job): LineForm;
  /** The rows come back in another order, without any fault. */
  shuffles: boolean;
  /** A job that stops early keeps the rows that it has finished. */
  keepsFinished: boolean;
  /** What the service says to a row before any model is asked. */
  refusal(row: Row, index: number): Result | undefined;
  /** Lets go of the input. */
  close(): Promise<void>;
}

/** The form of jobs of the Developer API. */
export function geminiJobForm(source: RowSource, kind: "file" | "inline", method: BatchMethod): JobForm {
  return {
    rows: () => readRows(source, method),
    lines: () => geminiForm(kind),
    shuffles: false,
    keepsFinished: false,
    refusal: (row, index) =>
      row.request === undefined ? { error: { code: 3, message: `Row ${index + 1}: ${row.problem ?? "malformed"}.` } } : undefined,
    close: async () => ("handle" in source ? source.handle.close() : undefined),
  };
}

export interface WorkOptions {
  job: Job;
  form: JobForm;
  path: string;
  seed: string;
  answering: Answering;
  faults: FaultBox;
  now: () => number;
  /** A cancelled job or a closed emulator stops early, even if a script never answers. */
  signal: AbortSignal;
}

/** Answers the rows of a job that ends with results, and gives it its output. Never rejects. */
export async function workOn(options: WorkOptions): Promise<void> {
  const { job, form, path, signal } = options;
  try {
    if (!needsRows(job) && job.plan.revivesAfterMs === undefined) return;
    job.output = await answerRows(options);
    if (job.output === undefined || (job.deleted && job.vertex === undefined)) await rm(path, { force: true });
  } catch (error) {
    job.rowsKept = 0;
    if (signal.aborted) return;
    const message = `The emulator could not answer the rows: ${String(error)}`;
    job.plan = { ...job.plan, fate: "FAILED", error: { code: 13, message } };
  } finally {
    job.hashes = [];
    await form.close().catch(() => undefined);
  }
}

/** Answers all rows and writes the output to disk; `undefined` when it was stopped and keeps nothing. */
async function answerRows(options: WorkOptions): Promise<JobOutput | undefined> {
  const { job, form, path, faults, answering, signal } = options;
  const tallies: RowTally[] = [];
  const stopped = new Promise<undefined>((resolve) => signal.addEventListener("abort", () => resolve(undefined), { once: true }));
  const file = await open(path, "w");
  const shuffles = faults.hit("shuffledRows", job.displayName, job.settings) !== undefined || form.shuffles;
  const shuffle = shuffles ? chanceOf(`${options.seed} order ${job.ordinal}`) : undefined;
  const lineForm = form.lines(job);
  let bytes = 0;
  let index = 0;
  let window: AnsweredRow[] = [];
  let windowSize = 0;

  const flush = async (): Promise<void> => {
    const rows = shuffle ? shuffled(window, shuffle) : window;
    window = [];
    windowSize = 0;
    const lines = linesFor(rows, lineForm, faults, job.settings);
    for (const [i, { index: at, result }] of rows.entries()) tallies.push(tallyOf(result, job.hashes[at] ?? "", lines[i]?.length ?? 0));
    const flat = lines.flat();
    const block = flat.every((line) => typeof line === "string")
      ? Buffer.from(flat.length === 0 ? "" : `${flat.join("\n")}\n`)
      : Buffer.concat(flat.flatMap((line) => [Buffer.from(line as string), Buffer.from("\n")]));
    bytes += block.length;
    await file.appendFile(block);
  };

  const answer = (row: Row, at: number): Result | Promise<Result> => {
    const refusal = form.refusal(row, at);
    if (refusal !== undefined) return refusal;
    const injected = injectedError(row.key, faults, job.settings);
    if (injected) return injected;
    const info = {
      model: job.model,
      key: row.key,
      index: at,
      job: job.name,
      displayName: job.displayName,
      method: job.method,
      hash: job.hashes[at] ?? "",
    };
    return answering.answer(row.request ?? {}, info, job.settings);
  };

  try {
    for await (const rows of form.rows()) {
      if (signal.aborted) break;
      const first = index;
      index += rows.length;
      const results = rows.map(({ row }, i) => answer(row, first + i));
      const settled = await settle(results, stopped);
      for (const [i, result] of settled.entries())
        if (result) window.push({ row: (rows[i] as { row: Row }).row, index: first + i, result });
      windowSize += rows.reduce((sum, row) => sum + row.bytes, 0);
      if (window.length >= windowRows || windowSize >= windowBytes) await flush();
      // A job that was cancelled needs no more than what it had finished by then.
      if (signal.aborted || (form.keepsFinished && index >= job.rowsKept)) break;
      await breathe();
    }
    if (window.length > 0) await flush();
  } finally {
    await file.close();
  }
  if (signal.aborted && !form.keepsFinished) return undefined;
  const output = { path, bytes, doneAt: options.now(), ...sumsOf(tallies), ...(form.keepsFinished ? { tallies } : {}) };
  return form.keepsFinished ? cutOutput(output, job.rowsKept) : output;
}

/** The results of all, or of those that are there when `stopped` comes first. */
async function settle(
  results: readonly (Result | Promise<Result>)[],
  stopped: Promise<undefined>,
): Promise<readonly (Result | undefined)[]> {
  if (!results.some((result) => result instanceof Promise)) return results as readonly Result[];
  const settled: (Result | undefined)[] = Array.from({ length: results.length });
  const all = results.map(async (result, i) => {
    settled[i] = await result;
  });
  await Promise.race([Promise.all(all), stopped]);
  return settled;
}

function tallyOf(result: Result, hash: string, lines: number): RowTally {
  if (result.response === undefined) return { hash: undefined, promptTokens: 0, outputTokens: 0, lines };
  const usage = isObject(result.response.usageMetadata) ? result.response.usageMetadata : {};
  return {
    hash,
    promptTokens: Number(usage.promptTokenCount ?? 0),
    outputTokens: Number(usage.candidatesTokenCount ?? 0) + Number(usage.thoughtsTokenCount ?? 0),
    lines,
  };
}

function sumsOf(tallies: readonly RowTally[]): Omit<JobOutput, "path" | "bytes" | "doneAt" | "tallies"> {
  const sums = { succeeded: 0, failed: 0, promptTokens: 0, outputTokens: 0, lines: 0, billed: [] as string[] };
  for (const tally of tallies) {
    sums.lines += tally.lines;
    sums.promptTokens += tally.promptTokens;
    sums.outputTokens += tally.outputTokens;
    if (tally.hash === undefined) sums.failed += 1;
    else {
      sums.succeeded += 1;
      sums.billed.push(tally.hash);
    }
  }
  return sums;
}

/** The output of the rows that were finished first. Only `lines` of the file count from then on. */
export function cutOutput(output: JobOutput, rows: number): JobOutput {
  if (output.tallies === undefined || output.tallies.length <= rows) return output;
  const tallies = output.tallies.slice(0, rows);
  return { ...output, ...sumsOf(tallies), tallies };
}
