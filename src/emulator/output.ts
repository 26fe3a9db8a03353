/**
 * Answered rows as lines of an output, with the faults of rows.
 *
 * @module
 */
import type { Result } from "./answering.ts";
import { withText } from "./answering.ts";
import type { EmulatorFaults, FaultBox } from "./faults.ts";
import type { Row } from "./rows.ts";
import { embeddingRow } from "./embeddings.ts";
import type { JsonObject } from "./wire.ts";

/** A row and what became of it. */
export interface AnsweredRow {
  row: Row;
  result: Result;
}

export interface OutputForm {
  /** File lines carry `key`; inline items carry `metadata` and must stay JSON. */
  kind: "file" | "inline";
  faults: FaultBox;
  /** Frozen when the job was created. */
  settings: EmulatorFaults;
}

/** What identifies the answer: `"key":"r1"` or `"metadata":{…}`; empty when there is nothing. */
function tagOf(row: Row, kind: "file" | "inline"): string {
  if (kind === "file") return row.key === "" ? "" : `"key":${JSON.stringify(row.key)}`;
  return row.metadata === undefined ? "" : `"metadata":${JSON.stringify(row.metadata)}`;
}

/** The response as a row of its method: embeddings carry their token count. */
function responseOf({ row, result }: AnsweredRow): JsonObject | undefined {
  const { response } = result;
  const values = (response?.embedding as { values: number[] } | undefined)?.values;
  return values === undefined ? response : embeddingRow(row.request ?? {}, values);
}

/** One line (without line feed) as it should be. */
export function plainLine(answered: AnsweredRow, kind: "file" | "inline"): string {
  const tag = tagOf(answered.row, kind);
  const { error } = answered.result;
  const body = error === undefined ? `"response":${JSON.stringify(responseOf(answered))}` : `"error":${JSON.stringify(error)}`;
  return tag === "" ? `{${body}}` : kind === "file" ? `{${tag},${body}}` : `{${body},${tag}}`;
}

const usualError = "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting";

/** The lines of a window of rows: usually one each. */
export function linesFor(rows: readonly AnsweredRow[], form: OutputForm): (string | Buffer)[] {
  const { kind, faults, settings } = form;
  if (Object.keys(settings).length === 0) return rows.map((answered) => plainLine(answered, kind));
  const strikes = (name: keyof EmulatorFaults, key: string) => faults.hit(name, key, settings);
  const lines: (string | Buffer)[] = [];
  const tagged = rows.map((answered) => ({ ...answered }));
  for (let i = 0; i + 1 < tagged.length; i += 1) {
    const here = tagged[i] as AnsweredRow;
    const next = tagged[i + 1] as AnsweredRow;
    if (strikes("swappedKeys", here.row.key)) {
      [here.result, next.result] = [next.result, here.result];
      i += 1;
    }
  }
  for (const answered of tagged) {
    const { key } = answered.row;
    if (kind === "file" && strikes("blankLines", key)) lines.push("");
    if (strikes("missingRows", key)) continue;
    if (kind === "file" && strikes("badLine", key)) {
      const line = plainLine(answered, kind);
      lines.push(line.slice(0, Math.floor(line.length * 0.6)));
      continue;
    }
    if (kind === "file" && strikes("nonUtf8Line", key)) {
      const line = Buffer.from(plainLine(answered, kind));
      const middle = Math.floor(line.length / 2);
      lines.push(Buffer.concat([line.subarray(0, middle), Buffer.from([0xff, 0xfe, 0xc3]), line.subarray(middle)]));
      continue;
    }
    const line = faultyLine(answered, kind, strikes);
    lines.push(line);
    if (strikes("duplicateRows", key)) lines.push(line);
    if (strikes("unknownRows", key)) {
      const unknown = `unknown-${key}`;
      lines.push(plainLine({ ...answered, row: { ...answered.row, key: unknown, metadata: { key: unknown } } }, kind));
    }
  }
  return lines;
}

function faultyLine(
  answered: AnsweredRow,
  kind: "file" | "inline",
  strikes: (name: keyof EmulatorFaults, key: string) => ReturnType<FaultBox["hit"]>,
): string {
  const { row, result } = answered;
  const shown = strikes("missingMetadata", row.key) ? { ...row, key: "", metadata: undefined } : row;
  const tag = tagOf(shown, kind);
  const inStatus = strikes("rowErrorInStatus", row.key);
  if (inStatus) {
    const status = JSON.stringify({ code: inStatus.code ?? 13, message: inStatus.message ?? usualError });
    return `{${tag === "" ? "" : `${tag},`}"status":${status}}`;
  }
  if (strikes("nullResponse", row.key)) return `{${tag === "" ? "" : `${tag},`}"response":null}`;
  if (result.response !== undefined && result.response.embedding === undefined && strikes("megabyteLine", row.key)) {
    return plainLine({ row: shown, result: { response: withText(result.response, (text) => text.padEnd(1_100_000, " and so on")) } }, kind);
  }
  return plainLine({ row: shown, result }, kind);
}

/** The error that the switch `rowError` gives this row instead of an answer, if it strikes. */
export function injectedError(key: string, faults: FaultBox, settings: EmulatorFaults): Result | undefined {
  const hit = faults.hit("rowError", key, settings);
  return hit && { error: { code: hit.code ?? 13, message: hit.message ?? usualError } };
}
