/**
 * Answered rows as Vertex writes them: lines of `predictions.jsonl`, or rows of a table.
 *
 * @module
 */
import type { Cell, Field } from "./cells.ts";
import type { Family } from "./families.ts";
import type { FaultRule } from "./faults.ts";
import type { Job } from "./jobs.ts";
import type { AnsweredRow, BentOutcome, LineForm, Strikes } from "./output.ts";
import type { Row } from "./rows.ts";
import { echoOf, idOfShape, type Shape } from "./shape.ts";
import { isObject, type JsonObject } from "./wire.ts";

/** gRPC codes as the status texts of rows show them. */
const names: Record<number, readonly [http: number, name: string]> = {
  1: [499, "CANCELLED"],
  2: [500, "UNKNOWN"],
  3: [400, "INVALID_ARGUMENT"],
  4: [504, "DEADLINE_EXCEEDED"],
  5: [404, "NOT_FOUND"],
  6: [409, "ALREADY_EXISTS"],
  7: [403, "PERMISSION_DENIED"],
  8: [429, "RESOURCE_EXHAUSTED"],
  9: [400, "FAILED_PRECONDITION"],
  10: [409, "ABORTED"],
  11: [400, "OUT_OF_RANGE"],
  12: [501, "UNIMPLEMENTED"],
  13: [500, "INTERNAL"],
  14: [503, "UNAVAILABLE"],
  15: [500, "DATA_LOSS"],
  16: [401, "UNAUTHENTICATED"],
};

/** The two texts that were seen: one for requests that are refused, one for what goes wrong behind. */
export function statusText({ code, message }: { code: number; message: string }): string {
  const [http, status] = names[code] ?? [code, "UNKNOWN"];
  const error = `{"error": {"code": ${http}, "message": ${JSON.stringify(message)}, "status": "${status}"}}`;
  return code === 3 ? `Bad Request: ${error}` : `Internal error occurred. Failed to get generateContentResponse: ${error}`;
}

/** A status without an object in it. */
function bareStatus(rule: FaultRule): string {
  return rule.message ?? "Internal error occurred.";
}

interface Outcome {
  status: string;
  /** `undefined` for a row that failed. */
  response: JsonObject | null | undefined;
  processedAt: number;
}

function outcomeOf(answered: AnsweredRow, bent: BentOutcome | undefined, family: Family, job: Job): Outcome {
  const { plan } = job;
  const processedAt = Math.floor(plan.runsAt + ((plan.endsAt - plan.runsAt) * (answered.index + 1)) / (job.rows + 1));
  if (bent?.kind === "nullResponse") return { status: "", response: null, processedAt };
  if (bent) return { status: bareStatus(bent.rule), response: undefined, processedAt };
  const { error } = answered.result;
  if (error) return { status: statusText(error), response: undefined, processedAt };
  return { status: "", response: withExtras(family.response(answered, job.model.replace(/^.*\//, "")), processedAt), processedAt };
}

/** What Vertex adds to a response of Gemini. */
export function withExtras(response: JsonObject, at: number, trafficType = "ON_DEMAND"): JsonObject {
  if (!Array.isArray(response.candidates) && response.promptFeedback === undefined) return response;
  const candidates = Array.isArray(response.candidates) ? response.candidates.filter(isObject) : undefined;
  const usage = isObject(response.usageMetadata) ? response.usageMetadata : {};
  return {
    ...response,
    ...(candidates === undefined
      ? {}
      : { candidates: candidates.map((candidate) => ({ ...candidate, avgLogprobs: -0.25, score: -12.5 })) }),
    createTime: new Date(at).toISOString().replace("Z", "000Z"),
    usageMetadata: { ...usage, trafficType },
  };
}

const isIdField = (name: string) => name === "key" || name === "custom_id";

/** What is asked, with other labels; it may be JSON text. */
function withLabels(asked: unknown, change: (labels: JsonObject) => JsonObject | undefined): unknown {
  if (typeof asked === "string") return JSON.stringify(withLabels(JSON.parse(asked), change));
  return isObject(asked) && isObject(asked.labels) ? { ...asked, labels: change(asked.labels) } : asked;
}

function relabelled(row: Row, family: Family, change: (labels: JsonObject) => JsonObject | undefined): Row {
  const { columns = {} } = row;
  return { ...row, columns: { ...columns, [family.field]: withLabels(columns[family.field], change) } };
}

/** Fields that a fault took away stay without a value: absent in a line, null in a table. */
function rekeyed(row: Row, key: string | undefined): Row {
  const columns = Object.entries(row.columns ?? {}).map(([name, value]) => [name, isIdField(name) ? key : value]);
  return { ...row, columns: Object.fromEntries(columns) as JsonObject };
}

function idForm(family: Family): Pick<LineForm, "withKey" | "stripped"> {
  return {
    withKey: (row, key) =>
      relabelled(rekeyed(row, key), family, (labels) =>
        key === undefined ? undefined : Object.fromEntries(Object.keys(labels).map((name) => [name, key])),
      ),
    stripped(row: Row, strikes: Strikes) {
      const keyed = strikes("missingKey", row.key) ? rekeyed(row, undefined) : row;
      return strikes("missingLabels", row.key) ? relabelled(keyed, family, () => undefined) : keyed;
    },
  };
}

/** Lines of objects. `shape`: what the importer made of the input; `undefined` for families whose input it does not touch. */
export function storageLines(job: Job, family: Family, shape: Shape | undefined): LineForm {
  const echo = (columns: JsonObject): JsonObject => {
    if (shape === undefined) return Object.fromEntries(Object.entries(columns).filter(([name]) => isIdField(name)));
    // A line of text embeddings is the instance itself.
    if (family.field === "instance" && columns.instance === undefined) return { instance: echoOf(shape, columns) };
    const { [family.field]: asked, ...rest } = echoOf(shape, columns) as JsonObject;
    const ids = Object.entries(rest).map(([name, value]) => [name, idOfShape(shape.fields.get(name), value)]);
    return { [family.field]: withIds(asked, shape.fields.get(family.field)), ...Object.fromEntries(ids) };
  };
  return {
    breakable: true,
    ...idForm(family),
    line(answered, bent) {
      const { status, response, processedAt } = outcomeOf(answered, bent, family, job);
      const columns = echo(answered.row.columns ?? {});
      if (family.field === "instance") return JSON.stringify({ ...columns, predictions: response ? [response] : [], status });
      const time = new Date(processedAt).toISOString().replace("Z", "+00:00");
      return JSON.stringify({ status, processed_time: time, ...columns, response: response === undefined ? {} : response });
    },
  };
}

/** Labels are ids as well. */
function withIds(asked: unknown, shape: Shape | undefined): unknown {
  const labels = shape?.fields.get("labels");
  return withLabels(asked, (given) =>
    Object.fromEntries(Object.entries(given).map(([name, value]) => [name, idOfShape(labels?.fields.get(name), value)])),
  );
}

/** What every output table has besides the columns of its input. */
export const outputFields: readonly Field[] = [
  { name: "response", type: "JSON", mode: "NULLABLE" },
  { name: "status", type: "STRING", mode: "NULLABLE" },
  { name: "processed_time", type: "TIMESTAMP", mode: "NULLABLE" },
];

/** Rows of a table. `fields` are those of the input that come back. */
export function tableLines(job: Job, family: Family, fields: readonly Field[]): LineForm {
  return {
    breakable: false,
    ...idForm(family),
    line(answered, bent) {
      const { status, response, processedAt } = outcomeOf(answered, bent, family, job);
      const { columns = {} } = answered.row;
      const cells: Cell[] = fields.map(({ name }) => (columns[String(name)] ?? null) as Cell);
      return JSON.stringify([...cells, response ? JSON.stringify(response) : null, status, `${processedAt}000`]);
    },
  };
}
