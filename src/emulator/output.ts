/**
 * Answered rows as lines of an output, with the faults of rows.
 *
 * @module
 */
import type { Result } from "./answering.ts";
import { withText } from "./answering.ts";
import type { EmulatorFaults, FaultBox, FaultRule } from "./faults.ts";
import type { Row } from "./rows.ts";
import { embeddingRow } from "./embeddings.ts";
import type { JsonObject } from "./wire.ts";

/** A row and what became of it. */
export interface AnsweredRow {
  row: Row;
  /** Of the row in its job, from 0. */
  index: number;
  result: Result;
}

/** What stands in place of a result when a fault of rows strikes. */
export type BentOutcome = { kind: "nullResponse" } | { kind: "status"; rule: FaultRule };

/** How one kind of job writes its rows. */
export interface LineForm {
  /** Lines of a file can be broken in ways that items of a JSON text cannot. */
  breakable: boolean;
  /** One line, without line feed. */
  line(answered: AnsweredRow, bent?: BentOutcome): string;
  /** The row as if it had been sent with another key; with `undefined`, without any. */
  withKey(row: Row, key: string | undefined): Row;
  /** The row after the faults that take away only a part of what identifies it. */
  stripped?(row: Row, strikes: Strikes): Row;
}

export type Strikes = (name: keyof EmulatorFaults, key: string) => ReturnType<FaultBox["hit"]>;

/** Lines of an output file: `{"key":…,"response":…}`; or items of an operation, which carry `metadata` in place of a key. */
export function geminiForm(kind: "file" | "inline"): LineForm {
  return {
    breakable: kind === "file",
    withKey: (row, key) => ({ ...row, key: key ?? "", metadata: key === undefined ? undefined : { key } }),
    line(answered, bent) {
      const tag = tagOf(answered.row, kind);
      if (bent) {
        const body = bent.kind === "nullResponse" ? '"response":null' : `"status":${JSON.stringify(errorOf(bent.rule))}`;
        return `{${tag === "" ? "" : `${tag},`}${body}}`;
      }
      const { error } = answered.result;
      const body = error === undefined ? `"response":${JSON.stringify(responseOf(answered))}` : `"error":${JSON.stringify(error)}`;
      return tag === "" ? `{${body}}` : kind === "file" ? `{${tag},${body}}` : `{${body},${tag}}`;
    },
  };
}

/** What identifies the answer: `"key":"r1"` or `"metadata":{…}`; empty when there is nothing. */
function tagOf(row: Row, kind: "file" | "inline"): string {
  if (kind === "file") return row.key === "" ? "" : `"key":${JSON.stringify(row.key)}`;
  return row.metadata === undefined ? "" : `"metadata":${JSON.stringify(row.metadata)}`;
}

/** The response as a row of its method: embeddings carry their token count. */
export function responseOf({ row, result }: AnsweredRow): JsonObject | undefined {
  const { response } = result;
  const values = (response?.embedding as { values: number[] } | undefined)?.values;
  return values === undefined ? response : embeddingRow(row.request ?? {}, values);
}

const usualError = "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting";

function errorOf(rule: FaultRule): { code: number; message: string } {
  return { code: rule.code ?? 13, message: rule.message ?? usualError };
}

/** The lines of each of a window of rows: usually one. */
export function linesFor(
  rows: readonly AnsweredRow[],
  form: LineForm,
  faults: FaultBox,
  /** Frozen when the job was created. */
  settings: EmulatorFaults,
): (string | Buffer)[][] {
  if (Object.keys(settings).length === 0) return rows.map((answered) => [form.line(answered)]);
  const strikes: Strikes = (name, key) => faults.hit(name, key, settings);
  const tagged = rows.map((answered) => ({ ...answered }));
  for (let i = 0; i + 1 < tagged.length; i += 1) {
    const here = tagged[i] as AnsweredRow;
    const next = tagged[i + 1] as AnsweredRow;
    if (strikes("swappedKeys", here.row.key)) {
      [here.result, next.result] = [next.result, here.result];
      i += 1;
    }
  }
  return tagged.map((answered) => linesOf(answered, form, strikes));
}

function linesOf(answered: AnsweredRow, form: LineForm, strikes: Strikes): (string | Buffer)[] {
  const { key } = answered.row;
  const lines: (string | Buffer)[] = [];
  if (form.breakable && strikes("blankLines", key)) lines.push("");
  if (strikes("missingRows", key)) return lines;
  if (form.breakable && strikes("badLine", key)) {
    const line = form.line(answered);
    return [...lines, line.slice(0, Math.floor(line.length * 0.6))];
  }
  if (form.breakable && strikes("nonUtf8Line", key)) {
    const line = Buffer.from(form.line(answered));
    const middle = Math.floor(line.length / 2);
    return [...lines, Buffer.concat([line.subarray(0, middle), Buffer.from([0xff, 0xfe, 0xc3]), line.subarray(middle)])];
  }
  const line = faultyLine(answered, form, strikes);
  lines.push(line);
  if (strikes("duplicateRows", key)) lines.push(line);
  if (strikes("unknownRows", key)) lines.push(form.line({ ...answered, row: form.withKey(answered.row, `unknown-${key}`) }));
  return lines;
}

function faultyLine(answered: AnsweredRow, form: LineForm, strikes: Strikes): string {
  const { result } = answered;
  const { key } = answered.row;
  const kept = form.stripped?.(answered.row, strikes) ?? answered.row;
  const row = strikes("missingMetadata", key) ? form.withKey(kept, undefined) : kept;
  const inStatus = strikes("rowErrorInStatus", key);
  if (inStatus) return form.line({ ...answered, row }, { kind: "status", rule: inStatus });
  if (strikes("nullResponse", key)) return form.line({ ...answered, row }, { kind: "nullResponse" });
  if (result.response !== undefined && result.response.embedding === undefined && strikes("megabyteLine", key)) {
    const response = withText(result.response, (text) => text.padEnd(1_100_000, " and so on"));
    return form.line({ ...answered, row, result: { response } });
  }
  return form.line({ ...answered, row });
}

/** The error that the switch `rowError` gives this row instead of an answer, if it strikes. */
export function injectedError(key: string, faults: FaultBox, settings: EmulatorFaults): Result | undefined {
  const hit = faults.hit("rowError", key, settings);
  return hit && { error: errorOf(hit) };
}
